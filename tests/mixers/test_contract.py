"""The contract that does not depend on the method: layouts, dtypes, granularity, p, eval, edge cases, errors."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

import randommix_audio as rma
from randommix_audio.mixers.checks import check_lengths, check_rows
from tests.mixers.strategies import BY_BOTH_ROWS, MAY_KEEP_A_CHOSEN_ROW, NAMES, is_mixed

EVERY = pytest.mark.parametrize("name", NAMES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@EVERY
@pytest.mark.parametrize("per", ["batch", "row"])
def test_every_layout_mixes_the_same_numbers(name, per):
    mixer = rma.build(name, per=per)
    btf = rma.build(name, per=per, layout="BTF")
    x = torch.randn(5, 12, 30)
    expected = mixer(x, generator=seeded())[0]
    assert torch.equal(mixer(x.unsqueeze(1), generator=seeded())[0].squeeze(1), expected)
    assert torch.equal(btf(x.transpose(1, 2), generator=seeded())[0].transpose(1, 2), expected)
    assert torch.equal(btf(x.transpose(1, 2).contiguous(), generator=seeded())[0].transpose(1, 2), expected)
    wave = torch.randn(5, 400)
    mixed, plan = mixer(wave, generator=seeded())
    assert mixed.shape == wave.shape
    assert plan.layout == "BT"


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept_and_the_share_is_of_the_weights_used_in_it(name, dtype):
    x = torch.zeros(4, 6, 50, dtype=dtype)
    x[0] = 1
    mixed, plan = rma.build(name, per="batch", pairing="roll", fill=1.0)(x, generator=seeded(3))
    assert mixed.dtype == dtype
    # row 0 is ones and its partner zeros, so that its mean is its share, what is filled with ones included
    torch.testing.assert_close(mixed[0].double().mean().float(), plan.lam[0], atol=1e-6, rtol=1e-6)


@EVERY
def test_strided_and_channels_last_batches_mix_as_contiguous_ones(name):
    mixer = rma.build(name, per="row")
    x = torch.randn(6, 3, 10, 40)
    expected = mixer(x, generator=seeded())[0]
    last = mixer(x.contiguous(memory_format=torch.channels_last), generator=seeded())[0]
    assert torch.equal(last, expected)
    wide = torch.randn(6, 3, 10, 80)
    wide[..., ::2] = x
    assert torch.equal(mixer(wide[..., ::2], generator=seeded())[0], expected)


@EVERY
@pytest.mark.parametrize("per", ["batch", "row"])
def test_the_mix_has_the_memory_layout_of_the_batch(name, per):
    x = torch.randn(6, 3, 10, 40)
    for batch in (x, x.contiguous(memory_format=torch.channels_last)):
        assert rma.build(name, per=per)(batch)[0].stride() == batch.stride()
    btf = torch.randn(6, 40, 10)
    assert rma.build(name, per=per, layout="BTF")(btf)[0].is_contiguous()


@EVERY
def test_an_empty_batch_stays_empty(name):
    for per in ("batch", "row"):
        mixer = rma.build(name, per=per)
        mixed, plan = mixer(torch.randn(0, 8, 20))
        assert mixed.shape == (0, 8, 20)
        assert plan.share.shape == (mixer.source_count, 0)


def test_rows_without_a_partner_are_copied_even_where_they_are_infinite():
    x = torch.randn(6, 4, 9)
    x[:, 1] = float("-inf")
    mixed, plan = rma.Mixup(per="row", p=0.5, pairing="derangement")(x, generator=seeded())
    alone = plan.sources[1] == torch.arange(6)
    assert torch.equal(mixed[alone], x[alone])


@EVERY
def test_a_plan_moves_to_another_device_whole(name):
    plan = rma.build(name, per="row").plan(torch.randn(4, 8, 20), lengths=torch.tensor([20, 10, 3, 0]))
    there = plan.to("meta")
    assert there.weights.device.type == "meta"
    assert there.apply(torch.empty(4, 8, 20, device="meta")).shape == (4, 8, 20)


@EVERY
def test_a_plan_drawn_in_inference_mode_serves_a_training_step(name):
    for p in (1.0, 0.0):
        x = torch.randn(4, 8, 20)
        with torch.inference_mode():
            plan = rma.build(name, p=p).plan(x)
        x.requires_grad_()
        plan.loss(torch.nn.functional.mse_loss, plan.apply(x), torch.zeros_like(x)).backward()
        assert x.grad is not None


@EVERY
@pytest.mark.parametrize("shape", [(1, 8, 30), (2, 1, 1), (3, 1, 20), (3, 20, 1), (1, 1, 1), (5, 7, 9)])
def test_single_rows_bins_and_frames_work(name, shape):
    for per in ("batch", "row"):
        mixer = rma.build(name, per=per)
        mixed, plan = mixer(torch.randn(shape), generator=seeded())
        assert mixed.isfinite().all()
        assert plan.share.shape == plan.sources.shape == (mixer.source_count, shape[0])


@EVERY
def test_out_receives_the_mix(name):
    x = torch.randn(4, 1, 8, 20)
    plan = rma.build(name, per="row").plan(x, generator=seeded())
    out = torch.empty_like(x)
    assert plan.apply(x, out=out) is out
    assert torch.equal(out, plan.apply(x))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_BOTH_ROWS])
def test_per_batch_shares_one_weight_map_and_per_row_does_not(name):
    x = torch.randn(16, 24, 60)
    alike = torch.rand(24, 60).expand(16, -1, -1)  # what follows saliency then looks at the same place in every row
    batch = rma.build(name, per="batch").plan(x, generator=seeded(), saliency=alike)
    row = rma.build(name, per="row").plan(x, generator=seeded(), saliency=alike)
    maps = [plan.weights[0].expand(16, 1, 24, 60).flatten(1) for plan in (batch, row)]
    assert (maps[0] == maps[0][0]).all()
    assert len(torch.unique(maps[1], dim=0)) > 8


@EVERY
def test_eval_returns_the_batch_itself_and_the_identity_plan(name):
    x = torch.randn(3, 8, 20)
    lengths = torch.tensor([20, 5, 0])
    mixer = rma.build(name).eval()
    same, plan = mixer(x, lengths=lengths)
    assert same is x
    assert plan.share.tolist() == [[1, 1, 1], *[[0, 0, 0]] * (mixer.source_count - 1)]
    assert plan.lengths.tolist() == [20, 5, 0]
    assert torch.equal(plan.apply(x), x)
    assert plan.method == "none"


@EVERY
@pytest.mark.parametrize(("p", "batch"), [(0.3, 10), (0.5, 7), (0.0, 4), (0.9, 5)])
def test_with_p_per_row_exactly_the_rounded_part_of_the_rows_is_mixed(name, p, batch):
    mixer = rma.build(name, per="row", p=p, pairing="derangement")
    changed = [int(is_mixed(mixer.plan(torch.randn(batch, 40, 90), generator=seeded(s))).sum()) for s in range(20)]
    if name in MAY_KEEP_A_CHOSEN_ROW:
        assert max(changed) <= round(p * batch)
    else:
        assert set(changed) == {round(p * batch)}


@EVERY
def test_rows_left_unmixed_by_p_are_bit_equal(name):
    x = torch.randn(8, 20, 33)
    mixed, plan = rma.build(name, per="row", p=0.5, pairing="derangement")(x, generator=seeded())
    alone = ~is_mixed(plan)
    assert int(alone.sum()) == 4 or name in MAY_KEEP_A_CHOSEN_ROW
    assert torch.equal(mixed[alone], x[alone])
    assert (plan.lam[alone] == 1).all()


@EVERY
@pytest.mark.parametrize("p", [0.0, 0.1])
def test_where_p_rounds_to_no_row_nothing_is_drawn_and_no_saliency_is_asked_for(name, p):
    def unread(batch):
        raise AssertionError("no row is mixed, so that nobody needs to know what is salient")

    generator = seeded()
    x, lengths = torch.randn(4, 6, 9), torch.tensor([9, 5, 0, 7])
    plan = rma.build(name, per="row", p=p).plan(x, lengths, generator=generator, saliency=unread)
    assert plan.method == "none"
    assert (plan.lam == 1).all()
    assert torch.equal(plan.apply(x), x)
    assert torch.equal(plan.lengths, lengths)
    assert torch.equal(generator.get_state(), seeded().get_state())


class Copies(TorchFunctionMode):
    """Notes which copies of tensors to a device do not wait."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to:
            self.waits.append(not (kwargs or {}).get("non_blocking", False))
        return function(*args, **(kwargs or {}))


