"""Geometries of a row and its partner: one weight, a rectangle, a resized rectangle, a mask."""

from dataclasses import dataclass

import torch
from torch import Tensor

from randommix_audio.geometry.base import Geometry, Size
from randommix_audio.layout import frame_numbers


@dataclass(frozen=True, eq=False)
class Constant(Geometry):
    """One weight for all bins and frames.

    Attributes:
        own: (n or 1,) float32 in [0, 1].
        some_alone: Whether some rows or frames are not mixed at all; these are copied, because a weight of 0 does not
            keep an infinite value of the other source out.
    """

    own: Tensor
    some_alone: bool = False

    def own_weight(self, size: Size) -> Tensor:
        return self.own.view(-1, 1, 1, 1)

    def partner_area(self, size: Size, both: Tensor) -> Tensor:
        mixed_frames = both if self.span is None else self.span.both
        return (1 - self.own) * (size.freq * mixed_frames)

    def interpolate(self, own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
        mixed = super().interpolate(own, partner, weight)
        if not self.some_alone:
            return mixed
        return torch.where(weight == 1, own, torch.where(weight == 0, partner, mixed))

    def fits(self, size: Size, drawn: Size) -> bool:
        return self.span is None or size.time == drawn.time


@dataclass(frozen=True, eq=False)
class Untouched(Constant):
    """Every row keeps itself; `own` is one."""

    def mix(self, own: Tensor, *others: Tensor) -> Tensor:
        return own.clone()

    def mix_batch(self, x: Tensor, sources: Tensor) -> Tensor:
        return x.clone()


@dataclass(frozen=True, eq=False)
class Box(Geometry):
    """The partner inside a rectangle, the row itself outside.

    Attributes:
        corners: (n or 1, 4) long: first bin, bin after the last, first frame, frame after the last.
    """

    corners: Tensor

    def own_weight(self, size: Size) -> Tensor:
        first_bin, end_bin, first_frame, end_frame = self.corners.view(-1, 4, 1, 1, 1).unbind(1)
        frames = frame_numbers(size.time, self.corners.device)
        bins = frame_numbers(size.freq, self.corners.device).transpose(2, 3)
        return (bins < first_bin) | (bins >= end_bin) | (frames < first_frame) | (frames >= end_frame)

    def partner_area(self, size: Size, both: Tensor) -> Tensor:
        first_bin, end_bin, first_frame, end_frame = self.corners.unbind(1)
        return ((end_bin - first_bin) * (end_frame - first_frame)).float()


@dataclass(frozen=True, eq=False)
class ResizedBox(Box):
    """The whole partner, made smaller, inside a rectangle.

    Attributes:
        step: (n or 1, 2) float32, the partner's bins and frames for each bin and frame of the box.
        partner_valid: (n or 1,) long, valid frames of the partner.
        linear: Linear interpolation between bin and frame centres; else the nearest, as torch.nn.functional.interpolate
            with mode="nearest" chooses it.
    """

    step: Tensor
    partner_valid: Tensor
    linear: bool

    def warp(self, source: Tensor, k: int) -> Tensor:
        if k == 0:
            return source
        freq, time = source.shape[2:]
        moved = _gather_resized(source, self._positions(1, time), 3, self.linear)
        return _gather_resized(moved, self._positions(0, freq), 2, self.linear)

    def label_frames(self, size: Size) -> Tensor:
        theirs = self._positions(1, size.time)
        theirs = theirs.round().long() if self.linear else theirs.long()
        own = torch.arange(size.time, device=theirs.device).expand_as(theirs)
        return torch.stack([own, theirs]).unsqueeze(2)

    def _positions(self, axis: int, size: int) -> Tensor:
        """Where each bin (axis 0) or frame (axis 1) reads the partner, (n or 1, size) float32, in its valid part."""
        offset = torch.arange(size, device=self.corners.device) - self.corners[:, 2 * axis, None]
        step = self.step[:, axis, None]
        last = (self.partner_valid[:, None] if axis else torch.full_like(self.partner_valid[:, None], size)) - 1
        position = (offset + 0.5) * step - 0.5 if self.linear else torch.floor(offset * step)
        return torch.minimum(position.clamp(min=0), last.clamp(min=0).to(position.dtype))


def _gather_resized(x: Tensor, position: Tensor, axis: int, linear: bool) -> Tensor:
    shape = [-1, 1, 1, 1]
    shape[axis] = x.shape[axis]
    target = list(x.shape)
    low = position.long().view(shape)
    below = x.gather(axis, low.expand(target))
    if not linear:
        return below
    above = x.gather(axis, position.ceil().long().view(shape).expand(target))
    return below.lerp(above, (position.view(shape) - low).to(x.dtype))


@dataclass(frozen=True, eq=False)
class Mask(Geometry):
    """The row itself where the mask is true, the partner elsewhere.

    Attributes:
        own: (n or 1, F, T) bool.
    """

    own: Tensor

    def own_weight(self, size: Size) -> Tensor:
        return self.own.unsqueeze(1)

    def partner_area(self, size: Size, both: Tensor) -> Tensor:
        """The mask is true beyond `both` already, so that the whole of it counts."""
        return (~self.own).sum((1, 2), dtype=torch.float32).expand(both.shape)
