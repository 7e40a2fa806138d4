"""Pictures of what a plan does to a batch, and of all methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from randommix_audio.layout import layout_of_companion, resolve_layout, to_bcft
from randommix_audio.viewing.captions import is_left_alone, names_above_panels, titles
from randommix_audio.viewing.figure import blank
from randommix_audio.viewing.panels import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    Axis,
    Line,
    as_array,
    draw,
    looks_like_image,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from randommix_audio.features import LogMel
    from randommix_audio.mixers import Mixer
    from randommix_audio.plan import MixPlan

DRAWS = 32


def show(
    x: Tensor,
    plan: MixPlan,
    rows: int | Sequence[int] = 4,
    names: Sequence[str] | None = None,
    *,
    front_end: LogMel | None = None,
    hop_length: int | None = None,
    sample_rate: int | None = None,
    frequencies: Sequence[float] | np.ndarray | None = None,
    image: bool | None = None,
    channel: int = 0,
    title: str | None = None,
    lengths: Sequence[int] | Tensor | None = None,
) -> Figure:
    """Show rows of a batch, their partners, the weights, and what the plan makes of them.

    Args:
        x: the batch that the plan was drawn for, in the plan's axis order: spectrograms (B, F, T), (B, T, F) or
            (B, C, F, T), pictures (B, 3, H, W) or waveforms (B, N).
        plan: the plan; it is applied to `x` as it stands, so the picture is exactly what the model would see.
        rows: how many rows to show, see `rows_to_show`; or which ones.
        names: one name for each row of the batch, such as its label or file; without them rows are numbered.
        front_end: what made the spectrograms; gives the three arguments that follow, so that axes are in
            seconds and Hz.
        hop_length: samples from one frame to the next. With `sample_rate` the time axis is in seconds.
        sample_rate: samples per second.
        frequencies: (F,) centre of each bin in Hz, for the frequency axis.
        image: draw pictures: first line at the top, 3 channels as RGB, 1 as grey. None: only where there are
            3 channels and all values are bytes or lie within 0..1.
        channel: which channel of several to show where they are not drawn as RGB.
        title: a line above the picture.
        lengths: (B,) valid frames of the rows of `x`, as the plan was drawn with; the padding of a row shorter
            than the mix is then drawn grey.

    Returns:
        A figure with one line of four panels for each row: the row, its partner, the weights of the row's own
        source (0..1) and the mix with its share. The four panels of a line end with the valid frames of its mix.
        All lines have one scale, unless their ranges are too far apart.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: plan, names, rows, lengths or frequencies do not fit the batch.
    """
    layout = layout_of_companion(x, plan.layout)
    x = _as_float(x)
    batch = to_bcft(x, layout)
    count, channels, bins = batch.shape[:3]
    names = names_above_panels(names, count)
    if plan.batch != count:
        raise ValueError(f"the plan was drawn for {plan.batch} rows, the batch has {count}")
    if lengths is not None and len(lengths) != count:
        raise ValueError(f"{len(lengths)} lengths for a batch of {count}")
    chosen = rows_to_show(plan, rows) if isinstance(rows, int) else _existing(rows, count)
    if not 0 <= channel < channels:
        raise ValueError(f"channel {channel} is not one of the batch's {channels}")

    pictures = looks_like_image(batch) if image is None else image
    axis = _axis(layout, pictures, bins, front_end, hop_length, sample_rate, frequencies)
    keep = slice(None) if pictures and channels == 3 else slice(channel, channel + 1)
    return _figure(_lines(x, layout, plan, chosen, names, keep, axis, lengths), axis, title)


def gallery(
    a: Tensor,
    b: Tensor,
    names: Sequence[str] = ("A", "B"),
    methods: Sequence[str] | None = None,
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
        methods: which methods; None takes all that `methods_to_show` names.
        seed: every method draws from a generator of this seed, so that the picture can be made again.
        share: of 32 draws with the method's own defaults the one is shown whose share of a is nearest to this,
            so that the methods can be compared and there is something to see.
        variant: "default" or "official".
        lengths: valid frames of the two clips; None when all are. The panels end with the longer clip.
        front_end: see `show`.
        hop_length: see `show`.
        sample_rate: see `show`.
        frequencies: see `show`.
        image: see `show`.
        title: a line above the picture.

    Returns:
        A figure with one line of four panels for each method: a, b, the weights of a, the mix with its share.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the clips differ in shape, or a method is unknown.
    """
    if a.shape != b.shape:
        raise ValueError(f"both clips need one shape, got {tuple(a.shape)} and {tuple(b.shape)}: pad the shorter")
    methods = methods_to_show() if methods is None else methods
    if not methods:
        raise ValueError("a gallery needs at least one method")
    x = _as_float(torch.stack([a, b]))
    if lengths is not None:
        x = x[..., : max(1, *(int(length) for length in lengths))]
    valid = None if lengths is None else torch.as_tensor(lengths, device=x.device)
    layout = resolve_layout(x, None)
    batch = to_bcft(x, layout)
    pictures = looks_like_image(batch) if image is None else image
    axis = _axis(layout, pictures, batch.shape[2], front_end, hop_length, sample_rate, frequencies)
    keep = slice(None) if pictures and batch.shape[1] == 3 else slice(0, 1)
    names = names_above_panels(names, 2)
    lines: list[Line] = []
    for method in methods:
        mixer = mixer_for(method, variant=variant, pairing="flip")
        generator = torch.Generator().manual_seed(seed)
        plans = [mixer.plan(x, lengths=valid, generator=generator) for _ in range(DRAWS)]
        plan = min(plans, key=lambda drawn: abs(float(drawn.lam[0]) - share))
        lines += _lines(x, layout, plan, [0], names, keep, axis, lengths, frames=x.shape[-1])
    return _figure(lines, axis, title)


