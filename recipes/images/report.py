"""Turn finished runs into a Markdown table: `python -m recipes.images.report runs/cifar100-*`."""

from __future__ import annotations

from recipes.shared import console
from recipes.speech_commands import report


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    report.main(argv, "python -m recipes.images.report", "images")


if __name__ == "__main__":
    console.run(main)
