"""Every LogMel preset beside the library whose features it reproduces: the largest difference, as one table.

    python -m benchmarks.front_end_parity                   # synthetic clips
    python -m benchmarks.front_end_parity --data FOLDER     # and recordings: one clip per word of
                                                            # FOLDER/speech_commands, some of FOLDER/an4

Ours is computed on one padded batch of all clips with their lengths, the reference on each clip alone. NeMo
and ESPnet are compared on the synthetic clips with values that their published code gave (tests/parity).
"""

import argparse
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from randommix_audio.features import LogMel
from randommix_audio.features.presets import PRESETS

STORED = Path(__file__).resolve().parents[1] / "tests" / "parity"
Clips = Mapping[str, np.ndarray]


def synthetic_clips() -> dict[str, np.ndarray]:
    """Three int16 clips of different length and loudness, the same on every machine."""
    generator = np.random.default_rng(2024)

    def clip(samples: int, start_hz: float, end_hz: float, level: float, noise: float) -> np.ndarray:
        time = np.arange(samples) / 16000.0
        sweep = 2 * np.pi * (start_hz + (end_hz - start_hz) * time / (2 * time[-1])) * time
        syllables = 0.5 - 0.5 * np.cos(2 * np.pi * 4.0 * time)
        wave = level * syllables * np.sin(sweep) + noise * (2 * generator.random(samples) - 1)
        return np.round(32767 * wave).astype(np.int16)

    return {
        "loud": clip(12037, 150.0, 3900.0, 0.9, 0.02),
        "quiet": clip(6111, 2500.0, 300.0, 0.004, 0.001),
        "noisy": clip(3000, 700.0, 7000.0, 0.2, 0.2),
    }


def recorded_clips(folder: Path) -> dict[str, np.ndarray]:
    """The first clip of every word of speech_commands and four utterances of an4, as int16 at 16 kHz."""
    import soundfile

    words = [word for word in sorted((folder / "speech_commands").iterdir()) if word.is_dir()]
    paths = [min(word.glob("*.flac"), default=None) for word in words if not word.name.startswith("_")]
    paths += sorted((folder / "an4" / "wav").rglob("*.flac"))[::300]
    clips = {}
    for path in filter(None, paths):
        wave, _ = soundfile.read(path, dtype="int16")
        clips[f"{path.parent.name}/{path.name}"] = wave
    return clips


def torchaudio_features(wave: np.ndarray) -> Tensor:
    """``AmplitudeToDB()(MelSpectrogram()(wave))``."""
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

    return AmplitudeToDB()(MelSpectrogram()(torch.from_numpy(wave)))


def librosa_features(wave: np.ndarray) -> Tensor:
    """``power_to_db(feature.melspectrogram(y=wave))``."""
    import librosa

    return torch.from_numpy(librosa.power_to_db(librosa.feature.melspectrogram(y=wave)))


def kaldi_features(wave: np.ndarray) -> Tensor:
    """kaldi-native-fbank's ``OnlineFbank``, 80 bands, no dither, of the wave times 32768."""
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = 80
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(16000, (wave * 32768).tolist())
    fbank.input_finished()
    return torch.from_numpy(np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)], axis=1))


def whisper_features(wave: np.ndarray, n_mels: int = 80) -> Tensor:
    """``WhisperFeatureExtractor(n_mels)(wave, sampling_rate=16000, padding="do_not_pad")``."""
    from transformers import WhisperFeatureExtractor

    extract = WhisperFeatureExtractor(feature_size=n_mels)
    return torch.from_numpy(extract(wave, sampling_rate=16000, padding="do_not_pad")["input_features"][0])


def speechbrain_features(wave: np.ndarray) -> Tensor:
    """``Fbank(n_mels=80)(wave)``."""
    from speechbrain.lobes.features import Fbank

    return Fbank(n_mels=80)(torch.from_numpy(wave)[None])[0].T


