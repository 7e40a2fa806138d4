"""Mixing: plan and apply, ours and the peers', against the time to move the bytes that must move.

    python -m benchmarks mixing                       # (256, 1, 40, 98), on the CPU and any accelerator present
    python -m benchmarks mixing --growth              # and how the time grows with rows and frames, with a picture
    python -m benchmarks mixing --threads 2 --rows 64

"new" is ours as a user calls it: `mixer(x)`, which draws a plan, applies it and returns a new batch; "out=" writes into
a tensor that is there, "in place" into the batch itself. "limit" is the time to read the batch twice and write it once
(once each for a box that all rows share) at the bandwidth of a copy of the batch. Ratios are medians over interleaved
rounds, quartiles in brackets. "cutmix official" cuts the boxes that the peers cut, 30 % of a row on average; by default
it is half, which makes the mean share that of lambda.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import randommix_audio as rma
from benchmarks import timing
from benchmarks.mixing_peers import CLASSES, PACKAGES, peers
from benchmarks.timing import Times, Work

METHODS = ("mixup", "cutmix", "cutmix official", "resizemix", "fmix", "randommix")
PER = ("batch", "row")
PARTS = ("plan", "apply", "new", "out=", "in place")
ROWS = (16, 64, 256, 1024, 4096)
FRAMES = (32, 100, 320, 1000, 3000, 6000)
Facts = dict[str, Any]


def mix(mixer: rma.Mixer, x: Tensor, target: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """The mixed batch and, with targets, the soft ones that peers make in the same call."""
    plan = mixer.plan(x)
    mixed = plan.apply(x, out=out)
    if target is not None:
        plan.mix_targets(target, CLASSES)
    return mixed


def build(method: str, per: str) -> rma.Mixer:
    """The mixer of one of `METHODS`."""
    name, _, variant = method.partition(" ")
    return rma.build(name, per=per, **({"variant": variant} if variant else {}))


def ours(mixer: rma.Mixer, x: Tensor, target: Tensor, out: Tensor) -> dict[str, Work]:
    """The parts of a mixing step."""
    plan, own = mixer.plan(x), x.clone()
    return {
        "plan": lambda: mixer.plan(x),
        "apply": lambda: plan.apply(x),
        "new": lambda: mixer(x),
        "out=": lambda: mix(mixer, x, out=out),
        "in place": lambda: mix(mixer, own, out=own),
        "new, targets": lambda: mix(mixer, x, target),
        "in place, targets": lambda: mix(mixer, own, target, out=own),
    }


def works(x: Tensor, target: Tensor) -> dict[str, Work]:
    """What is timed together, by name: ours as "ours/method/per/part", a peer's as "peer/method/per/part"."""
    out, copy = torch.empty_like(x), torch.empty_like(x)
    found: dict[str, Work] = {"copy": lambda: copy.copy_(x)}
    for method in METHODS:
        for per in PER:
            parts = ours(build(method, per), x, target, out)
            found |= {f"ours/{method}/{per}/{part}": work for part, work in parts.items()}
    for peer in peers(x, target):
        part = "in place" if peer.in_place else "new"
        found[f"{peer.name}/{peer.method}/{peer.per}/{part}"] = peer.alone
        if peer.with_targets is not None:
            found[f"{peer.name}/{peer.method}/{peer.per}/{part}, targets"] = peer.with_targets
    return found


def limit(method: str, per: str, x: Tensor, bandwidth: float) -> float:
    """Seconds that the bytes of the mix take at least: the batch twice in and once out, or once each for a box."""
    passes = 2 if method.startswith("cutmix") and per == "batch" else 3
    return passes * x.numel() * x.element_size() / bandwidth


def own_rows(times: dict[str, Times], x: Tensor, bandwidth: float) -> list[list[str]]:
    """One line of the first table for each method and granularity."""
    rows = []
    for method in METHODS:
        for per in PER:
            parts = [times[f"ours/{method}/{per}/{part}"] for part in PARTS]
            new, least = times[f"ours/{method}/{per}/new"], limit(method, per, x, bandwidth)
            beside = "" if per == "batch" else str(timing.ratio(new, times[f"ours/{method}/batch/new"]))
            cells = [f"{part.median * 1000:.3f}" for part in parts]
            rows.append([method, per, *cells, f"{least * 1000:.3f}", f"{new.median / least:.1f}", beside])
    return rows


def peer_rows(times: dict[str, Times]) -> list[list[str]]:
    """One line of the second table for each peer and what it is compared with."""
    rows = []
    for name, theirs in times.items():
        peer, method, per, part = name.split("/")
        if peer == "ours":
            continue
        for own_method in [name for name in METHODS if name.split()[0] == method]:
            for own_part in dict.fromkeys((part, part.replace("in place", "new"))):
                own = times[f"ours/{own_method}/{per}/{own_part}"]
                milliseconds = [f"{value.median * 1000:.3f}" for value in (own, theirs)]
                rows.append([own_method, per, own_part, peer, part, *milliseconds, str(timing.ratio(own, theirs))])
    return sorted(rows, key=lambda row: (METHODS.index(row[0]), row[1], "targets" in row[2], row[3], row[2]))


