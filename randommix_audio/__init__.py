"""Mixed-sample augmentation for speech: mix spectrograms in time and frequency, with targets and lengths.

Example:
    mixer = RandomMix(per="row")
    mixed, plan = mixer(features, lengths=frames)
    loss = plan.loss(torch.nn.functional.cross_entropy, model(mixed), target)
"""

from types import ModuleType

from randommix_audio._version import __version__
from randommix_audio.draws import step_generator
from randommix_audio.features import LogMel
from randommix_audio.hidden import Hidden, HiddenPlan
from randommix_audio.mixers import (
    MIXERS,
    CoMixup,
    CutMix,
    Cutout,
    FMix,
    FreqCutMix,
    ManifoldMixup,
    Mixer,
    Mixup,
    NoMix,
    PatchUp,
    PuzzleMix,
    RandomMix,
    ResizeMix,
    SaliencyMix,
    TimeConcat,
    TimeCutMix,
    build,
)
from randommix_audio.plan import MixPlan

_ON_FIRST_USE = ("compiled", "data", "evaluation", "viewing")


def __getattr__(name: str) -> ModuleType:
    """Import the subpackages that need more than torch when they are first used."""
    if name in _ON_FIRST_USE:
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "MIXERS",
    "CoMixup",
    "CutMix",
    "Cutout",
    "FMix",
    "FreqCutMix",
    "Hidden",
    "HiddenPlan",
    "LogMel",
    "ManifoldMixup",
    "MixPlan",
    "Mixer",
    "Mixup",
    "NoMix",
    "PatchUp",
    "PuzzleMix",
    "RandomMix",
    "ResizeMix",
    "SaliencyMix",
    "TimeConcat",
    "TimeCutMix",
    "__version__",
    "build",
    "step_generator",
]
