"""Putting hooks on the layers of a model, and deciding what they do at the next forward."""

import difflib
from collections.abc import Sequence

from torch import Generator, Tensor, nn

from randommix_audio.draws import Draws
from randommix_audio.hidden import taps
from randommix_audio.hidden.plan import INPUT, HiddenPlan
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_lengths, read_batch
from randommix_audio.plan import identity_plan
from randommix_audio.saliency import Saliency

_WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)
_TIME_AXES = (None, 1, 2, 3, -1, -2)


class Hidden:
    """A mixer attached to layers of a model; `Mixer.attach` makes it and says which layers are possible.

    `draw` decides what every forward of the model in training mode does until the next `draw` or `clear`: several
    forwards (accumulated gradients, recomputation under activation checkpointing) are mixed alike. Under activation
    checkpointing, run backward before the next `draw` or `clear`. Without a draw, and in eval(), maps are left alone.
    At the end of a `with` statement the hooks are removed.

    Parameters, buffers and state_dict of the model are what they were. Copies of the model are not mixed.

    Attributes:
        mixer: What is attached.
        model: What it is attached to.
        layers: Names of the layers that are drawn from.
    """

    def __init__(self, mixer: Mixer, model: nn.Module, layers: Sequence[str], time_axis: int | None = None) -> None:
        self._methods = _methods_for_layers(mixer)
        modules = _find_layers(model, layers)
        if time_axis not in _TIME_AXES:
            raise ValueError(f"time_axis must be one of {', '.join(map(str, _TIME_AXES))}; got {time_axis!r}")
        self.mixer = mixer
        self.model = model
        self.layers = tuple(layers)
        self._key, self._handles = taps.attach(model, modules, time_axis)

    @property
    def plan(self) -> HiddenPlan | None:
        """What the next forward carries out; None before a draw."""
        return taps.PLANS.get(self._key)

    def draw(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        rows: Tensor | None = None,
        generator: Generator | None = None,
        saliency: Saliency | None = None,
        method_generator: Generator | None = None,
    ) -> HiddenPlan:
        """Draw all that is random about mixing the next forward: partners, weights, and one layer, all layers alike.

        In eval(), of the model or of the mixer, the plan leaves every row alone.

        Args:
            x: The batch that the model will get, or a tensor aligned with it; its shape, dtype and device are read.
            lengths: (B,) valid frames of `x`, of T. On a map of T' frames the first ceil(length * T' / T) are valid;
                frames beyond are never mixed in.
            rows: (B,) bool, rows that may be mixed at all; see `Mixer.plan`.
            generator: On the CPU or on the device of `x`; None: torch's default generator. The layer is drawn on the
                host.
            saliency: For candidates that mix the input, see `Mixer.plan`.
            method_generator: On the CPU, of the method and the layer, see `Mixer.plan`.

        Returns:
            The plan; its `share` is known once the model has run.

        Raises:
            RuntimeError: If the mixer was detached.
            TypeError: See `Mixer.plan`.
            ValueError: See `Mixer.plan`.
        """
        self.clear()  # a pass of the model that finds the saliency is not to be mixed by the plan before
        if not (self.model.training and self.mixer.training):
            layout, canonical = read_batch(x, self.mixer.layout)
            lengths = check_lengths(lengths, canonical.shape[0], canonical.shape[3], x.device)
            return self.use(HiddenPlan(identity_plan(x, layout, lengths, self.mixer.source_count), None))
        plan = self.mixer.plan(x, lengths, rows, generator, saliency, method_generator)
        (uniform,) = Draws(generator, x.device, method_generator).decide(1)
        layer = self.layers[int(uniform * len(self.layers))]
        of_layers = plan.drawn is not None or plan.candidates[0] in self._methods
        return self.use(HiddenPlan(plan, layer if of_layers else INPUT))

    def use(self, plan: HiddenPlan) -> HiddenPlan:
        """Let the next forward carry out this plan: one that was read back from its state, for example.

        Raises:
            RuntimeError: If the mixer was detached.
            ValueError: If the plan mixes a layer that is not one of these.
        """
        if not self._handles:
            raise RuntimeError("the mixer was detached from the model; attach it again")
        if plan.layer not in (None, INPUT, *self.layers):
            raise ValueError(f"the plan mixes layer {plan.layer!r}; attached are {', '.join(self.layers)}")
        taps.PLANS[self._key] = plan
        return plan

    def clear(self) -> None:
        """Leave forwards alone until the next draw."""
        taps.PLANS.pop(self._key, None)

    def detach(self) -> None:
        """Remove the hooks from the model."""
        self.clear()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __enter__(self) -> "Hidden":
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    def __repr__(self) -> str:
        return f"Hidden({self.mixer!r}, layers={list(self.layers)})"


def _methods_for_layers(mixer: Mixer) -> set[str]:
    """The names of the methods that mix a layer rather than the input."""
    drawn = [part for part in mixer.modules() if isinstance(part, Mixer) and part.name not in ("randommix", "none")]
    of_layers = {part.name for part in drawn if part.hidden}
    if not of_layers:
        raise ValueError(
            f"{mixer.name} mixes the batch itself: call x, plan = mixer(x) before the model. Methods for layers are "
            "manifoldmix and patchup"
        )
    of_input = sorted({part.name for part in drawn} - of_layers)
    if of_input and mixer.per == "row":
        raise ValueError(
            f'per="row" cannot draw from {", ".join(of_input)} for the input and {", ".join(sorted(of_layers))} for '
            'layers: a row mixed at a layer would meet a partner that was itself mixed at the input; use per="batch"'
        )
    return of_layers


def _find_layers(model: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    """The modules to hook, by name; "input" is none of them."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"a mixer is attached to a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, _WRAPPERS):
        raise ValueError(f"attach to the model itself, before {type(model).__name__} wraps it")
    _refuse_compiled(model, "the model")
    if isinstance(layers, str) or not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers must be a list of different names of modules, got {layers!r}")
    known = {name: module for name, module in model.named_modules(remove_duplicate=False) if name}
    found = {}
    for name in layers:
        if name == INPUT:
            continue
        if name not in known:
            near = difflib.get_close_matches(name, [INPUT, *known]) or list(known)[:8]
            raise ValueError(f"the model has no layer {name!r}; near: {', '.join(near)}")
        if isinstance(known[name], nn.ModuleList | nn.ModuleDict):
            raise ValueError(f"layer {name!r} is a list of layers, which is never called; name one of its entries")
        parts = name.split(".")
        for path in (".".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
            _refuse_compiled(known[path], path)
        found[name] = known[name]
    return found


def _refuse_compiled(module: nn.Module, name: str) -> None:
    if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
        raise ValueError(f"{name} is compiled, which would silently ignore the hooks; attach before compiling")
