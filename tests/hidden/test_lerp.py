"""Interpolation with the partners in parts: the values and gradients of one plain expression."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from randommix_audio.geometry import in_place
from randommix_audio.hidden.lerp import lerp_partners, works_in_parts


def example(
    rows: int, alike: bool, dtype: torch.dtype = torch.float64, paired: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, 3, 4, 5, generator=generator, dtype=dtype).requires_grad_()
    partner = torch.randperm(rows, generator=generator)
    if not paired:  # some rows are nobody's partner, some that of several
        partner = torch.randint(rows, (rows,), generator=generator)
    theirs = torch.rand(1 if alike else rows, 1, 4, 5, generator=generator, dtype=dtype)
    return x, partner, theirs


@settings(deadline=None)
@given(st.integers(1, 9), st.booleans(), st.booleans(), st.integers(1, 4))
def test_parts_have_the_values_and_gradients_of_the_whole(
    rows: int, alike: bool, paired: bool, rows_of_part: int
) -> None:
    x, partner, theirs = example(rows, alike, paired=paired)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_place, "_CACHED_BYTES", rows_of_part * x[0].numel() * x.element_size())
        out = lerp_partners(x, partner, theirs)
        seen = torch.randn_like(out)
        (gradient,) = torch.autograd.grad(out, x, seen)
    expected = x.lerp(x.index_select(0, partner), theirs)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, x, seen)[0])


def test_its_gradient_can_be_differentiated() -> None:
    x, partner, theirs = example(4, alike=True)
    assert torch.autograd.gradcheck(lambda x: lerp_partners(x, partner, theirs), (x,))
    assert torch.autograd.gradgradcheck(lambda x: lerp_partners(x, partner, theirs) ** 2, (x,))


def test_it_is_for_maps_whose_gradient_autograd_alone_records() -> None:
    x, _, _ = example(4, alike=True, dtype=torch.float32)
    assert works_in_parts(x)
    assert not works_in_parts(x.detach())
    assert not works_in_parts(x.to(memory_format=torch.channels_last))
    with torch.no_grad():
        assert not works_in_parts(x)
    seen = []
    torch.func.grad(lambda x: seen.append(works_in_parts(x)) or x.sum())(x)
    assert seen == [False]
