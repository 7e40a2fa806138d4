"""How the time of a mix grows with rows and with frames, and that of log-mel with the length of the clips.

    python -m benchmarks growth                 # three tables
    python -m benchmarks growth --picture       # and them as one picture

A mix is plan and apply into a tensor that is there; a new one of more than 32 MB is mapped by the operating system at
every call, which takes longer than the mix. RandomMix per batch is the mean of eight batches, the same at every size.
The slope is that of the logarithm of time over the logarithm of size, by least squares over the larger half of the
sizes: 1 is linear.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import log
from pathlib import Path
from statistics import linear_regression
from typing import Any, NamedTuple

import torch
from torch import Tensor

import randommix_audio as rma
from benchmarks import timing
from benchmarks.logmel_speed import Case, stft_alone
from benchmarks.mixing_speed import PER, build, mix
from benchmarks.timing import Work

METHODS = ("mixup", "cutmix", "resizemix", "fmix", "randommix")
CLIPS, ROWS_OF_FRAMES = 16, 16
DRAWS = {"randommix per batch": 8}
"""Mixes in a call, the same methods at every size, where another method is drawn for each batch."""
Facts = dict[str, Any]


class Axis(NamedTuple):
    """What grows.

    Attributes:
        unit: What it is counted in.
        shape: The batch, for the reader.
        sizes: The sizes that are measured unless others are asked for.
        works: Gives what is timed at a size, by name.
    """

    unit: str
    shape: str
    sizes: tuple[int, ...]
    works: Callable[[int, torch.device], dict[str, Work]]


def mixing(x: Tensor) -> dict[str, Work]:
    """All methods on a batch, and a copy of it."""
    out = torch.empty_like(x)
    works: dict[str, Work] = {"copy": partial(out.copy_, x)}
    for method in METHODS:
        for per in PER:
            name = f"{method} per {per}"
            works[name] = partial(_mix, build(method, per), x, out, DRAWS.get(name))
    return works


def _mix(mixer: rma.Mixer, x: Tensor, out: Tensor, draws: int | None) -> None:
    if draws is None:
        mix(mixer, x, out=out)
        return
    for step in range(draws):
        mixer.plan(x, generator=rma.step_generator(0, step)).apply(x, out=out)


def log_mel(seconds: int, device: torch.device) -> dict[str, Work]:
    """The front end on clips, as float and as the integers of a file, and the Fourier transforms alone."""
    case = Case(CLIPS, seconds)
    integers, logmel = case.wave().to(device), case.front_end().to(device)
    wave = integers.float() / 32768
    works = {"LogMel": partial(logmel, wave), "LogMel of int16": partial(logmel, integers)}
    return works | {"torch.stft alone": stft_alone(case, wave)}


AXES = {
    "rows": Axis(
        "rows",
        "(rows, 1, 40, 98)",
        (16, 64, 256, 1024, 4096),
        lambda rows, device: mixing(torch.randn(rows, 1, 40, 98, device=device)),
    ),
    "frames": Axis(
        "frames",
        f"({ROWS_OF_FRAMES}, 1, 80, frames)",
        (32, 100, 320, 1000, 3000, 6000),
        lambda frames, device: mixing(torch.randn(ROWS_OF_FRAMES, 1, 80, frames, device=device)),
    ),
    "seconds": Axis("seconds", f"{CLIPS} clips at 16 kHz", (1, 2, 4, 8, 15, 30, 60), log_mel),
}


@torch.no_grad()
def measure(axis: Axis, sizes: Sequence[int], device: torch.device, rounds: int, quantile: float) -> Facts:
    """Seconds of everything on an axis at each size, and the slopes."""
    found: dict[str, list[float]] = {}
    for size in sizes:
        for name, times in timing.time_together(axis.works(size, device), device, rounds, quantile=quantile).items():
            found.setdefault(name, []).append(times.median / DRAWS.get(name, 1))
    slopes = {name: slope(sizes, seconds) for name, seconds in found.items()}
    return {"unit": axis.unit, "shape": axis.shape, "sizes": list(sizes), "seconds": found, "slopes": slopes}


def upper(count: int) -> int:
    """Where the larger half of so many sizes begins, two of them at least."""
    return min(count // 2, count - 2)


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Slope of log time over log size for the larger half of the sizes, by least squares: 1 where time is linear."""
    begin = upper(len(sizes))
    return linear_regression(list(map(log, sizes[begin:])), list(map(log, seconds[begin:]))).slope


def table(figures: Mapping[str, Any]) -> str:
    """One line for each thing that was timed."""
    sizes = figures["sizes"]
    heads = [
        f"{figures['unit']}: {figures['shape']}",
        *(f"{size:,}" for size in sizes),
        f"slope from {sizes[upper(len(sizes))]} on",
    ]
    lines = [
        [name, *(f"{1000 * value:.3g}" for value in seconds), f"{figures['slopes'][name]:.2f}"]
        for name, seconds in figures["seconds"].items()
    ]
    return timing.markdown_table(heads, lines)


def draw(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Time over size on logarithmic axes, a panel for each axis; the dotted line is exactly linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(found), 5.4), layout="constrained")
    for ax, figures in zip(figure.subplots(1, len(found), squeeze=False)[0], found.values(), strict=True):
        sizes = figures["sizes"]
        for number, (name, seconds) in enumerate(figures["seconds"].items()):
            method, _, per = name.partition(" per ")
            colour = "black" if name == "copy" else f"C{METHODS.index(method) if per else number}"
            style = {"batch": "-o", "row": "--s"}.get(per, "-^")
            ax.loglog(sizes, [1000 * value for value in seconds], style, color=colour, ms=4, lw=1.2, label=name)
        most = 1500 * max(seconds[-1] for seconds in figures["seconds"].values())
        ax.loglog(sizes, [most * size / sizes[-1] for size in sizes], ":", color="0.4", label="linear")
        ax.set(xlabel=f"{figures['unit']}: {figures['shape']}", ylabel="milliseconds")
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
        ax.minorticks_off()
        ax.grid(color="0.9")
        ax.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"Written: {path}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write tables, a JSON file and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.common_arguments(parser)
    for name, axis in AXES.items():
        parser.add_argument(
            f"--{name}", nargs="*", type=int, default=axis.sizes, help="two sizes at least; none leaves it out"
        )
    parser.add_argument("--picture", action="store_true", help="draw it")
    arguments = parser.parse_args(argv)
    for name in AXES:
        if len(set(getattr(arguments, name))) == 1:
            parser.error(f"--{name}: one size has no slope, give two")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    timing.keep_heap()
    facts: Facts = {"environment": timing.environment()}
    sections = ["# How time grows\n", timing.described(facts["environment"])]
    sections.append(
        f"Milliseconds, {timing.kept(arguments.quantile)}. A slope of 1 is linear; where that of the copy is above 1, "
        "batches outgrow the processor's cache.\n"
    )
    for device in timing.devices(arguments.device):
        sizes = {name: sorted(set(getattr(arguments, name))) for name in AXES}
        found = {
            name: measure(AXES[name], asked, device, arguments.rounds, arguments.quantile)
            for name, asked in sizes.items()
            if asked
        }
        sections += [f"## {device}\n", *(table(figures) for figures in found.values())]
        facts[str(device)] = found
        if arguments.picture and found:
            draw(found, arguments.out / f"growth_{device.type}.png")
    timing.write(arguments.out, "growth", "\n".join(sections), facts)


if __name__ == "__main__":
    main()
