"""Realised statistics over 20,000 draws against known values."""

import pytest
import torch

import randommix_audio as rma
from randommix_audio.draws import Draws, beta_of, choose
from randommix_audio.mixers.linear import round_to

DRAWS = 20_000


def own_shares(mixer: rma.Mixer, freq: int = 32, time: int = 32, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(2000, freq, time)
    return torch.cat([mixer.plan(x, generator=generator).lam for _ in range(DRAWS // 2000)])


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("resizemix", {"variant": "official"}, 0.770),
        ("cutmix", {"variant": "official"}, 0.70),
        ("cutmix", {}, 0.5),
        ("time_cutmix", {}, 0.5),
        ("freq_cutmix", {}, 0.5),
        ("fmix", {}, 0.5),
        ("fmix", {"variant": "official"}, 0.5),
        ("mixup", {}, 0.5),
        ("mixup", {"alpha": 0.2}, 0.5),
    ],
)
def test_the_mean_own_share_is_the_known_one_at_32_by_32(name, arguments, expected):
    assert own_shares(rma.build(name, per="row", **arguments)).mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("freq", "time"), [(40, 98), (1, 100), (80, 1), (128, 31)])
@pytest.mark.parametrize("name", ["cutmix", "fmix"])
def test_the_default_share_is_unbiased_on_any_rectangle(name, freq, time):
    assert own_shares(rma.build(name, per="row"), freq, time).mean() == pytest.approx(0.5, abs=0.012)


@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.1, 0.3, 1.0, 4.0, 50.0])
def test_lambda_follows_the_beta_distribution_however_small_alpha_is(alpha):
    lam = Draws(torch.Generator().manual_seed(1), torch.device("cpu")).beta(alpha, DRAWS)
    assert lam.mean() == pytest.approx(0.5, abs=0.012)
    assert lam.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    assert ((lam >= 0) & (lam <= 1)).all()


def test_the_default_fmix_part_follows_lambda():
    x = torch.zeros(500, 40, 98)
    for alpha in (50.0, 0.2):
        shares = rma.FMix(alpha=alpha, per="row").plan(x, generator=torch.Generator().manual_seed(0)).lam
        assert shares.std() == pytest.approx((1 / (4 * (2 * alpha + 1))) ** 0.5, rel=0.15)


@pytest.mark.parametrize("per", ["batch", "row"])
def test_methods_are_drawn_in_proportion_to_their_weights(per):
    mixer = rma.RandomMix(["mixup", "cutmix", "none"], weights=[3, 1, 0], per=per)
    generator = torch.Generator().manual_seed(0)
    names = []
    for _ in range(2000 if per == "batch" else 10):
        method = mixer.plan(torch.zeros(200, 1, 2), generator=generator).method
        names += [method] if per == "batch" else method
    assert names.count("mixup") / len(names) == pytest.approx(0.75, abs=0.04)
    assert "none" not in names


def test_choose_covers_the_edges_of_its_range():
    assert choose([0.0, 0.499, 0.5, 0.999999], [1.0, 1.0]) == [0, 0, 1, 1]
    assert choose([0.0, 1.0 - 2**-53], [0.0, 0.1, 0.0]) == [1, 1]


def test_box_positions_differ_between_rows_and_reach_every_edge():
    plan = rma.CutMix(per="row").plan(torch.zeros(2000, 10, 14), generator=torch.Generator().manual_seed(0))
    inside = plan.weights[1][:, 0].amax(0)
    assert inside.min() == 1
    hits = plan.weights[1][:, 0].mean(0)
    assert hits[0, 0] > 0.05
    assert hits[-1, -1] > 0.05


def crossings(mask: torch.Tensor) -> tuple[float, float]:
    """Changes of a (n, F, T) mask along frequency and along time, mean for each line."""
    along_freq = (mask.diff(dim=1) != 0).sum(1).float().mean()
    along_time = (mask.diff(dim=2) != 0).sum(2).float().mean()
    return float(along_freq), float(along_time)


def test_default_fmix_masks_vary_along_both_axes_of_a_long_spectrogram():
    mixer = rma.FMix(alpha=20, per="row")
    plan = mixer.plan(torch.zeros(200, 80, 1000), generator=torch.Generator().manual_seed(0))
    along_freq, along_time = crossings(plan.weights[0][:, 0])
    assert 0.8 < along_freq / along_time < 1.25
    assert along_freq > 0.8


