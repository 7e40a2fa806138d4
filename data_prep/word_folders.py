"""A corpus of spoken words: one folder per word, with the splits of Speech Commands."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from .command import PrepareError

AUDIO = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"}
NOISE_FOLDER = "_background_noise_"
VALIDATION_LIST, TESTING_LIST = "validation_list.txt", "testing_list.txt"


@dataclass
class WordFolders:
    """What a corpus holds.

    Attributes:
        root: its folder.
        words: for each word, in alphabetic order, the names of its files below the root
            ("yes/a_nohash_0.wav").
        noise: the recordings of background noise.
        split: for each of those names "train", "validation" or "test".
        notes: one line for each thing the user may wish to know.
    """

    root: Path
    words: dict[str, list[str]]
    noise: list[Path]
    split: dict[str, str]
    notes: list[str] = field(default_factory=list)


def audio_files(folder: Path) -> list[Path]:
    """The audio files directly in a folder, sorted; hidden ones are left out."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in AUDIO and not path.name.startswith("."))


def has_words(root: Path) -> bool:
    """Does the folder hold folders of audio files?"""
    return root.is_dir() and any(audio_files(folder) for folder in _word_folders(root))


def _word_folders(root: Path) -> list[Path]:
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith((".", "_")))


def scan(root: Path) -> WordFolders:
    """Find words, noise and splits.

    The splits are those of the list files where there are any, else those of the speaker hash.

    Raises:
        PrepareError: there is no such folder, no audio in the folders in it, or a list file that is not text.
    """
    if not root.is_dir():
        raise PrepareError(f"{root}: no such folder; to download the corpus into it, pass --version 0.02")
    found = {folder.name: audio_files(folder) for folder in _word_folders(root)}
    words = {word: [f"{word}/{path.name}" for path in files] for word, files in found.items() if files}
    if not words:
        raise PrepareError(f"{root}: holds no folder with audio files, one folder per word")
    names = [name for files in words.values() for name in files]
    corpus = WordFolders(root, words, audio_files(root / NOISE_FOLDER), {})
    lists = {VALIDATION_LIST: "validation", TESTING_LIST: "test"}
    if any((root / name).is_file() for name in lists):
        listed = {key: part for file, part in lists.items() for key in read_list(root / file)}
        corpus.split = {name: listed.get(without_suffix(name), "train") for name in names}
        absent = len(listed) - len(listed.keys() & {without_suffix(name) for name in names})
        if absent:
            corpus.notes.append(f"{absent} of the {len(listed)} clips in the list files are not in {root}")
    else:
        corpus.split = {name: which_set(name) for name in names}
        corpus.notes.append(f"no {VALIDATION_LIST} or {TESTING_LIST}: splits by the hash of the speaker")
    return corpus


def without_suffix(name: str) -> str:
    """`yes/a_nohash_0.wav` -> `yes/a_nohash_0`; also with back-slashes, and for names that end in .wav.wav."""
    name = name.replace("\\", "/").strip().removeprefix("./")
    while Path(name).suffix.lower() in AUDIO:
        name = name[: -len(Path(name).suffix)]
    return name


def read_list(path: Path) -> set[str]:
    """The clips that a list file names, without their suffixes; none if there is no such file.

    Raises:
        PrepareError: it is not UTF-8, so its lines would name other clips than they mean.
    """
    if not path.is_file():
        return set()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise PrepareError(f"{path}: is not UTF-8 text; store it as that") from None
    return {without_suffix(line) for line in lines if line.strip()}


def which_set(name: str, validation: float = 10.0, testing: float = 10.0) -> str:
    """The split of a clip by the hash of its speaker, as the Speech Commands lists were made.

    All clips of a speaker, the part of the name before `_nohash_`, fall into one split. Rule of TensorFlow's
    `speech_commands/input_data.py`: SHA-1 of the speaker, modulo 2^27, as percentage.
    """
    base = without_suffix(name).rsplit("/", 1)[-1] + ".wav"
    speaker = re.sub(r"_nohash_.*$", "", base)
    limit = 2**27 - 1
    percentage = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (limit + 1) * (100.0 / limit)
    if percentage < validation:
        return "validation"
    return "test" if percentage < validation + testing else "train"
