"""The networks of the recipes by name, and the layers of each that the papers mix."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from recipes.shared.preact_resnet import preact_resnet18
from recipes.shared.resnet import resnet50
from recipes.shared.wide_resnet import wide_resnet28

ModelName = Literal["preact_resnet18", "wide_resnet28", "resnet50"]

_MAKERS = {"preact_resnet18": preact_resnet18, "wide_resnet28": wide_resnet28, "resnet50": resnet50}

HIDDEN_METHODS = ("manifoldmix", "patchup")
"""The methods that mix hidden layers; their mixes have no picture."""

# Manifold Mixup: the input and the outputs of the first two stages. PatchUp: those of the stem and of the first stage.
LAYERS: dict[str, dict[str, tuple[str, ...]]] = {
    "preact_resnet18": {"manifoldmix": ("input", "stages.1", "stages.3"), "patchup": ("stem", "stages.1")},
    "wide_resnet28": {"manifoldmix": ("input", "stages.3", "stages.7"), "patchup": ("stem", "stages.3")},
    "resnet50": {"manifoldmix": ("input", "layer1", "layer2"), "patchup": ("conv1", "layer1")},
}


def make_model(
    num_classes: int,
    channels: int = 1,
    width: int = 64,
    dropout: float = 0.0,
    model: str = "preact_resnet18",
) -> nn.Module:
    """A network from (B, channels, H, W) to logits (B, num_classes), with weights of torch's own random state.

    Args:
        num_classes: number of outputs.
        channels: channels of the input, 1 for a spectrogram, 3 for an image.
        width: channels of the first stage.
        dropout: probability of dropping a pooled feature.
        model: name of the architecture.

    Raises:
        ValueError: for an unknown name, or a width, number of classes or channels below 1.
    """
    if model not in _MAKERS:
        raise ValueError(f"model must be one of {', '.join(_MAKERS)}, got {model}")
    return _MAKERS[model](num_classes, channels=channels, width=width, dropout=dropout)


def seeded(
    seed: int,
    num_classes: int,
    channels: int = 1,
    width: int = 64,
    dropout: float = 0.0,
    model: str = "preact_resnet18",
) -> nn.Module:
    """A network whose initial weights depend on the seed alone; torch's own random state is left as it was.

    Args:
        seed: of the weights.
        num_classes: see `make_model`, as all that follow.
        channels: see there.
        width: see there.
        dropout: see there.
        model: see there.

    Raises:
        ValueError: see there.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_model(num_classes, channels, width, dropout, model)
