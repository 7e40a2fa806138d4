"""A bank: many short clips decoded once into one memory-mapped int16 array.

A folder holds `clips.i16` (the samples, little-endian, row after row) and `bank.json` (everything else).
`bank.json` is written last and under a temporary name, so a folder without it is a bank still being made,
and a folder with it is whole.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from .errors import BankError, OtherBankError, UnreadableError, parsing
from .files import atomic, locked, with_bar
from .reading import AudioError, PathLike, read

Pad = Literal["end", "both"]

FORMAT = 2
_CHUNK = 256  # clips decoded between two notes of progress
_UNREADABLE = -1


@dataclass(frozen=True)
class Clip:
    """One recording to go into a bank.

    Attributes:
        path: the audio file.
        label: its class.
        split: the part of the corpus, such as "train".
        key: its name inside the bank, unique; a path relative to the corpus lets the corpus move.
    """

    path: PathLike
    label: str
    split: str
    key: str


@dataclass
class WaveBank:
    """Clips of one length at one sample rate, memory-mapped.

    Attributes:
        folder: where it is stored.
        sample_rate: in Hz.
        samples: length of a row.
        keys, labels, splits: one string per clip.
        lengths: (N,) int32, samples of speech in each row before the zeros.
        metadata: what the builder wished to keep.
        skipped: (key, reason) of the clips left out because they could not be read.
        fingerprint: hash of the settings and of the names and sizes of the sources.
        digest: hash of the fingerprint and of the keys, so of what is in which row.
    """

    folder: Path
    sample_rate: int
    samples: int
    keys: list[str]
    labels: list[str]
    splits: list[str]
    lengths: np.ndarray
    metadata: dict[str, Any] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    fingerprint: str = ""
    digest: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def clips(self) -> np.memmap:
        """(N, samples) int16, read-only, mapped when first used."""
        return np.memmap(self.folder / "clips.i16", dtype="<i2", mode="r", shape=(len(self), self.samples))

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickles as its whole content; a worker process maps the file itself.
        return {name: value for name, value in self.__dict__.items() if name != "clips"}

    @classmethod
    def open(cls, folder: PathLike) -> "WaveBank":
        """Open a bank that was built.

        Raises:
            BankError: there is none, it is not whole, or it is of a format not known here.
        """
        folder = Path(folder)
        with parsing(folder / "bank.json", "bank"):
            stored = json.loads((folder / "bank.json").read_text(encoding="utf-8"))
            if stored.pop("format") != FORMAT:
                raise OtherBankError(folder, "in another format")
            bank = cls(folder=folder, **_checked(stored))
        expected = len(bank) * bank.samples * 2
        held = (folder / "clips.i16").stat().st_size if (folder / "clips.i16").is_file() else 0
        if held != expected:
            raise BankError(f"{folder / 'clips.i16'}: holds {held} bytes, not {expected}; build the bank again")
        return bank

    @classmethod
    def build(
        cls,
        folder: PathLike,
        clips: Sequence[Clip],
        sample_rate: int = 16000,
        seconds: float = 1.0,
        metadata: dict[str, Any] | None = None,
        pad: Pad = "end",
        skip_bad: bool = False,
        rebuild: bool = False,
        workers: int | None = None,
        progress: bool = True,
    ) -> "WaveBank":
        """Decode the clips into a bank, going on where an earlier call was stopped.

        Args:
            folder: made if needed.
            clips: what goes in, in this order.
            sample_rate: of the bank, in Hz; other rates are resampled.
            seconds: length of a row. Longer clips lose their end (pad="both": both ends).
            metadata: stored with the bank, as JSON.
            pad: where shorter clips get zeros: "end", as TensorFlow's own reader does, or "both", clip in
                the middle.
            skip_bad: leave out files that cannot be read, naming them in `skipped`, instead of raising.
            rebuild: replace a bank made of other clips or settings instead of raising.
            workers: threads that decode; None takes one per core, at most 8.
            progress: show a bar.

        Raises:
            UnreadableError: files cannot be read.
            OtherBankError: the folder holds a bank of other clips, settings or format.
            BankError: the keys are not unique, or the bank cannot be written. Whatever is raised, a bank that
                the folder holds already stays as it is.
            BlockingIOError: another process is building in this folder.
        """
        folder = Path(folder)
        if not clips:
            raise BankError(f"{folder}: no clips to put into the bank")
        samples = row_length(seconds, sample_rate)
        if pad not in ("end", "both"):
            raise BankError(f"pad must be 'end' or 'both', not {pad!r}")
        _refuse_duplicates(clips)
        mark = _fingerprint(clips, sample_rate, samples, pad)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            work = _Work(folder, clips, sample_rate, samples, pad, mark)
            if (bank := cls._existing(folder, rebuild)) is not None:
                if bank.fingerprint == mark and not work.repaired(bank.skipped, skip_bad):
                    return bank
                if bank.fingerprint != mark and not rebuild:
                    raise OtherBankError(folder, "of other clips or settings")
            work.run(skip_bad, workers or min(8, os.cpu_count() or 1), progress)
            work.finish(metadata or {}, skip_bad)
        return cls.open(folder)

    @classmethod
    def _existing(cls, folder: Path, rebuild: bool) -> "WaveBank | None":
        try:
            return cls.open(folder)
        except OtherBankError:
            if not rebuild:
                raise
            return None
        except BankError:  # none, or not whole: nothing to lose
            return None


def row_length(seconds: float, sample_rate: int) -> int:
    """Samples in a row; BankError where `seconds` gives none."""
    if not (math.isfinite(seconds) and round(seconds * sample_rate) >= 1):
        raise BankError(f"seconds must give at least one sample, not {seconds}")
    return round(seconds * sample_rate)


def _checked(stored: dict[str, Any]) -> dict[str, Any]:
    """The content of a bank.json as fields of WaveBank; ValueError where it contradicts itself."""
    stored["lengths"] = np.asarray(stored["lengths"], dtype=np.int32)
    stored["skipped"] = [(str(key), str(reason)) for key, reason in stored["skipped"]]
    if not all(isinstance(stored[name], int) and stored[name] > 0 for name in ("sample_rate", "samples")):
        raise ValueError("sample_rate and samples are not whole numbers above 0")
    columns = [stored[name] for name in ("keys", "labels", "splits")]
    if not all(isinstance(column, list) and len(column) == len(stored["lengths"]) for column in columns):
        raise ValueError("keys, labels, splits and lengths are not lists of one length")
    if stored["digest"] != _digest(stored["fingerprint"], stored["keys"]):
        raise ValueError("its digest is not that of its keys")
    return stored


def _digest(fingerprint: str, keys: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([fingerprint, list(keys)]).encode()).hexdigest()


def _refuse_duplicates(clips: Sequence[Clip]) -> None:
    twice = [key for key, count in Counter(clip.key for clip in clips).items() if count > 1]
    if twice:
        raise BankError(f"{len(twice)} keys are given more than once, first {twice[0]!r}")


def _fingerprint(clips: Sequence[Clip], sample_rate: int, samples: int, pad: str) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, sample_rate, samples, pad]).encode())
    for clip in clips:
        try:
            size = os.stat(clip.path).st_size
        except (OSError, ValueError):
            size = -1
        digest.update(json.dumps([clip.key, clip.label, clip.split, size]).encode())
    return digest.hexdigest()


class _Work:
    """A bank being made: `clips.partial` grows by chunks, and `progress` says how far it can be trusted.

    Each line of `progress` is one clip that was dealt with: its length, or -1 and the reason. A chunk's
    samples are on the disk before its lines are, so whatever a kill left half done lies behind the last
    line and is cut off again.
    """

    def __init__(
        self, folder: Path, clips: Sequence[Clip], sample_rate: int, samples: int, pad: str, mark: str
    ) -> None:
        self.folder, self.clips, self.pad, self.mark = folder, clips, pad, mark
        self.sample_rate, self.samples = sample_rate, samples
        self.journal, self.store = folder / "progress", folder / "clips.partial"
        self.done: list[tuple[int, str]] = []

    def repaired(self, skipped: Sequence[tuple[str, str]], skip_bad: bool) -> bool:
        """Can any of the clips that a finished bank left out be read now?

        Raises:
            UnreadableError: one of them cannot, and skip_bad is off.
        """
        keys = {key for key, _ in skipped}
        bad = [(clip, reason) for clip in self.clips if clip.key in keys and (reason := self._decode(clip)[2])]
        if bad and not skip_bad:
            raise UnreadableError(_describe(bad))
        return len(bad) < len(skipped)

    def run(self, skip_bad: bool, workers: int, progress: bool) -> None:
        """Decode all clips that an earlier call has not."""
        self.done = self._recover(skip_bad)
        try:
            with open(self.store, "ab") as store:
                store.truncate(_rows(self.done) * self.samples * 2)
            with atomic(self.journal, "w") as journal:
                journal.write(json.dumps(self.mark) + "\n" + _lines(self.done))
            with (
                open(self.store, "ab") as store,
                open(self.journal, "a", encoding="utf-8") as journal,
                ThreadPoolExecutor(workers) as pool,
            ):
                for chunk in with_bar(self._rest(), len(self.clips), len(self.done), progress):
                    self._add(list(pool.map(self._decode, chunk)), store, journal)
        except OSError as error:
            raise BankError(f"{self.folder}: cannot be written ({error.strerror or error})") from error

    def _add(self, decoded: list[tuple[bytes, int, str]], store: IO[bytes], journal: IO[str]) -> None:
        notes = [(length, reason) for _, length, reason in decoded]
        store.write(b"".join(samples for samples, _, _ in decoded))
        _to_disk(store)
        journal.write(_lines(notes))
        _to_disk(journal)
        self.done += notes

    def _rest(self) -> Iterator[Sequence[Clip]]:
        for start in range(len(self.done), len(self.clips), _CHUNK):
            yield self.clips[start : start + _CHUNK]

    def _recover(self, skip_bad: bool) -> list[tuple[int, str]]:
        """What an earlier, stopped call has finished; nothing if it was making another bank."""
        try:
            first, *lines = self.journal.read_text(encoding="utf-8").splitlines(keepends=True)
            if json.loads(first) != self.mark:
                return []
            # The last line may have been cut by a kill.
            notes = [json.loads(line) for line in lines if line.endswith("\n")]
            done = [(int(length), str(reason)) for length, reason in notes]
            self._take_back(done)
            room = self.store.stat().st_size // (self.samples * 2)
        except (OSError, ValueError, TypeError):
            return []
        if not skip_bad:  # files that could not be read may have been repaired: begin again at the first
            done = done[: next((i for i, (length, _) in enumerate(done) if length < 0), len(done))]
        rows = np.cumsum([length >= 0 for length, _ in done])
        return done[: int(np.searchsorted(rows, room, side="right"))]

    def _take_back(self, done: Sequence[tuple[int, str]]) -> None:
        """Go on with samples that have their last name already, where a kill kept bank.json from following."""
        final = self.folder / "clips.i16"
        if self.store.exists() or (self.folder / "bank.json").exists() or len(done) != len(self.clips):
            return
        if final.stat().st_size == _rows(done) * self.samples * 2:
            os.replace(final, self.store)

    def _decode(self, clip: Clip) -> tuple[bytes, int, str]:
        """(samples of the row, length, "") of a clip, or (nothing, -1, why not)."""
        # A little more than a row is enough, and keeps an hour-long file from being decoded whole.
        limit = self.samples / self.sample_rate + 0.1 if self.pad == "end" else None
        try:
            wave, _ = read(clip.path, self.sample_rate, duration=limit, dtype="int16")
        except AudioError as error:
            return b"", _UNREADABLE, error.reason
        return fit(wave, self.samples, self.pad).astype("<i2").tobytes(), min(len(wave), self.samples), ""

    def finish(self, metadata: dict[str, Any], skip_bad: bool) -> None:
        bad = [(clip, reason) for clip, (length, reason) in zip(self.clips, self.done, strict=True) if length < 0]
        if bad and not skip_bad:
            raise UnreadableError(_describe(bad))
        kept = [(c, length) for c, (length, _) in zip(self.clips, self.done, strict=True) if length >= 0]
        if not kept:
            raise BankError(f"{self.folder}: none of {len(self.clips)} files can be read; {_describe(bad)}")
        stored = {
            "format": FORMAT,
            "sample_rate": self.sample_rate,
            "samples": self.samples,
            "keys": [clip.key for clip, _ in kept],
            "labels": [clip.label for clip, _ in kept],
            "splits": [clip.split for clip, _ in kept],
            "lengths": [length for _, length in kept],
            "metadata": metadata,
            "skipped": [(clip.key, reason) for clip, reason in bad],
            "fingerprint": self.mark,
            "digest": _digest(self.mark, [clip.key for clip, _ in kept]),
        }
        with atomic(self.folder / "bank.json", "w") as stream:
            json.dump(stored, stream)
            _to_disk(stream)  # a full disk shows here, while the folder still holds what it held
            (self.folder / "bank.json").unlink(missing_ok=True)
            os.replace(self.store, self.folder / "clips.i16")
        self.journal.unlink()


def fit(wave: np.ndarray, samples: int, pad: str = "end") -> np.ndarray:
    """(n,) samples padded with zeros or cut to `samples`: at the end, or at both ends alike."""
    if len(wave) >= samples:
        start = (len(wave) - samples) // 2 if pad == "both" else 0
        return wave[start : start + samples]
    before = (samples - len(wave)) // 2 if pad == "both" else 0
    return np.pad(wave, (before, samples - len(wave) - before))


def _rows(notes: Sequence[tuple[int, str]]) -> int:
    return sum(length >= 0 for length, _ in notes)


def _lines(notes: Sequence[tuple[int, str]]) -> str:
    return "".join(json.dumps(note) + "\n" for note in notes)


def _to_disk(stream: IO[Any]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _describe(bad: Sequence[tuple[Clip, str]]) -> str:
    named = "; ".join(f"{os.fspath(clip.path)}: {reason}" for clip, reason in bad[:3])
    more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
    files = "1 file" if len(bad) == 1 else f"{len(bad)} files"
    return f"{files} cannot be read: {named}{more}"
