"""Utterances joined in time: the audio, its length, its transcripts and frame labels."""

import io

import pytest
import torch

import randommix_audio as rma

B, FREQ, TIME = 5, 6, 20


def marked():
    """Every frame of every row is told apart; -9 stands in padding."""
    lengths = torch.tensor([20, 7, 12, 3, 9])
    x = (100 * torch.arange(B)[:, None, None] + torch.arange(TIME)).float().expand(B, FREQ, TIME).clone()
    return x.masked_fill(torch.arange(TIME) >= lengths[:, None, None], -9.0), lengths


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def expected_rows(plan, x, lengths, joined):
    for row in range(B):
        own = x[row, 0, : lengths[row]]
        partner = int(plan.sources[1, row])
        yield torch.cat([own, x[partner, 0, : lengths[partner]]]) if joined[row] else own


@pytest.mark.parametrize("layout", ["BFT", "BTF", "BCFT"])
def test_each_row_is_followed_by_the_valid_frames_of_its_partner(layout):
    x, lengths = marked()
    batch = {"BFT": x, "BTF": x.transpose(1, 2), "BCFT": x[:, None]}[layout]
    mixer = rma.TimeConcat(pairing="derangement", layout=layout, fill=-5.0)
    mixed, plan = mixer(batch, lengths=lengths, generator=seeded())
    mixed = {"BFT": mixed, "BTF": mixed.transpose(1, 2), "BCFT": mixed.reshape(B, FREQ, -1)}[layout]
    assert mixed.shape == (B, FREQ, 32)  # the two longest rows
    for row, expected in enumerate(expected_rows(plan, x, lengths, [True] * B)):
        assert torch.equal(mixed[row, 0, : len(expected)], expected)
        assert (mixed[row, :, len(expected) :] == -5).all()
        assert int(plan.lengths[row]) == len(expected)
    assert torch.equal(plan.share, torch.tensor([1.0, 0.0])[:, None].expand(2, B))


def test_rows_that_would_become_too_long_are_left_alone():
    x, lengths = marked()
    mixed, plan = rma.TimeConcat(max_frames=20, pairing="derangement")(x, lengths=lengths, generator=seeded())
    joined = lengths + lengths[plan.sources[1]] <= 20
    assert mixed.shape == x.shape
    assert joined.any()
    assert not joined.all()
    for row, expected in enumerate(expected_rows(plan, x, lengths, joined)):
        assert torch.equal(mixed[row, 0, : len(expected)], expected)
        assert int(plan.lengths[row]) == len(expected)


def test_the_transcript_is_the_joined_one_for_joined_rows_alone():
    x, lengths = marked()
    plan = rma.TimeConcat(per="row", p=0.4, pairing="derangement").plan(x, lengths=lengths, generator=seeded())
    generator = seeded(1)
    log_probs = torch.randn(B, 40, 9, generator=generator).log_softmax(-1)
    text = torch.randint(1, 9, (B, 4), generator=generator)
    text_lengths = torch.tensor([4, 3, 2, 4, 1])
    joined = plan.sources[1] != torch.arange(B)
    assert int(joined.sum()) == 2
    losses = plan.ctc_loss(log_probs, text, text_lengths, torch.full((B,), 40), reduction="none")
    for row in range(B):
        partner = int(plan.sources[1, row])
        symbols = text[row, : text_lengths[row]]
        symbols = torch.cat([symbols, text[partner, : text_lengths[partner]]]) if joined[row] else symbols
        alone = torch.nn.functional.ctc_loss(log_probs[row], symbols, (40,), (len(symbols),), reduction="sum")
        torch.testing.assert_close(losses[row], alone)


