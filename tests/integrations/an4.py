"""A little of AN4: real recordings with transcripts, for short trainings."""

import csv
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

SAMPLE_RATE = 16000
CHARACTERS = " 'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BLANK = 0
SYMBOLS = len(CHARACTERS) + 1


def utterances(real_data: Path, count: int) -> list[tuple[Path, Tensor, str]]:
    """Path, (N,) samples and transcript of the first training utterances."""
    with open(real_data / "an4" / "transcripts.tsv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "train"][:count]
    found = []
    for row in rows:
        path = real_data / "an4" / row["path"]
        wave, rate = soundfile.read(path, dtype="float32")
        assert rate == SAMPLE_RATE
        found.append((path, torch.from_numpy(wave), row["text"]))
    return found


def tokens(text: str) -> list[int]:
    """A transcript as characters, numbered from 1."""
    return [CHARACTERS.index(character) + 1 for character in text]


def labels(texts: list[str], pad: int = -100) -> Tensor:
    """(B, U) characters, padded."""
    return pad_sequence([torch.tensor(tokens(text)) for text in texts], batch_first=True, padding_value=pad)


def fell(losses: list[float], to: float = 0.8) -> bool:
    """Whether the losses of the last steps lie below those of the first times `to`, all of them numbers."""
    values = torch.tensor(losses)
    return bool(values.isfinite().all()) and bool(values[-4:].mean() < to * values[:4].mean())
