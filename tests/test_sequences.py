"""Losses against transcripts: what a mixed batch is scored against, and that it costs no more than it must."""

import pytest
import torch
from torch.nn import functional as F

from randommix_audio.sequences import MixedRows, attention_loss, ctc_loss, join_transcripts, transducer_loss

B, FRAMES, SYMBOLS, U = 6, 30, 11, 7


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "log_probs": torch.randn(B, FRAMES, SYMBOLS, generator=generator, dtype=torch.float64).log_softmax(-1),
        "target": torch.randint(1, SYMBOLS, (B, U), generator=generator),
        "target_lengths": torch.randint(1, U + 1, (B,), generator=generator),
        "input_lengths": torch.randint(2 * U, FRAMES + 1, (B,), generator=generator),
    }


def pairs(share, mixed=None):
    return MixedRows(torch.stack([torch.arange(B), torch.arange(B).roll(1)]), torch.stack([share, 1 - share]), mixed)


def plain_ctc(batch, reduction, source=None):
    source = torch.arange(B) if source is None else source
    arguments = batch["target"][source], batch["input_lengths"], batch["target_lengths"][source]
    return F.ctc_loss(batch["log_probs"].transpose(0, 1), *arguments, reduction=reduction, zero_infinity=True)


@pytest.mark.parametrize("mixed", [None, torch.tensor([1, 4]), torch.tensor([], dtype=torch.long)])
def test_with_share_one_every_ctc_reduction_is_the_plain_one(batch, mixed):
    rows = pairs(torch.ones(B), mixed)
    for reduction in ("mean", "sum", "none"):
        torch.testing.assert_close(
            ctc_loss(rows, **batch, reduction=reduction), plain_ctc(batch, reduction), atol=1e-6, rtol=0
        )
    torch.testing.assert_close(ctc_loss(rows, **batch, reduction="batchmean"), plain_ctc(batch, "sum") / B)


def test_with_two_equal_transcripts_the_shares_do_not_matter(batch):
    batch["target"] = batch["target"][:1].expand(B, -1)
    batch["target_lengths"] = batch["target_lengths"][:1].expand(B)
    torch.testing.assert_close(
        ctc_loss(pairs(torch.rand(B).double()), **batch), plain_ctc(batch, "mean"), atol=1e-6, rtol=0
    )


def test_each_row_is_scored_against_both_transcripts_with_its_own_normalisation(batch):
    share = torch.rand(B, dtype=torch.float64)
    partner = torch.arange(B).roll(1)
    own = plain_ctc(batch, "none") / batch["target_lengths"]
    theirs = plain_ctc(batch, "none", partner) / batch["target_lengths"][partner]
    torch.testing.assert_close(ctc_loss(pairs(share), **batch), (share * own + (1 - share) * theirs).mean())


def test_scoring_only_the_mixed_rows_again_gives_the_same_loss_and_gradient(batch):
    share = torch.tensor([1.0, 0.3, 1.0, 1.0, 0.8, 1.0], dtype=torch.float64)
    gradients = []
    for mixed in (None, torch.tensor([4, 1])):
        log_probs = batch["log_probs"].clone().requires_grad_()
        loss = ctc_loss(pairs(share, mixed), **{**batch, "log_probs": log_probs})
        gradients.append((loss.detach(), *torch.autograd.grad(loss, log_probs)))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_transcript_that_does_not_fit_counts_nothing_unless_infinity_is_wanted(batch):
    batch["input_lengths"] = torch.full((B,), FRAMES)
    batch["input_lengths"][2] = 1
    batch["target_lengths"] = torch.full((B,), U)
    share = torch.full((B,), 0.5, dtype=torch.float64)
    assert ctc_loss(pairs(share), **batch).isfinite()
    assert ctc_loss(pairs(share), **batch, zero_infinity=False).isinf()
    alone = pairs(torch.ones(B, dtype=torch.float64))
    short = {**batch, "input_lengths": torch.full((B,), FRAMES), "target_lengths": torch.tensor([1, 7, 7, 7, 7, 7])}
    assert ctc_loss(alone, **short, zero_infinity=False).isfinite()


@pytest.mark.parametrize("mixed", [None, torch.tensor([0, 2, 5])])
@pytest.mark.parametrize("zero_infinity", [True, False])
def test_a_transcript_without_a_share_that_does_not_fit_changes_neither_loss_nor_gradient(batch, mixed, zero_infinity):
    batch["target_lengths"] = torch.tensor([1, 2, 1, 3, 2, U])
    batch["input_lengths"] = torch.tensor([3, FRAMES, FRAMES, FRAMES, FRAMES, FRAMES])  # row 0 has no room for row 5's
    share = torch.tensor([1.0, 1.0, 0.3, 1.0, 1.0, 0.6], dtype=torch.float64)
    found = []
    for target in (batch["target"], batch["target"].index_fill(0, torch.tensor([5]), 1)):
        assert plain_ctc({**batch, "target": target}, "none", torch.arange(B).roll(1))[0] == 0  # set to 0: infinite
        log_probs = batch["log_probs"].clone().requires_grad_()
        arguments = {**batch, "target": target, "log_probs": log_probs}
        losses = ctc_loss(pairs(share, mixed), **arguments, reduction="none", zero_infinity=zero_infinity)
        (gradient,) = torch.autograd.grad(losses.sum(), log_probs)
        assert gradient.isfinite().all()
        found.append((losses[0], gradient[0]))
    torch.testing.assert_close(*found)


