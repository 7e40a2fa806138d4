"""Mixers by name, for configuration files and command lines."""

from typing import Any

from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_choice
from randommix_audio.mixers.random_mix import CANDIDATES, RandomMix

_CLASSES: dict[str, type[Mixer]] = {**CANDIDATES, RandomMix.name: RandomMix}
MIXERS: tuple[str, ...] = tuple(_CLASSES)


def build(name: str, **arguments: Any) -> Mixer:
    """Make a mixer from its name.

    Args:
        name: One of `MIXERS`.
        **arguments: The arguments of its class.

    Raises:
        ValueError: If the name is unknown or an argument is out of range.
        TypeError: If the class has no such argument.
    """
    check_choice("mixer", name, MIXERS)
    return _CLASSES[name](**arguments)
