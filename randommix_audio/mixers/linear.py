"""Mixing all bins and frames with one weight."""

import math
from typing import Any, ClassVar, Literal

import torch

from randommix_audio.draws import Draws, beta_of
from randommix_audio.geometry import Constant, Gains, Untouched
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.loudness import Hearing, equal_loudness, loudest_power
from randommix_audio.mixers.rows import Drawn, LengthPolicy, Rows

LENGTH_POLICIES = ("longest", "shortest", "anchor")


class Mixup(Mixer):
    """Linear interpolation: lam * x + (1 - lam) * partner, lam ~ Beta(alpha, alpha).

    Zhang et al. 2018, "mixup: Beyond empirical risk minimization", equation 1 of the RandomMix paper.

    With loudness="equal" waveforms are mixed so that lam is the ratio that is heard (Tokozume et al. 2018, "Learning
    from between-class examples for deep sound recognition", section 3.2):

        (c * x + (1 - c) * partner) / sqrt(c^2 + (1 - c)^2),  c = 1 / (1 + 10^((G - G_partner) / 20) (1 - lam) / lam)

    with G the loudest moment of each in decibels, see `randommix_audio.mixers.loudness.loudest_power`. The share is
    lam; `plan.weights` are the two amplitudes, which sum to 1 to 1.41 and no longer measure it. `plan` then reads `x`.

    Args:
        alpha: Parameter of the Beta distribution, above 0; 1 is uniform, small values mix little.
        length_policy: What happens where a row and its partner differ in length. "longest": the output is as long as
            the longer one, and each stands alone where only it is valid. "shortest": as long as the shorter one.
            "anchor": as long as the row; a row whose partner is longer is not mixed.
        variant: "default" and "official" are the same for this method.
        loudness: None, or "equal" for domain="waveform". A row that is its own partner is left alone then.
        sample_rate: Samples per second of the waveforms, above 0; read for loudness="equal" alone.
        **common: See `Mixer`.

    Raises:
        ValueError: If an argument is not one of its choices or out of range.
    """

    name: ClassVar[str] = "mixup"

    def __init__(
        self,
        alpha: float = 1.0,
        length_policy: LengthPolicy = "longest",
        variant: str = "default",
        loudness: Literal["equal"] | None = None,
        sample_rate: int = 16000,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("variant", variant, ("default", "official"))
        check_choice("length_policy", length_policy, LENGTH_POLICIES)
        self.alpha = check_alpha(alpha)
        self.length_policy = length_policy
        self.variant = variant
        if loudness is not None:
            check_choice("loudness", loudness, ("equal",))
            if self.domain != "waveform":
                raise ValueError(f'loudness="equal" is for waveforms: set domain="waveform", got {self.domain!r}')
        self.loudness = loudness
        self.sample_rate = sample_rate
        self._hearing = None if loudness is None else Hearing(sample_rate)

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        if self._hearing is not None:
            return self._draw_gains(draws, rows, self._hearing)
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

    def _draw_gains(self, draws: Draws, rows: Rows, hearing: Hearing) -> Drawn:
        lam = draws.beta(self.alpha, self.draw_count(rows))
        alone = rows.index == rows.partner_index
        lam = torch.where(alone if rows.mixed is None else alone | ~rows.mixed, 1.0, lam)
        weighting = draws.from_host(hearing.weighting, torch.float32)
        # Lengths of the whole batch, of which `rows` may be a part.
        power = loudest_power(rows.x[:, 0, 0], rows.saliency.lengths, weighting)
        gain = equal_loudness(lam, power[rows.index], power[rows.partner_index])
        span = rows.span(self.length_policy, self.fill)
        return Drawn(Gains(lam, gain=gain, span=span), rows.own if span is None else span.out, (self.name,))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        heard = f", loudness={self.loudness!r}, sample_rate={self.sample_rate}" if self.loudness else ""
        return f"alpha={self.alpha}, length_policy={self.length_policy!r}{heard}, {super().extra_repr()}"


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
