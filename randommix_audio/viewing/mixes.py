"""Pictures of what a plan does to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from randommix_audio.layout import layout_of_companion, to_bcft
from randommix_audio.saliency import Saliency, SaliencyOfBatch
from randommix_audio.viewing.axis import Axis, axis_of
from randommix_audio.viewing.captions import (
    FOLLOW_SALIENCY,
    MixedRow,
    is_left_alone,
    names_above_panels,
    shares_of_rows,
    titles,
)
from randommix_audio.viewing.figure import blank
from randommix_audio.viewing.panels import PANEL_HEIGHT, PANEL_WIDTH, Line, as_array, draw, looks_like_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from randommix_audio.features import LogMel
    from randommix_audio.plan import MixPlan


@dataclass(frozen=True)
class Batch:
    """What is mixed and shown.

    Attributes:
        x: the batch.
        layout: its axis order.
        names: of its rows.
        keep: the channels that are drawn.
        lengths: (B,) valid frames of its rows; None when all are.
    """

    x: Tensor
    layout: str
    names: Sequence[str]
    keep: slice
    lengths: Tensor | None = None

    def salient(self, saliency: Saliency) -> Tensor:
        """(B, F, T) saliency, as a plan reads it."""
        return SaliencyOfBatch(self.x, self.layout, self.lengths, saliency).map()


def show(
    x: Tensor,
    plan: MixPlan,
    rows: int | Sequence[int] = 4,
    names: Sequence[str] | None = None,
    *,
    front_end: LogMel | None = None,
    hop_length: int | None = None,
    sample_rate: int | None = None,
    frequencies: Sequence[float] | np.ndarray | None = None,
    image: bool | None = None,
    channel: int = 0,
    title: str | None = None,
    lengths: Sequence[int] | Tensor | None = None,
    saliency: Saliency | None = None,
) -> Figure:
    """Show rows of a batch, their partners, the weights, and what the plan makes of them.

    Args:
        x: the batch that the plan was drawn for, in the plan's axis order: spectrograms (B, F, T), (B, T, F) or
            (B, C, F, T), pictures (B, 3, H, W) or waveforms (B, N).
        plan: the plan; it is applied to `x` as it stands, so the picture is exactly what the model would see.
        rows: how many rows to show, see `rows_to_show`; or which ones.
        names: one name for each row of the batch, such as its label or file; without them rows are numbered.
        front_end: what made the spectrograms; gives the three arguments that follow, so that axes are in
            seconds and Hz.
        hop_length: samples from one frame to the next. With `sample_rate` the time axis is in seconds.
        sample_rate: samples per second.
        frequencies: (F,) centre of each bin in Hz, for the frequency axis.
        image: draw pictures: first line at the top, 3 channels as RGB, 1 as grey. None: only where there are
            3 channels and all values are bytes or lie within 0..1.
        channel: which channel of several to show where they are not drawn as RGB.
        title: a line above the picture.
        lengths: (B,) valid frames of the rows of `x`, as the plan was drawn with; the padding of a row shorter
            than the mix is then drawn grey.
        saliency: what the plan was drawn with: "energy", "spectral_residual", a (B, F, T) tensor or a callable. The
            most salient tenth of row and partner is then outlined where the method follows saliency.

    Returns:
        A figure with one line of four panels for each row: the row, its partner (of several the one with the largest
        share), the weights of the row's own source (0..1; of pictures in colour their mean over the channels) and the
        mix with the shares of all sources. The four panels of a line end with the valid frames of its mix. All lines
        have one scale, unless their ranges are too far apart.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: plan, names, rows, lengths, saliency or frequencies do not fit the batch.
    """
    layout = layout_of_companion(x, plan.layout)
    x = as_float(x)
    canonical = to_bcft(x, layout)
    count, channels, bins = canonical.shape[:3]
    names = names_above_panels(names, count)
    if plan.batch != count:
        raise ValueError(f"the plan was drawn for {plan.batch} rows, the batch has {count}")
    if lengths is not None and len(lengths) != count:
        raise ValueError(f"{len(lengths)} lengths for a batch of {count}")
    chosen = rows_to_show(plan, rows) if isinstance(rows, int) else _existing(rows, count)
    if not 0 <= channel < channels:
        raise ValueError(f"channel {channel} is not one of the batch's {channels}")

    pictures = looks_like_image(canonical) if image is None else image
    axis = axis_of(layout, pictures, bins, front_end, hop_length, sample_rate, frequencies)
    keep = slice(None) if pictures and channels == 3 else slice(channel, channel + 1)
    valid = None if lengths is None else torch.as_tensor(lengths, device=x.device)
    return figure_of(lines_of(Batch(x, layout, names, keep, valid), plan, chosen, axis, saliency=saliency), axis, title)


def rows_to_show(plan: MixPlan, rows: int) -> list[int]:
    """The first rows that a plan mixes with another row; where these are too few, the first others as well.

    Raises:
        ValueError: rows is below 1.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    mixed = ((plan.share[1:] > 0) & (plan.sources[1:] != plan.sources[0])).any(0)
    order = (~mixed).int().sort(stable=True).indices
    return sorted(order[:rows].tolist())


