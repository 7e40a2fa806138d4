"""Many runs: `python -m recipes.speech_commands.sweep --mixers none randommix --seeds 0 1 2 --jobs 2 --config ...`."""

from __future__ import annotations

from randommix_audio.data import Task
from recipes.shared import console, sweep
from recipes.speech_commands.config import Config
from recipes.speech_commands.job import data_digest

SWEPT = sweep.Swept("recipes.speech_commands", Config, lambda config: data_digest(Task.open(config.data)))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    sweep.main(SWEPT, argv)


if __name__ == "__main__":
    console.run(main, again="the same command goes on")
