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
    """Refuses copies from one device to another that block."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        if func is torch.ops.aten.copy_.default:
            goes, comes, blocks = args[0], args[1], not (args[2:] or [kwargs.get("non_blocking")])[0]
        elif func is torch.ops.aten._to_copy.default:
            goes, comes, blocks = made, args[0], not kwargs.get("non_blocking")
        else:
            return made
        if blocks and goes.device.type != comes.device.type:
            raise BlockingCopy(f"{tuple(goes.shape)} from {comes.device} to {goes.device}")
        return made


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Tensors with device="cuda" without such a device: of shapes alone, so that whatever reads a value raises.

    `.item()`, `.tolist()`, `bool()` and boolean masks raise under `FakeTensorMode`, copies that block raise here.
    Assigning a number to a single element is such a copy; assigning it to a slice is not. Gradients cannot be computed
    without a device: those run under `FakeTensorMode` on the CPU.
    """
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode(), _Copies():
        patch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
        yield
