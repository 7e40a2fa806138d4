"""Masks cut from low-frequency noise: FMix."""

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from randommix_audio.draws import Draws, beta_of
from randommix_audio.geometry import Mask
from randommix_audio.geometry.in_place import row_slices
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.rows import Drawn, Rows

_MOST_HARMONICS = 64
_MOST_POINTS = 1024  # along time; 16 for each cycle of the highest harmonic
_SAMPLED = 512  # points at which the field is read to find the threshold
_SAMPLED_BINS = 16  # bins among them, where there are as many
_BISECTIONS = 9


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
        if count == 1 and self.variant == "default":
            own = self._draw_mask(draws, rows, 1, beta_of(draws.host(1)[0], self.alpha))
            return Drawn(Mask(_limited(own, rows)), rows.own, (self.name,))
        lam = draws.beta(self.alpha, count)
        if self.variant == "official":
            noise = draws.normal(count, rows.freq, rows.time // 2 + 1 + rows.time % 2, 2)
            field = official_field(noise, rows.time, self.decay_freq)
            own = official_mask(field, lam, draws.uniform(count))
        else:
            own = self._draw_mask(draws, rows, count, lam)
        return Drawn(Mask(_limited(own, rows)), rows.own, (self.name,))

    def _draw_mask(self, draws: Draws, rows: Rows, count: int, lam: Tensor | float) -> Tensor:
        """Masks that span the valid frames of each row, (count or n, F, T) bool; lam is (count,) or the one number."""
        harmonics_freq = _harmonics(rows.freq, self.decay_freq)
        harmonics_time = _harmonics(rows.time, self.decay_time)
        amplitude = _amplitude(harmonics_freq, harmonics_time, self.decay_freq, self.decay_time, rows.device)
        spectrum = draws.normal(count, *amplitude.shape) * amplitude
        points = min(rows.time, _MOST_POINTS)
        by_freq = _harmonic_basis(rows.freq, harmonics_freq, rows.device)
        by_time = _harmonic_basis(points, harmonics_time, rows.device)
        # The constant becomes what lies above the threshold when the field is positive.
        spectrum[:, 0, 0] -= _threshold(spectrum, by_freq, by_time, lam)
        mask = torch.empty(count, rows.freq, points, dtype=torch.bool, device=rows.device)
        for part in row_slices(mask, spectrum.itemsize):
            # In place, then to bool: a comparison that gives bool takes three times as long on the CPU.
            mask[part].copy_((by_freq @ spectrum[part] @ by_time.T).ge_(0))
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
    """Cycles per axis that matter: up to half the axis, and until their slope is 1/36 of that of one cycle.

    At the decay 3 that leaves 6; more of them change a mask at 0.3 % of its points.
    """
    slope = decay - 1
    matter = math.ceil(36 ** (1 / slope)) if slope > 0.5 else _MOST_HARMONICS
    return min(size // 2, matter, _MOST_HARMONICS)


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


def _limited(own: Tensor, rows: Rows) -> Tensor:
    """Masks with the row itself beyond the frames of both."""
    if rows.alike:
        return own
    return own | (torch.arange(rows.time, device=own.device) >= rows.both[:, None])[:, None, :]


def _threshold(spectrum: Tensor, by_freq: Tensor, by_time: Tensor, lam: Tensor | float) -> Tensor:
    """The level above which a part lam of each field lies, (n,), read off a regular sample of it.

    Args:
        spectrum: (n, 1 + 2 J, 1 + 2 K) amplitudes of each field's cosines and sines.
        by_freq: (F, 1 + 2 J), see `_harmonic_basis`.
        by_time: (points, 1 + 2 K).
        lam: (n,), or the number for a single field.
    """
    frames = _regular_sample(by_time, _SAMPLED // min(len(by_freq), _SAMPLED_BINS))
    sample = (_regular_sample(by_freq, _SAMPLED // len(frames)) @ spectrum @ frames.T).flatten(1)
    if not isinstance(lam, Tensor):
        below = min(round((1 - lam) * sample.shape[1]), sample.shape[1] - 1)
        return sample.kthvalue(below + 1, dim=1).values
    low, high = sample.amin(1, keepdim=True), sample.amax(1, keepdim=True)
    level, width = (low + high) / 2, high - low
    wanted = 2 * lam[:, None] - 1  # points above less points below, as a part of all
    for halving in range(2, 2 + _BISECTIONS):
        # A mean of signs is counted several times as fast as a comparison on the CPU, and a sort takes twenty times.
        side = (sample - level).sign_().mean(1, keepdim=True).sub_(wanted).sign_()
        level = torch.addcmul(level, width, side, value=0.5**halving)
    return level[:, 0]


def _regular_sample(basis: Tensor, most: int) -> Tensor:
    """Every m-th point of an axis, at most so many."""
    step = -(-len(basis) // most)
    return basis[(len(basis) - 1) % step // 2 :: step]


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
