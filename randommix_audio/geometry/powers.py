"""Adding powers whose logarithms are given: the power domain, d^-1(sum_k W_k d(x_k)) with d the exponential."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def add_powers(sources: Sequence[Tensor], weights: Sequence[Tensor], neper: float) -> Tensor:
    """The feature of the weighted sum of the powers of some features: neper * ln(sum_k W_k exp(x_k / neper)).

    A log feature is x = neper * ln(P + c) + b of a power P, with b for a reference or a mean, c for a floor that is
    added. Weights that sum to 1 make a sum of the same form, with the same b and c, so that neither need be known, and
    a floor under all sources lies under the sum. Nothing overflows, whatever the level.

    Args:
        sources: K floating-point tensors of one shape.
        weights: K float32 tensors in [0, 1] that broadcast to it and sum to 1.
        neper: Units of the features for each neper of power (10 / ln 10 = 4.34 dB), above 0.

    Returns:
        A tensor of the shape and dtype of the sources, computed in float32 or better. A source of weight 1 is kept bit
        by bit, and one of weight 0 counts for nothing even where it is not finite.
    """
    dtype = torch.promote_types(sources[0].dtype, torch.float32)
    levels = [
        torch.where(weight > 0, source.to(dtype) / neper + weight.to(dtype).log(), -torch.inf)
        for source, weight in zip(sources, weights, strict=True)
    ]
    # Not torch.logaddexp, which takes ten times as long on a CPU.
    highest = functools.reduce(torch.maximum, [level.detach() for level in levels])
    highest = highest.clamp(torch.finfo(dtype).min, torch.finfo(dtype).max)
    powers = [(level - highest).exp() for level in levels]
    summed = functools.reduce(torch.add, powers).log() + highest
    mixed = (summed * neper).to(sources[0].dtype)
    for source, weight in zip(sources, weights, strict=True):
        mixed = torch.where(weight == 1, source, mixed)
    return mixed
