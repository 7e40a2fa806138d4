"""Write down what is said in files: `python -m recipes.an4.transcribe --checkpoint runs/a/average.ckpt my.wav`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from data_prep.command import one_line
from randommix_audio.data import AudioError, info, read
from recipes.an4.evaluate import decoder_of
from recipes.an4.recogniser import Decoder, Recogniser, load
from recipes.an4.text import DEFAULT_BEAM
from recipes.shared import console
from recipes.shared.console import UserError
from recipes.shared.devices import make_fabric

QUIET = 0.1  # seconds over which the level is taken where a file is cut


@dataclass
class Options:
    """Print what is said in audio files of any format, sample rate and channel count.

    A longer file is cut into pieces, each at the quietest place of the last third that a piece may have.

    Args:
        files: the audio files.
        checkpoint: last.ckpt, best.ckpt or average.ckpt of a run.
        decoder: greedy takes the likeliest symbol of each frame; beam searches for the likeliest transcript.
        beam: prefixes that the beam search keeps.
        seconds: longest piece that is recognised at a time.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    files: list[str]
    checkpoint: str
    decoder: Literal["greedy", "beam"] = "greedy"
    beam: int = DEFAULT_BEAM
    seconds: float = 15.0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise UserError(f"beam must be at least 1, got {self.beam}")
        if not 1 <= self.seconds < float("inf"):
            raise UserError(f"seconds must be at least 1, got {self.seconds}")


def quietest(wave: np.ndarray, first: int, width: int) -> int:
    """The middle of the quietest `width` samples of a waveform behind sample `first`."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave[first:], dtype=np.float64))])
    return first + int(np.argmin(energy[width:] - energy[:-width])) + width // 2


def pieces(path: str, rate: int, seconds: float) -> Iterator[tuple[float, np.ndarray]]:
    """Cut a file into pieces of at most `seconds`.

    Yields:
        Start in seconds, and (n,) float32 samples at `rate`.

    Raises:
        AudioError: where the file cannot be used.
    """
    duration, start = info(path).duration, 0.0
    while True:
        wave, _ = read(path, rate, start=start, duration=seconds)
        if start + seconds >= duration:
            yield start, wave
            return
        cut = quietest(wave, len(wave) * 2 // 3, round(QUIET * rate))
        yield start, wave[:cut]
        start += cut / rate


@torch.no_grad()
def transcribe(model: Recogniser, path: str, decoder: Decoder, seconds: float = 15.0) -> Iterator[str]:
    """What is said in a file, one line for each piece: path, from and to in seconds, text.

    Raises:
        AudioError: where the file cannot be used.
    """
    device = next(model.parameters()).device
    rate = model.front_end.sample_rate
    for start, wave in pieces(path, rate, seconds):
        lengths = torch.tensor([len(wave)], device=device)
        if model.front_end.frames(len(wave)) == 0:
            raise AudioError(path, f"is too short: {len(wave)} samples at {rate} Hz")
        (text,) = decoder(*model(torch.from_numpy(wave)[None].to(device), lengths))
        yield f"{path}  {start:.2f}-{start + len(wave) / rate:.2f} s  {text}"


def main(argv: list[str] | None = None) -> None:
    """Command line; goes on behind a file that cannot be used, and ends with exit code 2 then."""
    options, _ = console.parse(Options, "python -m recipes.an4.transcribe", argv, positional="files")
    model, _ = load(options.checkpoint, make_fabric(options.device, "32-true").device)
    decoder = decoder_of(model.characters, options.decoder, options.beam)
    bad: list[str] = []
    for path in options.files:
        try:
            for line in transcribe(model, path, decoder, options.seconds):
                print(line, flush=True)
        except AudioError as error:
            bad.append(one_line(error))
    if bad:
        raise UserError("; ".join(bad))


if __name__ == "__main__":
    console.run(main)
