"""Where images come from: a prepared set, held on the device, or image files, decoded by worker processes.

Both give the bytes of the images as (B, H, W, 3) on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recipes.images.batch import SPLITS, Batch
from recipes.images.config import Config
from recipes.images.files import ImageFiles
from recipes.images.task import ImageTask
from recipes.shared.console import UserError
from recipes.shared.devices import fits


class Source(Protocol):
    """A set of images, on whatever device it was opened for.

    Attributes:
        labels: class names.
        counts: images of each of SPLITS.
        size: height and width.
        margin: by how much an image is larger, in each direction, before its middle is cut out for a test.
        mean, std: of each channel, in units of [0, 1].
        cropped: whether training images arrive cropped at random.
        metadata: what is known of the set.
        digest: of everything that is read.
    """

    labels: list[str]
    counts: dict[str, int]
    size: int
    margin: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    cropped: bool
    metadata: dict[str, Any]
    digest: str

    def train(self, epoch: int, rows: list[Tensor]) -> Iterator[Batch]:
        """The batches of training images that `rows` names."""

    def read(self, split: str, rows: Tensor, batch_size: int) -> Iterator[Batch]:
        """The images of a split in order, as a test sees them."""


def open_source(config: Config, device: torch.device) -> Source:
    """The set that `config.data` names.

    Raises:
        UserError: where there is neither a prepared set nor a folder of image files.
        BankError: where a prepared set is damaged.
    """
    folder = Path(config.data)
    if (folder / "task.json").exists():
        return Prepared(ImageTask.load(folder), config.resident, device)
    if not all((folder / split).is_dir() for split in ("train", "val")):
        raise UserError(
            f"{folder}: holds neither a prepared set (task.json) nor image files in train/<class>/ and val/<class>/"
        )
    return ImageFiles(folder, config, device)


class Prepared:
    """A prepared set; the training images lie on the device where they fit, all others are read from the disk.

    Args:
        task: the set.
        resident: yes, no, or auto, which is yes on a CUDA device with room.
        device: where the batches go.
    """

    margin = 1.0
    cropped = False

    def __init__(self, task: ImageTask, resident: str, device: torch.device) -> None:
        self.labels, self.metadata, self.digest = task.labels, task.metadata, task.digest
        self.size, self.mean, self.std, self.device = task.size, task.mean, task.std, device
        self.splits = {name: task.split(name) for name in task.splits}
        self.counts = {name: len(self.splits[name][1]) if name in self.splits else 0 for name in SPLITS}
        images, targets = self.splits["train"]
        self.resident = fits(images.nbytes, device) if resident == "auto" else resident == "yes"
        self.held: Tensor | None = None
        self.targets = torch.from_numpy(targets).to(device)

    def train(self, epoch: int, rows: list[Tensor]) -> Iterator[Batch]:
        """See `Source`; the same rows are the same images in every epoch."""
        if not self.resident:
            yield from (self._read("train", some) for some in rows)
            return
        if self.held is None:
            self.held = self._all("train")
        for some in rows:
            at = _moved(some, self.device)
            yield Batch(self.held[at], self.targets[at])

    def read(self, split: str, rows: Tensor, batch_size: int) -> Iterator[Batch]:
        """See `Source`."""
        for some in rows.split(batch_size) if len(rows) else ():
            yield self._read(split, some)

    def _read(self, split: str, rows: Tensor) -> Batch:
        images, targets = self.splits[split]
        found = Batch(torch.from_numpy(images[rows.numpy()]), torch.from_numpy(targets[rows.numpy()]))
        return Batch(_moved(found.images, self.device), _moved(found.target, self.device))

    def _all(self, split: str) -> Tensor:
        images = self.splits[split][0]
        held = torch.empty(images.shape, dtype=torch.uint8, device=self.device)
        for start in range(0, len(images), 4096):  # in parts, so that the host need not hold all of them
            held[start : start + 4096] = torch.from_numpy(np.array(images[start : start + 4096])).to(self.device)
        return held


def _moved(value: Tensor, device: torch.device) -> Tensor:
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)
