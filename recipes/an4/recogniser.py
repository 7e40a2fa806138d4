"""A trained speech recogniser: front end, encoder and characters in one module, as a checkpoint holds it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import randommix_audio as rma
from recipes.an4.encoder import Encoder
from recipes.an4.text import Characters
from recipes.shared import records
from recipes.shared.console import UserError


@dataclass(frozen=True)
class Shape:
    """What a recogniser is made of; stored with every checkpoint.

    Args:
        characters: the symbols 1, 2, ... of the encoder; 0 is the blank.
        preset: front end by name.
        front_end: arguments of the front end that differ from the preset.
        width: channels of the encoder.
        blocks: residual blocks.
        kernel: frames that a block's convolution sees.
        dropout: of the encoder.
    """

    characters: str
    preset: str
    front_end: dict[str, Any]
    width: int
    blocks: int
    kernel: int
    dropout: float

    def make_front_end(self) -> rma.LogMel:
        """The front end.

        Raises:
            UserError: for an unknown preset or argument.
        """
        try:
            return rma.LogMel.preset(self.preset, **self.front_end)
        except (TypeError, ValueError) as error:
            raise UserError(f"front end: {error}") from error

    def make_encoder(self, seed: int = 0) -> Encoder:
        """The encoder, its weights drawn from the seed alone; torch's own random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Encoder(
                self.make_front_end().n_mels,
                len(Characters(self.characters)),
                width=self.width,
                blocks=self.blocks,
                kernel=self.kernel,
                dropout=self.dropout,
            )


class Recogniser(nn.Module):
    """Waveforms in, log-probabilities of characters out.

    Args:
        shape: what it is made of.
        encoder: from (B, T, F) to (B, T', V).
    """

    def __init__(self, shape: Shape, encoder: Encoder) -> None:
        super().__init__()
        self.shape = shape
        self.front_end = shape.make_front_end()
        self.encoder = encoder
        self.characters = Characters(shape.characters)

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map waveforms (B, N), float in -1..1 or int16, of (B,) samples to the encoder's result."""
        features, frames = self.front_end(wave, lengths)
        return self.encoder(features.transpose(1, 2), frames)


def recogniser_of(state: dict[str, Any], path: str | os.PathLike[str], device: str | torch.device) -> Recogniser:
    """The recogniser of a checkpoint's content, in eval mode, the averaged weights where there are any.

    Raises:
        UserError: where it is no checkpoint of this recipe.
    """
    if "characters" not in state.get("shape", {}):
        raise UserError(f"{path}: not a checkpoint of a speech recogniser")
    shape = Shape(**state["shape"])
    encoder = shape.make_encoder()
    encoder.load_state_dict(state.get("average") or state["model"])
    return Recogniser(shape, encoder).to(device).eval()


def load(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> tuple[Recogniser, dict[str, Any]]:
    """Read a recogniser from a checkpoint.

    Returns:
        The recogniser in eval mode, and the whole state (config, epoch, commit, ...).

    Raises:
        UserError: where the file is missing or no checkpoint of this recipe.
    """
    state = records.load(path, device)
    return recogniser_of(state, path, device), state
