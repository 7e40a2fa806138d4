"""Where PatchUp's patches lie: how many, how independent, how they follow the size of the map."""

import numpy as np
import pytest
import torch

from randommix_audio.geometry import Patches, Size, move, pack, unpack
from randommix_audio.geometry.patches import hash_32, patch_rate
from randommix_audio.mixers.hidden import ManifoldMixup, PatchUp
from tests.hidden.models import seeded


def patches(seeds: int = 1, gamma: float = 0.75, block: int = 7, per_channel: bool = True) -> Patches:
    seed = torch.randint(0, 2**24, (seeds, 2), generator=seeded())
    return Patches(torch.zeros(1), seed, block, gamma, per_channel)


def expected_part(rate: float, block: int, freq: int, time: int) -> float:
    """The part of a map in patches: no centre may lie within reach of a position that is in none."""

    def reach(size: int) -> np.ndarray:
        side = min(block, size)
        place = np.arange(size)
        return np.minimum(place + (side - 1) // 2, size - 1) - np.maximum(place - side // 2, 0) + 1

    return float((1 - (1 - rate) ** np.outer(reach(freq), reach(time))).mean())


@pytest.mark.parametrize(
    ("freq", "time", "block"),
    [(16, 16, 7), (32, 32, 7), (20, 50, 7), (50, 20, 4), (40, 3, 7), (1, 30, 7), (30, 1, 5), (2, 3, 7), (1, 1, 7)],
)
@pytest.mark.parametrize("gamma", [0.5, 0.75])
def test_the_part_of_a_map_in_patches_is_what_its_own_rectangle_makes_expected(freq, time, block, gamma):
    geometry, size = patches(400, gamma, block), Size(16, freq, time)
    sides = min(block, freq), min(block, time)
    rate = gamma * freq * time / (sides[0] * sides[1] * (freq - sides[0] + 1) * (time - sides[1] + 1))
    assert patch_rate(gamma, block, size) / 2**32 == pytest.approx(rate, rel=1e-6)
    found = geometry.covered(size).float().mean((1, 2, 3))
    expected = expected_part(rate, block, freq, time)
    assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / 20 + 1e-3


def test_the_changed_parts_stated_for_the_published_settings_hold():
    for side, changed in ((8, 0.999), (16, 0.773), (32, 0.636)):
        rate = patch_rate(0.75, 7, Size(1, side, side)) / 2**32
        assert expected_part(rate, 7, side, side) == pytest.approx(changed, abs=5e-4)


def test_a_patch_is_the_block_around_its_centre_cut_off_at_the_edges():
    size = Size(200, 12, 17)
    geometry = patches(gamma=0.02)
    centres = Patches(geometry.own, geometry.seed, 1, patch_rate(0.02, 7, size) / 2**32, True).covered(size)
    expected = torch.zeros_like(centres)
    for _, channel, bin_, frame in centres.nonzero().tolist():
        expected[0, channel, max(0, bin_ - 3) : bin_ + 4, max(0, frame - 3) : frame + 4] = True
    assert 0 < centres.sum() < 200
    assert torch.equal(geometry.covered(size), expected)


@pytest.mark.parametrize("block", [2, 4])
def test_blocks_of_even_side_have_that_side(block):
    covered = patches(2000, 0.001, block, per_channel=False).covered(Size(1, 20, 31))
    assert {int(count) for count in covered.sum((1, 2, 3))} & {block * block}


@pytest.mark.parametrize("block", [1, 2, 5, 7, 40])
def test_compiled_code_gets_the_very_same_patches(block):
    torch._dynamo.reset()
    geometry = patches(2, 0.3, block)
    covered = torch.compile(lambda size: geometry.covered(size), fullgraph=True, backend="eager")
    for size in (Size(3, 20, 31), Size(3, 12, 50)):
        assert torch.equal(covered(size), geometry.covered(size))


def test_the_same_seed_and_size_give_the_same_patches_and_another_of_either_gives_others():
    geometry = patches(2)
    size = Size(5, 20, 31)
    covered = geometry.covered(size)
    assert torch.equal(geometry.covered(size), covered)
    assert torch.equal(unpack(pack(geometry)).covered(size), covered)
    assert not torch.equal(covered[0], covered[1])
    assert not torch.equal(geometry.covered(Size(5, 20, 30)), covered[..., :30])


def test_channels_have_patches_of_their_own_or_all_the_same():
    own = patches().covered(Size(8, 20, 31))
    assert len(torch.unique(own[0].flatten(1), dim=0)) == 8
    assert patches(per_channel=False).covered(Size(8, 20, 31)).shape == (1, 1, 20, 31)


def test_bits_of_the_hash_are_balanced_and_every_bit_of_a_number_changes_half_of_them():
    number = torch.arange(2**16)
    base = hash_32(number)
    assert base.unique().numel() == 2**16
    assert int(base.max()) < 2**32
    bins = torch.bincount(base >> 24, minlength=256).float()
    chi_square = float(((bins - 256) ** 2 / 256).sum())
    assert abs(chi_square - 255) < 5 * (2 * 255) ** 0.5
    bits = 2 ** torch.arange(32)
    for flipped in bits:
        changed = (base ^ hash_32(number ^ flipped))[:, None] & bits > 0
        assert (changed.float().mean(0) - 0.5).abs().max() < 0.02


def test_centres_are_independent_of_their_neighbours_of_other_channels_and_of_other_seeds():
    consecutive = torch.stack([torch.arange(64), torch.zeros(64, dtype=torch.long)], 1)
    geometry = Patches(torch.zeros(1), consecutive, 1, 0.5, True)
    centre = geometry.covered(Size(64, 16, 24)).float() * 2 - 1
    count = centre.numel()
    tolerance = 5 / count**0.5
    assert abs(float(centre.mean())) < tolerance
    for axis in range(4):
        for distance in (1, 2, 7):
            assert abs(float((centre * centre.roll(distance, axis)).mean())) < tolerance
    diagonal = centre.roll((1, -1), (0, 1))  # seed s at channel c + 1 against seed s + 1 at channel c
    assert abs(float((centre * diagonal).mean())) < tolerance
    places = centre.sum((0, 1))  # over seeds and channels, at each position
    assert abs(float(places.var()) / 64**2 - 1) < 0.3


def test_rows_have_patches_of_their_own_with_per_row_and_share_them_with_per_batch():
    x = torch.randn(6, 3, 20, 50)
    for per, different in (("batch", 1), ("row", 6)):
        weights = PatchUp(per=per, mode="hard").plan(x, generator=seeded()).weights[0].expand(6, -1, -1, -1)
        assert len(torch.unique(weights.flatten(1), dim=0)) == different


def test_soft_patches_hold_the_mix_and_hard_patches_the_partner_and_the_rest_is_the_row_itself():
    x = torch.randn(6, 3, 20, 50)
    soft, hard = PatchUp().plan(x, generator=seeded()), PatchUp(mode="hard").plan(x, generator=seeded())
    inside = soft.geometry.covered(soft.size)
    lam = soft.geometry.own
    expected = torch.where(inside, lam * x + (1 - lam) * soft.pair(x), x)
    torch.testing.assert_close(soft.apply(x), expected)
    inside = hard.geometry.covered(hard.size)
    assert torch.equal(hard.apply(x), torch.where(inside, hard.pair(x), x))
    torch.testing.assert_close(hard.lam, 1 - inside.float().mean().expand(6))
    torch.testing.assert_close(soft.lam, 1 - (1 - lam) * soft.geometry.covered(soft.size).float().mean().expand(6))


def test_padding_is_never_mixed_in_and_lengths_stay():
    lengths = torch.tensor([50, 31, 8, 0, 17])
    valid = torch.arange(50) < lengths.view(-1, 1, 1, 1)
    x = torch.randn(5, 3, 20, 50).masked_fill(~valid, float("nan"))
    for mixer in (PatchUp(per="row"), PatchUp(mode="hard"), ManifoldMixup()):
        mixed, plan = mixer(x, lengths=lengths, generator=seeded())
        assert torch.equal(plan.lengths, lengths)
        assert torch.equal(mixed.isnan(), x.isnan())
        assert (plan.lam < 1).sum() >= 2


def test_a_stored_geometry_moves_to_another_device():
    there = move(patches(), "meta")
    assert there.covered(Size(3, 20, 31)).device.type == "meta"


def test_arguments_out_of_range_are_named():
    for block in (0, 2.5, True):
        with pytest.raises(ValueError, match="block must be a whole number"):
            PatchUp(block=block)
    for gamma in (0, 1.5, "0.5"):
        with pytest.raises(ValueError, match=r"gamma must lie in \(0, 1\]"):
            PatchUp(gamma=gamma)
    with pytest.raises(ValueError, match="mode must be one of soft, hard"):
        PatchUp(mode="both")
    with pytest.raises(ValueError, match="alpha"):
        PatchUp(alpha=0)
    with pytest.raises(ValueError, match="alpha"):
        ManifoldMixup(alpha=-1)
    assert (PatchUp().gamma, PatchUp(mode="hard").gamma) == (0.75, 0.5)
