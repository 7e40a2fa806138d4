"""What a mixer is given, read and checked: the batch, its lengths, which rows may be mixed, and single arguments."""

from collections.abc import Sequence

import torch
from torch import Tensor

from randommix_audio.layout import resolve_layout, to_bcft
from randommix_audio.transfer import to_device

Schedule = float | Sequence[Sequence[float]]


def read_batch(x: Tensor, layout: str | None) -> tuple[str, Tensor]:
    """The axis order of a batch, and the batch as (B, C, F, T)."""
    if not isinstance(x, Tensor):
        raise TypeError(f"a batch must be a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"only floating-point batches can be mixed, got {x.dtype}")
    name = resolve_layout(x, layout)
    canonical = to_bcft(x, name)
    if 0 in canonical.shape[1:]:
        raise ValueError(f"a batch without channels, bins or frames cannot be mixed: {tuple(x.shape)} as {name}")
    return name, canonical


def check_lengths(lengths: Tensor | None, batch: int, time: int, device: torch.device) -> Tensor | None:
    """Valid frame counts, (B,) long on the device; None stays None.

    Raises:
        TypeError: If they are not integers.
        ValueError: If there is not one for each row, or one on the CPU lies outside [0, T].
    """
    if lengths is None:
        return None
    if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        found = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"lengths must be a tensor of valid frame counts, got {found}; multiply relative lengths by T")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), got {tuple(lengths.shape)}")
    if type(lengths) is Tensor and lengths.device.type == "cpu" and ((lengths < 0) | (lengths > time)).any():
        raise ValueError(f"lengths must lie in [0, {time}] frames, got {lengths.min()} to {lengths.max()}")
    return to_device(lengths, device).long().clamp(0, time)


def check_rows(rows: Tensor | None, batch: int, device: torch.device) -> Tensor | None:
    """Which rows may be mixed, (B,) bool on the device; None stays None.

    Raises:
        TypeError: If they are not bool.
        ValueError: If there is not one for each row.
    """
    if rows is None:
        return None
    if not isinstance(rows, Tensor) or rows.dtype != torch.bool:
        raise TypeError(f"rows must be a bool tensor, got {rows.dtype if isinstance(rows, Tensor) else rows!r}")
    if rows.shape != (batch,):
        raise ValueError(f"rows must have shape ({batch},), got {tuple(rows.shape)}")
    return to_device(rows, device)


def read_schedule(p: Schedule) -> list[tuple[float, float]]:
    """Read `p` as (progress, p) points in order of progress."""
    message = f"p must lie in [0, 1], or be a list of (progress, p) pairs that do, got {p!r}"
    if isinstance(p, str):
        raise ValueError(message)
    try:
        points = [(0.0, float(p))] if isinstance(p, int | float) else [(float(at), float(value)) for at, value in p]
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error
    if not points or any(not 0 <= number <= 1 for point in points for number in point):
        raise ValueError(message)
    if points != sorted(points, key=lambda point: point[0]):
        raise ValueError(f"the schedule of p must be in order of progress, got {p!r}")
    return points


def check_choice(argument: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ValueError: Naming the argument, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(choices)}; got {value!r}")


def check_alpha(alpha: float) -> float:
    """Refuse a parameter of the Beta distribution that is not above 0.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be a number above 0, got {alpha!r}; for no mixing use p=0 or the method none")
    return float(alpha)
