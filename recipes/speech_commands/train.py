"""Train a keyword recogniser.

`python -m recipes.speech_commands.train --config recipes/speech_commands/conf/small.yaml --data data/sc`
"""

from __future__ import annotations

from typing import Any

from randommix_audio.data import Task
from recipes.shared import console
from recipes.shared.classifier_run import Recipe, train_classifier
from recipes.shared.mixing import make_mixer
from recipes.speech_commands.config import Config
from recipes.speech_commands.job import KeywordJob

PROGRAM = "python -m recipes.speech_commands.train"
RECIPE = Recipe("speech_commands", rows="clips", example="FILE.wav")


def train(config: Config, name: str) -> dict[str, Any]:
    """Run a training from wherever it stands to its end.

    Args:
        config: the options.
        name: the folder of the run inside config.runs.

    Returns:
        What results.json holds.

    Raises:
        UserError: for whatever the person who typed the command can mend.
    """
    make_mixer(config)  # mistakes in the options come before anything is opened or written
    task = Task.open(config.data)
    return train_classifier(RECIPE, config, name, lambda fabric: KeywordJob(config, task, fabric))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    config, configuration = console.parse(Config, PROGRAM, argv)
    train(config, config.run_name(configuration))


if __name__ == "__main__":
    console.run(main, again="go on with the same command and --resume auto")
