"""Interpolating a map with its partners so that training costs little more than reading it."""

from typing import Any

import torch
from torch import Tensor

from randommix_audio.geometry.in_place import is_tracked, row_slices, take_rows


def works_in_parts(x: Tensor) -> bool:
    """Whether `lerp_partners` is for this map: on the CPU, where autograd alone records what is done to it."""
    recorded = x.requires_grad and torch.is_grad_enabled()
    return recorded and x.device.type == "cpu" and x.is_contiguous() and not is_tracked(x.detach())


def lerp_partners(x: Tensor, partner: Tensor, theirs: Tensor) -> Tensor:
    """Mix each row of a map with another one, x.lerp(x[partner], theirs), in parts that stay in the cache.

    The partners are never gathered into a map of their own, and the gradient is added up where it is needed. That
    takes half the time of what autograd would record, which matters where the map is the largest of a network.

    Args:
        x: (B, ...) floating-point, see `works_in_parts`.
        partner: (B,) long.
        theirs: The partner's weight, of the dtype of `x` and broadcastable to it, 1 or B rows.

    Returns:
        A new tensor of the shape and dtype of `x`.
    """
    return _LerpPartners.apply(x, partner, theirs)  # type: ignore[no-any-return, no-untyped-call]


class _LerpPartners(torch.autograd.Function):
    """lerp_partners with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, partner: Tensor, theirs: Tensor) -> Tensor:
        ctx.save_for_backward(partner, theirs)
        return _lerp_rows(x, partner, theirs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        partner, theirs = ctx.saved_tensors
        (gradient,) = gradients
        partner_of = partner.argsort()
        each_once = torch.equal(partner[partner_of], torch.arange(len(partner)))
        if each_once and theirs.shape[0] == 1 and not is_tracked(gradient):
            return _lerp_rows(gradient.contiguous(), partner_of, theirs), None, None
        return (gradient * (1 - theirs)).index_add(0, partner, gradient * theirs), None, None


def _lerp_rows(x: Tensor, partner: Tensor, theirs: Tensor) -> Tensor:
    out = torch.empty_like(x)
    for part in row_slices(x):
        gathered = torch.index_select(x, 0, partner[part], out=out[part])
        torch.lerp(x[part], gathered, take_rows(theirs, part), out=gathered)
    return out
