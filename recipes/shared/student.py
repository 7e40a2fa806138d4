"""Intervals for the few values that a handful of seeds give."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from scipy.special import stdtrit


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean of values and half the width of its 95 % interval, by Student's t; None below two values.

    Args:
        values: paired differences, one for each seed.
    """
    if len(values) < 2:
        return None
    quantile = float(stdtrit(len(values) - 1, 0.975))
    return statistics.mean(values), quantile * statistics.stdev(values) / len(values) ** 0.5