def decoder_of(weights):
    def decode(encoded, target):
        # teacher forcing: position u sees the symbol before it
        before = F.one_hot(F.pad(target, (1, 0))[:, :-1].clamp(min=0), SYMBOLS).double()
        return before @ weights + encoded[:, :1]

    return decode


def test_attention_loss_with_share_one_is_the_mean_over_tokens_that_cross_entropy_takes(batch):
    weights = torch.randn(SYMBOLS, SYMBOLS, dtype=torch.float64)
    target = batch["target"].masked_fill(torch.arange(U) >= batch["target_lengths"][:, None], -100)
    logits = decoder_of(weights)(batch["log_probs"], target)
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), label_smoothing=smoothing)
        found = attention_loss(
            pairs(torch.ones(B)), decoder_of(weights), batch["log_probs"], target, label_smoothing=smoothing
        )
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_the_decoder_runs_again_for_the_mixed_rows_alone(batch):
    seen = []

    def decode(encoded, target):
        seen.append((encoded["memory"].shape[0], encoded["mask"].shape[0], target.shape[0], encoded["scale"]))
        return encoded["memory"].new_zeros(*target.shape, SYMBOLS)

    share = torch.tensor([1.0, 0.3, 1.0, 1.0, 0.8, 1.0])
    encoded = {"memory": batch["log_probs"], "mask": torch.ones(B, FRAMES), "scale": 2.0}
    attention_loss(pairs(share, torch.tensor([1, 4])), decode, encoded, batch["target"])
    assert seen == [(B, B, B, 2.0), (2, 2, 2, 2.0)]


def joint_of(some, target):
    return some[:, :, None] + F.one_hot(F.pad(target, (1, 0)), SYMBOLS).float()[:, None]


def test_transducer_loss_is_that_of_torchaudio_for_each_transcript(batch):
    from torchaudio.functional import rnnt_loss

    share = torch.rand(B)
    partner = torch.arange(B).roll(1)
    encoded = torch.randn(B, FRAMES, SYMBOLS)

    def plain(source):
        target, lengths = batch["target"][source].int(), batch["target_lengths"][source].int()
        logits = joint_of(encoded, batch["target"][source])
        return rnnt_loss(logits, target, batch["input_lengths"].int(), lengths, blank=0, reduction="none")

    expected = (share * plain(torch.arange(B)) + (1 - share) * plain(partner)).mean()
    found = transducer_loss(
        pairs(share), joint_of, encoded, batch["target"], batch["target_lengths"], batch["input_lengths"], blank=0
    )
    torch.testing.assert_close(found, expected)


def test_transducer_loss_needs_the_longest_row_neither_among_the_mixed_ones_nor_at_all():
    encoded = torch.randn(B, FRAMES, SYMBOLS)
    target, symbols = torch.randint(1, SYMBOLS, (B, U)), torch.tensor([U, 2, 3, 1, 2, 3])
    share = torch.tensor([1.0, 1.0, 0.7, 1.0, 0.6, 1.0])
    found = []
    for frames in (torch.tensor([FRAMES, 9, 8, 7, 9, 8]), torch.tensor([20, 9, 8, 7, 9, 8])):
        for mixed in (None, torch.tensor([2, 4])):
            inputs = encoded.clone().requires_grad_()
            rows = pairs(share, mixed)
            loss = transducer_loss(rows, joint_of, inputs, target, symbols, frames, blank=0, reduction="none")
            found.append((loss.detach(), *torch.autograd.grad(loss.sum(), inputs)))
        torch.testing.assert_close(found[-2], found[-1])
    torch.testing.assert_close(found[0][0][1:], found[2][0][1:])  # row 0 alone is shorter


def test_transducer_loss_takes_joined_transcripts():
    encoded = torch.randn(B, FRAMES, SYMBOLS)
    target, symbols = torch.randint(1, SYMBOLS, (B, U)), torch.tensor([4, 2, 3, 1, 2, 3])
    frames = torch.full((B,), FRAMES)
    here, partner = torch.arange(B), torch.arange(B).roll(1)
    joined = torch.tensor([True, False, True, False, False, False])
    whole = torch.stack([torch.ones(B), torch.zeros(B)])
    rows = MixedRows(torch.stack([here, partner]), whole, here[:0], joined)
    found = transducer_loss(rows, joint_of, encoded, target, symbols, frames, blank=0, reduction="none")
    text, lengths = join_transcripts(target, symbols, partner, joined, 0)
    plain = MixedRows(here[None], torch.ones(1, B))
    expected = transducer_loss(plain, joint_of, encoded, text, lengths, frames, blank=0, reduction="none")
    torch.testing.assert_close(found, expected)


