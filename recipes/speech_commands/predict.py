"""Recognise words in files: `python -m recipes.speech_commands.predict --checkpoint runs/a/best.ckpt my.wav`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_prep.command import one_line
from randommix_audio.data import AudioError, fit, info, read
from recipes.shared import console
from recipes.shared.console import UserError
from recipes.shared.devices import make_fabric
from recipes.speech_commands.recogniser import Recogniser, load

WINDOWS = 64  # read and recognised at a time, so that an hour of audio needs no more memory than a minute


@dataclass
class Options:
    """Print the most likely words of audio files of any format, sample rate and channel count.

    A file no longer than the clips of the training gives one line; a longer one is cut into windows of that length.

    Args:
        files: the audio files.
        checkpoint: last.ckpt or best.ckpt of a run.
        top: how many words to print.
        step: seconds from one window to the next in longer files.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    files: list[str]
    checkpoint: str
    top: int = 3
    step: float = 0.5
    device: str = "auto"


@dataclass
class Found:
    """What was recognised in one window: from and to in seconds, and the probability of each label."""

    start: float
    end: float
    probabilities: Tensor


def windows(path: str, rate: int, samples: int, step: float, pad: str = "end") -> Iterator[tuple[float, np.ndarray]]:
    """Cut a file into windows of `samples` at `rate`, the last one padded with zeros.

    A file shorter than a window gets its zeros as the clips of the training did: at the end, or at both ends.

    Yields:
        Start in seconds, and (n, samples) float32 of up to WINDOWS windows from there on.

    Raises:
        AudioError: where the file cannot be used.
    """
    duration = info(path).duration
    count = 1 + max(0, int(np.ceil(round((duration - samples / rate) / step, 6))))
    hop = round(step * rate)
    for first in range(0, count, WINDOWS):
        many = min(WINDOWS, count - first)
        wave, _ = read(path, rate, start=first * step, duration=(many - 1) * step + samples / rate)
        needed = (many - 1) * hop + samples
        wave = fit(wave, needed, pad if count == 1 else "end") if len(wave) < needed else wave
        yield first * step, np.stack([wave[i * hop : i * hop + samples] for i in range(many)])


@torch.no_grad()
def predict(model: Recogniser, path: str, step: float = 0.5) -> Iterator[Found]:
    """Recognise the words of one file, window by window.

    Raises:
        AudioError: where the file cannot be used.
    """
    rate, samples = model.front_end.sample_rate, model.shape.samples
    device = next(model.parameters()).device
    length = info(path).duration
    for start, waves in windows(path, rate, samples, step, model.shape.pad):
        found = model(torch.from_numpy(waves).to(device)).softmax(dim=1).cpu()
        for i, probabilities in enumerate(found):
            begin = start + i * step
            yield Found(begin, min(begin + samples / rate, length), probabilities)


def line(path: str, found: Found, labels: list[str], top: int) -> str:
    """One line of output."""
    values, places = found.probabilities.topk(min(top, len(labels)))
    words = [f"{labels[i]} {value:.3f}" for value, i in zip(values.tolist(), places.tolist(), strict=True)]
    return f"{path}  {found.start:.2f}-{found.end:.2f} s  " + "  ".join(words)


def main(argv: list[str] | None = None) -> None:
    """Command line; goes on behind a file that cannot be used, and ends with exit code 2 then."""
    options, _ = console.parse(Options, "python -m recipes.speech_commands.predict", argv, positional="files")
    if options.top < 1 or not options.step > 0:
        raise UserError(f"top and step must be above 0, got {options.top} and {options.step}")
    model, _ = load(options.checkpoint, make_fabric(options.device, "32-true").device)
    bad: list[str] = []
    for path in options.files:
        try:
            for found in predict(model, path, options.step):
                print(line(path, found, model.labels, options.top), flush=True)
        except AudioError as error:
            bad.append(one_line(error))
    if bad:
        raise UserError("; ".join(bad))


if __name__ == "__main__":
    console.run(main)
