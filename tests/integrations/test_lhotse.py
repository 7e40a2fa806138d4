"""Lhotse: batches of K2SpeechRecognitionDataset are mixed with their frame counts, as icefall trains on them."""

import pickle

import pytest
import torch
from lhotse import CutSet, Fbank, MonoCut, SupervisionSegment
from lhotse.audio import Recording
from lhotse.dataset import K2SpeechRecognitionDataset, OnTheFlyFeatures, SimpleCutSampler
from lhotse.dataset.input_strategies import AudioSamples
from lhotse.utils import LOG_EPSILON
from torch.nn import functional as F
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio import draws
from randommix_audio.integrations.lhotse import mix_k2_batch, pad_tokens
from tests.devices import pretended_cuda
from tests.integrations import an4


def batch_of(frames, **supervisions):
    rows = len(frames)
    inputs = torch.randn(rows, max(frames), 8)
    for row, valid in enumerate(frames):
        inputs[row, valid:] = LOG_EPSILON
    usual = {
        "text": [str(row) for row in range(rows)],
        "sequence_idx": torch.arange(rows, dtype=torch.int32),
        "start_frame": torch.zeros(rows, dtype=torch.int32),
        "num_frames": torch.tensor(frames, dtype=torch.int32),
    }
    return {"inputs": inputs, "supervisions": usual | supervisions}


def mixer_of(**arguments):
    return rma.Mixup(layout="BTF", fill=LOG_EPSILON, **arguments)


def test_a_mixed_batch_is_a_batch_of_the_same_kind_with_a_plan():
    batch = batch_of([30, 21, 20, 9])
    before = pickle.dumps(batch)
    mixed = mix_k2_batch(batch, mixer_of(pairing="roll"), torch.Generator().manual_seed(0))
    assert pickle.dumps(batch) == before
    assert mixed.keys() == {"inputs", "supervisions", "mix"}
    frames = mixed["supervisions"]["num_frames"]
    assert frames.dtype == torch.int32
    own = torch.tensor([30, 21, 20, 9])
    assert torch.equal(frames.long(), torch.maximum(own, own[mixed["mix"].sources[1]]))
    assert mixed["supervisions"]["text"] == ["0", "1", "2", "3"]
    for row, valid in enumerate(frames.tolist()):
        assert (mixed["inputs"][row, :valid] > LOG_EPSILON).all()


def test_nothing_waits_for_the_device(monkeypatch):
    monkeypatch.setattr(draws, "host_uniforms", lambda generator, count: [0.5] * count)
    with pretended_cuda():
        batch = batch_of([30, 21, 20, 9])
        batch["inputs"] = torch.randn(4, 30, 8, device="cuda")
        mixed = mix_k2_batch(batch, mixer_of(per="row", p=0.5))
        target = pad_tokens([[1, 2, 3], [4], [2, 2], [1]], "cuda")
        there = [mixed["supervisions"][name] for name in ("sequence_idx", "start_frame", "num_frames")]
        assert {tensor.device.type for tensor in (*target, *there)} == {"cuda"}


def test_neighbours_of_a_sorted_batch_have_nearly_its_lengths():
    batch = batch_of([40, 39, 38, 22, 21, 20])
    mixed = mix_k2_batch(batch, mixer_of(pairing="neighbour"))
    longer = mixed["supervisions"]["num_frames"] - batch["supervisions"]["num_frames"]
    assert longer.sum() <= 20  # a step between neighbours at most


def test_a_shortened_mix_is_padded_with_what_lhotse_pads_with():
    mixed = mix_k2_batch(batch_of([30, 12]), mixer_of(length_policy="shortest", pairing="roll"))
    assert mixed["supervisions"]["num_frames"].tolist() == [12, 12]
    assert (mixed["inputs"][:, 12:] == LOG_EPSILON).all()


