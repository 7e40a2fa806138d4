"""Speech Commands as a job for the trainer: batches from the bank, augmentation, log-mel, mixing, loss."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from randommix_audio.data import BankLoader, Batch, Task
from recipes.shared.classifier import ClassifierJob
from recipes.shared.console import UserError
from recipes.speech_commands.augment import Augmenter, as_float
from recipes.speech_commands.config import Config
from recipes.speech_commands.recogniser import Shape

KEPT_BYTES = 2**30  # features of a split up to this size are computed once and kept on the device


class KeywordJob(ClassifierJob):
    """What the trainer asks for, for one task and one configuration.

    Args:
        config: the options.
        task: a prepared corpus.
        fabric: device and processes.

    Raises:
        UserError: where options and corpus do not fit.
    """

    def __init__(self, config: Config, task: Task, fabric: Fabric) -> None:
        self.config, self.task = config, task
        rate = task.bank.sample_rate
        self.shape = Shape(
            labels=list(task.labels),
            preset=config.preset,
            front_end={"sample_rate": rate, **config.front_end},
            model=config.model,
            width=config.width,
            dropout=config.dropout,
            samples=task.bank.samples,
            pad=task.metadata.get("settings", {}).get("pad", "end"),
        )
        self.front_end = self.shape.make_front_end().to(fabric.device)
        if self.front_end.sample_rate != rate:
            raise UserError(f"front_end.sample_rate is {self.front_end.sample_rate}, but the clips have {rate}")
        super().__init__(config, list(task.labels), fabric, self.front_end.pad_value)
        noise = [torch.from_numpy(task.noise[i].copy()) for i in range(len(task.noise))] if task.noise else []
        self.augmenter = Augmenter(config.augment, rate, noise, fabric.device)
        self.loader = BankLoader(
            task.split("train"),
            config.batch_size,
            seed=config.seed,
            device=fabric.device,
            workers=config.workers,
            resident={"auto": "auto", "yes": True, "no": False}[config.resident],  # type: ignore[arg-type]
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        if len(self.loader) == 0:
            raise UserError(f"{config.data}: has no training clips")
        self.steps_per_epoch = len(self.loader)
        self.counts = {split: len(task.split(split)) for split in ("train", "validation", "test")}
        self.rows_per_epoch = self.counts["train"]
        self.about: dict[str, Any] = {
            "shape": dataclasses.asdict(self.shape),
            "task": task.metadata,
            "data": data_digest(task),
        }
        self._kept: dict[str, list[tuple[Tensor, Tensor]]] = {}
        # Without changes to the waveforms these are the same ones in every epoch, and so are their features.
        self.keeps_features = not self.augmenter.changes_waves and self._bytes("train") <= KEPT_BYTES

    def facts(self) -> dict[str, Any]:
        """What the corpus is, and the front end by name."""
        return {"task": self.task.metadata, "preset": self.config.preset}

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of this process in an epoch; without waveforms (B, 0) where the features are kept."""
        if not self.keeps_features:
            yield from self.loader.epoch(epoch)
            return
        _, target, silence = self._train
        for rows in self.loader.rows(epoch):
            at = rows.to(self.fabric.device)
            nothing = torch.zeros(len(rows), 0, dtype=torch.int16, device=at.device)
            lengths = torch.full_like(at, self.shape.samples)
            yield Batch(nothing, lengths, target[at], silence[at], at)

    @torch.no_grad()
    def prepare(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Augmented log-mel features (B, 1, F, T) of a batch, not mixed yet."""
        if self.keeps_features:
            x = self._train[0][batch.index, 0]
        else:
            x = self.front_end(self.augmenter.wave(as_float(batch.wave), generator))
        return self.augmenter.features(x, generator, self.front_end.pad_value)[:, None]

    def mixable(self, batch: Batch) -> Tensor | None:
        """(B,) bool, without the silent rows where these stay as they are; None for all."""
        return None if self.config.mix_silence else ~batch.silence

    def examples(self, batch: Batch) -> list[int]:
        """The first two rows that are not silent."""
        return (~batch.silence).nonzero().flatten().tolist()[:2]

    def pictured(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The features, with axes in seconds and Hz."""
        return x, {"front_end": self.front_end}

    def inputs(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of a split as (features (B, 1, F, T), targets (B,)), without augmentation."""
        fabric = self.fabric
        share = self._all_features(split, rank=fabric.global_rank, world_size=fabric.world_size)
        if self._bytes(split) > KEPT_BYTES:
            yield from share
            return
        if split not in self._kept:
            self._kept[split] = list(share)
        yield from self._kept[split]

    @cached_property
    def _train(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, 1, F, T), targets (N,) and silence (N,) of the training set, on the device."""
        entries, device = self.task.split("train"), self.fabric.device
        features = torch.cat([x for x, _ in self._all_features("train")])
        return features, entries.target.to(device), entries.silence.to(device)

    def _all_features(self, split: str, rank: int = 0, world_size: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        entries, device = self.task.split(split), self.fabric.device
        loader = BankLoader(
            entries,
            self.config.batch_size,
            device=device,
            resident=False,
            shuffle=False,
            rank=rank,
            world_size=world_size,
        )
        for batch in loader.epoch(0):
            yield self.front_end(batch.wave)[:, None], batch.target

    def _bytes(self, split: str) -> int:
        """Size of the features of a split."""
        frames = self.front_end.frames(self.shape.samples)
        return len(self.task.split(split)) * self.front_end.n_mels * frames * 4


def data_digest(task: Task) -> str:
    """A digest of everything that training and testing read of a task; where the task lies does not matter."""
    bank = task.bank
    about = [bank.digest, bank.sample_rate, bank.samples, task.labels, task.metadata.get("settings", {}).get("pad")]
    digest = hashlib.sha256(json.dumps(about).encode())
    for name, entries in sorted(task.entries.items()):
        digest.update(f"{name} {len(entries)}".encode())
        for column in (entries.clip, entries.target, entries.silence, entries.noise_offset, entries.noise_gain):
            digest.update(column.numpy().tobytes())
    if task.noise is not None:
        digest.update(np.ascontiguousarray(task.noise.samples).tobytes() + task.noise.starts.tobytes())
    return digest.hexdigest()
