"""Moving the blocks of a row so that what is salient stands where the row is shown: the transport of Puzzle Mix.

Kim, Choo, Song 2020, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup" (ICML), section 4.2.
"""

import torch
from torch import Tensor

from randommix_audio.solvers.block_labels import normalised

LEAST_GAIN = 1e-6
"""Trades that gain less, relative to a map's whole saliency, are not made: they may be no more than rounding."""


@torch.no_grad()
def transport(weight: Tensor, saliency: Tensor, eps: float = 0.8, fixed: Tensor | None = None) -> Tensor:
    """Which block of a row stands at each place of its grid.

    The cost of a permutation is the sum over the places where the row is shown of

        eps * distance(source block, place)^2 - saliency(source block)

    where each axis of the grid has length 1 from the first block to the last. The paper also charges for moves to
    places that are not shown. Its published code does not, in effect: its greedy assignment drops the blocks that are
    driven out and have nowhere to be seen. Here they take the places that come free, so that a permutation results.

    Block after block, the most salient first, trades places with the block with which that lowers the cost most. The
    cost never rises above that of leaving all blocks alone, and is lower on average than what the published greedy
    assignment reaches; see `benchmarks.solver_quality` for both next to the exact optimum.

    Args:
        weight: (n, nf, nt) in [0, 1], the weight of the row at each block; above 0 it is shown there.
        saliency: (n, nf, nt), at least 0, of any scale: it is divided by its sum over the grid. Zeros move nothing.
        eps: Cost of distance, at least 0.
        fixed: (n, nf, nt) bool, blocks that stay where they are, such as those without a frame. None: none.

    Returns:
        (n, nf * nt) long, a permutation of each row's blocks, counted along time first: the block at each place.

    Raises:
        ValueError: `eps` is negative, or the shapes do not fit.
    """
    if eps < 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    if saliency.dim() != 3 or 0 in saliency.shape[1:] or weight.shape != saliency.shape:
        raise ValueError(f"weight and saliency must be (n, nf, nt), got {tuple(weight.shape)}, {tuple(saliency.shape)}")
    if fixed is not None and fixed.shape != saliency.shape:
        raise ValueError(f"fixed must be (n, nf, nt) = {tuple(saliency.shape)}, got {tuple(fixed.shape)}")
    # Rows last: each step then reads whole vectors.
    salient = normalised(saliency).flatten(1).t().contiguous()
    shown = (weight > 0).flatten(1).t().to(salient)
    barred = None if fixed is None else torch.zeros_like(salient).masked_fill_(fixed.flatten(1).t(), -torch.inf)
    place = _positions(saliency.shape[1], saliency.shape[2], eps, salient.device)
    return _trade(salient, shown, place, barred).t().contiguous()


def _positions(freq: int, time: int, eps: float, device: torch.device) -> Tensor:
    """Where each block stands along either axis, (2, nf * nt, 1); squared distances are in units of cost."""
    axes = [torch.arange(count, device=device) * (eps**0.5 / max(count - 1, 1)) for count in (freq, time)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).view(2, -1, 1)


def _trade(salient: Tensor, shown: Tensor, position: Tensor, barred: Tensor | None) -> Tensor:
    """The block at each place after the trades, (N, n) long, for N blocks.

    A block at p with saliency s costs shown (|p|^2 - s - 2 p.q) at the place q, up to what depends on q alone. Hence
    trading the blocks of two places gains the product of how the two `blocks` and how the two `places` differ, where
    blocks hold (|p|^2 - s, -2 p) and places hold shown (1, q).

    Args:
        salient: (N, n).
        shown: (N, n), 1 where the row is shown, else 0.
        position: (2, N, 1), of blocks and of places.
        barred: (N, n), minus infinity at places that take no part, else 0.
    """
    count, rows = salient.shape
    order = salient.argsort(0, descending=True)
    number = torch.arange(count, device=salient.device).unsqueeze(1)
    block_at, place_of = number.repeat(1, rows), number.repeat(1, rows)
    blocks = torch.cat([position.square().sum(0, keepdim=True) - salient, (-2 * position).expand(-1, -1, rows)])
    places = torch.cat([shown.unsqueeze(0), shown * position])
    index = number.to(salient)
    unlike, gain = torch.empty_like(blocks), torch.empty_like(blocks)
    for step in range(count):
        block = order[step, None]
        here = place_of.gather(0, block)
        every = here.expand(3, -1, -1)
        moved = blocks.gather(1, every)
        torch.sub(blocks, moved, out=unlike)
        torch.sub(places, places.gather(1, every), out=gain)
        total = gain.mul_(unlike).sum(0)
        if barred is not None:
            total += barred + barred.gather(0, here)
        best = total.amax(0, keepdim=True)
        there = torch.eq(total, best, out=unlike[0]).mul_(index).amax(0, keepdim=True).long()
        there = torch.where(best > LEAST_GAIN, there, here)
        other = block_at.gather(0, there)
        every_there = there.expand(3, -1, -1)
        blocks.scatter_(1, every, blocks.gather(1, every_there)).scatter_(1, every_there, moved)
        block_at.scatter_(0, here, other).scatter_(0, there, block)
        place_of.scatter_(0, other, here).scatter_(0, block, there)
    return block_at