def lines_of(
    batch: Batch,
    plan: MixPlan,
    rows: Sequence[int],
    axis: Axis,
    frames: int | None = None,
    saliency: Saliency | None = None,
) -> list[Line]:
    """The chosen rows of a mix as lines of a picture.

    Args:
        batch: what the plan was drawn for.
        plan: its plan.
        rows: the rows.
        axis: what the axes mean.
        frames: how many frames each line shows; None: the valid ones of its result.
        saliency: see `show`.
    """
    x, mixed = to_bcft(batch.x, batch.layout), to_bcft(plan.apply(batch.x), batch.layout)
    time, keep = x.shape[-1], batch.keep
    weights = plan.weights.detach().expand(-1, len(x), -1, *mixed.shape[2:])  # (K, B, C or 1, F, T)
    salient = None if saliency is None else batch.salient(saliency)
    results = [mixed.shape[-1]] * len(x) if plan.lengths is None else plan.lengths.tolist()
    inputs = [time] * len(x) if batch.lengths is None else batch.lengths.tolist()
    lines = []
    for row in rows:
        end = results[row]
        outlined = salient is not None and _method(plan, row) in FOLLOW_SALIENCY
        found = _mixed_row(plan, row, x[..., :end], mixed[..., :end], weights[..., :end], outlined)
        partner = found.partners[0] if found.partners else row
        shown = max(1, end) if frames is None else frames
        cut = ""
        if batch.lengths is not None and inputs[partner] > shown:
            cut = f"first {axis.time_text(shown)} of {axis.time_text(inputs[partner])}"
        drawn = weights[0, row] if weights.shape[2] == 1 else weights[0, row, keep]
        lines.append(
            Line(
                own=as_array(x[row, keep]),
                partner=as_array(x[partner, keep]),
                weights=as_array(drawn.mean(0)),
                mixed=as_array(mixed[row, keep]),
                titles=titles(batch.names, found, cut),
                ends=(inputs[row], 0 if found.alone else inputs[partner], end, end),
                frames=shown,
                salient=_drawn_saliency(salient, (row, partner) if found.outlined else ()),
            )
        )
    return lines


def _mixed_row(plan: MixPlan, row: int, x: Tensor, mixed: Tensor, weights: Tensor, outlined: bool) -> MixedRow:
    """What a plan makes of a row, seen in the valid frames of its result."""
    sources, share, method = plan.sources[:, row].cpu(), plan.share[:, row].detach().cpu(), _method(plan, row)
    shares = shares_of_rows(sources, share)
    filled = bool((weights[:, row].sum(0) < 0.999).any())
    return MixedRow(
        own=row,
        shares=shares,
        method=method,
        alone=is_left_alone(share),
        changed=len(shares) > 1 or filled or not torch.equal(x[row], mixed[row]),
        filled=filled,
        moved=method == "puzzlemix" and _is_moved(x, mixed[row], weights[:, row], sources),
        outlined=outlined and len(shares) > 1,
    )


def _drawn_saliency(salient: Tensor | None, rows: Sequence[int]) -> Sequence[np.ndarray | None]:
    return (None, None) if salient is None or not rows else [as_array(salient[row]) for row in rows]


def _is_moved(x: Tensor, mixed: Tensor, weights: Tensor, sources: Tensor) -> bool:
    """Whether a row, (C, F, T), is more than the weighted sum of its sources: parts of these have been moved."""
    parts = [torch.where(w > 0, w * x[source].float(), 0.0) for w, source in zip(weights, sources, strict=True)]
    return not torch.allclose(torch.stack(parts).sum(0), mixed.float(), rtol=0.02, atol=0.02, equal_nan=True)


def figure_of(lines: Sequence[Line], axis: Axis, title: str | None) -> Figure:
    """The figure of some lines, as tall as their titles need."""
    tall = PANEL_HEIGHT if axis.kind != "wave" else 0.8 * PANEL_HEIGHT
    if len({line.frames for line in lines}) > 1:
        tall += 0.2  # every line has its own marks of time
    more = sum(max(text.count("\n") for text in line.titles) for line in lines)
    figure = blank(4 * PANEL_WIDTH, tall * len(lines) + 0.15 * more + 0.3 + (0.3 if title else 0))
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    draw(figure, lines, axis)
    return figure


def as_float(x: Tensor) -> Tensor:
    """A batch as it can be mixed: bytes as 0..1, 16-bit samples as -1..1."""
    full_scale = {torch.uint8: 255, torch.int16: 32768}.get(x.dtype, 1)
    return x.detach() if x.is_floating_point() else x.float() / full_scale


def _existing(rows: Sequence[int], count: int) -> list[int]:
    """The rows asked for, if they all are in the batch."""
    for row in rows:
        if not 0 <= row < count:
            raise ValueError(f"row {row} is not in a batch of {count}")
    if not len(rows):
        raise ValueError("rows names no row to show")
    return list(rows)


def _method(plan: MixPlan, row: int) -> str:
    return plan.method if isinstance(plan.method, str) else plan.method[row]
