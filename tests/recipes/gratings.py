"""Tiny sets of images made on the spot: stripes that lie, stripes that stand, and none, in noise."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_prep.images import Part, store
from recipes.images.config import Config
from recipes.images.train import train
from recipes.shared import console

LABELS = ["lying", "plain", "standing"]
SMALL = ("--width=4", "--batch_size=16", "--device=cpu", "--threads=1", "--lr=0.05", "--pictures=false")


def gratings(count: int, height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, height, width, 3) bytes and their classes, one after the other."""
    random = np.random.default_rng(seed)
    classes = np.arange(count) % 3
    line, column = np.mgrid[:height, :width]
    waves = np.stack([np.sin(line * np.pi / 2), 0 * line, np.sin(column * np.pi / 2)])[classes]
    images = 128 + 80 * waves[..., None] + 12 * random.standard_normal((count, height, width, 3))
    return images.clip(0, 255).astype(np.uint8), classes


def make_set(folder: Path, size: int = 12, validation: int = 0) -> Path:
    """Write a prepared set of 60 training and 21 test images."""
    counts = {"train": 60, "validation": validation, "test": 21}
    made = {split: gratings(count, size, size, seed) for seed, (split, count) in enumerate(counts.items())}
    store(folder, LABELS, size, {s: Part(y, x) for s, (x, y) in made.items()}, {"set": "gratings"}, progress=False)
    return folder


def make_files(folder: Path, height: int = 20, width: int = 26, train: int = 24, val: int = 9) -> Path:
    """Write train/<class>/ and val/<class>/ with JPEG files that are wider than high."""
    for seed, (split, count) in enumerate((("train", train), ("val", val))):
        for i, (image, target) in enumerate(zip(*gratings(count, height, width, seed), strict=True)):
            path = folder / split / LABELS[target] / f"{i:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, quality=95)
    return folder


def config_of(*arguments: object) -> tuple[Config, str]:
    return console.parse(Config, "train", [*SMALL, *map(str, arguments)])


def run_here(data: Path, runs: Path, *arguments: str) -> dict[str, Any]:
    """Train in this process."""
    config, configuration = config_of(f"--data={data}", f"--runs={runs}", *arguments)
    return train(config, config.run_name(configuration))