def methods_to_show() -> list[str]:
    """The methods of a gallery: all mixers but `none`, and but `randommix`, which is one of the others."""
    from randommix_audio import MIXERS

    return [name for name in MIXERS if name not in ("none", "randommix")]


def mixer_for(method: str, **arguments: Any) -> Mixer:
    """A mixer by name; alpha and variant go only to the methods that have them, as RandomMix hands them out."""
    from randommix_audio import RandomMix

    return RandomMix(**arguments) if method == "randommix" else RandomMix([method], **arguments)


def rows_to_show(plan: MixPlan, rows: int) -> list[int]:
    """The first rows that a plan mixes with another row; where these are too few, the first others as well.

    Raises:
        ValueError: rows is below 1.
    """
    if rows < 1:
        raise ValueError(f"rows must be at least 1, got {rows}")
    left_alone = (plan.share[0] >= 1) | (plan.sources[1:] == plan.sources[0]).all(0)
    order = left_alone.int().sort(stable=True).indices
    return sorted(order[:rows].tolist())


def _lines(
    x: Tensor,
    layout: str,
    plan: MixPlan,
    rows: Sequence[int],
    names: Sequence[str],
    keep: slice,
    axis: Axis,
    lengths: Sequence[int] | Tensor | None = None,
    frames: int | None = None,
) -> list[Line]:
    """The chosen rows of a mix as lines of a picture.

    Args:
        x: the batch.
        layout: its axis order.
        plan: its plan.
        rows: the rows.
        names: of all rows of the batch.
        keep: the channels that are drawn.
        axis: what the axes mean.
        lengths: valid frames of the rows of x; None when all are.
        frames: how many frames each line shows; None: the valid ones of its result.
    """
    batch, mixed = to_bcft(x, layout), to_bcft(plan.apply(x), layout)
    time = batch.shape[-1]
    weights = plan.weights[0].detach().expand(len(batch), 1, *batch.shape[2:])[:, 0]  # (B, F, T)
    sources, shares = plan.sources.cpu(), plan.share.detach().cpu()
    results = [time] * len(batch) if plan.lengths is None else plan.lengths.tolist()
    inputs = [time] * len(batch) if lengths is None else [int(length) for length in lengths]
    lines = []
    for row in rows:
        source, share, end = sources[:, row], shares[:, row], results[row]
        partner = _partner(source, share)
        shown = max(1, end) if frames is None else frames
        cut = ""
        if lengths is not None and inputs[partner] > shown:
            cut = f" (first {axis.time_text(shown)} of {axis.time_text(inputs[partner])})"
        changed = partner != row or not torch.equal(batch[row, ..., :end], mixed[row, ..., :end])
        lines.append(
            Line(
                own=as_array(batch[row, keep]),
                partner=as_array(batch[partner, keep]),
                weights=as_array(weights[row]),
                mixed=as_array(mixed[row, keep]),
                titles=titles(names, source, share, partner, _method(plan, row), changed, cut),
                ends=(inputs[row], 0 if is_left_alone(share) else inputs[partner], end, end),
                frames=shown,
            )
        )
    return lines


