"""Batches from a bank: the same ones for a seed and an epoch, however and wherever they are put together."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from randommix_audio.transfer import to_device

from .errors import check_whole
from .task import Entries

RESIDENT_SHARE = 0.6  # of the free memory of the device


@dataclass
class Batch:
    """Rows of a batch.

    Attributes:
        wave: (B, N) int16 samples.
        lengths: (B,) int64 samples of each row before the padding; silence is full length.
        target: (B,) int64 position in the label list.
        silence: (B,) bool, rows of the silence class.
        index: (B,) int64 row of the split.
    """

    wave: torch.Tensor
    lengths: torch.Tensor
    target: torch.Tensor
    silence: torch.Tensor
    index: torch.Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device, copied without waiting where it lies in pinned memory."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def pin_memory(self) -> "Batch":
        """The batch in pinned memory; called by torch's DataLoader."""
        return Batch(*(getattr(self, f.name).pin_memory() for f in fields(self)))


class BankLoader:
    """Batches of a split of a task.

    The order of an epoch is a permutation drawn from (seed, epoch) alone. Rows are gathered from the bank
    on the device when it lies there ("resident"), else from the memory map, in this process or in workers;
    all of them give the same batches.

    Distributed training: rank r takes the rows r, r + world_size, ... of the order. With `shuffle` all
        ranks get
    equally many batches of equal sizes; what is missing is filled from the start of the order (or, with
    `drop_last`, what is over is left out). Without `shuffle` (evaluation) no row is repeated, so the last
    ranks may get a row, and
    with it a batch, less: do not call collectives for each batch there.

    Args:
        entries: a split of a task.
        batch_size: rows of a batch on this rank.
        seed: of the order.
        device: where the batches go.
        workers: processes that gather batches when the bank is not resident; 0 gathers in this one.
        resident: True holds the split's rows on the device; False streams; "auto" holds them on a CUDA
            device when they take less than 60 % of its free memory, and uses the memory map otherwise.
        shuffle: a new order each epoch; False keeps the order of the split.
        drop_last: leave out the last batch if it is not full.
        rank, world_size: this process and the number of processes.
    """

    def __init__(
        self,
        entries: Entries,
        batch_size: int = 256,
        seed: int = 0,
        device: torch.device | str = "cpu",
        workers: int = 0,
        resident: bool | Literal["auto"] = "auto",
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_whole("batch_size", batch_size, 1)
        check_whole("seed", seed, 0)
        check_whole("workers", workers, 0)
        check_whole("rank", rank, 0)
        check_whole("world_size", world_size, 1)
        if rank >= world_size:
            raise ValueError(f"rank must be 0 to world_size - 1 = {world_size - 1}, not {rank}")
        if resident not in (True, False, "auto"):
            raise ValueError(f"resident must be True, False or 'auto', not {resident!r}")
        self.entries, self.batch_size, self.seed = entries, batch_size, seed
        self.device, self.workers = torch.device(device), workers
        self.shuffle, self.drop_last = shuffle, drop_last
        self.rank, self.world_size = rank, world_size
        self.resident = _fits(entries, self.device) if resident == "auto" else bool(resident)
        self._rows: _ResidentRows | None = None
        self._loader: DataLoader | None = None
        self._order = _Order()
        self._turn = 0

    def __len__(self) -> int:
        """Batches of an epoch on this rank."""
        rows = len(self._share(0))
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    def order(self, epoch: int) -> torch.Tensor:
        """(N,) the rows of the whole split, all ranks together, in the order of an epoch."""
        if not self.shuffle:
            return torch.arange(len(self.entries))
        seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
        return torch.randperm(len(self.entries), generator=torch.Generator().manual_seed(seed))

    def rows(self, epoch: int) -> list[torch.Tensor]:
        """The rows of the split that make up each batch of an epoch on this rank; nothing is read."""
        rows = self._share(epoch)
        return list(rows.split(self.batch_size))[: len(self)] if len(rows) else []

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch. With workers, beginning a new epoch ends the one before.

        Raises:
            RuntimeError: an epoch is read on after a later one has begun.
        """
        batches = self.rows(epoch)
        if self.resident:
            if self._rows is None:
                self._rows = _ResidentRows(self.entries, self.device)
            yield from map(self._rows.gather, batches)
        elif self.workers == 0:
            streamed = _StreamedRows(self.entries)
            yield from (self._arrive(streamed[batch]) for batch in batches)
        else:
            yield from self._from_workers(batches)

    def _share(self, epoch: int) -> torch.Tensor:
        order = self.order(epoch)
        if self.shuffle and self.world_size > 1 and len(order):
            each = len(order) // self.world_size if self.drop_last else -(-len(order) // self.world_size)
            total = each * self.world_size
            order = order.repeat(-(-total // len(order)))[:total] if total else order[:0]
        return order[self.rank :: self.world_size]

    def _from_workers(self, batches: list[torch.Tensor]) -> Iterator[Batch]:
        if self._loader is None:
            self._loader = DataLoader(
                _StreamedRows(self.entries),
                batch_size=None,
                sampler=self._order,  # type: ignore[arg-type]
                num_workers=self.workers,
                pin_memory=self.device.type == "cuda",
                persistent_workers=True,
            )
        self._turn += 1
        turn, self._order.batches = self._turn, batches
        arriving = iter(self._loader)
        while True:
            if turn != self._turn:
                raise RuntimeError("this epoch was ended by a later one; read one epoch at a time")
            batch = next(arriving, None)
            if batch is None:
                return
            yield self._arrive(batch)

    def _arrive(self, batch: Batch) -> Batch:
        if self.device.type == "cpu":
            return batch
        return (batch.pin_memory() if self.workers == 0 and self.device.type == "cuda" else batch).to(self.device)


class _Order:
    """The batches of rows that the workers are given; torch's DataLoader asks for them anew each epoch."""

    def __init__(self) -> None:
        self.batches: list[torch.Tensor] = []

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _fits(entries: Entries, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    needed = len(torch.unique(entries.clip)) * entries.bank.samples * 2
    return needed < RESIDENT_SHARE * free


class _StreamedRows(Dataset):
    """Rows gathered from the memory map; small enough to be sent to a worker process."""

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self.lengths = torch.from_numpy(entries.bank.lengths.astype(np.int64))
        self.noise = None if entries.noise is None else torch.from_numpy(np.asarray(entries.noise.samples))

    def __getitem__(self, rows: torch.Tensor) -> Batch:
        entries = self.entries
        clip = entries.clip[rows]
        spoken = torch.nonzero(clip >= 0).flatten()
        wave = torch.zeros(len(rows), entries.bank.samples, dtype=torch.int16)
        wave[spoken] = torch.from_numpy(np.asarray(entries.bank.clips[clip[spoken].numpy()], dtype=np.int16))
        lengths = torch.where(clip >= 0, self.lengths[clip.clamp(min=0)], entries.bank.samples)
        noisy = torch.nonzero((clip < 0) & (entries.noise_offset[rows] >= 0)).flatten()
        if len(noisy) and self.noise is not None:
            at = rows[noisy]
            wave[noisy] = _background(self.noise, entries.noise_offset[at], entries.noise_gain[at], wave.shape[1])
        return Batch(wave, lengths, entries.target[rows], entries.silence[rows], rows)


class _ResidentRows:
    """The rows of a split on a device, silence included, gathered there."""

    def __init__(self, entries: Entries, device: torch.device) -> None:
        self.device = device
        self.used, place = torch.unique(entries.clip.clamp(min=0), return_inverse=True)
        source = entries.bank.clips
        self.wave = torch.empty(len(self.used), entries.bank.samples, dtype=torch.int16, device=device)
        # In parts, so that a whole corpus need not lie in the host's memory.
        for part in torch.arange(len(self.used)).split(4096):
            rows = torch.from_numpy(np.asarray(source[self.used[part].numpy()], dtype=np.int16))
            self.wave[part[0] : part[-1] + 1] = rows.to(device)
        self.place = place.to(device)
        spoken = entries.clip >= 0
        lengths = torch.from_numpy(entries.bank.lengths.astype(np.int64))[entries.clip.clamp(min=0)]
        self.spoken = spoken.to(device)
        self.lengths = torch.where(spoken, lengths, entries.bank.samples).to(device)
        self.target, self.silence = entries.target.to(device), entries.silence.to(device)
        self.offset, self.gain = entries.noise_offset.to(device), entries.noise_gain.to(device)
        noise = entries.noise
        has_noise = noise is not None and bool((entries.noise_offset >= 0).any())
        self.noise = torch.from_numpy(np.asarray(noise.samples)).to(device) if noise and has_noise else None
        # Known on the host, so that a batch without silence costs nothing and no batch waits for the device.
        self.host_noisy = (~spoken) & (entries.noise_offset >= 0)

    def gather(self, rows: torch.Tensor) -> Batch:
        at = to_device(rows, self.device)
        wave = self.wave[self.place[at]] * self.spoken[at, None]
        if self.noise is not None:
            noisy = torch.nonzero(self.host_noisy[rows]).flatten()
            if len(noisy):
                here = to_device(noisy, self.device)
                which = at[here]
                wave[here] = _background(self.noise, self.offset[which], self.gain[which], wave.shape[1])
        return Batch(wave, self.lengths[at], self.target[at], self.silence[at], at)


def _background(noise: torch.Tensor, offset: torch.Tensor, gain: torch.Tensor, samples: int) -> torch.Tensor:
    """(R, samples) int16 crops of the noise times their gains, rounded alike on every device."""
    crops = noise[offset[:, None] + torch.arange(samples, device=noise.device)]
    return (crops.float() * gain[:, None]).round().clamp(-32768, 32767).to(torch.int16)
