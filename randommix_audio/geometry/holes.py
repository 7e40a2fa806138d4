"""Parts of a row that are filled with one value: Cutout. The only geometry of a single source."""

from dataclasses import dataclass

import torch
from torch import Tensor

from randommix_audio.geometry.base import Geometry, Size
from randommix_audio.layout import frame_numbers


@dataclass(frozen=True, eq=False)
class Holes(Geometry):
    """The row itself outside some rectangles, a constant inside; its target stays as it is.

    Attributes:
        corners: (n or 1, H, 4) long, H rectangles: first bin, bin after the last, first frame, frame after the last.
        fill: What stands inside.
    """

    corners: Tensor
    fill: float

    @property
    def others(self) -> int:
        return 0

    def own_weight(self, size: Size) -> Tensor:
        first_bin, end_bin, first_frame, end_frame = self.corners[..., None, None].unbind(2)
        bins = frame_numbers(size.freq, self.corners.device).transpose(2, 3)
        frames = frame_numbers(size.time, self.corners.device)
        inside = (bins >= first_bin) & (bins < end_bin) & (frames >= first_frame) & (frames < end_frame)
        return ~inside.any(1, keepdim=True)

    def weights(self, size: Size) -> Tensor:
        return self.own_weight(size).float()[None]

    def areas(self, size: Size, both: Tensor) -> Tensor:
        return torch.zeros(0, both.shape[0], device=both.device)

    def label_weights(self, size: Size) -> Tensor:
        return torch.ones(1, 1, 1, 1, device=self.corners.device)

    def mix(self, own: Tensor, *others: Tensor) -> Tensor:
        return own.masked_fill(~self.own_weight(Size(*own.shape[1:])), self.fill)
