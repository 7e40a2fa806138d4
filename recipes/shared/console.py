"""Command lines: typed options from a dataclass, mistakes in one line, progress on a terminal and in a log."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import docstring_parser
import torch
from jsonargparse import ArgumentParser
from tqdm import tqdm

from data_prep.command import one_line
from randommix_audio.data import AudioError, BankError

Options = TypeVar("Options")


class UserError(Exception):
    """A mistake of the person who typed the command; its text is one line that names the thing."""


def build(options: type[Options], values: dict[str, Any]) -> Options:
    """Make a dataclass, and the dataclasses inside it, from plain nested dictionaries."""
    kinds = typing.get_type_hints(options)
    filled = {
        name: build(kinds[name], value) if dataclasses.is_dataclass(kinds[name]) else value
        for name, value in values.items()
    }
    return options(**filled)


def parse(
    options: type[Options], program: str, argv: list[str] | None = None, positional: str = ""
) -> tuple[Options, str]:
    """Read options from `--config file.yaml` and the command line, the latter winning.

    Args:
        options: a dataclass; its docstring gives the help texts.
        program: how the program is called, for the help.
        argv: arguments; None takes those of the process.
        positional: the option, a list of strings, that takes what stands without a name.

    Returns:
        The filled dataclass, and the stem of the last configuration file ("" without one).

    Raises:
        UserError: for anything that is not accepted, in one line.
    """
    described = docstring_parser.parse(options.__doc__ or "")
    parser = ArgumentParser(
        prog=program, description=described.short_description, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    if positional:
        about = {parameter.arg_name: parameter.description for parameter in described.params}
        parser.add_argument(positional, nargs="+", type=str, help=about[positional])
    parser.add_class_arguments(options, skip={positional} if positional else set())
    try:
        values = parser.parse_args(files_first(sys.argv[1:] if argv is None else argv)).as_dict()
    except Exception as error:
        raise UserError(f"{_plainly(one_line(error))} (try --help)") from error
    files = values.pop("config") or []
    stem = os.path.splitext(os.path.basename(str(files[-1])))[0] if files else ""
    return build(options, values), stem


def _plainly(mistake: str) -> str:
    """Say of a wrong choice what the choices are, instead of naming Python's types."""
    wrong = re.search(r'"([\w.]+)": Expected a typing\.Literal\[(.*?)\]\. Got value: (.*)', mistake)
    if not wrong:
        return mistake
    name, choices, got = wrong.groups()
    return f"{name} must be one of {choices.replace(chr(39), '')}, got {got}"


def files_first(argv: list[str]) -> list[str]:
    """Move `--config FILE` to the front, because the parser lets what stands later win."""
    files: list[str] = []
    others: list[str] = []
    for i, word in enumerate(argv):
        after = i > 0 and argv[i - 1] == "--config"
        (files if after or word.split("=")[0] == "--config" else others).append(word)
    return files + others


def run(main: Callable[[], None], again: str = "") -> typing.NoReturn:
    """Run a program and leave the process: 0, or 2 after one line `error: ...`, or 130 after Ctrl-C.

    RANDOMMIX_TRACEBACK=1 shows the whole traceback instead, for those who look for a mistake in the code.

    Args:
        main: the program.
        again: said after Ctrl-C, the way to go on.
    """
    if os.environ.get("RANDOMMIX_TRACEBACK"):
        main()
        sys.exit(0)
    try:
        main()
    except KeyboardInterrupt:
        print(f"\nstopped{'; ' + again if again else ''}", file=sys.stderr)
        leave(130)
    except (UserError, AudioError, BankError, OSError, ValueError, ImportError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        leave(2)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        print("error: out of memory: lower --batch_size or --width", file=sys.stderr)
        leave(2)
    sys.exit(0)


_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "size calculation overflowed")


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # torch has no class of its own for the other devices
    return any(words in str(error) for words in _MEMORY)


def leave(code: int) -> typing.NoReturn:
    """End the process at once: neither a writer thread with a full disk nor a waiting rank can hold it up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Progress:
    """One bar with clips per second on a terminal; elsewhere nothing but the lines that are said.

    Args:
        total: clips of the whole run.
        done: clips behind us when a run goes on.
        shown: False on every process but the first.
    """

    def __init__(self, total: int, done: int = 0, shown: bool = True) -> None:
        self.shown = shown
        tty = sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, unit="clip", unit_scale=True, disable=not (shown and tty))

    def advance(self, clips: int) -> None:
        """Count clips that were trained on."""
        self.bar.update(clips)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self.shown:
            tqdm.write(line)
            sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()
