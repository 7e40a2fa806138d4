"""Geometries as plain tensors: moved to another device, stored and read back."""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from randommix_audio.geometry.base import Span
from randommix_audio.geometry.blocks import Blocks
from randommix_audio.geometry.gains import Gains
from randommix_audio.geometry.grouped import Grouped
from randommix_audio.geometry.holes import Holes
from randommix_audio.geometry.joined import Joined
from randommix_audio.geometry.pairs import Box, Constant, Mask, ResizedBox, Untouched
from randommix_audio.geometry.patches import Patches

_GEOMETRIES = (Constant, Untouched, Gains, Box, ResizedBox, Mask, Holes, Blocks, Joined, Patches, Grouped)
_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Span, *_GEOMETRIES)}


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
    if isinstance(value, bool | int | float):
        kind = torch.bool if isinstance(value, bool) else torch.int64 if isinstance(value, int) else torch.float64
        return torch.tensor(value, dtype=kind)
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
