"""Each method in a picture: one without a partner, several sources, moved blocks, saliency, weights per channel."""

import numpy as np
import pytest
import torch

import randommix_audio as rma
from randommix_audio.mixers.hidden import ManifoldMixup, PatchUp
from randommix_audio.viewing import show
from randommix_audio.viewing.figure import png
from randommix_audio.viewing.mixes import rows_to_show
from randommix_audio.viewing.page import DESCRIPTIONS
from tests.viewing.drawing import BINS, FRAMES, content, panels


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", rma.MIXERS)
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, BINS, FRAMES), torch.float32), ((3, 3, BINS, FRAMES), torch.float32), ((3, 1, BINS, FRAMES), torch.float16)],
)
def test_every_method_is_drawn_as_the_plan_mixes_it_in_rows_of_different_lengths(method, shape, dtype):
    x = torch.randn(shape, generator=seeded()).to(dtype)
    lengths = torch.tensor([FRAMES, 7, 15])
    plan = rma.build(method, per="row", pairing="roll").plan(x, lengths=lengths, generator=seeded(2))
    mixed, ends = plan.apply(x), plan.lengths.tolist()
    lines = panels(show(x, plan, rows=[0, 1, 2], lengths=lengths, channel=x.ndim - 3 and x.shape[1] - 1))
    for row, (_, _, _, result) in enumerate(lines):
        drawn = mixed[row] if x.ndim == 3 else mixed[row, -1]
        np.testing.assert_array_equal(content(result), drawn[:, : ends[row]].float())


@pytest.mark.parametrize("method", rma.MIXERS)
def test_every_method_has_a_sentence_on_the_page(method):
    assert DESCRIPTIONS[method].endswith(".")


@pytest.mark.parametrize("mixer", [rma.Cutout(), rma.RandomMix(["cutout"]), rma.RandomMix(["cutout"], per="row")])
def test_a_row_with_a_hole_has_no_partner_and_is_said_to_be_cut(mixer):
    x = torch.randn(2, BINS, FRAMES)
    _, partner, weight, cut = panels(show(x, mixer.plan(x, generator=seeded()), names=["yes", "no"]))[0]
    assert partner.get_title() == "no partner"
    assert not partner.images
    assert weight.get_title() == "cutout: weight of own"
    assert cut.get_title() == "cut: yes"
    np.testing.assert_array_equal(content(weight) == 0, content(cut) == 0)


def plan_of_sources(x: torch.Tensor, sources: list[list[int]], weights: list[float]) -> rma.MixPlan:
    """A plan of Co-Mixup for a single grid block, so that the shares are the weights."""
    from randommix_audio.geometry import Blocks

    plan = rma.CoMixup(blocks=1, most=len(weights)).plan(x, generator=seeded())
    grid = torch.tensor(weights).view(-1, 1, 1, 1).expand(-1, len(x), 1, 1)
    whole = torch.full((len(x),), x.shape[-1])
    geometry = Blocks(grid, whole, whole.expand(len(weights), -1))
    share = torch.tensor(weights)[:, None].expand(-1, len(x))
    return rma.MixPlan(
        torch.tensor(sources), share, geometry, plan.candidates, plan.size, plan.layout, plan.lengths, plan.drawn
    )


def test_all_sources_of_a_row_are_named_and_the_largest_is_shown():
    x = torch.randn(4, BINS, FRAMES)
    plan = plan_of_sources(x, [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1]], [0.25, 0.25, 0.5])
    _, partner, weight, mixed = panels(show(x, plan, names=["yes", "no", "up", "go"]))[0]
    assert partner.get_title() == "partners: up (shown) + no"
    np.testing.assert_array_equal(content(partner), x[2])
    assert (content(weight) == 0.25).all()
    assert mixed.get_title() == "mixed: 25 % yes + 25 % no + 50 % up"


