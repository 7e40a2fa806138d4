"""Writing files so that a reader meets the old one or the new one, never half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic(path: Path, mode: str = "wb", durable: bool = True) -> Iterator[IO[Any]]:
    """Open a file for writing; it takes its name only when all of it is written.

    Args:
        path: the file; what is written lies beside it until then.
        mode: "wb" or "w" (UTF-8).
        durable: wait until it is on the disk, so that a power cut cannot leave half of it either.

    Raises:
        OSError: it cannot be written, `filename` says where; an old file is as it was then.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(partial)):
            raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk names no file
        raise


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write a whole file, see `atomic`.

    Args:
        path: where the file is to be; its folder is made when missing.
        content: bytes, or text that is stored as UTF-8.

    Returns:
        The path written.

    Raises:
        OSError: the folder cannot be made or written to, or the disk is full; nothing is left behind then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
    return path
