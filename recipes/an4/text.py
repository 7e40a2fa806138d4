"""Transcripts as symbols, symbols as transcripts, and how far two transcripts are apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jiwer
import torch
from torch import Tensor

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
        return " ".join("".join(self.characters[s - 1] for s in kept if s != BLANK).split())


def errors(reference: str, hypothesis: str) -> dict[str, int]:
    """Least edits from a transcript to another, in words and in characters.

    Returns:
        words and characters of the reference; word_errors and character_errors; the word errors by kind:
        substitutions, deletions, insertions.
    """
    if not reference:
        words, characters = len(hypothesis.split()), len(hypothesis)
        kinds = {"substitutions": 0, "deletions": 0, "insertions": words}
        return {"words": 0, "characters": 0, "word_errors": words, "character_errors": characters, **kinds}
    by_word = jiwer.process_words(reference, hypothesis)
    by_character = jiwer.process_characters(reference, hypothesis)
    return {
        "words": len(reference.split()),
        "characters": len(reference),
        "word_errors": by_word.substitutions + by_word.deletions + by_word.insertions,
        "character_errors": by_character.substitutions + by_character.deletions + by_character.insertions,
        "substitutions": by_word.substitutions,
        "deletions": by_word.deletions,
        "insertions": by_word.insertions,
    }


def rates(counts: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Word and character error rate of many utterances: all their errors over all their words.

    Args:
        counts: of `errors`, one for each utterance.

    Returns:
        The summed counts, utterances, and wer and cer (0 and above; None without words).
    """
    names = ("words", "characters", "word_errors", "character_errors", "substitutions", "deletions", "insertions")
    sums: dict[str, Any] = {name: sum(count[name] for count in counts) for name in names}
    wer = sums["word_errors"] / sums["words"] if sums["words"] else None
    cer = sums["character_errors"] / sums["characters"] if sums["characters"] else None
    return {"wer": wer, "cer": cer, "utterances": len(counts), **sums}