def test_the_decay_of_one_axis_changes_the_roughness_of_that_axis_alone():
    rough = rma.FMix(alpha=20, per="row", decay_time=1.0).plan(torch.zeros(200, 60, 200))
    smooth = rma.FMix(alpha=20, per="row", decay_time=4.0).plan(torch.zeros(200, 60, 200))
    assert crossings(rough.weights[0][:, 0])[1] > 3 * crossings(smooth.weights[0][:, 0])[1]


def test_the_fmix_share_is_right_for_short_rows_as_well():
    lengths = torch.full((4000,), 23)
    plan = rma.FMix(per="row").plan(torch.zeros(4000, 20, 90), lengths, generator=torch.Generator().manual_seed(0))
    assert plan.lam.mean() == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize(
    ("name", "arguments", "mean"),
    [
        ("mixup", {}, 0.5),
        ("mixup", {"alpha": 0.2}, 0.5),
        ("cutmix", {}, 0.5),
        ("cutmix", {"variant": "official"}, 0.70),
        ("time_cutmix", {"alpha": 0.4}, 0.5),
        ("freq_cutmix", {}, 0.5),
        ("resizemix", {}, None),
        ("fmix", {}, 0.5),
        ("fmix", {"alpha": 20.0, "decay_time": 2.0}, 0.5),
    ],
)
def test_one_draw_for_the_batch_has_the_shares_of_a_draw_for_each_row(name, arguments, mean):
    x = torch.zeros(2, 32, 31)
    generator = torch.Generator().manual_seed(3)
    mixer = rma.build(name, per="batch", **arguments)
    batch = torch.stack([mixer.plan(x, generator=generator).lam[0] for _ in range(DRAWS // 4)])
    row = own_shares(rma.build(name, per="row", **arguments), 32, 31, seed=4)
    parts = torch.linspace(0.02, 0.98, 49)
    assert (batch.quantile(parts) - row.quantile(parts)).abs().max() < 0.04
    assert mean is None or batch.mean() == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize("name", ["cutmix", "time_cutmix", "resizemix"])
@pytest.mark.parametrize("variant", ["default", "official"])
def test_one_rectangle_for_the_batch_lies_where_rectangles_of_rows_lie(name, variant):
    options = {} if name == "time_cutmix" else {"variant": variant}
    x, generator = torch.zeros(2, 32, 31), torch.Generator().manual_seed(5)
    mixer = rma.build(name, per="batch", **options)
    batch = torch.cat([mixer.plan(x, generator=generator).geometry.corners[:1] for _ in range(DRAWS // 4)]).float()
    row = rma.build(name, per="row", **options).plan(torch.zeros(DRAWS, 32, 31)).geometry.corners.float()
    assert (batch.mean(0) - row.mean(0)).abs().max() < 0.6
    assert (batch.std(0) - row.std(0)).abs().max() < 0.5


@pytest.mark.parametrize("alpha", [1e-4, 0.1, 1.0, 50.0])
def test_lambda_drawn_on_the_host_follows_the_beta_distribution(alpha):
    draws = Draws(torch.Generator().manual_seed(2), torch.device("cpu"))
    lam = torch.tensor([beta_of(uniform, alpha) for uniform in draws.host(DRAWS)])
    assert lam.mean() == pytest.approx(0.5, abs=0.012)
    assert lam.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_weight_on_the_host_is_rounded_as_the_dtype_rounds_it(dtype):
    numbers = [0.0, 1.0, *torch.rand(500, dtype=torch.float64).tolist()]
    assert [round_to(number, dtype) for number in numbers] == torch.tensor(numbers, dtype=dtype).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_weight_on_the_host_is_the_one_that_tensors_give(dtype):
    generator = torch.Generator().manual_seed(0)
    for alpha in (0.05, 1.0):
        mixer = rma.Mixup(alpha=alpha)
        for _ in range(300):
            geometry = mixer.plan(torch.zeros(2, 2, 3, dtype=dtype), generator=generator).geometry
            assert geometry.theirs == float((1 - geometry.own).to(dtype))
