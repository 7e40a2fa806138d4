"""Scores of a classifier from its confusion matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def confusion(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count pairs: (N,) and (N,) class indices to (classes, classes) long, row = truth, column = prediction."""
    return torch.bincount(target * classes + predicted, minlength=classes * classes).view(classes, classes)


def report(matrix: Tensor, labels: list[str]) -> dict[str, Any]:
    """Accuracy, macro accuracy and scores of each class.

    Args:
        matrix: (classes, classes) counts, row = truth.
        labels: names in the order of the rows.

    Returns:
        accuracy and macro_accuracy (mean recall over the classes that occur), both 0 to 1, None without clips; clips;
        correct; labels; counts (clips of each class); confusion (nested lists); per_class {label: clips, recall,
        precision, f1}, with None where a score has no denominator.

    Raises:
        ValueError: if the matrix does not fit the labels.
    """
    if matrix.shape != (len(labels), len(labels)):
        raise ValueError(f"a confusion matrix of {tuple(matrix.shape)} does not fit {len(labels)} labels")
    hits = matrix.diagonal().tolist()
    truths, guesses = matrix.sum(1).tolist(), matrix.sum(0).tolist()
    per_class = {}
    for label, hit, truth, guess in zip(labels, hits, truths, guesses, strict=True):
        per_class[label] = {
            "clips": truth,
            "recall": hit / truth if truth else None,
            "precision": hit / guess if guess else None,
            "f1": 2 * hit / (truth + guess) if truth + guess else None,
        }
    recalls = [hit / truth for hit, truth in zip(hits, truths, strict=True) if truth]
    total = sum(truths)
    return {
        "accuracy": sum(hits) / total if total else None,
        "macro_accuracy": sum(recalls) / len(recalls) if recalls else None,
        "clips": total,
        "correct": sum(hits),
        "labels": labels,
        "counts": dict(zip(labels, truths, strict=True)),
        "per_class": per_class,
        "confusion": matrix.tolist(),
    }


def table(report: dict[str, Any], rows: str = "clips") -> str:
    """Scores of each class and of all, as lines of text.

    Args:
        report: of `report`, with the mean `loss`.
        rows: what a row is called, in the plural.
    """
    wide = max(len(label) for label in [*report["labels"], "all (mean)"])
    lines = [f"{'class':<{wide}}  {rows:>6}  recall %  precision %    F1 %"]
    for label, row in report["per_class"].items():
        cells = ["-" if row[k] is None else f"{100 * row[k]:.2f}" for k in ("recall", "precision", "f1")]
        lines.append(f"{label:<{wide}}  {row['clips']:6d}  {cells[0]:>8}  {cells[1]:>11}  {cells[2]:>6}")
    lines.append(f"{'all (mean)':<{wide}}  {report['clips']:6d}  {100 * report['macro_accuracy']:8.2f}")
    top = f"top-5 {100 * report['top5_accuracy']:.2f} %, " if "top5_accuracy" in report else ""
    lines.append(
        f"accuracy {100 * report['accuracy']:.2f} % ({report['correct']} of {report['clips']} {rows}), "
        f"{top}loss {report['loss']:.4f}"
    )
    return "\n".join(lines)
