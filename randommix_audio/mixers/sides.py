"""Where a rectangle begins and ends along one axis, and rectangles made of two such sides."""

import torch
from torch import Tensor

from randommix_audio.draws import random_integer
from randommix_audio.geometry import Box

Side = tuple[Tensor, Tensor]
"""First place inside, and the place after the last; both long."""


def box(bins: Side, frames: Side) -> Box:
    """The rectangle of two sides, each (n or 1,)."""
    return Box(torch.stack(torch.broadcast_tensors(*bins, *frames), dim=1))


def rounded(length: Tensor, rounding: Tensor, size: Tensor) -> Tensor:
    """A length in whole places, at most `size`: rounded up with the probability that keeps its mean.

    Args:
        length: At least 0.
        rounding: Uniform numbers in [0, 1).
        size: The most that there is, long.
    """
    return torch.minimum((length + rounding).long(), size)


def inner_side(fraction: Tensor, rounding: Tensor, position: Tensor, size: int | Tensor) -> Side:
    """A stretch of `fraction` of `size`, rounded at random, anywhere inside.

    Args:
        fraction: In [0, 1].
        rounding: Uniform numbers in [0, 1).
        position: Uniform numbers in [0, 1).
        size: Places of the axis; tensors are long and of a shape that goes with the others.
    """
    size = as_tensor(size, fraction)
    length = rounded(fraction * size, rounding, size)
    start = random_integer(position, size - length + 1)
    return start, start + length


def clipped_side(centre: Tensor, half: Tensor, size: int | Tensor) -> Side:
    """The published CutMix side: `half` to both sides of a uniform integer centre, cut off beyond the edge.

    Args:
        centre: Uniform numbers in [0, 1).
        half: Half the length, long.
        size: Places of the axis.
    """
    size = as_tensor(size, centre)
    middle = random_integer(centre, size.clamp(min=1))
    return clipped(middle, half, size)


def half_side(fraction: Tensor, size: int | Tensor) -> Tensor:
    """Half the published CutMix side int(size * fraction), which loses a place where that is odd; long."""
    return (size * fraction).long() // 2


def clipped(middle: Tensor, half: Tensor, size: Tensor) -> Side:
    """`half` to both sides of a place, cut off beyond the edge."""
    return (middle - half).clamp(min=0), torch.minimum(middle + half, size)


def shifted_side(middle: Tensor, length: Tensor, size: Tensor) -> Side:
    """A side of a given length around a place, shifted until it is wholly inside."""
    start = torch.minimum((middle - length // 2).clamp(min=0), (size - length).clamp(min=0))
    return start, start + length


def as_tensor(size: int | Tensor, like: Tensor) -> Tensor:
    """The size of an axis, long, of the shape of `like` where it is one number."""
    return size if isinstance(size, Tensor) else torch.full_like(like, size).long()
