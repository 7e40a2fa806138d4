"""How two rows are laid over each other: the weight of the row itself everywhere, and where its partner is read.

Shapes: n rows, F frequency bins, T frames. Every tensor of a geometry has n rows, or one row that all share. A geometry
holds no reference to the data; a mixer draws it once and it is used on any tensor aligned with the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
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
    """

    own: Tensor
    both: Tensor
    out: Tensor

    def limit(self, own_weight: Tensor, time: int) -> Tensor:
        """Restrict the weight of the row itself, (n or 1, 1, F or 1, T or 1), to the frames where both are valid."""
        frames = frame_numbers(time, own_weight.device)
        own, both, out = (limit.view(-1, 1, 1, 1) for limit in (self.own, self.both, self.out))
        own_weight = torch.where(frames < both, own_weight, torch.ones_like(own_weight))
        return torch.where((frames >= own) & (frames < out), torch.zeros_like(own_weight), own_weight)


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

    def mix(self, own: Tensor, partner: Tensor) -> Tensor:
        """Mix rows with their partners, both (n, C, F, T)."""
        weight = self.weight(own.shape[2], own.shape[3])
        partner = self.warp(partner)
        if weight.dtype == torch.bool:
            return torch.where(weight, own, partner)
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
    """

    own: Tensor

    def own_weight(self, freq: int, time: int) -> Tensor:
        return self.own.view(-1, 1, 1, 1)

    def partner_area(self, freq: int, both: Tensor) -> Tensor:
        mixed_frames = both if self.span is None else self.span.both
        return (1 - self.own) * (freq * mixed_frames)

    def fits(self, freq: int, time: int, drawn_freq: int, drawn_time: int) -> bool:
        return self.span is None or time == drawn_time


@dataclass(frozen=True, eq=False)
class Untouched(Constant):
    """Every row keeps itself; `own` is one."""

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
        groups: For each group the (n_k,) long rows of the batch that belong to it; together they are all rows, once.
        parts: The geometry of each group.
        inverse: (n,) long, where each row stands when the groups are written one after the other.
    """

    groups: tuple[Tensor, ...]
    parts: tuple[Geometry, ...]
    inverse: Tensor

    def own_weight(self, freq: int, time: int) -> Tensor:
        parts = [
            part.weight(freq, time).float().expand(rows.shape[0], 1, freq, time)
            for rows, part in zip(self.groups, self.parts, strict=True)
        ]
        return torch.cat(parts).index_select(0, self.inverse)

    def partner_area(self, freq: int, both: Tensor) -> Tensor:
        parts = [
            part.partner_area(freq, both[rows]).expand(rows.shape)
            for rows, part in zip(self.groups, self.parts, strict=True)
        ]
        return torch.cat(parts).index_select(0, self.inverse)

    def warp(self, partner: Tensor) -> Tensor:
        moved = [part.warp(partner.index_select(0, rows)) for rows, part in zip(self.groups, self.parts, strict=True)]
        return torch.cat(moved).index_select(0, self.inverse)

    def partner_frames(self, time: int) -> Tensor | None:
        still = torch.arange(time, device=self.inverse.device)
        parts = [part.partner_frames(time) for part in self.parts]
        if all(part is None for part in parts):
            return None
        moved = [
            (still if part is None else part).expand(rows.shape[0], time)
            for rows, part in zip(self.groups, parts, strict=True)
        ]
        return torch.cat(moved).index_select(0, self.inverse)

    def mix_batch(self, x: Tensor, partner_index: Tensor) -> Tensor:
        mixed = torch.empty_like(x)
        for rows, part in zip(self.groups, self.parts, strict=True):
            own = x.index_select(0, rows)
            partner = x.index_select(0, partner_index.index_select(0, rows))
            mixed.index_copy_(0, rows, part.mix(own, partner))
        return mixed

    def fits(self, freq: int, time: int, drawn_freq: int, drawn_time: int) -> bool:
        return all(part.fits(freq, time, drawn_freq, drawn_time) for part in self.parts)


_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Span, Constant, Untouched, Box, ResizedBox, Mask, Grouped)}


def pack(value: Any) -> Any:
    """Turn a geometry into nested dicts and lists that hold nothing but tensors, keyed by the names of its classes."""
    if isinstance(value, tuple):
        return [pack(item) for item in value]
    if type(value).__name__ in _KINDS:
        parts = {item.name: getattr(value, item.name) for item in fields(value)}
        return {type(value).__name__: {name: pack(part) for name, part in parts.items() if part is not None}}
    return torch.tensor(value) if isinstance(value, bool) else value


def unpack(packed: Any) -> Any:
    """Undo `pack`.

    Raises:
        ValueError: If a name is not one of a geometry of this version.
    """
    if isinstance(packed, list):
        return tuple(unpack(item) for item in packed)
    if isinstance(packed, dict):
        (name, parts), *rest = packed.items()
        if name not in _KINDS or rest:
            raise ValueError(f"not a geometry of this version: {', '.join(packed)}")
        return _KINDS[name](**{key: unpack(part) for key, part in parts.items()})
    return bool(packed) if packed.dtype == torch.bool and packed.ndim == 0 else packed


def map_tensors(packed: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply `function` to every tensor of a packed geometry."""
    if isinstance(packed, list):
        return [map_tensors(item, function) for item in packed]
    if isinstance(packed, dict):
        return {key: map_tensors(part, function) for key, part in packed.items()}
    return function(packed)
