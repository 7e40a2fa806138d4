"""Means over seeds, and intervals of paired differences between two ways to train.

Two things scatter: what one training makes of its seed, and which rows are in the test set. Where it is known which
rows were right, the percentile bootstrap (Efron and Tibshirani, An introduction to the bootstrap, chapter 13) of the
paired difference shows both: seeds are drawn with replacement, and of each drawn seed the rows of the test set, the
same rows for both sides and for all seeds. But a draw of three seeds is often a single one repeated, so that it is too
narrow for few of them; Student's t over the seeds is not, but does not know how many rows there are. The wider of the
two is taken, and Student's t alone where the rows are not known.

With one seed the interval is that of the test rows alone. It knows nothing of how much one training differs from the
next, so nothing is decided by it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from recipes.shared import student

RESAMPLES = 5000
DRAWN_AT_ONCE = 4_000_000  # counts in memory
TAILS = (2.5, 97.5)  # percentiles, which leave 95 % between them


@dataclass(frozen=True, eq=False)  # compared as objects, so that differences of the same cells are found once
class Cell:
    """One score of one way to train.

    Args:
        values: percent, by seed.
        items: (N,) percent of each test row, by seed, whose mean is the value; empty where that is not known.
    """

    values: dict[int, float] = field(default_factory=dict)
    items: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over seeds, NaN without any."""
        return statistics.mean(self.values.values()) if self.values else math.nan

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (n - 1); None below two."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else None


BY_ROWS = "the wider of the paired bootstrap over seeds and test rows and Student's t over seeds"
BY_ROWS_OF_ONE = "paired bootstrap over the test rows of one seed"
BY_SEEDS = "Student's t over seeds"


class Difference(NamedTuple):
    """A paired difference in points.

    Attributes:
        mean: over the common seeds.
        low: lower end of the 95 % interval; None of a single seed without test rows.
        high: upper end.
        pairs: number of common seeds.
        how: the interval was found: one of BY_ROWS, BY_ROWS_OF_ONE, BY_SEEDS; "" without one.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int
    how: str

    @property
    def decided(self) -> bool:
        """Whether the interval leaves zero out; never with one seed."""
        return self.pairs > 1 and self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def average(cells: Sequence[Cell]) -> Cell:
    """The mean of several ways to train, over the seeds that all of them have.

    The rows of the test set must be the same ones; where their numbers differ, they are left out.
    """
    seeds = sorted(set.intersection(*(set(cell.values) for cell in cells))) if cells else []
    values = {seed: statistics.mean(cell.values[seed] for cell in cells) for seed in seeds}
    items = {}
    for seed in seeds:
        rows = [cell.items[seed] for cell in cells if seed in cell.items]
        if len(rows) == len(cells) and len({len(row) for row in rows}) == 1:
            items[seed] = np.mean(rows, axis=0)
    return Cell(values, items)


def difference(own: Sequence[Cell], other: Sequence[Cell], resamples: int = RESAMPLES) -> Difference | None:
    """The paired difference own - other of a mean of scores.

    Args:
        own: one cell for each score, e.g. errors under noise and under occlusion.
        other: the same scores of what it is compared with.
        resamples: bootstrap samples.

    Returns:
        None where no seed has all scores of both sides.
    """
    return _difference(tuple(own), tuple(other), resamples)


@lru_cache(maxsize=4096)
def _difference(own: tuple[Cell, ...], other: tuple[Cell, ...], resamples: int) -> Difference | None:
    seeds = sorted(set.intersection(*(set(cell.values) for cell in (*own, *other))))
    if not seeds:
        return None
    gaps = [[a.values[seed] - b.values[seed] for a, b in zip(own, other, strict=True)] for seed in seeds]
    mean = float(np.mean(gaps))  # of seeds x scores
    half = student.interval(np.mean(gaps, axis=1).tolist())
    ends = [] if half is None else [mean - half[1], mean + half[1]]
    parts = _by_row(own, other, seeds)
    how = "" if half is None else BY_SEEDS
    if parts is not None:
        ends += np.percentile(bootstrap(parts, resamples), TAILS).tolist()
        how = BY_ROWS_OF_ONE if half is None else BY_ROWS
    low, high = (min(ends), max(ends)) if ends else (None, None)
    return Difference(mean, low, high, len(seeds), how)


def _by_row(own: Sequence[Cell], other: Sequence[Cell], seeds: Sequence[int]) -> list[np.ndarray] | None:
    """Differences as (seeds, N) for each number N of test rows there is; None where they are not known."""
    found: dict[int, list[np.ndarray]] = {}
    for a, b in zip(own, other, strict=True):
        pairs = [(a.items.get(seed), b.items.get(seed)) for seed in seeds]
        lengths = {None if one is None else len(one) for pair in pairs for one in pair}
        if len(lengths) != 1 or None in lengths:
            return None
        part = np.stack([one - two for one, two in pairs if one is not None and two is not None])
        found.setdefault(part.shape[1], []).append(part)
    # Scores of the same rows are drawn together; sets of other sizes (corruptions of some images) by themselves.
    return [np.sum(parts, axis=0) / len(own) for parts in found.values()]


def bootstrap(parts: Sequence[np.ndarray], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means of paired differences, drawn again.

    Args:
        parts: matrices (seeds, N) of differences, whose means are added; the same seeds, rows of their own.
        resamples: how many samples.
        seed: of the draws.

    Returns:
        (resamples,) sums of the means.
    """
    random = np.random.default_rng(seed)
    drawn = random.integers(len(parts[0]), size=(resamples, len(parts[0])))
    total = np.zeros(resamples)
    for part in parts:
        # Rows with equal differences are interchangeable: how often each kind is drawn is multinomial.
        kinds, counts = np.unique(part.T, axis=0, return_counts=True)
        means = np.empty((resamples, len(part)))
        for some in np.array_split(np.arange(resamples), 1 + resamples * len(kinds) // DRAWN_AT_ONCE):
            often = random.multinomial(part.shape[1], counts / part.shape[1], size=len(some))
            means[some] = often @ kinds / part.shape[1]
        total += np.take_along_axis(means, drawn, axis=1).mean(axis=1)
    return total
