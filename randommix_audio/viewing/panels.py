"""One line of a mixing picture: the row itself, its partner, the weights, the mixed result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

SPECTRUM, WEIGHTS, OWN, LINE = "magma", "viridis", "#222222", "#0072B2"
PANEL_WIDTH, PANEL_HEIGHT = 3.0, 2.1  # inches
MOST_SQUARES = 220
# Tick marks for a frequency axis whose bins are not evenly spaced; those inside the range are used.
FREQUENCY_TICKS = (62.5, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)


@dataclass(frozen=True)
class Axis:
    """What the axes of a panel mean.

    Attributes:
        kind: "spectrogram" (low frequency at the bottom), "image" (first line at the top) or "wave" (a line).
        seconds: duration of one frame or sample; None counts frames or samples.
        frequencies: centre of each frequency bin in Hz; None counts bins.
    """

    kind: str
    seconds: float | None = None
    frequencies: np.ndarray | None = None

    def time_label(self) -> str:
        """Name of the horizontal axis."""
        if self.seconds is not None:
            return "time (s)"
        return {"spectrogram": "frame", "image": "column", "wave": "sample"}[self.kind]

    def height_label(self) -> str:
        """Name of the vertical axis."""
        if self.kind == "wave":
            return "amplitude"
        if self.kind == "image":
            return "line"
        return "mel bin" if self.frequencies is None else "frequency (Hz)"


@dataclass(frozen=True)
class Line:
    """One line of a picture; arrays are (C, F, T), in waves F is 1.

    Attributes:
        own: the row itself.
        partner: the row it is mixed with, as it was before the mix.
        weights: (F, T) weight of the row's own source, 0..1.
        mixed: the result.
        titles: what stands above the four panels, in that order.
        valid: number of valid frames of the result, None when all are.
    """

    own: np.ndarray
    partner: np.ndarray
    weights: np.ndarray
    mixed: np.ndarray
    titles: Sequence[str]
    valid: int | None = None


def as_array(x: Tensor) -> np.ndarray:
    """A tensor of any device and dtype as a NumPy array that can be drawn."""
    return x.detach().float().cpu().numpy()


def looks_like_image(x: Tensor) -> bool:
    """Whether a (B, C, F, T) batch is drawn as pictures: 3 channels, and all values within 0..1."""
    if x.ndim != 4 or x.shape[1] != 3 or x.numel() == 0:
        return False
    return x.amin().item() >= 0 and x.amax().item() <= 1


def draw(figure: Figure, lines: Sequence[Line], axis: Axis) -> None:
    """Fill a figure with one line of four panels for each mixed row.

    The row itself, its partner and the mixed result of a line share one colour (or amplitude) scale.
    """
    grid = figure.subplots(len(lines), 4, squeeze=False)
    for number, (panels, line) in enumerate(zip(grid, lines, strict=True)):
        low, high = _limits(line, axis.kind)
        sources = (line.own, line.partner, line.mixed)
        images = [
            _draw_source(panels[i], source, axis, low, high) for i, source in zip((0, 1, 3), sources, strict=True)
        ]
        shown_weights = _draw_weights(panels[2], line.weights, axis)
        if shown_weights is not None:
            figure.colorbar(shown_weights, ax=panels[2], ticks=[0, 0.5, 1], aspect=14, pad=0.02).ax.tick_params(
                labelsize=7
            )
        if images[2] is not None and axis.kind == "spectrogram":
            figure.colorbar(images[2], ax=panels[3], aspect=14, pad=0.02).ax.tick_params(labelsize=7)
        last = number == len(lines) - 1
        for column, (axes, title) in enumerate(zip(panels, line.titles, strict=True)):
            axes.set_title(title, fontsize=8.5, parse_math=False)
            _label(axes, axis, line.own.shape, first_column=column == 0, last_line=last, is_weights=column == 2)
            if column >= 2 and line.valid is not None and line.valid < line.own.shape[-1]:
                _mark_end(axes, line.valid * (axis.seconds or 1))


def _limits(line: Line, kind: str) -> tuple[float, float]:
    """One scale for the three contents of a line: the full range, for spectra without the lowest 2 %.

    Digital silence lies far below speech and would leave it one colour; what is lower is drawn as the lowest.
    """
    both = np.concatenate([line.own.ravel(), line.partner.ravel()])
    both = both[np.isfinite(both)]
    if both.size == 0:
        return 0.0, 1.0
    if kind == "wave":
        peak = max(float(np.abs(both).max()), 1e-6)
        return -1.05 * peak, 1.05 * peak
    low, high = float(np.percentile(both, 2)), float(both.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _draw_source(axes: Axes, x: np.ndarray, axis: Axis, low: float, high: float) -> AxesImage | None:
    """Draw a spectrogram, a picture or a waveform; x is (C, F, T)."""
    if axis.kind == "wave":
        axes.plot(_times(x.shape[-1], axis), x[0, 0], color=LINE, lw=0.5)
        axes.set_ylim(low, high)
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


def _times(count: int, axis: Axis) -> np.ndarray:
    return np.arange(count) * (axis.seconds or 1)


def _extent(shape: Sequence[int], axis: Axis) -> tuple[float, float, float, float]:
    return 0.0, shape[-1] * (axis.seconds or 1), -0.5, shape[-2] - 0.5


def _label(axes: Axes, axis: Axis, shape: Sequence[int], first_column: bool, last_line: bool, is_weights: bool) -> None:
    """Name the outer axes only: inner ones repeat them."""
    axes.tick_params(labelsize=7)
    if axis.kind == "spectrogram" and axis.frequencies is not None:
        ticks = frequency_ticks(axis.frequencies)
        axes.set_yticks([bin for bin, _ in ticks], [f"{f:g}" for _, f in ticks])
    if axis.kind == "wave":
        axes.set_xlim(0, max(shape[-1] - 1, 1) * (axis.seconds or 1))
    if first_column:
        axes.set_ylabel(axis.height_label(), fontsize=8)
    elif not (axis.kind == "wave" and is_weights):
        axes.tick_params(labelleft=False)
    if last_line:
        axes.set_xlabel(axis.time_label(), fontsize=8)
    else:
        axes.tick_params(labelbottom=False)


def frequency_ticks(centres: np.ndarray) -> list[tuple[float, float]]:
    """Tick marks (bin, Hz) from the top of the axis down, as many as stand apart by a tenth of its height."""
    ticks: list[tuple[float, float]] = []
    for frequency in reversed(FREQUENCY_TICKS):
        place = float(np.interp(frequency, centres, np.arange(len(centres))))
        apart = not ticks or ticks[-1][0] - place >= 0.1 * len(centres)
        if centres[0] <= frequency <= centres[-1] and apart:
            ticks.append((place, frequency))
    return ticks


def _mark_end(axes: Axes, position: float) -> None:
    """A dashed line where the valid frames of the result end; what follows is padding."""
    axes.axvline(position, color="white", lw=2.2)
    axes.axvline(position, color=OWN, lw=1.0, ls="--")
