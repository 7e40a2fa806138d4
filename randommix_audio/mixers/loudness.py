"""How loud waveforms are, and the amplitudes with which two of them are heard in a wanted ratio.

Tokozume, Ushiku & Harada 2018, "Learning from between-class examples for deep sound recognition" (ICLR), section 3.2.
"""

import math

import torch
from torch import Tensor

_WINDOW_SECONDS = 0.1
_LEAST_POWER = 1e-8
"""-80 dB, below which the published code tells nothing from silence."""


class Hearing:
    """The A-weighting of the spectrum at a sample rate.

    Attributes:
        weighting: L / 2 + 1 factors on power, for windows of L samples: the power of two nearest to 0.1 s (2048 at
            16 kHz and 4096 at 44.1 kHz, as published).

    Args:
        sample_rate: Samples per second, above 0.

    Raises:
        ValueError: If the sample rate is not above 0.
    """

    def __init__(self, sample_rate: int) -> None:
        if not sample_rate > 0:
            raise ValueError(f"sample_rate must be above 0, got {sample_rate}")
        from librosa import A_weighting  # here, because librosa and its numba take a second to load

        size = 2 ** max(1, round(math.log2(_WINDOW_SECONDS * sample_rate)))
        frequencies = torch.linspace(0, sample_rate / 2, size // 2 + 1, dtype=torch.float64)
        audible = frequencies.clamp(min=1.0).numpy()  # 0 Hz has no logarithm
        self.weighting: list[float] = (10 ** (A_weighting(audible, min_db=-80.0) / 10)).tolist()


def loudest_power(wave: Tensor, lengths: Tensor | None, weighting: Tensor) -> Tensor:
    """The A-weighted power of the loudest moment of each waveform, at least -80 dB.

    The largest over windows of L samples, half overlapping, under a Hann window, of the sum of the weighted power
    spectrum. The last window may reach beyond the end, where the published code drops it.

    Args:
        wave: (B, N) floating-point, in -1 .. 1.
        lengths: (B,) long, valid samples; None: all.
        weighting: (L / 2 + 1,) float32, factors on power.

    Returns:
        (B,) float32.
    """
    size = 2 * (weighting.shape[0] - 1)
    hop, time = size // 2, wave.shape[1]
    wave = wave.float()
    if lengths is not None:
        wave = wave.masked_fill(torch.arange(time, device=wave.device) >= lengths[:, None], 0.0)
    wave = torch.nn.functional.pad(wave, [0, size - time if time < size else -(time - size) % hop])
    window = torch.hann_window(size, device=wave.device)
    spectrum = torch.view_as_real(torch.fft.rfft(wave.unfold(1, size, hop) * window))
    return (spectrum.square().sum(-1) @ weighting).amax(1).clamp(min=_LEAST_POWER)


def equal_loudness(share: Tensor, own_power: Tensor, partner_power: Tensor) -> Tensor:
    """Amplitudes with which two waveforms are heard in a wanted ratio.

    Args:
        share: (n,) float32 in [0, 1], r: what is to be heard of the row.
        own_power: (n,) float32 above 0, 10^(G / 10) of the row.
        partner_power: (n,) of its partner.

    Returns:
        (n, 2): p and 1 - p over sqrt(p^2 + (1 - p)^2), which keeps the power of two waveforms of one power that are
        not correlated; p = 1 / (1 + 10^((G1 - G2) / 20) (1 - r) / r).
    """
    # Multiplied out, so that nothing is divided by a share of 0.
    amplitudes = torch.stack([share * partner_power.sqrt(), (1 - share) * own_power.sqrt()], 1)
    return amplitudes / amplitudes.norm(dim=1, keepdim=True)
