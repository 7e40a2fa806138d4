"""Cutout: holes of the right size in the right place, and nothing else changed."""

import pytest
import torch
import torch.nn.functional as F

import randommix_audio as rma


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covered(mixer: rma.Mixer, freq: int, time: int, lengths: torch.Tensor | None = None) -> torch.Tensor:
    """The part of the valid positions that is filled, for each of 4000 rows."""
    x = torch.zeros(4000, freq, time)
    own = 1 - mixer.plan(x, lengths, generator=seeded()).weights[0, :, 0].expand(4000, freq, time)
    valid = torch.full((4000,), time) if lengths is None else lengths
    assert (own.sum(1) * (torch.arange(time) >= valid[:, None])).sum() == 0, "padding has no holes"
    return own.sum((1, 2)) / (freq * valid)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 0.25),
        ({"size": 0.3}, 0.09),
        ({"axes": "time", "size": 0.3}, 0.3),
        ({"axes": "freq", "size": 0.17}, 0.17),
        ({"axes": "time", "size": (0.0, 0.5)}, 0.25),
        ({"size": [0.2, 0.8]}, (0.8**3 - 0.2**3) / (3 * 0.6)),  # the mean square of a uniform side
    ],
)
@pytest.mark.parametrize("size", [(32, 32), (23, 61), (7, 5)])
def test_a_hole_covers_the_part_that_was_asked_for_on_average(arguments, expected, size):
    assert covered(rma.Cutout(per="row", **arguments), *size).mean() == pytest.approx(expected, abs=0.012)


def test_the_default_is_the_papers_16_of_32():
    corners = rma.Cutout(per="row").plan(torch.zeros(50, 32, 32), generator=seeded()).geometry.corners
    assert (corners[:, 0, 1] - corners[:, 0, 0] == 16).all()
    assert (corners[:, 0, 3] - corners[:, 0, 2] == 16).all()


@pytest.mark.parametrize(("freq", "time"), [(1, 100), (80, 1)])
def test_a_box_on_a_single_bin_or_frame_is_a_stretch_of_the_other_axis(freq, time):
    part = covered(rma.Cutout(per="row", size=0.4), freq, time)
    assert part.mean() == pytest.approx(0.4, abs=0.01)
    assert part.min() > 0.3


def test_every_place_of_the_axis_is_covered_and_short_rows_have_short_holes():
    lengths = torch.tensor([40, 9]).repeat(2000)
    part = covered(rma.Cutout(per="row", axes="time", size=0.2), 3, 40, lengths)
    assert part[::2].mean() == pytest.approx(0.2, abs=0.01)
    assert part[1::2].mean() == pytest.approx(0.2, abs=0.01)
    holes = 1 - rma.Cutout(per="row", size=0.2).plan(torch.zeros(4000, 10, 14), generator=seeded()).weights[0, :, 0]
    assert holes.amax(0).min() == 1


def test_a_row_has_as_many_holes_as_asked_for_each_with_a_place_and_a_size_of_its_own():
    plan = rma.Cutout(per="row", count=3, axes="time", size=(0.02, 0.2)).plan(torch.zeros(300, 4, 200))
    starts, ends = plan.geometry.corners[..., 2], plan.geometry.corners[..., 3]
    assert starts.shape == (300, 3)
    assert (starts[:, 0] != starts[:, 1]).float().mean() > 0.9
    assert ((ends - starts)[:, 0] != (ends - starts)[:, 1]).float().mean() > 0.9
    weights = plan.weights[0].expand(300, 1, 4, 200)
    for row in range(20):
        expected = torch.ones(200)
        for start, end in zip(starts[row], ends[row], strict=True):
            expected[start:end] = 0
        assert torch.equal(weights[row, 0, 2], expected)


def test_the_holes_hold_the_fill_and_everything_else_is_as_it_was():
    x = torch.randn(5, 2, 12, 30)
    mixed, plan = rma.Cutout(per="row", fill=-11.5)(x, generator=seeded())
    hole = plan.weights[0].expand_as(x) == 0
    assert hole.any()
    assert (mixed[hole] == -11.5).all()
    assert torch.equal(mixed[~hole], x[~hole])


def test_per_batch_all_rows_have_the_same_hole_and_per_row_their_own():
    x = torch.zeros(40, 24, 60)
    batch = rma.Cutout(per="batch", size=(0.1, 0.9)).plan(x, generator=seeded()).geometry.corners
    row = rma.Cutout(per="row", size=(0.1, 0.9)).plan(x, generator=seeded()).geometry.corners
    assert (batch == batch[0]).all()
    assert len(row.unique(dim=0)) == 40


