"""A batch of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SPLITS = ("train", "validation", "test")


@dataclass
class Batch:
    """Rows of a batch.

    Attributes:
        images: (B, H, W, 3) uint8.
        target: (B,) int64 position in the label list.
    """

    images: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, copied without waiting where it lies in pinned memory."""
        return Batch(self.images.to(device, non_blocking=True), self.target.to(device, non_blocking=True))
