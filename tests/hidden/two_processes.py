"""Trains in two processes with DistributedDataParallel, each with draws of its own; test_training.py runs it.

Argument: the folder that each process writes what it got into.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing, nn

import randommix_audio as rma
from randommix_audio.mixers.hidden import PatchUp
from tests.hidden.models import CLASSES, LAYERS, Network

STEPS = 4
MIXER = PatchUp()


def batch(step: int, rank: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 * step + rank)
    return torch.randn(5, 1, 20, 33, generator=generator), torch.randint(0, CLASSES, (5,), generator=generator)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    model = Network()
    hidden = MIXER.attach(model, LAYERS)
    model = nn.parallel.DistributedDataParallel(model)
    optimizer = optimizer_of(model)
    losses = []
    for step in range(STEPS):
        x, target = batch(step, rank)
        plan = hidden.draw(x, generator=rma.step_generator(0, step, rank))
        loss = plan.loss(F.cross_entropy, model(x), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    state = {"state": model.state_dict(), "keys": list(model.state_dict()), "losses": losses}
    torch.save(state, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    multiprocessing.spawn(train, (sys.argv[1],), nprocs=2)
