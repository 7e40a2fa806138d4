"""Blocks: weights on a grid, moved blocks, and where lengths end."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from randommix_audio.geometry import Blocks, Size, block_sizes, move, pack, pool_blocks, unpack


@st.composite
def grids(draw: st.DrawFn) -> tuple[Blocks, Size, torch.Generator]:
    """Random block weights of 2 to 4 sources on a grid, with lengths, moved or not."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    count, rows = draw(st.integers(2, 4)), draw(st.integers(1, 5))
    bands, blocks = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = Size(draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 4, 9])), draw(st.sampled_from([1, 6, 17])))
    weights = torch.rand(count, rows, bands, blocks, generator=generator)
    weights = torch.where(torch.rand(weights.shape, generator=generator) < 0.3, 0.0, weights) + 1e-3
    valid = torch.randint(0, size.time + 1, (count, rows), generator=generator)
    moved = None
    if draw(st.booleans()):
        moved = torch.rand(count, rows, bands * blocks, generator=generator).argsort(2)
        valid = valid[:1].expand(count, -1)
    return Blocks(weights / weights.sum(0), valid[0], valid, moved), size, generator


many = settings(max_examples=150, deadline=None)


@many
@given(grids())
def test_weights_sum_to_one_everywhere_and_their_areas_are_measured_exactly(drawn):
    geometry, size, _ = drawn
    weights = geometry.weights(size).expand(-1, -1, 1, size.freq, size.time)
    torch.testing.assert_close(weights.sum(0), torch.ones_like(weights[0]))
    torch.testing.assert_close(geometry.areas(size, geometry.both), weights[1:].sum((2, 3, 4)), atol=1e-4, rtol=1e-4)


@many
@given(grids())
def test_no_source_counts_where_it_has_ended(drawn):
    geometry, size, _ = drawn
    weights = geometry.weights(size)[1:, :, 0]
    frames = torch.arange(size.time)
    limit = torch.minimum(geometry.both, geometry.valid)[1:, :, None, None]
    assert (weights.masked_fill(frames < limit, 0.0) == 0).all()


@many
@given(grids())
def test_frame_labels_follow_the_blocks_and_move_with_them(drawn):
    geometry, size, _ = drawn
    rows = geometry.both.shape[0]
    marks = torch.arange(size.time).float().expand(rows, 1, size.freq, size.time)
    values = [geometry.warp(marks, k) for k in range(geometry.others + 1)]
    expected = sum((geometry.weights(size)[k] * value).mean((1, 2)) for k, value in enumerate(values))
    weights, frames = geometry.label_weights(size), geometry.label_frames(size)
    frames = torch.arange(size.time).expand_as(weights) if frames is None else frames
    torch.testing.assert_close((weights * frames).sum((0, 2)), expected, atol=1e-3, rtol=1e-3)


def test_a_moved_block_stands_where_it_was_sent_and_the_rest_stays():
    x = torch.arange(4 * 6).float().view(1, 1, 4, 6)
    swapped = torch.tensor([[1, 0, 2, 3]])  # 2 x 2 blocks of 2 bins and 3 frames: the upper two change places
    stay = torch.arange(4)[None]
    whole = torch.full((1,), 6)
    geometry = Blocks(torch.full((2, 1, 2, 2), 0.5), whole, whole.expand(2, 1), torch.stack([stay, swapped]))
    moved = geometry.warp(x, 1)
    assert torch.equal(geometry.warp(x, 0), x)
    assert torch.equal(moved[0, 0, :2], torch.cat([x[0, 0, :2, 3:], x[0, 0, :2, :3]], 1))
    assert torch.equal(moved[0, 0, 2:], x[0, 0, 2:])


@many
@given(grids())
def test_every_place_of_a_moved_grid_reads_the_like_place_of_its_source_block(drawn):
    geometry, size, _ = drawn
    if geometry.moved is None:
        return
    rows, bands, blocks = geometry.grid.shape[1:]
    marks = torch.arange(size.freq * size.time).view(1, 1, size.freq, size.time).expand(rows, 1, -1, -1)
    moved = geometry.warp(marks, 1)

    def first(block: int, length: int, count: int) -> int:
        return -(-block * length // count)

    def read(place: int, source: int, length: int, count: int) -> int:
        at = first(source, length, count) + place - first(place * count // length, length, count)
        return min(at, max(first(source + 1, length, count) - 1, 0))  # where the source block is smaller: its last

    for row, both in enumerate(geometry.both.tolist()):
        expected = marks[row, 0].clone()
        for f in range(size.freq):
            for t in range(both):
                target = (f * bands // size.freq) * blocks + t * blocks // both
                band, column = divmod(int(geometry.moved[1, row, target]), blocks)
                expected[f, t] = read(f, band, size.freq, bands) * size.time + read(t, column, both, blocks)
        assert torch.equal(moved[row, 0], expected)


def test_moved_frames_never_come_from_padding():
    x = torch.full((3, 1, 5, 20), float("nan"))
    both = torch.tensor([7, 0, 20])
    for row, length in enumerate(both.tolist()):
        x[row, :, :, :length] = 1.0
    moved = torch.rand(2, 3, 12).argsort(2)
    geometry = Blocks(torch.full((2, 3, 3, 4), 0.5), both, both.expand(2, 3), moved)
    inside = torch.arange(20) < both.view(3, 1, 1, 1)
    mixed = geometry.mix(x, x)
    assert (mixed.masked_fill(~inside, 1.0) == 1).all()


def test_pooling_sums_each_block_over_the_valid_frames_alone():
    x = torch.rand(2, 3, 5, 11, dtype=torch.float64)
    both = torch.tensor([11, 4])
    pooled = pool_blocks(x, 2, 3, both)
    assert pooled.shape == (2, 3, 2, 3)
    torch.testing.assert_close(pooled.sum((2, 3))[0], x[0].sum((1, 2)))
    torch.testing.assert_close(pooled.sum((2, 3))[1], x[1, :, :, :4].sum((1, 2)))
    torch.testing.assert_close(pool_blocks(torch.ones(2, 5, 11), 2, 3, both), block_sizes(5, 2, 3, both))
    assert block_sizes(5, 2, 3, both)[0].tolist() == [[12, 12, 9], [8, 8, 6]]


def test_a_stored_grid_is_read_back_and_moves_to_another_device():
    whole = torch.full((2,), 6)
    geometry = Blocks(torch.rand(2, 2, 3, 2), whole, whole.expand(2, 2))
    again = unpack(pack(geometry))
    assert torch.equal(again.grid, geometry.grid)
    assert again.moved is None
    assert move(geometry, "meta").grid.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_mix_keeps_its_dtype(dtype):
    whole = torch.full((2,), 6)
    geometry = Blocks(torch.full((2, 2, 3, 2), 0.5), whole, whole.expand(2, 2))
    assert geometry.mix(torch.ones(2, 1, 4, 6, dtype=dtype), torch.ones(2, 1, 4, 6, dtype=dtype)).dtype == dtype
