"""How much of the paper's training is done: a YAML file of `recipes/tables/budgets`, or one's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.shared import console
from recipes.shared.console import UserError

FOLDER = Path(__file__).parent / "budgets"
CONFIGS = Path(__file__).parents[1]


@dataclass
class Share:
    """What a budget says of one recipe.

    Args:
        config: stem of a file in the recipe's conf, or path of a YAML file; null takes the paper's for each setting.
        options: options of the recipe's `train` that differ from it, e.g. {epochs: 20, width: 16}.
        robustness: options of the recipe's `robustness`, e.g. {quick: true}.
    """

    config: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    robustness: dict[str, Any] = field(default_factory=dict)


@dataclass
class Budget:
    """How much of the paper's training is done.

    Args:
        speech_commands: what differs on speech.
        images: what differs on images.
        stand_ins: networks that are replaced, and by what, e.g. {wide_resnet28: preact_resnet18}.
        processes: how many train one model together, by corpus; elsewhere it is one.
    """

    speech_commands: Share = field(default_factory=Share)
    images: Share = field(default_factory=Share)
    stand_ins: dict[str, str] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)

    def share(self, recipe: str) -> Share:
        """What it says of a recipe."""
        found: Share = getattr(self, recipe)
        return found


def load(name: str) -> Budget:
    """A budget by its name in `budgets`, or by the path of its file.

    Raises:
        UserError: where there is none, or it says something unknown.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise UserError(f"budget must be {known} or a YAML file, got {name}")
    return console.parse(Budget, f"budget {path}", [f"--config={path}"])[0]


def configuration(recipe: str, name: str) -> Path:
    """The file of a configuration, by its stem in the recipe's conf or by its path.

    Raises:
        UserError: where there is none.
    """
    path = CONFIGS / recipe / "conf" / f"{name}.yaml"
    path = path if path.is_file() else Path(name)
    if not path.is_file():
        raise UserError(f"{name}: neither a file nor a configuration of recipes/{recipe}/conf")
    return path