def test_joined_transcripts_stand_one_behind_the_other():
    target = torch.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    lengths = torch.tensor([2, 1, 3])
    joined = torch.tensor([True, False, True])
    text, text_lengths = join_transcripts(target, lengths, torch.tensor([2, 0, 1]), joined, pad=0)
    assert text.tolist() == [[1, 2, 4, 5, 6, 0], [3, 0, 0, 0, 0, 0], [4, 5, 6, 3, 0, 0]]
    assert text_lengths.tolist() == [5, 1, 4]


def test_a_separator_stands_between_two_transcripts_and_the_end_of_sentence_at_the_end_alone():
    space, eos = 9, 8
    target = torch.tensor([[1, 2, 8, 0], [3, 8, 0, 0], [4, 5, 6, 8], [8, 0, 0, 0], [7, 8, 0, 0]])
    lengths = torch.tensor([3, 2, 4, 1, 2])
    partner, joined = torch.tensor([2, 0, 1, 4, 3]), torch.tensor([True, False, True, True, True])
    text, text_lengths = join_transcripts(target, lengths, partner, joined, -1, space, eos)
    rows = [row[:length].tolist() for row, length in zip(text, text_lengths, strict=True)]
    assert rows == [[1, 2, 9, 4, 5, 6, 8], [3, 8], [4, 5, 6, 9, 3, 8], [7, 8], [7, 8]]
    assert all((row[length:] == -1).all() for row, length in zip(text, text_lengths, strict=True))
    text, text_lengths = join_transcripts(target, lengths, partner, joined, -1, eos=eos)
    assert text[0, : text_lengths[0]].tolist() == [1, 2, 4, 5, 6, 8]


def test_the_losses_write_the_separator_and_a_decoder_of_joined_transcripts_is_not_told_to_end_in_between(batch):
    here, partner = torch.arange(B), torch.arange(B).roll(1)
    whole = torch.stack([torch.ones(B), torch.zeros(B)])
    rows = MixedRows(torch.stack([here, partner]), whole, here[:0], torch.ones(B, dtype=torch.bool))
    eos = SYMBOLS - 1
    places = torch.arange(U + 1)
    target = F.pad(batch["target"].clamp(max=eos - 2), (0, 1)).masked_fill(
        places > batch["target_lengths"][:, None], -100
    )
    target = torch.where(places == batch["target_lengths"][:, None], eos, target)
    seen = []

    def decode(encoded, symbols):
        seen.append(symbols)
        return encoded.new_zeros(*symbols.shape, SYMBOLS)

    lengths = batch["target_lengths"] + 1
    attention_loss(rows, decode, batch["log_probs"], target, target_lengths=lengths, separator=eos - 1, eos=eos)
    assert [row[row >= 0].tolist() for row in seen[0]] == [
        [*target[i, : lengths[i] - 1].tolist(), eos - 1, *target[j, : lengths[j]].tolist()]
        for i, j in zip(here.tolist(), partner.tolist(), strict=True)
    ]
    with pytest.raises(ValueError, match="joins transcripts, which needs eos"):
        attention_loss(rows, decode, batch["log_probs"], target, target_lengths=lengths)
    joined = join_transcripts(batch["target"], batch["target_lengths"], partner, rows.joined, 0, 1)
    plain = MixedRows(here[None], torch.ones(1, B))
    frames = torch.full((B,), FRAMES)
    expected = ctc_loss(plain, batch["log_probs"], *joined, frames)
    found = ctc_loss(rows, **{**batch, "input_lengths": frames}, separator=1)
    torch.testing.assert_close(found, expected)
    encoded = torch.randn(B, FRAMES, SYMBOLS)
    expected = transducer_loss(plain, joint_of, encoded, *joined, frames, blank=0)
    found = transducer_loss(
        rows, joint_of, encoded, batch["target"], batch["target_lengths"], frames, blank=0, separator=1
    )
    torch.testing.assert_close(found, expected)


def test_a_wrong_shape_or_reduction_is_named(batch):
    rows = pairs(torch.ones(B))
    with pytest.raises(ValueError, match=r"target must have shape \(6, U\), got \(42,\)"):
        ctc_loss(rows, **{**batch, "target": batch["target"].flatten()})
    with pytest.raises(ValueError, match="reduction must be one of mean, batchmean, sum, none; got 'batch'"):
        ctc_loss(rows, **batch, reduction="batch")
    with pytest.raises(ValueError, match="the decoder gave logits"):
        attention_loss(rows, lambda some, target: some, batch["log_probs"], batch["target"])
