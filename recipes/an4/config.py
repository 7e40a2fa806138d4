"""The options of the AN4 recipe: `python -m recipes.an4.train --help` prints them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import randommix_audio as rma
from recipes.shared.console import UserError
from recipes.shared.options import Training
from recipes.shared.spec_augment import SpecAugment

SETTINGS = ("none", "mixup", "freq_cutmix", "randommix")
MixerName = Literal["none", "mixup", "freq_cutmix", "randommix"]


@dataclass
class Config(Training):
    """Train a speech recogniser with CTC on characters.

    Args:
        data: folder made by `python -m data_prep.an4`.
        name: name of the run, its folder is runs/<name>; null makes one of configuration, setting and seed.
        runs: folder of all runs.
        resume: auto goes on with a run that is there; no refuses to touch it.
        preset: front end by name, see randommix_audio.LogMel.preset.
        front_end: arguments of the front end that differ from the preset.
        width: channels of the encoder.
        blocks: residual blocks of the encoder.
        kernel: frames (of 40 ms) that a block's convolution sees, odd.
        dropout: probability of dropping a value inside the blocks.
        mixer: how utterances are mixed; none leaves them as they are.
        mix_p: share of the rows of a batch that are mixed.
        mix_until: share of the training after which nothing is mixed any more.
        mixer_args: further arguments of the mixer, e.g. {alpha: 0.5, length_policy: anchor}.
        candidates: methods that randommix chooses from, for each row.
        weights: how often randommix chooses each of them, relative to the others.
        spec_augment: masks of SpecAugment.
        spec_augment_order: whether SpecAugment comes before mixing, so that other parts are masked in each of two mixed
            utterances, or after. What is masked has no part in the weights of the transcripts.
        speeds: in every epoch each utterance is heard at one of these, 1 is as recorded.
        bucket_jitter: how far the lengths of a batch may differ, relative; a large value gives batches at random.
        average_last: epochs at the end of the training whose weights are averaged, as a further model to test.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: 32-true, bf16-mixed or 16-mixed (CUDA only).
        compile: run the model through torch.compile.
        deterministic: use deterministic kernels (on CUDA a resumed run equals an undisturbed one only so).
        threads: threads of torch on the CPU; null leaves torch's choice.
        pictures: draw curves and mixed utterances at the end.
        epochs: passes over the training set.
        batch_size: utterances of a batch, on each process.
        optimizer: sgd or adamw.
        lr: the highest learning rate.
        momentum: momentum of sgd, beta1 of adamw.
        nesterov: look ahead (sgd only).
        weight_decay: pull of the weights towards 0.
        decay_all: weight decay for biases and batch norm too.
        schedule: cosine or constant.
        warmup_epochs: epochs of linear rise of the learning rate.
        clip_norm: upper limit of the gradient's norm; null for none.
        label_smoothing: not used with CTC, must be 0.
        ema_decay: decay of the averaged weights, which are then the ones that count; null for none.
        seed: of weights, order, augmentation and mixing.
    """

    data: str = "data/an4/prepared"
    name: str | None = None
    runs: str = "runs"
    resume: Literal["no", "auto"] = "no"
    preset: str = "nemo"
    front_end: dict[str, Any] = field(default_factory=lambda: {"n_mels": 64})
    width: int = 192
    blocks: int = 6
    kernel: int = 15
    dropout: float = 0.15
    mixer: MixerName = "none"
    mix_p: float = 0.3
    mix_until: float = 0.9
    mixer_args: dict[str, Any] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=lambda: ["mixup", "freq_cutmix"])
    weights: list[float] = field(default_factory=lambda: [1.0, 1.0])
    spec_augment: SpecAugment = field(default_factory=SpecAugment)
    spec_augment_order: Literal["before", "after"] = "before"
    speeds: list[float] = field(default_factory=lambda: [1.0])
    bucket_jitter: float = 0.2
    average_last: int = 5
    device: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = False
    deterministic: bool = False
    threads: int | None = None
    pictures: bool = True
    epochs: int = 45
    batch_size: int = 16
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = 3e-3
    weight_decay: float = 1e-2
    decay_all: bool = False
    warmup_epochs: float = 6.0
    clip_norm: float | None = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (self.name in ("", ".", "..") or set(self.name) & set("/\\\0")):
            raise UserError(f"name must be the name of a folder inside {self.runs}, got {self.name!r}")
        for name in ("width", "blocks", "kernel", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if self.kernel % 2 == 0:
            raise UserError(f"kernel must be odd, got {self.kernel}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must lie in [0, 1), got {self.dropout}")
        for name in ("mix_p", "mix_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not self.speeds or not all(0.5 <= speed <= 2 for speed in self.speeds):
            raise UserError(f"speeds must be numbers of 0.5 to 2, got {self.speeds}")
        if not self.bucket_jitter >= 0:
            raise UserError(f"bucket_jitter must not be negative, got {self.bucket_jitter}")
        if not 0 <= self.average_last <= self.epochs:
            raise UserError(f"average_last must be 0 to epochs, {self.epochs}, got {self.average_last}")
        if self.label_smoothing:
            raise UserError("label_smoothing is not for CTC: leave it at 0")

    @property
    def setting(self) -> str:
        """What a table of results compares: the mixer and SpecAugment."""
        parts = [*["specaugment"] * self.spec_augment.masks_anything, *[self.mixer] * (self.mixer != "none")]
        return "+".join(parts) or "none"

    def run_name(self, configuration: str) -> str:
        """The name given, or `<configuration>-<setting>-s<seed>`."""
        return self.name or "-".join(part for part in (configuration, self.setting, f"s{self.seed}") if part)

    def plain(self) -> dict[str, Any]:
        """All options as nested dictionaries."""
        return dataclasses.asdict(self)


def make_mixer(config: Config, fill: float = 0.0) -> rma.Mixer:
    """The mixer that the options name, for features (B, T, F), drawing for each row.

    Args:
        config: the options.
        fill: what stands behind the end of an utterance.

    Raises:
        UserError: for an argument that the mixer lacks, or a value that it refuses.
    """
    until = config.mix_until
    schedule = [[0.0, config.mix_p], [until, config.mix_p], [until, 0.0]] if until < 1 else config.mix_p
    arguments: dict[str, Any] = {"layout": "BTF", "per": "row", "p": schedule, "fill": fill}
    if config.mixer == "randommix":
        arguments |= {"candidates": config.candidates, "weights": config.weights}
        if other := sorted(set(config.candidates) - {"mixup", "freq_cutmix"}):
            raise UserError(f"candidates: {other[0]} is not for transcripts: choose from mixup, freq_cutmix")
    if taken := sorted(set(config.mixer_args) & (arguments.keys() | {"domain"})):
        raise UserError(f"mixer_args: {taken[0]} is ruled by the recipe")
    try:
        return rma.build(config.mixer, **(arguments | config.mixer_args))
    except (TypeError, ValueError) as error:
        raise UserError(f"mixer {config.mixer}: {error}") from error
