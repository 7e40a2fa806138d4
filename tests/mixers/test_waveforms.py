"""Waveform plans: (B, N) with lengths in samples, and the labels and features that go with them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import randommix_audio as rma

METHODS = ["mixup", "cutmix", "time_cutmix", "freq_cutmix", "resizemix", "fmix", "cutout", "saliencymix", "puzzlemix"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def labels_by_hand(plan, target, hop, time):
    """What each label is: its samples one by one, each of a source's label where that sample comes from."""
    size = plan.size
    weights = plan.geometry.label_weights(size).expand(-1, plan.batch, -1, time)
    frames = plan.geometry.label_frames(size)
    mixed = torch.zeros(plan.batch, target.shape[1], -(-time // hop))
    for row in range(plan.batch):
        for label in range(mixed.shape[2]):
            covered = range(label * hop, min((label + 1) * hop, time))
            for sample in covered:
                for k in range(weights.shape[0]):
                    for band in range(weights.shape[2]):
                        at = sample if frames is None else int(frames[k].expand(plan.batch, -1, -1)[row, band, sample])
                        part = weights[k, row, band, sample] / len(covered)
                        mixed[row, :, label] += part * target[plan.sources[k, row], :, at // hop]
    return mixed


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(METHODS),
    st.sampled_from(["batch", "row"]),
    st.integers(1, 4),
    st.integers(2, 60),
    st.integers(1, 25),
    st.booleans(),
    st.integers(0, 10**6),
)
def test_labels_are_the_mean_of_their_samples_whatever_the_hop_and_the_last_label(
    name, per, batch, time, hop, ragged, seed
):
    generator = seeded(seed)
    wave = torch.randn(batch, time, generator=generator)
    lengths = torch.randint(0, time + 1, (batch,), generator=generator) if ragged else None
    plan = rma.build(name, per=per).plan(wave, lengths, generator=generator)
    target = torch.rand(batch, 3, -(-time // hop), generator=generator)
    expected = labels_by_hand(plan, target, hop, time)
    torch.testing.assert_close(plan.mix_frames(target, hop=hop), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mixup", "time_cutmix", "fmix"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([100, 61, 7, 93])])
def test_samples_are_added_by_the_weights_that_the_labels_follow(name, lengths):
    wave = torch.randn(4, 100)
    mixed, plan = rma.build(name, per="row", domain="waveform")(wave, lengths=lengths, generator=seeded(2))
    own, partner = plan.mix_frames(wave, hop=1), plan.sources[1]
    torch.testing.assert_close(own, mixed)  # labels of every sample, whose class is the sample itself
    weights = plan.weights.expand(2, 4, 1, 1, 100)[:, :, 0, 0]
    for row in range(4):
        for sample in range(100):
            by_hand = weights[0, row, sample] * wave[row, sample] + weights[1, row, sample] * wave[partner[row], sample]
            assert float(mixed[row, sample]) == pytest.approx(float(by_hand), abs=1e-5)


def test_a_resized_partner_is_played_faster_and_its_labels_with_it():
    time, hop = 1000, 160
    ramp = torch.arange(time).float().expand(4, -1) + 10_000 * torch.arange(4)[:, None]
    mixed, plan = rma.ResizeMix(per="row", pairing="roll")(ramp, generator=seeded())
    inside = plan.weights[1].expand(4, 1, 1, time)[:, 0, 0] == 1
    for row, partner in enumerate(plan.sources[1].tolist()):
        played = mixed[row, inside[row]] - 10_000 * partner
        assert (played.diff() > 1).all()
        ids = torch.arange(4)[:, None].expand(4, 7)
        labels = plan.mix_frames(ids, hop=hop, num_classes=4)[row]
        assert float(labels[partner, -1]) == pytest.approx(float(inside[row, 960:].float().mean()), abs=1e-6)


def test_lengths_in_samples_lead_to_the_front_end():
    logmel = rma.LogMel()
    wave, samples = torch.randn(4, 8000), torch.tensor([8000, 3000, 6400, 5000])
    mixed, plan = rma.Mixup(domain="waveform", per="row", pairing="roll")(wave, lengths=samples, generator=seeded())
    assert plan.lengths.tolist() == [max(int(samples[s]) for s in pair) for pair in plan.sources.T]
    x, frames = logmel(mixed, plan.lengths)
    assert torch.equal(frames, logmel.frames(plan.lengths))
    alone = logmel(mixed[2:3, : int(plan.lengths[2])])[0]
    torch.testing.assert_close(x[2, :, : alone.shape[1]], alone, atol=1e-3, rtol=1e-4)


def test_power_and_waveform_mixes_differ_less_than_a_mix_of_logarithms():
    logmel = rma.LogMel()
    wave = torch.randn(6, 16000, generator=seeded()) * 10.0 ** -torch.arange(6)[:, None]
    x = logmel(wave)
    options = [{}, {"domain": "power", "front_end": logmel}]
    of_log, of_power = (rma.Mixup(pairing="roll", **o)(x, generator=seeded())[0] for o in options)
    of_wave, plan = rma.Mixup(pairing="roll", domain="waveform")(wave, generator=seeded())
    # amplitudes of sqrt(lam) give powers of lam
    gains = plan.weights[:, :, 0, 0].sqrt()
    wanted = logmel((gains * wave[plan.sources]).sum(0))
    power_error, log_error = ((mixed - wanted).abs().mean() for mixed in (of_power, of_log))
    assert power_error < 0.4 * log_error  # what is left is the interference of two waves
    assert of_wave.shape == wave.shape
