"""Applying plans by compiled code: one fused kernel that reads the batch twice and writes it once."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, is_dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import BackendCompilerFailed
from torch.fx.experimental import _config as shapes_config

from randommix_audio.geometry import Geometry, Size
from randommix_audio.plan import MixPlan

_HOST_NUMBERS = ("edges", "theirs")  # shortcuts of eager mode, which compiled code never reads


class CompiledApply:
    """`plan.apply` through torch.compile, for accelerators, where separate steps cost a pass through memory each.

    mix = randommix_audio.compiled.CompiledApply()
    mixed = mix(mixer.plan(x), x)

    Every kind of plan (method, one draw or one for each row, with or without lengths) is compiled when it is first met,
    with sizes left open, and kept: other batch sizes, lengths and draws use the same code. Eager mode is the default of
    this library because a first compilation takes seconds and a CPU gains little by it.

    Args:
        **options: Passed to torch.compile, `backend` or `mode` for example.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._kept: dict[Hashable, Callable[..., Tensor]] = {}

    def __call__(self, plan: MixPlan, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Mix a batch as planned; see `MixPlan.apply`.

        Raises:
            RuntimeError: If there is no compiler.
            TypeError: See `MixPlan.apply`.
            ValueError: See `MixPlan.apply`.
        """
        return replace(plan, geometry=_Compiled(plan.geometry, self._run)).apply(x, out)

    def _run(self, step: Callable[..., Tensor], geometry: Geometry, *tensors: Tensor) -> Tensor:
        kind = (step, _kind(geometry), *(_kind(tensor) for tensor in tensors), torch.is_grad_enabled())
        try:
            if kind in self._kept:
                return self._kept[kind](geometry, *tensors)
            # torch.compile counts how often a code object was compiled, and gives up: each kind has one of its own.
            own = FunctionType(step.__code__.replace(), step.__globals__, step.__name__)  # type: ignore[attr-defined]
            self._kept[kind] = torch.compile(own, dynamic=True, fullgraph=True, **self.options)
            # Sizes that are equal in the first batch must not be taken for the same one.
            with shapes_config.patch(use_duck_shape=False):  # type: ignore[attr-defined]
                return self._kept[kind](geometry, *tensors)
        except BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().partition("\n")[0]
            raise RuntimeError(f"mixing cannot be compiled here ({reason}); plan.apply needs no compiler") from None

    def __repr__(self) -> str:
        return f"CompiledApply({', '.join(f'{name}={value!r}' for name, value in self.options.items())})"


@dataclass(frozen=True, eq=False)
class _Compiled(Geometry):
    """A geometry that is mixed by compiled code."""

    inner: Geometry
    run: Callable[..., Tensor]

    def output_time(self, time: int) -> int:
        return self.inner.output_time(time)

    def fits(self, size: Size, drawn: Size) -> bool:
        return self.inner.fits(size, drawn)

    def mix_batch(self, x: Tensor, sources: Tensor) -> Tensor:
        return self.run(_mix, self.inner, x, sources)

    def mix_into(self, out: Tensor, x: Tensor, sources: Tensor, rows: Tensor | None = None) -> None:
        self.run(_mix_into, self.inner, x, sources, out)


def _mix(geometry: Geometry, x: Tensor, sources: Tensor) -> Tensor:
    return geometry.mix_batch(x, sources)


def _mix_into(geometry: Geometry, x: Tensor, sources: Tensor, out: Tensor) -> Tensor:
    return out.copy_(geometry.mix_batch(x, sources))


def _kind(value: Any) -> Any:
    """What compiled code depends on: types, dtypes, and which sizes are 1; not the other sizes, nor any number."""
    if isinstance(value, Tensor):
        return value.dtype, value.device, tuple(size == 1 for size in value.shape), value.requires_grad
    if isinstance(value, tuple):
        return tuple(_kind(item) for item in value)
    if is_dataclass(value):
        parts = (getattr(value, item.name) for item in fields(value) if item.name not in _HOST_NUMBERS)
        return type(value), tuple(_kind(part) for part in parts)
    return value if isinstance(value, bool | None) else type(value)
