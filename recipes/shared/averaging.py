"""The mean of the weights of several checkpoints, as is usual in speech recognition (WeNet, ESPnet, icefall)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.shared import records
from recipes.shared.console import UserError


def average_checkpoints(paths: Sequence[Path], device: str | torch.device = "cpu") -> dict[str, Any]:
    """The last checkpoint, its weights and running statistics replaced by the means over all.

    Args:
        paths: checkpoints of one run, in order.
        device: where the tensors go.

    Returns:
        The content of the last file; whole numbers, such as counts of batches, are its own.

    Raises:
        UserError: where there is none, one cannot be read, or they are of different models.
    """
    if not paths:
        raise UserError("there are no checkpoints to average")
    mean: dict[str, Tensor] = {}
    for count, path in enumerate(paths, 1):
        state = records.load(path, device)
        model = state["model"]
        if mean and {k: v.shape for k, v in mean.items()} != {k: v.shape for k, v in model.items()}:
            raise UserError(f"{path}: is of another model than {paths[0]}")
        for name, value in model.items():
            floats = value.is_floating_point() and count > 1
            mean[name] = torch.lerp(mean[name], value.double(), 1 / count) if floats else value
            if value.is_floating_point() and count == 1:
                mean[name] = value.double()
    like = state["model"]
    return {**state, "model": {name: value.to(like[name].dtype) for name, value in mean.items()}}
