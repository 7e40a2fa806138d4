"""The command `randommix-audio`: look at what mixing does to your own files."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from randommix_audio.features.presets import PRESETS

USAGE_ERROR, INTERRUPTED = 2, 130


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; None takes those of the process.

    Returns:
        Exit status: 0, 2 after an error of which one line was printed, 130 when interrupted.
    """
    try:
        arguments = _parser().parse_args(argv)
        return arguments.run(arguments)
    except SystemExit as leaving:  # argparse leaves by itself after --help and after a mistake
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except MemoryError:
        return _fail("not enough memory: give fewer files, or fewer --seconds")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except (ImportError, ValueError) as error:
        return _fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="randommix-audio", description="Mixed-sample augmentation for speech.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    preview = commands.add_parser(
        "preview",
        help="mix your own audio files by every method and look at the result",
        description="Mix audio files by every method. Writes into a folder one picture for each method, an "
        "overview and the page index.html, which holds it all; with --domain-wave the mixed sounds as well.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    preview.add_argument("files", nargs="+", metavar="FILE", help="audio files, at least two, of any rate")
    preview.add_argument(
        "--out",
        required=True,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder to write to; made when missing",
    )
    preview.add_argument("--methods", type=_names, default="all", metavar="A,B,...", help="mixers, separated by commas")
    preview.add_argument("--preset", default="whisper", help=f"front end, one of {', '.join(PRESETS)}")
    preview.add_argument("--seed", type=int, default=0, help="seed of the draws")
    preview.add_argument("--per", choices=("row", "batch"), default="row", help="draw for each file, or once for all")
    preview.add_argument(
        "--alpha",
        type=float,
        default=argparse.SUPPRESS,
        help="the share is drawn from Beta(alpha, alpha) (default: that of each method)",
    )
    preview.add_argument(
        "--variant",
        choices=("default", "official"),
        default="default",
        help="right for speech, or as in the published code",
    )
    preview.add_argument("--seconds", type=float, default=10.0, help="how much of the start of each file to take")
    preview.add_argument("--rows", type=int, default=4, help="files to show for each method")
    preview.add_argument("--domain-wave", action="store_true", help="mix waveforms and write the mixed WAV files")
    preview.set_defaults(run=_preview)

    version = commands.add_parser("version", help="print the versions of this package, Python and torch")
    version.set_defaults(run=_version)
    return parser


def _names(text: str) -> list[str] | None:
    """Names separated by commas; "all" is None, all of them."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("names no method")
    return None if names == ["all"] else names


def _preview(arguments: argparse.Namespace) -> int:
    from randommix_audio.data import AudioError
    from randommix_audio.viewing.preview import Options, preview

    options = Options(
        files=arguments.files,
        out=arguments.out,
        methods=arguments.methods,
        preset=arguments.preset,
        seed=arguments.seed,
        per=arguments.per,
        seconds=arguments.seconds,
        rows=arguments.rows,
        alpha=getattr(arguments, "alpha", None),
        variant=arguments.variant,
        wave=arguments.domain_wave,
    )

    def tell(path: Path) -> None:
        print(f"wrote {path}", flush=True)

    try:
        page = preview(options, tell)
    except AudioError as error:
        return _fail(str(error))
    print(f"open {page} in a browser")
    return 0


def _version(arguments: argparse.Namespace) -> int:
    import torch

    from randommix_audio import __version__

    print(f"randommix_audio {__version__} (Python {platform.python_version()}, torch {torch.__version__})")
    return 0


def _fail(message: str) -> int:
    """Print one line, whatever the message holds, and give the exit status."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
