"""Clips a second from where they lie to a mixed batch of log-mel: the bank beside files decoded in workers.

An epoch is read whole: batch as int16, copied to the device, log-mel, RandomMix per row. The bank lies on the device
("resident") or is memory-mapped; the stream decodes 16 bit files in worker processes, whose start is part of the epoch
and is shown by the time to the first batch. The ways take turns, round after round.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import randommix_audio as rma
from benchmarks import synthetic, timing
from benchmarks.timing import Times, ratio
from randommix_audio.data import BankLoader, Prefetch, Recording, StreamLoader

KINDS = ("wav", "flac")
RESIDENT = "bank, resident"
Epoch = Callable[[int], Iterator[Tensor]]


def features(logmel: rma.LogMel, mixer: rma.Mixer, batch: Any) -> Tensor:
    """Mixed log-mel features (B, F, T)."""
    x, frames = logmel(batch.wave, batch.lengths)
    mixed, _ = mixer(x, lengths=frames)
    return mixed


def ways(folder: Path, arguments: argparse.Namespace, device: torch.device) -> dict[str, Epoch]:
    """Each way to read an epoch, by name."""
    transform = partial(features, rma.LogMel().to(device), rma.RandomMix(per="row"))
    paths = {kind: synthetic.write_clips(folder / kind, arguments.clips, arguments.seconds, kind) for kind in KINDS}
    rows = synthetic.entries(synthetic.bank(folder / "bank", paths["wav"], arguments.seconds))
    resident = BankLoader(rows, arguments.batch, device=device, resident=True)
    mapped = BankLoader(rows, arguments.batch, resident=False)
    found: dict[str, Epoch] = {
        RESIDENT: lambda epoch: map(transform, resident.epoch(epoch)),
        "bank, memory-mapped": lambda epoch: iter(Prefetch(mapped.epoch(epoch), device, transform)),
    }
    for kind, workers in [(kind, workers) for kind in KINDS for workers in arguments.workers]:
        stream = StreamLoader(
            [Recording(path, target=0) for path in paths[kind]],
            arguments.batch,
            workers=workers,
            pin_memory=device.type == "cuda",
        )
        processes = "1 worker" if workers == 1 else f"{workers} workers"
        found[f"{kind.upper()} files, {processes}"] = partial(_streamed, stream, device, transform)
    return found


def _streamed(stream: StreamLoader, device: torch.device, transform: Callable[[Any], Tensor], epoch: int) -> Any:
    return iter(Prefetch(stream.epoch(epoch), device, transform))


def drain(epoch: Iterator[Tensor], device: torch.device) -> tuple[float, float]:
    """Seconds to the first batch and to the last, the device waited for."""
    begun = time.perf_counter()
    next(epoch)
    timing.synchronize(device)
    first = time.perf_counter() - begun
    for _ in epoch:
        pass
    timing.synchronize(device)
    return first, time.perf_counter() - begun


def measure(found: dict[str, Epoch], rounds: int, device: torch.device) -> dict[str, tuple[Times, Times]]:
    """Times to the first batch and of the epoch, by name."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    for epoch in found.values():  # unmeasured: fills caches, and puts what is resident onto the device
        drain(epoch(0), device)
    for number in range(rounds):
        for name in list(found)[:: -1 if number % 2 else 1]:
            seconds[name].append(drain(found[name](number + 1), device))
    return {
        name: (Times(first), Times(all)) for name, both in seconds.items() for first, all in [zip(*both, strict=True)]
    }


def table(times: dict[str, tuple[Times, Times]], clips: int) -> str:
    """One line for each way."""
    lines = []
    for name, (first, whole) in times.items():
        low, high = whole.quartiles
        speed = f"{clips / whole.median:.0f} ({clips / high:.0f} to {clips / low:.0f})"
        beside = ratio(whole, times[RESIDENT][1])
        lines.append([name, speed, beside, f"{1000 * first.median:.0f}"])
    return timing.markdown_table(["way", "clips/s", "time / resident", "ms to the first batch"], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write a table and a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    timing.common_arguments(parser)
    parser.set_defaults(rounds=7)
    parser.add_argument("--clips", type=int, default=4096, help="clips of an epoch")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a clip")
    parser.add_argument("--batch", type=int, default=128, help="clips of a batch")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes that decode")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    environment = timing.environment()
    facts: dict[str, Any] = {"environment": environment, "options": {k: str(v) for k, v in vars(arguments).items()}}
    sections = ["# Feeding\n", timing.described(environment)]
    sections.append(
        f"{arguments.clips} made-up clips of {arguments.seconds:g} s at 16 kHz in batches of {arguments.batch}, files "
        f"in the system's cache; median of {arguments.rounds} epochs, quartiles in brackets.\n"
    )
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for device in timing.devices(arguments.device):
            times = measure(ways(Path(folder), arguments, device), arguments.rounds, device)
            sections += [f"## {device}\n", table(times, arguments.clips)]
            facts[str(device)] = {n: {"first": f.seconds, "epoch": e.seconds} for n, (f, e) in times.items()}
    timing.write(arguments.out, "feeding", "\n".join(sections), facts)


if __name__ == "__main__":
    main()
