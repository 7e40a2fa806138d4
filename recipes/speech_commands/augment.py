"""Augmentation of single clips on the device, before mixing. All draws come from the generator of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recipes.shared.console import UserError


@dataclass
class Augmentation:
    """What is done to each clip before mixing; each part has its own probability, and by default none is on.

    Args:
        gain_p: probability of a new amplitude.
        gain: lowest and highest factor on the amplitude.
        speed_p: probability of another speed, which moves the pitch along.
        speed: largest relative change of a clip's length by it: 0.2 gives 1 / 1.2 to 1 / 0.8 times the speed.
        shift_p: probability of moving the clip in time, with silence behind it.
        shift_ms: largest move in milliseconds.
        noise_p: probability of background noise (from the corpus's own noise recordings).
        noise_gain: highest factor on the noise; the factor is uniform from 0.
        stretch_p: probability of another tempo at the same pitch (on the log-mel frames).
        stretch: largest relative change of tempo.
        shift_frames_p: probability of moving the log-mel frames in time.
        shift_frames: largest move in frames.
        time_masks: number of masked runs of frames (SpecAugment).
        time_mask: most frames of a run.
        freq_masks: number of masked runs of mel bands (SpecAugment).
        freq_mask: most bands of a run.
    """

    gain_p: float = 0.0
    gain: tuple[float, float] = (1.0, 1.0)
    speed_p: float = 0.0
    speed: float = 0.0
    shift_p: float = 0.0
    shift_ms: float = 0.0
    noise_p: float = 0.0
    noise_gain: float = 0.1
    stretch_p: float = 0.0
    stretch: float = 0.0
    shift_frames_p: float = 0.0
    shift_frames: int = 0
    time_masks: int = 0
    time_mask: int = 0
    freq_masks: int = 0
    freq_mask: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith("_p") and not 0 <= value <= 1:
                raise UserError(f"augment.{name} must lie in [0, 1], got {value}")
            if name in ("speed", "stretch") and not 0 <= value < 1:
                raise UserError(f"augment.{name} must lie in [0, 1), got {value}")
            if name != "gain" and not value >= 0:
                raise UserError(f"augment.{name} must not be negative, got {value}")
        low, high = self.gain
        if not 0 <= low <= high:
            raise UserError(f"augment.gain must be a lowest and a highest factor, 0 or above, got {low} and {high}")


class Augmenter:
    """Applies an Augmentation to batches.

    Args:
        options: what to do.
        sample_rate: of the clips.
        noise: background recordings, each (samples,) int16 or float; needed where noise_p is above 0.
        device: where the batches are.

    Raises:
        UserError: where noise is asked for and there is none.
    """

    def __init__(
        self, options: Augmentation, sample_rate: int, noise: Sequence[Tensor], device: torch.device | str
    ) -> None:
        self.options = options
        self.shift_samples = round(options.shift_ms * sample_rate / 1000)
        if options.noise_p > 0 and not noise:
            raise UserError("augment.noise_p is above 0, but this corpus has no background noise: set it to 0")
        self.noise = torch.cat([as_float(n) for n in noise]).to(device) if options.noise_p > 0 else None
        self.noise_sizes = torch.tensor([len(n) for n in noise], device=device)

    @property
    def changes_waves(self) -> bool:
        """Whether anything is done to the waveforms."""
        options = self.options
        return any(p > 0 for p in (options.gain_p, options.speed_p, options.shift_p, options.noise_p))

    def wave(self, wave: Tensor, generator: torch.Generator) -> Tensor:
        """Change waveforms (B, N) float in -1..1: amplitude, speed, place in time, background noise."""
        options, rows = self.options, wave.shape[0]
        if options.gain_p > 0:
            low, high = options.gain
            factor = low + (high - low) * _uniform(rows, generator)
            wave = wave * _sometimes(factor, 1.0, options.gain_p, generator)[:, None]
        if options.speed_p > 0 or options.shift_p > 0:
            rate = _sometimes(1 / _around(1.0, options.speed, rows, generator), 1.0, options.speed_p, generator)
            shift = _around(0.0, self.shift_samples, rows, generator).round()
            shift = _sometimes(shift, 0.0, options.shift_p, generator)
            wave = warp(wave[:, None], rate, shift, 0.0)[:, 0]
        if self.noise is not None:
            gain = _sometimes(options.noise_gain * _uniform(rows, generator), 0.0, options.noise_p, generator)
            wave = (wave + gain[:, None] * self._crops(rows, wave.shape[1], generator)).clamp(-1, 1)
        return wave

    def features(self, x: Tensor, generator: torch.Generator, silence: float) -> Tensor:
        """Change log-mel features (B, F, T): tempo, place in time, SpecAugment's masks.

        `silence` stands where nothing is left after a move; in a clip that is silent throughout it is the clip's own
        value, which is another where the front end takes its levels from the clip's peak.
        """
        options, rows = self.options, x.shape[0]
        if options.stretch_p > 0 or options.shift_frames_p > 0:
            rate = _sometimes(_around(1.0, options.stretch, rows, generator), 1.0, options.stretch_p, generator)
            shift = _around(0.0, options.shift_frames + 0.5, rows, generator).round()
            shift = shift.clamp(-options.shift_frames, options.shift_frames)
            lowest, highest = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
            fill = torch.where(lowest == highest, lowest, silence)
            x = warp(x, rate, _sometimes(shift, 0.0, options.shift_frames_p, generator), fill)
        if options.time_masks or options.freq_masks:
            level = x.mean(dim=(1, 2), keepdim=True)  # a masked part tells nothing, not even that it is quiet
            frames = runs(rows, x.shape[2], options.time_masks, options.time_mask, generator)
            bands = runs(rows, x.shape[1], options.freq_masks, options.freq_mask, generator)
            x = torch.where(frames[:, None, :] | bands[:, :, None], level, x)
        return x

    def _crops(self, rows: int, samples: int, generator: torch.Generator) -> Tensor:
        """(rows, samples) of noise: any recording with equal probability, any place, wrapped where it is short."""
        assert self.noise is not None
        sizes = self.noise_sizes
        chosen = (_uniform(rows, generator) * len(sizes)).long().clamp(max=len(sizes) - 1)
        size = sizes[chosen]
        first = (_uniform(rows, generator) * (size - samples + 1).clamp(min=1)).long()
        place = (first[:, None] + torch.arange(samples, device=sizes.device)) % size[:, None]
        return self.noise[(sizes.cumsum(0) - sizes)[chosen][:, None] + place]


def as_float(wave: Tensor) -> Tensor:
    """int16 samples as float32 in -1..1; floats as they are."""
    return wave.float() / 32768 if wave.dtype == torch.int16 else wave.float()


def warp(x: Tensor, rate: Tensor, shift: Tensor, fill: float | Tensor) -> Tensor:
    """Read each row at another rate from another place, linearly interpolated: out[t] = x[(t - shift) * rate].

    Args:
        x: (B, C, T).
        rate: (B,) above 0; 1.2 is faster and leaves the last sixth to `fill`.
        shift: (B,) whole positions; positive moves to the right.
        fill: what stands where nothing is read; a tensor is (B, 1, 1).

    Returns:
        (B, C, T); with rate 1 and shift 0 exactly x.
    """
    last = x.shape[2] - 1
    place = (torch.arange(x.shape[2], device=x.device) - shift[:, None]) * rate[:, None]  # (B, T)
    inside = (place >= 0) & (place <= last)
    low = place.floor().clamp(0, last)
    share = (place - low).clamp(0, 1)[:, None]
    left = low.long()[:, None].expand_as(x)
    right = (left + 1).clamp(max=last)
    read = x.gather(2, left) * (1 - share) + x.gather(2, right) * share
    return torch.where(inside[:, None], read, fill)


def runs(rows: int, length: int, count: int, longest: int, generator: torch.Generator) -> Tensor:
    """(rows, length) bool with `count` runs of 0 to `longest` true places in each row."""
    place = torch.arange(length, device=generator.device)
    mask = torch.zeros(rows, length, dtype=torch.bool, device=generator.device)
    for _ in range(count):
        width = (_uniform(rows, generator) * (min(longest, length) + 1)).floor()
        start = (_uniform(rows, generator) * (length - width + 1)).floor()
        mask |= (place >= start[:, None]) & (place < (start + width)[:, None])
    return mask


def _uniform(rows: int, generator: torch.Generator) -> Tensor:
    return torch.rand(rows, generator=generator, device=generator.device)


def _around(middle: float, spread: float, rows: int, generator: torch.Generator) -> Tensor:
    return middle + spread * (2 * _uniform(rows, generator) - 1)


def _sometimes(value: Tensor, otherwise: float, p: float, generator: torch.Generator) -> Tensor:
    """The value with probability p; drawn for every row whatever p is."""
    return torch.where(_uniform(len(value), generator) < p, value, otherwise)
