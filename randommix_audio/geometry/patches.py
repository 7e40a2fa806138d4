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
        own: (n or 1,) float32, weight of the row itself inside its patches; 1 for a row that is not mixed.
        seed: (n or 1, 2) long, at least 0 and below 2 ** 32: what decides where the patches of a row lie.
        block: Side of a patch in bins and frames; along an axis that is shorter, all of it.
        gamma: Probability in (0, 1] that a patch covers a position, edges and overlaps left aside.
        per_channel: Whether every channel has patches of its own.
        hard: Whether the partner stands alone inside the patches.
    """

    own: Tensor
    seed: Tensor
    block: int
    gamma: float
    per_channel: bool
    hard: bool

    def covered(self, size: Size) -> Tensor:
        """Where the patches are, bool, (n or 1, C or 1, F, T)."""
        device = self.seed.device
        place = frame_numbers(size.freq, device).transpose(2, 3) * size.time + frame_numbers(size.time, device)
        channel = torch.arange(size.channels if self.per_channel else 1, device=device)
        first, second = self.seed[:, :, None].unbind(1)
        stream = hash_32(hash_32(hash_32(first) ^ second) ^ hash_32(channel))[:, :, None, None]
        freq_side, time_side = min(self.block, size.freq), min(self.block, size.time)
        rate = patch_rate(self.gamma, self.block, size)
        centre = (hash_32(hash_32(place) ^ stream) < rate).float()
        # One axis after the other: 2 b comparisons for each position in place of b * b.
        padded = F.pad(centre, (time_side // 2, (time_side - 1) // 2, freq_side // 2, (freq_side - 1) // 2))
        return F.max_pool2d(F.max_pool2d(padded, (freq_side, 1), 1), (1, time_side), 1) > 0

    def own_weight(self, size: Size) -> Tensor:
        covered, own = self.covered(size), self.own.view(-1, 1, 1, 1)
        return ~covered | (own == 1) if self.hard else torch.where(covered, own, 1.0)

    def partner_area(self, size: Size, both: Tensor) -> Tensor:
        return (1 - self.weight(size).float()).mean(1).sum((1, 2))

    def interpolate(self, own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
        # A weight of 0 does not keep an infinite value of the other source out.
        return torch.where(weight == 1, own, super().interpolate(own, partner, weight))

    def fits(self, size: Size, drawn: Size) -> bool:
        return size == drawn if self.per_channel else super().fits(size, drawn)


def patch_rate(gamma: float, block: int, size: Size) -> int:
    """How many of 2 ** 32 positions are the centre of a patch.

    gamma F T / (b_F b_T (F - b_F + 1) (T - b_T + 1)) for patches of b_F x b_T positions on a map of F x T: equation 1
    of the paper, whose maps are square, with the sides of this map. Whole numbers, because they are exact on every
    device and may stand for sizes that compiled code does not know yet.
    """
    freq_side, time_side = min(block, size.freq), min(block, size.time)
    centres = freq_side * time_side * (size.freq - freq_side + 1) * (size.time - time_side + 1)
    return round(gamma * 2**32) * size.freq * size.time // centres


def hash_32(value: Tensor) -> Tensor:
    """Map whole numbers below 2 ** 32 onto each other so that the results of neighbours look unrelated, long.

    Three rounds of shifting and two of multiplying, as in the finaliser of MurmurHash3; shifts and factors are the
    least biased that hash-prospector found (Wellons 2018 and contributors). Both factors are below 2 ** 31, so that no
    product overflows 64 bits.
    """
    value = ((value ^ (value >> 16)) * 0x21F0AAAD) & _LOW_32
    value = ((value ^ (value >> 15)) * 0x735A2D97) & _LOW_32
    return value ^ (value >> 15)
