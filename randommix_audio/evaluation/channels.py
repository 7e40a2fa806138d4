"""What rooms, microphones and lines do to speech: reverberation, gain, clipping, time shift, band limits, codecs.

Waveforms are (B, N) float with full scale -1 .. 1. What a row gets follows from its key (`row_keys`) alone.
"""

import io
import math

import torch
from torch import Tensor

from randommix_audio.evaluation.noises import active_samples
from randommix_audio.evaluation.rows import normals, uniforms

# Reverberant over direct energy is RT60 / CLOSENESS: the diffuse field of a room of 50 m3 one metre from the talker,
# by the critical distance 0.057 sqrt(volume / RT60) metres (Kuttruff, Room Acoustics, section 5.5).
CLOSENESS = 0.057**2 * 50
MU = 255.0


def room_responses(keys: Tensor, rt60: float, sample_rate: int) -> Tensor:
    """Synthetic room responses: the direct sound, one at sample 0, and noise that decays by 60 dB in rt60 seconds.

    The energy of the noise is rt60 / 0.16 that of the direct sound, as one metre from the talker in a room of 50 m3:
    a direct-to-reverberant ratio of -0.9 dB at 0.2 s and -7.9 dB at 1 s. Moorer's model ("About this reverberation
    business", Computer Music Journal 3(2), 1979): no single echoes, the same decay at all frequencies.

    Args:
        keys: (B,); each row has a room of its own.
        rt60: Reverberation time in seconds, above 0.
        sample_rate: In Hz.

    Returns:
        (B, 1 + round(rt60 sample_rate)) float32.

    Raises:
        ValueError: If rt60 is not above 0.
    """
    if not rt60 > 0:
        raise ValueError(f"rt60 must be above 0 seconds, got {rt60}")
    length = max(round(rt60 * sample_rate), 1)
    time = torch.arange(1, length + 1, device=keys.device) / sample_rate
    tail = normals(keys, length) * torch.exp(-math.log(10**3) * time / rt60)
    energy = tail.square().sum(1, keepdim=True)
    tail = tail * (rt60 / CLOSENESS / energy).sqrt()
    return torch.nn.functional.pad(tail, (1, 0), value=1.0)


def reverberated(wave: Tensor, responses: Tensor) -> Tensor:
    """Convolve each clip (B, N) with its response (B, L); as long as the clip, the tail beyond its end is lost."""
    samples = wave.shape[1]
    size = 1 << (samples + responses.shape[1] - 2).bit_length()
    spectrum = torch.fft.rfft(wave, n=size) * torch.fft.rfft(responses, n=size)
    return torch.fft.irfft(spectrum, n=size)[:, :samples]


def gained(wave: Tensor, decibels: float) -> Tensor:
    """Make clips louder or quieter as a recorder with a wrong level does: rounded to 16 bits, clipped at full scale."""
    return (wave * (32768 * 10 ** (decibels / 20))).round().clamp(-32768, 32767) / 32768


def clipped(wave: Tensor, share: float, sample_rate: int) -> Tensor:
    """Cut off the peaks: at the level that the given share of the samples in the active part of a clip exceeds.

    Args:
        wave: (B, N).
        share: 0 .. 1; 0 changes nothing.
        sample_rate: In Hz; see `active_samples`.

    Returns:
        (B, N), a new tensor, at the level that the clips had below the cut.

    Raises:
        ValueError: If share lies outside 0 .. 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in 0 .. 1, got {share}")
    active = active_samples(wave, sample_rate)
    ranked = torch.where(active, wave.abs(), 0.0).sort(dim=1, descending=True).values
    rank = (active.sum(1, keepdim=True) * share).long().clamp(max=wave.shape[1] - 1)
    level = ranked.gather(1, rank)
    return wave.minimum(level).maximum(-level)


def shifted(wave: Tensor, keys: Tensor, seconds: float, sample_rate: int) -> Tensor:
    """Move each clip by the given time, earlier or later as its key says; zeros come in, what leaves is lost."""
    steps = round(seconds * sample_rate)
    later = uniforms(keys, 1) < 0.5
    place = torch.arange(wave.shape[1], device=wave.device) - torch.where(later, steps, -steps)  # (B, N)
    inside = (place >= 0) & (place < wave.shape[1])
    return torch.where(inside, wave.gather(1, place.clamp(0, wave.shape[1] - 1)), 0.0)


def band_limited(wave: Tensor, low: float, high: float, sample_rate: int) -> Tensor:
    """Keep the frequencies from low to high Hz and nothing else, by the Fourier transform of the whole clip.

    An edge beyond half the sample rate does nothing.

    Raises:
        ValueError: If low is negative or not below high.
    """
    if not 0 <= low < high:
        raise ValueError(f"need 0 <= low < high in Hz, got {low} and {high}")
    spectrum = torch.fft.rfft(wave)
    frequency = torch.fft.rfftfreq(wave.shape[1], 1 / sample_rate, device=wave.device)
    return torch.fft.irfft(spectrum * ((frequency >= low) & (frequency <= high)), n=wave.shape[1])


def mu_law(wave: Tensor, bits: int = 8) -> Tensor:
    """Quantise on the logarithmic scale of telephony (ITU-T G.711, mu = 255, as a formula), at the clip's own rate.

    Args:
        wave: (B, N); beyond full scale it is clipped.
        bits: Of a sample, at least 2; 2^bits - 1 levels, 0 among them.

    Raises:
        ValueError: If bits is below 2.
    """
    if bits < 2:
        raise ValueError(f"bits must be at least 2, got {bits}")
    steps = 2 ** (bits - 1) - 1
    magnitude = torch.log1p(MU * wave.abs().clamp(max=1)) / math.log1p(MU)
    magnitude = (magnitude * steps).round() / steps
    return wave.sign() * torch.expm1(magnitude * math.log1p(MU)) / MU


def encoded(wave: Tensor, sample_rate: int, kind: str, strength: float) -> Tensor:
    """Write each clip into a compressed file and read it back, on the CPU, one after another.

    The encoder is that of the libsndfile which soundfile brings, so that results depend on its version: this is not
    among the fixed conditions.

    Args:
        wave: (B, N); beyond full scale it is clipped.
        sample_rate: In Hz; MP3 knows 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100 and 48000.
        kind: "vorbis" (Ogg) or "mp3".
        strength: Of the compression, from 0 to below 1, libsndfile's compression level.

    Returns:
        (B, N) float32 on the device of wave.

    Raises:
        ValueError: If kind is another, or this libsndfile does not know the format.
    """
    import soundfile

    kinds = {"vorbis": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III")}
    if kind not in kinds:
        raise ValueError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")
    name, subtype = kinds[kind]
    if subtype not in soundfile.available_subtypes(name):
        raise ValueError(f"libsndfile {soundfile.__libsndfile_version__} does not write {name}")
    result = torch.zeros_like(wave, dtype=torch.float32, device="cpu")
    for row, samples in zip(result, wave.detach().float().clamp(-1, 1).cpu(), strict=True):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples.numpy(), sample_rate, format=name, subtype=subtype, compression_level=strength)
        buffer.seek(0)
        back, _ = soundfile.read(buffer, dtype="float32")
        row[: len(back)] = torch.from_numpy(back[: len(row)])
    return result.to(wave.device)
