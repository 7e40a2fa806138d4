"""Figures as files and in notebooks, with and without matplotlib."""

import subprocess
import sys

import numpy as np
import torch

from randommix_audio.viewing import show
from randommix_audio.viewing.figure import png, small_png
from tests.viewing.drawing import BINS, FRAMES, drawn_plan


def test_the_small_png_is_smaller_and_close_to_the_full_one():
    from io import BytesIO

    from PIL import Image

    x = torch.randn(1, BINS, FRAMES)
    figure = show(x, drawn_plan(x))
    full, small = png(figure), small_png(figure)
    pixels = [np.asarray(Image.open(BytesIO(data)).convert("RGB"), dtype=float) for data in (full, small)]
    assert len(small) < len(full)
    assert np.abs(pixels[0] - pixels[1]).mean() < 3


def test_a_figure_shows_itself_in_a_notebook():
    x = torch.randn(1, BINS, FRAMES)
    assert show(x, drawn_plan(x))._repr_png_().startswith(b"\x89PNG")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_no_matplotlib_and_drawing_no_pyplot():
    code = """
import sys, torch, randommix_audio as rma
import randommix_audio.viewing
assert not any(name.startswith("matplotlib") for name in sys.modules), "import"
x = torch.randn(2, 5, 7)
rma.viewing.show(x, rma.Mixup().plan(x))
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
print("done")
"""
    assert run_python(code) == "done"


def test_without_matplotlib_one_line_names_the_extra():
    code = """
import sys
sys.modules["matplotlib"] = None
import torch, randommix_audio as rma
x = torch.randn(2, 5, 7)
try:
    rma.viewing.show(x, rma.Mixup().plan(x))
except ImportError as error:
    print(error)
"""
    printed = run_python(code)
    assert "randommix_audio[viewing]" in printed
    assert "\n" not in printed
