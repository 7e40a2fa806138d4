"""The options of the Speech Commands recipe: `python -m recipes.speech_commands.train --help` prints them."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field
from typing import Any, Literal

import randommix_audio as rma
from recipes.shared.console import UserError
from recipes.shared.preact_resnet import seeded
from recipes.shared.trainer import Training
from recipes.speech_commands.augment import Augmentation

MixerName = Literal[rma.MIXERS]  # type: ignore[valid-type]

# What each paper takes: the saliency of the methods that follow one, the layers of those that mix hidden layers.
SALIENCY = {"saliencymix": "energy", "puzzlemix": "gradient", "comixup": "gradient"}
LAYERS = {"manifoldmix": ("input", "stages.1", "stages.3"), "patchup": ("stem", "stages.1")}


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
        saliency: what puzzlemix, comixup and saliencymix follow; null is gradient for the first two, one more pass
            through the network in each step, and energy for saliencymix. All candidates of randommix follow the same
            one, by null the gradient where any of them does.
        keep_gradient: weight of the loss of the clean clips whose weight gradient, known from the pass of saliency
            gradient, is added to that of the mixed ones; 0 throws it away.
        layers: hidden layers that manifoldmix and patchup draw from, by their names in the network, "input" for its
            input; null is [input, stages.1, stages.3] for manifoldmix, the input and the first two stages, and
            [stem, stages.1] for patchup.
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
    saliency: Literal["gradient", "energy", "spectral_residual"] | None = None
    keep_gradient: float = 0.0
    layers: list[str] | None = None
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
        own = [layer for method in self.methods for layer in LAYERS.get(method, ())]
        return None if not own else list(dict.fromkeys(own)) if self.layers is None else self.layers

    def run_name(self, configuration: str) -> str:
        """The name given, or `<configuration>-<mixer>-w<width>-s<seed>`."""
        return self.name or "-".join(
            part for part in (configuration, self.mixer, f"w{self.width}", f"s{self.seed}") if part
        )

    def plain(self) -> dict[str, Any]:
        """All options as nested dictionaries."""
        return dataclasses.asdict(self)


def make_mixer(config: Config, fill: float = 0.0) -> rma.Mixer:
    """The mixer that the options name, with those of mixer_args that it knows.

    Args:
        config: the options.
        fill: what stands where a clip has nothing, unless mixer_args says otherwise; the front end's pad_value.

    Raises:
        UserError: for an unknown mixer, an argument that no mixer has, or a value that the mixer refuses.
    """
    if config.mixer not in rma.MIXERS:
        raise UserError(f"no mixer is called {config.mixer}: choose from {', '.join(rma.MIXERS)}")
    own = _arguments(config.mixer)
    known = set().union(*(_arguments(name) for name in rma.MIXERS)) - {"saliency"}
    if "saliency" in config.mixer_args:
        raise UserError("mixer_args: saliency is an option of its own, --saliency")
    if unknown := sorted(set(config.mixer_args) - known):
        raise UserError(f"mixer_args: no mixer has an argument {unknown[0]}: choose from {', '.join(sorted(known))}")
    arguments = {"fill": fill} | {name: value for name, value in config.mixer_args.items() if name in own}
    if config.mixer == "randommix":
        arguments = {"candidates": config.candidates, "weights": config.weights} | arguments
    try:
        mixer = rma.build(config.mixer, **arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"mixer {config.mixer}: {error}") from error
    _refuse_what_would_be_ignored(config)
    if config.hidden_layers is not None:
        try:
            mixer.attach(seeded(0, num_classes=2, width=1), config.hidden_layers).detach()
        except ValueError as error:
            raise UserError(f"mixer {config.mixer}, layers: {error}") from error
    return mixer


def _refuse_what_would_be_ignored(config: Config) -> None:
    methods = ", ".join(config.methods)
    followed = config.followed_saliency
    if config.saliency is not None and followed is None:
        raise UserError(f"saliency: {methods} follows none; choose from {', '.join(SALIENCY)}, or leave it out")
    if config.layers is not None and config.hidden_layers is None:
        raise UserError(f"layers: {methods} mixes the input alone; choose from {', '.join(LAYERS)}, or leave it out")
    if config.keep_gradient > 0 and followed != "gradient":
        raise UserError(f"keep_gradient needs saliency gradient; {methods} follows {followed or 'none'}")


def _arguments(mixer: str) -> set[str]:
    """Names of what a mixer's own constructor takes, and of what all mixers take."""
    constructors = (type(rma.build(mixer)).__init__, rma.Mixer.__init__)
    parameters = [p for c in constructors for p in inspect.signature(c).parameters.values()]
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"}
