"""Puzzle Mix: blocks of both rows where either is salient, moved to where they are shown."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import randommix_audio as rma
from randommix_audio.data import fit, read
from randommix_audio.draws import Draws
from randommix_audio.geometry import Blocks, block_sizes, pool_blocks
from randommix_audio.solvers.block_labels import normalised

FREE = {"beta": 0.0, "gamma": 0.0, "eta": 0.0}  # only the saliency counts


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def given_lam(monkeypatch: pytest.MonkeyPatch, lam: Tensor) -> None:
    monkeypatch.setattr(Draws, "beta", lambda self, alpha, *shape: lam)


def uneven(rows: int, freq: int, time: int, seed: int = 0) -> Tensor:
    """Saliency that is concentrated in a few patches of each row."""
    patches = torch.randn(rows, 1, 6, 7, generator=seeded(seed)).mul(1.5).exp()
    return F.interpolate(patches, size=(freq, time), mode="nearest")[:, 0]


def kept(plan: rma.MixPlan, saliency: Tensor) -> Tensor:
    """What part of the saliency of each source is seen in the mix, (2, B)."""
    geometry = plan.geometry
    seen = [
        plan.weights[k][:, 0] * geometry.warp(saliency[source].unsqueeze(1), k)[:, 0]
        for k, source in enumerate(plan.sources)
    ]
    total = torch.stack([saliency[source].sum((1, 2)) for source in plan.sources])
    return torch.stack([part.sum((1, 2)) for part in seen]) / total


def test_each_row_keeps_the_blocks_where_it_alone_is_salient():
    saliency = torch.zeros(2, 8, 30)
    saliency[0, :4] = 1.0
    saliency[1, 4:] = 1.0
    x = torch.randn(2, 8, 30)
    for labels in (2, 3):
        mixer = rma.PuzzleMix(blocks=[[4, 3]], labels=labels, transport=False, pairing="flip", **FREE)
        mixed, plan = mixer(x, saliency=saliency, generator=seeded())
        assert torch.equal(mixed, torch.cat([x[0, :4], x[1, 4:]]).expand(2, -1, -1))
        torch.testing.assert_close(plan.share, torch.full((2, 2), 0.5))


def test_with_the_papers_settings_salient_blocks_are_shown_more_than_others():
    saliency = torch.full((64, 12, 40), 0.01)
    saliency[::2, :, :20] = 1.0
    saliency[1::2, :, 20:] = 1.0
    plan = rma.PuzzleMix(per="row", transport=False, pairing="flip", blocks=4).plan(
        torch.randn(64, 12, 40, generator=seeded()), saliency=saliency, generator=seeded()
    )
    own = plan.geometry.grid[0]
    assert own[::2, :, :2].mean() > own[::2, :, 2:].mean() + 0.6
    assert own[1::2, :, 2:].mean() > own[1::2, :, :2].mean() + 0.6


@pytest.mark.parametrize(("labels", "weights"), [(2, [0.0, 1.0]), (3, [0.0, 0.5, 1.0])])
def test_blocks_have_two_or_three_weights(labels, weights):
    plan = rma.PuzzleMix(per="row", labels=labels).plan(torch.randn(50, 10, 24), saliency=uneven(50, 10, 24))
    assert plan.geometry.grid.unique().tolist() == weights


@pytest.mark.parametrize("blocks", [2, [[3, 5]], 8, 16])
def test_transport_never_hides_what_was_salient_and_shows_more_of_it_on_the_whole(blocks):
    x, saliency = torch.randn(40, 20, 50, generator=seeded()), uneven(40, 20, 50)
    plan = rma.PuzzleMix(per="row", blocks=blocks, eps=0.2).plan(x, saliency=saliency, generator=seeded(1))
    bands, columns = plan.geometry.grid.shape[2:]
    gained = 0.0
    for k, source in enumerate(plan.sources):
        pooled = normalised(pool_blocks(saliency[source], bands, columns, plan.geometry.both)).flatten(1)
        shown = (plan.geometry.grid[k] > 0).flatten(1)
        before = (pooled * shown).sum(1)
        after = (pooled.gather(1, plan.geometry.moved[k]) * shown).sum(1)
        assert (after >= before - 1e-6).all()
        gained += float((after - before).mean())
    assert gained > 0.005


def test_without_transport_nothing_is_moved():
    x = torch.randn(6, 1, 10, 24)
    plan = rma.PuzzleMix(transport=False).plan(x, generator=seeded())
    assert plan.geometry.moved is None
    assert torch.equal(plan.geometry.warp(x, 1), x)


def test_the_share_follows_lam_the_more_the_larger_eta_is(monkeypatch):
    lam = torch.rand(300, generator=seeded())
    given_lam(monkeypatch, lam)
    x, saliency = torch.randn(300, 16, 40, generator=seeded()), uneven(300, 16, 40)
    agreement = []
    for eta in (0.0, 0.1, 1.0):
        share = rma.PuzzleMix(per="row", blocks=4, eta=eta).plan(x, saliency=saliency, generator=seeded(1)).lam
        agreement.append(float(torch.corrcoef(torch.stack([lam, share]))[0, 1]))
    assert abs(agreement[0]) < 0.2
    assert agreement[0] + 0.2 < agreement[1] < agreement[2] - 0.05
    # What holds everywhere for a large eta is the most likely of the binomial's outcomes.
    share = rma.PuzzleMix(per="row", blocks=4, eta=1e3).plan(x, saliency=saliency, generator=seeded(1)).lam
    clear = (lam * 3 - (lam * 3).round()).abs() > 0.01
    assert torch.equal(share[clear], (lam * 3).floor()[clear] / 2)


@pytest.mark.parametrize("blocks", [2, 4, 8, 16])
@pytest.mark.parametrize("per", ["batch", "row"])
def test_the_mean_share_is_one_half_and_shares_differ_between_rows(blocks, per):
    mixer, generator = rma.PuzzleMix(blocks=blocks, per=per, transport=False), seeded(5)
    x, saliency = torch.randn(100, 20, 30, generator=seeded()), uneven(100, 20, 30)
    shares = torch.stack([mixer.plan(x, saliency=saliency, generator=generator).lam for _ in range(8)])
    assert all(len(of_batch.unique()) > 1 for of_batch in shares)
    if per == "row":
        assert shares.mean() == pytest.approx(0.5, abs=0.04)


def test_one_lam_serves_the_batch_or_each_row_has_its_own():
    x, alike = torch.randn(100, 16, 40, generator=seeded()), torch.ones(100, 16, 40)
    spread = {}
    for per in ("batch", "row"):
        mixer = rma.PuzzleMix(blocks=2, per=per, eta=50.0)
        spread[per] = float(mixer.plan(x, saliency=alike, generator=seeded(1)).lam.std())
    assert spread["batch"] == 0
    assert spread["row"] > 0.3


@pytest.mark.parametrize(
    ("blocks", "shape", "grid"),
    [
        ([[2, 5]], (6, 35), (2, 5)),
        ([[5, 2]], (6, 35), (5, 2)),
        (16, (3, 35), (3, 16)),
        (16, (35, 3), (16, 3)),
        (8, (1, 400), (1, 8)),
        (8, (40, 1), (8, 1)),
        ([7], (20, 50), (7, 7)),
    ],
)
def test_each_axis_has_its_own_number_of_blocks_and_never_more_than_it_has_places(blocks, shape, grid):
    x = torch.randn(4, 1, *shape)
    mixed, plan = rma.PuzzleMix(blocks=blocks, per="row")(x, generator=seeded())
    assert plan.geometry.grid.shape == (2, 4, *grid)
    assert mixed.shape == x.shape


def test_the_block_count_is_drawn_for_the_batch_from_the_choices_alike():
    x, mixer = torch.randn(2, 1, 2, 16), rma.PuzzleMix(transport=False)
    drawn = [mixer.plan(x, generator=seeded(seed)).geometry.grid.shape[3] for seed in range(100)]
    assert set(drawn) == {2, 4, 8, 16}
    assert all(drawn.count(count) > 12 for count in (2, 4, 8, 16))


@pytest.mark.parametrize("channels", [1, 3])
def test_frames_where_only_one_row_is_valid_are_left_alone(channels):
    x = torch.randn(7, channels, 12, 41)
    lengths = torch.tensor([41, 30, 17, 5, 2, 1, 0])
    mixed, plan = rma.PuzzleMix(per="row")(x, lengths=lengths, generator=seeded(3))
    both = torch.minimum(lengths, lengths[plan.sources[1]])
    beyond = torch.arange(41) >= both.view(-1, 1, 1, 1)
    assert torch.equal(mixed.masked_fill(~beyond, 0.0), x.masked_fill(~beyond, 0.0))
    assert (plan.lam[both == 0] == 1).all()
    assert torch.equal(plan.lengths, lengths)


def test_values_in_the_padding_change_nothing():
    x = torch.randn(60, 1, 12, 41, generator=seeded())
    lengths = torch.tensor([41, 30, 17, 5, 2, 0]).repeat(10)
    padded = torch.arange(41) >= lengths.view(-1, 1, 1, 1)
    mixer = rma.PuzzleMix(per="row", blocks=8, gamma=5.0)
    plans = [
        mixer.plan(x.masked_fill(padded, value), lengths, generator=seeded(1))
        for value in (0.0, 1e4, float("inf"), float("nan"))
    ]
    for plan in plans[1:]:
        assert torch.equal(plan.geometry.grid, plans[0].geometry.grid)
        assert torch.equal(plan.geometry.moved, plans[0].geometry.moved)


def test_blocks_without_frames_stay_where_they_are():
    x, lengths = torch.randn(8, 10, 60), torch.tensor([60, 40, 9, 5, 3, 2, 1, 1])
    geometry = rma.PuzzleMix(blocks=16, per="row", pairing="roll").plan(x, lengths, generator=seeded()).geometry
    empty = (block_sizes(10, 10, 16, geometry.both) == 0).flatten(1)
    here = torch.arange(160).expand(8, -1)
    assert empty.any()
    assert all(torch.equal(moved[empty], here[empty]) for moved in geometry.moved)


def test_a_plan_of_one_channel_is_that_of_three_equal_ones():
    x = torch.randn(6, 1, 20, 50)
    plans = [rma.PuzzleMix(per="row").plan(x.repeat(1, c, 1, 1), generator=seeded(2)) for c in (1, 3)]
    assert torch.equal(plans[0].geometry.grid, plans[1].geometry.grid)
    mixed = plans[1].apply(x.repeat(1, 3, 1, 1))
    assert torch.equal(mixed, plans[0].apply(x).repeat(1, 3, 1, 1))


def test_scale_and_offset_of_the_features_do_not_matter():
    x = torch.randn(60, 20, 50, generator=seeded()).cumsum(2)
    mixer = rma.PuzzleMix(per="row", blocks=8, gamma=2.0)
    nepers, decibels = (mixer.plan(values, generator=seeded(1)).geometry.grid for values in (x, 8.686 * x - 60))
    assert (nepers == decibels).float().mean() > 0.999
    assert (nepers != mixer.plan(x.exp(), generator=seeded(1)).geometry.grid).float().mean() > 0.05


def test_borders_between_rows_of_different_values_become_rarer_with_gamma():
    """A border costs what the two rows differ by on its sides; between equal rows it costs the same for any gamma."""
    unlike = torch.zeros(100, 16, 40)
    unlike[1::2] = 1.0
    for x, fewer in ((unlike, True), (torch.zeros(100, 16, 40), False)):
        borders = []
        for gamma in (0.0, 4.0):
            mixer = rma.PuzzleMix(blocks=8, gamma=gamma, transport=False, pairing="flip")
            own = mixer.plan(x, saliency=uneven(100, 16, 40), generator=seeded()).geometry.grid[0]
            borders.append(own.diff(dim=1).abs().sum() + own.diff(dim=2).abs().sum())
        assert borders[1] < 0.8 * borders[0] if fewer else borders[1] == borders[0]


def test_a_saliency_function_runs_once_and_only_for_this_method():
    calls = []

    def function(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return x.abs()

    x = torch.randn(6, 20, 50)
    rma.PuzzleMix(per="row").plan(x, saliency=function)
    assert calls == [x.shape]
    rma.RandomMix(["mixup", "puzzlemix"], weights=[1, 0]).plan(x, saliency=function)
    assert len(calls) == 1


def test_rows_without_any_saliency_are_mixed_without_harm():
    x = torch.randn(6, 20, 50)
    saliency = torch.zeros(6, 20, 50)
    saliency[0] = 1.0
    for values in (x, torch.zeros_like(x), torch.full_like(x, float("-inf"))):
        mixed, plan = rma.PuzzleMix(per="row", pairing="roll")(values, saliency=saliency, generator=seeded())
        assert plan.share.isfinite().all()
        assert not mixed.isnan().any()


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_pass_through_the_mix(channels):
    x = torch.randn(3, channels, 4, 7, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([7, 5, 2])
    plan = rma.PuzzleMix(blocks=3, per="row").plan(x, lengths, saliency=uneven(3, 4, 7), generator=seeded())
    assert torch.autograd.gradcheck(plan.apply, (x,))


def test_a_stored_plan_moves_the_same_blocks():
    x, lengths = torch.randn(5, 3, 12, 41), torch.tensor([41, 30, 17, 5, 0])
    plan = rma.PuzzleMix(per="row").plan(x, lengths, saliency=uneven(5, 12, 41), generator=seeded())
    again = rma.MixPlan.from_state_dict(plan.state_dict())
    assert isinstance(again.geometry, Blocks)
    assert torch.equal(again.geometry.moved, plan.geometry.moved)
    assert torch.equal(again.apply(x), plan.apply(x))


def test_frame_labels_move_with_the_blocks():
    saliency = uneven(8, 10, 24)
    x = torch.randn(8, 10, 24, generator=seeded())
    plan = rma.PuzzleMix(blocks=4, per="row", eps=0.1).plan(x, saliency=saliency, generator=seeded())
    at = torch.eye(24) * torch.arange(1, 9).view(-1, 1, 1)  # one class for each frame, and each row its own strength
    shown = plan.apply(at.unsqueeze(2).expand(-1, -1, 10, -1)).mean(2)
    torch.testing.assert_close(plan.mix_frames(at), shown)
    still = torch.arange(24).expand(8, 1, -1)
    assert not torch.equal(plan.geometry.label_frames(plan.size)[1], still.expand(-1, 4, -1))


def test_a_group_of_rows_of_randommix_has_one_grid_of_its_own():
    x, lengths = torch.randn(30, 1, 20, 50), torch.randint(0, 51, (30,), generator=seeded())
    plan = rma.RandomMix([rma.PuzzleMix(), "mixup"], per="row").plan(x, lengths, generator=seeded())
    of_group = plan.geometry.parts[0]
    assert isinstance(of_group, Blocks)
    assert of_group.grid.shape[1] == plan.method.count("puzzlemix")
    expected = sum(plan.weights[k] * plan.geometry.warp(x[source], k) for k, source in enumerate(plan.sources))
    torch.testing.assert_close(plan.apply(x), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": 0}, "blocks must be"),
        ({"blocks": []}, "blocks must be"),
        ({"blocks": [[2, 3, 4]]}, "blocks must be"),
        ({"blocks": [2.5]}, "blocks must be"),
        ({"blocks": "auto"}, "blocks must be"),
        ({"labels": 4}, "labels must be 2 or 3"),
        ({"beta": -1.0}, "beta must be at least 0"),
        ({"eps": float("nan")}, "eps must be at least 0"),
        ({"alpha": 0.0}, "alpha must be a number above 0"),
        ({"saliency": "loudness"}, "saliency must be one of"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        rma.PuzzleMix(**arguments)


def test_more_of_two_spoken_words_is_kept_than_by_cutmix_of_the_same_share(real_data, monkeypatch):
    files = sorted(path for path in (real_data / "speech_commands").glob("[a-z]*/*_nohash_*"))[::97][:48]
    waves = [torch.from_numpy(fit(read(file, 16000)[0], 16000)) for file in files]
    x = rma.LogMel()(torch.stack(waves))
    gains = []
    energy = x - x.amin((1, 2), keepdim=True)
    for seed in range(6):
        plan = rma.PuzzleMix(per="row", pairing="derangement", blocks=8).plan(x, generator=seeded(seed))
        given_lam(monkeypatch, plan.lam)
        cut = rma.CutMix(per="row", pairing="derangement").plan(x, generator=seeded(seed))
        monkeypatch.undo()
        assert cut.lam.mean() == pytest.approx(float(plan.lam.mean()), abs=0.03)
        gains.append(kept(plan, energy).sum(0) - kept(cut, energy).sum(0))
    assert torch.stack(gains).mean() > 0.05
