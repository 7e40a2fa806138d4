"""Pasting what stands out: SaliencyMix."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from randommix_audio.draws import Draws
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.rows import Drawn, Rows
from randommix_audio.mixers.sides import box, clipped, half_side, rounded, shifted_side
from randommix_audio.saliency import KINDS


class SaliencyMix(Mixer):
    """The rectangle around the most salient point of the partner, pasted where it stood.

    Uddin et al. 2021, "SaliencyMix: A saliency guided data augmentation strategy for better regularization", section
    3.2. The rectangle has an area of 1 - lam of the frames where both rows are valid, lam ~ Beta(alpha, alpha). The
    point is the maximum of the partner's own saliency in these frames, the lowest bin and then the first frame where
    several are alike. Every row follows its own partner; `per` says whether lambda is drawn for the batch or each row.

    By default the rectangle is shifted until it is wholly inside, and its sides are rounded at random, so that the mean
    share is the mean of lam where the partner is not shorter. Where one axis has a single bin, the other alone is cut.

    variant="official" cuts as the published code does: int(side * sqrt(1 - lam)) // 2 to both sides of the point, cut
    off beyond the edge. On a single bin (a waveform) nothing is ever cut. The published code looks at one row and
    pastes the same rectangle for the whole batch; here, as in the paper, each row has its own.

    Args:
        alpha: Parameter of the Beta distribution, above 0.
        saliency: "energy" or "spectral_residual", see `randommix_audio.saliency`; `plan(saliency=...)` overrides it.
        variant: "default" or "official".
        **common: See `Mixer`.

    Raises:
        ValueError: If an argument is not one of its choices or out of range.
    """

    name: ClassVar[str] = "saliencymix"

    def __init__(self, alpha: float = 1.0, saliency: str = "energy", variant: str = "default", **common: Any) -> None:
        super().__init__(**common)
        check_choice("saliency", saliency, tuple(KINDS))
        check_choice("variant", variant, ("default", "official"))
        self.alpha = check_alpha(alpha)
        self.saliency = saliency
        self.variant = variant

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        count = self.draw_count(rows)
        cut = 1 - draws.beta(self.alpha, count)
        peak = find_peak(rows.saliency.map(self.saliency).index_select(0, rows.partner_index), rows.both)
        sizes = torch.full_like(rows.own, rows.freq), rows.both
        if self.variant == "official":
            sides = [clipped(at, half_side(cut.sqrt(), size), size) for at, size in zip(peak, sizes, strict=True)]
            return Drawn(box(*sides), rows.own, (self.name,))
        up = draws.uniform(2, count)
        part = cut if 1 in (rows.freq, rows.time) else cut.sqrt()
        whole = torch.ones_like(part)
        parts = (whole if rows.freq == 1 else part, whole if rows.time == 1 < rows.freq else part)
        lengths = [rounded(parts[axis] * sizes[axis], up[axis], sizes[axis]) for axis in (0, 1)]
        sides = [shifted_side(*at) for at in zip(peak, lengths, sizes, strict=True)]
        return Drawn(box(*sides), rows.own, (self.name,))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        return f"alpha={self.alpha}, saliency={self.saliency!r}, variant={self.variant!r}, {super().extra_repr()}"


def find_peak(saliency: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """The bin and the frame of the maximum of each map; of equal ones the lowest bin, then the first frame.

    Args:
        saliency: (n, F, T), at least 0.
        frames: (n,) long, the frames that are looked at; where there are none, bin 0 and frame 0 are given.

    Returns:
        Two (n,) long tensors.
    """
    time = saliency.shape[2]
    beyond = torch.arange(time, device=saliency.device) >= frames[:, None, None]
    first = saliency.masked_fill(beyond, -1.0).flatten(1).argmax(1)
    return first // time, first % time