def test_a_row_that_has_no_share_of_its_own_mix_is_not_named_in_it():
    x = torch.randn(3, BINS, FRAMES)
    plan = plan_of_sources(x, [[0, 1, 2], [1, 2, 0], [2, 0, 1]], [0.0, 1.0, 0.0])
    own, partner, weight, mixed = panels(show(x, plan, names=["yes", "no", "up"]))[0]
    assert own.get_title() == "own: yes"
    assert partner.get_title() == "partner: no"
    assert weight.get_title() == "comixup: weight of own"
    assert (content(weight) == 0).all()
    assert mixed.get_title() == "mixed: 100 % no"
    np.testing.assert_array_equal(content(mixed), x[1])


def test_a_source_that_has_no_share_makes_no_row_a_mixed_one():
    x = torch.randn(3, BINS, FRAMES)
    plan = plan_of_sources(x, [[0, 1, 2], [1, 2, 0]], [1.0, 0.0])
    assert panels(show(x, plan, rows=1))[0][1].get_title() == "no partner"
    itself = plan_of_sources(x, [[0, 1, 2], [0, 2, 0], [2, 2, 1]], [0.5, 0.5, 0.0])
    assert rows_to_show(itself, 2) == [1, 2]


@pytest.mark.parametrize(("transport", "said"), [(True, "mixed and moved: "), (False, "mixed: ")])
def test_a_mix_whose_blocks_were_moved_is_said_to_be(transport, said):
    x = torch.randn(2, BINS, FRAMES, generator=seeded())
    mixer = rma.PuzzleMix(blocks=4, eps=0.0, transport=transport, pairing="flip")
    plan = mixer.plan(x, generator=seeded(1), saliency=torch.rand(2, BINS, FRAMES, generator=seeded(9)).square())
    lines = panels(show(x, plan))
    for row, line in enumerate(lines):
        assert line[3].get_title().startswith(said)
        np.testing.assert_array_equal(content(line[3]), plan.apply(x)[row])
        np.testing.assert_array_equal(content(line[2]), plan.weights[0, row, 0])


@pytest.mark.parametrize("mixer", [ManifoldMixup(pairing="flip"), PatchUp(pairing="flip")])
def test_methods_for_hidden_layers_are_said_to_be(mixer):
    x = torch.randn(2, BINS, FRAMES)
    _, _, weight, mixed = panels(show(x, mixer.plan(x, generator=seeded())))[0]
    assert weight.get_title() == f"{mixer.name}: weight of own\n(on the clip; meant for hidden layers)"
    assert mixed.get_title().startswith("mixed: ")


def test_weights_that_differ_between_channels_are_those_of_the_channel_shown():
    x = torch.randn(2, 3, BINS, FRAMES)
    plan = PatchUp(block=3, pairing="flip").plan(x, generator=seeded())
    assert not torch.equal(plan.weights[0, 0, 0], plan.weights[0, 0, 2])
    weight, mixed = panels(show(x, plan, channel=2))[0][2:]
    np.testing.assert_array_equal(content(weight), plan.weights[0, 0, 2])
    np.testing.assert_array_equal(content(mixed), plan.apply(x)[0, 2])


def test_weights_that_differ_between_channels_are_averaged_for_a_picture_in_colour():
    x = torch.rand(2, 3, BINS, FRAMES)
    plan = PatchUp(block=3, pairing="flip").plan(x, generator=seeded())
    np.testing.assert_allclose(content(panels(show(x, plan))[0][2]), plan.weights[0, 0].mean(0), atol=1e-6)


def outline_of(axes) -> np.ndarray | None:
    """(first, last) corner of the outline in a panel, in frames and bins; None where there is none."""
    if not axes.collections:
        return None
    points = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    return np.array([points.min(0), points.max(0)])


def peaked(rows: int) -> torch.Tensor:
    """Saliency with a peak of 4 bins x 6 frames in each row, a tenth of it, at another place in each."""
    saliency = torch.rand(rows, BINS, FRAMES, generator=seeded())
    for row in range(rows):
        saliency[row, 3:7, 2 + 7 * row : 8 + 7 * row] = 10
    return saliency


