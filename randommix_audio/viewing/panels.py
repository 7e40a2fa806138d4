"""One line of a mixing picture: the row itself, its partner, the weights, the mixed result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from randommix_audio.viewing.axis import Axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

SPECTRUM, WEIGHTS, PADDING, LINE, OUTLINE = "magma", "viridis", "#d9d9d9", "#0072B2", "#FFFFFF"
PANEL_WIDTH, PANEL_HEIGHT = 3.0, 2.1  # inches
MOST_SQUARES = 220
FAR_OFF = 3.0  # a line whose range is smaller than that of all by this factor would be drawn in few colours
# Tick marks for a frequency axis whose bins are not evenly spaced; those inside the range are used.
FREQUENCY_TICKS = (62.5, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)


@dataclass(frozen=True)
class Line:
    """One line of a picture; arrays are (C, F, T), in waves F is 1.

    Attributes:
        own: the row itself.
        partner: the row it is mixed with, as it was before the mix.
        weights: (F, T) weight of the row's own source, 0..1.
        mixed: the result.
        titles: what stands above the four panels, in that order.
        ends: the number of valid frames of each of the four; what follows is drawn as padding.
        frames: how many frames the time axes of the line show.
        salient: (F, T) saliency of the row and of its partner, whose most salient tenth is outlined; None: no outline.
    """

    own: np.ndarray
    partner: np.ndarray
    weights: np.ndarray
    mixed: np.ndarray
    titles: Sequence[str]
    ends: Sequence[int]
    frames: int
    salient: Sequence[np.ndarray | None] = (None, None)

    def panels(self) -> list[np.ndarray]:
        """What the four panels show: as far as the axis goes, without padding."""
        contents = (self.own, self.partner, self.weights, self.mixed)
        return [x[..., : min(end, self.frames)] for x, end in zip(contents, self.ends, strict=True)]


def as_array(x: Tensor) -> np.ndarray:
    """A tensor of any device and dtype as a NumPy array that can be drawn."""
    return x.detach().float().cpu().numpy()


def looks_like_image(x: Tensor) -> bool:
    """Whether a (B, C, F, T) batch is drawn as pictures: 3 channels, and all values within 0..1."""
    if x.ndim != 4 or x.shape[1] != 3 or x.numel() == 0:
        return False
    return x.amin().item() >= 0 and x.amax().item() <= 1


def draw(figure: Figure, lines: Sequence[Line], axis: Axis) -> None:
    """Fill a figure with one line of four panels for each mixed row; see `scales` for the colours."""
    grid = figure.subplots(len(lines), 4, squeeze=False)
    alike = len({line.frames for line in lines}) == 1
    for number, (row, line, (low, high)) in enumerate(zip(grid, lines, scales(lines, axis.kind), strict=True)):
        last = number == len(lines) - 1
        for column, (axes, x) in enumerate(zip(row, line.panels(), strict=True)):
            is_weights = column == 2
            image = _draw_weights(axes, x, axis) if is_weights else _draw_source(axes, x, axis, low, high)
            if column < 2 and image is not None:
                _outline(axes, line.salient[column], x.shape[-1], axis)
            axes.set_title(line.titles[column], fontsize=8.5, parse_math=False)
            _limit_time(axes, x.shape[-1], line.frames, axis)
            _label(axes, axis, first_column=column == 0, last_line=last, is_weights=is_weights)
            axes.tick_params(labelbottom=last or not alike)
            if image is not None and is_weights:
                _colour_bar(figure, image, axes, "", ticks=[0, 0.5, 1])
            elif image is not None and column == 3 and axis.kind == "spectrogram":
                _colour_bar(figure, image, axes, axis.unit)


def _colour_bar(figure: Figure, image: AxesImage, axes: Axes, unit: str, ticks: Sequence[float] | None = None) -> None:
    bar = figure.colorbar(image, ax=axes, ticks=ticks, aspect=14, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(unit, fontsize=7)


def scales(lines: Sequence[Line], kind: str) -> list[tuple[float, float]]:
    """The colour (or amplitude) scale of each line: one for all, so that lines can be compared.

    Only where some line would then have less than a third of the colours does each line get its own. The mixed
    result counts for nothing, and a constant clip, such as digital silence, neither: it has no range to show.
    """
    of_lines = [_range(line.panels()[:2], kind) for line in lines]
    contents = [x for line in lines for x in line.panels()[:2]]
    low, high = _range(contents, kind) or _range_of_constants(contents, kind)
    least = (high - low) / FAR_OFF
    if any(found is not None and found[1] - found[0] < least for found in of_lines):
        return [found or (low, high) for found in of_lines]
    return [(low, high)] * len(lines)


def _range(contents: Sequence[np.ndarray], kind: str) -> tuple[float, float] | None:
    """The range of clips that are not constant: of spectra without the lowest 2 %; None where all are constant.

    A clip's very lowest value is left out of spectra: it stands for digital silence, which lies so far below
    speech that it would leave speech one colour. What is below the range is drawn as its lowest.
    """
    varying = [x for x in (x[np.isfinite(x)] for x in contents) if x.size and x.min() < x.max()]
    if not varying:
        return None
    if kind == "wave":
        peak = 1.05 * max(float(np.abs(x).max()) for x in varying)
        return -peak, peak
    if kind == "image":
        return min(float(x.min()) for x in varying), max(float(x.max()) for x in varying)
    values = np.concatenate([x[x > x.min()] for x in varying])
    low, high = float(np.percentile(values, 2)), float(values.max())
    return (low, high) if low < high else (min(float(x.min()) for x in varying), high)


def _range_of_constants(contents: Sequence[np.ndarray], kind: str) -> tuple[float, float]:
    """A range around the values of clips that are all constant, or hold nothing that is finite."""
    if kind == "image" and all(((x >= 0) & (x <= 1)).all() for x in contents):
        return 0.0, 1.0
    values = np.concatenate([x[np.isfinite(x)] for x in contents])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return low - 0.5, high + 0.5


def _draw_source(axes: Axes, x: np.ndarray, axis: Axis, low: float, high: float) -> AxesImage | None:
    """Draw a spectrogram, a picture or a waveform; x is (C, F, T)."""
    if axis.kind == "wave":
        axes.plot(_times(x.shape[-1], axis), x[0, 0], color=LINE, lw=0.5)
        axes.set_ylim(low, high)
        return None
    if not x.size:
        axes.set_ylim(*_extent(x.shape, axis)[2:])
        return None
    if axis.kind == "image":
        if len(x) != 3:
            return axes.imshow(x[0], cmap="gray", vmin=low, vmax=high, aspect="equal")
        if low < 0 or high > 1:  # normalised pictures: back into the range of a screen
            x = (x - low) / (high - low)
        return axes.imshow(np.clip(x.transpose(1, 2, 0), 0, 1), aspect="equal")
    # Few frames are drawn as the squares they are; many are averaged, since picking some would show a pattern.
    sampling = "nearest" if x.shape[-1] <= MOST_SQUARES else "auto"
    return axes.imshow(
        x[0],
        cmap=SPECTRUM,
        vmin=low,
        vmax=high,
        origin="lower",
        aspect="auto",
        extent=_extent(x.shape, axis),
        interpolation=sampling,
    )


def _draw_weights(axes: Axes, weights: np.ndarray, axis: Axis) -> AxesImage | None:
    """Draw the weight of the row's own source on a scale of 0 to 1."""
    if axis.kind == "wave":
        axes.fill_between(_times(weights.shape[-1], axis), weights[0], color=LINE, alpha=0.35, lw=0)
        axes.plot(_times(weights.shape[-1], axis), weights[0], color=LINE, lw=1.0)
        axes.set_ylim(-0.05, 1.05)
        return None
    if not weights.size:
        axes.set_ylim(*_extent((1, *weights.shape), axis)[2:])
        return None
    if axis.kind == "image":
        return axes.imshow(weights, cmap=WEIGHTS, vmin=0, vmax=1, aspect="equal")
    extent = _extent((1, *weights.shape), axis)
    return axes.imshow(
        weights,
        cmap=WEIGHTS,
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        extent=extent,
        interpolation="nearest",
    )


