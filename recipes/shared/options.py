"""Options that recipes have in common: how to train, and for classifiers also what is trained and how it is mixed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import randommix_audio as rma
from recipes.shared.console import UserError
from recipes.shared.models import LAYERS, ModelName

# No recipe may have this name for another type: jsonargparse looks up the types of a recipe's options here as well.
ClassifierMixer = Literal[rma.MIXERS]  # type: ignore[valid-type]

# The saliency that each paper's method follows.
SALIENCY = {"saliencymix": "energy", "puzzlemix": "gradient", "comixup": "gradient"}


@dataclass
class Training:
    """How to train; every recipe has these options.

    Args:
        epochs: passes over the training set.
        batch_size: rows of a batch, on each process.
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
        store_every: epochs from one checkpoint to the next; a run that was stopped repeats at most so many. More than 1
            pays where an epoch takes little longer than writing the weights.
        seed: of weights, order, augmentation and mixing.
    """

    epochs: int = 20
    batch_size: int = 256
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_all: bool = True
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: float = 0.0
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    store_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "store_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "weight_decay", "warmup_epochs", "seed"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("momentum", "label_smoothing", "ema_decay"):
            if (value := getattr(self, name)) is not None and not 0 <= value < 1:
                raise UserError(f"{name} must lie in [0, 1), got {value}")
        if self.seed >= 2**63:
            raise UserError(f"seed must be below 2^63, got {self.seed}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise UserError(f"clip_norm must be above 0, or null for none, got {self.clip_norm}")
        if self.warmup_epochs > self.epochs:
            raise UserError(f"warmup_epochs must be at most epochs, {self.epochs}, got {self.warmup_epochs}")


@dataclass
class Classifying(Training):
    """How to train a classifier on mixed inputs; `mixing.make_mixer` and `classifier.ClassifierJob` read these.

    Args:
        name: name of the run, its folder is runs/<name>; null makes one of configuration, mixer, width and seed.
        runs: folder of all runs.
        resume: auto goes on with a run that is there; no refuses to touch it.
        model: preact_resnet18, wide_resnet28 (WideResNet-28-10 at width 160) or resnet50.
        width: channels of the first stage; 64 is that of the papers for the ResNets, 160 for WideResNet-28-10.
        dropout: probability of dropping a pooled feature.
        mixer: how inputs are mixed; none leaves them as they are.
        mixer_args: arguments of the mixers, e.g. {alpha: 1.0, per: row, p: 0.5}; those that the chosen one lacks are
            left out.
        candidates: methods that randommix chooses from.
        weights: how often randommix chooses each of them, relative to the others.
        saliency: what puzzlemix, comixup and saliencymix follow; null is gradient for the first two, one more pass
            through the network in each step, and energy for saliencymix. All candidates of randommix follow the same
            one, by null the gradient where any of them does.
        keep_gradient: weight of the loss of the clean inputs whose weight gradient, known from the pass of saliency
            gradient, is added to that of the mixed ones; 0 throws it away.
        layers: hidden layers that manifoldmix and patchup draw from, by their names in the network, "input" for its
            input; null is those of the papers, for PreAct-ResNet18 [input, stages.1, stages.3] for manifoldmix, the
            input and the first two stages, and [stem, stages.1] for patchup.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: 32-true, bf16-mixed or 16-mixed (CUDA only).
        compile: run the model through torch.compile.
        channels_last: lay the weights out as (outputs, height, width, inputs), which convolutions of most devices are
            faster with, above all in half precision.
        deterministic: use deterministic kernels (on CUDA a resumed run equals an undisturbed one only so).
        threads: threads of torch on the CPU; null leaves torch's choice.
        resident: keep the training set on the device; auto does where it fits.
        workers: processes that read the training set where it is not resident.
        pictures: draw curves, confusion matrix and mixed inputs at the end.
    """

    name: str | None = None
    runs: str = "runs"
    resume: Literal["no", "auto"] = "no"
    model: ModelName = "preact_resnet18"
    width: int = 64
    dropout: float = 0.0
    mixer: ClassifierMixer = "randommix"
    mixer_args: dict[str, Any] = field(default_factory=dict)
    candidates: list[str] = field(default_factory=lambda: ["mixup", "cutmix", "resizemix", "fmix"])
    weights: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0, 1.0])
    saliency: Literal["gradient", "energy", "spectral_residual"] | None = None
    keep_gradient: float = 0.0
    layers: list[str] | None = None
    device: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = False
    channels_last: bool = False
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
        if not 0 <= self.keep_gradient < float("inf"):
            raise UserError(f"keep_gradient must not be negative, got {self.keep_gradient}")

    @property
    def methods(self) -> list[str]:
        """The methods that batches are mixed by: the candidates of randommix, else the mixer."""
        return self.candidates if self.mixer == "randommix" else [self.mixer]

    @property
    def followed_saliency(self) -> str | None:
        """The saliency that the methods follow; None where none follows any."""
        own = {SALIENCY[method] for method in self.methods if method in SALIENCY}
        return self.saliency or max(own) if own else None  # "gradient" before "energy"

    @property
    def hidden_layers(self) -> list[str] | None:
        """The layers that the methods mix; None where all of them mix the input alone."""
        own = [layer for method in self.methods for layer in LAYERS[self.model].get(method, ())]
        return None if not own else list(dict.fromkeys(own)) if self.layers is None else self.layers

    def run_name(self, configuration: str) -> str:
        """The name given, or `<configuration>-<mixer>-w<width>-s<seed>`."""
        return self.name or "-".join(
            part for part in (configuration, self.mixer, f"w{self.width}", f"s{self.seed}") if part
        )

    def plain(self) -> dict[str, Any]:
        """All options as nested dictionaries."""
        return dataclasses.asdict(self)
