"""A row followed by its partner: the only geometry whose output is longer than the batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from randommix_audio.geometry.base import Geometry, Size


@dataclass(frozen=True, eq=False)
class Joined(Geometry):
    """The valid frames of the row, then those of its partner, then a constant.

    The target is one joined transcript, so that the row's own share is 1.

    Attributes:
        own: (n,) long, valid frames of the row.
        partner: (n,) long, the partner's frames that follow; 0 for a row that is left alone.
        frames: Frames of the output, at least T.
        fill: What stands behind the end.
    """

    own: Tensor
    partner: Tensor
    frames: int
    fill: float

    def joined(self) -> Tensor:
        return self.partner > 0

    def output_time(self, time: int) -> int:
        return self.frames

    def weights(self, size: Size) -> Tensor:
        frames = torch.arange(self.frames, device=self.own.device)
        own, end = self.own[:, None], (self.own + self.partner)[:, None]
        here = torch.where(self.partner[:, None] > 0, frames < own, frames < max(size.time, 1))
        return torch.stack([here, (frames >= own) & (frames < end)]).float()[:, :, None, None, :]

    def areas(self, size: Size, both: Tensor) -> Tensor:
        return torch.zeros(1, self.own.shape[0], device=self.own.device)

    def label_frames(self, size: Size) -> Tensor:
        frames = torch.arange(self.frames, device=self.own.device)
        theirs = (frames - self.own[:, None]).clamp(0, size.time - 1)
        own = frames.clamp(max=size.time - 1).expand_as(theirs)
        return torch.stack([own, theirs]).unsqueeze(2)

    def warp(self, source: Tensor, k: int) -> Tensor:
        frames = self.label_frames(Size(*source.shape[1:]))[k, :, 0]
        return source.gather(3, frames[:, None, None, :].expand(-1, *source.shape[1:3], -1))

    def mix(self, own: Tensor, *others: Tensor) -> Tensor:
        (partner,) = others
        here, theirs = self.weights(Size(*own.shape[1:])) > 0
        mixed = torch.where(here, self.warp(own, 0), self.fill)
        return torch.where(theirs, self.warp(partner, 1), mixed)
