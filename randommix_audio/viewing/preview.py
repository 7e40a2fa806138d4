"""What `randommix-audio preview` does: mix the user's own files by every method, and show and write the result."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from randommix_audio.draws import step_generator
from randommix_audio.plan import METHODS
from randommix_audio.viewing.figure import blank, small_png
from randommix_audio.viewing.files import write_atomically
from randommix_audio.viewing.mixes import gallery, mixer_for, share_text, show
from randommix_audio.viewing.page import DESCRIPTIONS, Section, Sound, page

if TYPE_CHECKING:
    from randommix_audio.features import LogMel

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

    _check(options)
    methods = chosen_methods(options.methods, options.wave)
    front_end = LogMel.preset(options.preset)
    blank(1, 1)  # a missing matplotlib is better known before a long reading of files
    clips = read_clips(options.files, front_end.sample_rate, options.seconds)
    with torch.no_grad():
        x, lengths = (clips.wave, clips.lengths) if options.wave else front_end(clips.wave, clips.lengths)
    writer = _Writer(Path(options.out), tell)
    sections = [
        _overview(methods, x, lengths, clips, front_end, options, writer),
        _originals(clips, options.rows),
    ]
    sections += [_mixes(method, x, lengths, clips, front_end, options, writer) for method in methods]
    return writer.write("index.html", page("Mixed clips", _settings(options, clips), sections))


def chosen_methods(wanted: Sequence[str] | None, wave: bool) -> list[str]:
    """The methods to show, each once, in the order asked for.

    Raises:
        ValueError: there is no such method, or it cannot mix waveforms.
    """
    from randommix_audio import MIXERS

    fitting = [*WAVE_METHODS] if wave else [name for name in MIXERS if name != "none"]
    for name in wanted or ():
        if name not in MIXERS:
            raise ValueError(f"no method is called {name!r}; choose from {', '.join(MIXERS)}")
        if wave and name not in (*WAVE_METHODS, "none"):
            raise ValueError(
                f"{name} needs a spectrogram; waveforms are mixed by {' or '.join(WAVE_METHODS)}"
            )
    return list(dict.fromkeys(wanted)) if wanted else fitting


def read_clips(files: Sequence[str], sample_rate: int, seconds: float) -> Clips:
    """Read the start of each file at one rate; shorter files are padded with silence.

    Raises:
        AudioError: a file cannot be read.
    """
    from randommix_audio.data import read

    waves = [torch.from_numpy(read(path, sample_rate=sample_rate, duration=seconds)[0]) for path in files]
    lengths = torch.tensor([len(wave) for wave in waves])
    return Clips(pad_sequence(waves, batch_first=True), lengths, names_of(files), sample_rate)


def names_of(files: Sequence[str]) -> list[str]:
    """The files' names without ending; with their folder's name where they lie in several: it often is the word."""
    paths = [Path(file).absolute() for file in files]
    several = len({path.parent for path in paths}) > 1
    return [f"{path.parent.name}/{path.stem}" if several else path.stem for path in paths]


def wav_bytes(wave: Tensor, sample_rate: int) -> bytes:
    """A (N,) waveform as a 16-bit WAV file; one that exceeds full scale is made quieter as a whole, not clipped."""
    samples = wave.detach().cpu().double().numpy()
    samples = samples / max(1.0, float(np.abs(samples).max(initial=0.0)))
    buffer = io.BytesIO()
    soundfile.write(
        buffer, np.rint(samples * 32767).astype(np.int16), sample_rate, format="WAV", subtype="PCM_16"
    )
    return buffer.getvalue()


@dataclass(frozen=True)
class _Writer:
    """Writes files into the folder and tells about each."""

    folder: Path
    tell: Callable[[Path], None]

    def write(self, name: str, content: bytes | str) -> Path:
        path = write_atomically(self.folder / name, content)
        self.tell(path)
        return path


def _check(options: Options) -> None:
    if len(options.files) < 2:
        raise ValueError(f"mixing needs at least two audio files, got {len(options.files)}")
    if not options.seconds > 0:
        raise ValueError(f"seconds must be above 0, got {options.seconds:g}")
    if options.rows < 1:
        raise ValueError(f"rows must be at least 1, got {options.rows}")


def _settings(options: Options, clips: Clips) -> str:
    """One line that says how the page was made."""
    what = "waveforms" if options.wave else f"log-mel spectrograms (preset {options.preset})"
    return (
        f"{len(clips.names)} clips at {clips.sample_rate} Hz; {what} mixed with alpha {options.alpha:g}, "
        f"drawn for each {options.per}, variant {options.variant}, seed {options.seed}"
    )


def _overview(
    methods: Sequence[str],
    x: Tensor,
    lengths: Tensor,
    clips: Clips,
    front_end: LogMel,
    options: Options,
    writer: _Writer,
) -> Section:
    """Every method on the first two clips."""
    single = [method for method in methods if method not in ("none", "randommix")] or methods
    figure = gallery(
        x[0],
        x[1],
        clips.names[:2],
        single,
        seed=options.seed,
        variant=options.variant,
        lengths=lengths[:2].tolist(),
        front_end=front_end,
    )
    picture = small_png(figure)
    writer.write("overview.png", picture)
    text = (
        "Every method on the first two clips, at a share near 60 %. Weights: 1 takes the clip itself, "
        "0 the partner. A dashed line marks the end of the longer clip."
    )
    return Section(
        "Overview", text, picture, f"{clips.names[0]} mixed with {clips.names[1]}, a line for each method"
    )


def _originals(clips: Clips, rows: int) -> Section:
    """The clips as they were read, as many as the pictures show."""
    sounds = [
        Sound(name, wav_bytes(wave[:length], clips.sample_rate))
        for wave, length, name in zip(clips.wave, clips.lengths, clips.names, strict=True)
    ]
    return Section("Clips", sounds=sounds[:rows])


def _mixes(
    method: str,
    x: Tensor,
    lengths: Tensor,
    clips: Clips,
    front_end: LogMel,
    options: Options,
    writer: _Writer,
) -> Section:
    """The first rows of the batch mixed by one method: picture, shares and, of waveforms, the sound."""
    fill = 0.0 if options.wave else front_end.pad_value
    mixer = mixer_for(
        method,
        alpha=options.alpha,
        variant=options.variant,
        per=options.per,
        pairing="derangement",
        fill=fill,
    )
    # The same draws whatever other methods are asked for, and other draws than theirs.
    generator = step_generator(options.seed, step=METHODS.index(method))
    plan = mixer.plan(x, lengths=lengths, generator=generator)
    picture = small_png(show(x, plan, options.rows, clips.names, front_end=front_end))
    writer.write(f"{method}.png", picture)
    mixed = plan.apply(x)
    ends = lengths if plan.lengths is None else plan.lengths
    sounds = []
    for row in range(min(options.rows, len(x))):
        text, wav = share_text(clips.names, plan.sources[:, row], plan.share[:, row]), None
        if options.wave:
            wav = wav_bytes(mixed[row, : ends[row]], clips.sample_rate)
            path = writer.write(f"{method}_{row + 1}.wav", wav)
            text = f"{path.name}: {text}"
        sounds.append(Sound(text, wav))
    return Section(
        method, DESCRIPTIONS.get(method, ""), picture, f"{method}: clips, partners, weights, mixes", sounds
    )
