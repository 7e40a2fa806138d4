"""Mixing straight into the output, with no temporary of the size of the batch, where nobody needs the single steps."""

from collections.abc import Iterator

import torch
from torch import Tensor

_CACHED_BYTES = 4 * 2**20
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def is_tracked(x: Tensor) -> bool:
    """Whether what is done to a tensor is recorded or transformed: by a compiler, autograd or torch.func."""
    if torch.compiler.is_compiling() or (x.requires_grad and torch.is_grad_enabled()):
        return True
    return torch.autograd.forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def keep_inside(out: Tensor, own: Tensor, *inside: Tensor) -> None:
    """Put the row itself everywhere but inside: out = own where any of the masks is false.

    On the CPU bits are exchanged, own ^ ((own ^ out) & inside): torch.where takes twice as long there, and needs the
    masks of bins and of frames made into one of the size of the batch first.

    Args:
        out: (n, C, F, T), holding what stands inside; overwritten elsewhere.
        own: (n, C, F, T) of the same dtype.
        *inside: bool, each broadcastable to them.
    """
    if out.device.type != "cpu":
        mask = inside[0] if len(inside) == 1 else inside[0] & inside[1]
        torch.where(mask, out, own, out=out)
        return
    integer = _INTEGERS[out.element_size()]
    bits, own_bits = out.view(integer), own.view(integer)
    bits.bitwise_xor_(own_bits)
    for mask in inside:
        bits.bitwise_and_(mask.to(integer).neg_())
    bits.bitwise_xor_(own_bits)


def row_slices(values: Tensor, itemsize: int = 0) -> Iterator[slice]:
    """The rows of a batch: on the CPU in parts that stay in the cache between two steps, elsewhere all at once.

    Args:
        values: (n, ...).
        itemsize: Bytes of what the steps compute for each value; 0: as many as the values have themselves.
    """
    rows, each = values.shape[0], max(1, values[:1].numel() * (itemsize or values.element_size()))
    step = max(1, _CACHED_BYTES // each) if values.device.type == "cpu" else max(1, rows)
    for first in range(0, rows, step):
        yield slice(first, first + step)


def take_rows(values: Tensor, rows: slice) -> Tensor:
    """Some rows of (n or 1, ...) values; one row that all share stays."""
    return values if values.shape[0] == 1 else values[rows]
