"""A prepared set of small images: what `python -m data_prep.cifar` and its neighbours make, and the recipes read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from randommix_audio.data import BankError
from randommix_audio.data.errors import parsing
from randommix_audio.data.task import SPLITS

FORMAT = 1
KIND = "prepared set of images"


@dataclass(frozen=True)
class ImageTask:
    """A classification task of images of one size, stored in a folder.

    The folder holds `<split>_images.npy` and `<split>_targets.npy` for each split, and `task.json`, which is written
    last: a folder that has it is whole.

    Attributes:
        labels: class names; a target is a position in this list.
        metadata: `settings` that the set was made with, and `notes`, lines that a reader may wish to know.
        root: the folder.
        splits: those of "train", "validation" and "test" that there are, in this order; "train" is always there.
        size: height and width of the images.
        mean: of each channel of the training images, in units of [0, 1].
        std: of each channel of the training images, about `mean`, in the same units.
        digest: SHA-256 of all labels, images and targets, made when the set was prepared.
    """

    labels: list[str]
    metadata: dict[str, Any]
    root: Path
    splits: tuple[str, ...]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    digest: str

    @classmethod
    def load(cls, folder: str | Path) -> ImageTask:
        """Open a prepared set; the images stay on the disk until they are read.

        Raises:
            BankError: there is none, or it is not whole; one line that names the file.
            OSError: it is there and cannot be opened.
        """
        root = Path(folder)
        with parsing(root / "task.json", KIND):
            stored = json.loads((root / "task.json").read_text(encoding="utf-8"))
            if not isinstance(stored, dict) or stored.get("kind") != "images":
                raise BankError(f"{root}: holds no {KIND} (its task.json is of another kind)")
            if stored["format"] != FORMAT:
                raise BankError(f"{root}: holds images in another format; prepare them again")
            task = cls(
                [str(label) for label in stored["labels"]],
                dict(stored["metadata"]),
                root,
                tuple(str(name) for name in stored["splits"]),
                int(stored["size"]),
                _per_channel(stored["mean"]),
                _per_channel(stored["std"]),
                str(stored["digest"]),
            )
            if "train" not in task.splits or not set(task.splits) <= set(SPLITS):
                raise ValueError(f"splits are {', '.join(task.splits) or 'missing'}")
        for name in task.splits:
            task.split(name)
        return task

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The images of a split, (N, size, size, 3) uint8, memory-mapped, RGB; and their targets, (N,) int64.

        Raises:
            ValueError: there is no such split.
            BankError: its arrays are missing, or do not belong together.
        """
        if name not in self.splits:
            raise ValueError(f"{self.root}: has no split {name!r}, only {', '.join(self.splits)}")
        with parsing(self.root / f"{name}_images.npy", KIND):
            images = np.load(self.root / f"{name}_images.npy", mmap_mode="r")
            if images.dtype != np.uint8 or images.shape[1:] != (self.size, self.size, 3):
                raise ValueError(f"holds {images.dtype} of shape {images.shape}, not images of side {self.size}")
        with parsing(self.root / f"{name}_targets.npy", KIND):
            targets = np.load(self.root / f"{name}_targets.npy")
            if targets.dtype != np.int64 or targets.shape != (len(images),):
                raise ValueError(f"holds {targets.dtype} of shape {targets.shape} for {len(images)} images")
            if len(targets) and not 0 <= targets.min() <= targets.max() < len(self.labels):
                raise ValueError(f"names classes beyond the {len(self.labels)} that there are")
        return images, targets

    def counts(self) -> dict[str, int]:
        """The number of images of each split."""
        return {name: len(self.split(name)[1]) for name in self.splits}


def _per_channel(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
