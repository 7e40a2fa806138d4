"""What the command lines here share: options from a typed signature, and mistakes told in one line."""

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, auto_cli

from randommix_audio.data import AudioError, BankError


class PrepareError(Exception):
    """A corpus that cannot be prepared; the message is one line that says why."""


def one_line(error: BaseException) -> str:
    """The text of an exception without line breaks; an OSError as `path: reason`."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def run(function: Callable[..., Any], arguments: list[str] | None = None) -> None:
    """Call a function with options from the command line; mistakes end with `error: ...` and code 2.

    RANDOMMIX_TRACEBACK=1 shows the whole traceback instead, for those who look for a mistake in the code.
    """
    program = f"python -m {__package__}.{Path(inspect.getfile(function)).stem}"
    try:
        auto_cli(function, args=arguments, as_positional=False, exit_on_error=False, prog=program)
    except (AudioError, BankError, PrepareError, OSError, ArgumentError, ValueError, MemoryError) as error:
        if os.environ.get("RANDOMMIX_TRACEBACK"):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
