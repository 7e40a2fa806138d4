"""How two rows are laid over each other: the weight of the row itself everywhere, and where its partner is read.

Shapes: n rows, F frequency bins, T frames. Every tensor of a geometry has n rows, or one row that all share. A geometry
holds no reference to the data; a mixer draws it once and it is used on any tensor aligned with the batch.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from randommix_audio.layout import frame_numbers


@dataclass(frozen=True, eq=False)
class Span:
    """What happens along time when a row and its partner differ in length.

    Beyond `both` the source that is still valid stands alone: the row itself, or its partner from `own` to `out`.

    Attributes:
        own: (n,) valid frames of the row.
        both: (n,) frames over which the two are mixed; 0 for a row that is not mixed.
        out: (n,) valid frames of the output.
        fill: What stands from `out` to `own` where the output is shorter than the row; None: it is never shorter.
    """

    own: Tensor
    both: Tensor
    out: Tensor
    fill: float | None = None

    def limit(self, own_weight: Tensor, time: int) -> Tensor:
        """Restrict the weight of the row itself, (n or 1, 1, F or 1, T or 1), to the frames where both are valid."""
        frames = frame_numbers(time, own_weight.device)
        own, both, out = (limit.view(-1, 1, 1, 1) for limit in (self.own, self.both, self.out))
        own_weight = torch.where(frames < both, own_weight, torch.ones_like(own_weight))
        return torch.where((frames >= own) & (frames < out), torch.zeros_like(own_weight), own_weight)

    def cut_off(self, time: int) -> Tensor | None:
        """The row's frames beyond the output's end, (n, 1, 1, T) bool; None where there are none."""
        if self.fill is None:
            return None
        frames = frame_numbers(time, self.own.device)
        return (frames >= self.out.view(-1, 1, 1, 1)) & (frames < self.own.view(-1, 1, 1, 1))


@dataclass(frozen=True, eq=False)
class Geometry:
    """Base of the geometries below."""

    span: Span | None = field(default=None, kw_only=True)

    def own_weight(self, freq: int, time: int) -> Tensor:
        """Weight of the row itself, float32 or bool, broadcastable to (n, 1, F, T); `span` not yet regarded."""
        raise TypeError(f"{type(self).__name__} defines no weight")

    def partner_area(self, freq: int, both: Tensor) -> Tensor:
        """The partner's weight summed over F bins and the frames [0, both), (n,) float32."""
        raise TypeError(f"{type(self).__name__} defines no area")

    def warp(self, partner: Tensor) -> Tensor:
        """Move the partner, (n, C, F, T), to where the weights expect it."""
        return partner

    def partner_frames(self, time: int) -> Tensor | None:
        """The partner's frame that stands at each frame, (n, T) long; None where frames stay where they are."""
        return None

    def weight(self, freq: int, time: int) -> Tensor:
        """Weight of the row itself, float32 or bool, broadcastable to (n, 1, F, T)."""
        own_weight = self.own_weight(freq, time)
        return own_weight if self.span is None else self.span.limit(own_weight, time)

    def cut_off(self, time: int) -> Tensor | None:
        """Frames where neither source counts, (n, 1, 1, T) bool; None where there are none."""
        return None if self.span is None else self.span.cut_off(time)

    def mix(self, own: Tensor, partner: Tensor) -> Tensor:
        """Mix rows with their partners, both (n, C, F, T)."""
        weight = self.weight(own.shape[2], own.shape[3])
        partner = self.warp(partner)
        if weight.dtype == torch.bool:
            mixed = torch.where(weight, own, partner)
        else:
            mixed = self.interpolate(own, partner, weight)
        cut_off = self.cut_off(own.shape[3])
        if cut_off is None or self.span is None or self.span.fill is None:
            return mixed
        return mixed.masked_fill(cut_off, self.span.fill)

    def interpolate(self, own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
        """Mix by weights between 0 and 1."""
        return own.lerp(partner, (1 - weight).to(own.dtype))

    def mix_batch(self, x: Tensor, partner_index: Tensor) -> Tensor:
        """Mix a batch, (B, C, F, T), whose row i has the partner `partner_index[i]`."""
        return self.mix(x, x.index_select(0, partner_index))

    def fits(self, freq: int, time: int, drawn_freq: int, drawn_time: int) -> bool:
        """Whether a map of F x T can be mixed, given the size that the geometry was drawn for."""
        return (freq, time) == (drawn_freq, drawn_time)


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

    def own_weight(self, freq: int, time: int) -> Tensor:
        return self.own.view(-1, 1, 1, 1)

    def partner_area(self, freq: int, both: Tensor) -> Tensor:
        mixed_frames = both if self.span is None else self.span.both
        return (1 - self.own) * (freq * mixed_frames)

    def interpolate(self, own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
        mixed = super().interpolate(own, partner, weight)
        if not self.some_alone:
            return mixed
        return torch.where(weight == 1, own, torch.where(weight == 0, partner, mixed))

    def fits(self, freq: int, time: int, drawn_freq: int, drawn_time: int) -> bool:
        return self.span is None or time == drawn_time


@dataclass(frozen=True, eq=False)
class Untouched(Constant):
    """Every row keeps itself; `own` is one."""

    def mix(self, own: Tensor, partner: Tensor) -> Tensor:
        return own.clone()

    def mix_batch(self, x: Tensor, partner_index: Tensor) -> Tensor:
        return x.clone()


@dataclass(frozen=True, eq=False)
class Box(Geometry):
    """The partner inside a rectangle, the row itself outside.

    Attributes:
        corners: (n or 1, 4) long: first bin, bin after the last, first frame, frame after the last.
    """

    corners: Tensor

    def own_weight(self, freq: int, time: int) -> Tensor:
        first_bin, end_bin, first_frame, end_frame = self.corners.view(-1, 4, 1, 1, 1).unbind(1)
        frames = frame_numbers(time, self.corners.device)
        bins = frame_numbers(freq, self.corners.device).transpose(2, 3)
        return (bins < first_bin) | (bins >= end_bin) | (frames < first_frame) | (frames >= end_frame)

    def partner_area(self, freq: int, both: Tensor) -> Tensor:
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

    def warp(self, partner: Tensor) -> Tensor:
        freq, time = partner.shape[2:]
        moved = _gather_resized(partner, self._positions(1, time), 3, self.linear)
        return _gather_resized(moved, self._positions(0, freq), 2, self.linear)

    def partner_frames(self, time: int) -> Tensor:
        return self._positions(1, time).round().long() if self.linear else self._positions(1, time).long()

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

    def own_weight(self, freq: int, time: int) -> Tensor:
        return self.own.unsqueeze(1)

    def partner_area(self, freq: int, both: Tensor) -> Tensor:
        """The mask is true beyond `both` already, so that the whole of it counts."""
        return (~self.own).sum((1, 2), dtype=torch.float32).expand(both.shape)


@dataclass(frozen=True, eq=False)
class Grouped(Geometry):
    """A geometry of its own for each group of rows.

    Attributes:
        groups: For each group the (n_k,) long rows of the batch that belong to it. A group may be padded with rows that
            are read nowhere, so that the number of groups does not depend on what was drawn.
        parts: The geometry of each group.
        inverse: (n,) long, where each row stands when the groups are written one after the other.
    """

    groups: tuple[Tensor, ...]
    parts: tuple[Geometry, ...]
    inverse: Tensor

    def own_weight(self, freq: int, time: int) -> Tensor:
        weights = [part.weight(freq, time).float() for part in self.parts]
        return self._in_order([weight.expand(-1, 1, freq, time) for weight in self._each_row(weights)])

    def partner_area(self, freq: int, both: Tensor) -> Tensor:
        areas = [part.partner_area(freq, both[rows]) for rows, part in zip(self.groups, self.parts, strict=True)]
        return self._in_order(self._each_row(areas))

    def cut_off(self, time: int) -> Tensor | None:
        cuts = [part.cut_off(time) for part in self.parts]
        if all(cut is None for cut in cuts):
            return None
        none = torch.zeros(1, 1, 1, time, dtype=torch.bool, device=self.inverse.device)
        return self._in_order(self._each_row([none if cut is None else cut for cut in cuts]))

    def warp(self, partner: Tensor) -> Tensor:
        return self._in_order(
            [part.warp(partner.index_select(0, rows)) for rows, part in zip(self.groups, self.parts, strict=True)]
        )

    def partner_frames(self, time: int) -> Tensor | None:
        moved = [part.partner_frames(time) for part in self.parts]
        if all(frames is None for frames in moved):
            return None
        still = torch.arange(time, device=self.inverse.device)[None]
        return self._in_order(self._each_row([still if frames is None else frames for frames in moved]))

    def mix_batch(self, x: Tensor, partner_index: Tensor) -> Tensor:
        mixed = []
        for rows, part in zip(self.groups, self.parts, strict=True):
            partner = x.index_select(0, partner_index.index_select(0, rows))
            mixed.append(part.mix(x.index_select(0, rows), partner))
        return self._in_order(mixed)

    def fits(self, freq: int, time: int, drawn_freq: int, drawn_time: int) -> bool:
        return all(part.fits(freq, time, drawn_freq, drawn_time) for part in self.parts)

    def _each_row(self, values: list[Tensor]) -> list[Tensor]:
        """Give every row of a group an entry where the group shares one."""
        return [value.expand(rows.shape[0], *value.shape[1:]) for rows, value in zip(self.groups, values, strict=True)]

    def _in_order(self, values: list[Tensor]) -> Tensor:
        return torch.cat(values).index_select(0, self.inverse)


_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Span, Constant, Untouched, Box, ResizedBox, Mask, Grouped)}


