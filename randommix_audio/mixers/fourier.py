"""Masks cut from low-frequency noise: FMix."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from randommix_audio.draws import Draws
from randommix_audio.geometry import Mask
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.rows import Drawn, Rows

_MOST_HARMONICS = 64
_MOST_POINTS = 1024  # along time; 16 for each cycle of the highest harmonic
_SAMPLED = (16, 32)  # bins and frames at which the field is read to find the threshold


class FMix(Mixer):
    """The row where a smooth random field is high, the partner elsewhere; the row's part is lam ~ Beta(alpha, alpha).

    Harris et al. 2021, "FMix: Enhancing mixed sample data augmentation". The field is Gaussian noise whose amplitude at
    j cycles along frequency and k cycles along time is 1 / max(1, sqrt(j^(2 decay_freq) + k^(2 decay_time))).

    Cycles are counted per axis, so that masks vary along both axes of any rectangle; the paper counts per sample,
    which leaves masks of a long spectrogram constant along frequency. With lengths the field spans each row's valid
    frames. The threshold comes from a sample of the field, so the row's part is lam but for a per cent or two; `share`
    is measured afterwards.

    variant="official" reproduces the published code, its indexing slip included: two harmonics along the last axis, the
    exact number of pixels, one mask for the batch or for each row. There `decay_freq` is the decay, for both axes.

    Args:
        alpha: Parameter of the Beta distribution, above 0.
        decay_time: How fast amplitudes fall with cycles along time; larger is smoother.
        decay_freq: The same along frequency.
        variant: "default" or "official".
        **common: See `Mixer`.
    """

    name: ClassVar[str] = "fmix"

    def __init__(
        self,
        alpha: float = 1.0,
        decay_time: float = 3.0,
        decay_freq: float = 3.0,
        variant: str = "default",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("variant", variant, ("default", "official"))
        for argument, decay in (("decay_time", decay_time), ("decay_freq", decay_freq)):
            if not decay > 0:
                raise ValueError(f"{argument} must be above 0, got {decay}")
        self.alpha = check_alpha(alpha)
        self.decay_time = float(decay_time)
        self.decay_freq = float(decay_freq)
        self.variant = variant

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        count = self.draw_count(rows)
        lam = draws.beta(self.alpha, count)
        if self.variant == "official":
            noise = draws.normal(count, rows.freq, rows.time // 2 + 1 + rows.time % 2, 2)
            field = official_field(noise, rows.time, self.decay_freq)
            own = official_mask(field, lam, draws.uniform(count))
        else:
            own = self._draw_mask(draws, rows, lam)
        if rows.ragged or rows.mixed is not None:
            own = own | (torch.arange(rows.time, device=own.device) >= rows.both[:, None])[:, None, :]
        return Drawn(Mask(own), rows.own, (self.name,))

    def _draw_mask(self, draws: Draws, rows: Rows, lam: Tensor) -> Tensor:
        """The mask before it is limited to the frames of both, (n or 1, F, T) bool."""
        harmonics_freq = _harmonics(rows.freq, self.decay_freq)
        harmonics_time = _harmonics(rows.time, self.decay_time)
        amplitude = _amplitude(harmonics_freq, harmonics_time, self.decay_freq, self.decay_time, rows.device)
        spectrum = draws.normal(lam.shape[0], *amplitude.shape) * amplitude
        points = min(rows.time, _MOST_POINTS)
        by_freq = _harmonic_basis(rows.freq, harmonics_freq, rows.device)
        by_time = _harmonic_basis(points, harmonics_time, rows.device)
        field = by_freq @ spectrum @ by_time.T
        mask = field >= _threshold(field, lam)
        if points == rows.time and not rows.ragged:
            return mask
        # The field spans the valid frames of each row: every frame reads the point at its part of the way.
        size = rows.own.clamp(min=1)[:, None] if rows.ragged else torch.full((1, 1), rows.time, device=rows.device)
        point = (torch.arange(rows.time, device=rows.device) * points // size).clamp(max=points - 1)
        count = max(mask.shape[0], point.shape[0])
        return mask.expand(count, -1, -1).gather(2, point[:, None, :].expand(count, rows.freq, rows.time))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        decays = f"decay_time={self.decay_time}, decay_freq={self.decay_freq}"
        return f"alpha={self.alpha}, {decays}, variant={self.variant!r}, {super().extra_repr()}"


def _harmonics(size: int, decay: float) -> int:
    """Cycles per axis that matter: up to half the axis, and until the amplitude is a thousandth."""
    return min(size // 2, math.ceil(1000 ** min(1 / decay, 1.0)), _MOST_HARMONICS)


def _amplitude(
    harmonics_freq: int, harmonics_time: int, decay_freq: float, decay_time: float, device: torch.device
) -> Tensor:
    """Amplitudes of the cosines and sines of both axes, (1 + 2 J, 1 + 2 K), in the order of `_harmonic_basis`."""
    j = torch.arange(harmonics_freq + 1, device=device) ** decay_freq
    k = torch.arange(harmonics_time + 1, device=device) ** decay_time
    j, k = (torch.cat([powers, powers[1:]]) for powers in (j, k))
    return 1 / torch.hypot(j[:, None], k[None, :]).clamp(min=1)


def _harmonic_basis(size: int, harmonics: int, device: torch.device) -> Tensor:
    """Constant, cosines and sines at each point of an axis, (size, 1 + 2 harmonics)."""
    cycles = torch.arange(harmonics + 1, device=device)
    phase = 2 * math.pi / size * (torch.arange(size, device=device)[:, None] * cycles)
    return torch.cat([phase.cos(), phase.sin()[:, 1:]], dim=1)


def _threshold(field: Tensor, lam: Tensor) -> Tensor:
    """The level above which a part lam of each field, (n, F, points), lies, (n, 1, 1), read off a regular sample."""
    bins, frames = (
        _regular_sample(size, most, field.device) for size, most in zip(field.shape[1:], _SAMPLED, strict=True)
    )
    ranked = field[:, bins][:, :, frames].flatten(1).sort(1).values
    position = ((1 - lam) * ranked.shape[1] - 0.5).clamp(0, ranked.shape[1] - 1)[:, None]
    low = position.long()
    below = ranked.gather(1, low)
    above = ranked.gather(1, (low + 1).clamp(max=ranked.shape[1] - 1))
    return below.lerp(above, position - low)[:, :, None]


def _regular_sample(size: int, most: int, device: torch.device) -> Tensor:
    count = min(size, most)
    return ((torch.arange(count, device=device) + 0.5) * (size / count)).long()


def official_field(noise: Tensor, time: int, decay: float = 3.0) -> Tensor:
    """The low-frequency field of the published FMix code, its indexing slip included.

    The code means to read real and imaginary parts from the last axis but reads the first two rows. What is left
    is a constant and one cycle along time, with the spectrum of the time axis laid along frequency.

    Args:
        noise: (n, F, T // 2 + 1, 2) Gaussian noise; one more in the third axis where T is odd.
        time: T.
        decay: The decay power.

    Returns:
        (n, F, T) float32 between 0 and 1.
    """
    _, freq, columns, _ = noise.shape
    device = noise.device
    along_freq = torch.fft.fftfreq(freq, device=device)[:2, None]
    along_time = torch.fft.fftfreq(time, device=device)[None, :columns]
    radius = torch.hypot(along_freq, along_time).clamp(min=1 / max(freq, time))
    rows = noise[:, :2] * (radius**-decay)[None, :, :, None]
    first, second = rows[:, 0], rows[:, min(1, freq - 1)]
    field = torch.fft.irfft2(torch.complex(first, second), s=(freq, time), dim=(1, 2))
    low = field.amin((1, 2), keepdim=True)
    field = field - low
    return field / field.amax((1, 2), keepdim=True).clamp(min=torch.finfo(field.dtype).tiny)


def official_mask(field: Tensor, lam: Tensor, rounding: Tensor) -> Tensor:
    """True at the ceil or floor of lam * F * T highest points of the field, as the published code counts them.

    Args:
        field: (n, F, T).
        lam: (n,) the row's own part.
        rounding: (n,) uniform numbers; above one half the count is rounded up.

    Returns:
        (n, F, T) bool.
    """
    flat = field.flatten(1)
    wanted = lam * flat.shape[1]
    count = torch.where(rounding > 0.5, wanted.ceil(), wanted.floor()).long()
    rank = flat.argsort(stable=True, dim=1, descending=True).argsort(1)
    return (rank < count[:, None]).view_as(field)
