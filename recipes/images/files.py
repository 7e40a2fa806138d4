"""Image files in train/<class>/ and val/<class>/, for sets of the size of ImageNet: nothing is prepared or kept.

Where there is test/<class>/ as well, val/ is what epochs may be chosen by; else it is the test split, because the paper
reports on ImageNet's and no epoch may be chosen by that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data_prep.command import one_line
from recipes.images.batch import SPLITS, Batch
from recipes.images.config import Config
from recipes.shared.console import UserError
from recipes.shared.optional import need

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
MARGIN = 256 / 224  # the usual test crop of ImageNet: 224 out of the middle of an image whose short side is 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def read_image(path: str | Path) -> Tensor:
    """The pixels of an image file as (3, H, W) uint8, RGB.

    Raises:
        UserError: where it is no image.
        OSError: where it cannot be read.
    """
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import to_dtype

    data = Path(path).read_bytes()
    try:
        coded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        image = decode_image(coded, mode=ImageReadMode.RGB, apply_exif_orientation=True)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: not a readable image ({', '.join(ENDINGS)})") from error
    if image.ndim == 4:  # a moving picture
        image = image[0]
    return to_dtype(image, torch.uint8, scale=True)  # some PNG files have 16 bits


def middle(image: Tensor, size: int, margin: float) -> Tensor:
    """Resize an image and cut its middle out: what a model is tested on.

    Args:
        image: (3, H, W) uint8.
        size: height and width of the result.
        margin: the short side is resized to size * margin first; 1 shows all of it, resized as in prepared sets.

    Returns:
        (3, size, size) uint8.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import center_crop, resize

    short = round(size * margin)
    if min(image.shape[1:]) != short:
        kind = InterpolationMode.BICUBIC if margin == 1 else InterpolationMode.BILINEAR
        image = resize(image, [short], interpolation=kind, antialias=True)
    return center_crop(image, [size, size])


@dataclass(frozen=True)
class Files:
    """The files of a split, in two arrays, which worker processes share; each would copy a list little by little.

    Args:
        names: (N,) the paths as bytes.
        targets: (N,) int64, the class of each.
    """

    names: np.ndarray
    targets: Tensor

    @classmethod
    def of(cls, found: Sequence[tuple[str, int]]) -> Files:
        """Of paths with their classes."""
        names = np.array([os.fsencode(path) for path, _ in found], dtype=bytes)
        return cls(names, torch.tensor([target for _, target in found], dtype=torch.long))

    def path(self, row: int) -> str:
        """The path of one file."""
        return os.fsdecode(self.names[row])


class ImageFiles:
    """A folder of image files as a `sources.Source`.

    Args:
        folder: holds train/<class>/ and val/<class>/, and perhaps test/<class>/.
        config: the options; `image_size`, `augment.area`, `seed` and `workers` count here.
        device: where the batches go.

    Raises:
        UserError: where a class has no images, the splits have other classes, or torchvision is not installed.
    """

    margin, mean, std = MARGIN, MEAN, STD
    cropped = True

    def __init__(self, folder: Path, config: Config, device: torch.device) -> None:
        need("torchvision", "images")
        self.size, self.device, self.workers = config.image_size, device, config.workers
        self.files = {split: Files.of([]) for split in SPLITS}
        self.labels, self.files["train"] = _files(folder / "train")
        tested = {"validation": "val", "test": "test"} if (folder / "test").is_dir() else {"test": "val"}
        for split, name in tested.items():
            labels, self.files[split] = _files(folder / name)
            if labels != self.labels:
                other = sorted(set(self.labels) ^ set(labels))
                raise UserError(f"{folder}: train and {name} have other classes ({', '.join(other[:3])})")
        self.counts = {split: len(files.targets) for split, files in self.files.items()}
        self.metadata: dict[str, Any] = {"settings": {"image_size": self.size}}
        self.digest = _digest(folder, self.labels, self.files)
        self.crops = _Crops(self.files["train"], self.size, config.augment.area, config.seed)
        self.order = _Order()
        self._loader: DataLoader | None = None

    def train(self, epoch: int, rows: list[Tensor]) -> Iterator[Batch]:
        """Random crops of random shapes, each drawn from (seed, epoch, row) alone."""
        if self._loader is None:
            self._loader = self._workers(self.crops, self.order)
        self.order.items = [(epoch, some) for some in rows]
        yield from self._arriving(self._loader)

    def read(self, split: str, rows: Tensor, batch_size: int) -> Iterator[Batch]:
        """The middle of each image."""
        if len(rows) == 0:
            return
        middles = _Middles(self.files[split], self.size, self.margin)
        yield from self._arriving(self._workers(middles, _Order(list(rows.split(batch_size)))))

    def _workers(self, dataset: Dataset, order: _Order) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=order,  # type: ignore[arg-type]
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=self.workers > 0 and dataset is self.crops,
            generator=torch.Generator(),  # else it draws a seed from torch's own random state, as dropout does
        )

    def _arriving(self, loader: DataLoader) -> Iterator[Batch]:
        for images, target, mistake in loader:
            if mistake:
                raise UserError(mistake)
            yield Batch(images, target).to(self.device)