def ast_features(wave: np.ndarray) -> Tensor:
    """``ASTFeatureExtractor(max_length=frames)(wave, sampling_rate=16000)``."""
    from transformers import ASTFeatureExtractor

    extract = ASTFeatureExtractor(max_length=1 + (len(wave) - 400) // 160)
    return torch.from_numpy(extract(wave, sampling_rate=16000)["input_values"][0].T)


def randommix_features(wave: np.ndarray) -> Tensor:
    """``(power_to_db(melspectrogram(32 bands, n_fft 2048, hop 512, reflect), ref=np.max) + 40) / 80``."""
    import librosa

    power = librosa.feature.melspectrogram(y=wave, sr=16000, n_fft=2048, hop_length=512, n_mels=32, pad_mode="reflect")
    return torch.from_numpy((librosa.power_to_db(power, ref=np.max) + 40) / 80)


REFERENCES: dict[str, Callable[[np.ndarray], Tensor]] = {
    "torchaudio": torchaudio_features,
    "librosa": librosa_features,
    "kaldi": kaldi_features,
    "whisper": whisper_features,
    "speechbrain": speechbrain_features,
    "ast": ast_features,
    "randommix": randommix_features,
}


def padded(clips: Clips) -> tuple[Tensor, Tensor]:
    """The clips as one int16 batch (B, N), filled up with loud noise that must not be heard, and lengths (B,)."""
    lengths = torch.tensor([len(clip) for clip in clips.values()])
    wave = torch.randint(-30000, 30000, (len(clips), int(lengths.max())), generator=torch.Generator().manual_seed(1))
    wave = wave.to(torch.int16)
    for row, clip in zip(wave, clips.values(), strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return wave, lengths


def compare(logmel: LogMel, clips: Clips, reference: Callable[[str], Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each clip (ours (F, T) out of the padded batch, the reference's (F, T) of the clip alone).

    Args:
        logmel: The front end.
        clips: int16 arrays by name.
        reference: Gives the features (F, T) for a clip's name.

    Raises:
        ValueError: If a clip has another number of frames or bands than the reference's.
    """
    features, frames = logmel(*padded(clips))
    pairs = {}
    for row, name in enumerate(clips):
        ours, theirs = features[row, :, : frames[row]], reference(name).float()
        if ours.shape != theirs.shape:
            raise ValueError(f"{name}: ours is {tuple(ours.shape)}, the reference {tuple(theirs.shape)}")
        pairs[name] = (ours, theirs)
    return pairs


def of_wave(reference: Callable[[np.ndarray], Tensor], clips: Clips) -> Callable[[str], Tensor]:
    """A reference that takes the wave as float32 in -1 .. 1, as one that takes the clip's name."""
    return lambda name: reference(clips[name].astype(np.float32) / 32768)


def worst(logmel: LogMel, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """The largest difference in dB: (within 60 dB of the clip's peak, anywhere)."""
    unit = logmel.decibels_per_unit()
    near = far = 0.0
    for ours, theirs in pairs.values():
        difference = (ours.double() - theirs.double()).abs() * unit
        loud = (theirs.max() - theirs) * unit <= 60
        near, far = max(near, float(difference[loud].max())), max(far, float(difference.max()))
    return near, far


def stored(name: str) -> dict[str, Tensor]:
    """Features that published code gave for the synthetic clips; see tests/parity/test_stored_front_ends.py."""
    with np.load(STORED / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(value) for key, value in arrays.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("RANDOMMIX_TEST_DATA"), help="folder of recordings")
    data: Path | None = parser.parse_args().data
    warnings.simplefilter("ignore")  # librosa says of torchaudio's default that some of its 128 bands are empty
    sets: dict[str, Clips] = {"synthetic": synthetic_clips()}
    if data:
        sets["recorded"] = recorded_clips(Path(data))
    print("| preset | clips | dB within 60 dB of the peak | dB anywhere |\n| --- | --- | --- | --- |")
    for name in PRESETS:
        overrides: dict[str, Any] = {"normalize": None} if name == "nemo" else {}
        logmel = LogMel.preset(name, **overrides)
        for kind, clips in sets.items():
            if name in REFERENCES:
                reference = of_wave(REFERENCES[name], clips)
            elif kind == "synthetic":
                values = stored(name)
                reference = values.__getitem__
            else:
                continue
            near, far = worst(logmel, compare(logmel, clips, reference))
            print(f"| {name} | {len(clips)} {kind} | {near:.1e} | {far:.1e} |", flush=True)


if __name__ == "__main__":
    main()
