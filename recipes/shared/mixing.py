"""The mixer that the options of a classifier name."""

from __future__ import annotations

import inspect

import randommix_audio as rma
from recipes.shared.console import UserError
from recipes.shared.models import HIDDEN_METHODS, seeded
from recipes.shared.options import SALIENCY, Classifying


def make_mixer(config: Classifying, fill: float = 0.0) -> rma.Mixer:
    """The mixer that the options name, with those of mixer_args that it knows.

    Args:
        config: the options.
        fill: what stands where an input has nothing, unless mixer_args says otherwise; of spectrograms the front end's
            pad_value.

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
            mixer.attach(seeded(0, num_classes=2, width=1, model=config.model), config.hidden_layers).detach()
        except ValueError as error:
            raise UserError(f"mixer {config.mixer}, layers: {error}") from error
    return mixer


def _refuse_what_would_be_ignored(config: Classifying) -> None:
    methods = ", ".join(config.methods)
    followed = config.followed_saliency
    if config.saliency is not None and followed is None:
        raise UserError(f"saliency: {methods} follows none; choose from {', '.join(SALIENCY)}, or leave it out")
    if config.layers is not None and config.hidden_layers is None:
        raise UserError(
            f"layers: {methods} mixes the input alone; choose from {', '.join(HIDDEN_METHODS)}, or leave it out"
        )
    if config.keep_gradient > 0 and followed != "gradient":
        raise UserError(f"keep_gradient needs saliency gradient; {methods} follows {followed or 'none'}")


def _arguments(mixer: str) -> set[str]:
    """Names of what a mixer's own constructor takes, and of what all mixers take."""
    constructors = (type(rma.build(mixer)).__init__, rma.Mixer.__init__)
    parameters = [p for c in constructors for p in inspect.signature(c).parameters.values()]
    return {p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "self"}
