"""Pictures of what a plan does to a batch, and of all methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from randommix_audio.layout import layout_of_companion, resolve_layout, to_bcft
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

LONGEST_NAME, LONGEST_TITLE = 22, 38  # letters that fit above a panel
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
) -> Figure:
    """Show rows of a batch, their partners, the weights, and what the plan makes of them.

    Args:
        x: the batch that the plan was drawn for, in the plan's axis order: spectrograms (B, F, T), (B, T, F) or
            (B, C, F, T), pictures (B, 3, H, W) or waveforms (B, N).
        plan: the plan; it is applied to `x` as it stands, so the picture is exactly what the model would see.
        rows: how many of the first rows to show, or which ones.
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

    Returns:
        A figure with one line of four panels for each row: the row, its partner, the weights of the row's own
        source (0..1) and the mix with its share. Within a line the three contents have one scale. A
        dashed line marks the end of the valid frames.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: plan, names, rows or frequencies do not fit the batch.
    """
    layout = layout_of_companion(x, plan.layout)
    x = _as_float(x)
    batch = to_bcft(x, layout)
    count, channels, bins = batch.shape[:3]
    chosen = _chosen(rows, count)
    names = _names(names, count)
    if plan.batch != count:
        raise ValueError(f"the plan was drawn for {plan.batch} rows, the batch has {count}")
    if not 0 <= channel < channels:
        raise ValueError(f"channel {channel} is not one of the batch's {channels}")

    pictures = looks_like_image(batch) if image is None else image
    axis = _axis(layout, pictures, bins, front_end, hop_length, sample_rate, frequencies)
    keep = slice(None) if pictures and channels == 3 else slice(channel, channel + 1)
    return _figure(_lines(x, layout, plan, chosen, names, keep), axis, title)


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
        lengths: valid frames of the two clips; None when all are.
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
    valid = None if lengths is None else torch.as_tensor(lengths, device=x.device)
    layout = resolve_layout(x, None)
    batch = to_bcft(x, layout)
    pictures = looks_like_image(batch) if image is None else image
    axis = _axis(layout, pictures, batch.shape[2], front_end, hop_length, sample_rate, frequencies)
    keep = slice(None) if pictures and batch.shape[1] == 3 else slice(0, 1)
    names = _names(names, 2)
    lines: list[Line] = []
    for method in methods:
        mixer = mixer_for(method, variant=variant, pairing="flip")
        generator = torch.Generator().manual_seed(seed)
        plans = [mixer.plan(x, lengths=valid, generator=generator) for _ in range(DRAWS)]
        plan = min(plans, key=lambda drawn: abs(float(drawn.lam[0]) - share))
        lines += _lines(x, layout, plan, [0], names, keep)
    return _figure(lines, axis, title)


def methods_to_show() -> list[str]:
    """The methods of a gallery: all mixers but `none`, and but `randommix`, which is one of the others."""
    from randommix_audio import MIXERS

    return [name for name in MIXERS if name not in ("none", "randommix")]


def mixer_for(method: str, **arguments: Any) -> Mixer:
    """A mixer by name; alpha and variant go only to the methods that have them, as RandomMix hands them out."""
    from randommix_audio import RandomMix

    return RandomMix(**arguments) if method == "randommix" else RandomMix([method], **arguments)


def share_text(names: Sequence[str], sources: Sequence[int] | Tensor, share: Sequence[float] | Tensor) -> str:
    """A share in words, such as "72 % yes + 28 % no"; whole percents that add up to 100.

    Args:
        names: one name for each row of the batch.
        sources: (K,) rows mixed, the row itself first.
        share: (K,) their shares.
    """
    percent = [round(100 * float(s)) for s in share[1:]]
    percent = [100 - sum(percent), *percent]
    parts = [(p, names[int(s)]) for p, s in zip(percent, sources, strict=True) if p > 0]
    return " + ".join(f"{p} % {name}" for p, name in parts)


def _lines(x: Tensor, layout: str, plan: MixPlan, rows: Sequence[int], names: Sequence[str], keep: slice) -> list[Line]:
    """The chosen rows of a mix as lines of a picture; `keep` are the channels that are drawn."""
    batch, mixed = to_bcft(x, layout), to_bcft(plan.apply(x), layout)
    weights = plan.weights[0].detach().expand(len(batch), 1, *batch.shape[2:])[:, 0]  # (B, F, T)
    sources, shares = plan.sources.cpu(), plan.share.detach().cpu()
    ends = None if plan.lengths is None else plan.lengths.cpu()
    lines = []
    for row in rows:
        partner = _partner(sources[:, row], shares[:, row])
        lines.append(
            Line(
                own=as_array(batch[row, keep]),
                partner=as_array(batch[partner, keep]),
                weights=as_array(weights[row]),
                mixed=as_array(mixed[row, keep]),
                titles=_titles(row, partner, names, sources[:, row], shares[:, row], _method(plan, row)),
                valid=None if ends is None else int(ends[row]),
            )
        )
    return lines


def _figure(lines: Sequence[Line], axis: Axis, title: str | None) -> Figure:
    tall = PANEL_HEIGHT if axis.kind != "wave" else 0.8 * PANEL_HEIGHT
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
    return Axis("spectrogram", seconds, None if frequencies is None else np.asarray(frequencies, dtype=np.float64))


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


def _chosen(rows: int | Sequence[int], count: int) -> list[int]:
    """Rows to show; a number means that many from the start, or all when there are fewer."""
    if isinstance(rows, int):
        if rows < 1:
            raise ValueError(f"rows must be at least 1, got {rows}")
        return list(range(min(rows, count)))
    for row in rows:
        if not 0 <= row < count:
            raise ValueError(f"row {row} is not in a batch of {count}")
    if not len(rows):
        raise ValueError("rows names no row to show")
    return list(rows)


def _names(names: Sequence[str] | None, count: int) -> list[str]:
    """One name for each row, cut in the middle where too long: both ends of a file name tell something."""
    if names is None:
        return [f"row {i}" for i in range(count)]
    if len(names) != count:
        raise ValueError(f"{len(names)} names for a batch of {count}")
    half = LONGEST_NAME // 2
    return [n if len(n) <= LONGEST_NAME else f"{n[:half]}…{n[-half + 1 :]}" for n in map(str, names)]


def _partner(sources: Tensor, share: Tensor) -> int:
    """The source with the largest share beside the row itself."""
    return int(sources[1:][share[1:].argmax()]) if len(sources) > 1 else int(sources[0])


def _method(plan: MixPlan, row: int) -> str:
    return plan.method if isinstance(plan.method, str) else plan.method[row]


def _titles(
    row: int, partner: int, names: Sequence[str], sources: Tensor, share: Tensor, method: str
) -> tuple[str, str, str, str]:
    """What stands above the four panels; a long share gets a line for each source."""
    unmixed = float(share[0]) == 1.0
    mixed = f"{'not mixed' if unmixed else 'mixed'}: {share_text(names, sources, share)}"
    if len(mixed) > LONGEST_TITLE:
        mixed = mixed.replace(" + ", "\n+ ")
    weights = f"{method}: weight 1" if unmixed else f"{method}: weight of own"
    return f"own: {names[row]}", f"partner: {names[partner]}", weights, mixed
