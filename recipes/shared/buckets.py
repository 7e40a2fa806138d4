"""Batches of clips of nearly equal length, the same number of batches on every process."""

from __future__ import annotations

import torch
from torch import Tensor

import randommix_audio as rma

_ORDER = 2**32  # keeps these draws apart from those of the training steps


def batch_count(clips: int, batch_size: int, world_size: int = 1) -> int:
    """Batches of an epoch on each process; 0 where there are fewer clips than processes."""
    return 0 if clips < world_size else -(-clips // (batch_size * world_size))


def bucketed(
    lengths: Tensor,
    batch_size: int,
    seed: int,
    epoch: int,
    jitter: float = 0.2,
    rank: int = 0,
    world_size: int = 1,
) -> list[Tensor]:
    """The batches of one process in an epoch.

    The clips are sorted by their length times a random factor, so that neighbours are alike in length and yet other
    ones in each epoch; they are cut into batches of nearly equal size, in random order; the processes take the clips of
    each batch in turn, so that all of them wait for about the same number of frames.

    Args:
        lengths: (N,) of all clips.
        batch_size: most clips of a batch, on each process.
        seed: of the order.
        epoch: which epoch.
        jitter: the factor is uniform from 1 to 1 + jitter; a large one gives batches at random.
        rank: this process.
        world_size: number of processes.

    Returns:
        Batches of (B,) long places; sizes differ by one at most.
    """
    count = batch_count(len(lengths), batch_size, world_size)
    if count == 0:
        return []
    generator = rma.step_generator(seed, _ORDER + epoch)
    factor = 1 + jitter * torch.rand(len(lengths), generator=generator)
    batches = (lengths * factor).argsort(stable=True).tensor_split(count)
    return [batches[i][rank::world_size] for i in torch.randperm(count, generator=generator).tolist()]
