"""Masks cut from low-frequency noise: FMix."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from randommix_audio.draws import Draws
from randommix_audio.geometry import Geometry, Mask
from randommix_audio.mixers.base import Mixer, Rows, check_alpha, check_choice

_MOST_HARMONICS = 64
_SAMPLED_BINS, _SAMPLED_FRAMES = 16, 32


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

    def draw_geometry(self, draws: Draws, rows: Rows) -> tuple[Geometry, Tensor, tuple[str, ...]]:
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
        return Mask(own), rows.own, (self.name,)

    def _draw_mask(self, draws: Draws, rows: Rows, lam: Tensor) -> Tensor:
        harmonics_freq = _harmonics(rows.freq, self.decay_freq)
        harmonics_time = _harmonics(rows.time, self.decay_time)
        amplitude = _amplitude(harmonics_freq, harmonics_time, self.decay_freq, self.decay_time, rows.device)
        spectrum = draws.normal(lam.shape[0], *amplitude.shape) * amplitude
        size = rows.own.clamp(min=1)[:, None] if rows.ragged else torch.full((1, 1), rows.time, device=rows.device)
        place = torch.arange(rows.freq, device=rows.device).view(1, -1) / rows.freq
        by_freq = _harmonic_basis(place, harmonics_freq)
        by_time = _harmonic_basis(torch.arange(rows.time, device=rows.device) / size, harmonics_time)
        field = by_freq @ spectrum @ by_time.transpose(1, 2)
        return field >= _threshold(field, lam, size)

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        decays = f"decay_time={self.decay_time}, decay_freq={self.decay_freq}"
        return f"alpha={self.alpha}, {decays}, variant={self.variant!r}, {super().extra_repr()}"


def _harmonics(size: int, decay: float) -> int:
    """Cycles per axis that matter: up to half the axis, and until the amplitude is a thousandth."""
    return min(size // 2, math.ceil(1000 ** (1 / decay)), _MOST_HARMONICS)


def _amplitude(
    harmonics_freq: int, harmonics_time: int, decay_freq: float, decay_time: float, device: torch.device
) -> Tensor:
    """Amplitudes of the cosines and sines of both axes, (1 + 2 J, 1 + 2 K), in the order of `_harmonic_basis`."""
    j = torch.arange(harmonics_freq + 1, device=device) ** decay_freq
    k = torch.arange(harmonics_time + 1, device=device) ** decay_time
    j, k = (torch.cat([powers, powers[1:]]) for powers in (j, k))
    return 1 / torch.hypot(j[:, None], k[None, :]).clamp(min=1)


def _harmonic_basis(place: Tensor, harmonics: int) -> Tensor:
    """Constant, cosines and sines at each place of an axis, (n or 1, N) in cycles, to (n or 1, N, 1 + 2 harmonics)."""
    cycles = torch.arange(harmonics + 1, device=place.device)
    phase = 2 * math.pi * place[:, :, None] * cycles
    return torch.cat([phase.cos(), phase.sin()[:, :, 1:]], dim=2)


def _threshold(field: Tensor, lam: Tensor, size: Tensor) -> Tensor:
    """The level above which a part lam of each field lies, (n, 1, 1), read off a regular sample of its valid frames."""
    freq, time = field.shape[1:]
    bins = min(freq, _SAMPLED_BINS)
    frames = min(time, _SAMPLED_FRAMES)
    bin_index = ((torch.arange(bins, device=field.device) + 0.5) * (freq / bins)).long()
    frame_index = ((torch.arange(frames, device=field.device) + 0.5) * (size / frames)).long().clamp(max=time - 1)
    sample = field[:, bin_index]
    sample = sample.gather(2, frame_index[:, None, :].expand(sample.shape[0], bins, frames)).flatten(1)
    ranked = sample.sort(1).values
    position = ((1 - lam) * ranked.shape[1] - 0.5).clamp(0, ranked.shape[1] - 1)
    position = position.expand(ranked.shape[0])[:, None]
    low = position.long()
    below = ranked.gather(1, low)
    above = ranked.gather(1, (low + 1).clamp(max=ranked.shape[1] - 1))
    return below.lerp(above, position - low)[:, :, None]


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