def test_inside_randommix_the_rows_that_are_not_joined_are_padded_and_scored_as_ever():
    x, lengths = marked()
    mixer = rma.RandomMix(["mixup", rma.TimeConcat(fill=-5.0)], per="row", pairing="derangement")
    mixed, plan = mixer(x, lengths=lengths, generator=seeded(3))
    assert set(plan.method) == {"mixup", "time_concat"}
    log_probs = torch.randn(B, 40, 9, generator=seeded()).log_softmax(-1)
    text, text_lengths = torch.randint(1, 9, (B, 4), generator=seeded()), torch.tensor([4, 3, 2, 4, 1])
    losses = plan.ctc_loss(log_probs, text, text_lengths, torch.full((B,), 40), reduction="none")
    for row, name in enumerate(plan.method):
        partner = int(plan.sources[1, row])
        if name == "mixup":
            assert int(plan.lengths[row]) == max(lengths[row], lengths[partner])
            weights, texts = plan.transcripts.share[:, row], (text[row, : text_lengths[row]],)
            texts = (*texts, text[partner, : text_lengths[partner]])
        else:
            assert int(plan.lengths[row]) == lengths[row] + lengths[partner]
            weights = torch.ones(1)
            texts = (torch.cat([text[row, : text_lengths[row]], text[partner, : text_lengths[partner]]]),)
        assert (mixed[row, :, plan.lengths[row] :].unique() <= 0).all()
        alone = [torch.nn.functional.ctc_loss(log_probs[row], t, (40,), (len(t),), reduction="sum") for t in texts]
        torch.testing.assert_close(losses[row], sum(w * loss for w, loss in zip(weights, alone, strict=True)))


def test_frame_labels_are_joined_alike():
    x, lengths = marked()
    plan = rma.TimeConcat(pairing="derangement").plan(x, lengths=lengths, generator=seeded())
    labels = torch.rand(B, 3, TIME)
    mixed = plan.mix_frames(labels)
    for row in range(B):
        partner = int(plan.sources[1, row])
        expected = torch.cat([labels[row, :, : lengths[row]], labels[partner, :, : lengths[partner]]], 1)
        torch.testing.assert_close(mixed[row, :, : expected.shape[1]], expected)
    assert plan.mix_frames(torch.rand(B, 3, 5), hop=4).shape == (B, 3, 8)


def test_without_lengths_all_rows_are_whole_and_the_output_twice_as_long():
    x = torch.randn(B, FREQ, TIME)
    mixed, plan = rma.TimeConcat(pairing="roll")(x)
    assert torch.equal(mixed, torch.cat([x, x.roll(1, 0)], 2))
    assert plan.lengths.tolist() == [2 * TIME] * B


def test_a_joined_plan_is_replayed_and_gives_gradients():
    x, lengths = marked()
    plan = rma.TimeConcat(pairing="derangement").plan(x, lengths=lengths, generator=seeded())
    file = io.BytesIO()
    torch.save(plan.state_dict(), file)
    file.seek(0)
    again = rma.MixPlan.from_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again.apply(x), plan.apply(x))
    x.requires_grad_()
    plan.apply(x).sum().backward()
    inside = (torch.arange(TIME) < lengths[:, None, None]).expand_as(x)
    assert torch.equal(x.grad, 2.0 * inside)


def test_methods_that_leave_no_transcript_whole_are_refused_with_what_to_use():
    plan = rma.CutMix().plan(torch.randn(B, FREQ, TIME))
    with pytest.raises(ValueError, match=r"cutmix covers or moves parts of both utterances.*use mixup, freq_cutmix"):
        plan.ctc_loss(torch.zeros(B, 20, 9), torch.ones(B, 4).long(), torch.ones(B).long(), torch.full((B,), 20))


def test_transcripts_weigh_the_share_where_both_are_valid():
    lengths = torch.tensor([20, 5])
    plan = rma.Mixup(pairing="roll").plan(torch.randn(2, FREQ, TIME), lengths=lengths, generator=seeded())
    lam = plan.weights[0, :, 0, 0, 0]
    torch.testing.assert_close(plan.transcripts.share[0], lam.expand(2))
    assert (plan.share[0] != plan.transcripts.share[0]).any()
