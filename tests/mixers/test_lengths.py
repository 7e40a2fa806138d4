"""Rows of different lengths."""

import pytest
import torch

import randommix_audio as rma


def mix(policy: str, lam_alpha: float = 1.0, **more):
    x = torch.zeros(2, 3, 10)
    x[0, :, :8] = 1.0
    x[1, :, :4] = 3.0
    lengths = torch.tensor([8, 4])
    mixer = rma.Mixup(length_policy=policy, pairing="roll", **more)
    return mixer(x, lengths=lengths, generator=torch.Generator().manual_seed(0))


def test_longest_lets_each_stand_alone_where_only_it_is_valid():
    mixed, plan = mix("longest")
    own = 1 - (plan.share[1, 0] * 8 / 4)  # the weight used in the four common frames
    assert plan.lengths.tolist() == [8, 8]
    torch.testing.assert_close(mixed[0, 0, :4], (own * 1 + (1 - own) * 3).expand(4))
    assert (mixed[0, :, 4:8] == 1).all()
    assert (mixed[1, :, 4:8] == 1).all()
    assert (mixed[:, :, 8:] == 0).all()
    torch.testing.assert_close(plan.share[1, 1], (4 * (1 - own) + 4) / 8)


def test_shortest_cuts_to_the_shorter_and_fills_the_rest():
    mixed, plan = mix("shortest", fill=-7.0)
    assert plan.lengths.tolist() == [4, 4]
    assert (mixed[0, :, 4:8] == -7).all()
    assert (mixed[0, :, 8:] == 0).all()
    assert (plan.weights[:, 0, :, :, 4:8] == 0).all()
    torch.testing.assert_close(plan.share[0, 0], plan.share[0, 1])


def test_anchor_mixes_only_rows_whose_partner_is_not_longer():
    mixed, plan = mix("anchor")
    assert plan.lengths.tolist() == [8, 4]
    assert plan.lam[1] == 1
    assert (mixed[1, :, :4] == 3).all()
    assert (mixed[0, :, :4] > 1).all()


@pytest.mark.parametrize("name", ["cutmix", "time_cutmix", "resizemix", "fmix"])
def test_methods_that_cut_in_time_keep_every_rows_length(name):
    x = torch.randn(6, 8, 50)
    lengths = torch.tensor([50, 3, 0, 20, 49, 1])
    _, plan = rma.build(name, per="row")(x, lengths=lengths)
    assert torch.equal(plan.lengths, lengths)


def test_a_box_lies_inside_the_frames_of_both():
    x = torch.randn(64, 8, 50)
    lengths = torch.randint(1, 51, (64,))
    for variant in ("default", "official"):
        plan = rma.CutMix(per="row", variant=variant).plan(x, lengths)
        both = torch.minimum(lengths, lengths[plan.sources[1]])
        assert (plan.geometry.corners[:, 3] <= both).all()


def test_a_zero_length_row_takes_over_its_partner_under_longest_and_stays_empty_elsewhere():
    x = torch.randn(2, 4, 9)
    lengths = torch.tensor([0, 9])
    plan = rma.Mixup(pairing="roll").plan(x, lengths)
    assert plan.share[:, 0].tolist() == [0, 1]
    assert plan.lengths.tolist() == [9, 9]
    assert torch.equal(plan.apply(x)[0], x[1])
    assert rma.CutMix(pairing="roll").plan(x, lengths).share[:, 0].tolist() == [1, 0]


def test_a_frequency_band_with_longest_keeps_both_audible():
    x = torch.zeros(2, 6, 10)
    x[0, :, :4], x[1] = 1, 2
    lengths = torch.tensor([4, 10])
    plan = rma.FreqCutMix(pairing="roll", per="batch").plan(x, lengths, generator=torch.Generator().manual_seed(5))
    mixed = plan.apply(x)
    assert plan.lengths.tolist() == [10, 10]
    assert (mixed[0, :, 4:] == 2).all()
    assert set(mixed[0, :, :4].unique().tolist()) == {1.0, 2.0}


def test_a_box_has_its_part_of_the_common_frames_and_moves_within_them():
    lengths = torch.tensor([50, 10] * 500)
    plan = rma.TimeCutMix(per="row", pairing="roll").plan(torch.zeros(1000, 2, 50), lengths)
    first, end = plan.geometry.corners[::2, 2], plan.geometry.corners[::2, 3]
    assert (end - first).float().mean() == pytest.approx(5, abs=0.4)
    assert (first > 0).float().mean() > 0.5
    assert (end == 10).float().mean() < 0.5
