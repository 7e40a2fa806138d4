"""The transport of Puzzle Mix: a permutation of blocks that shows more of what is salient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.solver_quality import cost_of, exact_transport, greedy_cost, move_costs, random_problems
from randommix_audio.solvers.block_labels import block_labels
from randommix_audio.solvers.transport import transport
from tests.devices import pretended_cuda


def in_place(rows, freq, time):
    return torch.arange(freq * time).repeat(rows, 1)


def is_permutation(sources):
    return torch.equal(sources.sort(1).values, torch.arange(sources.shape[1]).expand_as(sources))


@settings(deadline=None, max_examples=100)
@given(
    rows=st.integers(1, 5),
    freq=st.integers(1, 6),
    time=st.integers(1, 9),
    eps=st.sampled_from([0.0, 0.01, 0.8]),
    power=st.sampled_from([0.0, 1.0, 20.0]),
    seed=st.integers(0, 10**6),
)
def test_no_block_is_lost_or_doubled_and_the_cost_does_not_rise(rows, freq, time, eps, power, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randint(0, 3, (rows, freq, time), generator=generator) / 2
    saliency = torch.rand(rows, freq, time, generator=generator) ** power
    sources = transport(weight, saliency, eps)
    assert sources.dtype == torch.long
    assert is_permutation(sources)
    costs = move_costs(weight, saliency, eps)
    assert (cost_of(sources, costs) <= cost_of(in_place(rows, freq, time), costs) + 1e-6).all()


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (16, 16), (8, 2), (4, 16)])
def test_most_of_what_can_be_gained_is_gained_and_more_than_by_the_papers_greedy(shape):
    problems = random_problems(128, *shape, seed=5)
    weight = block_labels(*problems)
    costs = move_costs(weight, problems.own)
    stay, exact = (cost_of(x, costs).mean() for x in (in_place(128, *shape), exact_transport(costs)))
    found = cost_of(transport(weight, problems.own), costs).mean()
    assert exact - 1e-6 <= found <= greedy_cost(weight, problems.own).mean() + 1e-6
    assert stay - found >= 0.6 * (stay - exact)


def test_the_salient_block_trades_places_with_the_nearest_that_is_shown():
    saliency = torch.full((1, 2, 6), 0.01)
    saliency[0, 1, 4] = 1
    weight = torch.zeros(1, 2, 6)
    weight[0, 1, 0:3] = 1
    expected = in_place(1, 2, 6)
    expected[0, 6 + 2], expected[0, 6 + 4] = 6 + 4, 6 + 2
    assert torch.equal(transport(weight, saliency), expected)


def test_a_distance_that_costs_more_than_the_saliency_is_not_travelled():
    saliency = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    weight = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])
    assert torch.equal(transport(weight, saliency, eps=1.1), in_place(1, 1, 4))
    assert transport(weight, saliency, eps=0.9).tolist() == [[3, 1, 2, 0]]


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_where_all_or_nothing_is_shown_no_block_moves(weight):
    saliency = random_problems(6, 5, 7).own
    assert torch.equal(transport(torch.full_like(saliency, weight), saliency), in_place(6, 5, 7))


def test_a_half_shown_place_counts_as_shown():
    saliency, weight = random_problems(6, 5, 7).own, torch.rand(6, 5, 7).round()
    assert torch.equal(transport(weight / 2, saliency), transport(weight, saliency))


@pytest.mark.parametrize("saliency", [0.0, 1.0, torch.nan, torch.inf])
def test_without_differences_in_saliency_no_block_moves(saliency):
    weight = torch.rand(4, 3, 5).round()
    assert torch.equal(transport(weight, torch.full((4, 3, 5), saliency)), in_place(4, 3, 5))


def test_fixed_blocks_stay_and_the_others_move_around_them():
    problems = random_problems(40, 4, 8, seed=6)
    saliency, weight = problems.own**4, block_labels(*problems)
    fixed = torch.zeros(40, 4, 8, dtype=torch.bool)
    fixed[:, :, 5:] = True
    sources = transport(weight, saliency, eps=0.05, fixed=fixed)
    stay = in_place(40, 4, 8)
    assert is_permutation(sources)
    assert torch.equal(sources[fixed.flatten(1)], stay[fixed.flatten(1)])
    assert (sources != stay).any()
    assert (transport(weight, saliency, eps=0.05) != stay)[fixed.flatten(1)].any()
    assert torch.equal(transport(weight, saliency, fixed=torch.ones_like(fixed)), stay)


def test_the_scale_of_saliency_does_not_count():
    problems = random_problems(30, 4, 6)
    weight = block_labels(*problems)
    assert torch.equal(transport(weight, problems.own * 2048), transport(weight, problems.own))


def test_each_row_is_moved_for_itself():
    problems = random_problems(6, 3, 9)
    weight = block_labels(*problems)
    alone = torch.cat([transport(weight[row, None], problems.own[row, None], 0.1) for row in range(6)])
    assert torch.equal(transport(weight, problems.own, 0.1), alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_read(dtype):
    saliency, weight = random_problems(4, 4, 6).own.to(dtype), torch.rand(4, 4, 6).round()
    assert torch.equal(transport(weight.to(dtype), saliency), transport(weight, saliency.float()))


def test_no_rows_move_no_blocks():
    assert transport(torch.rand(0, 2, 3), torch.rand(0, 2, 3)).shape == (0, 6)


def test_nothing_waits_for_the_device():
    with pretended_cuda():
        grid = torch.empty(4, 3, 5, device="cuda")
        assert transport(grid, grid, fixed=grid > 0).shape == (4, 15)


def test_what_does_not_fit_is_named():
    grid = torch.rand(2, 3, 4)
    with pytest.raises(ValueError, match="eps must not be negative, got -1"):
        transport(grid, grid, eps=-1.0)
    with pytest.raises(ValueError, match=r"weight and saliency must be \(n, nf, nt\), got \(2, 3, 3\), \(2, 3, 4\)"):
        transport(grid[..., 1:], grid)
    with pytest.raises(ValueError, match=r"fixed must be .*\(2, 3, 4\), got \(1, 3, 4\)"):
        transport(grid, grid, fixed=grid[:1] > 0)
