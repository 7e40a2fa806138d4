"""Pasting a rectangle: CutMix on both axes, on time or on frequency alone, and ResizeMix."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from randommix_audio.draws import Draws, beta_of, random_integer
from randommix_audio.geometry import Box, ResizedBox
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.linear import LENGTH_POLICIES
from randommix_audio.mixers.rows import Drawn, LengthPolicy, Rows
from randommix_audio.mixers.sides import box, clipped_side, half_side, inner_side, shifted_side

Edges = tuple[int, int, int, int]
"""First bin, bin after the last, first frame, frame after the last."""


class CutMix(Mixer):
    """A rectangle of the partner, pasted where it stood: its area is a share 1 - lam, lam ~ Beta(alpha, alpha).

    Yun et al. 2019, "CutMix: Regularization strategy to train strong classifiers with localizable features".

    By default the rectangle lies wholly inside the frames where both rows are valid, every position alike. A rectangle
    of both axes has sides sqrt(1 - lam) times that area's, a band of one axis is 1 - lam wide; sides are rounded at
    random, so that the mean share is the mean of lam where the partner is not shorter. Where one axis has a single bin,
    the other alone is cut.

    variant="official" cuts as the published code does: sides int(side * sqrt(1 - lam)) around a uniform centre, clipped
    at the edge, which makes the mean own share 0.70 at 32 x 32. On a single bin (a waveform) that side is 0 and nothing
    is ever cut.

    Args:
        alpha: Parameter of the Beta distribution, above 0.
        axes: "both", "time" (all frequencies for a while) or "freq" (a band, all the time).
        length_policy: For axes="freq", see `Mixup`; other rectangles never change a row's length.
        variant: "default" or "official" (axes="both" only).
        **common: See `Mixer`.
    """

    name: ClassVar[str] = "cutmix"

    def __init__(
        self,
        alpha: float = 1.0,
        axes: str = "both",
        length_policy: LengthPolicy = "longest",
        variant: str = "default",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("axes", axes, ("both", "time", "freq"))
        check_choice("length_policy", length_policy, LENGTH_POLICIES)
        check_choice("variant", variant, ("default", "official"))
        if variant == "official" and axes != "both":
            raise ValueError(f'variant="official" cuts both axes; axes={axes!r} has no published code')
        self.alpha = check_alpha(alpha)
        self.axes = axes
        self.length_policy = length_policy
        self.variant = variant

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        count = self.draw_count(rows)
        if rows.alike and count == 1:
            edges = self._draw_edges(draws, rows)
            return Drawn(Box(draws.from_host([edges]), edges=edges), None, (self.name,))
        cut = 1 - draws.beta(self.alpha, count)
        if self.variant == "official":
            centre = draws.uniform(2, count)
            bins = clipped_side(centre[0], half_side(cut.sqrt(), rows.freq), rows.freq)
            frames = clipped_side(centre[1], half_side(cut.sqrt(), rows.own), rows.own)
            inside = torch.minimum(frames[0], rows.both), torch.minimum(frames[1], rows.both)
            return Drawn(box(bins, inside), rows.own, (self.name,))

        axes = self._cut_axes(rows)
        side = cut.sqrt() if axes == "both" else cut
        rounding, position = draws.uniform(2, count), draws.uniform(2, count)
        zero = torch.zeros_like(rows.both)
        bins = (zero, zero + rows.freq) if axes == "time" else inner_side(side, rounding[0], position[0], rows.freq)
        if axes == "freq":
            span = rows.span(self.length_policy, self.fill)
            if span is None:
                return Drawn(box(bins, (zero, rows.both)), rows.own, (self.name,))
            return Drawn(Box(box(bins, (zero, span.both)).corners, span=span), span.out, (self.name,))
        frames = inner_side(side, rounding[1], position[1], rows.both)
        return Drawn(box(bins, frames), rows.own, (self.name,))

    def _draw_edges(self, draws: Draws, rows: Rows) -> Edges:
        """One rectangle for all rows, on the host: pasting it is a slice then."""
        uniforms = draws.host(5)
        cut = 1 - beta_of(uniforms[4], self.alpha)
        if self.variant == "official":
            return (*_clipped_edges(cut, uniforms[0], rows.freq), *_clipped_edges(cut, uniforms[1], rows.time))
        axes = self._cut_axes(rows)
        side = math.sqrt(cut) if axes == "both" else cut
        bins = (0, rows.freq) if axes == "time" else _inner_edges(side, uniforms[0], uniforms[1], rows.freq)
        frames = (0, rows.time) if axes == "freq" else _inner_edges(side, uniforms[2], uniforms[3], rows.time)
        return *bins, *frames

    def _cut_axes(self, rows: Rows) -> str:
        if self.axes == "both" and rows.freq == 1:
            return "time"
        return "freq" if self.axes == "both" and rows.time == 1 else self.axes

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        return f"alpha={self.alpha}, axes={self.axes!r}, variant={self.variant!r}, {super().extra_repr()}"


class TimeCutMix(CutMix):
    """`CutMix` along time: the partner's frames for a while, all frequencies. Arguments as there, without `axes`."""

    name: ClassVar[str] = "time_cutmix"

    def __init__(self, alpha: float = 1.0, **common: Any) -> None:
        super().__init__(alpha=alpha, axes="time", **common)