def _figure(lines: Sequence[Line], axis: Axis, title: str | None) -> Figure:
    tall = PANEL_HEIGHT if axis.kind != "wave" else 0.8 * PANEL_HEIGHT
    if len({line.frames for line in lines}) > 1:
        tall += 0.2  # every line has its own marks of time
    figure = blank(4 * PANEL_WIDTH, tall * len(lines) + 0.3 + (0.3 if title else 0))
    if title:
        figure.suptitle(title, fontsize=11, parse_math=False)
    draw(figure, lines, axis)
    return figure


def _axis(
    layout: str,
    pictures: bool,
    bins: int,
    front_end: Any,
    hop_length: int | None,
    sample_rate: int | None,
    frequencies: Sequence[float] | np.ndarray | None,
) -> Axis:
    """Decide what the axes mean from what the caller told."""
    if layout == "BT":
        rate = sample_rate or (front_end.sample_rate if front_end is not None else None)
        return Axis("wave", seconds=1 / rate if rate else None)
    if pictures:
        return Axis("image")
    if front_end is not None:
        hop_length, sample_rate = hop_length or front_end.hop_length, sample_rate or front_end.sample_rate
        frequencies = bin_centres(front_end) if frequencies is None else frequencies
    if frequencies is not None and len(frequencies) != bins:
        raise ValueError(f"{len(frequencies)} frequencies for {bins} bins")
    seconds = hop_length / sample_rate if hop_length and sample_rate else None
    centres = None if frequencies is None else np.asarray(frequencies, dtype=np.float64)
    return Axis("spectrogram", seconds, centres, "" if front_end is None else unit_of(front_end))


def unit_of(front_end: LogMel) -> str:
    """What the values of a front end's spectrograms are, in words for a colour bar."""
    unit = {"db": "dB"}.get(front_end.log, f"{front_end.log} power")
    scaled = front_end.normalize is not None or front_end.mean != 0 or front_end.std != 1
    return f"log-mel ({unit}, scaled)" if scaled else f"log-mel ({unit})"


def bin_centres(front_end: LogMel) -> np.ndarray:
    """(F,) mean frequency in Hz of each mel filter of a front end."""
    bank = front_end.bank.detach().double().cpu().numpy()  # (n_fft // 2 + 1, F)
    hertz = np.linspace(0, front_end.sample_rate / 2, len(bank))
    area = bank.sum(axis=0)
    filled = np.flatnonzero(area > 0)  # with many bands the lowest may hold no Fourier bin at all
    centres = hertz @ bank[:, filled] / area[filled]
    return np.interp(np.arange(bank.shape[1]), filled, centres)


def _as_float(x: Tensor) -> Tensor:
    """A batch as it can be mixed: bytes as 0..1, 16-bit samples as -1..1."""
    full_scale = {torch.uint8: 255, torch.int16: 32768}.get(x.dtype, 1)
    return x.detach() if x.is_floating_point() else x.float() / full_scale


def _existing(rows: Sequence[int], count: int) -> list[int]:
    """The rows asked for, if they all are in the batch."""
    for row in rows:
        if not 0 <= row < count:
            raise ValueError(f"row {row} is not in a batch of {count}")
    if not len(rows):
        raise ValueError("rows names no row to show")
    return list(rows)


def _partner(sources: Tensor, share: Tensor) -> int:
    """The source with the largest share beside the row itself."""
    return int(sources[1:][share[1:].argmax()]) if len(sources) > 1 else int(sources[0])


def _method(plan: MixPlan, row: int) -> str:
    return plan.method if isinstance(plan.method, str) else plan.method[row]
