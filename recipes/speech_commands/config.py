"""The options of the Speech Commands recipe: `python -m recipes.speech_commands.train --help` prints them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recipes.shared.options import Classifying
from recipes.speech_commands.augment import Augmentation


@dataclass
class Config(Classifying):
    """Train a keyword recogniser.

    Args:
        data: folder made by `python -m data_prep.speech_commands`.
        preset: front end by name, see randommix_audio.LogMel.preset.
        front_end: arguments of the front end that differ from the preset, e.g. {n_mels: 40}.
        mix_silence: whether silent clips may be mixed.
        augment: what is done to each clip before mixing.
    """

    data: str = "data/sc/prepared/kaggle12"
    preset: str = "randommix"
    front_end: dict[str, Any] = field(default_factory=dict)
    mix_silence: bool = True
    augment: Augmentation = field(default_factory=Augmentation)
