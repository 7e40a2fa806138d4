"""The mixing methods. Each draws a `MixPlan`; see `Mixer` for what they have in common."""

from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.block import CutMix, FreqCutMix, ResizeMix, TimeCutMix
from randommix_audio.mixers.comixup import CoMixup
from randommix_audio.mixers.concat import TimeConcat
from randommix_audio.mixers.cutout import Cutout
from randommix_audio.mixers.fourier import FMix
from randommix_audio.mixers.hidden import ManifoldMixup, PatchUp
from randommix_audio.mixers.linear import Mixup, NoMix
from randommix_audio.mixers.puzzle import PuzzleMix
from randommix_audio.mixers.random_mix import RandomMix
from randommix_audio.mixers.registry import MIXERS, build
from randommix_audio.mixers.saliency import SaliencyMix

__all__ = [
    "MIXERS",
    "CoMixup",
    "CutMix",
    "Cutout",
    "FMix",
    "FreqCutMix",
    "ManifoldMixup",
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
    "build",
]
