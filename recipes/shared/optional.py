"""Packages that only a part of the recipes needs."""

from __future__ import annotations

import importlib

from recipes.shared.console import UserError


def need(package: str, extra: str) -> None:
    """Make sure that a package can be imported.

    Args:
        package: its name.
        extra: the extra of this project that installs it.

    Raises:
        UserError: where it is missing, or was built for another version of torch.
    """
    try:
        importlib.import_module(package)
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{package} cannot be imported ({reason}): pip install 'randommix_audio[{extra}]'") from error
