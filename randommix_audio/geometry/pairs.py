"""Geometries of a row and its partner: one weight, a rectangle, a resized rectangle, a mask."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from randommix_audio.geometry.base import Geometry, Size
from randommix_audio.geometry.in_place import keep_inside, row_slices, take_rows
from randommix_audio.layout import frame_numbers


@dataclass(frozen=True, eq=False)
class Constant(Geometry):
    """One weight for all bins and frames.

    Attributes:
        own: (n or 1,) float32 in [0, 1].
        some_alone: Whether some rows or frames are not mixed at all; these are copied, because a weight of 0 does not
            keep an infinite value of the other source out.
        theirs: 1 - own as a number, where all rows and frames share it and it was drawn on the host.
    """

    own: Tensor
    some_alone: bool = False
    theirs: float | None = field(default=None, kw_only=True)

    def known_share(self, size: Size) -> float | None:
        return self.theirs

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

    def mix_into(self, out: Tensor, x: Tensor, sources: Tensor, rows: Tensor | None = None) -> None:
        own = x if rows is None else x.index_select(0, rows)
        if self.neper is not None:
            self.mix_parts(out, x, own, sources[1])
            return
        if self.theirs is not None:
            for part in row_slices(out):
                target = torch.index_select(x, 0, sources[1, part], out=out[part])
                torch.lerp(own[part], target, self.theirs, out=target)
            return
        weight = self.weight(Size(*x.shape[1:]))
        theirs = (1 - weight).to(x.dtype)
        for part in row_slices(out):
            of_own, of_theirs, target = own[part], take_rows(theirs, part), out[part]
            partner = target if self.span is None else torch.empty_like(target)
            torch.index_select(x, 0, sources[1, part], out=partner)
            torch.lerp(of_own, partner, of_theirs, out=target)
            if self.some_alone:
                keep_inside(partner, of_own, take_rows(weight, part) < 1)
            if self.some_alone and self.span is not None:
                keep_inside(target, partner, (of_theirs > 0) & (of_theirs < 1))
        self.fill_cut_off(out)

    def mix_in_place(self, x: Tensor, sources: Tensor) -> None:
        if self.span is not None or self.some_alone or self.neper is not None:
            super().mix_in_place(x, sources)
        else:
            theirs = (1 - self.own).to(x.dtype).view(-1, 1, 1, 1) if self.theirs is None else self.theirs
            x.lerp_(torch.index_select(x, 0, sources[1], out=torch.empty_like(x)), theirs)

    def fits(self, size: Size, drawn: Size) -> bool:
        return self.span is None or size.time == drawn.time


@dataclass(frozen=True, eq=False)
class Untouched(Constant):
    """Every row keeps itself; `own` is one."""

    def mix(self, own: Tensor, *others: Tensor) -> Tensor:
        return own.clone()

    def mix_batch(self, x: Tensor, sources: Tensor) -> Tensor:
        return x.clone()

    def mix_into(self, out: Tensor, x: Tensor, sources: Tensor, rows: Tensor | None = None) -> None:
        out.copy_(x if rows is None else x.index_select(0, rows))

    def mix_in_place(self, x: Tensor, sources: Tensor) -> None:
        pass


@dataclass(frozen=True, eq=False)
class Box(Geometry):
    """The partner inside a rectangle, the row itself outside.

    Attributes:
        corners: (n or 1, 4) long: first bin, bin after the last, first frame, frame after the last.
        edges: The same as numbers, where all rows share them and they were drawn on the host: a slice will do then.
            Compiled code reads `corners` alone, because numbers would compile it anew for every rectangle.
    """

    corners: Tensor
    edges: tuple[int, ...] | None = field(default=None, kw_only=True)

    _steps: ClassVar[int] = 1  # temporaries of the size of a part that a gather makes

    def known_share(self, size: Size) -> float | None:
        if self.edges is None:
            return None
        first_bin, end_bin, first_frame, end_frame = self.edges
        return (end_bin - first_bin) * (end_frame - first_frame) / (size.freq * size.time)

    def own_weight(self, size: Size) -> Tensor:
        bins, frames = self.sides(size)
        return ~(bins & frames)

    def partner_area(self, size: Size, both: Tensor) -> Tensor:
        first_bin, end_bin, first_frame, end_frame = self.corners.unbind(1)
        return ((end_bin - first_bin) * (end_frame - first_frame)).float()

    def sides(self, size: Size) -> tuple[Tensor, Tensor]:
        """Which bins, (n or 1, 1, F, 1), and which frames, (n or 1, 1, 1, T), lie inside; bool."""
        first_bin, end_bin, first_frame, end_frame = self.corners.view(-1, 4, 1, 1, 1).unbind(1)
        frames = frame_numbers(size.time, self.corners.device)
        bins = frame_numbers(size.freq, self.corners.device).transpose(2, 3)
        return (bins >= first_bin) & (bins < end_bin), (frames >= first_frame) & (frames < end_frame)

    def mix_into(self, out: Tensor, x: Tensor, sources: Tensor, rows: Tensor | None = None) -> None:
        own = x if rows is None else x.index_select(0, rows)
        if self.edges is not None:
            out.copy_(own)
            self._paste(out, x, sources[1], self.edges)
            return
        size = Size(*x.shape[1:])
        inside = self.sides(size) if self.span is None else (~self.weight(size),)
        x = self._readable(x)
        for part in row_slices(out, self._steps * out.element_size()):
            self._gather(out[part], x, sources[1], part)
            keep_inside(out[part], own[part], *(take_rows(mask, part) for mask in inside))
        self.fill_cut_off(out)

    def mix_in_place(self, x: Tensor, sources: Tensor) -> None:
        if self.edges is None:
            super().mix_in_place(x, sources)
        else:
            self._paste(x, x, sources[1], self.edges)

    def _readable(self, x: Tensor) -> Tensor:
        """The batch as `_gather` reads it."""
        return x

    def _paste(self, out: Tensor, x: Tensor, partner: Tensor, edges: tuple[int, ...]) -> None:
        """Put the partners' rectangle into `out`, which may be `x`."""
        first_bin, end_bin, first_frame, end_frame = edges
        if first_bin == end_bin or first_frame == end_frame:
            return
        inside = (..., slice(first_bin, end_bin), slice(first_frame, end_frame))
        theirs = x[inside]
        if out is x:
            theirs.copy_(theirs.index_select(0, partner))
        else:
            torch.index_select(theirs, 0, partner, out=out[inside])

    def _gather(self, out: Tensor, x: Tensor, partner: Tensor, part: slice) -> None:
        """Put the partners of some rows, (n,), into `out`, as the weights expect them."""
        torch.index_select(x, 0, partner[part], out=out)


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

    _steps: ClassVar[int] = 2

    def warp(self, source: Tensor, k: int) -> Tensor:
        if k == 0:
            return source
        freq, time = source.shape[2:]
        moved = _gather_resized(source, self._positions(1, time), 3, self.linear)
        return _gather_resized(moved, self._positions(0, freq), 2, self.linear)

    def _readable(self, x: Tensor) -> Tensor:
        return x.contiguous()

    def mix_in_place(self, x: Tensor, sources: Tensor) -> None:
        Geometry.mix_in_place(self, x, sources)  # a partner must be read before any part of it is overwritten

    def _paste(self, out: Tensor, x: Tensor, partner: Tensor, edges: tuple[int, ...]) -> None:
        first_bin, end_bin, first_frame, end_frame = edges
        bins = self._positions(0, x.shape[2])[:, first_bin:end_bin]
        frames = self._positions(1, x.shape[3])[:, first_frame:end_frame]
        x, inside = self._readable(x), out[..., first_bin:end_bin, first_frame:end_frame]
        for part in row_slices(out):
            lines = _gather_bins(x, partner[part], bins, self.linear)
            _gather_resized(lines, frames, 3, self.linear, out=inside[part])

    def _gather(self, out: Tensor, x: Tensor, partner: Tensor, part: slice) -> None:
        bins, frames = (take_rows(self._positions(axis, x.shape[2 + axis]), part) for axis in (0, 1))
        _gather_resized(_gather_bins(x, partner[part], bins, self.linear), frames, 3, self.linear, out=out)

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


