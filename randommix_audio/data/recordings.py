"""Lists of recordings that are read when their turn comes: files, segments of files, members of tar shards."""

import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .reading import AudioError, PathLike, read

AUDIO = ("wav", "flac", "ogg", "opus", "mp3")


class Member(NamedTuple):
    """Where in an uncompressed tar a file lies: its name there, its first byte, and how many there are."""

    name: str
    first: int
    size: int


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording, or a segment of one, and what is to be learned from it.

    Attributes:
        path: the audio file, or the tar that holds it.
        target: anything; whole numbers become a tensor in the batch, everything else a list.
        start: where the segment begins, in seconds.
        duration: its length in seconds; None is up to the end of the file.
        member: where in the tar at `path` the file lies; None for a file by itself.
    """

    path: PathLike
    target: Any = None
    start: float = 0.0
    duration: float | None = None
    member: Member | None = None

    @property
    def name(self) -> str:
        """The path, with that inside the tar behind it."""
        path = os.fspath(self.path)  # an absolute name inside the tar would replace it in os.path.join
        return path if self.member is None else os.path.join(path, self.member.name.lstrip("/"))

    def wave(self, sample_rate: int, longest: float | None = None) -> np.ndarray:
        """(samples,) int16 at `sample_rate`, channels averaged.

        Args:
            sample_rate: in Hz; other rates are resampled.
            longest: seconds after which reading may stop.

        Raises:
            AudioError: it cannot be read, see `randommix_audio.data.read`; also where its start or duration, or the
                sample rate, make no sense.
        """
        content = None if self.member is None else self._content(self.member)
        duration = min((limit for limit in (self.duration, longest) if limit is not None), default=None)
        try:
            return read(self.name, sample_rate, self.start, duration, dtype="int16", content=content)[0]
        except ValueError as error:  # of start, duration or rate: in a worker nobody would know which recording's
            raise AudioError(self.name, str(error)) from None

    def _content(self, member: Member) -> bytes:
        try:
            with open(self.path, "rb", buffering=0) as stream:
                stream.seek(member.first)
                content = stream.read(member.size)
        except OSError as error:
            raise AudioError(self.name, f"cannot be opened ({error.strerror or error})") from None
        if len(content) < member.size:
            raise AudioError(self.name, "the tar is cut short")
        return content


def read_manifest(path: PathLike, target: str | None = None) -> list[Recording]:
    """The recordings of a manifest in NeMo's format: a JSON object for each line.

    Args:
        path: the manifest, UTF-8 with or without a byte order mark. Of each line are used `audio_filepath` (relative to
            the manifest's folder, or absolute), `offset` and `duration` in seconds where there are any, and the target.
        target: the key of the target, such as "text" or "label"; None: there is none.

    Raises:
        ValueError: it is not UTF-8, or a line is no such object; says which and why.
        OSError: the manifest cannot be read.
    """
    folder, found = Path(path).parent, []
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: not UTF-8 text ({error.reason})") from None
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut texts at U+2028 and its like
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            seconds = entry.get("duration")
            found.append(
                Recording(
                    path=folder / entry["audio_filepath"],
                    target=None if target is None else entry[target],
                    start=float(entry.get("offset") or 0.0),
                    duration=None if seconds is None else float(seconds),
                )
            )
        except KeyError as error:
            raise ValueError(f"{os.fspath(path)}, line {number}: lacks {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{os.fspath(path)}, line {number}: not an entry of a manifest ({error})") from None
    return found


def read_shards(paths: Iterable[PathLike], target: str | None = "cls") -> list[Recording]:
    """The recordings in WebDataset shards on disk, found by reading the headers of the tars once.

    Files of a shard with the same path up to the first dot of their name are one sample. Hidden files, such as the "._"
    ones that macOS adds, are no part of any, and what has neither audio nor target, such as a README, is none.
    Compressed shards, and shards that are not files, are for the library webdataset itself.

    Args:
        paths: the uncompressed tars.
        target: extension of the file with the target: "cls" becomes an int, "json" what it holds, any other a str;
            None: there is none.

    Raises:
        TypeError: paths is a single one.
        ValueError: a file is not an uncompressed tar, or cut short; a sample has no audio (wav, flac, ogg, opus, mp3)
            or no target, or has a file twice.
        OSError: a file cannot be read.
    """
    if isinstance(paths, (str, os.PathLike)):
        raise TypeError(f"paths must be a list of tars, got one: read_shards([{os.fspath(paths)!r}])")
    return [recording for path in paths for recording in _shard(path, target)]


def _shard(path: PathLike, target: str | None) -> Iterator[Recording]:
    shard = os.fspath(path)
    try:
        with open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            samples = _samples(shard, tar)
            # tarfile takes whatever is no header for the end, which is a block of zeros.
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ValueError(f"{shard}: cut short or damaged after {tar.offset} bytes")
            for key, files in samples.items():
                audio = next((files[extension] for extension in AUDIO if extension in files), None)
                if audio is None and target not in files:
                    continue
                if audio is None:
                    raise ValueError(f"{shard}: {key} has no audio ({', '.join(AUDIO)})")
                if target is not None and target not in files:
                    raise ValueError(f"{shard}: {key} has no {target}")
                meaning = None if target is None else _target(path, tar, files[target], target)
                yield Recording(path, meaning, member=Member(audio.name, audio.offset_data, audio.size))
    except tarfile.TarError as error:
        raise ValueError(f"{shard}: not an uncompressed tar, or damaged ({error})") from None


def _samples(shard: str, tar: tarfile.TarFile) -> dict[str, dict[str, tarfile.TarInfo]]:
    """The files of each sample by their extensions."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    for info in tar:
        folder, name = os.path.split(info.name)
        if info.isreg() and not name.startswith("."):
            stem, _, extension = name.partition(".")
            key = os.path.join(folder, stem)
            if samples.setdefault(key, {}).setdefault(extension.lower(), info) is not info:
                raise ValueError(f"{shard}: {key} has two files .{extension.lower()}")
    return samples


def _target(path: PathLike, tar: tarfile.TarFile, info: tarfile.TarInfo, extension: str) -> Any:
    stream = tar.extractfile(info)
    assert stream is not None  # a regular file
    try:
        text = stream.read().decode()
        return int(text) if extension == "cls" else json.loads(text) if extension == "json" else text
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {info.name} holds no {extension} ({error})") from None
