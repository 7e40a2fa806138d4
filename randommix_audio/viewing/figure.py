"""Making and saving figures; matplotlib is imported here at the first picture, not before."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from randommix_audio.viewing.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def blank(width: float, height: float) -> Figure:
    """An empty figure of the given size in inches.

    Raises:
        ImportError: matplotlib is not installed; the message names the extra that brings it.
    """
    try:
        from randommix_audio.viewing._picture import Picture
    except ImportError as error:
        raise ImportError(
            f"pictures need matplotlib ({error}): pip install 'randommix_audio[viewing]'"
        ) from error
    return Picture(width, height)


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as the bytes of a PNG file, `dpi` pixels to the inch; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; a warning per letter helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(
            buffer, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"optimize": True}
        )
    return buffer.getvalue()


def save(figure: Figure, path: str | os.PathLike[str], dpi: int = 100) -> Path:
    """Write a figure as a PNG file, whole or not at all.

    Args:
        figure: what `show`, `gallery`, `curves` or `confusion` gave.
        path: the file; its folder is made when missing.
        dpi: pixels to the inch.

    Returns:
        The path written.

    Raises:
        OSError: the file cannot be written.
    """
    return write_atomically(path, png(figure, dpi))
