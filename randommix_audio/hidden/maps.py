"""Mixing one map, the output of a hidden layer, by a geometry that was drawn for the batch.

Shapes: B rows, C channels, F' bins and T' frames of the map, T frames of the batch.
"""

from dataclasses import replace

import torch
from torch import Tensor

from randommix_audio.geometry import Constant, Geometry, Grouped, Patches, Size, Span
from randommix_audio.hidden.lerp import lerp_partners, works_in_parts

_TIME_AXES = {4: (3, 2), 3: (1, 2), 2: (None,)}


def time_axis_of(ndim: int, time_axis: int | None) -> int | None:
    """Which axis of a map is time; None for a map (B, D), which has none.

    Args:
        ndim: The number of axes of the map.
        time_axis: What the user named; None: the last of (B, C, F', T'), the middle one of (B, T', D).

    Raises:
        ValueError: If a map has other axes than these.
    """
    if ndim not in _TIME_AXES:
        raise ValueError("maps are (B, C, F, T), (B, T, D) or (B, D)")
    usual, *others = _TIME_AXES[ndim]
    if time_axis is None or usual is None:
        return usual
    axis = time_axis % ndim
    if axis not in (usual, *others):
        raise ValueError(f"time_axis={time_axis} is not an axis that can be time")
    return axis


def as_bcft(x: Tensor, time_axis: int | None) -> Tensor:
    """View a map as (B, C, F', T'); the features of (B, T', D) and (B, D) are channels."""
    if x.ndim == 4:
        return x if time_axis == 3 else x.transpose(2, 3)
    if x.ndim == 3:
        return x.unsqueeze(2) if time_axis == 2 else x.transpose(1, 2).unsqueeze(2)
    return x[:, :, None, None]


def from_bcft(x: Tensor, ndim: int, time_axis: int | None) -> Tensor:
    """Undo `as_bcft`."""
    if ndim == 4:
        return x if time_axis == 3 else x.transpose(2, 3)
    if ndim == 3:
        return x.squeeze(2) if time_axis == 2 else x.squeeze(2).transpose(1, 2)
    return x[:, :, 0, 0]


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a map (B, C, F', T') are next to each other in memory."""
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a map, in memory as they were: index_select alone would put the channels first."""
    if is_channels_last(x):
        return x.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    return x.index_select(0, rows)


def frames_of_map(frames: Tensor, map_time: int, time: int) -> Tensor:
    """Valid frames of a map of T' frames whose batch has so many valid ones of T: rounded up."""
    return (frames * map_time + time - 1) // time


def on_map(geometry: Geometry, map_time: int, time: int) -> Geometry:
    """A geometry drawn for T frames, with its lengths in the T' frames of the map."""
    if isinstance(geometry, Grouped):
        return replace(geometry, parts=tuple(on_map(part, map_time, time) for part in geometry.parts))
    span = geometry.span
    if span is None:
        return geometry
    own, both, out = (frames_of_map(frames, map_time, time) for frames in (span.own, span.both, span.out))
    return replace(geometry, span=Span(own, both, out))


def mix_map(
    geometry: Geometry, x: Tensor, partner: Tensor, time_axis: int | None, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mix rows of a map with those of their partners.

    Args:
        geometry: Of n pairs that are nowhere warped, lengths in frames of the map.
        x: The whole map, (B, C, F', T'), (B, T', D) or (B, D).
        partner: (n,) long, the rows that the others are mixed with.
        time_axis: Which axis is time, see `time_axis_of`.
        rows: (n,) long, the rows that are mixed; None: all of `x`.

    Returns:
        The mix, n rows; and the partner's weight, as the mix used it, mean over channels and bins, summed over frames,
        (n,).
    """
    if isinstance(geometry, Grouped):
        mixed = [
            mix_map(part, x, partner[group], time_axis, group if rows is None else rows[group])
            for group, part in zip(geometry.groups, geometry.parts, strict=True)
        ]
        maps, shares = zip(*mixed, strict=True)
        return take_rows(torch.cat(maps), geometry.inverse), torch.cat(shares).index_select(0, geometry.inverse)
    size = Size(*as_bcft(x, time_axis).shape[1:])
    weight = geometry.weight(size)
    # What is mixed has the order in memory of its weights, which is to be that of the map.
    order = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    of_map = from_bcft(weight, x.ndim, time_axis).contiguous(memory_format=order)
    theirs = (~weight).float() if weight.dtype == torch.bool else (1 - weight).to(x.dtype).float()
    taken = theirs.mean((1, 2)).expand(partner.shape[0], size.time).sum(1)
    all_alike = isinstance(geometry, Constant | Patches) and not geometry.some_alone
    if rows is None and all_alike and works_in_parts(x):
        return lerp_partners(x, partner, (1 - of_map).to(x.dtype)), taken
    own = x if rows is None else take_rows(x, rows)
    others = take_rows(x, partner)
    if weight.dtype == torch.bool:
        return torch.where(of_map, own, others), taken
    return geometry.interpolate(own, others, of_map), taken
