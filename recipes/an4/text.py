"""Transcripts as symbols, and symbols as transcripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

DEFAULT_BEAM = 16
LEAST_PROBABILITY = 1e-4  # symbols below it are left out of a beam search
BLANK = 0  # the symbol of CTC for "nothing new"; characters are numbered from 1


def characters_of(texts: Iterable[str]) -> str:
    """The characters that occur, sorted."""
    return "".join(sorted(set("".join(texts))))


class Characters:
    """The symbols of a recogniser: 0 is the blank, then the characters in order.

    Args:
        characters: all of them, each once.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.number = {character: i for i, character in enumerate(characters, 1)}

    def __len__(self) -> int:
        """Number of symbols V, the blank included."""
        return len(self.characters) + 1

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Transcripts as symbols.

        Returns:
            (N, U) long, padded with the blank, and (N,) symbols of each.

        Raises:
            KeyError: for a character that is none of these.
        """
        if not texts:
            return torch.zeros(0, 0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
        rows = [torch.tensor([self.number[c] for c in text], dtype=torch.long) for text in texts]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=BLANK)
        return padded, torch.tensor([len(row) for row in rows])

    def greedy(self, log_probs: Tensor, lengths: Tensor) -> list[str]:
        """The most likely symbol of every frame, repetitions and blanks left out.

        Args:
            log_probs: (B, T', V).
            lengths: (B,) valid frames.
        """
        best = log_probs.argmax(-1).cpu()
        return [self.decode(row[:length]) for row, length in zip(best, lengths.tolist(), strict=True)]

    def decode(self, symbols: Tensor) -> str:
        """The transcript of a path (T',) through the frames."""
        kept = symbols.unique_consecutive().tolist()
        return single_spaced("".join(self.characters[s - 1] for s in kept if s != BLANK))

    def beam(self, log_probs: Tensor, lengths: Tensor, size: int = DEFAULT_BEAM) -> list[str]:
        """The likeliest transcripts that a beam search finds, summed over their paths, without a language model.

        The search is that of fast-ctc-decode: CTC prefix beam search (Graves et al. 2006, section 3.2).

        Args:
            log_probs: (B, T', V).
            lengths: (B,) valid frames.
            size: prefixes that are kept at each frame, at least 1.
        """
        from fast_ctc_decode import beam_search

        alphabet = ["", *self.characters]
        probabilities = log_probs.float().exp().cpu().numpy()
        found = []
        for row, length in zip(probabilities, lengths.tolist(), strict=True):
            said, _ = beam_search(row[:length], alphabet, size, LEAST_PROBABILITY) if length else ("", None)
            found.append(single_spaced(said))
        return found


def single_spaced(text: str) -> str:
    """The words of a text, one space between them and none around."""
    return " ".join(text.split())
