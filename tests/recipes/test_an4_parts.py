"""Parts of the AN4 recipe: transcripts, error rates, masks, batches by length, averages of checkpoints, the encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch

import randommix_audio as rma
from recipes.an4.encoder import Encoder
from recipes.an4.scores import errors, interval, rates, resampled
from recipes.an4.text import Characters, characters_of
from recipes.shared import records
from recipes.shared.averaging import average_checkpoints
from recipes.shared.buckets import batch_count, bucketed
from recipes.shared.console import UserError
from recipes.shared.spec_augment import SpecAugment, runs


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_probs(text: str, characters: Characters, frames_each: int = 2) -> torch.Tensor:
    """Frames that say a text clearly: each character `frames_each` times, then a blank."""
    path = [s for c in text for s in [characters.number[c]] * frames_each + [0]]
    certain = torch.full((1, len(path), len(characters)), -8.0)
    certain[0, torch.arange(len(path)), torch.tensor(path)] = 8.0
    return certain.log_softmax(-1)


def test_transcripts_survive_being_symbols_whatever_the_decoder():
    characters = Characters(characters_of(["GO TWO", "O'NEIL"]))
    for text in ("GO TWO", "O'NEIL", "TOOTOO WOO"):
        said = log_probs(text, characters)
        lengths = torch.tensor([said.shape[1]])
        assert characters.greedy(said, lengths) == [text]
        assert characters.beam(said, lengths, size=4) == [text]


def test_decoding_stops_at_the_valid_frames_and_joins_spaces():
    characters = Characters(" AB")
    said = torch.cat([log_probs("A  B", characters), log_probs("BB", characters)], 1)
    valid = torch.tensor([4 * 3])
    assert characters.greedy(said, valid) == characters.beam(said, valid) == ["A B"]
    assert characters.greedy(said, torch.tensor([0])) == characters.beam(said, torch.tensor([0])) == [""]


def test_a_beam_search_finds_the_likeliest_transcript_where_the_likeliest_path_has_another():
    characters = Characters("A")
    # "" has one path of 0.36; "A" has three of 0.24 + 0.24 + 0.16
    unsure = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    assert characters.greedy(unsure, torch.tensor([2])) == [""]
    assert characters.beam(unsure, torch.tensor([2])) == ["A"]


def test_a_beam_search_of_a_minute_does_not_run_out_of_numbers():
    characters = Characters(" AB")
    frames = torch.full((1, 1500, 4), 0.25).log()
    frames[0, ::3] = torch.tensor([0.1, 0.1, 0.6, 0.2]).log()
    (said,) = characters.beam(frames, torch.tensor([1500]))
    assert "A" in said


def test_characters_are_padded_with_the_blank_and_unknown_ones_refused():
    characters = Characters(" ABC")
    text, lengths = characters.encode(["AB C", "C"])
    assert text.tolist() == [[2, 3, 1, 4], [4, 0, 0, 0]]
    assert lengths.tolist() == [4, 1]
    with pytest.raises(KeyError):
        characters.encode(["D"])


@pytest.mark.parametrize(
    "reference, hypothesis, words, kinds, characters",
    [
        ("A B C", "A B C", 0, (0, 0, 0), 0),
        ("A B C", "A X C", 1, (1, 0, 0), 1),
        ("A B C", "A C", 1, (0, 1, 0), 2),
        ("A C", "A B C", 1, (0, 0, 1), 2),
        ("A B", "", 2, (0, 2, 0), 3),
        ("", "A B", 2, (0, 0, 2), 3),
        ("", "", 0, (0, 0, 0), 0),
        ("YES", "YE S", 2, (1, 0, 1), 1),
    ],
)
def test_errors_by_hand(reference, hypothesis, words, kinds, characters):
    found = errors(reference, hypothesis)
    assert found["word_errors"] == words
    assert (found["substitutions"], found["deletions"], found["insertions"]) == kinds
    assert found["character_errors"] == characters
    assert (found["words"], found["characters"]) == (len(reference.split()), len(reference))


def test_the_rate_of_a_set_is_all_errors_by_all_words_not_the_mean_of_rates():
    found = rates([errors("A", "B"), errors("A B C D", "A B C D")])
    assert found["wer"] == 1 / 5
    assert found["cer"] == 1 / 8
    assert found["utterances"] == 2
    assert rates([])["wer"] is None


def test_bootstrap_intervals_are_those_of_the_binomial_and_pairs_cancel_what_they_share():
    random = np.random.default_rng(0)
    wrong = (random.random((1, 400)) < 0.2).astype(int)
    words = np.ones(400, dtype=int)
    low, high = interval(resampled(wrong, words))
    assert high - low == pytest.approx(2 * 1.96 * (0.2 * 0.8 / 400) ** 0.5, rel=0.15)
    assert low < wrong.mean() < high
    worse = wrong + (np.arange(400) % 10 == 0)  # 10 points more, always the same
    low, high = interval(resampled(worse, words) - resampled(wrong, words))
    assert 0.06 < low < 0.1 < high < 0.14


def test_drawing_speakers_widens_the_interval_where_speakers_differ():
    errors_of = np.repeat([[0, 0, 0, 1, 1]], 20, axis=1)
    words, speakers = np.ones(100, dtype=int), [f"s{i // 20}" for i in range(100)]
    narrow, wide = interval(resampled(errors_of, words)), interval(resampled(errors_of, words, speakers))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_runs_that_differ_widen_the_interval():
    errors_of = np.zeros((2, 50), dtype=int)
    errors_of[1] = 1
    low, high = interval(resampled(errors_of, np.ones(50, dtype=int)))
    assert (low, high) == (0.0, 1.0)


def test_masks_lie_inside_the_valid_frames_and_have_all_widths():
    lengths = torch.tensor([3, 20, 0] * 500)
    mask = runs(lengths, 20, 1, torch.full_like(lengths, 5), generator())
    widths = mask.sum(1).view(500, 3)
    assert not mask[torch.arange(20) >= lengths[:, None]].any()
    assert set(widths[:, 0].tolist()) == {0, 1, 2, 3}
    assert set(widths[:, 1].tolist()) == {0, 1, 2, 3, 4, 5}
    assert not widths[:, 2].any()
    starts = mask[1::3].int().argmax(1)[widths[:, 1] > 0]
    assert starts.min() == 0
    assert starts.max() >= 15


def test_spec_augment_masks_bands_and_frames_of_each_row_and_leaves_the_rest():
    x, lengths = torch.randn(6, 30, 16), torch.tensor([30, 30, 20, 20, 10, 10])
    masked = SpecAugment(freq_masks=1, freq_mask=4, time_masks=1, time_mask=8)(x, lengths, -7.0, generator())
    changed = masked != x
    assert (masked[changed] == -7.0).all()
    bands, frames = changed.all(1), changed.all(2)
    assert torch.equal(changed, bands[:, None, :] | frames[:, :, None])
    assert len({tuple(row) for row in frames.tolist()}) > 2
    assert SpecAugment()(x, lengths, 0.0, generator()) is x


def test_the_share_of_frames_in_a_mask_has_a_limit():
    lengths = torch.full((200,), 40)
    x = torch.ones(200, 40, 8)
    masked = SpecAugment(time_masks=1, time_mask=40, time_share=0.25)(x, lengths, 0.0, generator())
    assert (masked == 0).all(2).sum(1).max() == 10


@pytest.mark.parametrize("options", [{"freq_mask": -1}, {"time_share": 1.5}])
def test_wrong_masks_are_named(options):
    with pytest.raises(UserError, match=rf"spec_augment.{next(iter(options))} must"):
        SpecAugment(**options)


def test_every_clip_comes_once_in_an_epoch_in_batches_of_like_lengths_and_of_nearly_one_size():
    lengths = torch.randint(10, 400, (101,), generator=generator())
    batches = bucketed(lengths, 8, seed=0, epoch=0)
    assert len(batches) == batch_count(101, 8) == 13
    assert torch.cat(batches).sort().values.tolist() == list(range(101))
    assert {len(batch) for batch in batches} == {7, 8}
    spread = max(float(lengths[b].max() / lengths[b].min()) for b in batches if lengths[b].min() > 50)
    assert spread < 1.6
    assert [b.tolist() for b in bucketed(lengths, 8, 0, 0)] == [b.tolist() for b in batches]
    assert [b.tolist() for b in bucketed(lengths, 8, 0, 1)] != [b.tolist() for b in batches]
    order = [float(lengths[b].float().mean()) for b in batches]
    assert order != sorted(order)


def test_processes_share_each_batch_and_have_equally_many():
    lengths = torch.randint(10, 400, (50,), generator=generator())
    whole = bucketed(lengths, 12, 0, 3)
    parts = [bucketed(lengths, 4, 0, 3, rank=rank, world_size=3) for rank in range(3)]
    assert {len(part) for part in parts} == {len(whole)}
    for together, *some in zip(whole, *parts, strict=True):
        assert torch.cat(some).sort().values.equal(together.sort().values)
        assert max(map(len, some)) - min(map(len, some)) <= 1
    assert bucketed(lengths[:2], 4, 0, 0, world_size=3) == []


def test_what_the_encoder_says_of_a_clip_does_not_depend_on_its_padding():
    encoder = Encoder(8, 5, width=6, blocks=2, kernel=3).eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.bias.data.normal_()
    x = torch.randn(3, 50, 8)
    lengths = torch.tensor([50, 37, 1])
    together, frames = encoder(x, lengths)
    assert frames.tolist() == [13, 10, 1]
    for row, length, n in zip(x, lengths.tolist(), frames.tolist(), strict=True):
        alone, _ = encoder(row[None, :length], torch.tensor([length]))
        i = lengths.tolist().index(length)
        torch.testing.assert_close(together[i, :n], alone[0])
    torch.testing.assert_close(together.exp().sum(-1), torch.ones(3, 13))


@pytest.mark.parametrize("wrong", [{"kernel": 4}, {"width": 0}, {"blocks": 0}])
def test_an_encoder_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Encoder(8, 5, **wrong)


def test_the_average_of_checkpoints_is_the_mean_of_weights_and_the_last_count(tmp_path: Path):
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.ckpt")
        model = {"w": torch.full((2,), float(i * i)), "n": torch.tensor(10 * i), "h": torch.tensor([i]).half()}
        records.save({"model": model, "epoch": i}, paths[-1])
    found = average_checkpoints(paths)
    assert found["epoch"] == 2
    assert found["model"]["w"].tolist() == pytest.approx([5 / 3] * 2)
    assert (found["model"]["n"].item(), found["model"]["h"].dtype) == (20, torch.float16)
    records.save({"model": {"w": torch.zeros(3)}}, paths[1])
    with pytest.raises(UserError, match=r"1.ckpt: is of another model than .*0.ckpt"):
        average_checkpoints(paths)
    with pytest.raises(UserError, match="no checkpoints"):
        average_checkpoints([])


def test_the_share_of_a_mixed_row_does_not_count_what_spec_augment_has_masked():
    x, lengths = torch.randn(4, 40, 8), torch.tensor([40, 30, 35, 40])
    masked = SpecAugment(freq_masks=2, freq_mask=6, time_masks=2, time_mask=20)(x, lengths, 0.0, generator())
    mixer = rma.build("mixup", layout="BTF", per="row")
    plans = [mixer.plan(features, lengths=lengths, generator=generator(3)) for features in (x, masked)]
    assert torch.equal(plans[0].share, plans[1].share)
