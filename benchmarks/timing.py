"""Timing things side by side: interleaved rounds, medians, ratios with their spread, and the limit of the machine.

A benchmark gives named functions to `time_together`, compares their `Times` with `ratio`, and hands what it found to
`write`, which makes a Markdown table and a JSON file of it.
"""

import argparse
import ctypes
import importlib.metadata
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

Work = Callable[[], object]
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of malloc.h


@dataclass(frozen=True)
class Times:
    """Seconds of one call, one median for each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile over the rounds."""
        return _quartiles(self.seconds)


class Ratio(NamedTuple):
    """How much longer one thing takes than another: the median over rounds, and the quartiles as its spread."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def time_together(
    works: Mapping[str, Work],
    device: torch.device,
    rounds: int = 15,
    seconds: float = 0.03,
    most: int = 200,
    quantile: float = 0.5,
) -> dict[str, Times]:
    """Time functions in turn, round after round, so that what else the machine does falls on all of them alike.

    A visit calls a function twice unmeasured, which leaves caches, heap and clocks as that function has them, then as
    often as fits into `seconds` (three times at least; slow functions once and once), and keeps the median. Rounds go
    through the functions forwards and backwards in turn. On CUDA events measure the device's own time, waiting for the
    host included.

    Args:
        works: What to call, by name.
        device: Where the work runs; it is waited for.
        rounds: The number of visits to each function.
        seconds: Aimed duration of a visit.
        most: The most calls of a visit.
        quantile: What is kept of the calls of a visit in place of the median. On a machine that others use as well,
            the lower tenth is close to what undisturbed calls take, and the median is not.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    calls = {name: _calls_that_fit(work, device, seconds, most) for name, work in works.items()}
    for number in range(rounds):
        for name in list(works)[:: -1 if number % 2 else 1]:
            taken = sorted(_visit(works[name], device, calls[name]))
            found[name].append(statistics.median(taken) if quantile == 0.5 else taken[int(quantile * len(taken))])
    return {name: Times(tuple(values)) for name, values in found.items()}


def _calls_that_fit(work: Work, device: torch.device, seconds: float, most: int) -> int:
    first = min(_visit(work, device, 1))
    if first > 10 * seconds:
        return 1
    return max(3, min(most, int(seconds / max(min(_visit(work, device, 3)), 1e-9))))


def _visit(work: Work, device: torch.device, calls: int) -> list[float]:
    """Seconds of each call."""
    for _ in range(min(calls, 2)):
        work()
    return _on_cuda(work, calls) if device.type == "cuda" else _on_host(work, device, calls)


def _on_host(work: Work, device: torch.device, calls: int) -> list[float]:
    taken = []
    synchronize(device)
    for _ in range(calls):
        start = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return taken


def _on_cuda(work: Work, calls: int) -> list[float]:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(calls + 1)]
    torch.cuda.synchronize()
    events[0].record()  # type: ignore[no-untyped-call]
    for event in events[1:]:
        work()
        event.record()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1000 for before, after in itertools.pairwise(events)]


def synchronize(device: torch.device) -> None:
    """Wait for all that was asked of a device; nothing to do on the CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def keep_heap() -> None:
    """Let the C library keep freed memory for the next call, where it can be told to.

    The GNU library gives large blocks back to the operating system when they are freed, or not, by what lies between
    them: the same call on a batch of 4 MB then takes 0.1 or 0.3 ms, most of it page faults. Allocators that are
    recommended for training on a CPU, such as jemalloc, keep them always.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def ratio(times: Times, reference: Times) -> Ratio:
    """How many times longer than the reference, of round by round."""
    pairs = zip(times.seconds, reference.seconds, strict=True)
    values = [mine / theirs for mine, theirs in pairs]
    return Ratio(statistics.median(values), *_quartiles(values))


def copy_bandwidth(device: torch.device, size: int, rounds: int = 9, quantile: float = 0.5) -> float:
    """Bytes moved each second by copying `size` bytes from one tensor to another, reading and writing both counted.

    Measured at the size of the work that it is a limit for: a batch that fits the processor's cache moves faster.
    """
    source = torch.ones(max(1, size // 4), device=device)
    target = torch.empty_like(source)
    copied = time_together({"copy": lambda: target.copy_(source)}, device, rounds, quantile=quantile)["copy"]
    return 2 * size / copied.median


def devices(wanted: Sequence[str] | None = None) -> list[torch.device]:
    """The devices named, else the CPU and the accelerator that is present."""
    if wanted:
        return [torch.device(name) for name in wanted]
    found = [torch.device("cpu")]
    if torch.accelerator.is_available() and (accelerator := torch.accelerator.current_accelerator()):
        found.append(accelerator)
    return found


def version(package: str) -> str | None:
    """The version of a peer; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment(peers: Sequence[str] = ()) -> dict[str, Any]:
    """What the figures depend on: machine, versions, threads, commit."""
    top = Path(__file__).resolve().parents[1]
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=top, capture_output=True, text=True, check=False
    )
    return {
        "processor": _processor(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": described.stdout.strip() or None,
        "peers": {peer: version(peer) for peer in peers},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers are written as they come, so format them first."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def described(facts: Mapping[str, Any]) -> str:
    """One Markdown paragraph about the environment; peers that are not installed are named as missing."""
    peers: Mapping[str, str | None] = facts["peers"]
    present = ", ".join(f"{name} {number}" for name, number in peers.items() if number)
    missing = ", ".join(name for name, number in peers.items() if not number)
    machine = facts["processor"] + (f", {facts['accelerator']}" if facts["accelerator"] else "")
    return (
        f"{machine}; {facts['threads']} threads; Python {facts['python']}, PyTorch {facts['torch']}; "
        f"commit {facts['commit'] or 'unknown'}."
        + (f" Peers: {present}." if present else "")
        + (f" Not installed, so not compared: {missing}." if missing else "")
        + "\n"
    )


def kept(quantile: float) -> str:
    """What the figures are of the calls of a round."""
    middle = "median" if quantile == 0.5 else f"{quantile:g} quantile"
    return f"{middle} of the calls of a round, median over the rounds"


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark takes: --device, --rounds, --threads and --out."""
    parser.add_argument("--device", action="append", help="cpu, cuda, ...; may be repeated (default: all present)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds")
    parser.add_argument("--quantile", type=float, default=0.5, help="of the calls of a round; 0.5 is their median")
    parser.add_argument("--threads", type=int, help="threads of PyTorch on the CPU (default: PyTorch's own choice)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of table, JSON and picture")


def write(folder: Path, name: str, markdown: str, facts: Mapping[str, Any]) -> None:
    """Write `name`.md and `name`.json into a folder, and print the former."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown, encoding="utf-8")
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(markdown)
    print(f"Written: {folder / name}.md, {name}.json")


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third
