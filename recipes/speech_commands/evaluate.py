"""Test a checkpoint: `python -m recipes.speech_commands.evaluate --checkpoint runs/a/best.ckpt --data data/sc`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from randommix_audio.data import BankLoader, Entries, Task
from recipes.shared import console, records, scores
from recipes.shared.classifier import judge, report_of
from recipes.shared.console import UserError
from recipes.shared.devices import exact, make_fabric
from recipes.speech_commands.recogniser import Recogniser, load


@dataclass
class Options:
    """Test a checkpoint on a split of a prepared corpus, print a table and write the scores.

    Args:
        checkpoint: last.ckpt or best.ckpt of a run.
        data: folder made by `python -m data_prep.speech_commands`; null takes the one it was trained on.
        split: train, validation or test.
        out: JSON file for the scores; null writes evaluation-<checkpoint>-<split>.json beside the checkpoint.
        batch_size: clips of a batch.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    checkpoint: str
    data: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    out: str | None = None
    batch_size: int = 256
    device: str = "auto"


def batches(entries: Entries, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The clips of a split in order, as (waveforms int16 (B, samples), targets (B,))."""
    for batch in BankLoader(entries, batch_size, device=device, shuffle=False, resident=False).epoch(0):
        yield batch.wave, batch.target


def refuse_misfit(task: Task, data: str, model: Recogniser, checkpoint: str) -> None:
    """Refuse to test on clips of another kind than those of the training.

    Raises:
        UserError: where labels, length or sample rate differ.
    """
    bank, rate = task.bank, model.front_end.sample_rate
    if task.labels != model.labels:
        raise UserError(
            f"{data}: has the labels {' '.join(task.labels)}; {checkpoint} was trained on {' '.join(model.labels)}"
        )
    if (bank.samples, bank.sample_rate) != (model.shape.samples, rate):
        raise UserError(
            f"{data}: has clips of {bank.samples} samples at {bank.sample_rate} Hz; "
            f"{checkpoint} was trained on {model.shape.samples} samples at {rate} Hz"
        )


def load_with_corpus(
    checkpoint: str, data: str | None, device: torch.device
) -> tuple[Recogniser, dict[str, Any], str, Task]:
    """A recogniser in eval mode, the state of its checkpoint, and the corpus to test it on.

    Args:
        checkpoint: last.ckpt or best.ckpt of a run.
        data: folder of the corpus; None is the one that the training had.
        device: of the recogniser.

    Returns:
        Recogniser, state, folder of the corpus, corpus.

    Raises:
        UserError: where one of them is missing or damaged, or they do not fit.
    """
    model, state = load(checkpoint, device)
    folder = data or state["config"]["data"]
    task = Task.open(folder)
    refuse_misfit(task, folder, model, checkpoint)
    return model, state, folder, task


def evaluate(options: Options) -> dict[str, Any]:
    """Scores of a checkpoint on a split.

    Raises:
        UserError: where checkpoint and corpus do not fit.
    """
    device = make_fabric(options.device, "32-true").device
    model, state, data, task = load_with_corpus(options.checkpoint, options.data, device)
    if options.batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {options.batch_size}")
    entries = task.split(options.split)
    if not len(entries):
        raise UserError(f"{data}: has no {options.split} clips")
    with exact():
        found = judge(model, batches(entries, options.batch_size, device), len(model.labels))
    about = {"checkpoint": options.checkpoint, "data": data, "split": options.split, "epoch": state["epoch"]}
    return {**about, "commit": records.commit(), **report_of(found, model.labels)}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.speech_commands.evaluate", argv)
    checkpoint = Path(options.checkpoint)
    beside = checkpoint.with_name(f"evaluation-{checkpoint.stem}-{options.split}.json")
    out = records.place(options.out, beside)
    report = evaluate(options)
    print(scores.table(report), flush=True)
    records.write_json(out, report)
    print(f"scores: {out}")


if __name__ == "__main__":
    console.run(main)
