"""Small models whose layers are mixed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LAYERS = ["input", "stem", "blocks.0", "blocks.1"]
CLASSES = 4


class Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x).tanh()


class Network(nn.Module):
    """(B, 1, F, T) to (B, 4), the maps growing smaller; its blocks may run under activation checkpointing."""

    def __init__(self, reentrant: bool | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 6, 3, 1, 1)
        self.blocks = nn.ModuleList([Block(6, 8, 2), Block(8, 8, 2)])
        self.head = nn.Linear(8, CLASSES)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x) if self.reentrant is None else checkpoint(block, x, use_reentrant=self.reentrant)
        return self.head(x.mean((2, 3)))


class Passing(nn.Module):
    """A model with one layer, which gives whatever it is made to give."""

    def __init__(self, give: Any = lambda x: x) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.layer.forward = give

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    """The gradients of the parameters in order; zeros where a parameter has none."""
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(model.parameters(), found, strict=True)]
