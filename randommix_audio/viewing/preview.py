"""What `randommix-audio preview` does: mix the user's own files by every method, and show and write the result."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from randommix_audio.viewing.figure import png
from randommix_audio.viewing.files import write_atomically
from randommix_audio.viewing.mixes import gallery, methods_to_show, share_text, show
from randommix_audio.viewing.page import DESCRIPTIONS, Section, Sound, page

# Mixing that makes sense sample by sample; the others need a frequency axis.
WAVE_METHODS = ("mixup", "time_cutmix")


@dataclass(frozen=True)
class Options:
    """Settings of a preview, as the command line gives them.

    Attributes:
        files: audio files, at least two.
        out: folder that the results are written into; it is made when missing.
        methods: which mixers; None takes all that fit the domain.
        preset: front end by name, see `LogMel.preset`. Its sample rate is also the rate of the sounds.
        seed: every method draws from a generator of this seed.
        per: "row" draws for each file, "batch" once for all.
        seconds: how much of the start of each file to take.
        rows: how many files to show for each method.
        alpha: both parameters of the Beta distribution of the share.
        variant: "default" or "official".
        wave: mix waveforms instead of spectrograms.
    """

    files: Sequence[str]
    out: str
    methods: Sequence[str] | None = None
    preset: str = "whisper"
    seed: int = 0
    per: str = "row"
    seconds: float = 10.0
    rows: int = 4
    alpha: float = 1.0
    variant: str = "default"
    wave: bool = False


@dataclass(frozen=True)
class Clips:
    """The files as a batch: (B, N) float32 waveforms, (B,) lengths in samples, names, rate in Hz."""

    wave: Tensor
    lengths: Tensor
    names: list[str]
    sample_rate: int


def preview(options: Options, tell: Callable[[Path], None] = lambda path: None) -> Path:
    """Write one picture for each method, an overview, the mixed sounds and a page that shows them all.

    Args:
        options: what to do.
        tell: called with each file that was written.

    Returns:
        The page, `index.html` in the folder.

    Raises:
        AudioError: a file cannot be read.
        ValueError: fewer than two files, an unknown name, a number out of range.
        ImportError: matplotlib is not installed.
        OSError: the folder cannot be written to.
    """
    from randommix_audio import LogMel

    methods = chosen_methods(options.methods, options.wave)
    _check(options)
    front_end = LogMel.preset(options.preset)
    clips = read_clips(options.files, front_end.sample_rate, options.seconds)
    out = Path(options.out)

    def write(name: str, content: bytes | str) -> None:
        tell(write_atomically(out / name, content))

    with torch.no_grad():
        if options.wave:
            x, lengths = clips.wave, clips.lengths
        else:
            x, lengths = front_end(clips.wave, clips.lengths)
        overview = png(
            gallery(
                *x[:2],
                clips.names[:2],
                methods if options.methods else [m for m in methods if m != "randommix"],
                seed=options.seed,
                variant=options.variant,
                lengths=lengths[:2].tolist(),
                front_end=front_end,
            )
        )
        write("overview.png", overview)
        sections = [
            Section(
                "Overview",
                "Every method on the first two clips, with shares near one half. Weights: 1 (yellow) takes the clip, "
                "0 (violet) the partner.",
                overview,
                f"{clips.names[0]} mixed with {clips.names[1]} by every method",
            ),
            Section("Clips", sounds=_originals(clips, options.rows)),
        ]
        for method in methods:
            sections.append(_method_section(method, x, lengths, clips, front_end, options, write))
    settings = (
        f"{len(clips.names)} clips at {clips.sample_rate} Hz; mixing of {'waveforms' if options.wave else 'log-mel spectrograms'}"
        f"{'' if options.wave else f' (preset {options.preset})'}; alpha {options.alpha:g}, drawn per {options.per}, "
        f"variant {options.variant}, seed {options.seed}"
    )
    write("index.html", page("Mixed clips", settings, sections))
    return out / "index.html"
