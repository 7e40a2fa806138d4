import pytest
import torch

from randommix_audio.evaluation import row_keys, zero_blocks


def keys(rows: int, name: str = "x") -> torch.Tensor:
    return row_keys(0, name, torch.arange(rows))


@pytest.mark.parametrize("channels", [1, 3])
def test_one_block_of_half_the_sides_is_filled_and_the_rest_stays(channels):
    x = torch.rand(9, channels, 32, 20) + 1
    before = x.clone()
    covered = zero_blocks(x, keys(9))
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    hole = covered == 0
    torch.testing.assert_close(covered[~hole], x[~hole], rtol=0, atol=0)
    for row in hole:
        assert (row == row[:1]).all()  # the same place on all channels
        assert row[0].any(1).sum() == 16
        assert row[0].any(0).sum() == 10
        assert row[0].sum() == 160


@pytest.mark.parametrize("size, rows, frames", [((1, 0.2), 8, 2), ((0.25, 1), 2, 10), ((0, 0), 0, 0), ((1, 1), 8, 10)])
def test_sizes_are_fractions_of_each_axis(size, rows, frames):
    covered = zero_blocks(torch.ones(5, 8, 10), keys(5), size=size, fill=-3.0)
    hole = covered == -3
    assert hole.any(2).sum(1).tolist() == [rows] * 5
    assert hole.any(1).sum(1).tolist() == [frames] * 5


def test_every_place_where_a_block_fits_is_as_likely():
    hole = zero_blocks(torch.ones(6000, 4, 8), keys(6000), size=(0.5, 0.5)) == 0
    top, left = hole.any(2).float().argmax(1), hole.any(1).float().argmax(1)
    counts = torch.bincount(top * 5 + left, minlength=15)
    assert len(counts) == 15
    assert (counts - 400).abs().max() < 90  # 4.5 standard deviations


def test_places_belong_to_rows_not_to_batches():
    x = torch.rand(6, 3, 9, 7)
    whole = zero_blocks(x, keys(6))
    torch.testing.assert_close(torch.cat([zero_blocks(x[i : i + 2], keys(6)[i : i + 2]) for i in (0, 2, 4)]), whole)
    assert not torch.equal(whole, zero_blocks(x, keys(6, "other")))


def test_several_blocks_lie_in_different_places():
    hole = zero_blocks(torch.ones(200, 40, 30), keys(200), size=(0.1, 0.1), blocks=3) == 0
    counts = hole.sum((1, 2))
    assert counts.max() == 3 * 12
    assert (counts > 12).all()


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="size must be two fractions"):
        zero_blocks(torch.ones(1, 4, 4), keys(1), size=(0.5, 1.2))
    with pytest.raises(ValueError, match=r"with keys \(B,\), got \(2, 4, 4\), \(1,\)"):
        zero_blocks(torch.ones(2, 4, 4), keys(1))
    with pytest.raises(ValueError, match="blocks must be at least 1"):
        zero_blocks(torch.ones(1, 4, 4), keys(1), blocks=0)
