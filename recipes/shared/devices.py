"""Where a program runs: device, precision, processes, deterministic kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric

from randommix_audio.data.loader import RESIDENT_SHARE
from recipes.shared.console import UserError


def make_fabric(device: str, precision: str) -> Fabric:
    """Fabric for one process, or for those that torchrun started.

    Args:
        device: auto, cpu, cuda, cuda:1, mps.
        precision: 32-true, bf16-mixed or 16-mixed (CUDA only).

    Raises:
        UserError: for a device that is not there, or that does not know the precision.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise UserError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device}")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    world = int(os.environ.get("WORLD_SIZE", 1))
    if index and world > 1:
        raise UserError(f"device {device} is one device, but {world} processes were started: use --device {kind}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, True):
        raise UserError(f"device {kind} is not available here: use --device cpu")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise UserError(f"there is no device {device}: {torch.cuda.device_count()} here")
    if precision == "16-mixed" and (kind not in ("auto", "cuda") or not there["cuda"]):
        raise UserError("precision 16-mixed needs CUDA: use bf16-mixed or 32-true")
    devices: int | list[int] = [int(index)] if index else local
    fabric = Fabric(
        accelerator=kind,
        devices=devices,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def make_deterministic() -> None:
    """Ask torch for deterministic kernels; bit-equal resumption on CUDA needs it."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


@contextmanager
def exact() -> Iterator[None]:
    """Convolutions in float32 and by deterministic kernels, for numbers that others shall find as well.

    On CUDA they round their inputs to 10 bits by default (TF32), and backward passes may differ from run to run.
    """
    enabled = torch.backends.cudnn.enabled
    with torch.backends.cudnn.flags(enabled=enabled, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def fits(size: int, device: torch.device) -> bool:
    """Whether data of so many bytes should lie on a device: a CUDA device with room for them beside a training."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return size < RESIDENT_SHARE * free
