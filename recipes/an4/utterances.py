"""The utterances of a prepared corpus: log-mel features of all of them, kept on the device, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import librosa
import numpy as np
import torch
from torch import Tensor

import randommix_audio as rma
from randommix_audio.data import BankError, WaveBank
from recipes.an4.text import Characters

COMPUTED_AT_ONCE = 16  # utterances whose features are computed together


@dataclass
class Batch:
    """Utterances, padded to the longest.

    Attributes:
        features: (B, T, F), the front end's padding beyond the end.
        lengths: (B,) valid frames.
        text: (B, U) symbols, padded with the blank.
        text_lengths: (B,) symbols of each.
        texts: the transcripts.
    """

    features: Tensor
    lengths: Tensor
    text: Tensor
    text_lengths: Tensor
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)


def open_corpus(folder: str) -> WaveBank:
    """Open what `python -m data_prep.an4` has made.

    Raises:
        BankError: there is none, it is not whole, or it has no transcripts.
    """
    bank = WaveBank.open(folder)
    if "speakers" not in bank.metadata:
        raise BankError(f"{folder}: holds no transcripts; make it with python -m data_prep.an4")
    return bank


class Utterances:
    """One split of a corpus, its features computed once, when they are first asked for.

    With several speeds every utterance is there once for each: place i is utterance i at the first speed, i + N the
    same one at the second, and so on.

    Args:
        bank: a prepared corpus.
        split: train, validation or test.
        front_end: from waveforms to features.
        characters: the symbols.
        device: where the features are kept.
        speeds: 1 is as recorded, 1.1 a tenth faster and higher (Ko et al. 2015, "Audio augmentation for speech
            recognition").
    """

    def __init__(
        self,
        bank: WaveBank,
        split: str,
        front_end: rma.LogMel,
        characters: Characters,
        device: torch.device,
        speeds: Sequence[float] = (1.0,),
    ) -> None:
        self.bank, self.front_end, self.device, self.speeds = bank, front_end, device, tuple(speeds)
        self.rows = [i for i, s in enumerate(bank.splits) if s == split]
        self.texts = [bank.labels[i] for i in self.rows]
        self.keys = [bank.keys[i] for i in self.rows]
        self.speakers = [bank.metadata["speakers"][key] for key in self.keys]
        self.place = {key: i for i, key in enumerate(self.keys)}
        text, text_lengths = characters.encode(self.texts)
        self.text, self.text_lengths = text.to(device), text_lengths.to(device)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def features(self) -> tuple[Tensor, Tensor, Tensor]:
        """(frames, F) of all places one after the other, (places,) where each begins, (places,) frames of each."""
        found, frames = [], []
        for speed in self.speeds:
            for first in range(0, len(self.rows), COMPUTED_AT_ONCE):
                clips = [self.clip(i, speed) for i in range(len(self.rows))[first : first + COMPUTED_AT_ONCE]]
                wave = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True).to(self.device)
                lengths = torch.tensor([len(clip) for clip in clips], device=self.device)
                x, valid = self.front_end(wave, lengths)
                found += [row[:, :n].T for row, n in zip(x, valid.tolist(), strict=True)]
                frames.append(valid)
        if not found:
            nothing = torch.zeros(0, dtype=torch.long, device=self.device)
            return torch.zeros(0, self.front_end.n_mels, device=self.device), nothing, nothing
        lengths = torch.cat(frames)
        return torch.cat(found), lengths.cumsum(0) - lengths, lengths

    def clip(self, place: int, speed: float = 1.0) -> Tensor:
        """The samples of an utterance, int16 as recorded, float32 at another speed."""
        row = self.rows[place]
        wave = np.array(self.bank.clips[row, : self.bank.lengths[row]], dtype=np.int16)
        if speed == 1.0:
            return torch.from_numpy(wave)
        rate = self.bank.sample_rate
        scaled = wave.astype(np.float32) / 32768
        return torch.from_numpy(librosa.resample(scaled, orig_sr=rate * speed, target_sr=rate, res_type="soxr_hq"))

    @cached_property
    def lengths(self) -> Tensor:
        """(places,) frames, on the CPU."""
        return self.features[2].cpu()

    def batch(self, places: Tensor) -> Batch:
        """Gather the utterances at some places, (B,) long on the CPU."""
        frames, starts, lengths = self.features
        said = places % len(self)
        texts = [self.texts[i] for i in said.tolist()]
        longest, symbols = int(self.lengths[places].max()), max(len(text) for text in texts)
        at, said = places.to(self.device), said.to(self.device)
        step = torch.arange(longest, device=self.device)
        x = frames[(starts[at, None] + step).clamp(max=len(frames) - 1)]
        x = torch.where((step < lengths[at, None])[..., None], x, self.front_end.pad_value)
        return Batch(x, lengths[at], self.text[said, :symbols], self.text_lengths[said], texts)
