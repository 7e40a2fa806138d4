"""Images as a job for the trainer: batches of bytes, crop and flip on the device, mixing, loss, top-1 and top-5."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from recipes.images.augment import crop_and_flip, normalise
from recipes.images.batch import Batch
from recipes.images.classifier import Shape
from recipes.images.config import Config
from recipes.images.sources import Source
from recipes.shared.batching import epoch_rows
from recipes.shared.classifier import ClassifierJob
from recipes.shared.console import UserError


class ImageJob(ClassifierJob):
    """What the trainer asks for, for one set of images and one configuration.

    Args:
        config: the options.
        source: the images, on the device of the fabric.
        fabric: device and processes.

    Raises:
        UserError: where options and images do not fit.
    """

    channels = 3
    tells_top = True

    def __init__(self, config: Config, source: Source, fabric: Fabric) -> None:
        super().__init__(config, source.labels, fabric)
        self.config, self.source, self.counts = config, source, source.counts
        self.shape = Shape(
            labels=source.labels,
            model=config.model,
            width=config.width,
            dropout=config.dropout,
            size=source.size,
            margin=source.margin,
            mean=list(source.mean),
            std=list(source.std),
        )
        self.mean, self.std = (
            torch.tensor(values, device=fabric.device)[:, None, None] for values in (source.mean, source.std)
        )
        self.padding = 0 if source.cropped else config.augment.padding
        self.rows_per_epoch = source.counts["train"]
        self.steps_per_epoch = len(self._rows(0))
        if self.steps_per_epoch == 0:
            raise UserError(f"{config.data}: has no training images")
        self.about: dict[str, Any] = {
            "shape": dataclasses.asdict(self.shape),
            "task": source.metadata,
            "data": source.digest,
        }

    def facts(self) -> dict[str, Any]:
        """What is known of the set."""
        return {"task": self.source.metadata, "size": self.source.size}

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of this process in an epoch."""
        yield from self.source.train(epoch, self._rows(epoch))

    def _rows(self, epoch: int) -> list[Tensor]:
        fabric, config = self.fabric, self.config
        return epoch_rows(
            self.rows_per_epoch, config.batch_size, config.seed, epoch, fabric.global_rank, fabric.world_size
        )

    def prepare(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Augmented, normalised images (B, 3, H, W) of a batch, not mixed yet."""
        images = crop_and_flip(batch.images, self.padding, self.config.augment.flip, generator)
        return normalise(images, self.mean, self.std)

    def inputs(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of a split as (images (B, 3, H, W), targets (B,)), without augmentation."""
        rows = torch.arange(self.counts[split])[self.fabric.global_rank :: self.fabric.world_size]
        for batch in self.source.read(split, rows, self.config.batch_size):
            yield normalise(batch.images, self.mean, self.std), batch.target

    def pictured(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The images as they were before they were normalised."""
        return (x * self.std + self.mean).clamp(0, 1), {"image": True}
