"""Standard augmentation of small images on their device: a random crop of a padded image, and a horizontal flip."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.shared.console import UserError


@dataclass
class Augmentation:
    """What is done to training images before mixing.

    Args:
        padding: black pixels around an image of a prepared set before a crop of its own size is taken; 0 takes none.
        flip: probability of a horizontal flip.
        area: least and largest share of an image file that is cropped and resized.
    """

    padding: int = 4
    flip: float = 0.5
    area: list[float] = field(default_factory=lambda: [0.08, 1.0])

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise UserError(f"augment.padding must not be negative, got {self.padding}")
        if not 0 <= self.flip <= 1:
            raise UserError(f"augment.flip must lie in [0, 1], got {self.flip}")
        if len(self.area) != 2 or not 0 < self.area[0] <= self.area[1] <= 1:
            raise UserError(f"augment.area must be a least and a largest share within (0, 1], got {self.area}")


def crop_and_flip(images: Tensor, padding: int, flip: float, generator: torch.Generator) -> Tensor:
    """Crop each image at a random place of its zero-padded self, and mirror it left to right or not.

    The standard augmentation of CIFAR, e.g. section 4.2 of He et al. 2016 (CVPR): 4 pixels of padding.

    Args:
        images: (B, H, W, C) of any dtype.
        padding: zeros on each side; every one of the (2 padding + 1)^2 places is equally likely.
        flip: probability of mirroring a row.
        generator: on the device of the images.

    Returns:
        (B, H, W, C), a new tensor.
    """
    count, height, width = images.shape[:3]
    device = images.device
    place = torch.randint(2 * padding + 1, (2, count, 1), generator=generator, device=device)
    mirrored = torch.rand(count, 1, generator=generator, device=device) < flip
    across = torch.arange(width, device=device)
    rows = place[0] + torch.arange(height, device=device)  # (B, H) of the padded image
    columns = place[1] + torch.where(mirrored, width - 1 - across, across)  # (B, W)
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    return padded[torch.arange(count, device=device)[:, None, None], rows[:, :, None], columns[:, None, :]]


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Map (B, H, W, 3) bytes to (B, 3, H, W) float32, less the mean and divided by the deviation of each channel.

    Args:
        images: uint8.
        mean: (3, 1, 1) in units of [0, 1].
        std: (3, 1, 1) in the same units.
    """
    return (pixels(images) - mean) / std


def pixels(images: Tensor) -> Tensor:
    """Map (B, H, W, 3) bytes to (B, 3, H, W) float32 in [0, 1]."""
    return images.permute(0, 3, 1, 2).contiguous().float() / 255
