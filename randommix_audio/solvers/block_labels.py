"""Which of two rows stands at each block of a grid: the labels of Puzzle Mix.

Kim, Choo, Song 2020, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup" (ICML), section 4.1.

    labels = block_labels(own_saliency, partner_saliency, own_mean, partner_mean, lam)    # (n, nf, nt) in {0, 1/2, 1}
    own_source = transport(labels, own_saliency)                                          # (n, nf * nt) long
    partner_source = transport(1 - labels, partner_saliency)

The energy of labels z, the weight of the row itself at each block i of an nf x nt grid, is

    E(z) =   sum_i  z_i s'_i + (1 - z_i) s_i                                  saliency that is covered
           - eta / (nf nt) sum_i log Binomial(L - 1, lam)[(L - 1) z_i]         prior on the number of labels
           + sum_ij b_ij (z_i - z_j)^2                                        labels of neighbours
           + gamma sum_ij b_ij d_ij(z_i, z_j)                                 values on both sides of a border

with s, s' the saliency of the row and its partner, each summing to 1, L the number of labels, and ij neighbours on the
grid. d_ij(a, b) is the absolute difference across the border between the source a at i and the source b at j, averaged
over channels; at weight 1/2 it is interpolated as in the published code, by the quadratic in z that the four corners
give once split into terms of one block and a multiple of (z_i - z_j)^2.

On square grids of n x n blocks the published code weighs every border b = beta / (16 n), which is beta / 16 times the
border's length where each axis has length 1. That is kept for rectangles: a border between neighbours along frequency
weighs beta / (16 nt), one between neighbours along time beta / (16 nf).

Three labels are found by two minimum cuts. The terms of one block are convex in z, for the binomial is log-concave, and
those of a border are convex in the difference, hence E is L-natural-convex (Murota 2003, "Discrete convex analysis",
chapter 7), and its steepest descent is exact: from 1/2 everywhere, the best set of blocks to raise to 1, then the best
set to lower by 1/2. By translation-submodularity the labels after the first cut lie between a minimiser and that
minimiser raised by 1/2, so that the second one ends.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from randommix_audio.solvers.min_cut import min_cut

LAM_FLOOR = 1e-4
"""Shares are kept this far from 0 and 1. The published code adds 1e-8, its square, within the logarithm instead, which
bounds the prior alike but loses its convexity below 1e-4."""


@dataclass(frozen=True, eq=False)
class BlockEnergy:
    """The energy of n grids, as a function of their labels.

    Attributes:
        costs: (labels, n, nf, nt) float32, what weight k / (labels - 1) costs at each block by itself.
        freq_edges: (n, nf - 1, nt) float32, what (z_i - z_j)^2 costs between neighbours along frequency.
        time_edges: (n, nf, nt - 1) float32, the same along time.
        constant: (n,) float32, part of the energy that no label changes.
    """

    costs: Tensor
    freq_edges: Tensor
    time_edges: Tensor
    constant: Tensor

    def __call__(self, weight: Tensor) -> Tensor:
        """The energy of weights in {0, 1 / (labels - 1), ..., 1}, (n, nf, nt); float32, (n,)."""
        label = (weight * (len(self.costs) - 1)).round().long()
        blocks = self.costs.gather(0, label.unsqueeze(0)).sum((0, 2, 3))
        freq_borders = (self.freq_edges * weight.diff(dim=1).square()).sum((1, 2))
        time_borders = (self.time_edges * weight.diff(dim=2).square()).sum((1, 2))
        return blocks + freq_borders + time_borders + self.constant


@torch.no_grad()
def block_labels(
    own: Tensor,
    partner: Tensor,
    own_mean: Tensor,
    partner_mean: Tensor,
    lam: Tensor,
    *,
    labels: int = 3,
    beta: float = 1.2,
    gamma: float = 0.5,
    eta: float = 0.2,
) -> Tensor:
    """The weight of the row itself at each block of its grid, at the least energy (equation 4 of the paper).

    Exact for grids with up to 8 blocks along one axis; else nearly so, see `benchmarks.solver_quality`. Defaults are
    those of the published code.

    Args:
        own: (n, nf, nt) saliency of the rows, at least 0, of any scale: it is divided by its sum over the grid.
        partner: (n, nf, nt) saliency of their partners.
        own_mean: (n, C, nf, nt) mean value of the rows over each block; (n, C, nf * a, nt * b) for means over a x b
            parts of each block, of which those along a border are compared. Finite, and best scaled to [0, 1]: where
            gamma times the range is above 1, the weight of a border may come out negative and is taken as 0.
        partner_mean: The same for the partners.
        lam: (n,) in [0, 1], the share that the prior wants for the row itself.
        labels: 3 for weights 0, 1/2, 1; 2 for weights 0, 1.
        beta: Weight of neighbours that differ, at least 0.
        gamma: Weight of the values at a border, relative to `beta`, at least 0.
        eta: Weight of the prior, at least 0.

    Returns:
        (n, nf, nt) float32.

    Raises:
        ValueError: `labels` is neither 2 nor 3, a weight is negative, or shapes do not fit.
    """
    energy = block_energy(own, partner, own_mean, partner_mean, lam, labels=labels, beta=beta, gamma=gamma, eta=eta)
    edges = energy.freq_edges / (labels - 1) ** 2, energy.time_edges / (labels - 1) ** 2
    if labels == 2:
        return min_cut(energy.costs[1] - energy.costs[0], *edges).float()
    none, half, whole = energy.costs.unbind()
    raised = min_cut(whole - half, *edges)
    saved = torch.where(raised, whole - half, half - none)
    level = 1 + raised.float()
    lowered = min_cut(-saved - 2 * _laplacian(level, *edges), *edges)
    return (level - lowered.float()) / 2


@torch.no_grad()
def block_energy(
    own: Tensor,
    partner: Tensor,
    own_mean: Tensor,
    partner_mean: Tensor,
    lam: Tensor,
    *,
    labels: int = 3,
    beta: float = 1.2,
    gamma: float = 0.5,
    eta: float = 0.2,
) -> BlockEnergy:
    """The energy that `block_labels` minimises; arguments and errors as there."""
    _check(own, partner, own_mean, partner_mean, lam, labels)
    if min(beta, gamma, eta) < 0:
        raise ValueError(f"beta, gamma and eta must not be negative, got {beta}, {gamma}, {eta}")
    rows, freq, time = own.shape
    # Where a source stands, the other one's saliency is covered.
    own_cost, partner_cost = normalised(partner), normalised(own)
    constant = own_cost.new_zeros(rows)
    edges = []
    for axis, count, border in ((1, freq, beta / (16 * time)), (2, time, beta / (16 * freq))):
        own_own, own_partner, partner_own, partner_partner = (
            gamma * border * _border_difference(before.float(), after.float(), axis, (freq, time))
            for before in (own_mean, partner_mean)
            for after in (own_mean, partner_mean)
        )
        unlike = own_partner + partner_own
        own_cost.narrow(axis, 0, count - 1).add_(own_partner + own_own, alpha=0.5)
        own_cost.narrow(axis, 1, count - 1).add_(partner_own + own_own, alpha=0.5)
        partner_cost.narrow(axis, 0, count - 1).add_(partner_own + partner_partner, alpha=0.5)
        partner_cost.narrow(axis, 1, count - 1).add_(own_partner + partner_partner, alpha=0.5)
        constant -= unlike.sum((1, 2)) / 2
        edges.append((border + (unlike - own_own - partner_partner) / 2).clamp(min=0))
    prior = eta / (freq * time) * _binomial_cost(lam.float(), labels)
    weight = torch.linspace(0, 1, labels, device=own.device).view(-1, 1, 1, 1)
    costs = weight * own_cost + (1 - weight) * partner_cost + prior[:, :, None, None]
    return BlockEnergy(costs, edges[0], edges[1], constant)


def normalised(saliency: Tensor) -> Tensor:
    """Saliency that sums to 1 over each map, (n, nf, nt) float32 of its own; a map of zeros is the same everywhere."""
    saliency = saliency.float()
    total = saliency.sum((1, 2), keepdim=True)
    return torch.where(total > 0, saliency / total, 1 / (saliency.shape[1] * saliency.shape[2]))


def _check(own: Tensor, partner: Tensor, own_mean: Tensor, partner_mean: Tensor, lam: Tensor, labels: int) -> None:
    if labels not in (2, 3):
        raise ValueError(f"labels must be 2 or 3, got {labels}")
    if own.dim() != 3 or 0 in own.shape[1:] or partner.shape != own.shape:
        raise ValueError(f"both saliencies must be (n, nf, nt), got {tuple(own.shape)} and {tuple(partner.shape)}")
    rows, freq, time = own.shape
    if lam.shape != (rows,):
        raise ValueError(f"lam must be (n,) = ({rows},), got {tuple(lam.shape)}")
    fits = own_mean.dim() == 4 and own_mean.shape[0] == rows and 0 not in own_mean.shape[1:]
    if not fits or own_mean.shape[2] % freq or own_mean.shape[3] % time or partner_mean.shape != own_mean.shape:
        raise ValueError(
            f"both means must be (n, C, nf * a, nt * b) with n, nf, nt = {rows}, {freq}, {time}, "
            f"got {tuple(own_mean.shape)} and {tuple(partner_mean.shape)}"
        )


def _border_difference(before: Tensor, after: Tensor, axis: int, blocks: tuple[int, int]) -> Tensor:
    """How a source before each border along an axis of the grid differs from one after it, (n, nf, nt) less one there.

    Both sources are (n, C, nf * a, nt * b).
    """
    parts = before.shape[axis + 1] // blocks[axis - 1]
    borders = blocks[axis - 1] - 1
    last = torch.arange(borders, device=before.device) * parts + parts - 1
    difference = before.index_select(axis + 1, last) - after.index_select(axis + 1, last + 1)
    along = 3 - axis
    return difference.abs().mean(1).unflatten(along, (blocks[along - 1], -1)).mean(along + 1)


def _binomial_cost(lam: Tensor, labels: int) -> Tensor:
    """The negative logarithm of Binomial(labels - 1, lam) at 0 to labels - 1, (labels, n)."""
    own, partner = -lam.clamp(LAM_FLOOR, 1 - LAM_FLOOR).log(), -(1 - lam).clamp(LAM_FLOOR, 1 - LAM_FLOOR).log()
    if labels == 2:
        return torch.stack([partner, own])
    return torch.stack([2 * partner, partner + own - math.log(2), 2 * own])


def _laplacian(level: Tensor, freq_edges: Tensor, time_edges: Tensor) -> Tensor:
    """How far each block of (n, nf, nt) lies above its neighbours, weighted by its edges."""
    total = torch.zeros_like(level)
    for axis, edges in ((1, freq_edges), (2, time_edges)):
        flow = edges * level.diff(dim=axis)
        total.narrow(axis, 0, flow.shape[axis]).sub_(flow)
        total.narrow(axis, 1, flow.shape[axis]).add_(flow)
    return total
