"""Additive noise at a given signal-to-noise ratio: white, pink, recorded, and the babble of other speakers.

Waveforms are (B, N) float with full scale -1 .. 1. What a row gets follows from its key (`row_keys`) alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from randommix_audio.evaluation.rows import integers, normals, row_keys

FRAME = 0.02  # seconds
MARGIN = 20.0  # decibels below the loudest frame
TALKERS = 6


def as_float(wave: Tensor) -> Tensor:
    """int16 samples as float32 in -1 .. 1; floats as float32."""
    return wave.float() / 32768 if wave.dtype == torch.int16 else wave.float()


def active_samples(wave: Tensor, sample_rate: int) -> Tensor:
    """Which samples belong to the active part of each clip.

    A clip is cut into frames of 20 ms, one after another; those whose power is at most 20 dB below that of the loudest
    are active. An incomplete frame at the end is not, and a clip of zeros has no active part.

    Args:
        wave: (B, N).
        sample_rate: In Hz.

    Returns:
        (B, N) bool.
    """
    samples = wave.shape[1]
    length = min(max(round(FRAME * sample_rate), 1), samples)
    power = wave[:, : samples // length * length].unflatten(1, (-1, length)).square().mean(2)  # (B, frames)
    loudest = power.amax(1, keepdim=True)
    active = (power >= loudest * 10 ** (-MARGIN / 10)) & (loudest > 0)
    return torch.nn.functional.pad(active.repeat_interleave(length, dim=1), (0, samples % length))


def active_power(wave: Tensor, sample_rate: int) -> Tensor:
    """(B,) mean power over the active part of each clip (B, N), 0 where there is none; see `active_samples`."""
    active = active_samples(wave, sample_rate)
    return (wave.square() * active).sum(1) / active.sum(1).clamp(min=1)


def add_noise(wave: Tensor, noise: Tensor, snr: float, sample_rate: int) -> Tensor:
    """Add noise so that the active part of each clip is `snr` decibels above it.

    The ratio is that of the mean power of the clip in its active part to the mean power of the noise over the whole
    row. The sum may exceed full scale and is not clipped, since that would be another corruption. A row without an
    active part has no ratio and stays as it is, as does one whose noise is all zeros.

    Args:
        wave: (B, N).
        noise: (B, N) of any level.
        snr: In decibels.
        sample_rate: In Hz.

    Returns:
        (B, N), a new tensor.
    """
    power = noise.square().mean(1)
    factor = active_power(wave, sample_rate) / (power * 10 ** (snr / 10))
    return wave + torch.where(power > 0, factor, 0.0).sqrt()[:, None] * noise


def white(keys: Tensor, samples: int) -> Tensor:
    """(B, samples) Gaussian noise of power one, equally strong at all frequencies."""
    return normals(keys, samples)


def pink(keys: Tensor, samples: int) -> Tensor:
    """(B, samples) Gaussian noise whose power falls as 1/f, 10 dB a decade (3 dB an octave), without a mean.

    It begins at the lowest frequency that a row has, so the longer the rows, the more of the power is too low to be
    heard: of rows of one second at 16 kHz 38 % lies below 20 Hz.
    """
    spectrum = torch.fft.rfft(normals(keys, samples))
    place = torch.arange(spectrum.shape[1], device=keys.device)
    return torch.fft.irfft(spectrum * torch.where(place > 0, place.clamp(min=1) ** -0.5, 0.0), n=samples)


def background(keys: Tensor, recordings: Sequence[Tensor], samples: int) -> Tensor:
    """Crops of recorded noise: each recording as likely, any place in it; a recording shorter than a row is repeated.

    Args:
        keys: (B,).
        recordings: Each (n,) int16 or float, n from 1 to 2^24, on the device of the keys.
        samples: Length of the crops.

    Returns:
        (B, samples) float32.

    Raises:
        ValueError: If there is no recording, or one is empty.
    """
    if not recordings or any(recording.ndim != 1 or not len(recording) for recording in recordings):
        raise ValueError("background needs recordings, each (samples,) and not empty")
    sizes = torch.tensor([len(recording) for recording in recordings], device=keys.device)
    chosen = integers(keys, 1, len(recordings))[:, 0]
    room = (sizes - samples + 1).clamp(min=1)[chosen]
    first = integers(row_keys(0, "place", keys), 1, room)
    place = (first + torch.arange(samples, device=keys.device)) % sizes[chosen, None]
    joined = torch.cat([as_float(recording) for recording in recordings])
    return joined[(sizes.cumsum(0) - sizes)[chosen, None] + place]


def babble(
    keys: Tensor, own: Tensor, clips: Tensor, speaker: Tensor, sample_rate: int, talkers: int = TALKERS
) -> Tensor:
    """Other people talking: the sum of clips of other speakers, equally loud, each rotated to a place of its own.

    Clips are drawn with replacement from all that have a speaker other than the row's own. Each is brought to power one
    in its active part and rotated, what leaves at the end coming in at the start, so that the words of a corpus
    of single words do not all coincide.

    Args:
        keys: (B,).
        own: (B,) long, the speaker of each row; below 0 there is none, and any clip may be drawn.
        clips: (M, N) int16 or float, where the voices come from.
        speaker: (M,) long, who speaks in them; clips with a number below 0 (silence) are not drawn.
        sample_rate: In Hz.
        talkers: Clips in a sum.

    Returns:
        (B, N) float32.

    Raises:
        ValueError: If a row has no other speaker to draw from.
    """
    order = speaker.argsort(stable=True)
    ranked = speaker[order]
    silent = (speaker < 0).sum()
    low = torch.searchsorted(ranked, own.contiguous())
    high = torch.searchsorted(ranked, own.contiguous(), right=True)
    low, high = torch.where(own < 0, silent, low), torch.where(own < 0, silent, high)
    others = len(speaker) - silent - (high - low)
    if bool((others < 1).any()):
        raise ValueError("babble needs clips of at least two speakers")
    samples = clips.shape[1]
    drawn = silent + integers(keys, talkers, others)
    drawn = order[drawn + (drawn >= low[:, None]) * (high - low)[:, None]]  # (B, talkers), the own block skipped
    turn = integers(row_keys(0, "place", keys), talkers, samples)
    total = torch.zeros(len(keys), samples, device=keys.device)
    for voice, first in zip(drawn.unbind(1), turn.unbind(1), strict=True):
        wave = as_float(clips[voice])
        wave = wave / active_power(wave, sample_rate).clamp(min=1e-12).sqrt()[:, None]
        total += wave.gather(1, (first[:, None] + torch.arange(samples, device=keys.device)) % samples)
    return total
