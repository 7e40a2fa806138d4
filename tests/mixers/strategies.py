"""Hypothesis strategies for the mixer tests: any mixer, any batch that the contract allows, H != W unless one is 1."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

import randommix_audio as rma

NAMES = [name for name in rma.MIXERS if name != "none"]
WITHOUT_ALPHA = ("resizemix", "cutout")
BY_BOTH_ROWS = ("puzzlemix", "comixup")
"""Methods whose weights follow from what is in the row and its partners: no two rows have the same."""
MAY_KEEP_A_CHOSEN_ROW = ("comixup",)
"""Methods whose objective may find that a row is best left alone."""
WITH_OFFICIAL_VARIANT = (
    "cutmix",
    "resizemix",
    "fmix",
    "cutout",
    "saliencymix",
    "randommix",
)


def is_mixed(plan: rma.MixPlan) -> Tensor:
    """(B,) bool, the rows that have another source than themselves, or less than all of themselves."""
    own = plan.weights[0].expand(plan.batch, -1, plan.size.freq, plan.size.time)
    return (plan.sources != plan.sources[0]).any(0) | (own < 1).flatten(1).any(1)


@st.composite
def mixers(draw: st.DrawFn, names: list[str] = NAMES, **fixed: Any) -> rma.Mixer:
    """Any mixer with any common arguments, official variants included."""
    name = draw(st.sampled_from(names))
    arguments: dict[str, Any] = {
        "per": draw(st.sampled_from(["batch", "row"])),
        "pairing": draw(st.sampled_from(["permutation", "derangement", "roll", "flip", "neighbour"])),
    }
    if name in WITH_OFFICIAL_VARIANT:
        arguments["variant"] = draw(st.sampled_from(["default", "official"]))
    if name in ("mixup", "freq_cutmix"):
        arguments["length_policy"] = draw(st.sampled_from(["longest", "shortest", "anchor"]))
    if name == "patchup":
        arguments["mode"] = draw(st.sampled_from(["soft", "hard"]))
        arguments["per_channel"] = draw(st.booleans())
    if name not in WITHOUT_ALPHA:
        arguments["alpha"] = draw(st.sampled_from([0.1, 0.5, 1.0, 3.0]))
    return rma.build(name, **{**arguments, **fixed})


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor | None, torch.Generator]:
    """A (B, C, F, T) batch with or without lengths (zero-length rows too), and a generator to draw its plan with."""
    batch = draw(st.integers(1, 7))
    channels = draw(st.sampled_from([1, 3]))
    freq = draw(st.sampled_from([1, 2, 5, 16, 33]))
    time = draw(st.sampled_from([size for size in (1, 3, 8, 20, 47) if size != freq or size == 1]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(batch, channels, freq, time, generator=generator)
    lengths = torch.randint(0, time + 1, (batch,), generator=generator) if draw(st.booleans()) else None
    return x, lengths, generator
