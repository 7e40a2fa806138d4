"""Which inputs stand in which blocks of which outputs, for a whole batch at once: the minimisation of Co-Mixup.

Kim, Choo, Jeong and Song 2021, "Co-Mixup: Saliency guided joint mixup with supermodular diversity" (ICLR), section 4.

A batch is cut into parts of m rows, which are both the inputs and the outputs. Shapes: P parts, J = m outputs and I = m
inputs of each, nf x nt blocks, n = nf nt. z[j, k] are the weights of the inputs in block k of output j: all on one
input, or half on each of two. o[j], the mean of z[j, k] over k, is how much of output j each input makes up.

    E(z) = sum_jk -saliency[j, k] z[j, k]                                      show what is salient
         + beta / n sum_j sum_kk' |z[j, k] - z[j, k']|^2 / 2                   k, k' neighbours: few borders
         + gamma n sum_j o[j] h(A sum_j' o[j']),  j' != j                      outputs differ from one another
         - eta sum_j o[j] log phi                                              phi ~ Dirichlet(alpha), one for a part

h(s) is s above tau and 0 below: an input that the other outputs together show less than tau times costs nothing. These
are the terms and scales of the published code, for which the paper's defaults were found: the paper writes 1 - z z' for
the second term, which is the same for blocks of one input, and one threshold for the whole third term.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import threshold

_FORBIDDEN = 1e6  # far above every sum of real costs, far below where float32 would overflow


@dataclass(frozen=True, eq=False)
class JointProblem:
    """What `joint_labels` minimises, for P parts at once.

    Attributes:
        saliency: (P, J, I, nf, nt) float32, at least 0: what each input has to show in each block of each output; J may
            be 1 where it is the same for all outputs. An input's blocks sum to 1, or to less where an output has no
            room for all of it.
        compatibility: (P, I, I) float32, symmetric, at least 0: A above; see `compatibility_of`.
        log_prior: (P, I) float32: log phi above, up to a constant.
        usable: Bool that broadcasts to (P, J, I, nf, nt), whether an input may stand in a block at all; None: all may.
            An output may use its own input always, so that a missing row is one that uses and is used by nobody.
        beta: Cost of borders, at least 0.
        gamma: Cost of outputs that resemble each other, at least 0.
        tau: How much of the other outputs may show an input at no cost, in outputs.
        eta: Weight of the prior, at least 0.

    Raises:
        ValueError: The shapes do not fit.
    """

    saliency: Tensor
    compatibility: Tensor
    log_prior: Tensor
    usable: Tensor | None = None
    beta: float = 0.32
    gamma: float = 1.0
    tau: float = 0.83
    eta: float = 0.05

    def __post_init__(self) -> None:
        parts, outputs, inputs = self.saliency.shape[:3]
        wanted = {"compatibility": (parts, inputs, inputs), "log_prior": (parts, inputs)}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {tuple(getattr(self, name).shape)}")
        if self.saliency.ndim != 5 or outputs not in (1, inputs):
            raise ValueError(f"saliency must be (P, J, I, nf, nt) with J = I or 1, got {tuple(self.saliency.shape)}")

    @property
    def inputs(self) -> int:
        """The number m of inputs, and of outputs, of a part."""
        return self.saliency.shape[2]

    @property
    def blocks(self) -> int:
        """The number n of blocks."""
        return self.saliency.shape[3] * self.saliency.shape[4]

    def allowed(self) -> Tensor:
        """(P, J, n, I) bool, whether an input may stand in a block."""
        parts, _, inputs, *grid = self.saliency.shape
        itself = torch.eye(inputs, dtype=torch.bool, device=self.saliency.device)[:, :, None, None]
        usable = torch.ones_like(itself) if self.usable is None else self.usable | itself
        return usable.expand(parts, inputs, inputs, *grid).flatten(3).transpose(2, 3)

    def costs(self) -> Tensor:
        """(P, J, n, I), what each input costs in each block by itself; J may be 1."""
        costs = -self.saliency.flatten(3).transpose(2, 3)
        costs = costs - self.eta / self.blocks * self.log_prior[:, None, None, :]
        return costs if self.usable is None else costs.masked_fill(~self.allowed(), _FORBIDDEN)

    def borders(self) -> Tensor:
        """(n, n) float32, beta / n where two blocks have a side in common, else 0."""
        band, frame = self._places()
        distance = (band[:, None] - band).abs() + (frame[:, None] - frame).abs()
        return (distance == 1) * (self.beta / self.blocks)

    def chessboard(self) -> list[Tensor]:
        """The two colours of the blocks, (n, 1) bool each: no two neighbours have the same."""
        band, frame = self._places()
        black = ((band + frame) % 2 == 0)[:, None]
        return [black, ~black]

    def _places(self) -> tuple[Tensor, Tensor]:
        place = torch.arange(self.blocks, device=self.saliency.device)
        frames = self.saliency.shape[4]
        return place // frames, place % frames

    def excess(self, others: Tensor) -> Tensor:
        """h(A others): what it costs to show inputs that the other outputs show `others` times, both (P, J, I)."""
        return threshold(others @ self.compatibility, self.tau, 0.0)


def joint_labels(problem: JointProblem, start: Tensor, iterations: int = 4, most: int = 4) -> tuple[Tensor, Tensor]:
    """Choose what stands in each block of each output.

    Args:
        problem: See there.
        start: (P, J, nf, nt) uniform numbers in [0, 1), from which the first weights are made: about half of an
            output's blocks show its own row, the others any input. (The published start, any input everywhere, ends no
            lower, and most outputs then show nothing of their own row.)
        iterations: How often each output is chosen anew.
        most: K, the most inputs that an output may show, its own row included whether shown or not. An output that
            shows more keeps the largest, and its other blocks are chosen anew from those.

    Returns:
        The sources (K, P, J) long, inputs of the part, the first of them the output's own row; and their weights
        (K, P, J, nf, nt) float32 of 0, 1/2 or 1, summing to 1 over K. An unused source is the row itself with weight 0.
    """
    weights = minimise(problem, start, iterations).flatten(3).transpose(2, 3)
    itself = torch.eye(problem.inputs, device=weights.device)
    rank = weights.mean(2) + 2 * itself
    kept = rank.topk(min(most, problem.inputs), dim=2)  # (P, J, K)
    weights = _keep(problem, weights, torch.zeros_like(rank).scatter(2, kept.indices, 1.0) > 0)
    sources = kept.indices.unsqueeze(2).expand(-1, -1, problem.blocks, -1)
    chosen = weights.gather(3, sources).movedim(3, 0)  # (K, P, J, n)
    used = chosen.sum(3) > 0
    sources = torch.where(used, kept.indices.movedim(2, 0), kept.indices[None, :, :, 0])
    missing = most - chosen.shape[0]
    chosen = torch.cat([chosen, chosen.new_zeros(missing, *chosen.shape[1:])])
    sources = torch.cat([sources, sources[:1].expand(missing, -1, -1)])
    return sources, chosen.unflatten(3, problem.saliency.shape[3:])


def minimise(problem: JointProblem, start: Tensor, iterations: int = 4) -> Tensor:
    """Lower the energy by choosing one output after the other, given the rest (the paper's algorithm 1).

    Given the other outputs the third term is linear in o[j], with coefficients 2 gamma n h(.): what is left for one
    output is a labelling with costs for each block and for borders. The published code solves that by graph cuts; here
    the two colours of a chessboard take turns, all of a colour at once, starting from the present weights.

    Args:
        problem: See there.
        start: See `joint_labels`.
        iterations: How often each output is chosen anew. Blocks are shared by two inputs from the second time on.

    Returns:
        (P, J, I, nf, nt) float32, weights summing to 1 over the inputs: those of the lowest energy met on the way.
    """
    costs, borders, colours = problem.costs(), problem.borders(), problem.chessboard()
    outputs = list(_first_weights(problem, start).unbind(1))
    best = torch.stack(outputs, dim=1)
    lowest = _energy(problem, best)
    shown = best.mean(2).sum(1, keepdim=True)  # (P, 1, I), in outputs
    for iteration in range(iterations):
        closeness = borders.sum(1) / 2 if iteration else torch.zeros_like(borders[0])
        for j, present in enumerate(outputs):
            others = shown - present.mean(1, keepdim=True)
            cost = costs[:, min(j, costs.shape[1] - 1)] + 2 * problem.gamma * problem.excess(others)
            outputs[j] = _choose(cost, present, borders, closeness, colours)
            shown = others + outputs[j].mean(1, keepdim=True)
        weights = torch.stack(outputs, dim=1)
        energy = _energy(problem, weights)
        best = torch.where((energy < lowest)[:, None, None, None], weights, best)
        lowest = torch.minimum(energy, lowest)
    return best.transpose(2, 3).unflatten(3, problem.saliency.shape[3:])


def joint_energy(problem: JointProblem, weights: Tensor) -> Tensor:
    """E above, (P,) float32, of weights (P, J, I, nf, nt) that sum to 1 over the inputs."""
    return _energy(problem, weights.flatten(3).transpose(2, 3))


def compatibility_of(saliency: Tensor, present: Tensor, omega: float = 0.001) -> Tensor:
    """A = (1 - omega) I + omega D: inputs whose most salient blocks lie far apart go well together in one output.

    D[a, b] is the distance |df| + |dt| between the most salient blocks of two inputs, scaled to mean 1 / I over a part.

    Args:
        saliency: (P, I, nf, nt).
        present: (P, I) bool, inputs that count.
        omega: In [0, 1].

    Returns:
        (P, I, I) float32.
    """
    frames = saliency.shape[3]
    peak = saliency.flatten(2).argmax(2)
    place = torch.stack([peak // frames, peak % frames], dim=2).float()
    distance = (place[:, :, None] - place[:, None]).abs().sum(3) * (present[:, :, None] & present[:, None])
    scale = present.sum(1)[:, None, None] / distance.sum((1, 2), keepdim=True).clamp(min=1)
    itself = torch.eye(saliency.shape[1], device=saliency.device)
    return (1 - omega) * itself + omega * distance * scale


def _first_weights(problem: JointProblem, start: Tensor) -> Tensor:
    """One input in each block, (P, J, n, I): the output's own, or any that is usable; see `joint_labels`."""
    inputs = problem.inputs
    itself = torch.arange(inputs, device=start.device)[:, None]
    label = torch.where(start.flatten(2) < 0.5, itself, ((2 * start.flatten(2) - 1) * inputs).long())
    label = label.clamp(0, inputs - 1)
    usable = problem.allowed().gather(3, label.unsqueeze(3)).squeeze(3)
    label = torch.where(usable, label, itself)
    return (label.unsqueeze(3) == torch.arange(inputs, device=start.device)).float()


def _choose(cost: Tensor, weights: Tensor, borders: Tensor, closeness: Tensor, colours: list[Tensor]) -> Tensor:
    """Lower cost w + borders for given costs and weights, both (..., n, I), never raising it.

    With b the border costs of a block and w' its neighbours' weights, its part of the sum is (cost - sum b w') w +
    |w|^2 sum b / 2, where |w|^2 is 1 for one input and 1/2 for two: two share a block best if their costs differ by
    less than sum b / 2, which is its `closeness`, (n,); where that is 0 none is shared.
    """
    for colour in colours:
        chosen = _best_weights(cost - borders @ weights, closeness)
        weights = torch.where(colour, chosen, weights)
    return weights


def _best_weights(cost: Tensor, closeness: Tensor) -> Tensor:
    """All on the cheapest input, or half on each of the two cheapest where they differ by less than `closeness`."""
    if cost.shape[-1] == 1:
        return torch.ones_like(cost)
    cheapest = cost.topk(2, largest=False)
    second = torch.where(cheapest.values[..., 1] - cheapest.values[..., 0] < closeness, 0.5, 0.0)
    return torch.zeros_like(cost).scatter(-1, cheapest.indices, torch.stack([1 - second, second], dim=-1))


def _energy(problem: JointProblem, weights: Tensor) -> Tensor:
    borders = problem.borders()
    shown = weights.mean(2)  # (P, J, I)
    others = shown.sum(1, keepdim=True) - shown
    alone = (problem.costs() * weights).sum((1, 2, 3))
    apart = (weights * (borders.sum(1)[:, None] * weights - borders @ weights)).sum((1, 2, 3)) / 2
    alike = (shown * problem.excess(others)).sum((1, 2))
    return alone + apart + problem.gamma * problem.blocks * alike


def _keep(problem: JointProblem, weights: Tensor, kept: Tensor) -> Tensor:
    """Weights without inputs that are not kept, (P, J, I) bool; outputs that show none of these stay as they are."""
    kept = kept.unsqueeze(2)
    dropped = torch.where(kept, 0.0, weights)
    cost = problem.costs().masked_fill(~kept, _FORBIDDEN)
    borders, colours = problem.borders(), problem.chessboard()
    left = _choose(cost, weights - dropped, borders, borders.sum(1) / 2, colours)
    return torch.where(dropped.sum((2, 3), keepdim=True) > 0, left, weights)