@pytest.mark.parametrize("method", ["saliencymix", "puzzlemix", "comixup"])
def test_what_is_salient_in_row_and_partner_is_outlined(method):
    x, saliency = torch.randn(2, BINS, FRAMES), peaked(2)
    plan = rma.build(method, pairing="flip").plan(x, generator=seeded(3), saliency=saliency)
    own, partner, weight, mixed = panels(show(x, plan, rows=[0], saliency=saliency))[0]
    for axes, row in ((own, 0), (partner, 1)):
        assert axes.get_title().endswith("\n(most salient tenth outlined)")
        np.testing.assert_allclose(outline_of(axes), [[2 + 7 * row, 2.5], [8 + 7 * row, 6.5]])
    assert not weight.collections
    assert not mixed.collections


def test_there_is_no_outline_unless_the_saliency_is_given_and_followed():
    x = torch.rand(2, BINS, FRAMES)
    salient, plain = (rma.build(name, pairing="flip").plan(x, generator=seeded()) for name in ("saliencymix", "mixup"))
    for figure in (show(x, salient), show(x, plain, saliency="energy")):
        assert all(outline_of(axes) is None and "salient" not in axes.get_title() for axes in panels(figure)[0])
    assert outline_of(panels(show(x, salient, saliency="energy"))[0][0]) is not None


@pytest.mark.parametrize("frames", [2, 12, 16])
def test_equal_peaks_are_outlined_as_they_are_whatever_part_they_take(frames):
    x, saliency = torch.randn(2, BINS, FRAMES), torch.zeros(2, BINS, FRAMES)
    saliency[:, 4:6, 3 : 3 + frames] = 1
    plan = rma.SaliencyMix(pairing="flip").plan(x, generator=seeded(), saliency=saliency)
    assert outline_of(panels(show(x, plan, rows=[0], saliency=saliency))[0][0])[:, 0].tolist() == [3, 3 + frames]


def test_a_clip_that_is_salient_everywhere_alike_has_no_outline_and_padding_does_not_count():
    x, lengths = torch.rand(2, BINS, FRAMES), torch.tensor([10, FRAMES])
    plan = rma.SaliencyMix(pairing="flip").plan(x, lengths=lengths, generator=seeded(1))
    everywhere = torch.ones(2, BINS, FRAMES)
    everywhere[1] = peaked(2)[1]
    figure = show(x, plan, rows=[0, 1], lengths=lengths, saliency=everywhere)
    (short, partner, _, _), _ = panels(figure)
    assert outline_of(short) is None
    assert outline_of(partner)[1, 0] <= 10
    assert png(figure)


def test_a_row_that_is_left_alone_has_no_outline():
    x = torch.rand(2, BINS, FRAMES)
    plan = rma.SaliencyMix(pairing="flip").plan(x, rows=torch.zeros(2, dtype=torch.bool), generator=seeded())
    own, partner, _, _ = panels(show(x, plan, saliency="energy"))[0]
    assert partner.get_title() == "no partner"
    assert outline_of(own) is None


def test_what_is_outlined_in_a_padded_clip_is_what_is_outlined_without_padding():
    x, lengths = torch.rand(2, BINS, FRAMES, generator=seeded()), torch.tensor([10, 10])
    known = {"generator": seeded(1), "saliency": "spectral_residual"}
    padded = rma.SaliencyMix(pairing="flip").plan(x, lengths=lengths, **known)
    own = panels(show(x, padded, lengths=lengths, saliency="spectral_residual"))[0][0]
    alone = x[..., :10].contiguous()
    plan = rma.SaliencyMix(pairing="flip").plan(alone, generator=seeded(1), saliency="spectral_residual")
    expected = panels(show(alone, plan, saliency="spectral_residual"))[0][0]
    np.testing.assert_array_equal(outline_of(own), outline_of(expected))


def test_pictures_of_a_single_bin_or_frame_are_drawn_without_an_outline():
    for size in ((1, FRAMES), (BINS, 1)):
        x = torch.rand(2, *size)
        plan = rma.SaliencyMix(pairing="flip").plan(x, generator=seeded())
        assert png(show(x, plan, saliency="energy"))
