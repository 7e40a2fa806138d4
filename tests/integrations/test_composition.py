"""Mixing beside torch-audiomentations and audiomentations."""

import audiomentations
import numpy as np
import pytest
import torch
import torch_audiomentations
from torch.utils.data import DataLoader

import randommix_audio as rma
from randommix_audio.integrations.collate import MixCollate
from randommix_audio.integrations.torch_audiomentations import MixWaveforms

RATE = 16000


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def composed(mixer, **arguments):
    invert = torch_audiomentations.PolarityInversion(p=1.0, output_type="dict")
    return torch_audiomentations.Compose([invert, MixWaveforms(mixer, **arguments)], output_type="dict")


def test_it_is_one_of_the_transforms_of_a_compose():
    wave = torch.randn(5, 1, 400)
    augment = composed(rma.Mixup(per="row"))
    mixed = augment(wave, sample_rate=RATE).samples
    plan = augment.transforms[1].take_plan()
    torch.testing.assert_close(
        mixed[:, 0], plan.lam[:, None] * -wave[:, 0] + (1 - plan.lam[:, None]) * -plan.pair(wave)[:, 0]
    )
    assert augment.transforms[1].take_plan() is None


def test_two_channels_are_mixed_alike():
    mixer = MixWaveforms(rma.TimeCutMix(pairing="roll"))
    wave = torch.arange(3.0)[:, None, None].expand(3, 2, 400).clone()
    mixed = mixer(wave).samples
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    assert 0 < (mixed[0, 0] != 0).sum() < 400


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("options", [{"domain": "waveform"}, {"layout": "BT"}])
def test_mixers_that_are_made_for_waveforms_are_taken(options, channels):
    wave = torch.randn(5, channels, 400)
    mixer = MixWaveforms(rma.Mixup(per="row", **options))
    mixed, plan = mixer(wave).samples, mixer.take_plan()
    lam = plan.lam[:, None, None]
    torch.testing.assert_close(mixed, lam * wave + (1 - lam) * plan.pair(wave))


def test_waveforms_are_mixed_by_how_loud_they_are_heard():
    wave = torch.randn(5, 1, 4000) * torch.tensor([1.0, 0.01, 0.5, 0.02, 0.1])[:, None, None]
    mixer = MixWaveforms(rma.Mixup(domain="waveform", loudness="equal", pairing="roll"))
    mixed, plan = mixer(wave).samples, mixer.take_plan()
    torch.testing.assert_close(mixed[:, 0], plan.apply(wave[:, 0]))
    quiet, loud = plan.weights[:, 1].flatten()
    assert quiet > 5 * loud * plan.lam[1]


@pytest.mark.parametrize("options", [{"domain": "logmel"}, {"domain": "power", "front_end": "kaldi"}])
def test_mixers_that_are_made_for_features_are_refused(options):
    with pytest.raises(ValueError, match=r"mixes features with an axis of frequency, got a batch of layout BT"):
        MixWaveforms(rma.Mixup(**options))(torch.randn(5, 1, 400))


def test_frame_targets_follow_the_mix():
    wave = torch.randn(4, 1, 400)
    targets = (torch.rand(4, 1, 10, 3) > 0.5).float()
    augment = composed(rma.TimeCutMix(pairing="roll"))
    out = augment(wave, sample_rate=RATE, targets=targets, target_rate=400)
    plan = augment.transforms[1].take_plan()
    expected = plan.mix_frames(targets[:, 0].transpose(1, 2), hop=40).transpose(1, 2)
    torch.testing.assert_close(out.targets[:, 0], expected)
    assert not torch.equal(out.targets, targets)


def test_targets_of_whole_clips_are_weighted_by_the_shares():
    targets = torch.eye(4)[:, None, None]  # (B, C, 1, classes)
    mixer = MixWaveforms(rma.Mixup())
    out = mixer(torch.randn(4, 1, 400), targets=targets)
    torch.testing.assert_close(out.targets[:, 0, 0], mixer.take_plan().mix_targets(torch.eye(4)))


def test_frozen_parameters_replay_the_plan():
    wave = torch.randn(5, 1, 400)
    augment = composed(rma.RandomMix(["mixup", "fmix"], per="row"))
    first = augment(wave, sample_rate=RATE).samples
    augment.freeze_parameters()
    assert torch.equal(augment(wave, sample_rate=RATE).samples, first)
    augment.unfreeze_parameters()
    assert not torch.equal(augment(wave, sample_rate=RATE).samples, first)


def test_a_batch_that_is_not_mixed_has_no_plan():
    wave = torch.randn(5, 1, 400)
    mixer = MixWaveforms(rma.Mixup(), p=0.0)
    assert torch.equal(mixer(wave).samples, wave)
    assert mixer.take_plan() is None
    mixer = MixWaveforms(rma.Mixup()).eval()
    assert mixer(wave).samples is wave
    assert mixer.take_plan() is None


def test_audiomentations_changes_each_clip_before_the_batch_is_mixed():
    double = audiomentations.Gain(min_gain_db=6.0206, max_gain_db=6.0206, p=1.0)
    clips = [(np.full(400, value, dtype=np.float32), 0) for value in (0.1, 0.2, 0.3, 0.4)]

    def collate(rows):
        wave = torch.stack([torch.from_numpy(double(samples=wave, sample_rate=RATE)) for wave, _ in rows])
        return wave, torch.tensor([word for _, word in rows])

    ((mixed, _, plan),) = DataLoader(clips, batch_size=4, num_workers=1, collate_fn=MixCollate(rma.Mixup(), collate))
    doubled = torch.tensor([0.2, 0.4, 0.6, 0.8])
    expected = plan.share[0] * doubled + plan.share[1] * plan.pair(doubled)
    torch.testing.assert_close(mixed[:, 0], expected, rtol=1e-4, atol=1e-4)
