"""How robust a classifier is: against attacks, occlusion, corrupted pictures and damaged speech.

Everything random depends on a seed and the number of a clip or picture alone, so that two users get the same number
whatever their batch size. docs/evaluation.md says what each number means.
"""

from randommix_audio.evaluation.attacks import Normalized, fgsm, gradient_sign, stepped
from randommix_audio.evaluation.corruptions import CORRUPTIONS, corruption_error, read_corruption
from randommix_audio.evaluation.occlusion import zero_blocks
from randommix_audio.evaluation.rows import normals, row_keys, uniforms

__all__ = [
    "CORRUPTIONS",
    "Normalized",
    "corruption_error",
    "fgsm",
    "gradient_sign",
    "normals",
    "read_corruption",
    "row_keys",
    "stepped",
    "uniforms",
    "zero_blocks",
]
