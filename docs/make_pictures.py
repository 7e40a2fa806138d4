"""Make the pictures of docs/pictures from four clips: `python docs/make_pictures.py yes.wav no.wav six.wav stop.wav`.

Each is named after the folder it lies in, which is the word in Speech Commands. Co-Mixup mixes all four, everything
else the first two.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

import randommix_audio as rma
from randommix_audio.files import write_atomically
from randommix_audio.viewing.figure import small_png
from randommix_audio.viewing.gallery import methods_to_show
from randommix_audio.viewing.preview import Clips, read_clips

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = Path(__file__).parent / "pictures"
MORE = ("cutout", "saliencymix", "puzzlemix", "comixup", "manifoldmix", "patchup")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs=4, metavar="CLIP", help="four audio files, one for each word")
    files = parser.parse_args().clips
    words = [Path(file).absolute().parent.name for file in files]
    logmel = rma.LogMel.preset("whisper")
    clips = read_clips(files, logmel.sample_rate, seconds=1.0)
    for name, figure in figures(clips, words, logmel).items():
        print(write_atomically(PICTURES / f"{name}.png", small_png(figure, dpi=90)))


def figures(clips: Clips, words: list[str], logmel: rma.LogMel) -> dict[str, Figure]:
    """All pictures by name."""
    x, frames = logmel(clips.wave, clips.lengths)

    def of_two(*methods: str | rma.Mixer) -> Figure:
        return rma.viewing.gallery(x[0], x[1], words[:2], methods, front_end=logmel, lengths=frames[:2].tolist())

    def of_plan(count: int, plan: rma.MixPlan, saliency: str | None = None) -> Figure:
        known = {"front_end": logmel, "lengths": frames[:count], "saliency": saliency}
        return rma.viewing.show(x[:count], plan, names=words[:count], **known)

    randommix = rma.RandomMix(per="row", pairing="flip")
    plan_of_two = randommix.plan(x[:2], lengths=frames[:2], generator=torch.Generator().manual_seed(93))
    plan_of_four = rma.CoMixup().plan(x, lengths=frames, generator=torch.Generator().manual_seed(10))
    pair = {"pairing": "flip"}
    return {
        "methods": of_two(*(name for name in methods_to_show() if name not in MORE)),
        "more_methods": of_two(*MORE),
        "cutout": of_two("cutout", rma.Cutout(axes="time", count=3, size=0.1, fill=logmel.pad_value)),
        "saliencymix": of_two("saliencymix", rma.SaliencyMix(saliency="spectral_residual", **pair)),
        "puzzlemix": of_two(rma.PuzzleMix(blocks=8, **pair), rma.PuzzleMix(blocks=8, eps=0.05, **pair)),
        "comixup": of_plan(4, plan_of_four, saliency="energy"),
        "manifoldmix": of_two("manifoldmix"),
        "patchup": of_two("patchup", rma.PatchUp(mode="hard", **pair)),
        "randommix": of_plan(2, plan_of_two),
        "waveforms": rma.viewing.gallery(
            clips.wave[0], clips.wave[1], words[:2], ["mixup", "time_cutmix"], seed=7, sample_rate=logmel.sample_rate
        ),
    }


if __name__ == "__main__":
    main()
