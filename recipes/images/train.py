"""Train a classifier of images.

`python -m recipes.images.train --config recipes/images/conf/small.yaml --data data/cifar/prepared/cifar10`
"""

from __future__ import annotations

from typing import Any

from recipes.images.config import Config
from recipes.images.job import ImageJob
from recipes.images.sources import open_source
from recipes.shared import console
from recipes.shared.classifier_run import Recipe, train_classifier
from recipes.shared.mixing import make_mixer

PROGRAM = "python -m recipes.images.train"
RECIPE = Recipe("images", rows="images", example="FILE.jpg")


def train(config: Config, name: str) -> dict[str, Any]:
    """Run a training from wherever it stands to its end.

    Args:
        config: the options.
        name: the folder of the run inside config.runs.

    Returns:
        What results.json holds.

    Raises:
        UserError: for whatever the person who typed the command can mend.
        BankError: where a prepared set is damaged.
    """
    make_mixer(config)  # mistakes in the options come before anything is opened or written
    return train_classifier(
        RECIPE, config, name, lambda fabric: ImageJob(config, open_source(config, fabric.device), fabric)
    )


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    config, configuration = console.parse(Config, PROGRAM, argv)
    train(config, config.run_name(configuration))


if __name__ == "__main__":
    console.run(main, again="go on with the same command and --resume auto")
