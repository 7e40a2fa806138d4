"""LogMel's presets against the libraries themselves: one padded batch of ours, each clip alone of theirs.

Units of the features are turned into decibels by LogMel.decibels_per_unit: Whisper's (log10 + 4) / 4 is 40 dB a unit,
natural logarithms are 4.34 dB a unit, AST's are divided by twice a deviation of 4.57 nepers, the paper's image is
80 dB a unit.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.front_end_parity import (
    REFERENCES,
    compare,
    of_wave,
    recorded_clips,
    synthetic_clips,
    whisper_features,
    worst,
)
from randommix_audio.features import LogMel

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters", "ignore:At least one mel filterbank")

NEAR_DB, FAR_DB = 1e-3, 1e-3  # within 60 dB of the clip's peak, and below
KALDI_NEAR_DB, KALDI_FAR_DB = 5e-3, 0.1  # Kaldi's own float32 arithmetic is that far from float64


def gates(name: str) -> tuple[float, float]:
    return (KALDI_NEAR_DB, KALDI_FAR_DB) if name == "kaldi" else (NEAR_DB, FAR_DB)


@pytest.mark.parametrize("name", REFERENCES)
def test_synthetic_clips_have_the_features_that_the_library_gives(name: str) -> None:
    logmel, clips = LogMel.preset(name), synthetic_clips()
    near, far = worst(logmel, compare(logmel, clips, of_wave(REFERENCES[name], clips)))
    assert near <= gates(name)[0]
    assert far <= gates(name)[1]


@pytest.mark.parametrize("name", REFERENCES)
def test_recorded_clips_have_the_features_that_the_library_gives(name: str, real_data: Path) -> None:
    logmel, clips = LogMel.preset(name), recorded_clips(real_data)
    assert len(clips) > 30
    near, far = worst(logmel, compare(logmel, clips, of_wave(REFERENCES[name], clips)))
    assert near <= gates(name)[0]
    assert far <= gates(name)[1]


def test_whisper_with_128_bands_is_the_extractor_of_large_v3() -> None:
    logmel, clips = LogMel.preset("whisper", n_mels=128), synthetic_clips()
    pairs = compare(logmel, clips, of_wave(lambda wave: whisper_features(wave, n_mels=128), clips))
    assert worst(logmel, pairs)[1] <= FAR_DB


def test_a_wave_filled_up_to_30_s_with_silence_is_what_the_whisper_model_is_fed() -> None:
    from transformers import WhisperFeatureExtractor

    clip = synthetic_clips()["loud"].astype(np.float32) / 32768
    theirs = torch.from_numpy(WhisperFeatureExtractor()(clip, sampling_rate=16000)["input_features"])
    ours = LogMel.preset("whisper")(torch.nn.functional.pad(torch.from_numpy(clip), (0, 480000 - len(clip)))[None])
    assert ours.shape == theirs.shape == (1, 80, 3000)
    assert (ours - theirs).abs().max() * 40 <= FAR_DB


def htk_with_area_norm(wave: Tensor) -> tuple[Tensor, Tensor]:
    from torchaudio.transforms import MelSpectrogram

    theirs = MelSpectrogram(
        n_fft=512, win_length=400, hop_length=160, n_mels=40, f_min=60.0, f_max=7600.0, norm="slaney"
    )
    ours = LogMel(n_fft=512, win_length=400, hop_length=160, n_mels=40, f_min=60.0, f_max=7600.0, mel_scale="htk")
    return ours.to_power(ours(wave)), theirs(wave)


def test_other_settings_than_a_presets_agree_with_torchaudio_too() -> None:
    wave = torch.from_numpy(synthetic_clips()["noisy"].astype(np.float32) / 32768)[None]
    ours, theirs = htk_with_area_norm(wave)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)