def test_targets_frame_labels_and_lengths_stay_as_they_are():
    x = torch.randn(4, 12, 30)
    lengths = torch.tensor([30, 7, 1, 0])
    plan = rma.Cutout(per="row").plan(x, lengths, generator=seeded())
    assert plan.share.tolist() == [[1, 1, 1, 1]]
    assert plan.sources.tolist() == [[0, 1, 2, 3]]
    assert torch.equal(plan.lengths, lengths)
    logits, target = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(plan.loss(F.cross_entropy, logits, target), F.cross_entropy(logits, target))
    events = torch.rand(4, 3, 10)
    assert torch.equal(plan.mix_frames(events, hop=3), events)
    with pytest.raises(ValueError, match="has 1 sources"):
        plan.pair(target)


def test_a_row_needs_no_partner_to_be_cut():
    x = torch.ones(2, 12, 30)
    mixed = rma.Cutout(per="row", pairing="roll")(x, torch.tensor([30, 0]), generator=seeded())[0]
    assert (mixed[0] == 0).any()
    assert (mixed[1] == 1).all()


def test_only_the_rows_that_are_chosen_have_a_hole():
    x = torch.ones(20, 12, 30)
    allowed = torch.arange(20) < 8
    mixed = rma.Cutout(per="row", p=0.5)(x, rows=allowed, generator=seeded())[0]
    cut = (mixed == 0).flatten(1).any(1)
    assert int(cut.sum()) == 4
    assert not cut[~allowed].any()
    untouched = rma.Cutout(p=0.0)(x)[0]
    assert torch.equal(untouched, x)


def published_holes(size: float, freq: int, time: int, centres: torch.Tensor) -> torch.Tensor:
    """Masks as the published procedure makes them: a square of a given length around a centre, clipped at the edge."""
    masks = torch.ones(len(centres), freq, time)
    tall, wide = int(size * freq), int(size * time)
    for mask, (y, x) in zip(masks, centres.tolist(), strict=True):
        mask[max(y - tall // 2, 0) : min(y + tall // 2, freq), max(x - wide // 2, 0) : min(x + wide // 2, time)] = 0
    return masks


@pytest.mark.parametrize(("freq", "time", "size"), [(32, 32, 0.5), (21, 40, 0.25), (40, 99, 0.3)])
def test_official_holes_are_clipped_around_a_uniform_centre_and_an_odd_length_loses_one(freq, time, size):
    plan = rma.Cutout(variant="official", size=size).plan(torch.zeros(600, freq, time), generator=seeded())
    uniform = torch.rand(2, 600, 1, generator=_after_the_pairing(600))[:, :, 0]
    centres = torch.stack([(uniform[0] * freq).long(), (uniform[1] * time).long()], dim=1)
    assert torch.equal(plan.weights[0, :, 0], published_holes(size, freq, time, centres))


def _after_the_pairing(batch: int) -> torch.Generator:
    generator = seeded()
    torch.randperm(batch, generator=generator)
    return generator


def test_the_mean_official_hole_covers_the_known_part_at_32_by_32():
    # A side of 16 around a uniform centre covers 16 places but at the 16 centres near an edge, which lose 68 places.
    expected = ((16 * 32 - 36 - 28) / 32 / 32) ** 2
    assert expected == pytest.approx(0.1914, abs=1e-4)
    assert covered(rma.Cutout(variant="official"), 32, 32).mean() == pytest.approx(expected, abs=0.005)


def test_official_holes_differ_between_rows_even_with_one_draw_for_the_batch():
    corners = rma.Cutout(variant="official", per="batch").plan(torch.zeros(64, 40, 90)).geometry.corners
    assert len(corners.unique(dim=0)) > 30


def test_as_a_candidate_a_hole_leaves_the_row_its_own_and_only_source():
    x = torch.ones(32, 12, 30)
    mixer = rma.RandomMix(["cutout", "freq_cutmix"], per="row", fill=-1.0, pairing="derangement")
    mixed, plan = mixer(x, generator=seeded())
    cut = torch.tensor([method == "cutout" for method in plan.method])
    assert 4 < int(cut.sum()) < 28
    assert torch.equal(plan.sources[1][cut], torch.arange(32)[cut])
    assert (plan.share[0][cut] == 1).all()
    assert torch.equal((mixed == -1).flatten(1).any(1), cut)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axes": "bins"}, "axes must be one of both, time, freq"),
        ({"variant": "paper"}, "variant must be one of"),
        ({"variant": "official", "axes": "time"}, "axes='time' has no published code"),
        ({"count": 0}, "count must be a whole number of at least 1, got 0"),
        ({"count": 1.5}, "count must be a whole number"),
        ({"count": True}, "count must be a whole number"),
        *[({"size": size}, "size must be a part") for size in (0, 1.1, -0.1, (0.5, 0.2), (0, 0), (1, 2, 3), "x", None)],
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        rma.Cutout(**arguments)