def move(value: Any, device: torch.device | str) -> Any:
    """A geometry, or any part of one, on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(move(item, device) for item in value)
    if type(value).__name__ in _KINDS:
        return replace(value, **{item.name: move(getattr(value, item.name), device) for item in fields(value)})
    return value


def pack(value: Any) -> Any:
    """Turn a geometry into nested dicts and lists that hold nothing but tensors, keyed by the names of its classes."""
    if isinstance(value, tuple):
        return [pack(item) for item in value]
    if type(value).__name__ in _KINDS:
        parts = {item.name: getattr(value, item.name) for item in fields(value)}
        return {type(value).__name__: {name: pack(part) for name, part in parts.items() if part is not None}}
    if isinstance(value, bool | float):
        return torch.tensor(value, dtype=torch.bool if isinstance(value, bool) else torch.float64)
    return value


def unpack(packed: Any) -> Any:
    """Undo `pack`.

    Raises:
        ValueError: If it is not a geometry of this version.
    """
    if isinstance(packed, list):
        return tuple(unpack(item) for item in packed)
    if isinstance(packed, dict):
        if len(packed) != 1 or next(iter(packed)) not in _KINDS:
            raise ValueError(f"not a geometry of this version: {', '.join(map(str, packed))}")
        ((name, parts),) = packed.items()
        try:
            return _KINDS[name](**{key: unpack(part) for key, part in parts.items()})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a {name}: {error}") from error
    return packed.item() if packed.ndim == 0 else packed
