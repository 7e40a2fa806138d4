"""Front ends by the name of the library whose features they reproduce, as arguments of LogMel.

``docs/features.md`` gives for each the exact reference call and the largest difference measured.
"""

from typing import Any

FLOAT32_EPSILON = 2.0**-23  # Kaldi's floor

_KALDI: dict[str, Any] = {
    "n_fft": 512,
    "win_length": 400,
    "hop_length": 160,
    "n_mels": 80,
    "f_min": 20.0,
    "mel_scale": "kaldi",
    "mel_norm": None,
    "window": "povey",
    "periodic": False,
    "center": False,
    "wave_scale": 32768.0,
    "remove_dc": True,
    "preemphasis": 0.97,
    "preemphasis_in": "frame",
    "log": "ln",
    "floor": FLOAT32_EPSILON,
}

PRESETS: dict[str, dict[str, Any]] = {
    # MelSpectrogram() followed by AmplitudeToDB(), on each clip alone
    "torchaudio": {
        "hop_length": 200,
        "n_mels": 128,
        "mel_scale": "torchaudio",
        "mel_norm": None,
        "log": "db",
    },
    # power_to_db(feature.melspectrogram(y=wave))
    "librosa": {
        "sample_rate": 22050,
        "n_fft": 2048,
        "hop_length": 512,
        "n_mels": 128,
        "pad_mode": "constant",
        "log": "db",
        "dynamic_range": 80.0,
    },
    "kaldi": _KALDI,
    # WhisperFeatureExtractor; n_mels=128 for large-v3
    "whisper": {"drop_last_frame": True, "log": "log10", "dynamic_range": 8.0, "mean": -4.0, "std": 4.0},
    # AudioToMelSpectrogramPreprocessor as the Conformer recipes configure it, without dither
    "nemo": {
        "n_fft": 512,
        "win_length": 400,
        "periodic": False,
        "pad_mode": "constant",
        "drop_last_frame": True,
        "preemphasis": 0.97,
        "preemphasis_in": "wave",
        "log": "ln",
        "floor": 2.0**-24,
        "floor_mode": "add",
        "normalize": "per_feature",
    },
    # DefaultFrontend: Stft, power, LogMel
    "espnet": {"n_fft": 512, "hop_length": 128, "log": "ln"},
    # lobes.features.Fbank; its n_mels is 40, the recipes say 80
    "speechbrain": {
        "mel_scale": "speechbrain",
        "mel_norm": None,
        "window": "hamming",
        "pad_mode": "constant",
        "log": "db",
        "dynamic_range": 80.0,
    },
    # ASTFeatureExtractor: Kaldi features of the unscaled wave, then (x - mean) / (2 std) of AudioSet
    "ast": _KALDI | {"n_mels": 128, "window": "hann", "wave_scale": 1.0, "mean": -4.2677393, "std": 2 * 4.5689974},
    # the RandomMix paper's (FMix's) image: 32 bands x 32 frames of one second, 0.5 (peak) to -0.5
    "randommix": {
        "n_fft": 2048,
        "hop_length": 512,
        "n_mels": 32,
        "log": "db",
        "ref": "max",
        "dynamic_range": 80.0,
        "mean": -40.0,
        "std": 80.0,
    },
}
