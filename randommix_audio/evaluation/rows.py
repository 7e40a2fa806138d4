"""Random numbers that belong to a row alone: equal whatever batch the row is in, and in whatever order it comes.

A generator cannot give that: what it draws for a row depends on how many rows came before. Here each number is a
hash of (seed, name, number of the row, place of the number in the row), computed for all rows at once on their device.
The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014) applied to a counter, which passes the usual statistical batteries.
"""

import hashlib
import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # odd, so that it runs through all 64-bit integers
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def row_keys(seed: int, name: str, index: Tensor) -> Tensor:
    """One key for each row, from which all its random numbers follow.

    Args:
        seed: Of the evaluation.
        name: What the numbers are for; another name gives independent numbers.
        index: (B,) integer, the number of each row within the whole evaluation set, not within the batch.

    Returns:
        (B,) long on the device of index.

    Raises:
        ValueError: If index is not one whole number for each row.
    """
    if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"index must be (B,) whole numbers, got {tuple(index.shape)} {index.dtype}")
    start = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little", signed=True)
    return _mixed(_mixed(index.long()) ^ start)


def uniforms(keys: Tensor, count: int) -> Tensor:
    """(B, count) float32 numbers, uniform in [0, 1), of the rows with these keys (B,)."""
    return _fraction(_bits(keys, count))


def normals(keys: Tensor, count: int) -> Tensor:
    """(B, count) float32 standard normal numbers of the rows with these keys (B,), by Box and Muller's method."""
    half = -(-count // 2)
    bits = _bits(keys, half)
    # The upper and the lower half of one hash; 1 - u is above 0, so that the logarithm is finite.
    radius = (1 - _fraction(bits)).log_().mul_(-2).sqrt_()
    angle = (bits & 0xFFFFFF).float().mul_(2 * math.pi / 2**24)
    return torch.cat([radius * angle.cos(), radius * angle.sin_()], dim=1)[:, :count]


def integers(keys: Tensor, count: int, limit: Tensor | int) -> Tensor:
    """(B, count) long numbers, uniform in 0 .. limit - 1; limit is a number of at most 2^24 or (B,) of them."""
    limit = limit[:, None] if isinstance(limit, Tensor) else limit
    return (_upper(_bits(keys, count)) * limit) >> 24  # whole numbers throughout: equal on every device


def _bits(keys: Tensor, count: int) -> Tensor:
    steps = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    return _mixed(keys[:, None] + steps)


def _fraction(bits: Tensor) -> Tensor:
    """The upper bits as a float32 in [0, 1), without rounding."""
    return _upper(bits).float().mul_(1 / 2**24)


def _upper(bits: Tensor) -> Tensor:
    """The 24 upper bits, as many as a float32 holds."""
    return _shifted(bits, 40)


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's finaliser; integers wrap around, as in the original on unsigned ones."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift to the right with zeros coming in, where torch's own shift repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
