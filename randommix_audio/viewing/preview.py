"""What `randommix-audio preview` does: mix the user's own files by every method, and show and write the result."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from randommix_audio.data import read
from randommix_audio.draws import step_generator
from randommix_audio.features import LogMel
from randommix_audio.files import write_atomically
from randommix_audio.mixers import MIXERS, Mixer
from randommix_audio.plan import METHODS, MixPlan
from randommix_audio.viewing.captions import share_text
from randommix_audio.viewing.figure import blank, small_png
from randommix_audio.viewing.gallery import gallery, mixer_for
from randommix_audio.viewing.mixes import rows_to_show, show
from randommix_audio.viewing.page import DESCRIPTIONS, Section, Sound, page

# Mixing that makes sense sample by sample; the others need a frequency axis.
WAVE_METHODS = ("mixup", "time_cutmix")
MOST_PLAYERS = 20  # a page with the sound of a whole corpus in it would not open


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
        alpha: both parameters of the Beta distribution of the share; None: each method's own.
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
    alpha: float | None = None
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
    # Everything that can be wrong with the options is found before the files are read.
    _check(options)
    front_end = LogMel.preset(options.preset)
    fill = 0.0 if options.wave else front_end.pad_value
    mixers = {
        method: mixer_for(
            method,
            alpha=options.alpha,
            variant=options.variant,
            per=options.per,
            pairing="derangement",
            fill=fill,
        )
        for method in chosen_methods(options.methods, options.wave)
    }
    blank(1, 1)
    clips = read_clips(options.files, front_end.sample_rate, options.seconds)
    with torch.no_grad():
        x, lengths = (clips.wave, clips.lengths) if options.wave else front_end(clips.wave, clips.lengths)
    job = _Preview(options, clips, x, lengths, front_end, tell)
    sections = [job.overview(list(mixers)), job.originals()]
    sections += [job.mixes(method, mixer) for method, mixer in mixers.items()]
    return job.write("index.html", page("Mixed clips", job.settings(), sections))


def chosen_methods(wanted: Sequence[str] | None, wave: bool) -> list[str]:
    """The methods to show, each once, in the order asked for.

    Raises:
        ValueError: there is no such method, or it cannot mix waveforms.
    """
    fitting = [*WAVE_METHODS] if wave else [name for name in MIXERS if name != "none"]
    for name in wanted or ():
        if name not in MIXERS:
            raise ValueError(f"no method is called {name!r}; choose from {', '.join(MIXERS)}")
        if wave and name not in (*WAVE_METHODS, "none"):
            raise ValueError(f"{name} needs a spectrogram; waveforms are mixed by {' or '.join(WAVE_METHODS)}")
    return list(dict.fromkeys(wanted)) if wanted else fitting


def read_clips(files: Sequence[str], sample_rate: int, seconds: float) -> Clips:
    """Read the start of each file at one rate; shorter files are padded with silence.

    Raises:
        AudioError: a file cannot be read.
    """
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
    soundfile.write(buffer, np.rint(samples * 32767).astype(np.int16), sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _check(options: Options) -> None:
    if len(options.files) < 2:
        raise ValueError(f"mixing needs at least two audio files, got {len(options.files)}")
    if not options.seconds > 0:
        raise ValueError(f"seconds must be above 0, got {options.seconds:g}")
    if options.rows < 1:
        raise ValueError(f"rows must be at least 1, got {options.rows}")


@dataclass(frozen=True)
class _Preview:
    """The parts of the page; `x` is the batch that is mixed, with `lengths` in its frames or samples."""

    options: Options
    clips: Clips
    x: Tensor
    lengths: Tensor
    front_end: LogMel
    tell: Callable[[Path], None]

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file into the folder and tell about it."""
        path = write_atomically(Path(self.options.out) / name, content)
        self.tell(path)
        return path

    def settings(self) -> str:
        """One line that says how the page was made."""
        options = self.options
        what = "waveforms" if options.wave else f"log-mel spectrograms (preset {options.preset})"
        alpha = "the alpha of each method" if options.alpha is None else f"alpha {options.alpha:g}"
        return (
            f"{len(self.clips.names)} clips at {self.clips.sample_rate} Hz; {what} mixed with {alpha}, "
            f"drawn for each {options.per}, variant {options.variant}, seed {options.seed}"
        )

    def overview(self, methods: list[str]) -> Section:
        """Every method on the first two clips."""
        figure = gallery(
            self.x[0],
            self.x[1],
            self.clips.names[:2],
            [method for method in methods if method not in ("none", "randommix")] or methods,
            seed=self.options.seed,
            variant=self.options.variant,
            lengths=self.lengths[:2].tolist(),
            front_end=self.front_end,
        )
        picture = small_png(figure)
        self.write("overview.png", picture)
        text = (
            "Every method on the first two clips, at a share near 60 %. Weights: 1 takes the clip itself, "
            "0 the partner. Grey is what lies beyond the end of a clip. What methods that follow saliency go by is "
            "outlined."
        )
        described = f"{self.clips.names[0]} mixed with {self.clips.names[1]}, a line for each method"
        return Section("Overview", text, picture, described)

    def originals(self) -> Section:
        """The first clips as they were read."""
        clips = self.clips
        several = list(zip(clips.wave, clips.lengths, clips.names, strict=True))[:MOST_PLAYERS]
        return Section("Clips", sounds=[Sound(name, wav_bytes(w[:n], clips.sample_rate)) for w, n, name in several])

    def mixes(self, method: str, mixer: Mixer) -> Section:
        """Rows of the batch mixed by one method: the picture and, of waveforms, the sound."""
        # The same draws whatever other methods are asked for, and other draws than theirs.
        generator = step_generator(self.options.seed, step=METHODS.index(method))
        plan = mixer.plan(self.x, lengths=self.lengths, generator=generator)
        names, rows = self.clips.names, rows_to_show(plan, self.options.rows)
        followed = getattr(mixer, "saliency", None)
        figure = show(self.x, plan, rows, names, front_end=self.front_end, lengths=self.lengths, saliency=followed)
        picture = small_png(figure)
        self.write(f"{method}.png", picture)
        shares = [share_text(names, plan.sources[:, row], plan.share[:, row]) for row in rows]
        described = f"{method}: clips, partners, weights and mixes of {'; '.join(shares)}"
        sounds = self.mixed_sounds(method, plan, rows, shares) if self.options.wave else []
        return Section(method, DESCRIPTIONS.get(method, ""), picture, described, sounds)

    def mixed_sounds(self, method: str, plan: MixPlan, rows: Sequence[int], shares: Sequence[str]) -> list[Sound]:
        """Write the chosen rows of a mix of waveforms as WAV files, numbered as the files that were given."""
        mixed = plan.apply(self.x)
        ends = self.lengths if plan.lengths is None else plan.lengths
        sounds = []
        for row, share in zip(rows, shares, strict=True):
            wav = wav_bytes(mixed[row, : ends[row]], self.clips.sample_rate)
            path = self.write(f"{method}_{row + 1}.wav", wav)
            sounds.append(Sound(f"{path.name}: {share}", wav))
        return sounds
