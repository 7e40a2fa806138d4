"""Small corpora of noise in the folders and names of Speech Commands."""

import io
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from data_prep.protocols import COMMANDS
from data_prep.speech_commands import prepare
from randommix_audio.data import Task


def wav(path: Path, seed: int, samples: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).integers(-5000, 5000, samples).astype(np.int16), 16000)
    return path


def corpus(root: Path, words: tuple[str, ...] = (*COMMANDS, "cat", "bed"), each: int = 6, suffix: str = ".wav") -> Path:
    """`each` clips of each word: one for validation, two for testing, the rest for training."""
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for w, word in enumerate(words):
        for i in range(each):
            wav(root / word / f"{i:08x}_nohash_0{suffix}", 100 * w + i)
            if i < 3:
                name = "validation_list.txt" if i == 0 else "testing_list.txt"
                lists[name].append(f"{word}/{i:08x}_nohash_0.wav\n")
    for name, lines in lists.items():
        (root / name).write_text("".join(lines))
    return root


def with_noise(root: Path) -> Path:
    wav(root / "_background_noise_" / "tap.wav", 1, 40_000)
    wav(root / "_background_noise_" / "hum.wav", 2, 50_000)
    return root


def make(root: Path, **kwargs: object) -> Task:
    return prepare(root, progress=False, **kwargs)


def tarred(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            data = file.read_bytes()
            member = tarfile.TarInfo(f"./{file.relative_to(folder).as_posix()}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
