"""Labels of blocks for a whole batch: near the exact minimum, different from one another, from few sources each."""

import itertools

import pytest
import torch

from randommix_audio.solvers.joint_labels import JointProblem, compatibility_of, joint_energy, joint_labels, minimise
from tests.devices import pretended_cuda


def saliency_of(parts, inputs, nf=4, nt=4, seed=0, spread=1.0):
    """Heavy-tailed like gradients; each input's blocks sum to 1."""
    values = (torch.randn(parts, inputs, nf, nt, generator=torch.Generator().manual_seed(seed)) * spread).exp()
    return values / values.sum((2, 3), keepdim=True)


def problem_of(saliency, log_prior=None, **options):
    parts, inputs = saliency.shape[:2]
    compatibility = torch.eye(inputs).expand(parts, -1, -1)
    log_prior = torch.zeros(parts, inputs) if log_prior is None else log_prior
    return JointProblem(saliency.unsqueeze(1), compatibility, log_prior, **options)


def start_of(parts, inputs, nf=4, nt=4, seed=0):
    return torch.rand(parts, inputs, nf, nt, generator=torch.Generator().manual_seed(seed))


def shown(weights):
    """How much of each output each input makes up, (P, J, I)."""
    return weights.mean((3, 4))


def scatter(sources, weights):
    """(K, P, J) sources and their weights as weights of all inputs, (P, J, I, nf, nt)."""
    _, parts, inputs, *grid = weights.shape
    index = sources[..., None, None].expand_as(weights).permute(1, 2, 0, 3, 4)
    everything = torch.zeros(parts, inputs, inputs, *grid)
    return everything.scatter_add(2, index, weights.permute(1, 2, 0, 3, 4))


def every_labelling(inputs, nf, nt, shared):
    """All weights of `inputs` outputs, (N, J, I, nf, nt): one input in a block, or half of each of two."""
    labels = list(torch.eye(inputs))
    if shared:
        labels += [(labels[a] + labels[b]) / 2 for a, b in itertools.combinations(range(inputs), 2)]
    choice = torch.cartesian_prod(*[torch.arange(len(labels))] * (inputs * nf * nt))
    weights = torch.stack(labels)[choice].view(-1, inputs, nf * nt, inputs)
    return weights.transpose(2, 3).unflatten(3, (nf, nt))


@pytest.mark.parametrize(
    ("inputs", "nf", "nt", "shared"),
    [(2, 1, 2, True), (2, 2, 1, True), (2, 2, 2, True), (3, 1, 2, True), (3, 1, 3, False)],
)
def test_tiny_problems_end_near_the_exact_minimum(inputs, nf, nt, shared):
    draws, starts = 10, 8
    weights = every_labelling(inputs, nf, nt, shared)
    saliency = saliency_of(draws, inputs, nf, nt, spread=0.7)
    log_prior = torch.rand(draws, inputs, generator=torch.Generator().manual_seed(1)).log()
    gaps = []
    for k in range(draws):
        many = problem_of(saliency[k].expand(len(weights), -1, -1, -1), log_prior[k].expand(len(weights), -1))
        lowest = joint_energy(many, weights).min()
        few = problem_of(saliency[k].expand(starts, -1, -1, -1), log_prior[k].expand(starts, -1))
        found = joint_energy(few, minimise(few, start_of(starts, inputs, nf, nt, seed=k)))
        gaps.append((found - lowest) / lowest.abs())
    gaps = torch.stack(gaps)
    assert gaps.mean() < 0.1
    assert gaps.amin(1).mean() < 0.04
    if shared:  # what was enumerated holds all that can be found
        assert gaps.min() > -1e-5


def test_the_energy_is_the_sum_written_in_the_paper():
    inputs, nf, nt, n = 3, 2, 3, 6
    saliency, log_prior = saliency_of(1, inputs, nf, nt), torch.tensor([[0.2, 0.3, 0.5]]).log()
    compatibility = compatibility_of(saliency, torch.ones(1, inputs, dtype=torch.bool), omega=0.3)
    problem = JointProblem(saliency[:, None], compatibility, log_prior, beta=0.7, gamma=1.3, tau=0.6, eta=0.4)
    z = torch.rand(1, inputs, inputs, nf, nt, generator=torch.Generator().manual_seed(3)).softmax(2)
    o = z[0].mean((2, 3))
    expected = torch.zeros(())
    for j in range(inputs):
        for f, t in itertools.product(range(nf), range(nt)):
            expected -= saliency[0, :, f, t] @ z[0, j, :, f, t] + 0.4 / n * log_prior[0] @ z[0, j, :, f, t]
            for g, u in ((f + 1, t), (f, t + 1)):
                if g < nf and u < nt:
                    expected += 0.7 / n * (z[0, j, :, f, t] - z[0, j, :, g, u]).square().sum() / 2
        others = compatibility[0] @ (o.sum(0) - o[j])
        expected += 1.3 * n * o[j] @ torch.where(others > 0.6, others, 0.0)
    torch.testing.assert_close(joint_energy(problem, z), expected[None])


