"""Curves and confusion matrices show the numbers of a run, whole or in part, and are saved whole or not at all."""

import math
import os
from itertools import pairwise

import numpy as np
import pytest
import torch

from randommix_audio.files import write_atomically
from randommix_audio.viewing import confusion, curves, save
from randommix_audio.viewing.figure import png


def epoch(number: int, **more: object) -> dict[str, object]:
    values = {"train_loss": 2 / number, "validation_loss": 1 / number, "train_accuracy": 0.5}
    return {
        "epoch": number,
        **values,
        "validation_accuracy": 0.75,
        "lr": 0.05,
        "clips_per_second": 900.0,
        **more,
    }


def test_curves_draw_loss_accuracy_rate_and_speed_of_every_epoch():
    figure = curves([epoch(1), epoch(2), epoch(3)], title="run")
    loss, accuracy, _, speed = figure.axes
    epochs, values = loss.lines[1].get_data()
    assert list(epochs) == [1, 2, 3]
    np.testing.assert_allclose(values, [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), 75)
    assert "900" in speed.get_title()


def test_a_single_epoch_is_seen_as_a_dot():
    assert curves([epoch(1)]).axes[0].lines[0].get_marker() == "o"


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_epochs_are_marked_by_whole_numbers(epochs):
    axes = curves([epoch(i + 1) for i in range(epochs)]).axes[0]
    low, high = axes.get_xlim()
    marks = [mark for mark in axes.get_xticks() if low <= mark <= high]
    assert marks
    assert all(mark == round(mark) for mark in marks)


def test_missing_values_leave_gaps_and_panels_without_values_are_left_out():
    metrics = [{"train_loss": 2.0}, {"train_loss": None}, {"train_loss": math.nan}, {"train_loss": 1.0}]
    figure = curves(metrics)
    assert len(figure.axes) == 1
    epochs, values = figure.axes[0].lines[0].get_data()
    assert list(epochs) == [1, 2, 3, 4]
    assert list(np.isnan(values)) == [False, True, True, False]


@pytest.mark.parametrize("metrics", [[], [{"epoch": 1}], [{"train_loss": None}]])
def test_a_run_without_values_is_refused(metrics):
    with pytest.raises(ValueError, match="no curves"):
        curves(metrics)


def texts(axes) -> dict[tuple[int, int], str]:
    """What stands in a matrix: (true, predicted) to text."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}


def test_a_confusion_matrix_holds_counts_and_percent_of_the_true_class():
    counts, percent = confusion([[8, 2], [0, 30]], ["yes", "no"]).axes
    assert texts(counts) == {(0, 0): "8", (0, 1): "2", (1, 1): "30"}
    assert texts(percent) == {(0, 0): "80", (0, 1): "20", (1, 1): "100"}
    assert counts.get_ylabel() == "true"
    assert [tick.get_text() for tick in counts.get_xticklabels()] == ["yes", "no"]


def test_neither_a_rare_confusion_nor_a_near_hit_is_rounded_away():
    percent = confusion([[9999, 1], [0, 5]], ["yes", "no"]).axes[1]
    assert texts(percent) == {(0, 0): ">99", (0, 1): "<1", (1, 1): "100"}


def test_a_class_without_clips_and_an_empty_matrix_are_drawn():
    assert png(confusion(torch.tensor([[3, 0], [0, 0]]), ["a", "b"]))
    assert png(confusion(np.zeros((3, 3)), ["a", "b", "c"]))


def overlaps(figure, axes) -> int:
    """Numbers of a drawn matrix that reach out of their cells."""
    figure.draw_without_rendering()
    cell = abs(axes.transData.transform((1, 0))[0] - axes.transData.transform((0, 0))[0])
    return sum(text.get_window_extent().width > cell for text in axes.texts)


@pytest.mark.parametrize("classes", [2, 12, 35])
def test_numbers_fit_their_cells_and_labels_do_not_touch(classes):
    matrix = np.random.default_rng(0).integers(0, 5, (classes, classes))
    matrix[np.arange(classes), np.arange(classes)] = 4567
    figure = confusion(matrix, [f"word {i}" for i in range(classes)])
    assert [overlaps(figure, axes) for axes in figure.axes] == [0, 0]
    heights = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in pairwise(heights))


@pytest.mark.parametrize("matrix", [[[1, 2]], [[1, -1], [0, 1]], [[1, math.nan], [0, 1]], [[1]]])
def test_what_is_no_confusion_matrix_of_the_labels_is_refused(matrix):
    with pytest.raises(ValueError, match="confusion matrix"):
        confusion(matrix, ["yes", "no"])


def test_saving_makes_the_folder_and_leaves_only_the_file(tmp_path):
    path = save(curves([epoch(1)]), tmp_path / "run" / "curves.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert os.listdir(path.parent) == ["curves.png"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    write_atomically(path, "old")

    def refuse(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]