def _outline(axes: Axes, salient: np.ndarray | None, end: int, axis: Axis) -> None:
    """Draw a line around the most salient tenth of the valid frames; where all are salient alike there is none."""
    if salient is None or min(salient[:, :end].shape) < 2:
        return
    valid = salient[:, :end]
    level = np.quantile(valid, 0.9)
    inside = valid >= level if level > valid.min() else valid > level
    if not 0 < inside.mean() <= 0.5:  # so many are equal that no tenth stands out
        return
    times = (np.arange(end) + (0 if axis.kind == "image" else 0.5)) * (axis.seconds or 1)
    axes.contour(times, np.arange(len(valid)), inside, levels=[0.5], colors=OUTLINE, linewidths=0.8)


def _times(count: int, axis: Axis) -> np.ndarray:
    return np.arange(count) * (axis.seconds or 1)


def _extent(shape: Sequence[int], axis: Axis) -> tuple[float, float, float, float]:
    return 0.0, shape[-1] * (axis.seconds or 1), -0.5, shape[-2] - 0.5


def _limit_time(axes: Axes, end: int, frames: int, axis: Axis) -> None:
    """Let the axis run over `frames` and draw grey what lies beyond the valid ones."""
    first = -0.5 if axis.kind == "image" else 0.0
    edge, last = (first + count * (axis.seconds or 1) for count in (end, frames))
    if end < frames:
        axes.axvspan(edge, last, color=PADDING, lw=0)
    axes.set_xlim(first, last)


def _label(axes: Axes, axis: Axis, first_column: bool, last_line: bool, is_weights: bool) -> None:
    """Name the outer axes only: inner ones repeat them."""
    axes.tick_params(labelsize=7)
    if axis.kind == "spectrogram" and axis.frequencies is not None:
        ticks = frequency_ticks(axis.frequencies)
        axes.set_yticks([bin for bin, _ in ticks], [f"{f:g}" for _, f in ticks])
    if first_column:
        axes.set_ylabel(axis.height_label(), fontsize=8)
    elif not (axis.kind == "wave" and is_weights):
        axes.tick_params(labelleft=False)
    if last_line:
        axes.set_xlabel(axis.time_label(), fontsize=8)


def frequency_ticks(centres: np.ndarray) -> list[tuple[float, float]]:
    """Tick marks (bin, Hz) from the top of the axis down, as many as stand apart by a tenth of its height."""
    ticks: list[tuple[float, float]] = []
    for frequency in reversed(FREQUENCY_TICKS):
        place = float(np.interp(frequency, centres, np.arange(len(centres))))
        apart = not ticks or ticks[-1][0] - place >= 0.1 * len(centres)
        if centres[0] <= frequency <= centres[-1] and apart:
            ticks.append((place, frequency))
    return ticks
