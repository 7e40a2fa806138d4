"""How far transcripts are apart, and how sure one can be of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jiwer
import numpy as np

DRAWS = 10_000


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


def resampled(
    errors: np.ndarray, words: np.ndarray, speakers: Sequence[str] | None = None, draws: int = DRAWS, seed: int = 0
) -> np.ndarray:
    """Error rates of bootstrap samples (Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR").

    Utterances are drawn with replacement, and so are the training runs, because both would be others another time.
    Equal arguments but `errors` give samples of the same utterances and runs, so that the difference of two results is
    the bootstrap of the difference.

    Args:
        errors: (runs, utterances) errors.
        words: (utterances,) words of the references.
        speakers: of the utterances; whole speakers are drawn then, which tells how other speakers would fare.
        draws: number of samples.
        seed: of the draws.

    Returns:
        (draws,) mean over the runs of all errors by all words.
    """
    random = np.random.default_rng(seed)
    runs, utterances = errors.shape
    names, group = np.unique(np.arange(utterances) if speakers is None else speakers, return_inverse=True)
    picked = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)[:, group]
    chosen = random.multinomial(runs, np.full(runs, 1 / runs), size=draws)
    return ((picked @ errors.T) * chosen).sum(1) / (runs * np.maximum(picked @ words, 1))


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
