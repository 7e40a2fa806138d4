"""Tensors on their way from the host to the device."""

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Values on a device, without waiting for it: a copy from memory that is not pinned would block.

    A copy to the CPU is waited for, because its values may be read at once.
    """
    device = torch.device(device)
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=device.type != "cpu")
