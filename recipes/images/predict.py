"""Classify images of your own: `python -m recipes.images.predict --checkpoint runs/a/last.ckpt my.jpg`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from data_prep.command import one_line
from randommix_audio.evaluation import Normalized
from recipes.images.augment import pixels
from recipes.images.classifier import Shape, load
from recipes.images.files import middle, read_image
from recipes.shared import console
from recipes.shared.console import UserError
from recipes.shared.devices import make_fabric
from recipes.shared.optional import need


@dataclass
class Options:
    """Print the most likely classes of image files (JPEG, PNG, WebP, GIF) of any size.

    Args:
        files: the image files.
        checkpoint: last.ckpt or best.ckpt of a run.
        top: how many classes to print.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    files: list[str]
    checkpoint: str
    top: int = 5
    device: str = "auto"


@torch.no_grad()
def predict(model: Normalized, shape: Shape, path: str) -> Tensor:
    """The probability of each class, (classes,) on the CPU; an image is resized, and its middle cut out.

    Raises:
        UserError: where the file is no image.
        OSError: where it cannot be read.
    """
    image = middle(read_image(path), shape.size, shape.margin).permute(1, 2, 0)[None]
    return model(pixels(image).to(model.mean.device))[0].softmax(dim=0).cpu()


def main(argv: list[str] | None = None) -> None:
    """Command line; goes on behind a file that cannot be used, and ends with exit code 2 then."""
    options, _ = console.parse(Options, "python -m recipes.images.predict", argv, positional="files")
    if options.top < 1:
        raise UserError(f"top must be at least 1, got {options.top}")
    need("torchvision", "images")
    model, shape, _ = load(options.checkpoint, make_fabric(options.device, "32-true").device)
    bad: list[str] = []
    for path in options.files:
        try:
            values, places = predict(model, shape, path).topk(min(options.top, len(shape.labels)))
        except (UserError, OSError) as error:
            bad.append(one_line(error))
            continue
        said = (f"{shape.labels[i]} {value:.3f}" for value, i in zip(values.tolist(), places.tolist(), strict=True))
        print(f"{path}  {'  '.join(said)}", flush=True)
    if bad:
        raise UserError("; ".join(bad))


if __name__ == "__main__":
    console.run(main)