class FreqCutMix(CutMix):
    """`CutMix` along frequency: the partner's band, all the time. Arguments as there, without `axes`."""

    name: ClassVar[str] = "freq_cutmix"

    def __init__(self, alpha: float = 1.0, **common: Any) -> None:
        super().__init__(alpha=alpha, axes="freq", **common)


class ResizeMix(Mixer):
    """The whole partner, made smaller, pasted into a rectangle whose sides are tau times the row's, tau ~ U(scale).

    Qin et al. 2020, "ResizeMix: Mixing data with preserved object information and true labels". The partner's valid
    frames are squeezed into the rectangle, which lies in the row's valid frames.

    Default: linear interpolation, sides rounded to the nearest, every position alike. variant="official": nearest
    neighbour, sides rounded down, and a uniform centre with the rectangle shifted inside; with per="batch" one tau for
    the batch and a position for each row, as published. The mean own share is then 0.770 at 32 x 32.

    Args:
        scale: Range of tau, 0 < low <= high <= 1.
        variant: "default" or "official".
        **common: See `Mixer`.
    """

    name: ClassVar[str] = "resizemix"

    def __init__(self, scale: tuple[float, float] = (0.1, 0.8), variant: str = "default", **common: Any) -> None:
        super().__init__(**common)
        check_choice("variant", variant, ("default", "official"))
        try:
            low, high = (float(limit) for limit in scale)
        except (TypeError, ValueError) as error:
            raise ValueError(f"scale must be a pair (low, high), got {scale!r}") from error
        if not 0 < low <= high <= 1:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high <= 1, got {scale!r}")
        self.scale = (low, high)
        self.variant = variant

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        official = self.variant == "official"
        if rows.alike and not official and self.draw_count(rows) == 1:
            return self._draw_shared(draws, rows)
        low, high = self.scale
        tau = low + (high - low) * draws.uniform(self.draw_count(rows))
        place = draws.uniform(2, rows.count if official else self.draw_count(rows))
        # A row that is not mixed, or whose partner is empty, gets an empty rectangle.
        mixed = rows.both > 0
        bins, frames = _resized_side(tau, rows.freq, official), _resized_side(tau, rows.own, official)
        bins, frames = torch.where(mixed, bins, 0), torch.where(mixed, torch.minimum(frames, rows.own), 0)
        place_side = _shifted_inside if official else _placed_inside
        first_bin = place_side(place[0], bins, torch.full_like(rows.own, rows.freq))
        first_frame = place_side(place[1], frames, rows.own)
        corners = box((first_bin, first_bin + bins), (first_frame, first_frame + frames)).corners
        if official:  # interpolate(scale_factor=tau) steps by 1 / tau, whatever the rounded size
            step = (1 / tau).expand(rows.count)
            stretch = rows.partner / rows.own.clamp(min=1)
            steps = torch.stack([step, step * stretch], dim=1)
        else:
            steps = torch.stack([rows.freq / bins.clamp(min=1), rows.partner / frames.clamp(min=1)], dim=1)
        resized = ResizedBox(corners, steps.float(), rows.partner, linear=not official)
        return Drawn(resized, rows.own, (self.name,))

    def _draw_shared(self, draws: Draws, rows: Rows) -> Drawn:
        """One default rectangle for all rows, on the host; the published code draws positions for each row."""
        low, high = self.scale
        uniforms = draws.host(3)
        tau = low + (high - low) * uniforms[0]
        sides = [(max(1, round(tau * size)), size) for size in (rows.freq, rows.time)]
        starts = [_place(uniform, size - side + 1) for uniform, (side, size) in zip(uniforms[1:], sides, strict=True)]
        edges = (starts[0], starts[0] + sides[0][0], starts[1], starts[1] + sides[1][0])
        step = draws.from_host([[size / side for side, size in sides]], torch.float32)
        valid = torch.full((1,), rows.time, device=rows.device)
        resized = ResizedBox(draws.from_host([edges]), step, valid, linear=True, edges=edges)
        return Drawn(resized, None, (self.name,))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        return f"scale={self.scale}, variant={self.variant!r}, {super().extra_repr()}"


def _inner_edges(fraction: float, rounding: float, position: float, size: int) -> tuple[int, int]:
    """`inner_side` for numbers on the host."""
    length = min(int(fraction * size + rounding), size)
    start = _place(position, size - length + 1)
    return start, start + length


def _clipped_edges(cut: float, centre: float, size: int) -> tuple[int, int]:
    """`clipped_side` with `half_side` of sqrt(cut) for numbers on the host."""
    half, middle = int(size * math.sqrt(cut)) // 2, _place(centre, size)
    return max(middle - half, 0), min(middle + half, size)


def _place(uniform: float, count: int) -> int:
    return min(int(uniform * count), count - 1)


def _resized_side(tau: Tensor, size: int | Tensor, official: bool) -> Tensor:
    length = tau * size
    return (length.floor() if official else length.round()).long().clamp(min=1)


def _placed_inside(position: Tensor, length: Tensor, size: Tensor) -> Tensor:
    return random_integer(position, (size - length).clamp(min=0) + 1)


def _shifted_inside(centre: Tensor, length: Tensor, size: Tensor) -> Tensor:
    """The published ResizeMix position: a uniform integer centre, the side shifted until it is wholly inside."""
    return shifted_side(random_integer(centre, size.clamp(min=1)), length, size)[0]
