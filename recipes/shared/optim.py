"""Optimizer, averaged weights, and the learning rate: a pure function of the step, with no state to restore."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from torch import nn

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("cosine", "constant")


def learning_rate(step: int, total: int, peak: float, warmup: int = 0, schedule: str = "cosine") -> float:
    """Learning rate of a step, counted from 0.

    Args:
        step: this step, 0 <= step < total.
        total: steps of the whole training.
        peak: the highest learning rate.
        warmup: steps of linear rise to the peak.
        schedule: "cosine" falls from the peak towards 0 (SGDR without restarts), "constant" stays.

    Raises:
        ValueError: for an unknown schedule.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule}")
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def make_optimizer(
    name: str,
    model: nn.Module,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    decay_all: bool,
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW (whose beta1 is the momentum).

    Args:
        name: "sgd" or "adamw".
        model: what is trained.
        lr: learning rate at the start; `learning_rate` sets it in each step.
        momentum: 0 to below 1.
        nesterov: look ahead (SGD only).
        weight_decay: of the weights.
        decay_all: also decay biases and batch norm, as the papers' code does; else only weights with two axes or more.

    Raises:
        ValueError: for an unknown name.
    """
    parameters = list(model.parameters())
    decayed = [p for p in parameters if decay_all or p.ndim > 1]
    free = [p for p in parameters if not decay_all and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))
    raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {name}")


class Average(nn.Module):
    """Exponential moving average of a model's weights and buffers, with a rising decay in the first steps.

    Args:
        model: the model to follow, on its device already; it is copied.
        decay: share of the old average that is kept in each step, late in training.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        # Training and loading write into these tensors and never replace them; collecting them in each step is slow.
        pairs = list(zip(_state(self.model), _state(model), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]  # counts of batches

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the model; call it after each step, counted from 0."""
        keep = min(self.decay, (1 + step) / (10 + step))
        means, new = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(means, new, 1 - keep)
        for mean, value in self._copied:
            mean.copy_(value)


def _state(model: nn.Module) -> Iterable[torch.Tensor]:
    return model.state_dict().values()