class _Order:
    """What the workers are to read; torch's DataLoader asks for it anew each epoch."""

    def __init__(self, items: Sequence[Any] = ()) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class _Images(Dataset):
    """Batches of images as (bytes (B, size, size, 3), targets (B,), what went wrong).

    A mistake is told and not raised, because torch would bury it in the traceback of a worker process.
    """

    def __init__(self, files: Files, size: int) -> None:
        self.files, self.targets, self.size = files, files.targets, size

    def _batch(self, images: Iterator[Tensor], rows: Tensor) -> tuple[Tensor, Tensor, str]:
        try:
            return torch.stack([image.permute(1, 2, 0) for image in images]), self.targets[rows], ""
        except (UserError, OSError) as error:
            return torch.empty(0), torch.empty(0), one_line(error)


class _Crops(_Images):
    def __init__(self, files: Files, size: int, area: Sequence[float], seed: int) -> None:
        from torchvision.transforms.v2 import RandomResizedCrop

        super().__init__(files, size)
        self.crop = RandomResizedCrop(size, scale=(area[0], area[1]), antialias=True)
        self.seed = seed

    def __getitem__(self, item: tuple[int, Tensor]) -> tuple[Tensor, Tensor, str]:
        epoch, rows = item
        return self._batch((self._one(epoch, row) for row in rows.tolist()), rows)

    def _one(self, epoch: int, row: int) -> Tensor:
        state = np.random.SeedSequence([self.seed, epoch, row]).generate_state(1, np.uint64)[0] >> 1
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's own random state
            torch.manual_seed(int(state))
            return self.crop(read_image(self.files.path(row)))


class _Middles(_Images):
    def __init__(self, files: Files, size: int, margin: float) -> None:
        super().__init__(files, size)
        self.margin = margin

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor, str]:
        images = (middle(read_image(self.files.path(row)), self.size, self.margin) for row in rows.tolist())
        return self._batch(images, rows)


def _files(folder: Path) -> tuple[list[str], Files]:
    """The classes of a folder, and its files with the number of their class, both in the order of their names.

    Hidden files are not looked at. Files that are no images by their ending are passed over, and counted in a line.
    """
    from torchvision.datasets import DatasetFolder

    others: list[str] = []

    def is_image(path: str) -> bool:
        name = os.path.basename(path)
        if name.startswith("."):
            return False
        if not name.lower().endswith(ENDINGS):
            others.append(path)
            return False
        return True

    try:
        found = DatasetFolder(str(folder), loader=read_image, is_valid_file=is_image)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: {one_line(error)}") from error
    if others:
        print(f"{folder}: {len(others)} files are none of {', '.join(ENDINGS)} and passed over, such as {others[0]}")
    return found.classes, Files.of(found.samples)


def _digest(folder: Path, labels: list[str], files: dict[str, Files]) -> str:
    """A digest of labels, and of the names and sizes of all files; to read them would take hours."""
    digest = hashlib.sha256("\0".join(labels).encode())
    for split, entries in files.items():
        digest.update(split.encode())
        for row in range(len(entries.names)):
            file = Path(entries.path(row))
            digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size}\n".encode())
    return digest.hexdigest()
