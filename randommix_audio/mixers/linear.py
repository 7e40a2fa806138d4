"""Mixing all bins and frames with one weight."""

import math
from typing import Any, ClassVar

import torch

from randommix_audio.draws import Draws, beta_of
from randommix_audio.geometry import Constant, Untouched
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.rows import Drawn, LengthPolicy, Rows

LENGTH_POLICIES = ("longest", "shortest", "anchor")


class Mixup(Mixer):
    """Linear interpolation: lam * x + (1 - lam) * partner, lam ~ Beta(alpha, alpha).

    Zhang et al. 2018, "mixup: Beyond empirical risk minimization", equation 1 of the RandomMix paper.

    Args:
        alpha: Parameter of the Beta distribution, above 0; 1 is uniform, small values mix little.
        length_policy: What happens where a row and its partner differ in length. "longest": the output is as long as
            the longer one, and each stands alone where only it is valid. "shortest": as long as the shorter one.
            "anchor": as long as the row; a row whose partner is longer is not mixed.
        variant: "default" and "official" are the same for this method.
        **common: See `Mixer`.
    """

    name: ClassVar[str] = "mixup"

    def __init__(
        self,
        alpha: float = 1.0,
        length_policy: LengthPolicy = "longest",
        variant: str = "default",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("variant", variant, ("default", "official"))
        check_choice("length_policy", length_policy, LENGTH_POLICIES)
        self.alpha = check_alpha(alpha)
        self.length_policy = length_policy
        self.variant = variant

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        count = self.draw_count(rows)
        if rows.alike and count == 1:
            # Both weights as tensors have them: the row's own in float32, the partner's in the dtype of the batch.
            kept = 1 - round_to(1 - beta_of(draws.host(1)[0], self.alpha), rows.dtype)
            theirs = round_to(round_to(1 - round_to(kept, torch.float32), torch.float32), rows.dtype)
            constant = Constant(torch.full((1,), kept, device=rows.device), theirs=theirs)
            return Drawn(constant, None, (self.name,))
        lam = draws.beta(self.alpha, count)
        own = 1 - (1 - lam).to(rows.dtype).float()  # the weight that a mix in this dtype really uses
        span = rows.span(self.length_policy, self.fill)
        if span is not None:
            return Drawn(Constant(own, some_alone=True, span=span), span.out, (self.name,))
        if rows.mixed is not None:
            return Drawn(Constant(torch.where(rows.mixed, own, 1.0), some_alone=True), rows.own, (self.name,))
        return Drawn(Constant(own), rows.own, (self.name,))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        return f"alpha={self.alpha}, length_policy={self.length_policy!r}, {super().extra_repr()}"


def round_to(number: float, dtype: torch.dtype) -> float:
    """A number in [0, 1] as a dtype represents it, subnormal ones aside."""
    _, exponent = math.frexp(number)
    step = math.ldexp(torch.finfo(dtype).eps, exponent - 1)
    return round(number / step) * step


class NoMix(Mixer):
    """Leaves every row alone: the baseline, with the interface of the others."""

    name: ClassVar[str] = "none"

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        return Drawn(Untouched(torch.ones(1, device=rows.device)), rows.own, (self.name,))
