"""The hooks that a model gets: one for its input, one for each layer."""

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from randommix_audio.hidden.plan import INPUT, HiddenPlan

PLANS: dict[int, HiddenPlan] = {}
"""What the next forward carries out, by the number of the attachment.

It stands here and not in the hooks, because torch.compile takes the sizes of whatever it reaches through a layer of
torch.nn for constants: code would be compiled anew for every size of a batch.
"""

_COPY = -1
_numbers = itertools.count()


class LayerTap:
    """The hook of one layer: it mixes the layer's output while a plan names it and the layer is in training mode.

    A copy of a model, deep or pickled, has copies of the hooks, and these never find a plan: it is not mixed.

    Args:
        name: The layer's name, which the plan may bear.
        key: Where in `PLANS` to look.
        time_axis: See `Mixer.attach`.
    """

    def __init__(self, name: str, key: int, time_axis: int | None = None) -> None:
        self.name = name
        self.key = key
        self.time_axis = time_axis

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """The layer's output, mixed; None leaves it as it is."""
        plan = PLANS.get(self.key)
        if plan is None or not module.training:
            return None
        _refuse_a_later_plan(plan)
        if plan.layer != self.name:
            return None
        if isinstance(output, Tensor):
            return self._mixed(plan, output)
        if not isinstance(output, tuple | list) or not output or not isinstance(output[0], Tensor):
            raise TypeError(
                f"layer {self.name!r} gives a {type(output).__name__}; a layer to mix gives a tensor, or a tuple whose "
                "first entry is one"
            )
        make = getattr(output, "_make", type(output))  # _make: a named tuple
        return make([self._mixed(plan, output[0]), *output[1:]])

    def _mixed(self, plan: HiddenPlan, x: Tensor) -> Tensor:
        try:
            return plan.mix_map(x, self.time_axis)
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {self.name!r} gave a map of shape {tuple(x.shape)}: {error}") from error

    def __deepcopy__(self, memo: dict[int, Any]) -> "LayerTap":
        return type(self)(self.name, _COPY, self.time_axis)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, _COPY, self.time_axis)


class InputTap(LayerTap):
    """The hook before the model: it mixes the first tensor among the arguments."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """The model's arguments, the first tensor mixed; None leaves them as they are."""
        plan = PLANS.get(self.key)
        if plan is None or plan.layer != self.name or not module.training:
            return None
        for index, value in enumerate(args):
            if isinstance(value, Tensor):
                return (*args[:index], plan.mix_input(value), *args[index + 1 :]), kwargs
        for name, value in kwargs.items():
            if isinstance(value, Tensor):
                return args, {**kwargs, name: plan.mix_input(value)}
        raise TypeError("the model was called without a tensor among its arguments, which the plan would mix")


def _refuse_a_later_plan(plan: HiddenPlan) -> None:
    """A forward within backward is activation checkpointing, which must meet the plan of the forward that it repeats.

    Raises:
        RuntimeError: If it meets a plan that no forward has carried out.
    """
    if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1 and not plan.carried_out:
        raise RuntimeError(
            "activation checkpointing repeats a forward whose plan was replaced: run backward before the next draw"
        )


def attach(model: nn.Module, layers: dict[str, nn.Module], time_axis: int | None) -> tuple[int, list[RemovableHandle]]:
    """Hook a model and some of its layers.

    Returns:
        Where in `PLANS` the hooks look, and what removes them.
    """
    key = next(_numbers)
    handles = [module.register_forward_hook(LayerTap(name, key, time_axis)) for name, module in layers.items()]
    tap = InputTap(INPUT, key)
    weakref.finalize(tap, PLANS.pop, key, None)  # nobody asks for the plan of a model that is gone
    return key, [*handles, model.register_forward_pre_hook(tap, with_kwargs=True)]
