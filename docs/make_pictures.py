"""Make the pictures of docs/pictures from two clips: `python docs/make_pictures.py yes.wav no.wav`.

Each is named after the folder it lies in, which is the word in Speech Commands.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import randommix_audio as rma
from randommix_audio.files import write_atomically
from randommix_audio.viewing.figure import small_png
from randommix_audio.viewing.preview import read_clips

PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs=2, metavar="CLIP", help="two audio files, one for each word")
    files = parser.parse_args().clips
    words = [Path(file).absolute().parent.name for file in files]
    logmel = rma.LogMel.preset("whisper")
    clips = read_clips(files, logmel.sample_rate, seconds=1.0)
    x, frames = logmel(clips.wave, clips.lengths)

    figures = {
        "methods": rma.viewing.gallery(x[0], x[1], words, front_end=logmel, lengths=frames.tolist()),
        "waveforms": rma.viewing.gallery(
            clips.wave[0], clips.wave[1], words, ["mixup", "time_cutmix"], sample_rate=logmel.sample_rate
        ),
    }
    mixer = rma.RandomMix(per="row", pairing="flip")
    plan = mixer.plan(x, lengths=frames, generator=torch.Generator().manual_seed(93))
    figures["randommix"] = rma.viewing.show(x, plan, names=words, front_end=logmel, lengths=frames)
    for name, figure in figures.items():
        print(write_atomically(PICTURES / f"{name}.png", small_png(figure, dpi=90)))


if __name__ == "__main__":
    main()
