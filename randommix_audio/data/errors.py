"""What can be wrong with a stored bank or task, or with an argument, told in one line."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

# What the readers of JSON and NPZ raise where a file holds something else, or half of it.
_DAMAGE = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(OSError, EOFError, OverflowError, RecursionError, BadZipFile, zlib.error),
)


class BankError(Exception):
    """A bank or task that cannot be built or opened; the message is one line that says why."""


class OtherBankError(BankError):
    """A folder that holds a bank which is not the one asked for.

    Attributes:
        what: what it holds instead, to follow "a bank" or "a task".
    """

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"{folder}: holds a bank {what}; rebuild it or use another folder")
        self.what = what


class UnreadableError(BankError):
    """Clips that cannot be read."""


def check_whole(name: str, value: Any, least: int) -> None:
    """Refuse an argument that is no whole number, or one that is too small.

    Raises:
        ValueError: it is; names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


@contextmanager
def parsing(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read and taken apart into a BankError that names it.

    Args:
        path: the file.
        kind: what its folder should hold, such as "bank".

    Raises:
        BankError: the file is missing or damaged.
        OSError: it is there and cannot be opened.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise BankError(f"{path.parent}: holds no {kind} (no {path.name})") from None
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise  # no right to read it, a folder in its place: says so and names the file
        why = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise BankError(f"{path}: damaged ({why or type(error).__name__}); make the {kind} again") from None
