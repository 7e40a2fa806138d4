"""What the tests of pictures have in common: plans to draw, and what is in a figure."""

import numpy as np
import torch

import randommix_audio as rma

BINS, FRAMES = 12, 20


def drawn_plan(x: torch.Tensor, method: str = "cutmix", **arguments: object) -> rma.MixPlan:
    mixer = rma.build(method, per="row", pairing="roll", **arguments)
    return mixer.plan(x, generator=torch.Generator().manual_seed(1))


def panels(figure):
    """The four panels of each line; colour bars are axes of their own and left out."""
    titled = [axes for axes in figure.axes if axes.get_title()]
    return [titled[i : i + 4] for i in range(0, len(titled), 4)]


def content(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def grey_from(axes) -> float | None:
    """Where on the time axis the grey of the padding begins; None where there is none."""
    return axes.patches[0].get_x() if axes.patches else None


def scales_of(figure) -> list[set[tuple[float, float]]]:
    """The colour scales of the three contents of each line."""
    return [{line[i].images[0].get_clim() for i in (0, 1, 3)} for line in panels(figure)]