def compare(device: torch.device, arguments: argparse.Namespace) -> tuple[str, Facts]:
    """Both tables for one device, as Markdown and as facts."""
    x = torch.randn(arguments.rows, 1, arguments.bins, arguments.frames, device=device)
    target = torch.randint(0, CLASSES, (len(x),), device=device)
    times = timing.time_together(works(x, target), device, arguments.rounds, quantile=arguments.quantile)
    bandwidth = 2 * x.numel() * x.element_size() / times.pop("copy").median
    shape = tuple(x.shape)
    own = timing.markdown_table(
        ["method", "per", *PARTS, "limit", "new / limit", "row / batch"], own_rows(times, x, bandwidth)
    )
    beside = timing.markdown_table(
        ["method", "per", "ours makes", "peer", "which makes", "ours", "peer's", "ours / peer's"], peer_rows(times)
    )
    text = (
        f"## Mixing {shape} float32 on {device}\nMilliseconds, {timing.kept(arguments.quantile)}; "
        f"copying the batch moves {bandwidth / 1e9:.0f} GB/s.\n\n"
        f"{own}\n{beside}"
    )
    facts = {"shape": shape, "bandwidth": bandwidth, "seconds": {name: value.seconds for name, value in times.items()}}
    return text, facts


def growth(device: torch.device, arguments: argparse.Namespace) -> tuple[str, Facts]:
    """How the time of a mix into a tensor that is there grows with rows and with frames, as Markdown and as facts.

    A new tensor of more than 32 MB is mapped by the operating system at every call, which takes longer than the mix.
    """
    facts: Facts = {}
    text = f"## Growth on {device}\n"
    for axis, sizes in (("rows", ROWS), ("frames", FRAMES)):
        found: dict[str, list[float]] = {}
        for size in sizes:
            shape = (size, 1, 40, 98) if axis == "rows" else (64, 1, 40, size)
            x = torch.randn(shape, device=device)
            out = torch.empty_like(x)
            calls: dict[str, Work] = {"copy": lambda out=out, x=x: out.copy_(x)}  # type: ignore[misc]
            calls |= {f"{m} per {per}": _mixing(build(m, per), x, out) for m in METHODS for per in PER}
            rounds = max(3, arguments.rounds // 3)
            for name, times in timing.time_together(calls, device, rounds, quantile=arguments.quantile).items():
                found.setdefault(name, []).append(times.median)
        facts[axis] = {"sizes": sizes, "seconds": found}
        lines = [
            [name, *(f"{value * 1000:.3f}" for value in seconds), f"{exponent(sizes, seconds):.2f}"]
            for name, seconds in found.items()
        ]
        at = "(rows, 1, 40, 98)" if axis == "rows" else "(64, 1, 40, frames)"
        headers = ["method", *(f"{size} {axis}" for size in sizes), "exponent"]
        text += f"Milliseconds of plan and apply(x, out=) at {at}; exponent 1 is linear.\n\n"
        text += timing.markdown_table(headers, lines) + "\n"
    return text, facts


def _mixing(mixer: rma.Mixer, x: Tensor, out: Tensor) -> Work:
    return lambda: mix(mixer, x, out=out)


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log time over log size for the larger half of the sizes, by least squares: 1 where time is linear."""
    pairs = [(math.log(size), math.log(value)) for size, value in zip(sizes, seconds, strict=True)][len(sizes) // 2 :]
    mean_x, mean_y = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in pairs)
    return covariance / sum((a - mean_x) ** 2 for a, _ in pairs)


def draw(facts: Facts, path: Path) -> None:
    """The picture of the growth: time over rows and over frames, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for ax, (axis, values) in zip(axes, facts.items(), strict=True):
        for name, seconds in values["seconds"].items():
            method, _, per = name.partition(" per ")
            style = "-o" if per == "batch" else "--s" if per else "-"
            colour = f"C{METHODS.index(method)}" if per else "black"
            ax.loglog(values["sizes"], [1000 * value for value in seconds], style, color=colour, ms=3, lw=1, label=name)
        largest = max(seconds[-1] for seconds in values["seconds"].values()) * 1000
        line = [largest * size / values["sizes"][-1] for size in values["sizes"]]
        ax.loglog(values["sizes"], line, ":", color="0.5", label="linear")
        ax.set_xlabel("rows of (., 1, 40, 98)" if axis == "rows" else "frames of (64, 1, 40, .)")
        ax.set_ylabel("milliseconds, plan and apply")
        ax.grid(True, which="major", color="0.9")
    axes[0].legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.common_arguments(parser)
    parser.add_argument("--rows", type=int, default=256, help="rows of the batch; an even number, as timm asks for")
    parser.add_argument("--bins", type=int, default=40, help="frequency bins")
    parser.add_argument("--frames", type=int, default=98, help="frames")
    parser.add_argument("--growth", action="store_true", help="also measure more rows and more frames")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    timing.keep_heap()
    facts: Facts = {"environment": timing.environment(PACKAGES)}
    text = "# Speed of mixing\n" + timing.described(facts["environment"]) + "\n"
    for device in timing.devices(arguments.device):
        tables, facts[str(device)] = compare(device, arguments)
        text += tables + "\n"
        if arguments.growth:
            tables, facts[f"{device} growth"] = growth(device, arguments)
            text += tables
            arguments.out.mkdir(parents=True, exist_ok=True)
            draw(facts[f"{device} growth"], arguments.out / f"mixing_growth_{device.type}.png")
    timing.write(arguments.out, "mixing", text, facts)


if __name__ == "__main__":
    main()
