"""Which rows make up the batches of an epoch, on each of several processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def epoch_rows(count: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1) -> list[Tensor]:
    """The rows of each batch of this process in an epoch, in an order drawn from (seed, epoch) alone.

    All processes get equally many batches of equal sizes; what is missing is filled from the start of the order.

    Args:
        count: rows of the training set.
        batch_size: rows of a batch on each process; the last batch may have fewer.
        seed: of the order.
        epoch: counted from 0.
        rank: this process.
        world_size: number of processes.

    Returns:
        Long tensors on the CPU; none without rows.
    """
    if count == 0:
        return []
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(state))
    total = -(-count // world_size) * world_size
    order = order.repeat(-(-total // count))[:total]
    return list(order[rank::world_size].split(batch_size))
