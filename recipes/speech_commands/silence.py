"""Words in noise that are taken for silence: `python -m recipes.speech_commands.silence --checkpoint runs/a/best.ckpt`.

A network that was trained on words mixed with silent clips may learn that a word in noise is silence; see
docs/mixing.md, "Silence as a class".
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from randommix_audio.evaluation.noises import add_noise, as_float, white
from randommix_audio.evaluation.rows import row_keys
from recipes.shared import console
from recipes.shared.console import UserError
from recipes.shared.devices import exact, make_fabric
from recipes.speech_commands.evaluate import load_with_corpus
from recipes.speech_commands.robustness import speech_set

SILENCE = ("silence", "_silence_")  # as the protocols kaggle12 and official12 call it


@dataclass
class Options:
    """Count the spoken test clips that a checkpoint takes for silence, clean and in white noise.

    Args:
        checkpoint: best.ckpt or last.ckpt of a run.
        data: folder made by `python -m data_prep.speech_commands`; null takes the one it was trained on.
        snrs: signal-to-noise ratios in dB.
        seed: of the noise.
        batch_size: clips of a batch.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    checkpoint: str
    data: str | None = None
    snrs: list[float] = field(default_factory=lambda: [20.0, 10.0, 0.0])
    seed: int = 0
    batch_size: int = 256
    device: str = "auto"


@torch.no_grad()
def taken_for_silence(options: Options) -> dict[str, float]:
    """The share of the spoken test clips that are taken for silence, "clean" and by SNR, the most noise last.

    Raises:
        UserError: where checkpoint and corpus do not fit, no class is silence, there are no spoken test clips, or
            batch_size is below 1.
    """
    device = make_fabric(options.device, "32-true").device
    model, _, data, task = load_with_corpus(options.checkpoint, options.data, device)
    if options.batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {options.batch_size}")
    silence = next((i for i, label in enumerate(task.labels) if label in SILENCE), None)
    if silence is None:
        raise UserError(f"{data}: has no class of silence, only {' '.join(task.labels)}")
    if not (task.split("test").target != silence).any():
        raise UserError(f"{data}: has no spoken test clips")
    clips = speech_set(task, "test", None)
    words = clips.part((clips.target != silence).nonzero()[:, 0])
    assert words.index is not None  # speech_set numbers them
    names = {"clean": None, **{f"{snr:g} dB": snr for snr in sorted(options.snrs, reverse=True)}}
    found = dict.fromkeys(names, 0)
    with exact():
        for wave, index in zip(
            words.wave.split(options.batch_size), words.index.split(options.batch_size), strict=True
        ):
            clean = as_float(wave.to(device))
            noise = white(row_keys(options.seed, "white", index.to(device)), clean.shape[1])
            for name, snr in names.items():
                heard = clean if snr is None else add_noise(clean, noise, snr, task.bank.sample_rate)
                found[name] += int((model(heard).argmax(1) == silence).sum())
    return {name: count / len(words) for name, count in found.items()}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.speech_commands.silence", argv)
    found = taken_for_silence(options)
    print("words taken for silence: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in found.items()))


if __name__ == "__main__":
    console.run(main)
