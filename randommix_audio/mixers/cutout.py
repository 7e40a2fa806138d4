"""Filling parts of a row with one value: Cutout, the only method without a partner."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from randommix_audio.draws import Draws
from randommix_audio.geometry import Holes
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_choice
from randommix_audio.mixers.rows import Drawn, Rows
from randommix_audio.mixers.sides import Side, clipped_side, half_side, inner_side


class Cutout(Mixer):
    """Fills rectangles of each row with one value and leaves its target as it is.

    DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with Cutout", section 3. There is
    no partner: `plan.sources` is (1, B), `plan.share` is 1, and `plan.weights`, 0 inside the holes, does not sum to 1.

    By default a hole lies wholly inside the row's valid frames, every position alike, and its sides are rounded at
    random so that their means are right. A hole of both axes on a single bin (a waveform) is a stretch of time.

    variant="official" cuts as the published code does: int(size * axis) // 2 to both sides of a uniform centre, cut off
    beyond the edge, and holes of its own for every row whatever `per` says. At 32 x 32 its hole covers 19 % on average
    and not 25 %. On a single bin nothing is ever cut.

    Args:
        axes: "both" (boxes), "time" (all frequencies for a while) or "freq" (a band, all the time).
        count: Holes of each row, at least 1; they may overlap.
        size: The part of an axis that a hole takes, in [0, 1], along each of the axes that are cut; the default is the
            paper's 16 of 32 on CIFAR-10. A pair (low, high) is drawn from uniformly for each hole.
        variant: "default" or "official" (axes="both" only).
        **common: See `Mixer`. `fill` is what stands in the holes: pass the front end's `pad_value` for silence; 0 is
            the mean of features that are normalised, as in the paper. `pairing` has no effect.

    Raises:
        ValueError: If an argument is not one of its choices or out of range.
    """

    name: ClassVar[str] = "cutout"
    source_count: int = 1

    def __init__(
        self,
        axes: str = "both",
        count: int = 1,
        size: float | Sequence[float] = 0.5,
        variant: str = "default",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("axes", axes, ("both", "time", "freq"))
        check_choice("variant", variant, ("default", "official"))
        if variant == "official" and axes != "both":
            raise ValueError(f'variant="official" cuts both axes; axes={axes!r} has no published code')
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"count must be a whole number of at least 1, got {count!r}")
        self.axes = axes
        self.count = count
        self.size = size
        self.variant = variant
        self._sizes = _read_size(size)

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        official = self.variant == "official"
        holes = (rows.count if official else self.draw_count(rows), self.count)
        low, high = self._sizes
        fraction = torch.full(holes, low, device=rows.device)
        if high > low:
            fraction = low + (high - low) * draws.uniform(*holes)
        own = rows.own if rows.mixed is None else rows.own * rows.mixed  # a row that is not chosen has empty holes
        frames = own[:, None].expand(-1, self.count)
        place = draws.uniform(2, *holes)
        if official:
            bins = clipped_side(place[0], half_side(fraction, rows.freq), rows.freq)
            cut = clipped_side(place[1], half_side(fraction, frames), frames)
        else:
            bins, cut = self._inside(fraction, place, draws.uniform(2, *holes), rows, frames)
        corners = torch.stack(torch.broadcast_tensors(*bins, *cut), dim=2)
        return Drawn(Holes(corners, self.fill), rows.own, (self.name,), sources=rows.index.new_empty(0, rows.count))

    def _inside(
        self, fraction: Tensor, place: Tensor, rounding: Tensor, rows: Rows, frames: Tensor
    ) -> tuple[Side, Side]:
        axes = self.axes
        if axes == "both" and 1 in (rows.freq, rows.time):
            axes = "time" if rows.freq == 1 else "freq"
        zero = torch.zeros_like(frames)
        bins = (zero, zero + rows.freq) if axes == "time" else inner_side(fraction, rounding[0], place[0], rows.freq)
        return bins, (zero, frames) if axes == "freq" else inner_side(fraction, rounding[1], place[1], frames)

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        own = f"axes={self.axes!r}, count={self.count}, size={self.size}, variant={self.variant!r}"
        return f"{own}, {super().extra_repr()}"


def _read_size(size: float | Sequence[float]) -> tuple[float, float]:
    message = f"size must be a part of the axis in [0, 1] above 0, or a pair (low, high) of them, got {size!r}"
    try:
        low, high = (float(size),) * 2 if isinstance(size, int | float) else (float(limit) for limit in size)
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error
    if not 0 <= low <= high <= 1 or high == 0:
        raise ValueError(message)
    return low, high
