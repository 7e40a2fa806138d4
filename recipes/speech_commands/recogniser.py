"""A trained keyword recogniser: front end, network and labels in one module, as a checkpoint holds it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import randommix_audio as rma
from recipes.shared import records
from recipes.shared.console import UserError
from recipes.shared.models import make_model


@dataclass(frozen=True)
class Shape:
    """What a recogniser is made of; stored with every checkpoint.

    Args:
        labels: names of the classes in the order of the outputs.
        preset: front end by name.
        front_end: arguments of the front end that differ from the preset.
        width: channels of the first stage of the network.
        dropout: of the network.
        samples: length of the clips that it was trained on.
        pad: where shorter clips got zeros, "end" or "both".
        model: architecture of the network.
    """

    labels: list[str]
    preset: str
    front_end: dict[str, Any]
    width: int
    dropout: float
    samples: int
    pad: str = "end"
    model: str = "preact_resnet18"

    def make_front_end(self) -> rma.LogMel:
        """The front end.

        Raises:
            UserError: for an unknown preset or argument.
        """
        try:
            return rma.LogMel.preset(self.preset, **self.front_end)
        except (TypeError, ValueError) as error:
            raise UserError(f"front end: {error}") from error


class Recogniser(nn.Module):
    """Waveforms in, logits out.

    Args:
        shape: what it is made of.
        network: from (B, 1, F, T) to (B, classes).
    """

    def __init__(self, shape: Shape, network: nn.Module) -> None:
        super().__init__()
        self.shape = shape
        self.front_end = shape.make_front_end()
        self.network = network

    @property
    def labels(self) -> list[str]:
        """Names of the classes in the order of the logits."""
        return self.shape.labels

    def forward(self, wave: Tensor) -> Tensor:
        """Map waveforms (B, samples), float in -1..1 or int16, to logits (B, classes)."""
        return self.network(self.front_end(wave)[:, None])


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> tuple[Recogniser, dict[str, Any]]:
    """Read a recogniser from last.ckpt or best.ckpt, the averaged weights where there are any.

    Returns:
        The recogniser in eval mode, and the whole state (config, epoch, commit, ...).

    Raises:
        UserError: where the file is missing or no checkpoint of this recipe.
    """
    state = records.load(path, device)
    if "shape" not in state:
        raise UserError(f"{path}: not a checkpoint of a keyword recogniser")
    shape = Shape(**state["shape"])
    network = make_model(len(shape.labels), width=shape.width, dropout=shape.dropout, model=shape.model)
    network.load_state_dict(state.get("average") or state["model"])
    return Recogniser(shape, network).to(device).eval(), state
