"""Who is mixed with whom: one partner for each row, drawn among the rows that may be mixed."""

from typing import Literal, get_args

import torch
from torch import Tensor

from randommix_audio.draws import Draws

Pairing = Literal["permutation", "derangement", "roll", "flip", "neighbour"]
PAIRINGS: tuple[str, ...] = get_args(Pairing)


def draw_partners(
    pairing: str, batch: int, draws: Draws, rows: Tensor | None = None, lengths: Tensor | None = None
) -> Tensor:
    """Draw the partner of every row.

    - permutation: a uniform random permutation (RandomMix, equation 3); about one row of a batch meets itself.
    - derangement: the next row on a random cycle through the batch; no row meets itself in a batch of two or more.
    - roll: the row before (torchvision); the first row meets the last.
    - flip: the batch read backwards (timm); the middle row of an odd batch meets itself.
    - neighbour: the next row in order of length, the longer or the shorter one by the toss of a coin for the batch;
      equal lengths are in random order, and the row at the end meets the one before it.

    Args:
        pairing: One of `PAIRINGS`.
        batch: The number of rows B.
        draws: Where random numbers come from.
        rows: (B,) bool, the rows that may be mixed; the others are their own partner and nobody else's. None: all.
        lengths: (B,) valid frames, used by "neighbour" alone.

    Returns:
        (B,) long, the partner of each row.
    """
    if rows is None and pairing == "permutation":
        return draws.permutation(batch)
    here = torch.arange(batch, device=draws.device)
    if rows is None and pairing == "flip":
        return here.flip(0)
    if rows is None and pairing == "roll":
        return here.roll(1)

    # Rows that may be mixed come first in `order`, so that positions below `count` link among themselves.
    count = torch.full((), batch, device=draws.device) if rows is None else rows.sum()
    order = here if pairing in ("roll", "flip") else draws.permutation(batch)
    if pairing == "neighbour" and lengths is not None:
        order = order[lengths[order].argsort(stable=True)]
    order = _eligible_first(order, rows)
    if pairing == "permutation":
        linked = order
        order = _eligible_first(here, rows)
    else:
        linked = order[_next_position(pairing, here, count, draws)]
    partner = torch.empty_like(order).scatter_(0, order, linked)
    return partner if rows is None else torch.where(rows, partner, here)


def _eligible_first(order: Tensor, rows: Tensor | None) -> Tensor:
    return order if rows is None else order[(~rows)[order].to(torch.uint8).argsort(stable=True)]


def _next_position(pairing: str, here: Tensor, count: Tensor, draws: Draws) -> Tensor:
    if pairing == "roll":
        position = torch.remainder(here - 1, count.clamp(min=1))
    elif pairing == "flip":
        position = count - 1 - here
    elif pairing == "neighbour":
        longer = torch.where(here + 1 < count, here + 1, count - 2)
        shorter = torch.where(here > 0, here - 1, 1)
        position = torch.where(draws.uniform(1) < 0.5, longer, shorter)
    else:
        position = torch.remainder(here + 1, count.clamp(min=1))
    return torch.where(here < count, torch.minimum(position.clamp(min=0), count - 1), here)
