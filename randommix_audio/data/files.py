"""Writing files so that a reader never meets half of one."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T", bound=Sized)


@contextmanager
def atomic(path: Path, mode: str = "wb", durable: bool = True) -> Iterator[IO[Any]]:
    """Open a file for writing; it takes its name only when all of it is written.

    Args:
        path: the file; what is written lies beside it until then.
        mode: "wb" or "w" (UTF-8).
        durable: wait until it is on the disk, so that a power cut cannot leave half of it either.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


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
