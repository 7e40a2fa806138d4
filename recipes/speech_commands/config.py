"""The options of the Speech Commands recipe: `python -m recipes.speech_commands.train --help` prints them."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field
from typing import Any, Literal

import randommix_audio as rma
from recipes.shared.console import UserError
from recipes.shared.trainer import Training
from recipes.speech_commands.augment import Augmentation

MixerName = Literal[rma.MIXERS]  # type: ignore[valid-type]


@dataclass
class Config(Training):
    """Train a keyword recogniser.

    Args:
        data: folder made by `python -m data_prep.speech_commands`.
        name: name of the run, its folder is runs/<name>; null makes one of configuration, mixer, width and seed.
        runs: folder of all runs.
        resume: auto goes on with a run that is there; no refuses to touch it.
        preset: front end by name, see randommix_audio.LogMel.preset.
        front_end: arguments of the front end that differ from the preset, e.g. {n_mels: 40}.
        width: channels of the first stage of PreAct-ResNet18; 64 is the paper's.
        dropout: probability of dropping a pooled feature.
        mixer: how clips are mixed; none leaves them as they are.
        mixer_args: arguments of the mixers, e.g. {alpha: 1.0, per: row, p: 0.5}; those that the chosen one lacks are
            left out.
        candidates: methods that randommix chooses from.
        weights: how often randommix chooses each of them, relative to the others.
        mix_silence: whether silent clips may be mixed.
        augment: what is done to each clip before mixing.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: 32-true, bf16-mixed or 16-mixed (CUDA only).
        compile: run the model through torch.compile.
        deterministic: use deterministic kernels (on CUDA a resumed run equals an undisturbed one only so).
        threads: threads of torch on the CPU; null leaves torch's choice.
        resident: keep the clips on the device; auto does where they fit.
        pictures: draw curves, confusion matrix and mixed clips at the end.
        workers: processes that read the clips where they are not resident.
        epochs: passes over the training set.
        batch_size: clips of a batch, on each process.
        optimizer: sgd or adamw.
        lr: the highest learning rate.
        momentum: momentum of sgd, beta1 of adamw.
        nesterov: look ahead (sgd only).
        weight_decay: pull of the weights towards 0.
        decay_all: weight decay for biases and batch norm too.
        schedule: cosine or constant.
        warmup_epochs: epochs of linear rise of the learning rate.
        clip_norm: upper limit of the gradient's norm; null for none.
        label_smoothing: share of the target that is spread over all classes.
        ema_decay: decay of the averaged weights, which are then the ones that count; null for none.
        seed: of weights, order, augmentation and mixing.
    """

    data: str = "data/sc/prepared/kaggle12"
    name: str | None = None
    runs: str = "runs"
    resume: Literal["no", "auto"] = "no"
    preset: str = "randommix"
    front_end: dict[str, Any] = field(default_factory=dict)
    width: int = 64
    dropout: float = 0.0
    mixer: MixerName = "randommix"
    mixer_args: dict[str, Any] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=lambda: ["mixup", "cutmix", "resizemix", "fmix"])
    weights: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0, 1.0])
    mix_silence: bool = True
    augment: Augmentation = field(default_factory=Augmentation)
    device: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = False
    deterministic: bool = False
    threads: int | None = None
    resident: Literal["auto", "yes", "no"] = "auto"
    workers: int = 0
    pictures: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is not None and (self.name in ("", ".", "..") or set(self.name) & set("/\\\0")):
            raise UserError(f"name must be the name of a folder inside {self.runs}, got {self.name!r}")
        for name in ("width", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if self.workers < 0:
            raise UserError(f"workers must not be negative, got {self.workers}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must lie in [0, 1), got {self.dropout}")

    def run_name(self, configuration: str) -> str:
        """The name given, or `<configuration>-<mixer>-w<width>-s<seed>`."""
        return self.name or "-".join(
            part for part in (configuration, self.mixer, f"w{self.width}", f"s{self.seed}") if part
        )

    def plain(self) -> dict[str, Any]:
        """All options as nested dictionaries."""
        return dataclasses.asdict(self)


def make_mixer(config: Config) -> Any:
    """The mixer that the options name, with those of mixer_args that it knows.

    Raises:
        UserError: for an unknown mixer, an argument that no mixer has, or a value that the mixer refuses.
    """
    if config.mixer not in rma.MIXERS:
        raise UserError(f"no mixer is called {config.mixer}: choose from {', '.join(rma.MIXERS)}")
    own = _arguments(config.mixer)
    known = set().union(*(_arguments(name) for name in rma.MIXERS))
    if unknown := sorted(set(config.mixer_args) - known):
        raise UserError(f"mixer_args: no mixer has an argument {unknown[0]}: choose from {', '.join(sorted(known))}")
    arguments = {name: value for name, value in config.mixer_args.items() if name in own}
    if config.mixer == "randommix":
        arguments = {"candidates": config.candidates, "weights": config.weights} | arguments
    try:
        return rma.build(config.mixer, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"mixer {config.mixer}: {error}") from error


def _arguments(mixer: str) -> set[str]:
    """Names of what a mixer's own constructor takes, and of what all mixers take."""
    constructors = (type(rma.build(mixer)).__init__, rma.Mixer.__init__)
    parameters = [p for c in constructors for p in inspect.signature(c).parameters.values()]
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"}
