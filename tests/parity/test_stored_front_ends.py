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
"""

import pytest

from benchmarks.front_end_parity import compare, stored, synthetic_clips, worst
from randommix_audio.features import LogMel
from randommix_audio.features.levels import decibels_per_unit


@pytest.mark.parametrize("name, overrides", [("nemo", {"normalize": None}), ("espnet", {})])
def test_log_mel_is_within_a_thousandth_of_a_decibel_of_the_published_code(name: str, overrides: dict) -> None:
    logmel, values = LogMel.preset(name, **overrides), stored(name)
    assert worst(logmel, compare(logmel, synthetic_clips(), values.__getitem__))[1] <= 1e-3


def test_nemos_normalisation_counts_each_clips_own_frames() -> None:
    values = stored("nemo")
    pairs = compare(LogMel.preset("nemo"), synthetic_clips(), lambda name: values[f"{name}_normalized"])
    assert len(pairs) == 3
    for name, (ours, theirs) in pairs.items():
        nepers = values[name].std(dim=1, keepdim=True)  # what one unit is, band by band
        assert ((ours - theirs).abs() * nepers).max() * decibels_per_unit("ln") <= 1e-3
