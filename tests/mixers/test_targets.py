"""Losses, targets and accuracy of mixed batches."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import randommix_audio as rma
from tests.mixers.strategies import NAMES

B, C = 7, 5


@pytest.fixture
def plan() -> rma.MixPlan:
    return rma.RandomMix(per="row").plan(torch.randn(B, 12, 30), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def identity() -> rma.MixPlan:
    return rma.RandomMix().eval()(torch.randn(B, 12, 30))[1]


logits = torch.randn(B, C, generator=torch.Generator().manual_seed(1))
ids = torch.randint(0, C, (B,), generator=torch.Generator().manual_seed(2))


def test_the_mixed_cross_entropy_is_that_of_the_soft_target(plan):
    soft = plan.mix_targets(ids, num_classes=C)
    torch.testing.assert_close(plan.loss(F.cross_entropy, logits, ids), F.cross_entropy(logits, soft))
    smoothed = plan.loss(F.cross_entropy, logits, ids, label_smoothing=0.1)
    torch.testing.assert_close(smoothed, F.cross_entropy(logits, soft, label_smoothing=0.1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.CrossEntropyLoss(),
        lambda: nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5, 4.0, 1.5])),
        lambda: nn.CrossEntropyLoss(ignore_index=2),
        lambda: nn.CrossEntropyLoss(weight=torch.rand(C) + 0.1, ignore_index=1, label_smoothing=0.2, reduction="sum"),
    ],
)
def test_an_unmixed_batch_counts_exactly_as_pytorch_counts_it(identity, make):
    criterion = make()
    torch.testing.assert_close(
        identity.loss(criterion, logits, ids, reduction=criterion.reduction), criterion(logits, ids)
    )


def test_a_module_criterion_is_not_modified(plan):
    criterion = nn.CrossEntropyLoss()
    plan.loss(criterion, logits, ids)
    assert criterion.reduction == "mean"


def test_class_weights_count_by_the_shares_of_the_targets(plan):
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.5])
    total = count = 0.0
    for k in range(2):
        target = ids[plan.sources[k]]
        total += (plan.share[k] * F.cross_entropy(logits, target, weight=weight, reduction="none")).sum()
        count += (plan.share[k] * weight[target]).sum()
    torch.testing.assert_close(plan.loss(F.cross_entropy, logits, ids, weight=weight), total / count)


def test_an_ignored_source_counts_nothing(plan):
    target = ids.clone()
    target[3] = -100
    loss = plan.loss(F.cross_entropy, logits, target)
    assert loss.isfinite()
    values = plan.loss(F.cross_entropy, logits, target, reduction="none")
    counted = (plan.share * (target[plan.sources] != -100)).sum()
    torch.testing.assert_close(loss, values.sum() / counted)


def test_dense_predictions_are_weighted_row_by_row(plan):
    dense, target = torch.randn(B, C, 11), torch.randint(0, C, (B, 11))
    expected = sum(
        (plan.share[k][:, None] * F.cross_entropy(dense, target[plan.sources[k]], reduction="none")).mean()
        for k in (0, 1)
    )
    torch.testing.assert_close(plan.loss(F.cross_entropy, dense, target), expected)


def test_multi_label_losses_take_soft_targets(plan):
    hot = (torch.rand(B, C) > 0.5).float()
    mixed = F.binary_cross_entropy_with_logits(logits, plan.mix_targets(hot))
    torch.testing.assert_close(plan.loss(F.binary_cross_entropy_with_logits, logits, hot), mixed)
    torch.testing.assert_close(plan.loss(nn.BCEWithLogitsLoss(), logits, hot), mixed)


def test_a_criterion_of_ones_own_may_be_a_plain_function_of_per_row_values(plan):
    def focal(prediction, target):
        return (1 - prediction.softmax(1).gather(1, target[:, None])[:, 0]) ** 2

    expected = (plan.share[0] * focal(logits, ids) + plan.share[1] * focal(logits, ids[plan.sources[1]])).mean()
    torch.testing.assert_close(plan.loss(focal, logits, ids), expected)


def test_a_criterion_that_gives_only_a_mean_is_refused_with_what_to_pass(plan):
    def mean_only(prediction, target):
        return F.cross_entropy(prediction, target)

    with pytest.raises(ValueError, match='reduction="none"'):
        plan.loss(mean_only, logits, ids)
    with pytest.raises(ValueError, match="reduction must be"):
        plan.loss(F.cross_entropy, logits, ids, reduction="avg")


def test_a_partial_function_counts_as_the_function(identity):
    weight = torch.tensor([1.0, 2.0, 0.5, 4.0, 1.5])
    criterion = functools.partial(F.cross_entropy, weight=weight, ignore_index=2)
    torch.testing.assert_close(identity.loss(criterion, logits, ids), criterion(logits, ids))


def test_a_module_made_to_sum_sums_and_batchmean_is_refused(identity):
    torch.testing.assert_close(
        identity.loss(nn.CrossEntropyLoss(reduction="sum"), logits, ids), F.cross_entropy(logits, ids, reduction="sum")
    )
    with pytest.raises(ValueError, match="reduces by 'batchmean'"):
        identity.loss(nn.KLDivLoss(reduction="batchmean"), logits.log_softmax(1), logits.softmax(1))


def test_a_compiled_criterion_is_not_modified(plan):
    criterion = nn.CrossEntropyLoss()
    plan.loss(torch.compile(criterion, backend="eager"), logits, ids)
    assert criterion.reduction == "mean"


def test_an_infinite_loss_of_a_source_without_share_is_no_loss(identity):
    masked = logits.clone()
    masked[0, (ids[0] + 1) % C] = float("-inf")
    plan = rma.build("none", pairing="roll").plan(torch.zeros(B, 2, 3))
    torch.testing.assert_close(plan.loss(F.cross_entropy, masked, ids), F.cross_entropy(masked, ids))


def test_half_precision_losses_are_summed_in_float32(identity):
    dense = torch.randn(B, C, 40, 40).half()
    target = torch.randint(0, C, (B, 40, 40))
    loss = identity.loss(F.cross_entropy, dense, target)
    torch.testing.assert_close(loss, F.cross_entropy(dense.float(), target), atol=1e-3, rtol=1e-3)


def test_a_module_criterion_takes_no_options(plan):
    with pytest.raises(ValueError, match="no further options, got label_smoothing"):
        plan.loss(nn.CrossEntropyLoss(), logits, ids, label_smoothing=0.1)


def test_union_counts_everything_audible_whole(plan):
    hot = F.one_hot(ids, C).float()
    union = plan.mix_targets(ids, num_classes=C, kind="union")
    expected = torch.maximum(hot, hot[plan.sources[1]] * (plan.share[1] > 0)[:, None])
    assert torch.equal(union, expected)
    assert torch.equal(plan.mix_targets(hot, kind="union"), expected)


def test_large_class_ids_stay_exact_in_half_precision():
    plan = rma.Mixup(pairing="roll").plan(torch.zeros(2, 3, 4, dtype=torch.bfloat16))
    target = torch.tensor([4095, 2])
    soft = plan.mix_targets(target, num_classes=5000)
    assert set(soft[0].nonzero().flatten().tolist()) == {2, 4095}
    assert plan.pair(target).tolist() == [2, 4095]


def test_accuracy_earns_the_share_of_the_source_that_is_named(plan):
    one_hot = F.one_hot(ids, C).float()
    same = ids == ids[plan.sources[1]]
    expected = torch.where(same, 1.0, plan.lam).mean()
    torch.testing.assert_close(plan.accuracy(one_hot, ids), expected)


def test_targets_of_another_batch_are_refused(plan):
    with pytest.raises(ValueError, match="7 rows"):
        plan.loss(F.cross_entropy, logits, ids[:3])
    with pytest.raises(ValueError, match="num_classes"):
        plan.mix_targets(ids)
    with pytest.raises(ValueError, match="1 axes"):
        plan.mix_targets(F.one_hot(ids, C), num_classes=C)
    with pytest.raises(ValueError, match="prediction"):
        plan.accuracy(logits[:1], ids)
    with pytest.raises(ValueError, match="scores"):
        plan.accuracy(torch.randn(B, C, 4), torch.randint(0, C, (B, 4)))
    assert torch.equal(plan.mix_targets(F.one_hot(ids, C).bool()), plan.mix_targets(ids, num_classes=C))


@pytest.mark.parametrize("name", ["mixup", "cutmix", "time_cutmix", "freq_cutmix", "fmix", "randommix", "resizemix"])
@pytest.mark.parametrize("hop", [1, 4, 7])
def test_frame_labels_follow_the_weights_whatever_the_hop(name, hop):
    x = torch.randn(B, 6, 30)
    lengths = torch.tensor([30, 20, 11, 30, 5, 1, 29])
    plan = rma.build(name, per="row").plan(x, lengths, generator=torch.Generator().manual_seed(4))
    labels = -(-30 // hop)
    ones = plan.mix_frames(torch.ones(B, C, labels), hop=hop)
    torch.testing.assert_close(ones, torch.ones(B, C, labels))
    ids_per_frame = torch.randint(0, C, (B, labels))
    soft = plan.mix_frames(ids_per_frame, hop=hop, num_classes=C)
    torch.testing.assert_close(soft.sum(1), torch.ones(B, labels))
    if name != "resizemix" and name != "randommix":
        weights = plan.weights.mean(3).expand(2, B, 1, 30)[:, :, 0]
        label = torch.arange(30) // hop
        for j in range(labels):
            own = weights[0][:, label == j].mean(1)
            expected = own[:, None] * F.one_hot(ids_per_frame[:, j], C) + (1 - own)[:, None] * F.one_hot(
                ids_per_frame[plan.sources[1], j], C
            )
            torch.testing.assert_close(soft[:, :, j], expected.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["mixup", "fmix", "resizemix", "randommix"])
def test_labels_of_a_single_class_need_no_class_axis(name):
    plan = rma.build(name, per="row").plan(torch.zeros(B, 6, 30))
    voiced = torch.rand(B, 30) > 0.5
    expected = plan.mix_frames(voiced[:, None].float())[:, 0]
    assert torch.equal(plan.mix_frames(voiced), expected)
    assert torch.equal(plan.mix_frames(voiced.float()), expected)


def test_arguments_in_another_order_are_named(plan):
    with pytest.raises(TypeError, match="criterion comes first"):
        plan.loss(logits, ids, F.cross_entropy)
    with pytest.raises(TypeError, match="target must be a tensor, got list"):
        plan.loss(F.cross_entropy, logits, ids.tolist())
    with pytest.raises(ValueError, match=r"labels are \(B, C, T'\) or \(B, T'\)"):
        plan.mix_frames(torch.rand(B, 30, C))


def test_frame_labels_move_with_a_resized_partner():
    x = torch.zeros(2, 10, 40)
    plan = rma.ResizeMix(scale=(0.5, 0.5), pairing="roll").plan(x, generator=torch.Generator().manual_seed(1))
    label = torch.zeros(2, 1, 40)
    label[1, 0, 20:] = 1  # the second half of row 1 is an event; in the box it is the second half of the box
    mixed = plan.mix_frames(label)[0, 0]
    _, _, first, end = plan.geometry.corners[0].tolist()
    middle = (first + end) // 2
    assert (mixed[first:middle] == 0).all()
    torch.testing.assert_close(mixed[middle:end], torch.full((end - middle,), 0.5))  # half of the bins
    assert (mixed[end:] == 0).all()


@pytest.mark.parametrize("hop", [1, 3, 8])
def test_frame_labels_of_a_resized_partner_agree_with_labels_given_for_every_frame(hop):
    time = 40
    plan = rma.ResizeMix(per="row").plan(torch.zeros(6, 5, time), generator=torch.Generator().manual_seed(0))
    coarse = torch.rand(6, 3, -(-time // hop))
    fine = coarse.repeat_interleave(hop, dim=2)[:, :, :time]
    expected = F.avg_pool1d(plan.mix_frames(fine), hop, ceil_mode=True)
    torch.testing.assert_close(plan.mix_frames(coarse, hop=hop), expected)


def test_frame_labels_of_a_waveform_plan_average_over_samples():
    wave = torch.randn(3, 1000)
    plan = rma.TimeCutMix(pairing="roll").plan(wave, generator=torch.Generator().manual_seed(0))
    soft = plan.mix_frames(torch.arange(3)[:, None].expand(3, 7), hop=160, num_classes=3)
    own = plan.weights[0][0, 0, 0, :]
    expected = torch.stack([own[j * 160 : (j + 1) * 160].mean() for j in range(7)])
    torch.testing.assert_close(soft[0, 0], expected)
    with pytest.raises(ValueError, match="expected 7 labels on the last axis"):
        plan.mix_frames(torch.rand(3, 2, 6), hop=160)


@pytest.mark.parametrize("name", NAMES)
def test_the_derivative_of_applying_a_plan_is_that_of_finite_differences(name):
    x = torch.randn(3, 1, 4, 6, dtype=torch.float64, requires_grad=True)
    plan = rma.build(name, per="row").plan(x, lengths=torch.tensor([6, 3, 5]))
    assert torch.autograd.gradcheck(plan.apply, (x,))
