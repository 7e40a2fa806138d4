"""Test a checkpoint: `python -m recipes.an4.evaluate --checkpoint runs/a/average.ckpt --decoder beam`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from recipes.an4.recogniser import Decoder, Recogniser, judge, load, scores_of
from recipes.an4.scores import interval, resampled
from recipes.an4.text import DEFAULT_BEAM, Characters
from recipes.an4.utterances import Utterances, open_corpus
from recipes.shared import console, records
from recipes.shared.console import UserError
from recipes.shared.devices import make_fabric


@dataclass
class Options:
    """Test a checkpoint on a split of a prepared corpus, print error rates and write the transcripts.

    Args:
        checkpoint: last.ckpt, best.ckpt or average.ckpt of a run.
        data: folder made by `python -m data_prep.an4`; null takes the one it was trained on.
        split: train, validation or test.
        decoder: greedy takes the likeliest symbol of each frame; beam searches for the likeliest transcript.
        beam: prefixes that the beam search keeps.
        out: JSON file for scores and transcripts; null writes evaluation-<checkpoint>-<split>-<decoder>.json beside the
            checkpoint.
        show: how many of the worst transcripts to print.
        batch_size: utterances of a batch.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    checkpoint: str
    data: str | None = None
    split: Literal["train", "validation", "test"] = "test"
    decoder: Literal["greedy", "beam"] = "greedy"
    beam: int = DEFAULT_BEAM
    out: str | None = None
    show: int = 5
    batch_size: int = 16
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("beam", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")


def decoder_of(characters: Characters, name: str, beam: int) -> Decoder:
    """The decoder of a name, greedy or beam."""
    return characters.greedy if name == "greedy" else partial(characters.beam, size=beam)


def refuse_misfit(part: Utterances, data: str, model: Recogniser, checkpoint: str) -> None:
    """Refuse to test on utterances that the recogniser cannot have learned.

    Raises:
        UserError: where there are none, or the sample rate differs.
    """
    if not len(part):
        raise UserError(f"{data}: has no utterances of that split")
    if part.bank.sample_rate != model.front_end.sample_rate:
        raise UserError(
            f"{data}: has {part.bank.sample_rate} Hz; {checkpoint} was trained at {model.front_end.sample_rate} Hz"
        )


def evaluate(options: Options) -> dict[str, Any]:
    """Scores of a checkpoint on a split, with the 95 % bootstrap interval of the word error rate.

    Raises:
        UserError: where checkpoint and corpus do not fit.
    """
    device = make_fabric(options.device, "32-true").device
    model, state = load(options.checkpoint, device)
    data = options.data or state["config"]["data"]
    part = Utterances(open_corpus(data), options.split, model.front_end, model.characters, device)
    refuse_misfit(part, data, model, options.checkpoint)
    decoder = decoder_of(model.characters, options.decoder, options.beam)
    rows = judge(model.encoder, part, torch.arange(len(part)), options.batch_size, decoder)
    found = scores_of(rows, part)
    counts = [[row[name] for row in found["transcripts"]] for name in ("word_errors", "words")]
    low, high = interval(resampled(np.array(counts[:1]), np.array(counts[1])))
    about = {"checkpoint": options.checkpoint, "data": data, "split": options.split, "epoch": state["epoch"]}
    how = {"decoder": options.decoder, "beam": options.beam if options.decoder == "beam" else None}
    return {**about, **how, "commit": records.commit(), "wer_interval": [low, high], **found}


def summary(report: dict[str, Any], show: int) -> str:
    """The scores and the worst transcripts, as lines of text."""
    low, high = report["wer_interval"]
    lines = [
        f"WER {100 * report['wer']:.2f} % (95 % bootstrap interval {100 * low:.2f} to {100 * high:.2f}), "
        f"CER {100 * report['cer']:.2f} %, {report['utterances']} utterances, {report['words']} words: "
        f"{report['substitutions']} substituted, {report['deletions']} deleted, {report['insertions']} inserted"
    ]
    for row in sorted(report["transcripts"], key=lambda row: -row["word_errors"])[:show]:
        lines += [f"{row['key']}  {row['word_errors']} errors", f"  said {row['reference']}"]
        lines += [f"  read {row['hypothesis']}"]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.an4.evaluate", argv)
    checkpoint = Path(options.checkpoint)
    name = f"evaluation-{checkpoint.stem}-{options.split}-{options.decoder}.json"
    out = Path(options.out or checkpoint.with_name(name))
    if options.out and not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder")
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file")
    report = evaluate(options)
    print(summary(report, options.show), flush=True)
    records.write_json(out, report)
    print(f"scores and transcripts: {out}")


if __name__ == "__main__":
    console.run(main)
