"""What the command lines here share: options from a typed signature, and mistakes told in one line."""

import sys
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentError, auto_cli

from randommix_audio.data import AudioError, BankError


class PrepareError(Exception):
    """A corpus that cannot be prepared; the message is one line that says why."""


def one_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


def run(function: Callable[..., Any], arguments: list[str] | None = None) -> None:
    """Call a function with options from the command line; mistakes end with `error: ...` and code 2."""
    try:
        auto_cli(function, args=arguments, as_positional=False, exit_on_error=False)
    except (AudioError, BankError, PrepareError, OSError, ArgumentError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
