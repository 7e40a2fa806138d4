"""Making and saving figures; matplotlib is imported here at the first picture, not before."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from randommix_audio.files import write_atomically
from randommix_audio.viewing.panels import LINE, SPECTRUM, WEIGHTS

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
        raise ImportError(f"pictures need matplotlib ({error}): pip install 'randommix_audio[viewing]'") from error
    return Picture(width, height)


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as the bytes of a PNG file, `dpi` pixels to the inch; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; a warning per letter helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return buffer.getvalue()


def small_png(figure: Figure, dpi: int = 100) -> bytes:
    """As `png` for pictures of mixes, at about a quarter of the size: in the 256 colours that they consist of."""
    from PIL import Image  # matplotlib brings it

    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette())
    with Image.open(io.BytesIO(png(figure, dpi))) as picture:
        reduced = picture.convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    reduced.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _palette() -> bytes:
    """256 colours: both colour maps of `panels.py`, its line colour on white, and greys for the text."""
    import matplotlib
    import numpy as np

    maps = matplotlib.colormaps
    spectrum = maps[SPECTRUM](np.linspace(0, 1, 108))[:, :3]
    weights = maps[WEIGHTS](np.linspace(0, 1, 96))[:, :3]
    greys = np.linspace([0, 0, 0], [1, 1, 1], 28)
    line = np.array([int(LINE[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    lines = np.linspace(line, [1, 1, 1], 24)
    return np.rint(255 * np.concatenate([spectrum, weights, greys, lines])).astype(np.uint8).tobytes()


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
