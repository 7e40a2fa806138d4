"""A task: a bank, the labels in their order, and which clips (or what silence) each split consists of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .bank import WaveBank
from .errors import BankError, parsing
from .files import atomic, write_json

SPLITS = ("train", "validation", "test")
FORMAT = 2
NO_CLIP = -1


@dataclass
class NoiseBank:
    """Long recordings of background noise, one after another.

    Attributes:
        samples: (total,) int16, all recordings.
        starts: (R + 1,) int64, where each begins, and the end of the last.
        names: of the R recordings.
        sample_rate: in Hz.
    """

    samples: np.ndarray
    starts: np.ndarray
    names: list[str]
    sample_rate: int

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> np.ndarray:
        """(n,) int16 samples of one recording."""
        if not 0 <= index < len(self):
            raise IndexError(f"no recording {index}: there are {len(self)}")
        return self.samples[self.starts[index] : self.starts[index + 1]]

    def draw(self, count: int, samples: int, generator: torch.Generator) -> torch.Tensor:
        """(count,) int64 offsets into `samples` of crops inside one recording, each recording as likely.

        Raises:
            BankError: no recording is as long as a crop.
        """
        room = torch.as_tensor(np.diff(self.starts)) - samples
        long_enough = torch.nonzero(room >= 0).flatten()
        if len(long_enough) == 0:
            raise BankError(f"no noise recording is {samples} samples long")
        chosen = long_enough[torch.randint(len(long_enough), (count,), generator=generator)]
        within = torch.rand(count, generator=generator, dtype=torch.float64) * (room[chosen] + 1)
        return torch.as_tensor(self.starts)[chosen] + within.long()


@dataclass
class Entries:
    """What one split consists of, a row each.

    Attributes:
        bank: where the clips are.
        clip: (N,) int64 row of the bank, or -1 where the row is silence made on the spot.
        target: (N,) int64 position in the label list.
        silence: (N,) bool, rows of the silence class (recorded ones included).
        noise_offset: (N,) int64 where in `noise.samples` the background of a silence row begins, -1 for
            zeros.
        noise_gain: (N,) float32 factor of that background.
        noise: the background recordings, or None.
    """

    bank: WaveBank
    clip: torch.Tensor
    target: torch.Tensor
    silence: torch.Tensor
    noise_offset: torch.Tensor
    noise_gain: torch.Tensor
    noise: NoiseBank | None = None

    def __len__(self) -> int:
        return len(self.clip)

    @classmethod
    def of(
        cls, bank: WaveBank, clip: Sequence[int], target: Sequence[int], noise: NoiseBank | None = None
    ) -> "Entries":
        """Entries of clips alone, without silence."""
        rows = len(clip)
        return cls(
            bank,
            torch.as_tensor(clip, dtype=torch.int64).reshape(rows),
            torch.as_tensor(target, dtype=torch.int64).reshape(rows),
            torch.zeros(rows, dtype=torch.bool),
            torch.full((rows,), NO_CLIP, dtype=torch.int64),
            torch.zeros(rows),
            noise,
        )

    def with_silence(
        self, target: int, offsets: torch.Tensor | None, gains: torch.Tensor | None, count: int
    ) -> "Entries":
        """The same entries and `count` rows of silence: zeros, or background noise at offsets times gains."""
        more = Entries.of(self.bank, [NO_CLIP] * count, [target] * count)
        more.silence[:] = True
        if offsets is not None and gains is not None:
            more.noise_offset, more.noise_gain = offsets, gains.float()
        joined = {name: torch.cat([getattr(self, name), getattr(more, name)]) for name in _COLUMNS}
        return Entries(self.bank, noise=self.noise, **joined)


_COLUMNS = tuple(f.name for f in fields(Entries) if f.name not in ("bank", "noise"))


@dataclass
class Task:
    """A classification task stored in a folder.

    Attributes:
        labels: class names; a target is a position in this list.
        bank: the decoded clips.
        entries: what each of "train", "validation" and "test" consists of.
        noise: background recordings, or None.
        metadata: protocol, version, seed and counts.
    """

    labels: list[str]
    bank: WaveBank
    entries: dict[str, Entries]
    noise: NoiseBank | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> Entries:
        """The entries of one split; ValueError where there is no such split."""
        if name not in self.entries:
            raise ValueError(f"no split {name!r}: there are {', '.join(self.entries)}")
        return self.entries[name]

    def counts(self) -> dict[str, list[int]]:
        """For each split the number of entries of each label, in label order."""
        return {
            name: torch.bincount(split.target, minlength=len(self.labels)).tolist()
            for name, split in self.entries.items()
        }

    def table(self) -> str:
        """The counts by label and split, as lines of text."""
        counts = self.counts()
        wide = max([len(label) for label in self.labels] + [5])
        lines = [f"{'label':<{wide}}" + "".join(f"{name:>12}" for name in counts)]
        for i, label in enumerate(self.labels):
            lines.append(f"{label:<{wide}}" + "".join(f"{column[i]:>12}" for column in counts.values()))
        lines.append(f"{'all':<{wide}}" + "".join(f"{sum(column):>12}" for column in counts.values()))
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Store everything but the bank, which lies in `folder`/bank already; `task.json` is written last."""
        (folder / "task.json").unlink(missing_ok=True)
        arrays = {
            f"{split}/{name}": getattr(rows, name).numpy() for split, rows in self.entries.items() for name in _COLUMNS
        }
        with atomic(folder / "entries.npz") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        if self.noise is not None:
            with atomic(folder / "noise.npz") as stream:
                np.savez(stream, samples=self.noise.samples, starts=self.noise.starts)
        noise = None if self.noise is None else self.noise.names
        write_json(
            folder / "task.json",
            {
                "format": FORMAT,
                "labels": self.labels,
                "noise": noise,
                "bank": self.bank.digest,
                "metadata": self.metadata,
            },
        )

    @classmethod
    def open(cls, folder: str | Path) -> "Task":
        """Open a prepared task.

        Raises:
            BankError: there is none, or it is not whole.
        """
        folder = Path(folder)
        with parsing(folder / "task.json", "prepared task"):
            stored = json.loads((folder / "task.json").read_text(encoding="utf-8"))
            if stored["format"] != FORMAT:
                raise BankError(f"{folder}: holds a task in another format; prepare it again")
            labels, names, metadata, digest = (stored[name] for name in ("labels", "noise", "metadata", "bank"))
            if not (_strings(labels) and (names is None or _strings(names)) and isinstance(metadata, dict)):
                raise ValueError("labels or noise are not lists of names, or metadata is no object")
        bank = WaveBank.open(folder / "bank")
        if digest != bank.digest:
            raise BankError(f"{folder}: the task and its bank do not belong together; prepare it again")
        noise = None
        if names is not None:
            with parsing(folder / "noise.npz", "prepared task"), np.load(folder / "noise.npz") as stream:
                noise = NoiseBank(stream["samples"], stream["starts"], names, bank.sample_rate)
                if not (len(noise.starts) == len(names) + 1 and noise.starts[-1] == len(noise.samples)):
                    raise ValueError("it does not hold the recordings that task.json names")
        with parsing(folder / "entries.npz", "prepared task"), np.load(folder / "entries.npz") as stream:
            splits = dict.fromkeys(name.split("/")[0] for name in stream)
            entries = {split: _entries(stream, split, bank, noise, len(labels)) for split in splits}
        return cls(labels, bank, entries, noise, metadata)


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _entries(
    stream: Mapping[str, np.ndarray], split: str, bank: WaveBank, noise: NoiseBank | None, labels: int
) -> Entries:
    """The rows of a split; ValueError where they point to what is not there."""
    columns = {name: torch.from_numpy(stream[f"{split}/{name}"]) for name in _COLUMNS}
    rows = Entries(bank, noise=noise, **columns)
    if any(column.shape != rows.clip.shape for column in columns.values()):
        raise ValueError(f"the columns of {split} differ in length")
    limits = ((rows.clip, NO_CLIP, len(bank)), (rows.target, 0, labels))
    if len(rows) and any(column.min() < low or column.max() >= high for column, low, high in limits):
        raise ValueError(f"{split} names clips or labels that are not there")
    return rows
