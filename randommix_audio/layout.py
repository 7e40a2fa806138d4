"""Axis orders: every input becomes a (batch, channel, frequency, time) view, and goes back the same way."""

import torch
from torch import Tensor

LAYOUTS = ("BCFT", "BFT", "BTF", "BT")
_BY_RANK = {4: "BCFT", 3: "BFT", 2: "BT"}


def resolve_layout(x: Tensor, layout: str | None) -> str:
    """Name the axis order of `x`.

    Args:
        x: The batch.
        layout: One of `LAYOUTS`, or None for the usual order of that rank: 4-D BCFT, 3-D BFT, 2-D BT.

    Raises:
        ValueError: If the layout is unknown, or does not have as many axes as `x`.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)} or None, got {layout!r}")
    name = layout or _BY_RANK.get(x.ndim)
    if name is None or len(name) != x.ndim:
        expected = layout or "a batch of 2 (BT), 3 (BFT) or 4 (BCFT) axes"
        raise ValueError(f"expected {expected}, got a tensor of shape {tuple(x.shape)}")
    return name


def layout_of_companion(x: Tensor, layout: str) -> str:
    """The axis order of a tensor that travels with a batch of axis order `layout`: BTF stays BTF where x is 3-D."""
    return layout if len(layout) == x.ndim else resolve_layout(x, None)


def to_bcft(x: Tensor, layout: str) -> Tensor:
    """View `x` as (B, C, F, T); axes that it lacks have size 1."""
    if layout == "BCFT":
        return x
    if layout == "BFT":
        return x.unsqueeze(1)
    if layout == "BTF":
        return x.transpose(1, 2).unsqueeze(1)
    return x[:, None, None, :]


def from_bcft(x: Tensor, layout: str) -> Tensor:
    """Undo `to_bcft`."""
    if layout == "BCFT":
        return x
    if layout == "BFT":
        return x.squeeze(1)
    if layout == "BTF":
        return x.squeeze(1).transpose(1, 2)
    return x[:, 0, 0, :]


def frame_numbers(count: int, device: torch.device) -> Tensor:
    """The frame numbers 0 .. count - 1, shaped (1, 1, 1, count) to compare with per-row limits."""
    return torch.arange(count, device=device).view(1, 1, 1, count)
