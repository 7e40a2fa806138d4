"""Mixing in the workers of a DataLoader: every batch differs, a run repeats, the plan arrives."""

import pickle

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio.integrations.collate import MixCollate


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 20, generator=generator), row % 3) for row in range(16)]


def shares(loader):
    return [plan.lam.tolist() for *_, plan in loader]


def test_the_plan_of_a_batch_arrives_with_it(rows):
    loader = DataLoader(rows, batch_size=4, num_workers=2, collate_fn=MixCollate(rma.RandomMix(per="row")))
    for number, (x, word, plan) in enumerate(loader):
        kept = torch.stack([x for x, _ in rows[4 * number : 4 * number + 4]])
        torch.testing.assert_close(x, plan.apply(kept))
        assert plan.loss(F.cross_entropy, x.mean(2), word).isfinite()


@pytest.mark.parametrize("workers", [0, 2])
def test_no_two_batches_of_two_epochs_are_mixed_alike(rows, workers):
    collate = MixCollate(rma.Mixup())
    collate(rows)  # a worker that is forked now must not draw on from here
    loader = DataLoader(rows, batch_size=4, num_workers=workers, collate_fn=collate)
    drawn = [share[0] for share in shares(loader) + shares(loader)]
    assert len(set(drawn)) == 8


def test_a_run_with_the_same_seed_repeats(rows):
    def run(seed):
        torch.manual_seed(seed)
        return shares(DataLoader(rows, batch_size=4, num_workers=2, collate_fn=MixCollate(rma.Mixup())))

    assert run(3) == run(3) != run(4)


def test_processes_that_are_seeded_alike_draw_differently(rows):
    torch.manual_seed(3)
    collates = [MixCollate(rma.Mixup(), rank=rank) for rank in range(2)]
    first, second = (collate(rows)[-1].lam[0] for collate in collates)
    assert first != second


def test_the_generator_of_dropout_is_left_alone(rows):
    before = torch.get_rng_state()
    MixCollate(rma.RandomMix(per="row"))(rows)
    assert torch.equal(torch.get_rng_state(), before)


def padded(rows):
    x = pad_sequence([x.T for x, _ in rows], batch_first=True)
    return {"x": x, "frames": torch.tensor([x.shape[1] for x, _ in rows]), "word": torch.tensor([w for _, w in rows])}


def test_a_dict_with_lengths_gets_the_lengths_of_the_mix():
    rows = [(torch.randn(8, frames), frames) for frames in (20, 7, 12)]
    collate = MixCollate(rma.Mixup(layout="BTF"), padded, input="x", lengths="frames", plan="mix")
    batch = collate(rows)
    assert batch.keys() == {"x", "frames", "word", "mix"}
    own = torch.tensor([20, 7, 12])
    assert torch.equal(batch["frames"], torch.maximum(own, own[batch["mix"].sources[1]]))
    assert (batch["x"][torch.arange(20)[None] >= batch["frames"][:, None]] == 0).all()


def test_it_pickles_with_what_it_has_drawn_forgotten(rows):
    collate = MixCollate(rma.RandomMix())
    collate(rows)
    again = pickle.loads(pickle.dumps(collate))
    assert torch.equal(again(rows)[-1].lam, MixCollate(rma.RandomMix())(rows)[-1].lam)


def test_batches_with_no_place_for_a_plan_are_refused(rows):
    with pytest.raises(TypeError, match="got Tensor"):
        MixCollate(rma.Mixup(), lambda rows: torch.zeros(1))(rows)
    with pytest.raises(ValueError, match="entry 'word'"):
        MixCollate(rma.Mixup(layout="BTF"), padded, input="x", lengths="frames", plan="word")(rows)
