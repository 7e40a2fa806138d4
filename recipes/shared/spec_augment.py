"""SpecAugment's masks for batches of clips of any lengths (Park et al. 2019, section 2; without time warping)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recipes.shared.console import UserError


@dataclass
class SpecAugment:
    """Which parts of a clip are masked; by default none.

    Args:
        freq_masks: number of masked runs of mel bands.
        freq_mask: most bands of a run.
        time_masks: number of masked runs of frames.
        time_mask: most frames of a run.
        time_share: most of a clip that one run of frames may take, 0 to 1.
    """

    freq_masks: int = 0
    freq_mask: int = 0
    time_masks: int = 0
    time_mask: int = 0
    time_share: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise UserError(f"spec_augment.{name} must not be negative, got {value}")
        if self.time_share > 1:
            raise UserError(f"spec_augment.time_share must lie in [0, 1], got {self.time_share}")

    @property
    def masks_anything(self) -> bool:
        """Whether any run can have a band or a frame."""
        return self.freq_masks * self.freq_mask + self.time_masks * self.time_mask > 0

    def __call__(self, x: Tensor, lengths: Tensor, fill: float, generator: torch.Generator) -> Tensor:
        """Mask runs of bands and frames, for each row others.

        Args:
            x: (B, T, F).
            lengths: (B,) valid frames; runs of frames lie inside them.
            fill: what stands in masked parts.
            generator: of the places and widths, on the device of `x`.

        Returns:
            A new tensor; `x` itself where nothing is to be masked.
        """
        if not self.masks_anything:
            return x
        bands = torch.full_like(lengths, x.shape[2])
        widest = torch.full_like(lengths, self.freq_mask)
        longest = (self.time_share * lengths).long().clamp(max=self.time_mask)
        freq = runs(bands, x.shape[2], self.freq_masks, widest, generator)
        time = runs(lengths, x.shape[1], self.time_masks, longest, generator)
        return x.masked_fill(freq[:, None, :] | time[:, :, None], fill)


def runs(lengths: Tensor, size: int, count: int, longest: Tensor, generator: torch.Generator) -> Tensor:
    """Draw runs of places, each row's inside its length.

    Args:
        lengths: (B,) places of each row.
        size: places of the longest row.
        count: runs in each row; they may overlap.
        longest: (B,) most places of a run; its own number is uniform from 0 to that.
        generator: on the device of `lengths`.

    Returns:
        (B, size) bool, true inside the runs.
    """
    place = torch.arange(size, device=lengths.device)
    mask = torch.zeros(len(lengths), size, dtype=torch.bool, device=lengths.device)
    for _ in range(count):
        width_at, start_at = torch.rand(2, len(lengths), generator=generator, device=lengths.device)
        width = (width_at * (torch.minimum(longest, lengths) + 1)).floor()
        start = (start_at * (lengths - width + 1)).floor()
        mask |= (place >= start[:, None]) & (place < (start + width)[:, None])
    return mask