def test_lengths_and_rows_are_waited_for_on_their_way_to_the_cpu_alone():
    with Copies() as copies:
        check_lengths(torch.tensor([3, 4]), 2, 9, torch.device("cpu"))
        check_rows(torch.tensor([True, False]), 2, torch.device("cpu"))
    assert copies.waits == [True, True]
    with Copies() as copies:
        check_lengths(torch.tensor([3, 4]), 2, 9, torch.device("meta"))
        check_rows(torch.tensor([True, False]), 2, torch.device("meta"))
    assert copies.waits == [False, False]


def test_with_p_per_batch_the_whole_batch_is_mixed_with_that_probability():
    mixer = rma.Mixup(p=0.3)
    x = torch.randn(6, 2, 3)
    generator = seeded()
    mixed = [mixer.plan(x, generator=generator).method == "mixup" for _ in range(3000)]
    assert abs(sum(mixed) / 3000 - 0.3) < 0.03


def test_p_may_follow_the_progress_of_training():
    mixer = rma.Mixup(per="row", p=[[0.0, 1.0], [0.5, 0.5], [0.9, 0.5], [0.9, 0.0]])
    seen = []
    for progress in (0.0, 0.25, 0.5, 0.899, 0.9, 1.0):
        mixer.set_progress(progress)
        seen.append(mixer.current_p)
    assert seen == pytest.approx([1.0, 0.75, 0.5, 0.5, 0.0, 0.0])
    with pytest.raises(ValueError, match="progress"):
        mixer.set_progress(1.5)


