"""Images a second from JPEG files to batches, as the image recipe decodes them in worker processes.

The files are photographs in size: 500 x 375 pixels of noise with the spectrum of pictures. A training image is decoded,
and a random part of it resized to 224 x 224; flip, normalisation and mixing happen on the device and are not timed
here. The numbers of workers take turns, round after round; the start of the workers is not part of an epoch.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import timing
from benchmarks.timing import Times
from recipes.images.config import Config
from recipes.images.files import ImageFiles
from recipes.shared.batching import epoch_rows

HEIGHT, WIDTH = 375, 500  # the mean size of ImageNet's images


def photograph(seed: int) -> Image.Image:
    """Noise whose power falls with the square of the frequency, as that of pictures does."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :])
    falling = 1 / np.maximum(frequency, 1 / WIDTH)
    planes = [np.fft.irfft2(np.fft.rfft2(random.standard_normal((HEIGHT, WIDTH))) * falling) for _ in range(3)]
    levels = np.stack([128 + 50 * plane / plane.std() for plane in planes], axis=-1)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def write_images(folder: Path, images: int, different: int = 32) -> None:
    """A folder of two classes; the same few photographs again and again, which costs a decoder as much."""
    coded = folder / "coded.jpg"
    for split, count in (("train", images), ("val", 2)):
        for number in range(count):
            path = folder / split / str(number % 2) / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            if number < different:
                photograph(number).save(coded, quality=92)
                path.write_bytes(coded.read_bytes())
            else:
                os.link(folder / split / str(number % different % 2) / f"{number % different}.jpg", path)


def measure(folder: Path, arguments: argparse.Namespace) -> dict[int, Times]:
    """Seconds of an epoch by number of workers."""
    sources = {
        workers: ImageFiles(folder, Config(data=str(folder), workers=workers, image_size=224), torch.device("cpu"))
        for workers in arguments.workers
    }
    seconds: dict[int, list[float]] = {workers: [] for workers in sources}
    for number in range(arguments.rounds + 1):
        for workers in list(sources)[:: -1 if number % 2 else 1]:
            rows = epoch_rows(arguments.images, arguments.batch, 0, number)
            begun = time.perf_counter()
            for _ in sources[workers].train(number, rows):
                pass
            if number:  # the first epoch starts the workers
                seconds[workers].append(time.perf_counter() - begun)
    return {workers: Times(tuple(found)) for workers, found in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write a table and a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="epochs that are timed")
    parser.add_argument("--images", type=int, default=512, help="images of an epoch")
    parser.add_argument("--batch", type=int, default=32, help="images of a batch")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="processes that decode")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of table and JSON")
    arguments = parser.parse_args(argv)
    environment = timing.environment(("torchvision",))
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), arguments.images)
        size = sum(file.stat().st_size for file in Path(folder, "train").rglob("*.jpg")) / arguments.images
        times = measure(Path(folder), arguments)
    lines = []
    for workers, found in times.items():
        low, high = found.quartiles
        speed = f"{arguments.images / found.median:.0f} ({arguments.images / high:.0f} to {arguments.images / low:.0f})"
        lines.append([workers or "0 (the training's own process)", speed])
    text = (
        f"# Decoding of images\n\n{timing.described(environment)}\n{arguments.images} JPEG files of {WIDTH} x {HEIGHT} "
        f"pixels, {size / 1000:.0f} kB each, in the system's cache; median of {arguments.rounds} epochs, quartiles in "
        f"brackets.\n\n" + timing.markdown_table(["workers", "images/s"], lines)
    )
    facts: dict[str, Any] = {"environment": environment, "seconds": {k: v.seconds for k, v in times.items()}}
    timing.write(arguments.out, "decoding", text, facts)


if __name__ == "__main__":
    main()