@pytest.mark.parametrize("iterations", [0, 1, 2, 6])
@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_energy_never_ends_above_its_start(iterations, gamma):
    problem = problem_of(saliency_of(30, 7, 3, 5), gamma=gamma)
    begin = start_of(30, 7, 3, 5)
    before = joint_energy(problem, minimise(problem, begin, iterations=0))
    after = joint_energy(problem, minimise(problem, begin, iterations))
    assert (after <= before).all()
    if iterations > 1:
        assert (after < before).float().mean() > 0.9


def test_more_iterations_never_end_higher():
    problem, begin = problem_of(saliency_of(20, 9)), start_of(20, 9)
    energies = [joint_energy(problem, minimise(problem, begin, iterations)) for iterations in (1, 2, 4, 8)]
    for fewer, more in itertools.pairwise(energies):
        assert (more <= fewer).all()


def test_an_input_that_stands_alone_everywhere_is_left_where_nothing_better_exists():
    """Flat saliency: only borders cost, and every output showing its own row alone costs nothing at all."""
    problem = problem_of(torch.full((1, 6, 4, 4), 1 / 16), beta=1.0)
    sources, weights = joint_labels(problem, torch.zeros(1, 6, 4, 4))
    assert torch.equal(weights[0], torch.ones(1, 6, 4, 4))
    assert torch.equal(sources, torch.arange(6).expand(4, 1, 6))


