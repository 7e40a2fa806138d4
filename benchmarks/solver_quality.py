"""How near Puzzle Mix's solvers come to the optimum, and how long they take: `python -m benchmarks.solver_quality`."""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from scipy.sparse.csgraph import breadth_first_order, maximum_flow  # type: ignore[import-untyped]
from torch import Tensor

from randommix_audio.solvers.block_labels import BlockEnergy, block_energy, block_labels, normalised
from randommix_audio.solvers.transport import transport

SHAPES = ((2, 2), (4, 4), (8, 8), (16, 16), (8, 2), (4, 16), (12, 20))
EPS = 0.8


class Problems(NamedTuple):
    """What `block_labels` takes, for n random problems."""

    own: Tensor
    partner: Tensor
    own_mean: Tensor
    partner_mean: Tensor
    lam: Tensor


def random_problems(count: int, freq: int, time: int, channels: int = 1, seed: int = 0) -> Problems:
    """Problems on smoothed noise in [0, 1], lam ~ U(0, 1).

    Noise four times as fine as the grid is averaged over 5 x 5 and pooled to blocks. Saliency is that to a power
    between 1 and 5, one for each row, so that some maps are flat and some have peaks; it sums to 1.
    """
    generator = torch.Generator().manual_seed(seed)

    def smooth(maps: int) -> Tensor:
        noise = torch.rand(count, maps, 4 * freq, 4 * time, generator=generator)
        noise = torch.nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False)
        low, high = noise.amin((2, 3), keepdim=True), noise.amax((2, 3), keepdim=True)
        return torch.nn.functional.avg_pool2d((noise - low) / (high - low), 4)

    power = 1 + 4 * torch.rand(count, 1, 1, generator=generator)
    own, partner = (normalised(smooth(1)[:, 0] ** power) for _ in range(2))
    return Problems(own, partner, smooth(channels), smooth(channels), torch.rand(count, generator=generator))


def exact_labels(energy: BlockEnergy) -> Tensor:
    """Weights of the least energy, (n, nf, nt) float64, by maximum flow with capacities in units of 1 / 30,000,000.

    A layer of nodes for each label but the first (Ishikawa 2003): a block's label is the number of its nodes on the
    source's side. Two blocks k labels apart cut k edges within layers and, of double weight, k (k - 1) / 2 between
    layers that lie further apart, k^2 in all.
    """
    parts = (energy.costs.unbind(1), energy.freq_edges, energy.time_edges)
    labels = [_exact(*(x.double().numpy() for x in row)) for row in zip(*parts, strict=True)]
    return torch.from_numpy(np.stack(labels)) / (len(energy.costs) - 1)


def _exact(costs: NDArray, freq_edges: NDArray, time_edges: NDArray) -> NDArray:
    layers, (freq, time) = len(costs) - 1, costs.shape[1:]
    block = np.arange(freq * time).reshape(freq, time)
    source, sink = layers * block.size, layers * block.size + 1
    edges: list[NDArray] = []

    def connect(start: NDArray | int, end: NDArray | int, capacity: NDArray | float) -> None:
        whole = np.minimum(np.rint(np.asarray(capacity) * 3e7), 2**30)
        edges.append(np.stack([part.ravel() for part in np.broadcast_arrays(start, end, whole)]))

    for layer, step in enumerate(np.diff(costs, axis=0)):
        connect(block + layer * block.size, sink, np.maximum(step, 0))
        connect(source, block + layer * block.size, np.maximum(-step, 0))
        if layer:
            connect(block + layer * block.size, block + (layer - 1) * block.size, np.inf)
    for one, other, weight in ((block[:-1], block[1:], freq_edges), (block[:, :-1], block[:, 1:], time_edges)):
        for upper in range(layers):
            for lower in range(upper + 1):
                capacity = weight / layers**2 * (1 if upper == lower else 2)
                connect(one + upper * block.size, other + lower * block.size, capacity)
                connect(other + upper * block.size, one + lower * block.size, capacity)
    start, end, capacity = np.concatenate(edges, axis=1).astype(np.int32)
    graph = csr_matrix((capacity, (start, end)), shape=(sink + 1, sink + 1))
    residual = graph - maximum_flow(graph, source, sink).flow
    residual.data = (residual.data > 0).astype(np.int32)
    residual.eliminate_zeros()
    reached = np.zeros(sink + 1, dtype=bool)
    reached[breadth_first_order(residual, source, return_predecessors=False)] = True
    return reached[:source].reshape(layers, freq, time).sum(0).astype(np.float64)


