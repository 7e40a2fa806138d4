"""Pictures of a training run: its curves and its confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from randommix_audio.viewing.figure import blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Two colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008).
TRAIN, VALIDATION = "#0072B2", "#D55E00"
SERIES = (
    ("loss", (("train_loss", "train", TRAIN), ("validation_loss", "validation", VALIDATION))),
    ("accuracy (%)", (("train_accuracy", "train", TRAIN), ("validation_accuracy", "validation", VALIDATION))),
    ("learning rate", (("lr", "learning rate", "#333333"),)),
    ("speed (clips per second)", (("clips_per_second", "clips per second", "#009E73"),)),
)


def curves(metrics: Sequence[Mapping[str, Any]], title: str | None = None) -> Figure:
    """Loss, accuracy, learning rate and speed over the epochs of a run.

    Args:
        metrics: one mapping for each epoch with any of `epoch`, `train_loss`, `train_accuracy`,
            `validation_loss`, `validation_accuracy` (accuracies in 0..1), `lr`, `clips_per_second`. What a
            mapping lacks, or holds as None or NaN, leaves a gap; without `epoch` they count from 1.
        title: a line above the picture.

    Returns:
        A figure with one panel for each of the four that has at least one value.

    Raises:
        ValueError: there is nothing to draw.
    """
    panels = [panel for panel in SERIES if any(_has_value(metrics, key) for key, _, _ in panel[1])]
    if not panels:
        known = ", ".join(key for _, lines in SERIES for key, _, _ in lines)
        raise ValueError(f"no curves to draw: {len(metrics)} epochs without any value of {known}")
    columns = min(2, len(panels))
    lines_of_panels = math.ceil(len(panels) / columns)
    figure = blank(5.0 * columns, 3.1 * lines_of_panels + (0.3 if title else 0))
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    epochs = [_number(m.get("epoch"), default=i + 1) for i, m in enumerate(metrics)]
    for i, (name, lines) in enumerate(panels):
        axes = figure.add_subplot(lines_of_panels, columns, i + 1)
        _draw_curves(axes, name, lines, epochs, metrics)
    return figure


def _draw_curves(
    axes: Axes,
    name: str,
    lines: Sequence[tuple[str, str, str]],
    epochs: Sequence[float],
    metrics: Sequence[Mapping[str, Any]],
) -> None:
    """Draw one panel; a run of few epochs gets dots, so that a single epoch is seen as well."""
    scale = 100.0 if name.startswith("accuracy") else 1.0
    for key, label, colour in lines:
        if not _has_value(metrics, key):
            continue
        values = np.array([_number(m.get(key)) for m in metrics]) * scale
        text = f"{label} (last {values[np.isfinite(values)][-1]:.4g})"
        axes.plot(epochs, values, color=colour, label=text, marker="o" if len(values) <= 30 else "", ms=3, lw=1.4)
    axes.set_title(name, fontsize=10)
    axes.set_xlabel("epoch", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)
    if len(set(epochs)) == 1:
        axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
    if len(lines) == 1:  # one line needs no legend to tell it apart; rates are read against zero
        axes.set_title(text.replace(lines[0][1], name), fontsize=10)
        axes.set_ylim(0, 1.08 * np.nanmax(values) or 1)
    else:
        axes.legend(fontsize=8, framealpha=0.8)
    axes.grid(alpha=0.3)


def _number(value: object, default: float = math.nan) -> float:
    """A metric as a float, NaN (or the default) where there is none."""
    return float(value) if isinstance(value, (int, float)) else default


def _has_value(metrics: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(math.isfinite(_number(m.get(key))) for m in metrics)


def confusion(matrix: Any, labels: Sequence[str], title: str | None = None) -> Figure:
    """A confusion matrix twice: as counts, and as percent of each true class.

    Args:
        matrix: (classes, classes) counts; rows are the true class, columns the predicted one. A tensor, an
            array or nested lists.
        labels: one name for each class, in the matrix's order.
        title: a line above the picture; without one it says accuracy and number of clips.

    Returns:
        A figure; the two matrices stand side by side up to 16 classes, one above the other beyond.

    Raises:
        ValueError: the matrix is not square, does not fit the labels, or holds what is no count.
    """
    counts = np.asarray(matrix.detach().cpu() if hasattr(matrix, "detach") else matrix, dtype=np.float64)
    classes = len(labels)
    if counts.shape != (classes, classes) or classes == 0:
        raise ValueError(f"a confusion matrix of {classes} labels has to be {classes} x {classes}, got {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("a confusion matrix holds counts: finite and not negative")
    total, of_class = counts.sum(), counts.sum(axis=1, keepdims=True)
    percent = 100 * counts / np.maximum(of_class, 1)

    side = max(4.6, 0.36 * classes + 1.6)
    wide = classes <= 16
    figure = blank(2 * side, side + 0.4) if wide else blank(side, 2 * side + 0.4)
    accuracy = 100 * np.trace(counts) / total if total else 0.0
    figure.suptitle(title or f"accuracy {accuracy:.2f} % of {int(total)} clips", fontsize=12, parse_math=False)
    for i, (values, name) in enumerate(((counts, "counts"), (percent, "percent of the true class"))):
        axes = figure.add_subplot(*((1, 2) if wide else (2, 1)), i + 1)
        # Both are coloured by percent, as counts would hide small classes behind a large one; the root
        # lifts rare confusions off the white.
        _draw_matrix(axes, values, np.sqrt(percent / 100), labels, name)
    return figure


def _draw_matrix(axes: Axes, values: np.ndarray, shade: np.ndarray, labels: Sequence[str], name: str) -> None:
    """Draw one matrix; cells that hold nothing stay empty, so that the eye finds the confusions."""
    classes = len(labels)
    size = max(7.0, min(9.0, 110 / classes))
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(values > 0):
        value = values[row, column]
        text = _cell(value, is_percent=name != "counts")
        colour = "white" if shade[row, column] > 0.7 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=_fitting(size, text))
    axes.set_title(name, fontsize=11)
    axes.set_xticks(range(classes), labels, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(classes), labels, fontsize=8, parse_math=False)
    axes.set_xlabel("predicted", fontsize=9)
    axes.set_ylabel("true", fontsize=9)


def _cell(value: float, is_percent: bool) -> str:
    """A number as short as is true: neither a rare confusion rounded to 0 nor a near hit to 100."""
    if is_percent and value < 1:
        return "<1"
    return ">99" if is_percent and 99.5 <= value < 100 else f"{value:.0f}"


def _fitting(size: float, text: str) -> float:
    """Font size at which a number of more than three digits still fits its cell."""
    return size * min(1.0, 3.4 / len(text)) if len(text) > 3 else size
