import pytest
import torch

from randommix_audio.evaluation import integers, normals, row_keys, uniforms

KEYS = [-4769476554756093182, 573542626704620492]
UNIFORMS = [[0.14567142724990845, 0.417108416557312], [0.3478580713272095, 0.080241858959198]]


def test_a_rows_numbers_depend_neither_on_the_batch_nor_on_the_order():
    index = torch.tensor([7, 0, 3, 1000])
    whole = normals(row_keys(1, "noise", index), 9)
    for i, at in enumerate(index):
        torch.testing.assert_close(normals(row_keys(1, "noise", at[None]), 9)[0], whole[i], rtol=0, atol=0)


def test_seed_name_and_row_each_give_other_numbers():
    index = torch.arange(3)
    keys = torch.cat([row_keys(s, n, index) for s, n in ((0, "a"), (1, "a"), (0, "b"))])
    assert len(uniforms(keys, 4).unique()) == 9 * 4


def test_the_numbers_are_the_same_in_every_version():
    keys = row_keys(3, "white", torch.tensor([0, 1]))
    assert keys.tolist() == KEYS
    torch.testing.assert_close(uniforms(keys, 2), torch.tensor(UNIFORMS), rtol=0, atol=1e-7)


def test_uniforms_are_uniform_and_normals_normal_within_and_across_rows():
    keys = row_keys(0, "x", torch.arange(500))
    flat, bell = uniforms(keys, 401), normals(keys, 401)
    assert flat.min() >= 0
    assert flat.max() < 1
    for drawn, mean, deviation in ((flat, 0.5, 12**-0.5), (bell, 0.0, 1.0)):
        assert drawn.shape == (500, 401)
        assert drawn.mean().item() == pytest.approx(mean, abs=0.01)
        assert drawn.std().item() == pytest.approx(deviation, abs=0.01)
        assert drawn.mean(0).std().item() == pytest.approx(deviation / 500**0.5, rel=0.15)
        assert drawn.mean(1).std().item() == pytest.approx(deviation / 401**0.5, rel=0.15)
        neighbours = torch.stack([drawn[:, :-1].flatten(), drawn[:, 1:].flatten()])
        assert abs(torch.corrcoef(neighbours)[0, 1].item()) < 0.01
    assert (bell.abs() > 3).float().mean().item() == pytest.approx(0.0027, rel=0.2)
    halves = torch.stack([bell[:, :200].flatten(), bell[:, 201:].flatten()])
    assert abs(torch.corrcoef(halves)[0, 1].item()) < 0.01


def test_integers_are_uniform_below_the_limit_of_their_row():
    limit = torch.tensor([1, 3, 10, 2**24])
    drawn = integers(row_keys(0, "x", torch.arange(4)), 9000, limit)
    assert drawn[0].unique().tolist() == [0]
    for row, size in ((1, 3), (2, 10)):
        counts = torch.bincount(drawn[row], minlength=size)
        assert len(counts) == size
        assert (counts - 9000 / size).abs().max() < 4.5 * (9000 / size) ** 0.5
    assert drawn[3].double().mean().item() == pytest.approx(2**23, rel=0.05)
    whole = integers(row_keys(0, "x", torch.arange(4)), 50, 7)
    assert torch.equal(whole, (uniforms(row_keys(0, "x", torch.arange(4)), 50).double() * 7).long())


@pytest.mark.parametrize("index", [torch.zeros(2), torch.zeros(2, 2, dtype=torch.long), torch.zeros(2) > 0])
def test_an_index_that_is_no_row_number_is_refused(index):
    with pytest.raises(ValueError, match="index must be"):
        row_keys(0, "x", index)
