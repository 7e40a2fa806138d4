"""Who is paired with whom."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from randommix_audio.draws import Draws
from randommix_audio.pairing import PAIRINGS, draw_partners


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), torch.device("cpu"))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PAIRINGS), st.integers(1, 12), st.integers(0, 2**30), st.booleans(), st.booleans())
def test_partners_stay_among_the_allowed_rows(pairing, batch, seed, restrict, ragged):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.rand(batch, generator=generator) < 0.6 if restrict else None
    lengths = torch.randint(0, 9, (batch,), generator=generator) if ragged else None
    partner = draw_partners(pairing, batch, draws(seed), rows, lengths)
    allowed = torch.ones(batch, dtype=torch.bool) if rows is None else rows
    assert torch.equal(partner[~allowed], torch.arange(batch)[~allowed])
    assert allowed[partner[allowed]].all()
    if pairing != "neighbour":
        assert torch.equal(partner.sort().values, torch.arange(batch))
    if pairing in ("derangement", "roll", "neighbour") and allowed.sum() > 1:
        assert (partner != torch.arange(batch))[allowed].all()


def test_a_permutation_meets_itself_about_once_a_batch():
    meetings = [(draw_partners("permutation", 16, draws(s)) == torch.arange(16)).sum() for s in range(2000)]
    assert torch.stack(meetings).float().mean() == pytest.approx(1.0, abs=0.1)


def test_roll_and_flip_read_as_torchvision_and_timm_do():
    assert draw_partners("roll", 4, draws()).tolist() == [3, 0, 1, 2]
    assert draw_partners("flip", 5, draws()).tolist() == [4, 3, 2, 1, 0]


def test_roll_and_flip_among_allowed_rows_keep_their_order():
    rows = torch.tensor([True, False, True, True, False, True])
    assert draw_partners("roll", 6, draws(), rows).tolist() == [5, 1, 0, 2, 4, 3]
    assert draw_partners("flip", 6, draws(), rows).tolist() == [5, 1, 3, 2, 4, 0]


def test_neighbours_are_next_in_length_and_rows_at_the_end_look_back():
    lengths = torch.tensor([50, 10, 40, 20, 30])
    seen = {tuple(draw_partners("neighbour", 5, draws(s), lengths=lengths).tolist()) for s in range(20)}
    assert seen == {(2, 3, 0, 4, 2), (2, 3, 4, 1, 3)}


def test_every_derangement_partner_is_equally_likely():
    seen = torch.stack([draw_partners("derangement", 4, draws(s)) for s in range(6000)])
    share = torch.stack([(seen[:, 0] == k).float().mean() for k in (1, 2, 3)])
    assert torch.allclose(share, torch.full((3,), 1 / 3), atol=0.03)
