"""RandomMix: the choice among methods."""

import pytest
import torch

import randommix_audio as rma


def test_per_row_each_row_is_mixed_by_the_method_that_the_plan_names():
    x = torch.randn(64, 12, 30)
    plan = rma.RandomMix(per="row").plan(x, generator=torch.Generator().manual_seed(0))
    weights = plan.weights[0].expand(64, 1, 12, 30).flatten(1)
    assert set(plan.method) == {"mixup", "cutmix", "resizemix", "fmix"}
    for row, method in enumerate(plan.method):
        linear = bool((weights[row] == weights[row][0]).all() and 0 < weights[row][0] < 1)
        assert linear == (method == "mixup")


def test_per_batch_one_method_mixes_all_rows():
    mixer = rma.RandomMix()
    names = {mixer.plan(torch.randn(6, 12, 30)).method for _ in range(60)}
    assert names == {"mixup", "cutmix", "resizemix", "fmix"}


def test_candidates_may_be_mixers_with_arguments_of_their_own():
    mixer = rma.RandomMix([rma.Mixup(alpha=0.2), "freq_cutmix", rma.FMix(decay_time=1.5)], weights=[1, 1, 2], per="row")
    mixed, plan = mixer(torch.randn(9, 7, 19), lengths=torch.randint(1, 20, (9,)))
    assert mixed.isfinite().all()
    assert set(plan.method) <= {"mixup", "freq_cutmix", "fmix"}


def test_alpha_and_variant_reach_the_candidates_that_have_them():
    mixer = rma.RandomMix(alpha=0.3, variant="official", per="row")
    assert [getattr(candidate, "alpha", None) for candidate in mixer.candidates] == [0.3, 0.3, None, 0.3]
    assert [candidate.variant for candidate in mixer.candidates] == ["official"] * 4
    assert {candidate.per for candidate in mixer.candidates} == {"row"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": []}, "at least one"),
        ({"candidates": {"mixup": 3, "fmix": 1}}, "list of names or mixers, with weights beside it"),
        ({"candidates": "mixup"}, "list of names or mixers"),
        ({"alpha": "1"}, "alpha must be a number above 0, got '1'"),
        ({"candidates": ["mixup", "nonsense"]}, "candidate must be one of"),
        ({"candidates": ["mixup"], "weights": [1, 2]}, "1 candidates need 1 weights"),
        ({"candidates": ["mixup"], "weights": [0]}, "not all 0"),
        ({"candidates": ["mixup", "cutmix"], "weights": [2, -1]}, "at least 0"),
        ({"candidates": [rma.Mixup(p=0.5)]}, "set p on RandomMix"),
        ({"candidates": [rma.RandomMix()]}, "cannot be a candidate"),
        ({"candidates": [rma.Mixup(pairing="roll")]}, "set pairing on RandomMix"),
        ({"candidates": [rma.Mixup(layout="BTF")]}, "set layout on RandomMix"),
        ({"candidates": [3]}, "name or a mixer"),
        ({"candidates": ["resizemix"], "alpha": -1}, "alpha must be a number above 0"),
        ({"candidates": ["time_cutmix"], "variant": "bogus"}, "variant must be one of"),
        ({"candidates": ["mixup", "cutmix"], "weights": [float("nan"), 1]}, "at least 0"),
        ({"alpha": 0}, "alpha must be a number above 0"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        rma.RandomMix(**arguments)


def test_caller_lists_are_not_modified():
    candidates, weights = ["mixup", "cutmix"], [3, 1]
    rma.RandomMix(candidates, weights)(torch.randn(4, 5, 6))
    assert (candidates, weights) == (["mixup", "cutmix"], [3, 1])


def test_a_mix_of_length_policies_gives_each_row_its_own_length():
    x = torch.randn(40, 6, 30)
    lengths = torch.randint(1, 31, (40,))
    plan = rma.RandomMix(["mixup", "time_cutmix"], per="row", pairing="derangement").plan(x, lengths)
    partner = lengths[plan.sources[1]]
    for row, method in enumerate(plan.method):
        expected = max(lengths[row], partner[row]) if method == "mixup" else lengths[row]
        assert plan.lengths[row] == expected


def test_rows_that_a_candidate_leaves_alone_are_copied_whatever_their_partner_holds():
    x = torch.randn(6, 4, 9)
    x[2] = float("nan")
    mixed = rma.RandomMix(["none"], per="row", pairing="roll")(x)[0]
    assert torch.equal(mixed.nan_to_num(7.0), x.nan_to_num(7.0))


def test_a_length_policy_fills_only_the_rows_of_its_own_method():
    x = torch.randn(32, 4, 20)
    lengths = torch.randint(5, 20, (32,))
    mixer = rma.RandomMix([rma.Mixup(length_policy="shortest", fill=-5.0), "time_cutmix"], per="row")
    mixed, plan = mixer(x, lengths)
    cut = [row for row, method in enumerate(plan.method) if method == "time_cutmix"]
    assert not (mixed[cut] == -5).any()
    shorter = (plan.lengths < lengths).nonzero().flatten().tolist()
    assert shorter
    for row in shorter:
        assert (mixed[row, :, plan.lengths[row] : lengths[row]] == -5).all()
        assert torch.equal(mixed[row, :, lengths[row] :], x[row, :, lengths[row] :])
    assert torch.equal(plan.weights.sum(0)[shorter[0], 0, 0] == 0, mixed[shorter[0], 0] == -5)


def test_per_row_every_row_draws_for_itself_even_from_a_candidate_made_for_a_batch():
    plan = rma.RandomMix([rma.Mixup(), rma.FMix()], per="row").plan(torch.randn(32, 8, 20))
    linear = [row for row, method in enumerate(plan.method) if method == "mixup"]
    assert len(plan.lam[linear].unique()) == len(linear)
