"""Rows of one batch that are mixed by different methods."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from randommix_audio.geometry.base import Geometry, Size
from randommix_audio.geometry.joined import Joined


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

    @property
    def others(self) -> int:
        return max(part.others for part in self.parts)

    def output_time(self, time: int) -> int:
        return max(part.output_time(time) for part in self.parts)

    def overlap(self) -> Tensor | None:
        overlaps = [part.overlap() for part in self.parts]
        if all(overlap is None for overlap in overlaps):
            return None
        whole = torch.full((1,), torch.iinfo(torch.int64).max, device=self.inverse.device)
        return self._in_order(self._each_row([whole if one is None else one for one in overlaps], 0), 0)

    def joined(self) -> Tensor | None:
        joined = [part.joined() for part in self.parts]
        if all(one is None for one in joined):
            return None
        none = torch.zeros(1, dtype=torch.bool, device=self.inverse.device)
        return self._in_order(self._each_row([none if one is None else one for one in joined], 0), 0)

    def weights(self, size: Size) -> Tensor:
        weights = [part.weights(size) for part in self.parts]
        channels = max(weight.shape[2] for weight in weights)
        same = [
            weight.expand(-1, -1, channels, size.freq, part.output_time(size.time))
            for part, weight in zip(self.parts, weights, strict=True)
        ]
        return self._in_order(self._alike(_as_long(same, self.output_time(size.time))), 1)

    def areas(self, size: Size, both: Tensor) -> Tensor:
        areas = [part.areas(size, both[rows]) for rows, part in zip(self.groups, self.parts, strict=True)]
        return self._in_order(_with_sources(self._each_row(areas, 1), self.others), 1)

    def label_weights(self, size: Size) -> Tensor:
        weights = [part.label_weights(size).expand(-1, -1, -1, part.output_time(size.time)) for part in self.parts]
        return self._in_order(self._alike(_with_bands(_as_long(weights, self.output_time(size.time)))), 1)

    def label_frames(self, size: Size) -> Tensor | None:
        moved = [part.label_frames(size) for part in self.parts]
        if all(frames is None for frames in moved):
            return None
        bands = [part.label_weights(size).shape[2] for part in self.parts]
        still = torch.arange(size.time, device=self.inverse.device)
        frames = [
            still.expand(part.others + 1, 1, most, -1) if one is None else one
            for part, one, most in zip(self.parts, moved, bands, strict=True)
        ]
        return self._in_order(self._alike(_with_bands(_as_long(frames, self.output_time(size.time)))), 1)

    def warp(self, source: Tensor, k: int) -> Tensor:
        moved = [
            part.warp(source.index_select(0, rows), k) if k <= part.others else source.index_select(0, rows)
            for rows, part in zip(self.groups, self.parts, strict=True)
        ]
        return self._in_order(_as_long(moved, self.output_time(source.shape[3])), 0)

    def mix_batch(self, x: Tensor, sources: Tensor) -> Tensor:
        mixed = []
        for rows, part in zip(self.groups, self.parts, strict=True):
            of_group = sources.index_select(1, rows)[1 : 1 + part.others]
            mixed.append(part.mix(x.index_select(0, rows), *(x.index_select(0, source) for source in of_group)))
        return self._in_order(_as_long(mixed, self.output_time(x.shape[3]), self._fill()), 0)

    def mix_into(self, out: Tensor, x: Tensor, sources: Tensor, rows: Tensor | None = None) -> None:
        mixed = x.new_empty(sum(group.shape[0] for group in self.groups), *out.shape[1:])
        first = 0
        for group, part in zip(self.groups, self.parts, strict=True):
            end = first + group.shape[0]
            own_time = part.output_time(x.shape[3])
            part.mix_into(mixed[first:end, ..., :own_time], x, sources.index_select(1, group), group)
            mixed[first:end, ..., own_time:] = self._fill()
            first = end
        torch.index_select(mixed, 0, self.inverse, out=out)

    def fits(self, size: Size, drawn: Size) -> bool:
        return all(part.fits(size, drawn) for part in self.parts)

    def _fill(self) -> float:
        """What stands behind a row where another one's output is longer."""
        return next((part.fill for part in self.parts if isinstance(part, Joined)), 0.0)

    def _alike(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Give every part an entry for each row and for each of the K sources; a missing source has 0."""
        return _with_sources(self._each_row(values, 1), self.others + 1)

    def _each_row(self, values: Sequence[Tensor], axis: int) -> list[Tensor]:
        """Give every row of a group an entry where the group shares one."""
        sizes = [[-1] * axis + [rows.shape[0]] + [-1] * (value.ndim - axis - 1) for rows, value in self._with(values)]
        return [value.expand(*size) for value, size in zip(values, sizes, strict=True)]

    def _with(self, values: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.groups, values, strict=True))

    def _in_order(self, values: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(list(values), axis).index_select(axis, self.inverse)


def _as_long(values: Sequence[Tensor], time: int, fill: float = 0.0) -> list[Tensor]:
    """Pad the last axis, frames, to the longest output."""
    return [
        value if value.shape[-1] == time else F.pad(value, [0, time - value.shape[-1]], value=fill) for value in values
    ]


def _with_sources(values: Sequence[Tensor], count: int) -> list[Tensor]:
    """Pad the first axis with zeros to `count`."""
    return [F.pad(value, [0, 0] * (value.ndim - 1) + [0, count - value.shape[0]]) for value in values]


def _with_bands(values: Sequence[Tensor]) -> list[Tensor]:
    """Pad the third axis of (K, n, R, T) with zeros to the most bands of any."""
    most = max(value.shape[2] for value in values)
    return [F.pad(value, [0, 0, 0, most - value.shape[2]]) for value in values]
