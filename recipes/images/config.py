"""The options of the image recipe: `python -m recipes.images.train --help` prints them."""

from __future__ import annotations

from dataclasses import dataclass, field

from recipes.images.augment import Augmentation
from recipes.shared.console import UserError
from recipes.shared.options import Classifying


@dataclass
class Config(Classifying):
    """Train a classifier of images.

    Args:
        data: folder made by `python -m data_prep.cifar` or a neighbour of it; or a folder of image files, with
            train/<class>/ and val/<class>/, and perhaps test/<class>/.
        image_size: height and width to which image files are cropped; a prepared set has a size of its own.
        augment: what is done to each image before mixing.
    """

    data: str = "data/cifar/prepared/cifar10"
    image_size: int = 224
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size < 1:
            raise UserError(f"image_size must be at least 1, got {self.image_size}")
