"""Batches of corpora that are too large for a bank: decoded in workers, the same ones for a seed and an epoch."""

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .bank import row_length
from .errors import BankError, check_whole
from .reading import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioError
from .recordings import Recording


class Wave(NamedTuple):
    """One row before it is in a batch: (samples,) int16, its target, and which recording it is."""

    wave: np.ndarray
    target: Any
    position: int


@dataclass
class WaveBatch:
    """Recordings, padded with zeros.

    Attributes:
        wave: (B, N) int16 samples, zeros beyond the end of a row.
        lengths: (B,) int64 samples of each row.
        target: (B,) int64 where all targets are whole numbers, else a list of B.
        index: (B,) int64 position in the list of recordings.
    """

    wave: Tensor
    lengths: Tensor
    target: Tensor | list[Any]
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def pin_memory(self) -> "WaveBatch":
        """The batch in pinned memory; called by torch's DataLoader."""
        pinned = {name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **pinned)


def collate_waves(rows: Sequence[Wave], samples: int | None = None) -> WaveBatch:
    """One batch of rows of any lengths, padded to the longest, or to `samples` where none is longer."""
    lengths = torch.tensor([len(row.wave) for row in rows])
    wave = torch.zeros(len(rows), int(lengths.max()) if samples is None else samples, dtype=torch.int16)
    for padded, row in zip(wave, rows, strict=True):
        padded[: len(row.wave)] = torch.from_numpy(row.wave)
    target: Any = [row.target for row in rows]
    if all(isinstance(value, (int, np.integer)) for value in target):
        target = torch.tensor(target, dtype=torch.int64)
    return WaveBatch(wave, lengths, target, torch.tensor([row.position for row in rows]))


class WaveDataset(Dataset):
    """Recordings by their position, read when asked for; for a DataLoader with `collate_waves`.

    Args:
        recordings: what there is.
        sample_rate: of the rows in Hz; other rates are resampled.
        seconds: longer recordings lose their end; None reads them whole.

    Raises:
        ValueError: the sample rate is outside 1 kHz to 768 kHz, or seconds give no sample.
    """

    def __init__(self, recordings: Sequence[Recording], sample_rate: int = 16000, seconds: float | None = None) -> None:
        if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
            raise ValueError(f"sample_rate must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, not {sample_rate}")
        self.recordings, self.sample_rate, self.seconds = recordings, sample_rate, seconds
        try:
            self.samples = None if seconds is None else row_length(seconds, sample_rate)
        except BankError as error:
            raise ValueError(str(error)) from None

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> Wave:
        """One row; AudioError, which names the file, where it cannot be read."""
        recording = self.recordings[index]
        # Resampling wants a little beyond the end.
        wave = recording.wave(self.sample_rate, None if self.seconds is None else self.seconds + 0.1)
        return Wave(wave if self.samples is None else wave[: self.samples], recording.target, int(index))


