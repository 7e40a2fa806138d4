"""What the tests of robustness of all recipes have in common: a test that is there is neither repeated nor replaced."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from recipes.shared import records
from recipes.shared.console import UserError


def is_there(out: Path, settings: dict[str, Any], again: bool) -> bool:
    """Whether a file holds the numbers of just this test.

    Args:
        out: the file of the numbers.
        settings: of the test, plain values; stored in the file under "settings".
        again: whether whatever is there may be replaced.

    Raises:
        UserError: where it holds the numbers of another test, naming what differs.
    """
    if again or not out.is_file():
        return False
    stored = records.read_json(out).get("settings")
    if not isinstance(stored, dict):
        raise UserError(f"{out}: holds no test of robustness; give another --out")
    settings = records.plain(settings)
    if other := [name for name, value in settings.items() if stored.get(name) != value]:
        raise UserError(f"{out}: was made with another {other[0].replace('_', ' ')}; --again true replaces it")
    return True


def digest_of(path: str | Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