def test_a_plan_that_mixes_nothing_gives_the_loss_that_icefall_takes():
    batch = mix_k2_batch(batch_of([30, 21, 20]), rma.NoMix(layout="BTF"))
    tokens = [[1, 2, 3], [4], [2, 2]]
    log_probs, frames = torch.randn(3, 30, 6).log_softmax(-1), batch["supervisions"]["num_frames"]
    loss = batch["mix"].ctc_loss(log_probs, *pad_tokens(tokens), frames, reduction="sum")
    flat = torch.tensor([token for row in tokens for token in row])
    expected = F.ctc_loss(log_probs.transpose(0, 1), flat, frames, torch.tensor([3, 1, 2]), reduction="sum")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    "supervisions",
    [
        {"sequence_idx": torch.tensor([0, 0])},
        {"sequence_idx": torch.tensor([0, 1, 1])},
        {"sequence_idx": torch.tensor([1, 0])},
        {"start_frame": torch.tensor([0, 4])},
    ],
)
def test_cuts_without_exactly_one_whole_supervision_are_refused(supervisions):
    with pytest.raises(ValueError, match="one supervision"):
        mix_k2_batch(batch_of([20, 10], **supervisions), mixer_of())


def test_a_mixer_that_would_read_frequency_as_time_is_refused():
    with pytest.raises(ValueError, match="layout='BTF'"):
        mix_k2_batch(batch_of([20, 10]), rma.Mixup())


def cuts_of(real_data, count):
    cuts = []
    for number, (path, wave, text) in enumerate(an4.utterances(real_data, count)):
        recording = Recording.from_file(path, recording_id=str(number))
        seconds = len(wave) / an4.SAMPLE_RATE
        segment = SupervisionSegment(str(number), str(number), start=0, duration=seconds, text=text)
        cuts.append(
            MonoCut(str(number), start=0, duration=seconds, channel=0, supervisions=[segment], recording=recording)
        )
    return CutSet.from_cuts(cuts)


def test_audio_batches_are_mixed_by_samples(real_data):
    dataset = K2SpeechRecognitionDataset(input_strategy=AudioSamples())
    batch = dataset[cuts_of(real_data, 4)]
    mixed = mix_k2_batch(batch, rma.TimeConcat(pairing="roll"))
    samples = batch["supervisions"]["num_samples"]
    assert torch.equal(mixed["supervisions"]["num_samples"].long(), (samples + samples[mixed["mix"].sources[1]]).long())
    assert mixed["inputs"].shape[1] >= mixed["supervisions"]["num_samples"].max()


def test_batches_sorted_by_length_train_a_recogniser_on_an4(real_data):
    torch.manual_seed(0)
    dataset = K2SpeechRecognitionDataset(input_strategy=OnTheFlyFeatures(Fbank()))
    loader = DataLoader(dataset, sampler=SimpleCutSampler(cuts_of(real_data, 40), max_cuts=8), batch_size=None)
    mixer = rma.RandomMix(
        ["mixup", "freq_cutmix"], layout="BTF", per="row", p=0.5, pairing="neighbour", fill=LOG_EPSILON
    )
    encoder = torch.nn.Sequential(
        torch.nn.BatchNorm1d(80),
        torch.nn.Conv1d(80, 64, 5, 4, 2),
        torch.nn.ReLU(),
        torch.nn.Conv1d(64, an4.SYMBOLS, 5, 1, 2),
    )
    optimizer = torch.optim.Adam(encoder.parameters(), 3e-3)
    losses = []
    while len(losses) < 20:
        for batch in loader:
            lengths = batch["supervisions"]["num_frames"]
            assert torch.equal(lengths, lengths.sort(descending=True).values)
            batch = mix_k2_batch(batch, mixer)
            log_probs = encoder(batch["inputs"].transpose(1, 2)).transpose(1, 2).log_softmax(-1)
            target = pad_tokens([an4.tokens(text) for text in batch["supervisions"]["text"]])
            frames = (batch["supervisions"]["num_frames"] + 3) // 4
            loss = batch["mix"].ctc_loss(log_probs, *target, frames)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert an4.fell(losses), losses