def move_costs(weight: Tensor, saliency: Tensor, eps: float = EPS) -> Tensor:
    """What each block (second axis) costs at each place (third axis), (n, N, N) float64; see `transport`."""
    freq, time = weight.shape[1:]
    axes = [torch.linspace(0, 1, count, dtype=torch.float64) for count in (freq, time)]
    position = torch.cartesian_prod(*axes)
    distance = (position[:, None] - position).square().sum(-1)
    shown = (weight > 0).flatten(1).double()
    return (eps * distance - normalised(saliency).double().flatten(1)[:, :, None]) * shown[:, None]


def cost_of(sources: Tensor, costs: Tensor) -> Tensor:
    """The cost of the block at each place, (n,)."""
    return costs.gather(1, sources[:, None]).sum((1, 2))


def exact_transport(costs: Tensor) -> Tensor:
    """The block at each place at the least cost, (n, N), by the Hungarian method."""
    return torch.from_numpy(np.stack([linear_sum_assignment(row.T)[1] for row in costs.numpy()]))


def greedy_cost(weight: Tensor, saliency: Tensor, eps: float = EPS) -> Tensor:
    """What the paper's Algorithm 1 reaches in as many rounds as an axis has blocks, (n,); it loses hidden blocks."""
    cost = move_costs(torch.ones_like(weight), torch.zeros_like(saliency), eps)
    cost = cost - normalised(saliency).double().flatten(1)[:, :, None] * (weight > 0).flatten(1)[:, None]
    for _ in range(max(weight.shape[1:])):
        wanted = torch.nn.functional.one_hot(cost.argmin(2), cost.shape[2]).bool()
        winner = cost.masked_fill(~wanted, torch.inf).argmin(1)
        won = torch.nn.functional.one_hot(winner, cost.shape[1]).transpose(1, 2).bool() & wanted
        cost = cost + (wanted & ~won)
    return (move_costs(weight, saliency, eps) * won).sum((1, 2))


def _seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Processor time of one call, the least of several: other jobs on the machine do not count."""
    work()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def _label_row(problems: Problems, labels: int) -> str:
    energy, weight = block_energy(*problems, labels=labels), block_labels(*problems, labels=labels)
    reached, exact = energy(weight), energy(exact_labels(energy).float())
    above = 100 * (reached / exact - 1)
    batch = Problems(*(x[:256] for x in problems))
    spent = 1000 * _seconds(lambda: block_labels(*batch, labels=labels))
    return (
        f"{exact.mean():.5f} | {reached.mean():.5f} | {100 * (reached.mean() / exact.mean() - 1):.4f} | "
        f"{above.max():.3f} | {spent:.1f}"
    )


def _transport_row(problems: Problems) -> str:
    weight = block_labels(*problems)
    costs = move_costs(weight, problems.own)
    sources = transport(weight, problems.own, EPS)
    stay = torch.arange(costs.shape[1]).expand_as(sources)
    found = cost_of(stay, costs), greedy_cost(weight, problems.own), cost_of(sources, costs)
    spent = 1000 * _seconds(lambda: transport(weight[:256], problems.own[:256], EPS))
    shares = " | ".join(f"{float(cost.mean()):.5f}" for cost in (*found, cost_of(exact_transport(costs), costs)))
    return f"{shares} | {spent:.1f}"


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="problems of each kind, 256 at least")
    parser.add_argument("--moves", type=int, default=256, help="problems of transport, 256 at least")
    parser.add_argument("--seed", type=int, default=0, help="seed of the problems")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| blocks | labels | exact energy | found | mean % above | worst % above | ms for 256 rows |")
    print("|---|---|---|---|---|---|---|")
    for freq, width in SHAPES:
        for labels in (2, 3):
            problems = random_problems(arguments.count, freq, width, 1 if labels == 2 else 3, arguments.seed)
            print(f"| {freq} x {width} | {labels} | {_label_row(problems, labels)} |", flush=True)
    print("\n| blocks | cost if none moves | paper's greedy | found | exact | ms for 256 rows |")
    print("|---|---|---|---|---|---|")
    for freq, width in SHAPES:
        problems = random_problems(arguments.moves, freq, width, 1, arguments.seed)
        print(f"| {freq} x {width} | {_transport_row(problems)} |", flush=True)


if __name__ == "__main__":
    main()
