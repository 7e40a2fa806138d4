"""Folders that one process writes at a time, and what is written there."""

import json
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from randommix_audio.files import atomic

__all__ = ["atomic", "locked", "with_bar", "write_json"]

T = TypeVar("T", bound=Sized)


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON, atomically."""
    with atomic(path, "w") as stream:
        json.dump(value, stream, indent=1)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one process; the system lets go of the lock when the process dies, however it dies.

    Raises:
        BlockingIOError: another process holds it.
    """
    with open(folder / ".lock", "a+b") as stream:
        try:
            _lock(stream)
        except OSError:
            raise BlockingIOError(f"{folder}: another process is writing here; wait until it has ended") from None
        yield


def _lock(stream: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def with_bar(chunks: Iterable[T], total: int, done: int, progress: bool, what: str = "decoding") -> Iterator[T]:
    """The chunks, their members counted by a progress bar where tqdm is installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield from chunks
        return
    often = 0.1 if sys.stderr.isatty() else 15.0  # seconds between lines in a log file
    with tqdm(total=total, initial=done, unit="clip", desc=what, disable=not progress, mininterval=often) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))
