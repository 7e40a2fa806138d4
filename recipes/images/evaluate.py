"""Test a checkpoint: `python -m recipes.images.evaluate --checkpoint runs/a/last.ckpt`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from recipes.images.augment import pixels
from recipes.images.classifier import Shape, load
from recipes.images.config import Config
from recipes.images.sources import Source, open_source
from recipes.shared import console, records, scores
from recipes.shared.classifier import judge, report_of
from recipes.shared.console import UserError
from recipes.shared.devices import exact, make_fabric

LISTED_CLASSES = 20  # of more classes the table would hide the accuracy; the JSON file holds them all


@dataclass
class Options:
    """Test a checkpoint on a split of a set of images, print the scores and write them.

    Args:
        checkpoint: last.ckpt or best.ckpt of a run.
        data: prepared set, or folder with train/<class>/ and val/<class>/; null takes what it was trained on.
        split: train, validation or test.
        out: JSON file for the scores; null writes evaluation-<checkpoint>-<split>.json beside the checkpoint.
        batch_size: images of a batch.
        workers: processes that decode image files.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    checkpoint: str
    data: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    out: str | None = None
    batch_size: int = 256
    workers: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {self.batch_size}")


def open_fitting(
    data: str, shape: Shape, checkpoint: str, device: torch.device, batch_size: int, workers: int = 0
) -> Source:
    """Open the set that a checkpoint is tested on.

    Raises:
        UserError: where there is none, or its labels or its size are not those of the training.
        BankError: where a prepared set is damaged.
    """
    options = Config(data=data, image_size=shape.size, batch_size=batch_size, workers=workers, resident="no")
    source = open_source(options, device)
    if source.labels != shape.labels:
        raise UserError(f"{data}: has other labels than those that {checkpoint} was trained on")
    if source.size != shape.size:
        raise UserError(
            f"{data}: has images of {source.size} x {source.size}; {checkpoint} was trained on "
            f"{shape.size} x {shape.size}"
        )
    return source


def batches(source: Source, split: str, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of a split in order, as (pixels (B, 3, H, W) in [0, 1], targets (B,))."""
    for batch in source.read(split, torch.arange(source.counts[split]), batch_size):
        yield pixels(batch.images), batch.target


def evaluate(options: Options) -> dict[str, Any]:
    """Scores of a checkpoint on a split.

    Raises:
        UserError: where checkpoint and images do not fit.
    """
    device = make_fabric(options.device, "32-true").device
    model, shape, state = load(options.checkpoint, device)
    data = options.data or state["config"]["data"]
    source = open_fitting(data, shape, options.checkpoint, device, options.batch_size, options.workers)
    if not source.counts[options.split]:
        raise UserError(f"{data}: has no {options.split} images")
    with exact():
        found = judge(model, batches(source, options.split, options.batch_size), len(shape.labels))
    about = {"checkpoint": options.checkpoint, "data": data, "split": options.split, "epoch": state["epoch"]}
    return {**about, "digest": source.digest, "commit": records.commit(), **report_of(found, shape.labels, top=True)}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.images.evaluate", argv)
    checkpoint = Path(options.checkpoint)
    beside = checkpoint.with_name(f"evaluation-{checkpoint.stem}-{options.split}.json")
    out = records.place(options.out, beside)
    report = evaluate(options)
    table = scores.table(report, "images").splitlines()
    print("\n".join(table if len(report["labels"]) <= LISTED_CLASSES else table[-1:]), flush=True)
    records.write_json(out, report)
    print(f"scores: {out}")


if __name__ == "__main__":
    console.run(main)