@EVERY
@pytest.mark.parametrize("pairing", ["permutation", "derangement", "roll", "flip", "neighbour"])
@pytest.mark.parametrize("per", ["batch", "row"])
def test_forbidden_rows_are_neither_changed_nor_anybodys_partner(name, pairing, per):
    x = torch.randn(9, 10, 40)
    rows = torch.tensor([1, 0, 1, 1, 0, 1, 0, 1, 1], dtype=torch.bool)
    lengths = torch.randint(1, 41, (9,))
    mixed, plan = rma.build(name, pairing=pairing, per=per)(x, rows=rows, lengths=lengths, generator=seeded())
    assert torch.equal(mixed[~rows], x[~rows])
    for source in plan.sources:
        assert torch.equal(source[~rows], torch.arange(9)[~rows])
        assert rows[source[rows]].all()
    assert (plan.lam[~rows] == 1).all()
    none = rma.build(name, pairing=pairing, per=per).plan(x, rows=torch.zeros(9, dtype=torch.bool))
    assert torch.equal(none.apply(x), x)


@pytest.mark.parametrize("p", [0.5, 0.55, 0.1, 0.35])
def test_p_rounds_the_same_with_and_without_forbidden_rows(p):
    for batch in (5, 10, 230):
        plan = rma.Mixup(per="row", p=p, pairing="derangement").plan(
            torch.zeros(2 * batch, 1, 2), rows=torch.arange(2 * batch) < batch
        )
        assert int((plan.sources[1] != torch.arange(2 * batch)).sum()) == round(p * batch)


def test_p_counts_the_allowed_rows_only():
    rows = torch.arange(20) < 10
    plan = rma.Mixup(per="row", p=0.5, pairing="derangement").plan(torch.randn(20, 4, 9), rows=rows)
    assert int((plan.sources[1] != torch.arange(20)).sum()) == 5


@EVERY
def test_mistakes_are_named(name):
    mixer = rma.build(name)
    x = torch.randn(4, 8, 20)
    with pytest.raises(TypeError, match="floating-point"):
        mixer(x.int())
    with pytest.raises(ValueError, match="axes"):
        mixer(torch.randn(4))
    with pytest.raises(ValueError, match="lengths must have shape"):
        mixer(x, lengths=torch.ones(3, dtype=torch.long))
    with pytest.raises(TypeError, match="relative"):
        mixer(x, lengths=torch.ones(4))
    with pytest.raises(ValueError, match=r"lengths must lie in \[0, 20\] frames, got 1 to 16000"):
        mixer(x, lengths=torch.tensor([1, 2, 3, 16000]))
    with pytest.raises(TypeError, match="list"):
        mixer(x, lengths=[1, 2, 3, 4])
    with pytest.raises(TypeError, match="bool"):
        mixer(x, rows=torch.ones(4))
    with pytest.raises(TypeError, match="must be a tensor, got list"):
        mixer([[1.0]])
    with pytest.raises(TypeError, match=r"torch\.Generator, got int"):
        mixer(x, generator=3)
    with pytest.raises(ValueError, match="without channels, bins or frames"):
        mixer(torch.randn(4, 8, 0))
    with pytest.raises(ValueError, match="BTF"):
        rma.build(name, layout="BTF")(torch.randn(4, 1, 8, 20))
    with pytest.raises(ValueError, match="pairing must be one of"):
        rma.build(name, pairing="random")
    for p in (1.5, -0.1, "0.5", None, [], [[0, 2]]):
        with pytest.raises(ValueError, match=r"p must lie in \[0, 1\]"):
            rma.build(name, p=p)
    plan = mixer.plan(x)
    with pytest.raises(ValueError, match="4 rows"):
        plan.apply(x[:3])
    with pytest.raises(TypeError, match="pair"):
        plan.apply(x > 0)
    with pytest.raises(ValueError, match="out must be"):
        plan.apply(x, out=torch.empty(1, 8, 20))


def test_an_unknown_mixer_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"mixup, cutmix, .*got 'mixit'"):
        rma.build("mixit")


def test_a_plan_whose_weights_vary_refuses_a_map_of_another_size_and_a_mixup_takes_any():
    x = torch.randn(4, 8, 20)
    with pytest.raises(ValueError, match="mix_frames"):
        rma.CutMix().plan(x).apply(torch.randn(4, 8, 10))
    assert rma.Mixup().plan(x).apply(torch.randn(4, 3, 16, 5)).shape == (4, 3, 16, 5)


def test_images_are_mixed_by_the_very_same_objects():
    images = torch.rand(5, 3, 24, 32)
    for name in NAMES:
        mixed, plan = rma.build(name, per="row")(images, generator=seeded())
        assert mixed.shape == images.shape
        assert mixed.min() >= 0
        assert mixed.max() <= 1 + 1e-6
        assert plan.layout == "BCFT"
