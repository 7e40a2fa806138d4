"""Every method side by side, on the same two clips."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from randommix_audio.layout import resolve_layout, to_bcft
from randommix_audio.viewing.axis import axis_of
from randommix_audio.viewing.captions import names_above_panels
from randommix_audio.viewing.mixes import Batch, as_float, figure_of, lines_of
from randommix_audio.viewing.panels import looks_like_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from randommix_audio.features import LogMel
    from randommix_audio.mixers import Mixer
    from randommix_audio.plan import MixPlan

DRAWS = 32


def gallery(
    a: Tensor,
    b: Tensor,
    names: Sequence[str] = ("A", "B"),
    methods: Sequence[str | Mixer] | None = None,
    *,
    seed: int = 0,
    share: float = 0.6,
    variant: str = "default",
    lengths: Sequence[int] | None = None,
    front_end: LogMel | None = None,
    hop_length: int | None = None,
    sample_rate: int | None = None,
    frequencies: Sequence[float] | np.ndarray | None = None,
    image: bool | None = None,
    title: str | None = None,
) -> Figure:
    """Show every method on the same two clips, one method a line.

    Args:
        a: a spectrogram (F, T), a picture or spectrogram (C, F, T), or a waveform (N,).
        b: its partner, of the same shape.
        names: their two names.
        methods: which methods, by name or as mixers; None takes all that `methods_to_show` names.
        seed: every method draws from a generator of this seed, so that the picture can be made again.
        share: of 32 draws, by name with the method's own defaults, the one is shown whose share of a is nearest to
            this, so that the methods can be compared and there is something to see.
        variant: "default" or "official", of methods given by name.
        lengths: valid frames of the two clips; None when all are. The panels end with the longer clip.
        front_end: see `show`. Its `pad_value` stands where a method given by name fills.
        hop_length: see `show`.
        sample_rate: see `show`.
        frequencies: see `show`.
        image: see `show`.
        title: a line above the picture.

    Returns:
        A figure with one line of four panels for each method: a, b, the weights of a, the mix with its share. Methods
        that follow saliency have the most salient tenth of a and b outlined; those for hidden layers are shown on the
        clips themselves, and are said to be.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the clips differ in shape, or a method is unknown.
    """
    if a.shape != b.shape:
        raise ValueError(f"both clips need one shape, got {tuple(a.shape)} and {tuple(b.shape)}: pad the shorter")
    methods = methods_to_show() if methods is None else methods
    if not methods:
        raise ValueError("a gallery needs at least one method")
    x = as_float(torch.stack([a, b]))
    if lengths is not None:
        x = x[..., : max(1, *(int(length) for length in lengths))]
    valid = None if lengths is None else torch.as_tensor(lengths, device=x.device)
    layout = resolve_layout(x, None)
    canonical = to_bcft(x, layout)
    pictures = looks_like_image(canonical) if image is None else image
    axis = axis_of(layout, pictures, canonical.shape[2], front_end, hop_length, sample_rate, frequencies)
    keep = slice(None) if pictures and canonical.shape[1] == 3 else slice(0, 1)
    batch = Batch(x, layout, names_above_panels(names, 2), keep, valid)
    fill = 0.0 if front_end is None or axis.kind != "spectrogram" else front_end.pad_value
    lines = []
    for method in methods:
        mixer = method
        if isinstance(mixer, str):
            mixer = mixer_for(mixer, variant=variant, pairing="flip", fill=fill)
        plan = _nearest(mixer, x, valid, seed, share)
        kind = getattr(mixer, "saliency", None)
        lines += lines_of(batch, plan, [0], axis, frames=x.shape[-1], saliency=kind)
    return figure_of(lines, axis, title)


def _nearest(mixer: Mixer, x: Tensor, lengths: Tensor | None, seed: int, share: float) -> MixPlan:
    """Of several plans the one whose first row has a share nearest to the one asked for."""
    generator = torch.Generator().manual_seed(seed)
    plans = [mixer.plan(x, lengths=lengths, generator=generator) for _ in range(DRAWS)]
    return min(plans, key=lambda drawn: abs(float(drawn.lam[0]) - share))


def methods_to_show() -> list[str]:
    """The methods of a gallery: all mixers but `none`, and but `randommix`, which is one of the others."""
    from randommix_audio import MIXERS

    return [name for name in MIXERS if name not in ("none", "randommix")]


def mixer_for(method: str, alpha: float | None = None, variant: str = "default", **common: Any) -> Mixer:
    """A mixer by name; alpha and variant go only to the methods that have them.

    Args:
        method: one of `MIXERS`.
        alpha: both parameters of the Beta distribution of the share; None: the method's own default.
        variant: "default" or "official".
        **common: see `Mixer`.

    Raises:
        ValueError: the method is unknown, or an argument is out of range.
    """
    from randommix_audio import build

    known = inspect.signature(type(build(method)).__init__).parameters
    own: dict[str, Any] = {"variant": variant} if alpha is None else {"alpha": alpha, "variant": variant}
    return build(method, **{name: value for name, value in own.items() if name in known}, **common)