def _gather_resized(x: Tensor, position: Tensor, axis: int, linear: bool, out: Tensor | None = None) -> Tensor:
    """Read rows at places of their own along an axis, (n or 1, m); (n, C, F, m) for axis 3."""
    shape = [-1, 1, 1, 1]
    shape[axis] = position.shape[1]
    target = list(x.shape)
    target[axis] = position.shape[1]
    low = position.long().view(shape)
    below = x.gather(axis, low.expand(target)) if out is None else torch.gather(x, axis, low.expand(target), out=out)
    if not linear:
        return below
    above = x.gather(axis, position.ceil().long().view(shape).expand(target))
    return below.lerp_(above, (position.view(shape) - low).to(x.dtype))


def _gather_bins(x: Tensor, rows: Tensor, position: Tensor, linear: bool) -> Tensor:
    """Read some rows, (m,), at h places of their own along frequency, (m or 1, h), all frames; (m, C, h, T)."""
    _, channels, freq, time = x.shape
    lines = x.reshape(-1, time)
    first = (rows[:, None] * channels + torch.arange(channels, device=x.device))[:, :, None] * freq
    shape = (rows.shape[0], channels, position.shape[1], time)
    low = position.long()[:, None]
    below = lines.index_select(0, (first + low).flatten()).view(shape)
    if not linear:
        return below
    above = lines.index_select(0, (first + position.ceil().long()[:, None]).flatten()).view(shape)
    return below.lerp_(above, (position[:, None] - low).to(x.dtype)[..., None])


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
        own = (
            self.own.view(torch.uint8).flatten(1).sum(1, dtype=torch.int32)
        )  # adding bools takes several times as long
        return (self.own[0].numel() - own).float().expand(both.shape)

    def mix_into(self, out: Tensor, x: Tensor, sources: Tensor, rows: Tensor | None = None) -> None:
        own = x if rows is None else x.index_select(0, rows)
        theirs = ~self.weight(Size(*x.shape[1:]))
        for part in row_slices(out):
            torch.index_select(x, 0, sources[1, part], out=out[part])
            keep_inside(out[part], own[part], take_rows(theirs, part))
        self.fill_cut_off(out)
