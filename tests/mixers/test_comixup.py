"""Co-Mixup: many sources for a row, chosen for the batch together."""

import pytest
import torch
import torch.nn.functional as F

import randommix_audio as rma
from randommix_audio import draws
from randommix_audio.mixers.comixup import CoMixup, _divide
from tests.devices import pretended_cuda


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def speechlike(batch, freq=20, time=37, channels=None, seed=0):
    """Values whose energy is uneven enough for borders to pay."""
    shape = (batch, freq, time) if channels is None else (batch, channels, freq, time)
    x = torch.randn(shape, generator=seeded(seed))
    bumps = torch.randn(batch, 4, 5, generator=seeded(seed + 1)).mul(2).exp()
    bumps = F.interpolate(bumps[:, None], size=(freq, time), mode="nearest")
    return x + (bumps if channels is not None else bumps[:, 0])


def by_hand(plan, x):
    """The definition: the weighted sum of the sources."""
    return sum(plan.weights[k] * x[source] for k, source in enumerate(plan.sources))


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 20, 21, 45, 61])
@pytest.mark.parametrize("ragged", [False, True])
def test_any_batch_size_gives_the_weighted_sum_of_up_to_four_rows(batch, ragged):
    x = speechlike(batch, channels=3)
    lengths = torch.randint(0, 38, (batch,), generator=seeded(1)) if ragged else None
    mixed, plan = CoMixup()(x, lengths, generator=seeded(2))
    assert plan.sources.shape == plan.share.shape == (4, batch)
    assert torch.equal(plan.sources[0], torch.arange(batch))
    weights = plan.weights.expand(4, batch, 1, 20, 37)
    torch.testing.assert_close(weights.sum(0), torch.ones(batch, 1, 20, 37))
    torch.testing.assert_close(mixed, by_hand(plan, x))
    torch.testing.assert_close(plan.share.sum(0), torch.ones(batch))
    valid = torch.full((batch,), 37) if lengths is None else lengths
    inside = (torch.arange(37) < valid[:, None])[None, :, None, None]
    measured = (weights * inside).sum((2, 3, 4)) / (20 * valid).clamp(min=1)
    torch.testing.assert_close(plan.share[:, valid > 0], measured[:, valid > 0])
    if batch > 3:
        assert (plan.lam < 1).float().mean() > 0.3
    if batch > 10:
        assert (plan.share > 0).sum(0).max() >= 3


