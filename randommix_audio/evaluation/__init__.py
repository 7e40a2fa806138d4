"""How robust a classifier is: against attacks, occlusion, corrupted pictures and damaged speech.

Everything random depends on a seed and the number of a clip or picture alone, so that two users get the same number
whatever their batch size. docs/evaluation.md says what each number means.
"""

from randommix_audio.evaluation.attacks import Normalized, fgsm, gradient_sign, stepped
from randommix_audio.evaluation.channels import (
    band_limited,
    clipped,
    encoded,
    gained,
    mu_law,
    reverberated,
    room_responses,
    shifted,
)
from randommix_audio.evaluation.conditions import FILE_CODECS, GROUPS, Condition, Group, speech_conditions
from randommix_audio.evaluation.corruptions import CORRUPTIONS, corruption_error, read_corruption
from randommix_audio.evaluation.noises import active_power, active_samples, add_noise, babble, background, pink, white
from randommix_audio.evaluation.occlusion import zero_blocks
from randommix_audio.evaluation.rows import integers, normals, row_keys, uniforms
from randommix_audio.evaluation.speech import SpeechSet, evaluate, summary

__all__ = [
    "CORRUPTIONS",
    "FILE_CODECS",
    "GROUPS",
    "Condition",
    "Group",
    "Normalized",
    "SpeechSet",
    "active_power",
    "active_samples",
    "add_noise",
    "babble",
    "background",
    "band_limited",
    "clipped",
    "corruption_error",
    "encoded",
    "evaluate",
    "fgsm",
    "gained",
    "gradient_sign",
    "integers",
    "mu_law",
    "normals",
    "pink",
    "read_corruption",
    "reverberated",
    "room_responses",
    "row_keys",
    "shifted",
    "speech_conditions",
    "stepped",
    "summary",
    "uniforms",
    "white",
    "zero_blocks",
]
