"""The labels of Puzzle Mix: the energy is the paper's, and no labels have a much lower one."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.solver_quality import exact_labels, random_problems
from randommix_audio.solvers.block_labels import block_energy, block_labels
from tests.devices import pretended_cuda


def energy_by_the_formula(z, own, partner, own_mean, partner_mean, lam, beta=1.2, gamma=0.5, eta=0.2):
    """The paper's energy of labels 0 and 1 on a square grid, block by block and border by border."""
    blocks = len(z)
    total = 0.0
    for i, j in itertools.product(range(blocks), repeat=2):
        total += float(partner[i, j] if z[i][j] else own[i, j])
        total -= eta / blocks**2 * math.log(lam if z[i][j] else 1 - lam)
        for k, m in ((i + 1, j), (i, j + 1)):
            if k < blocks and m < blocks:
                before, after = (own_mean if z[i][j] else partner_mean), (own_mean if z[k][m] else partner_mean)
                unlike = float((before[:, i, j] - after[:, k, m]).abs().mean())
                total += beta / (16 * blocks) * ((z[i][j] - z[k][m]) ** 2 + gamma * unlike)
    return total


def every_labelling(freq, time, labels):
    one = torch.tensor(list(itertools.product(range(labels), repeat=freq * time)))
    return one.view(-1, freq, time) / (labels - 1)


def least(energy, row, weights):
    """The lowest energy of one problem over all weights, (m, nf, nt)."""
    count = len(weights)
    parts = (energy.costs[:, row], energy.freq_edges[row], energy.time_edges[row])
    costs, freq_edges, time_edges = parts[0].unsqueeze(1).expand(-1, count, -1, -1), *parts[1:]
    return type(energy)(costs, freq_edges, time_edges, energy.constant[row])(weights).min()


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_energy_of_two_labels_is_the_papers(blocks, channels):
    problems = random_problems(6, blocks, blocks, channels, seed=1)
    z = torch.randint(0, 2, (6, blocks, blocks), generator=torch.Generator().manual_seed(2)).float()
    found = block_energy(*problems, labels=2)(z)
    rows = zip(z.tolist(), *problems[:4], problems.lam.tolist(), strict=True)
    expected = [energy_by_the_formula(*row) for row in rows]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_a_half_label_costs_the_binomial_prior_and_half_of_either_source():
    problems = random_problems(5, 1, 1, seed=1)
    lam = problems.lam
    expected = 1 - 0.2 * torch.stack([2 * (1 - lam).log(), (2 * lam * (1 - lam)).log(), 2 * lam.log()])
    energy = block_energy(*problems)
    found = torch.stack([energy(torch.full((5, 1, 1), weight)) for weight in (0, 0.5, 1)])
    torch.testing.assert_close(found, expected)


def test_weights_of_half_along_a_border_cost_the_mean_of_both_sources():
    problems = random_problems(5, 1, 2, seed=1)
    smooth, plain = block_energy(*problems), block_energy(*problems, gamma=0)
    own, partner, half = (smooth(weight) - plain(weight) for weight in (torch.full((5, 1, 2), w) for w in (1, 0, 0.5)))
    torch.testing.assert_close(half, (own + partner) / 2)
    assert (own > 0).all()


def test_a_border_weighs_as_much_as_it_is_long():
    problems = random_problems(2, 4, 8)
    energy = block_energy(*problems, gamma=0)
    torch.testing.assert_close(energy.freq_edges, torch.full((2, 3, 8), 1.2 / 16 / 8))
    torch.testing.assert_close(energy.time_edges, torch.full((2, 4, 7), 1.2 / 16 / 4))


def test_parts_of_blocks_are_compared_along_the_border_alone():
    problems = random_problems(3, 2, 4)
    generator = torch.Generator().manual_seed(0)
    parts = [torch.rand(3, 2, 6, 8, generator=generator) for _ in range(2)]
    one = torch.ones(3, 2, 4)
    energy = [block_energy(*problems[:2], *parts, problems.lam, gamma=gamma)(one) for gamma in (1.0, 0.0)]
    across = (parts[0][:, :, 2] - parts[0][:, :, 3]).abs().sum((1, 2)) / 2 / 2 * 1.2 / 16 / 4
    along = (parts[0][..., 1:6:2] - parts[0][..., 2:7:2]).abs().sum((1, 2, 3)) / 2 / 3 * 1.2 / 16 / 2
    torch.testing.assert_close(energy[0] - energy[1], across + along)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.sampled_from([(2, 2), (2, 3), (3, 2), (3, 3), (1, 5), (4, 1), (1, 1)]),
    labels=st.sampled_from([2, 3]),
    seed=st.integers(0, 10**6),
    beta=st.sampled_from([0.0, 1.2, 6.0]),
    eta=st.sampled_from([0.0, 0.2, 2.0]),
)
def test_no_labels_of_a_small_grid_have_less_energy(shape, labels, seed, beta, eta):
    problems = random_problems(3, *shape, channels=3, seed=seed)
    energy = block_energy(*problems, labels=labels, beta=beta, eta=eta)
    found = energy(block_labels(*problems, labels=labels, beta=beta, eta=eta))
    weights = every_labelling(*shape, labels)
    expected = torch.stack([least(energy, row, weights) for row in range(3)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize(
    "shape, limit", [((2, 2), 1), ((4, 4), 1), ((8, 8), 1), ((16, 16), 2), ((4, 16), 1), ((8, 2), 1)]
)
def test_the_mean_energy_is_within_a_few_per_cent_of_the_least(shape, limit, labels):
    problems = random_problems(1000 if shape[0] == shape[1] else 200, *shape, channels=3, seed=7)
    energy = block_energy(*problems, labels=labels)
    least_energy = energy(exact_labels(energy).float()).mean()
    assert least_energy > 0.1  # a share of it means something
    assert (
        least_energy * (1 - 1e-5)
        <= energy(block_labels(*problems, labels=labels)).mean()
        <= least_energy * (1 + limit / 100)
    )


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (10, 12)])
def test_weights_are_the_labels_and_nothing_else(shape, labels):
    weight = block_labels(*random_problems(60, *shape), labels=labels)
    assert weight.dtype == torch.float32
    assert weight.shape == (60, *shape)
    assert weight.unique().tolist() == [k / (labels - 1) for k in range(labels)]


