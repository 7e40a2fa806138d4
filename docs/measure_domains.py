"""Measure how far mixed features are from mixed sounds: `python docs/measure_domains.py FOLDER`, a folder of words.

Prints the numbers of docs/mixing.md: the difference in decibels between a mix of two clips' log-mels, half of each, and
the front end's log-mel of the two sounds played together, each with half of its power; and how loud pairs of clips are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import randommix_audio as rma
from randommix_audio.mixers.loudness import Hearing, loudest_power
from randommix_audio.viewing.preview import read_clips

CLIPS = 512


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="a folder for each word, with its clips")
    parser.add_argument("--preset", default="kaldi", help="front end")
    arguments = parser.parse_args()
    logmel = rma.LogMel.preset(arguments.preset)
    files = sorted(str(file) for file in Path(arguments.folder).glob("[!_]*/*.*") if file.suffix in (".wav", ".flac"))
    chosen = torch.randperm(len(files), generator=torch.Generator().manual_seed(0))[:CLIPS].tolist()
    clips = read_clips([files[i] for i in chosen], logmel.sample_rate, seconds=1.0)
    x, frames = logmel(clips.wave, clips.lengths)
    together = logmel((clips.wave + clips.wave.roll(1, 0)) * 0.5**0.5)
    both = torch.arange(x.shape[2]) < torch.minimum(frames, frames.roll(1))[:, None, None]
    power = logmel.from_power((logmel.to_power(x) + logmel.to_power(x.roll(1, 0))) / 2)
    print(f"{len(chosen)} clips of {len(files)}, preset {arguments.preset}")
    for name, mixed in (("logmel", (x + x.roll(1, 0)) / 2), ("power", power)):
        difference = (mixed - together).abs().mul(logmel.decibels_per_unit())[both.expand_as(x)]
        print(
            f"{name}: {difference.mean():.1f} dB from the sound on average, {difference.median():.1f} dB in the median"
        )
    weighting = torch.tensor(Hearing(logmel.sample_rate).weighting)
    level = 10 * loudest_power(clips.wave, clips.lengths, weighting).log10()
    apart = (level - level.roll(1)).abs()
    print(f"two clips are {apart.mean():.0f} dB apart on average, {100 * (apart > 10).float().mean():.0f} % over 10 dB")


if __name__ == "__main__":
    main()
