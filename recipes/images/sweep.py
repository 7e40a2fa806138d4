"""Many runs: `python -m recipes.images.sweep --mixers none randommix --seeds 0 1 2 --jobs 2 --config ...`."""

from __future__ import annotations

import torch

from recipes.images.config import Config
from recipes.images.sources import open_source
from recipes.shared import console, sweep

SWEPT = sweep.Swept("recipes.images", Config, lambda config: open_source(config, torch.device("cpu")).digest)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    sweep.main(SWEPT, argv)


if __name__ == "__main__":
    console.run(main, again="the same command goes on")
