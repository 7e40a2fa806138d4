"""What the axes of a picture mean: seconds and Hz where they are known, else frames and bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from randommix_audio.features import LogMel


@dataclass(frozen=True)
class Axis:
    """What the axes of a panel mean.

    Attributes:
        kind: "spectrogram" (low frequency at the bottom), "image" (first line at the top) or "wave" (a line).
        seconds: duration of one frame or sample; None counts frames or samples.
        frequencies: centre of each frequency bin in Hz; None counts bins.
        unit: what the values of a spectrogram are, for its colour bar; empty where that is not known.
    """

    kind: str
    seconds: float | None = None
    frequencies: np.ndarray | None = None
    unit: str = ""

    def time_text(self, frames: int) -> str:
        """A number of frames in the unit of the time axis, such as "1.5 s" or "150 frames"."""
        if self.seconds is not None:
            return f"{frames * self.seconds:.3g} s"
        return f"{frames} {self.time_label()}s"

    def time_label(self) -> str:
        """Name of the horizontal axis."""
        if self.seconds is not None:
            return "time (s)"
        return {"spectrogram": "frame", "image": "column", "wave": "sample"}[self.kind]

    def height_label(self) -> str:
        """Name of the vertical axis."""
        if self.kind == "wave":
            return "amplitude"
        if self.kind == "image":
            return "line"
        return "mel bin" if self.frequencies is None else "frequency (Hz)"


def axis_of(
    layout: str,
    pictures: bool,
    bins: int,
    front_end: Any,
    hop_length: int | None,
    sample_rate: int | None,
    frequencies: Sequence[float] | np.ndarray | None,
) -> Axis:
    """Decide what the axes mean from what the caller told."""
    if layout == "BT":
        rate = sample_rate or (front_end.sample_rate if front_end is not None else None)
        return Axis("wave", seconds=1 / rate if rate else None)
    if pictures:
        return Axis("image")
    if front_end is not None:
        hop_length, sample_rate = hop_length or front_end.hop_length, sample_rate or front_end.sample_rate
        frequencies = bin_centres(front_end) if frequencies is None else frequencies
    if frequencies is not None and len(frequencies) != bins:
        raise ValueError(f"{len(frequencies)} frequencies for {bins} bins")
    seconds = hop_length / sample_rate if hop_length and sample_rate else None
    centres = None if frequencies is None else np.asarray(frequencies, dtype=np.float64)
    return Axis("spectrogram", seconds, centres, "" if front_end is None else unit_of(front_end))


def unit_of(front_end: LogMel) -> str:
    """What the values of a front end's spectrograms are, in words for a colour bar."""
    unit = {"db": "dB"}.get(front_end.log, f"{front_end.log} power")
    scaled = front_end.normalize is not None or front_end.mean != 0 or front_end.std != 1
    return f"log-mel ({unit}, scaled)" if scaled else f"log-mel ({unit})"


def bin_centres(front_end: LogMel) -> np.ndarray:
    """(F,) mean frequency in Hz of each mel filter of a front end."""
    bank = front_end.bank.detach().double().cpu().numpy()  # (n_fft // 2 + 1, F)
    hertz = np.linspace(0, front_end.sample_rate / 2, len(bank))
    area = bank.sum(axis=0)
    filled = np.flatnonzero(area > 0)  # with many bands the lowest may hold no Fourier bin at all
    centres = hertz @ bank[:, filled] / area[filled]
    return np.interp(np.arange(bank.shape[1]), filled, centres)