@pytest.mark.parametrize("most", [2, 3, 6])
def test_most_limits_the_sources(most):
    x = speechlike(40, channels=1)
    mixed, plan = CoMixup(most=most, gamma=0.0, eta=0.0)(x, generator=seeded())  # without gamma all want the same many
    assert plan.sources.shape == (most, 40)
    assert (plan.share > 0).sum(0).max() == most
    unused = plan.share[1:] == 0
    assert torch.equal(plan.sources[1:][unused], torch.arange(40).expand(most - 1, -1)[unused])
    torch.testing.assert_close(mixed, by_hand(plan, x))


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 40, 41, 45, 256, 1021])
def test_parts_are_as_equal_as_can_be_and_hold_every_row_once(count):
    slots, filled, place = _divide(count, 20, torch.device("cpu"))
    sizes = filled.sum(1)
    assert len(sizes) == -(-count // 20)
    assert sizes.max() <= 20
    assert sizes.max() - sizes.min() <= 1
    assert torch.equal(slots[filled], torch.arange(count))
    assert torch.equal(slots.flatten()[place], torch.arange(count))
    assert filled.flatten()[place].all()


def test_rows_are_mixed_within_their_part_alone():
    plan = CoMixup(part=7, beta=0.05).plan(speechlike(21), generator=seeded())
    assert torch.equal(plan.sources // 7, (torch.arange(21) // 7).expand(4, -1))
    assert (plan.sources != plan.sources[0]).any()


def test_padding_is_never_mixed_in():
    x, lengths = speechlike(23), torch.randint(0, 38, (23,), generator=seeded(3))
    lengths[[4, 11]] = 0
    x[torch.arange(37).expand(20, -1).expand(23, -1, -1) >= lengths[:, None, None]] = float("nan")
    mixed, plan = CoMixup(beta=0.05)(x, lengths, generator=seeded())
    inside = (torch.arange(37) < lengths[:, None, None]).expand_as(x)
    assert mixed[inside].isfinite().all()
    assert mixed[~inside].isnan().all()
    assert torch.equal(plan.lengths, lengths)
    empty = lengths == 0
    assert (plan.lam[empty] == 1).all()
    used = plan.sources[1:][plan.share[1:] > 0]
    assert len(used) > 10
    assert not empty[used].any()


def test_a_longer_row_may_lie_in_a_shorter_one_but_not_outlast_it():
    x, lengths = speechlike(12), torch.tensor([37, 9] * 6)
    plan = CoMixup(beta=0.05).plan(x, lengths, generator=seeded())
    weights = plan.weights[:, :, 0]
    assert (weights[1:, 1::2, :, 9:] == 0).all()
    short_with_long = (plan.share[1:, 1::2] > 0) & (lengths[plan.sources[1:, 1::2]] == 37)
    assert short_with_long.any()
    long_with_short = (plan.share[1:, ::2] > 0) & (lengths[plan.sources[1:, ::2]] == 9)
    assert long_with_short.any()
    short = (lengths[plan.sources] == 9)[1:, ::2]
    assert (weights[1:, ::2, :, 9:][short] == 0).all()


def test_full_lengths_change_nothing():
    x = speechlike(25)
    plain = CoMixup().plan(x, generator=seeded())
    full = CoMixup().plan(x, torch.full((25,), 37), generator=seeded())
    assert torch.equal(plain.sources, full.sources)
    torch.testing.assert_close(plain.weights, full.weights)


def test_the_loss_is_the_soft_target_cross_entropy():
    x, target = speechlike(21), torch.randint(0, 9, (21,), generator=seeded(4))
    plan = CoMixup().plan(x, torch.randint(5, 38, (21,), generator=seeded(5)), generator=seeded())
    logits = torch.randn(21, 9, generator=seeded(6))
    soft = sum(plan.share[k][:, None] * F.one_hot(target[source], 9) for k, source in enumerate(plan.sources))
    torch.testing.assert_close(plan.loss(F.cross_entropy, logits, target), F.cross_entropy(logits, soft))
    torch.testing.assert_close(plan.mix_targets(target, 9), soft)


def test_forbidden_rows_are_neither_changed_nor_anybodys_source():
    x, rows = speechlike(24), torch.arange(24) % 3 != 0
    for lengths in (None, torch.randint(1, 38, (24,), generator=seeded(7))):
        mixed, plan = CoMixup(beta=0.05)(x, lengths, rows=rows, generator=seeded())
        assert torch.equal(mixed[~rows], x[~rows])
        assert (plan.lam[~rows] == 1).all()
        for source in plan.sources:
            assert torch.equal(source[~rows], torch.arange(24)[~rows])
            assert rows[source[rows]].all()
        assert (plan.lam[rows] < 1).float().mean() > 0.5
    nobody = CoMixup().plan(x, rows=torch.zeros(24, dtype=torch.bool))
    assert torch.equal(nobody.apply(x), x)


def test_with_p_per_row_the_others_stay_bit_equal():
    x = speechlike(20)
    mixed, plan = CoMixup(per="row", p=0.4, beta=0.0)(x, generator=seeded())
    changed = (plan.sources != plan.sources[0]).any(0)
    assert int(changed.sum()) == 8
    assert torch.equal(mixed[~changed], x[~changed])
    assert changed[plan.sources[:, changed]].all()
    assert CoMixup(p=0.0).plan(x).method == "none"


def test_a_plan_replays_from_its_generator_and_from_its_state(tmp_path):
    x, lengths = speechlike(22), torch.randint(0, 38, (22,), generator=seeded(8))
    mixed, plan = CoMixup()(x, lengths, generator=seeded(9))
    again = CoMixup().plan(x, lengths, generator=seeded(9))
    assert torch.equal(again.apply(x), mixed)
    other = CoMixup().plan(x, lengths, generator=seeded(10))
    assert not torch.equal(other.apply(x).nan_to_num(), mixed.nan_to_num())
    torch.save(plan.state_dict(), tmp_path / "plan.pt")
    loaded = rma.MixPlan.from_state_dict(torch.load(tmp_path / "plan.pt", weights_only=True))
    assert torch.equal(loaded.apply(x), mixed)
    assert loaded.method == "comixup"


def test_saliency_that_is_given_rules():
    """Four rows, each salient in a quarter of its own: every row can show all four."""
    saliency = torch.full((4, 8, 12), 1e-3)
    for row, (f, t) in enumerate([(0, 0), (0, 6), (4, 0), (4, 6)]):
        saliency[row, f : f + 4, t : t + 6] = 1.0
    plan = CoMixup(blocks=2, tau=4.0, eta=0.0).plan(torch.randn(4, 8, 12), saliency=saliency, generator=seeded())
    own_quarter = plan.share == 0.25
    assert own_quarter.all()
    weights = plan.weights[:, :, 0]
    for k, source in enumerate(plan.sources):
        salient = saliency[source] == 1
        assert torch.equal(weights[k] == 1, salient)


def test_rows_without_saliency_count_as_salient_everywhere_alike():
    x = torch.zeros(9, 8, 12)
    for lengths in (None, torch.tensor([12, 3, 0, 1, 12, 7, 8, 9, 2])):
        mixed, plan = CoMixup()(x, lengths, generator=seeded())
        assert mixed.isfinite().all()
        torch.testing.assert_close(plan.share.sum(0), torch.ones(9))
    saliency = torch.zeros(4, 8, 12)
    saliency[1:] = speechlike(4, 8, 12)[1:].abs()
    scaled = CoMixup().plan(x[:4], saliency=saliency * 1e-6, generator=seeded())
    even = saliency.clone()
    even[0] = 5.0
    torch.testing.assert_close(CoMixup().plan(x[:4], saliency=even, generator=seeded()).share, scaled.share)


def test_a_batch_of_little_contrast_mixes_more_with_cheaper_borders():
    x = torch.randn(40, 20, 37, generator=seeded())
    alone = [(CoMixup(beta=beta).plan(x, generator=seeded()).lam == 1).float().mean() for beta in (0.01, 0.32)]
    assert alone[0] < 0.3 < 0.6 < alone[1]


def test_a_small_alpha_lets_few_rows_prevail():
    x = speechlike(40)
    spread = []
    for alpha in (0.2, 50.0):
        plan = CoMixup(alpha=alpha, eta=0.5, tau=3.0, part=10).plan(x, generator=seeded())
        total = torch.zeros(40).scatter_add(0, plan.sources.flatten(), plan.share.flatten())
        spread.append(total.std())
    assert spread[0] > 1.3 * spread[1]


@pytest.mark.parametrize("shape", [(5, 1, 7), (5, 7, 1), (5, 1, 1), (1, 1, 1), (6, 3, 2)])
def test_an_axis_has_no_more_blocks_than_places(shape):
    x = torch.randn(shape, generator=seeded())
    mixed, plan = CoMixup(blocks=[5, 6], beta=0.0)(x, generator=seeded())
    assert plan.geometry.grid.shape[2:] == (min(5, shape[1]), min(6, shape[2]))
    torch.testing.assert_close(mixed, by_hand(plan, x[:, None])[:, 0])


def test_waveforms_can_be_mixed():
    x = torch.randn(10, 400, generator=seeded()) * torch.linspace(0, 3, 400)
    mixed, plan = CoMixup(blocks=8, beta=0.01)(x, generator=seeded())
    assert mixed.shape == x.shape
    assert (plan.lam < 1).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype):
    x = speechlike(9).to(dtype)
    mixed, plan = CoMixup()(x, generator=seeded())
    assert mixed.dtype == dtype
    assert plan.share.dtype == torch.float32


def test_every_layout_mixes_the_same_numbers():
    x = speechlike(12, channels=1)
    mixed, _ = CoMixup(layout="BCFT")(x, generator=seeded())
    for layout, given, back in (
        ("BFT", x[:, 0], lambda y: y[:, None]),
        ("BTF", x[:, 0].transpose(1, 2).contiguous(), lambda y: y.transpose(1, 2)[:, None]),
    ):
        other, _ = CoMixup(layout=layout)(given, generator=seeded())
        torch.testing.assert_close(back(other), mixed)


def test_it_can_be_a_candidate_of_randommix():
    x, rows = speechlike(30), torch.arange(30) % 3 != 0
    mixer = rma.RandomMix(["mixup", CoMixup(beta=0.05, per="row")], per="row")
    mixed, plan = mixer(x, rows=rows, generator=seeded())
    assert plan.sources.shape == (4, 30)
    assert set(plan.method) == {"mixup", "comixup"}
    assert (plan.share > 0).sum(0).max() > 2
    assert rows[plan.sources[:, rows]].all()
    torch.testing.assert_close(mixed, by_hand(plan, x[:, None])[:, 0])


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("per", ["batch", "row"])
def test_plan_and_apply_never_wait_for_the_device(lengths, per, monkeypatch):
    monkeypatch.setattr(draws, "host_uniforms", lambda generator, count: [(k % 7) / 7 for k in range(count)])
    with pretended_cuda():
        x = torch.randn(23, 1, 20, 50, device="cuda")
        valid = torch.randint(0, 51, (23,), device="cuda") if lengths else None
        mixed, plan = CoMixup(per=per, p=0.7)(x, lengths=valid, rows=torch.rand(23, device="cuda") > 0.5)
        assert mixed.shape == x.shape
        plan.loss(F.cross_entropy, torch.randn(23, 4, device="cuda"), torch.randint(0, 4, (23,), device="cuda"))
        plan.mix_frames(torch.rand(23, 4, 10, device="cuda"), hop=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0}, "alpha must be a number above 0"),
        ({"blocks": 0}, "blocks must be a number above 0, or a pair of them, got 0"),
        ({"blocks": [4, 4, 4]}, "blocks must be"),
        ({"blocks": "4"}, "blocks must be"),
        ({"beta": -1.0}, "beta must be at least 0, got -1.0"),
        ({"gamma": float("nan")}, "gamma must be at least 0"),
        ({"tau": float("inf")}, "tau must be at least 0"),
        ({"eta": -0.1}, "eta must be at least 0"),
        ({"omega": 1.5}, r"omega must lie in \[0, 1\], got 1.5"),
        ({"iterations": 0}, "iterations must be a whole number of at least 1, got 0"),
        ({"part": 0}, "part must be a whole number of at least 1"),
        ({"most": 1}, "most must be a whole number of at least 2"),
        ({"most": 2.5}, "most must be a whole number of at least 2, got 2.5"),
        ({"saliency": "loudness"}, "saliency must be one of energy"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CoMixup(**arguments)


def test_it_says_what_it_is():
    assert repr(CoMixup(blocks=[2, 6])).startswith("CoMixup(alpha=2.0, blocks=[2, 6], beta=0.32, gamma=1.0, tau=0.83")
