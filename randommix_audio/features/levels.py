"""From mel power to logarithmic levels and back, and the reductions that belong to one clip each."""

import math

import torch
from torch import Tensor

LOGS = ("db", "log10", "ln")
FLOOR_MODES = ("clamp", "add")
_UNITS_PER_NEPER = {"db": 10.0 / math.log(10.0), "log10": 1.0 / math.log(10.0), "ln": 1.0}


def power_to_level(power: Tensor, log: str, floor: float, floor_mode: str) -> Tensor:
    """The logarithm of a power, kept from falling below that of ``floor``.

    Args:
        power: Any shape, at least 0.
        log: "db" (10 log10), "log10" or "ln".
        floor: Least power told apart from silence.
        floor_mode: "clamp" raises smaller powers to the floor, "add" adds the floor to all.
    """
    safe = power + floor if floor_mode == "add" else power.clamp(min=floor)
    if log == "ln":
        return safe.log()
    return safe.log10() if log == "log10" else 10.0 * safe.log10()


def level_to_power(level: Tensor, log: str, floor: float, floor_mode: str) -> Tensor:
    """The inverse of power_to_level; powers that it had raised to the floor stay there."""
    power = (level / _UNITS_PER_NEPER[log]).exp()
    return (power - floor).clamp(min=0.0) if floor_mode == "add" else power


def decibels_per_unit(log: str) -> float:
    """How many decibels one unit of the logarithm is."""
    return _UNITS_PER_NEPER["db"] / _UNITS_PER_NEPER[log]


def clip_peak(level: Tensor, valid: Tensor | None) -> Tensor:
    """The largest value of each clip over its bands and valid frames.

    Args:
        level: (B, F, T).
        valid: (B, 1, T) bool, or None where every frame is valid.

    Returns:
        (B, 1, 1); the lowest float32 for a clip without a valid frame.
    """
    if valid is not None:
        level = level.masked_fill(~valid, torch.finfo(level.dtype).min)
    return level.amax(dim=(1, 2), keepdim=True)


def standardise_bands(level: Tensor, valid: Tensor | None, epsilon: float = 1e-5) -> Tensor:
    """Give every band of every clip mean 0 and deviation 1 over its valid frames (NeMo's per_feature).

    Args:
        level: (B, F, T).
        valid: (B, 1, T) bool, or None where every frame is valid.
        epsilon: Added to the deviation, which is the unbiased one; a single frame has deviation 0.
    """
    if valid is None:
        valid = torch.ones_like(level[:, :1], dtype=torch.bool)
    count = valid.sum(dim=2, keepdim=True)  # (B, 1, 1)
    mean = level.masked_fill(~valid, 0.0).sum(dim=2, keepdim=True) / count.clamp(min=1)
    centred = (level - mean).masked_fill(~valid, 0.0)
    variance = centred.square().sum(dim=2, keepdim=True) / (count - 1).clamp(min=1)
    # sqrt has no finite gradient at 0, where a constant band or a single frame lands
    positive = variance > 0
    deviation = torch.where(positive, variance, 1.0).sqrt().where(positive, 0.0)
    return centred / (deviation + epsilon)
