"""Mixing: plan and apply, ours and the peers', against the time to move the bytes that must move.

    python -m benchmarks mixing                       # (256, 1, 40, 98), on the CPU and any accelerator present
    python -m benchmarks mixing --threads 2 --rows 64

"new" is ours as a user calls it: `mixer(x)`, which draws a plan, applies it and returns a new batch; "out=" writes into
a tensor that is there, "in place" into the batch itself. "limit" is the time to read the batch twice and write it once
(once each for a box that all rows share) at the bandwidth of a copy of the batch. A method and the peers that have it
run in turn; ratios are medians over these rounds, quartiles in brackets. "cutmix official" cuts the boxes that the
peers cut, 30 % of a row on average; by default it is half, which makes the mean share that of lambda.
"""

import argparse
from functools import partial
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


def works(x: Tensor, target: Tensor, method: str, per: str) -> dict[str, Work]:
    """What is timed together, by name: ours as "ours/method/per/part", a peer's as "peer/method/per/part"."""
    parts = ours(build(method, per), x, target, torch.empty_like(x))
    found = {f"ours/{method}/{per}/{part}": work for part, work in parts.items()}
    for peer in peers(x.clone(), target):
        if (peer.method, peer.per) == (method.split()[0], per):
            part = "in place" if peer.in_place else "new"
            found[f"{peer.name}/{method}/{per}/{part}"] = peer.alone
            if peer.with_targets is not None:
                found[f"{peer.name}/{method}/{per}/{part}, targets"] = peer.with_targets
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
            alike = {of: times[f"beside/{method}/{of}/new"] for of in PER}  # these two ran in turn
            beside = ""
            if per == "row":
                row, batch = (1000 * alike[of].median for of in ("row", "batch"))
                beside = f"{row:.3f} / {batch:.3f} = {timing.ratio(alike['row'], alike['batch'])}"
            cells = [f"{part.median * 1000:.3f}" for part in parts]
            rows.append([method, per, *cells, f"{least * 1000:.3f}", f"{new.median / least:.1f}", beside])
    return rows


def peer_rows(times: dict[str, Times]) -> list[list[str]]:
    """One line of the second table for each peer and what it is compared with."""
    rows = []
    for name, theirs in times.items():
        peer, method, per, part = name.split("/")
        if peer in ("ours", "beside"):
            continue
        for own_part in dict.fromkeys((part, part.replace("in place", "new"))):
            own = times[f"ours/{method}/{per}/{own_part}"]
            milliseconds = [f"{value.median * 1000:.3f}" for value in (own, theirs)]
            rows.append([method, per, own_part, peer, part, *milliseconds, str(timing.ratio(own, theirs))])
    return sorted(rows, key=lambda row: (METHODS.index(row[0]), row[1], "targets" in row[2], row[3], row[2]))


def compare(device: torch.device, arguments: argparse.Namespace) -> tuple[str, Facts]:
    """Both tables for one device, as Markdown and as facts."""
    x = torch.randn(arguments.rows, 1, arguments.bins, arguments.frames, device=device)
    target = torch.randint(0, CLASSES, (len(x),), device=device)
    times: dict[str, Times] = {}
    for method in METHODS:
        for per in PER:
            group = works(x, target, method, per)
            times |= timing.time_together(group, device, arguments.rounds, quantile=arguments.quantile)
        both: dict[str, Work] = {f"beside/{method}/{per}/new": partial(build(method, per), x) for per in PER}
        times |= timing.time_together(both, device, arguments.rounds, quantile=arguments.quantile)
    bandwidth = timing.copy_bandwidth(device, x.numel() * x.element_size(), quantile=arguments.quantile)
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


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.common_arguments(parser)
    parser.add_argument("--rows", type=int, default=256, help="rows of the batch; an even number, as timm asks for")
    parser.add_argument("--bins", type=int, default=40, help="frequency bins")
    parser.add_argument("--frames", type=int, default=98, help="frames")
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
    timing.write(arguments.out, "mixing", text, facts)


if __name__ == "__main__":
    main()
