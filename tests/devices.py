"""Devices in tests: whether anything waits for one, on CUDA and, by stand-ins, without.

Tests with the marker `cuda` need a device; tests/conftest.py skips them where none is present.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Whatever makes the host wait for a CUDA device raises inside."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class BlockingCopy(RuntimeError):
    """A copy between host and device that the host waits for."""


class _Copies(TorchDispatchMode):
    """Refuses copies from one device to another that block, those from memory that is not pinned included."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
            # Indices on the host are brought to the device.
            pairs = [(args[0], index, True) for index in args[1] if index is not None]
        elif func is torch.ops.aten.copy_.default:
            pairs = [(args[0], args[1], not (args[2:] or [kwargs.get("non_blocking")])[0])]
        elif func is torch.ops.aten._to_copy.default:
            pairs = [(made, args[0], not kwargs.get("non_blocking"))]
        else:
            return made
        for goes, comes, blocks in pairs:
            pageable = comes.device.type == "cpu" and not _is_pinned(comes)
            if goes.device.type != comes.device.type and (blocks or pageable):
                why = "pageable memory on " if pageable and not blocks else ""
                raise BlockingCopy(f"{tuple(comes.shape)} from {why}{comes.device} to {goes.device}")
        return made


def _pinned(tensor: Tensor) -> Tensor:
    if tensor.device.type != "cpu":
        raise RuntimeError(f"cannot pin a tensor on {tensor.device}: only those on the CPU can be pinned")
    copy = tensor.clone()
    copy.pretended_pinned = True  # type: ignore[attr-defined]
    return copy


def _is_pinned(tensor: Tensor) -> bool:
    return getattr(tensor, "pretended_pinned", False)


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Tensors with device="cuda" without such a device: of shapes alone, so that whatever reads a value raises.

    `.item()`, `.tolist()`, `bool()` and boolean masks raise under `FakeTensorMode`, copies that block raise here, as do
    those to the device from memory that is not pinned, for which `non_blocking` does nothing.
    Assigning a number to a single element is such a copy; assigning it to a slice is not. Gradients cannot be computed
    without a device: those run under `FakeTensorMode` on the CPU.
    """
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(), _Copies():
        patch.setattr(Tensor, "pin_memory", _pinned)
        patch.setattr(Tensor, "is_pinned", _is_pinned)
        yield
