"""Square patches at random places, the same ones whenever a map of the same size is met: PatchUp."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from randommix_audio.geometry.base import Geometry, Size
from randommix_audio.layout import frame_numbers

_LOW_32 = 0xFFFFFFFF


@dataclass(frozen=True, eq=False)
class Patches(Geometry):
    """The partner, or a mix with it, inside square patches; the row itself outside.

    Faramarzi et al. 2020, "PatchUp: A feature-space block-level regularization technique for convolutional neural
    networks", section 2 and algorithm 1: every position of the map is the centre of a patch with a probability that
    depends on the size of the map, see `patch_rate`; patches may overlap and are cut off at the edges.

    Where the patches lie is a function of `seed` and of the size of the map alone, computed by hashing positions. It
    needs no generator, so that a map met inside compiled code or once more under activation checkpointing gets the
    same patches again.

    Attributes:
        own: (n or 1,) float32 in [0, 1], weight of the row itself inside its patches; 1 for a row that is not mixed.
        seed: (n or 1, 2) long, at least 0 and below 2 ** 32: what decides where the patches of a row lie.
        block: Side of a patch in bins and frames; along an axis that is shorter, all of it.
        gamma: Probability in (0, 1] that a patch covers a position, edges and overlaps left aside.
        per_channel: Whether every channel has patches of its own.
        some_alone: Whether some rows or frames are not mixed at all; these are copied, because a weight of 0 does not
            keep an infinite value of the partner out.
    """

    own: Tensor
    seed: Tensor
    block: int
    gamma: float
    per_channel: bool
    some_alone: bool = False

    def covered(self, size: Size) -> Tensor:
        """Where the patches are, bool, (n or 1, C or 1, F, T)."""
        device = self.seed.device
        place = frame_numbers(size.freq, device).transpose(2, 3) * size.time + frame_numbers(size.time, device)
        channel = torch.arange(size.channels if self.per_channel else 1, device=device)
        first, second = self.seed[:, :, None].unbind(1)
        stream = hash_32(hash_32(hash_32(first) ^ second) ^ hash_32(channel))[:, :, None, None]
        centre = hash_32(hash_32(place) ^ stream) < patch_rate(self.gamma, self.block, size)
        freq_side, time_side = sides(self.block, size)
        return widened(widened(centre, 2, freq_side), 3, time_side)

    def own_weight(self, size: Size) -> Tensor:
        return torch.where(self.covered(size), self.own.view(-1, 1, 1, 1), 1.0)

    def partner_area(self, size: Size, both: Tensor) -> Tensor:
        return (1 - self.weight(size)).mean(1).sum((1, 2))

    def interpolate(self, own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
        mixed = super().interpolate(own, partner, weight)
        return torch.where(weight == 1, own, mixed) if self.some_alone else mixed

    def fits(self, size: Size, drawn: Size) -> bool:
        return size == drawn if self.per_channel else super().fits(size, drawn)


def sides(block: int, size: Size) -> tuple[int, int]:
    """Bins and frames of a patch: along an axis that is shorter, all of it."""
    # Not min(), which compiled code would keep as a formula of a size that it does not know.
    return block if size.freq >= block else size.freq, block if size.time >= block else size.time


def patch_rate(gamma: float, block: int, size: Size) -> int:
    """How many of 2 ** 32 positions are the centre of a patch.

    gamma F T / (b_F b_T (F - b_F + 1) (T - b_T + 1)) for patches of b_F x b_T positions on a map of F x T: the adjusted
    gamma of the paper, whose maps are square, with the sides of this map. Whole numbers, because they are exact on
    every device and may stand for sizes that compiled code does not know yet.
    """
    freq_side, time_side = sides(block, size)
    centres = freq_side * time_side * (size.freq - freq_side + 1) * (size.time - time_side + 1)
    return round(gamma * 2**32) * size.freq * size.time // centres


def widened(mask: Tensor, axis: int, side: int) -> Tensor:
    """Make every true position of (n, C, F, T) a stretch of `side` positions around it, along axis 2 or 3; bool."""
    before, after = side // 2, (side - 1) // 2
    padding = (before, after) if axis == 3 else (0, 0, before, after)
    if torch.compiler.is_compiling():
        kernel = (1, side) if axis == 3 else (side, 1)
        return F.max_pool2d(F.pad(mask.float(), padding), kernel, 1) > 0
    # The stretch doubles at each step, a thirtieth of the time of max_pool2d on a CPU. A compiler would compute the
    # mask anew for every step.
    mask = F.pad(mask, padding)
    reached = 1
    while reached < side:
        step = min(reached, side - reached)
        kept = mask.shape[axis] - step
        mask = mask.narrow(axis, 0, kept) | mask.narrow(axis, step, kept)
        reached += step
    return mask


def hash_32(value: Tensor) -> Tensor:
    """Map whole numbers below 2 ** 32 onto each other so that the results of neighbours look unrelated, long.

    Three rounds of shifting and two of multiplying, as in the finaliser of MurmurHash3; shifts and factors are the
    least biased that hash-prospector found (Wellons 2018 and contributors). Both factors are below 2 ** 31, so that no
    product overflows 64 bits.
    """
    value = value ^ (value >> 16)
    value *= 0x21F0AAAD  # in place from here on, because a mask for each row is as large as the map
    value &= _LOW_32
    value ^= value >> 15
    value *= 0x735A2D97
    value &= _LOW_32
    return value.bitwise_xor_(value >> 15)
