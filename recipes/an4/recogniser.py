"""A trained speech recogniser: front end, encoder and characters in one module, as a checkpoint holds it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import randommix_audio as rma
from recipes.an4.encoder import Encoder
from recipes.an4.scores import errors, rates
from recipes.an4.text import BLANK, Characters
from recipes.an4.utterances import Batch, Utterances
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


Decoder = Callable[[Tensor, Tensor], list[str]]  # from log-probabilities (B, T', V) and valid frames (B,)


@torch.no_grad()
def judge(
    encoder: nn.Module, part: Utterances, places: Tensor, batch_size: int, decoder: Decoder
) -> list[dict[str, Any]]:
    """Transcribe some utterances of a split and compare with what was said.

    Args:
        encoder: put into eval mode here.
        part: the split.
        places: (n,) long, which of its utterances.
        batch_size: how many at a time.
        decoder: from log-probabilities to transcripts.

    Returns:
        For each utterance key, speaker, reference, hypothesis, loss (CTC for each character) and `scores.errors`.
    """
    encoder.eval()
    found: list[dict[str, Any]] = []
    for some in places.split(batch_size) if len(places) else ():
        batch = part.batch(some)
        log_probs, lengths = encoder(batch.features, batch.lengths)
        losses = ctc(log_probs, batch, lengths).tolist()
        for place, said, loss in zip(some.tolist(), decoder(log_probs, lengths), losses, strict=True):
            about = {"key": part.keys[place], "speaker": part.speakers[place]}
            about |= {"reference": part.texts[place], "hypothesis": said}
            found.append({**about, "loss": loss, **errors(part.texts[place], said)})
    return found


def scores_of(rows: list[dict[str, Any]], part: Utterances) -> dict[str, Any]:
    """The scores of a split.

    Args:
        rows: of `judge`, in any order.
        part: the split.

    Returns:
        See `scores.rates`, and loss (mean over the utterances, None without any) and transcripts: the rows in the
        order of the corpus, without their losses.
    """
    rows = sorted(rows, key=lambda row: part.place[row["key"]])
    loss = sum(row["loss"] for row in rows) / len(rows) if rows else None
    kept = [{name: value for name, value in row.items() if name != "loss"} for row in rows]
    return {"loss": loss, **rates(kept), "transcripts": kept}


def ctc(log_probs: Tensor, batch: Batch, lengths: Tensor) -> Tensor:
    """(B,) CTC losses per character of utterances that are not mixed."""
    losses = F.ctc_loss(
        log_probs.transpose(0, 1), batch.text, lengths, batch.text_lengths, BLANK, reduction="none", zero_infinity=True
    )
    return losses / batch.text_lengths.clamp(min=1)
