"""NeMo and ESPnet, which are too heavy to install: values that their published code gave, stored as arrays.

Both were run on each clip of ``benchmarks.front_end_parity.synthetic_clips()`` alone, as float32 ``clip / 32768``.

``nemo.npz``: NVIDIA/NeMo at commit 8cfedd7203462cb251a914e700e5605444277561,
``nemo/collections/asr/parts/preprocessing/features.py``::

    FilterbankFeatures(sample_rate=16000, n_window_size=400, n_window_stride=160, window="hann", n_fft=512, nfilt=80,
                       normalize=..., dither=0.0, pad_to=0).eval()(wave, length)

the frames below the returned length; normalize=None under the clip's name, "per_feature" under name_normalized.

``espnet.npz``: espnet 202511 from PyPI, ``espnet2/layers/stft.py`` and ``log_mel.py`` as DefaultFrontend joins them::

    spectrum, frames = Stft(n_fft=512, hop_length=128)(wave, length)
    features, _ = LogMel(fs=16000, n_fft=512, n_mels=80)(spectrum.square().sum(-1), frames)

A float32 Fourier transform rounds otherwise on another processor. Where a band lies 80 dB below the loudest of its
frame that shows: on one processor both the stored values and ours were 2.0e-3 dB from float64, each in its own way.
"""

import pytest

from benchmarks.front_end_parity import compare, stored, synthetic_clips, worst
from randommix_audio.features import LogMel
from randommix_audio.features.levels import decibels_per_unit

NEAR_DB, FAR_DB = 1e-3, 5e-3  # within 60 dB of the clip's peak, and below


@pytest.mark.parametrize("name, overrides", [("nemo", {"normalize": None}), ("espnet", {})])
def test_log_mel_is_what_the_published_code_gives(name: str, overrides: dict) -> None:
    logmel, values = LogMel.preset(name, **overrides), stored(name)
    near, far = worst(logmel, compare(logmel, synthetic_clips(), values.__getitem__))
    assert near <= NEAR_DB
    assert far <= FAR_DB


def test_nemos_normalisation_counts_each_clips_own_frames() -> None:
    values = stored("nemo")
    pairs = compare(LogMel.preset("nemo"), synthetic_clips(), lambda name: values[f"{name}_normalized"])
    assert len(pairs) == 3
    for name, (ours, theirs) in pairs.items():
        levels, unit = values[name], decibels_per_unit("ln")
        difference = (ours - theirs).abs() * levels.std(dim=1, keepdim=True) * unit  # of each band, in decibels
        assert difference[levels >= levels.max() - 60 / unit].max() <= NEAR_DB
        assert difference.max() <= FAR_DB
