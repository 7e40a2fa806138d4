"""Mel filter banks, each by the formula and in the arithmetic of the library that it comes from."""

import math

import torch
from torch import Tensor

MEL_SCALES = ("slaney", "htk", "torchaudio", "kaldi", "speechbrain")
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
        scale: "slaney" or "htk" (``librosa.filters.mel``), "torchaudio" (htk in torchaudio's arithmetic),
            "kaldi" (triangles drawn in mel, not in Hz) or "speechbrain" (triangles as wide to the right as
            to the left).
        norm: "slaney" gives every triangle the area one; None the height one, the only norm of the last
            three scales.

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
    if scale in ("slaney", "htk"):
        return _librosa_bank(sample_rate, n_fft, n_mels, f_min, f_max, scale, norm)
    if norm is not None:
        raise ValueError(f"mel_norm {norm!r} goes with slaney and htk; mel_scale {scale!r} needs None")
    draw = {"torchaudio": _torchaudio_bank, "kaldi": _kaldi_bank, "speechbrain": _speechbrain_bank}[scale]
    return draw(sample_rate, n_fft, n_mels, f_min, f_max)


def _librosa_bank(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, scale: str, norm: str | None
) -> Tensor:
    from librosa.filters import mel  # here, because librosa and its numba take a second to load

    bank = mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, htk=scale == "htk", norm=norm)
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
    triangles = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0.0)
    return torch.cat([triangles, triangles.new_zeros(1, n_mels)])


def _htk_edges(n_mels: int, f_min: float, f_max: float) -> Tensor:
    """(n_mels + 2,) float32 frequencies in Hz, equally far apart in mel = 2595 log10(1 + f / 700)."""
    low, high = (2595.0 * math.log10(1.0 + edge / 700.0) for edge in (f_min, f_max))
    return 700.0 * (10.0 ** (torch.linspace(low, high, n_mels + 2) / 2595.0) - 1.0)


def _torchaudio_bank(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """The ``melscale_fbanks`` of torchaudio: librosa's htk triangles, but in float32.

    On real clips the rounding of its edges moves narrow bands by up to 4e-3 dB from librosa's.
    """
    edges = _htk_edges(n_mels, f_min, f_max)
    width = edges[1:] - edges[:-1]
    bins = torch.linspace(0.0, sample_rate // 2, n_fft // 2 + 1)[:, None]
    rising, falling = (bins - edges[:-2]) / width[:-1], (edges[2:] - bins) / width[1:]
    return torch.minimum(rising, falling).clamp(min=0.0)


def _speechbrain_bank(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """SpeechBrain's ``Filterbank``: each triangle falls as it rose, over the distance to its left neighbour.

    In float32 as in SpeechBrain, for the same reason as the Kaldi bank.
    """
    edges = _htk_edges(n_mels, f_min, f_max)
    centre, width = edges[1:-1], (edges[1:] - edges[:-1])[:-1]
    bins = torch.linspace(0.0, sample_rate // 2, n_fft // 2 + 1)[:, None]
    slope = (bins - centre) / width
    return torch.minimum(slope + 1.0, 1.0 - slope).clamp(min=0.0)
