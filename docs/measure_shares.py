"""Measure how much each method mixes of real clips: `python docs/measure_shares.py FOLDER`, a folder of words.

Prints the table of docs/mixing.md: for each method the mean share of the row itself and its standard deviation between
rows, how many rows have no other source, how many rows a mix consists of, and what a mix shows of the energy of its
sources, each of which has 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import randommix_audio as rma
from randommix_audio.saliency import energy
from randommix_audio.viewing.gallery import methods_to_show, mixer_for
from randommix_audio.viewing.preview import read_clips

BATCHES, ROWS = 40, 32


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="a folder for each word, with its clips")
    parser.add_argument("--preset", default="whisper", help="front end")
    arguments = parser.parse_args()
    logmel = rma.LogMel.preset(arguments.preset)
    files = sorted(str(file) for file in Path(arguments.folder).glob("[!_]*/*.*") if file.suffix in (".wav", ".flac"))
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(files), generator=generator)[: BATCHES * ROWS].tolist()
    batches = []
    for first in range(0, len(chosen), ROWS):
        clips = read_clips([files[i] for i in chosen[first : first + ROWS]], logmel.sample_rate, seconds=1.0)
        batches.append(logmel(clips.wave, clips.lengths))
    print(f"{len(chosen)} clips of {len(files)}, preset {arguments.preset}")
    print("| method | own share | its deviation | alone | rows in a mix | energy shown |\n|---|---|---|---|---|---|")
    for method in methods_to_show():
        mixer = mixer_for(method, per="row", pairing="derangement")
        print(f"| `{method}` | {row_of(mixer, batches, generator)} |")


def row_of(mixer: rma.Mixer, batches: list[tuple[torch.Tensor, torch.Tensor]], generator: torch.Generator) -> str:
    """What the table says of a method."""
    own, sources, shown = [], [], []
    for x, frames in batches:
        plan = mixer.plan(x, lengths=frames, generator=generator)
        salient = energy(x[:, None], frames)
        inside = torch.arange(x.shape[2]) < frames[:, None, None]
        salient = torch.where(inside, salient, 0)
        own.append(plan.lam)
        sources.append((plan.share > 0).sum(0).float())
        shown.append(plan.apply(salient / salient.sum((1, 2), keepdim=True)).sum((1, 2)))
    lam, count, energies = (torch.cat(values) for values in (own, sources, shown))
    alone = f"{100 * (count == 1).float().mean():.0f} %"
    return f"{lam.mean():.2f} | {lam.std():.2f} | {alone} | {count.mean():.2f} | {energies.mean():.2f}"


if __name__ == "__main__":
    main()
