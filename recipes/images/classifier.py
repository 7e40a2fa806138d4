"""A trained classifier of images, as a checkpoint holds it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from randommix_audio.evaluation import Normalized
from recipes.shared import records
from recipes.shared.console import UserError
from recipes.shared.models import make_model


@dataclass(frozen=True)
class Shape:
    """What a classifier is made of; stored with every checkpoint.

    Args:
        labels: names of the classes in the order of the outputs.
        model: architecture of the network.
        width: channels of its first stage.
        dropout: of the network.
        size: height and width of the images.
        margin: by how much an image file is made larger before its middle is cut out.
        mean: of each channel of the training images, in units of [0, 1].
        std: of each channel, in the same units.
    """

    labels: list[str]
    model: str
    width: int
    dropout: float
    size: int
    margin: float
    mean: list[float]
    std: list[float]


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> tuple[Normalized, Shape, dict[str, Any]]:
    """Read a classifier from last.ckpt or best.ckpt, the averaged weights where there are any.

    Returns:
        A module in eval mode from (B, 3, size, size) in [0, 1] to logits (B, classes); what it is made of; and the
        whole state (config, epoch, commit, ...).

    Raises:
        UserError: where the file is missing or no checkpoint of this recipe.
    """
    state = records.load(path, device)
    if "mean" not in state.get("shape", {}):
        raise UserError(f"{path}: not a checkpoint of a classifier of images")
    shape = Shape(**state["shape"])
    network = make_model(len(shape.labels), 3, shape.width, shape.dropout, shape.model)
    network.load_state_dict(state.get("average") or state["model"])
    return Normalized(network, shape.mean, shape.std).to(device).eval(), shape, state
