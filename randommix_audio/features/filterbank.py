"""Mel filter banks, each by the formula and in the arithmetic of the library that it comes from."""

import math

import torch
from torch import Tensor

MEL_SCALES = ("slaney", "htk", "kaldi", "speechbrain")
MEL_NORMS = ("slaney", None)


def mel_filter_bank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    scale: str = "slaney",
    norm: str | None = "slaney",
) -> Tensor:
    """Triangular filters that turn a power spectrum into mel bands.

    Args:
        sample_rate: Samples per second.
        n_fft: Length of the Fourier transform in samples.
        n_mels: Number of bands.
        f_min: Lower edge of the first band in Hz.
        f_max: Upper edge of the last band in Hz; None is half the sample rate.
        scale: "slaney" or "htk" (``librosa.filters.mel``), "kaldi" (triangles drawn in mel, not in Hz) or
            "speechbrain" (triangles as wide to the right as to the left).
        norm: "slaney" gives every triangle the area one; None the height one, the only one of the last two.

    Returns:
        (n_fft // 2 + 1, n_mels) float32 weights, ready for ``power @ bank``.

    Raises:
        ValueError: If the scale or the norm is unknown, or the two do not go together.
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    if scale not in MEL_SCALES:
        raise ValueError(f"mel_scale {scale!r} is unknown; choose from {', '.join(MEL_SCALES)}")
    if norm not in MEL_NORMS:
        raise ValueError(f"mel_norm {norm!r} is unknown; choose 'slaney' or None")
    if scale == "kaldi":
        bank = _kaldi_bank(sample_rate, n_fft, n_mels, f_min, f_max)
    elif scale == "speechbrain":
        bank = _speechbrain_bank(sample_rate, n_fft, n_mels, f_min, f_max)
    else:
        return _librosa_bank(sample_rate, n_fft, n_mels, f_min, f_max, scale, norm)
    if norm is not None:
        raise ValueError(f"mel_norm {norm!r} goes with slaney and htk; mel_scale {scale!r} needs None")
    return bank


def _librosa_bank(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, scale: str, norm: str | None
) -> Tensor:
    from librosa.filters import mel  # here, because librosa and its numba take a second to load

    bank = mel(
        sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, htk=scale == "htk", norm=norm
    )
    return torch.from_numpy(bank).float().T.contiguous()


def _kaldi_bank(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Kaldi's ``MelBanks``: slopes linear in mel = 1127 ln(1 + f / 700), the Nyquist bin unused.

    In float32 as in Kaldi: with 128 bands some hold one bin of small weight, which rounding decides.
    """

    def mel(frequency: Tensor) -> Tensor:
        return 1127.0 * (1.0 + frequency / 700.0).log()

    low, high = (1127.0 * math.log(1.0 + edge / 700.0) for edge in (f_min, f_max))
    step = (high - low) / (n_mels + 1)
    band = torch.arange(n_mels)
    left, centre, right = low + band * step, low + (band + 1.0) * step, low + (band + 2.0) * step  # (M,)
    bins = mel(sample_rate / n_fft * torch.arange(n_fft // 2))[:, None]  # (n_fft / 2, 1)
    triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(
        min=0.0
    )
    return torch.cat([triangles, triangles.new_zeros(1, n_mels)])


def _speechbrain_bank(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """SpeechBrain's ``Filterbank``: each triangle falls as it rose, over the distance to its left neighbour.

    In float32 as in SpeechBrain, for the same reason as the Kaldi bank.
    """
    low, high = (2595.0 * math.log10(1.0 + edge / 700.0) for edge in (f_min, f_max))
    edges = 700.0 * (10.0 ** (torch.linspace(low, high, n_mels + 2) / 2595.0) - 1.0)  # (M + 2,) in Hz
    centre, width = edges[1:-1], (edges[1:] - edges[:-1])[:-1]
    bins = torch.linspace(0.0, sample_rate // 2, n_fft // 2 + 1)[:, None]
    slope = (bins - centre) / width
    return torch.minimum(slope + 1.0, 1.0 - slope).clamp(min=0.0)