class StreamLoader:
    """Batches of recordings, decoded and resampled in worker processes, int16 so that little is moved.

    The order of an epoch is drawn from (seed, epoch) alone, and each rank takes a piece of it, so that the batches are
    the same for any number of workers, and going on at batch k reads nothing before it.

    Args:
        recordings: what there is; see `read_manifest`, `read_shards`.
        batch_size: rows of a batch on this rank.
        sample_rate: of the batches in Hz; other rates are resampled.
        seconds: longer recordings lose their end; None reads them whole.
        fixed: pad all batches to `seconds`, not to their longest row.
        seed: of the order.
        workers: processes that decode; 0 decodes in this one.
        ahead: batches that each worker decodes before they are asked for.
        shuffle: a new order each epoch; False keeps that of the recordings.
        pool: None shuffles all recordings. A number shuffles the files (or tars), then the recordings of neighbours
            among each other within so many rows, so that reading stays in a few tars at a time.
        drop_last: leave out the last batch if it is not full.
        rank: this process.
        world_size: the number of processes. With `shuffle` every rank gets equally many rows: what is missing is
            filled from the start of the order or, with `drop_last`, what is over is left out. Without it no row is
            repeated, and the first ranks may get one more.
        pin_memory: put batches into pinned memory in a thread (for CUDA).

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        batch_size: int = 64,
        sample_rate: int = 16000,
        seconds: float | None = None,
        fixed: bool = False,
        seed: int = 0,
        workers: int = 0,
        ahead: int = 2,
        shuffle: bool = True,
        pool: int | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
    ) -> None:
        check_whole("batch_size", batch_size, 1)
        check_whole("seed", seed, 0)
        check_whole("workers", workers, 0)
        check_whole("ahead", ahead, 1)
        check_whole("pool", 1 if pool is None else pool, 1)
        check_whole("rank", rank, 0)
        check_whole("world_size", world_size, 1)
        if rank >= world_size:
            raise ValueError(f"rank must be 0 to world_size - 1 = {world_size - 1}, not {rank}")
        if fixed and seconds is None:
            raise ValueError("fixed needs seconds: how long all batches are")
        if isinstance(recordings, str) or not hasattr(recordings, "__getitem__"):
            raise ValueError(f"recordings must be a list, as read_manifest gives, not {type(recordings).__name__}")
        if not len(recordings):
            raise ValueError("recordings must not be empty")
        self.dataset = WaveDataset(_Packed(recordings) if workers else recordings, sample_rate, seconds)
        self.batch_size, self.seed, self.shuffle, self.drop_last = batch_size, seed, shuffle, drop_last
        self.rank, self.world_size = rank, world_size
        self.pool, self._groups = pool, None if pool is None else _groups(recordings)
        self._batches = _Batches(self.dataset, fixed)
        self._options: dict[str, Any] = {
            "num_workers": workers,
            "prefetch_factor": ahead if workers else None,
            "pin_memory": pin_memory,
        }

    def __len__(self) -> int:
        """Batches of an epoch on this rank."""
        return len(self.rows(0))

    def order(self, epoch: int) -> np.ndarray:
        """(N,) all recordings, of all ranks together, in the order of an epoch.

        Raises:
            ValueError: epoch is negative.
        """
        check_whole("epoch", epoch, 0)
        count = len(self.dataset)
        if not self.shuffle:
            return np.arange(count)
        generator = np.random.default_rng([self.seed, epoch])
        if self.pool is None or self._groups is None:
            return generator.permutation(count)
        turn = generator.permutation(int(self._groups.max()) + 1)[self._groups]
        neighbours = np.argsort(turn, kind="stable")
        return neighbours[np.lexsort((generator.random(count), np.arange(count) // self.pool))]

    def rows(self, epoch: int) -> list[np.ndarray]:
        """The recordings of each batch of an epoch on this rank; nothing is read."""
        order = self.order(epoch)
        if not self.shuffle:
            own = np.array_split(order, self.world_size)[self.rank]
        else:
            each = len(order) // self.world_size if self.drop_last else -(-len(order) // self.world_size)
            own = np.resize(order, each * self.world_size)[self.rank * each :][:each]
        batches = [own[at : at + self.batch_size] for at in range(0, len(own), self.batch_size)]
        return batches[:-1] if batches and self.drop_last and len(batches[-1]) < self.batch_size else batches

    def epoch(self, epoch: int, start: int = 0) -> Iterator[WaveBatch]:
        """The batches of an epoch from batch `start` on. Workers end with the iteration, also where it is left early.

        Raises:
            AudioError: a file cannot be read; names it.
            ValueError: epoch or start is negative.
        """
        check_whole("start", start, 0)
        return self._read(self.rows(epoch)[start:])

    def _read(self, rows: list[np.ndarray]) -> Iterator[WaveBatch]:
        # A generator of its own, so that torch's default one is not drawn from.
        loader = DataLoader(
            self._batches,
            batch_size=None,
            sampler=rows,  # type: ignore[arg-type]
            generator=torch.Generator().manual_seed(0),
            **self._options,
        )
        arriving = iter(loader)
        try:
            for batch in arriving:
                if isinstance(batch, AudioError):
                    raise batch
                yield batch
        finally:
            del arriving  # ends the workers now, where an exception would keep it alive


class _Packed(Sequence[Recording]):
    """Recordings as one piece of memory. A worker that counts references to objects copies the pages they lie in.

    Paths become str: the parts of a Path are interned, so that one made in a worker refers to those of the loader's.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        named = (replace(recording, path=os.fspath(recording.path)) for recording in recordings)
        rows = [pickle.dumps(recording, pickle.HIGHEST_PROTOCOL) for recording in named]
        self._content, self._ends = b"".join(rows), np.cumsum([0, *map(len, rows)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(len(self))[index]]
        at = range(len(self))[index]
        return pickle.loads(self._content[self._ends[at] : self._ends[at + 1]])


class _Batches(Dataset):
    """Batches by the rows that they are made of. An error is handed over whole: torch would make it a plain text."""

    def __init__(self, rows: WaveDataset, fixed: bool) -> None:
        self.rows, self.samples = rows, rows.samples if fixed else None

    def __getitem__(self, at: np.ndarray) -> WaveBatch | AudioError:
        try:
            return collate_waves([self.rows[index] for index in at], self.samples)
        except AudioError as error:
            return error.with_traceback(None)


def _groups(recordings: Sequence[Recording]) -> np.ndarray:
    """(N,) int64, equal where recordings lie in one file or tar; numbered as they first appear."""
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(recording.path, len(numbers)) for recording in recordings])