@pytest.mark.parametrize("inputs", [*range(1, 8), 13, 20, 45])
def test_any_number_of_rows_gives_weights_of_up_to_four_sources(inputs):
    problem = problem_of(saliency_of(2, inputs, 4, 3))
    sources, weights = joint_labels(problem, start_of(2, inputs, 4, 3))
    assert sources.shape == (4, 2, inputs)
    assert weights.shape == (4, 2, inputs, 4, 3)
    assert weights.dtype == torch.float32
    assert torch.equal(weights.sum(0), torch.ones(2, inputs, 4, 3))
    assert set(weights.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert torch.equal(sources[0], torch.arange(inputs).expand(2, -1))
    unused = weights.sum((3, 4)) == 0
    assert torch.equal(sources[unused], sources[:1].expand_as(sources)[unused])
    used = [set(row[~gone].tolist()) for row, gone in zip(sources[1:, 0].T, unused[1:, 0].T, strict=True)]
    assert all(j not in others for j, others in enumerate(used))


@pytest.mark.parametrize("most", [1, 2, 3, 6])
def test_outputs_keep_their_largest_sources(most):
    problem = problem_of(saliency_of(8, 12), beta=0.0)
    begin = start_of(8, 12)
    free = shown(minimise(problem, begin))
    assert (free > 0).sum(2).max() > most or most == 6
    sources, weights = joint_labels(problem, begin, most=most)
    limited = scatter(sources, weights)
    torch.testing.assert_close(limited.sum(2), torch.ones(8, 12, 4, 4))
    assert (shown(limited) > 0).sum(2).max() <= most
    others = free.masked_fill(torch.eye(12, dtype=torch.bool), 0.0)
    dropped = torch.where(shown(limited) > 0, 0.0, others).amax(2)
    smallest_kept = torch.where((shown(limited) > 0) & (others > 0), others, 1.0).amin(2)
    assert (dropped <= smallest_kept).all()
    few = (others > 0).sum(2) <= most - 1
    torch.testing.assert_close(limited[few], minimise(problem, begin)[few])


def overlap(weights):
    total = shown(weights)
    return ((total.sum(1) ** 2).sum(1) - total.square().sum((1, 2))).mean()


def test_the_penalty_makes_outputs_show_different_inputs():
    saliency, begin = saliency_of(10, 12), start_of(10, 12)
    with_penalty = minimise(problem_of(saliency, beta=0.1), begin)
    without = minimise(problem_of(saliency, beta=0.1, gamma=0.0), begin)
    assert overlap(with_penalty) < 0.95 * overlap(without)
    least_used = shown(with_penalty).sum(1).amin(1), shown(without).sum(1).amin(1)
    assert least_used[0].mean() > least_used[1].mean() + 0.2
    labels = (shown(with_penalty) > 0).float()
    same = (torch.cdist(labels, labels, p=1) < 0.5).float().mean((1, 2)) - 1 / 12
    assert same.mean() < 0.01
    alike = minimise(problem_of(saliency, beta=0.0, gamma=0.0), begin)
    assert torch.equal(alike, alike[:, :1].expand_as(alike))  # each output takes what is salient, and all take the same


def test_a_higher_threshold_lets_outputs_resemble_each_other():
    saliency, begin = saliency_of(10, 12), start_of(10, 12)
    overlaps = [overlap(minimise(problem_of(saliency, tau=tau), begin)) for tau in (0.8, 1.5, 12.0)]
    assert overlaps == sorted(overlaps)
    assert overlaps[2] > 1.05 * overlaps[0]


def test_outputs_show_what_is_salient():
    saliency = saliency_of(10, 12)
    weights = minimise(problem_of(saliency), start_of(10, 12))
    seen = (weights * saliency.unsqueeze(1)).sum((2, 3, 4)).mean()
    assert seen > 1.4  # an output that shows one row alone sees 1


def test_costly_borders_make_larger_regions():
    saliency, begin = saliency_of(10, 8), start_of(10, 8)
    sources = [
        (shown(minimise(problem_of(saliency, beta=b), begin)) > 0).sum(2).float().mean() for b in (0.0, 0.3, 3.0)
    ]
    assert sources[0] > sources[1] > sources[2]


def test_blocks_are_shared_only_where_borders_cost():
    saliency, begin = saliency_of(4, 8), start_of(4, 8)
    assert 0.1 < (minimise(problem_of(saliency), begin) == 0.5).sum() / (4 * 8 * 16 * 2) < 0.6
    assert not (minimise(problem_of(saliency, beta=0.0), begin) == 0.5).any()


def dirichlet(alpha, parts, inputs, seed=0):
    torch.manual_seed(seed)
    return torch.distributions.Dirichlet(torch.full((inputs,), alpha)).sample((parts,)).clamp(min=1e-8).log()


def test_a_small_alpha_makes_the_shares_of_inputs_differ_more():
    saliency, begin = saliency_of(40, 6, spread=0.5), start_of(40, 6)
    spreads = [
        shown(minimise(problem_of(saliency, dirichlet(alpha, 40, 6), eta=0.5, tau=1.5), begin)).sum(1).std(1).mean()
        for alpha in (0.3, 2.0, 50.0)
    ]
    assert spreads[0] > spreads[1] > spreads[2]


def test_a_strong_prior_rules():
    log_prior = dirichlet(2.0, 20, 6)
    saliency, begin = saliency_of(20, 6), start_of(20, 6)
    alone = shown(minimise(problem_of(saliency, log_prior, eta=100.0, gamma=0.0), begin))
    assert torch.equal(alone.argmax(2), log_prior.argmax(1, keepdim=True).expand(-1, 6))
    assert (alone.amax(2) > 0.99).all()

    def correlation(eta):
        total = shown(minimise(problem_of(saliency, log_prior, eta=eta, tau=1.5), begin)).sum(1)
        centred = total - total.mean(1, keepdim=True), log_prior.exp() - log_prior.exp().mean(1, keepdim=True)
        return torch.nn.functional.cosine_similarity(*centred, dim=1).mean()

    assert correlation(5.0) > correlation(0.0) + 0.4


def test_no_saliency_is_no_trouble():
    problem = problem_of(torch.zeros(2, 5, 4, 4), eta=0.0)
    sources, weights = joint_labels(problem, start_of(2, 5))
    assert weights.isfinite().all()
    assert torch.equal(weights.sum(0), torch.ones(2, 5, 4, 4))
    assert joint_energy(problem, scatter(sources, weights)).isfinite().all()
    assert compatibility_of(torch.zeros(2, 5, 4, 4), torch.ones(2, 5, dtype=torch.bool)).isfinite().all()


def test_parts_know_nothing_of_each_other():
    saliency, begin = saliency_of(5, 6), start_of(5, 6)
    together = minimise(problem_of(saliency), begin)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert torch.equal(minimise(problem_of(saliency[order]), begin[order]), together[order])
    assert torch.equal(minimise(problem_of(saliency[2:3]), begin[2:3]), together[2:3])


def test_the_energy_does_not_depend_on_the_order_of_the_rows():
    saliency, order = saliency_of(3, 6), torch.tensor([5, 2, 0, 1, 4, 3])
    weights = minimise(problem_of(saliency), start_of(3, 6))
    moved = weights[:, order][:, :, order]
    before, after = joint_energy(problem_of(saliency), weights), joint_energy(problem_of(saliency[:, order]), moved)
    torch.testing.assert_close(before, after)


def test_mirrored_saliency_gives_mirrored_labels():
    saliency, begin = (
        saliency_of(3, 6, 4, 6),
        start_of(3, 6, 4, 6),
    )  # a mirrored chessboard is the same after two mirrors
    weights = minimise(problem_of(saliency), begin)
    mirrored = minimise(problem_of(saliency.flip(2, 3)), begin.flip(2, 3))
    torch.testing.assert_close(mirrored.flip(3, 4), weights)


def test_what_may_not_be_used_is_not_used():
    usable = torch.rand(3, 8, 8, 4, 4, generator=torch.Generator().manual_seed(5)) > 0.4
    usable[:, :, 2] = False  # a missing row: nobody's source, and itself all over
    usable[:, 2] = False
    saliency = saliency_of(3, 8)
    sources, weights = joint_labels(problem_of(saliency, usable=usable), start_of(3, 8), most=8)
    everything = scatter(sources, weights)
    allowed = usable | torch.eye(8, dtype=torch.bool)[:, :, None, None]
    assert (everything[~allowed] == 0).all()
    torch.testing.assert_close(everything.sum(2), torch.ones(3, 8, 4, 4))
    assert torch.equal(everything[:, 2, 2], torch.ones(3, 4, 4))
    assert (shown(everything) > 0).sum(2).float().mean() > 1.2


def test_outputs_may_differ_in_what_they_can_show():
    saliency = saliency_of(1, 4).unsqueeze(1).repeat(1, 4, 1, 1, 1)
    saliency[:, 1, :, :, 2:] = 0.0  # the second output ends half-way
    saliency[:, 1, 1, :, 2:] = 0.1
    problem = JointProblem(saliency, torch.eye(4)[None], torch.zeros(1, 4))
    weights = minimise(problem, start_of(1, 4))
    assert (weights[0, 1, 1, :, 2:] > 0.9).all()


def test_far_peaks_go_well_together():
    saliency = torch.zeros(1, 3, 2, 4)
    saliency[0, 0, 0, 0] = saliency[0, 1, 0, 1] = saliency[0, 2, 1, 3] = 1.0
    present = torch.ones(1, 3, dtype=torch.bool)
    distance = torch.tensor([[0.0, 1.0, 4.0], [1.0, 0.0, 3.0], [4.0, 3.0, 0.0]])
    expected = 0.75 * torch.eye(3) + 0.25 * distance / 16 * 3
    torch.testing.assert_close(compatibility_of(saliency, present, 0.25)[0], expected)
    present[0, 1] = False
    without = compatibility_of(saliency, present, 1.0)[0]
    torch.testing.assert_close(without, torch.tensor([[0.0, 0, 1], [0, 0, 0], [1, 0, 0]]))


def test_nothing_waits_for_the_device():
    with pretended_cuda():
        saliency = torch.rand(3, 1, 7, 4, 5, device="cuda")
        usable = torch.rand(3, 7, 7, 1, 5, device="cuda") > 0.2
        compatibility = compatibility_of(saliency[:, 0], torch.rand(3, 7, device="cuda") > 0.2)
        problem = JointProblem(saliency, compatibility, torch.zeros(3, 7, device="cuda"), usable)
        sources, weights = joint_labels(problem, torch.rand(3, 7, 4, 5, device="cuda"))
        assert sources.shape == (4, 3, 7)
        assert weights.shape == (4, 3, 7, 4, 5)
        assert joint_energy(problem, minimise(problem, torch.rand(3, 7, 4, 5, device="cuda"))).shape == (3,)


def test_wrong_shapes_are_named():
    saliency = torch.rand(2, 1, 5, 4, 4)
    with pytest.raises(ValueError, match=r"compatibility must have shape \(2, 5, 5\), got \(2, 4, 4\)"):
        JointProblem(saliency, torch.zeros(2, 4, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match="log_prior must have shape"):
        JointProblem(saliency, torch.zeros(2, 5, 5), torch.zeros(5))
    with pytest.raises(ValueError, match="saliency must be"):
        JointProblem(torch.rand(2, 3, 5, 4, 4), torch.zeros(2, 5, 5), torch.zeros(2, 5))
