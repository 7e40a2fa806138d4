"""The domain in which sources are added, and what a front end's features say about power."""

import math
from typing import Literal

from randommix_audio.features.levels import decibels_per_unit
from randommix_audio.features.logmel import LogMel
from randommix_audio.features.presets import PRESETS
from randommix_audio.mixers.checks import check_choice

Domain = Literal["waveform", "power", "logmel"]
FrontEnd = float | str | LogMel
DOMAINS = ("waveform", "power", "logmel")
DECIBELS_PER_NEPER = 10.0 / math.log(10.0)  # of power


def read_domain(domain: str | None, front_end: FrontEnd | None) -> float | None:
    """Decibels of one unit of the features where powers are added; None where the features themselves are.

    Args:
        domain: One of `DOMAINS`, or None.
        front_end: For "power": a preset of LogMel, a LogMel, or the decibels themselves.

    Raises:
        TypeError: If the front end is something else.
        ValueError: If the domain is unknown, the front end is missing, unused or unknown, or its features do not tell
            their power.
    """
    if domain is not None:
        check_choice("domain", domain, DOMAINS)
    if domain != "power":
        if front_end is not None:
            raise ValueError(f'front_end={front_end!r} says what power is and needs domain="power", got {domain!r}')
        return None
    if front_end is None:
        raise ValueError(
            'domain="power" needs front_end: a preset of LogMel such as "kaldi", a LogMel, or the decibels that one '
            "unit of the features is"
        )
    if isinstance(front_end, int | float):
        if isinstance(front_end, bool) or not 0 < front_end < math.inf:
            raise ValueError(f"front_end must be decibels above 0, a preset or a LogMel, got {front_end}")
        return float(front_end)
    return _decibels_of(front_end)


def check_layout(domain: str | None, layout: str) -> None:
    """Refuse waveforms where features are mixed, and features where waveforms are.

    Raises:
        ValueError: If the axes of the batch are not those of the domain.
    """
    if domain is not None and (domain == "waveform") != (layout == "BT"):
        wanted = "waveforms, (B, N)" if domain == "waveform" else "features with an axis of frequency"
        raise ValueError(f'domain="{domain}" mixes {wanted}, got a batch of layout {layout}')


def _decibels_of(front_end: str | LogMel) -> float:
    if isinstance(front_end, LogMel):
        name, log, std, normalize, ref = "LogMel", front_end.log, front_end.std, front_end.normalize, front_end.ref
    elif isinstance(front_end, str):
        check_choice("front_end", front_end, tuple(PRESETS))
        options = PRESETS[front_end]
        name, log, std = f'"{front_end}"', options.get("log", "ln"), options.get("std", 1.0)
        normalize, ref = options.get("normalize"), options.get("ref", 1.0)
    else:
        raise TypeError(f"front_end must be a preset of LogMel, a LogMel or a number, got {type(front_end).__name__}")
    if normalize is not None:
        raise ValueError(
            f"front_end {name} gives every band of every clip a mean of 0 and a deviation of 1 (normalize="
            f"{normalize!r}), after which its power is not known; mix the waveforms, or before it normalises"
        )
    decibels = decibels_per_unit(log) * std
    if ref == "max":
        raise ValueError(
            f"front_end {name} gives levels relative to each clip's own peak, after which its power is not known; "
            f"front_end={decibels:g} mixes the clips as if their peaks were equally loud"
        )
    return decibels
