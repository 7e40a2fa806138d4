"""Corpora of noise with a loudness like that of syllables, for measurements that need files or a prepared task."""

from pathlib import Path

import numpy as np
import soundfile

from benchmarks.logmel_speed import Case
from randommix_audio.data import Clip, Entries, NoiseBank, Task, WaveBank

LABELS = 12


def write_clips(folder: Path, count: int, seconds: float = 1.0, kind: str = "wav", rate: int = 16000) -> list[Path]:
    """Files of `kind` ("wav" or "flac", 16 bit), all different."""
    folder.mkdir(parents=True, exist_ok=True)
    wave = Case(1, seconds, rate).wave()[0].numpy()
    paths = [folder / f"{number}.{kind}" for number in range(count)]
    for number, path in enumerate(paths):
        soundfile.write(path, np.roll(wave, 997 * number), rate, subtype="PCM_16")
    return paths


def bank(folder: Path, paths: list[Path], seconds: float) -> WaveBank:
    """A bank of these files; the class of file i is i modulo LABELS."""
    clips = [Clip(path, str(number % LABELS), "train", path.name) for number, path in enumerate(paths)]
    return WaveBank.build(folder, clips, seconds=seconds, progress=False)


def entries(bank: WaveBank, noise: NoiseBank | None = None) -> Entries:
    """All clips of a bank."""
    return Entries.of(bank, range(len(bank)), [int(label) for label in bank.labels], noise)


def task(folder: Path, count: int) -> Task:
    """A task of clips of one second: all of them to train, a few to validate and to test."""
    held = bank(folder / "bank", write_clips(folder / "clips", count), seconds=1.0)
    sound = Case(1, 10.0).wave()[0].numpy()
    noise = NoiseBank(sound, np.array([0, len(sound)]), ["noise"], held.sample_rate)
    few = Entries.of(held, range(LABELS), range(LABELS))
    splits = {"train": entries(held, noise), "validation": few, "test": few}
    return Task([f"word {label}" for label in range(LABELS)], held, splits, noise)