def test_a_larger_share_asked_for_gives_a_larger_share():
    problems = random_problems(200, 4, 6)
    shares = [block_labels(*problems[:4], torch.full((200,), lam)).mean() for lam in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert all(low < high for low, high in itertools.pairwise(shares))
    assert shares[0] < 0.02
    assert shares[-1] > 0.98


def test_row_and_partner_in_each_others_place_get_each_others_weight():
    own, partner, own_mean, partner_mean, lam = random_problems(100, 8, 6, seed=3)
    weight = block_labels(own, partner, own_mean, partner_mean, lam)
    turned = block_labels(partner, own, partner_mean, own_mean, 1 - lam)
    assert (weight + turned == 1).float().mean() > 0.999  # but for ties within rounding


def test_the_scale_of_saliency_does_not_count():
    problems = random_problems(50, 4, 5)
    scaled = problems._replace(own=problems.own * 1024, partner=problems.partner / 4096)
    assert torch.equal(block_labels(*scaled), block_labels(*problems))


@pytest.mark.parametrize("shape", [(2, 2), (4, 3), (9, 10)])
@pytest.mark.parametrize("labels", [2, 3])
def test_no_saliency_at_all_is_the_same_as_equal_saliency(shape, labels):
    problems = random_problems(20, *shape)
    nothing, equal = torch.zeros_like(problems.own), torch.ones_like(problems.own)
    weight = block_labels(*problems._replace(own=nothing, partner=nothing), labels=labels)
    assert torch.equal(weight, block_labels(*problems._replace(own=equal, partner=equal), labels=labels))
    assert block_energy(*problems._replace(own=nothing)).costs.isfinite().all()


def test_shares_of_0_and_1_and_equal_rows_give_finite_energy():
    problems = random_problems(4, 3, 4)._replace(lam=torch.tensor([0.0, 1.0, 0.0, 1.0]))
    energy = block_energy(*problems._replace(partner=problems.own, partner_mean=problems.own_mean))
    assert energy.costs.isfinite().all()
    assert energy(block_labels(*problems)).isfinite().all()


def test_each_problem_is_solved_for_itself():
    problems = random_problems(6, 9, 11, channels=3)
    alone = torch.cat([block_labels(*(x[row, None] for x in problems)) for row in range(6)])
    assert torch.equal(block_labels(*problems), alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_read(dtype):
    problems = [x.to(dtype) for x in random_problems(5, 4, 3)]
    assert torch.equal(block_labels(*problems), block_labels(*(x.float() for x in problems)))


def test_gradients_are_neither_needed_nor_in_the_way():
    problems = random_problems(3, 4, 10)
    weight = block_labels(*(x.clone().requires_grad_() for x in problems))
    assert not weight.requires_grad
    assert torch.equal(weight, block_labels(*problems))


def test_values_far_apart_still_give_labels():
    problems = random_problems(20, 4, 6)
    wild = problems._replace(own_mean=problems.own_mean * 1e3, partner_mean=-problems.partner_mean * 1e3)
    energy = block_energy(*wild)
    assert (energy.freq_edges >= 0).all()
    assert (energy.time_edges >= 0).all()
    torch.testing.assert_close(energy(block_labels(*wild)), energy(exact_labels(energy).float()), rtol=1e-4, atol=1e-4)


def test_no_problems_have_no_labels():
    assert block_labels(*(x[:0] for x in random_problems(1, 2, 3))).shape == (0, 2, 3)


@pytest.mark.parametrize("shape", [(2, 3), (9, 10)])
def test_nothing_waits_for_the_device(shape):
    with pretended_cuda():
        grid, mean = torch.empty(4, *shape, device="cuda"), torch.empty(4, 3, *shape, device="cuda")
        assert block_labels(grid, grid, mean, mean, torch.empty(4, device="cuda")).shape == (4, *shape)


@pytest.mark.parametrize(
    "change, arguments, message",
    [
        ({}, {"labels": 4}, "labels must be 2 or 3, got 4"),
        ({}, {"beta": -1.0}, "must not be negative, got -1.0"),
        ({"partner": torch.rand(2, 3, 5)}, {}, r"saliencies must be .* got \(2, 3, 4\) and \(2, 3, 5\)"),
        ({"lam": torch.rand(3)}, {}, r"lam must be \(n,\) = \(2,\), got \(3,\)"),
        ({"own_mean": torch.rand(2, 1, 3, 5)}, {}, r"both means .* got \(2, 1, 3, 5\)"),
        ({"partner_mean": torch.rand(2, 3, 3, 4)}, {}, r"both means .* and \(2, 3, 3, 4\)"),
    ],
)
def test_what_does_not_fit_is_named(change, arguments, message):
    with pytest.raises(ValueError, match=message):
        block_labels(*random_problems(2, 3, 4)._replace(**change), **arguments)
