"""Minimum cuts of grids: the cheapest labels, whatever the shape, the numbers and the company."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.solver_quality import exact_labels
from randommix_audio.solvers.block_labels import BlockEnergy
from randommix_audio.solvers.min_cut import BAND, _halve, min_cut


def random_grid(rows, freq, time, seed=0, coupling=1.0, whole=False):
    generator = torch.Generator().manual_seed(seed)
    shapes = (rows, freq, time), (rows, freq - 1, time), (rows, freq, time - 1)
    unary, *edges = (torch.rand(shape, generator=generator) for shape in shapes)
    if whole:  # whole numbers make ties, and sums without rounding
        return (unary * 9).floor() - 4, *((edge * 4).floor() for edge in edges)
    return unary - 0.5, *(edge * coupling for edge in edges)


def cost(labels, unary, freq_edges, time_edges):
    labels = labels.to(unary.dtype)
    borders = [(e * labels.diff(dim=axis).abs()).sum((1, 2)) for axis, e in ((1, freq_edges), (2, time_edges))]
    return (unary * labels).sum((1, 2)) + borders[0] + borders[1]


def as_energy(unary, freq_edges, time_edges):
    return BlockEnergy(
        torch.stack([torch.zeros_like(unary), unary]), freq_edges, time_edges, unary.new_zeros(len(unary))
    )


@settings(deadline=None, max_examples=60)
@given(freq=st.integers(1, 4), time=st.integers(1, 3), rows=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_no_labels_of_a_small_grid_are_cheaper(freq, time, rows, seed):
    grid = random_grid(rows, freq, time, seed, whole=True)
    every = torch.tensor(list(itertools.product((0, 1), repeat=freq * time))).view(-1, freq, time)
    cheapest = torch.stack([cost(every, *(x[row, None] for x in grid)).min() for row in range(rows)])
    assert torch.equal(cost(min_cut(*grid), *grid), cheapest)


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (8, 30), (30, 3), (1, 40), (6, 1)])
def test_a_grid_with_a_short_axis_is_cut_exactly(shape):
    grid = random_grid(50, *shape, seed=1)
    exact = cost(exact_labels(as_energy(*grid)), *grid)
    torch.testing.assert_close(cost(min_cut(*grid), *grid), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (12, 20), (17, 9)])
@pytest.mark.parametrize("coupling", [0.2, 0.5, 2.0])
def test_a_wide_grid_is_cut_nearly_exactly(shape, coupling):
    grid = random_grid(40, *shape, seed=2, coupling=coupling)
    exact = cost(exact_labels(as_energy(*grid)), *grid)
    found = cost(min_cut(*grid), *grid)
    assert (found >= exact - 1e-3).all()
    assert float((found - exact).mean()) <= 0.01 * float(exact.abs().mean())  # the cost of all zeros is 0


@pytest.mark.parametrize("shape", [(3, 4), (16, 18)])
def test_without_edges_each_cell_takes_its_cheaper_label(shape):
    unary, freq_edges, time_edges = random_grid(5, *shape)
    labels = min_cut(unary, freq_edges * 0, time_edges * 0)
    assert torch.equal(labels, unary < 0)


@pytest.mark.parametrize("shape", [(3, 4), (16, 18)])
def test_edges_that_cost_more_than_all_cells_make_labels_alike(shape):
    unary, freq_edges, time_edges = random_grid(9, *shape, seed=3)
    labels = min_cut(unary, freq_edges * 0 + 1e4, time_edges * 0 + 1e4)
    assert torch.equal(labels, (unary.sum((1, 2), keepdim=True) < 0).expand_as(labels))
    assert labels.any()
    assert not labels.all()


@pytest.mark.parametrize("shape", [(3, 7), (BAND + 1, BAND + 6)])
def test_each_problem_is_solved_for_itself(shape):
    grid = random_grid(7, *shape)
    together = min_cut(*grid)
    alone = torch.cat([min_cut(*(x[row, None] for x in grid)) for row in range(7)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("shape", [(3, 7), (BAND + 1, BAND + 6)])
def test_a_problem_of_no_numbers_harms_no_other(shape):
    grid = random_grid(5, *shape)
    expected = min_cut(*grid)
    for x in grid:
        x[2] = torch.nan
    others = torch.tensor([0, 1, 3, 4])
    assert torch.equal(min_cut(*grid)[others], expected[others])


@pytest.mark.parametrize("shape", [(4, 6), (5, 7)])
def test_the_grid_half_as_fine_costs_the_same_where_four_cells_agree(shape):
    unary, freq_edges, time_edges = random_grid(3, *shape)
    coarse = _halve(*(x.permute(1, 2, 0) for x in (unary, freq_edges, time_edges)))
    labels = torch.randint(0, 2, (3, *((size + 1) // 2 for size in shape)))
    fine = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, : shape[0], : shape[1]]
    expected = cost(fine, unary, freq_edges, time_edges)
    torch.testing.assert_close(cost(labels, *(x.permute(2, 0, 1) for x in coarse)), expected)


def test_the_other_axis_first_gives_the_same_cut():
    unary, freq_edges, time_edges = random_grid(6, 5, 8, seed=4)
    turned = min_cut(*(x.transpose(1, 2) for x in (unary, time_edges, freq_edges)))
    assert torch.equal(turned.transpose(1, 2), min_cut(unary, freq_edges, time_edges))


def test_inputs_are_left_as_they_are():
    grid = random_grid(3, 10, 11)
    kept = [x.clone() for x in grid]
    min_cut(*grid)
    assert all(torch.equal(x, before) for x, before in zip(grid, kept, strict=True))


@pytest.mark.parametrize("shape", [(2, 3), (10, 12)])
def test_no_problems_have_no_labels(shape):
    assert min_cut(*random_grid(0, *shape)).shape == (0, *shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_read(dtype):
    grid = [x.to(dtype) for x in random_grid(4, 6, 9)]
    assert torch.equal(min_cut(*grid), min_cut(*(x.float() for x in grid)))


def test_edges_of_another_grid_are_refused():
    unary, freq_edges, time_edges = random_grid(2, 3, 4)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\) needs edges \(2, 2, 4\) and \(2, 3, 3\)"):
        min_cut(unary, time_edges, freq_edges)


@pytest.mark.parametrize("shape", [(2, 3), (9, 10)])
def test_nothing_waits_for_the_device(shape):
    with FakeTensorMode():
        unary, freq_edges, time_edges = (torch.empty(4, *size) for size in _edge_shapes(*shape))
        assert min_cut(unary, freq_edges, time_edges).shape == (4, *shape)


def _edge_shapes(freq, time):
    return (freq, time), (freq - 1, time), (freq, time - 1)
