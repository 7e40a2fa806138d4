"""Equal loudness: waveforms are added so that the share is the ratio that is heard."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import randommix_audio as rma
from randommix_audio import draws
from randommix_audio.compiled import CompiledApply
from randommix_audio.data.reading import read
from randommix_audio.mixers.loudness import Hearing, equal_loudness, loudest_power
from tests.devices import pretended_cuda


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equal_mixup(**options):
    return rma.Mixup(**{"domain": "waveform", "loudness": "equal", "per": "row", "pairing": "roll", **options})


def waves(count=5, time=9000, loudest=0.5):
    levels = loudest * 10.0 ** -torch.arange(count).float().div(2)
    return torch.randn(count, time, generator=seeded()) * levels[:, None]


def level_by_hand(wave, rate, size):
    """G of the paper, in decibels, one window after the other."""
    f = np.linspace(0, rate / 2, size // 2 + 1)[1:]
    poles = (f**2 + 20.6**2) * np.sqrt((f**2 + 107.7**2) * (f**2 + 737.9**2)) * (f**2 + 12194.0**2)
    weight = np.maximum(20 * np.log10(12194.0**2 * f**4 / poles) + 2.0, -80.0)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    levels = []
    for first in range(0, len(wave) - size + 1, size // 2):
        spectrum = np.abs(np.fft.rfft(window * wave[first : first + size]))[1:] ** 2
        levels.append(10 * np.log10(np.sum(spectrum * 10 ** (weight / 10))))
    return max(-80.0, *levels)


def mixed_by_hand(own, partner, share, rate, size):
    difference = level_by_hand(own, rate, size) - level_by_hand(partner, rate, size)
    part = 1 / (1 + 10 ** (difference / 20) * (1 - share) / share)
    return (part * own + (1 - part) * partner) / math.sqrt(part**2 + (1 - part) ** 2)


@pytest.mark.parametrize(("rate", "size"), [(16000, 2048), (44100, 4096), (8000, 1024)])
def test_the_mix_is_that_of_the_formula_of_between_class_learning(rate, size):
    wave = waves(time=6 * size)
    mixed, plan = equal_mixup(sample_rate=rate)(wave, generator=seeded())
    for row, partner in enumerate(plan.sources[1]):
        own, other = wave[row].double().numpy(), wave[partner].double().numpy()
        expected = mixed_by_hand(own, other, float(plan.lam[row]), rate, size)
        torch.testing.assert_close(mixed[row].double(), torch.from_numpy(expected), atol=2e-6, rtol=1e-4)


def test_of_recorded_words_the_formula_holds(real_data):
    files = [sorted((real_data / "speech_commands" / word).iterdir())[0] for word in ("yes", "no", "left", "stop")]
    clips = [read(file, sample_rate=16000, duration=1.0)[0] for file in files]
    wave = torch.stack([torch.from_numpy(np.pad(clip, (0, 16384 - len(clip)))) for clip in clips])
    mixed, plan = equal_mixup()(wave, generator=seeded())
    for row, partner in enumerate(plan.sources[1]):
        own, other = wave[row].double().numpy(), wave[partner].double().numpy()
        expected = mixed_by_hand(own, other, float(plan.lam[row]), 16000, 2048)
        torch.testing.assert_close(mixed[row].double(), torch.from_numpy(expected), atol=2e-6, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(-80, 80), st.floats(-80, 80))
def test_the_ratio_that_is_heard_is_the_share_whatever_the_levels(share, own_level, partner_level):
    powers = [torch.tensor([10.0 ** (level / 10)]) for level in (own_level, partner_level)]
    ((own, partner),) = equal_loudness(torch.tensor([share]), *powers).tolist()
    assert own**2 + partner**2 == pytest.approx(1, abs=1e-5)
    heard = own * 10 ** (own_level / 20), partner * 10 ** (partner_level / 20)
    assert heard[0] * (1 - share) == pytest.approx(heard[1] * share, rel=1e-4, abs=1e-4 * max(heard) + 1e-30)


def test_a_plan_keeps_the_loudness_of_alike_sources_on_average():
    wave = torch.randn(16, 16000, generator=seeded()) * 0.1
    mixed, plan = equal_mixup()(wave, generator=seeded())
    torch.testing.assert_close(mixed.square().mean(1).sqrt(), torch.full((16,), 0.1), rtol=0.05, atol=0)
    assert (plan.weights.sum(0) >= 1 - 1e-6).all()
    assert plan.weights.sum(0).max() > 1.3
    assert plan.lam.min() < 0.3
    assert plan.lam.max() > 0.7


def test_the_loudest_moment_of_the_valid_samples_counts():
    hearing = Hearing(16000)
    weighting = torch.tensor(hearing.weighting)
    assert len(hearing.weighting) == 1025
    quiet = torch.randn(1, 16000, generator=seeded()) * 0.01
    burst = quiet.clone()
    burst[0, 12000:14000] *= 100
    whole, early = (loudest_power(burst, torch.tensor([end]), weighting) for end in (16000, 10000))
    assert float(whole / loudest_power(quiet, None, weighting)) > 1000
    torch.testing.assert_close(early, loudest_power(quiet[:, :10000], None, weighting))
    nothing = loudest_power(torch.full((2, 300), float("nan")), torch.tensor([0, 0]), weighting)
    assert nothing.tolist() == pytest.approx([1e-8, 1e-8])


def test_low_tones_count_less_than_what_the_ear_hears_best():
    time = torch.arange(16000) / 16000
    tones = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (50.0, 3000.0)])
    low, high = loudest_power(tones, None, torch.tensor(Hearing(16000).weighting)).log10().mul(10).tolist()
    assert high - low == pytest.approx(31.5, abs=1)  # -30.2 dB and +1.2 dB of the A-weighting


def test_clips_shorter_than_a_window_work():
    mixed, plan = equal_mixup()(torch.randn(4, 100), lengths=torch.tensor([100, 3, 0, 50]))
    assert mixed.isfinite().all()
    assert plan.share.sum(0).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("policy", ["longest", "shortest", "anchor"])
def test_beyond_the_overlap_each_stands_alone_at_its_own_level(policy):
    wave, lengths = waves(4, 3000), torch.tensor([3000, 1000, 2500, 0])
    mixer = equal_mixup(length_policy=policy, fill=-9.0)
    mixed, plan = mixer(wave, lengths=lengths, generator=seeded())
    for row, partner in enumerate(plan.sources[1].tolist()):
        own, other = int(lengths[row]), int(lengths[partner])
        both = min(own, other) if policy != "anchor" or other <= own else 0
        gains = plan.geometry.gain[row]
        expected = wave[row].clone()
        expected[:both] = gains[0] * wave[row, :both] + gains[1] * wave[partner, :both]
        if policy == "longest":
            expected[own:other] = wave[partner, own:other]
        if policy == "shortest":
            expected[both:own] = -9.0
        torch.testing.assert_close(mixed[row], expected)
        out = max(own, other) if policy == "longest" else both if policy == "shortest" else own
        assert plan.lengths[row] == out
        lam = float(plan.geometry.own[row])
        taken = (1 - lam) * both + max(out - own, 0)
        assert float(plan.share[1, row]) == pytest.approx(taken / max(out, 1), abs=1e-5)


def test_rows_that_are_not_mixed_or_are_their_own_partner_are_left_alone():
    wave = waves(9, 4000)
    rows = torch.arange(9) % 3 != 0
    mixed, plan = equal_mixup(pairing="permutation")(wave, rows=rows, generator=seeded(5))
    alone = plan.sources[1] == torch.arange(9)
    assert alone.sum() > (~rows).sum(), "one of the permitted rows meets itself with this seed"
    assert torch.equal(mixed[alone], wave[alone])
    assert (plan.lam[alone] == 1).all()
    assert not torch.equal(mixed[~alone], wave[~alone])
    half, plan = equal_mixup(p=0.5)(wave[:8], generator=seeded())
    assert int((half == wave[:8]).all(1).sum()) == 4


def test_frame_labels_follow_what_is_heard_and_not_the_amplitudes():
    wave = waves(4, 3000)
    plan = equal_mixup().plan(wave, generator=seeded())
    labels = plan.mix_frames(torch.arange(4)[:, None].expand(4, 19), hop=160, num_classes=4)
    expected = torch.zeros(4, 4)
    expected[torch.arange(4), torch.arange(4)] = plan.lam
    expected[torch.arange(4), plan.sources[1]] = 1 - plan.lam
    torch.testing.assert_close(labels, expected[:, :, None].expand(-1, -1, 19))


@pytest.mark.parametrize("lengths", [None, torch.tensor([3000, 1000, 2500, 0])])
def test_a_stored_plan_needs_no_levels_and_every_way_to_apply_it_agrees(lengths):
    wave = waves(4, 3000)
    plan = equal_mixup(per="batch").plan(wave, lengths, generator=seeded())
    memory = io.BytesIO()
    torch.save(plan.state_dict(), memory)
    memory.seek(0)
    again = rma.MixPlan.from_state_dict(torch.load(memory, weights_only=True))
    expected = plan.apply(wave)
    assert torch.equal(again.apply(wave), expected)
    assert torch.equal(again.to("cpu").weights, plan.weights)
    torch.testing.assert_close(plan.apply(wave.clone().requires_grad_()).detach(), expected, rtol=0, atol=0)
    torch.testing.assert_close(CompiledApply(backend="eager")(plan, wave), expected)
    there = wave.clone()
    assert torch.equal(plan.apply(there, out=there), expected)
    scaled = plan.apply(wave * 3)  # the gains are of the batch that the plan was drawn for
    torch.testing.assert_close(scaled, expected * 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(dtype):
    mixed, plan = equal_mixup()(waves(4, 3000).to(dtype), generator=seeded())
    assert mixed.dtype == dtype
    assert plan.share.dtype == torch.float32


def test_the_derivative_is_that_of_finite_differences():
    wave = torch.randn(3, 40, dtype=torch.float64, requires_grad=True)
    plan = equal_mixup().plan(wave, lengths=torch.tensor([40, 13, 25]))
    assert torch.autograd.gradcheck(plan.apply, (wave,))


def test_nothing_waits_for_the_device(monkeypatch):
    monkeypatch.setattr(draws, "host_uniforms", lambda generator, count: [(k % 7) / 7 for k in range(count)])
    mixers = [equal_mixup(p=0.7), rma.RandomMix([equal_mixup(), "time_cutmix"], per="row", pairing="roll")]
    with pretended_cuda():
        for lengths in (None, torch.randint(0, 5001, (9,), device="cuda")):
            for mixer in mixers:
                mixer.plan(torch.randn(9, 5000, device="cuda"), lengths=lengths).apply(
                    torch.randn(9, 5000, device="cuda")
                )


@pytest.mark.parametrize("lengths", [None, torch.tensor([3000, 1000, 2500, 0, 2999, 7])])
def test_as_a_candidate_it_mixes_its_rows_alone(lengths):
    wave = waves(6, 3000)
    mixer = rma.RandomMix([equal_mixup(), "time_cutmix"], per="row", pairing="roll")
    mixed, plan = mixer(wave, lengths=lengths, generator=seeded(1))
    assert set(plan.method) == {"mixup", "time_cutmix"}
    weights = plan.weights.expand(2, 6, 1, 1, 3000)[:, :, 0, 0]
    torch.testing.assert_close(mixed, (weights * wave[plan.sources]).sum(0))


def test_what_cannot_be_is_named():
    for domain in (None, "logmel"):
        with pytest.raises(ValueError, match='loudness="equal" is for waveforms: set domain="waveform"'):
            rma.Mixup(loudness="equal", domain=domain)
    with pytest.raises(ValueError, match="loudness must be one of equal; got 'rms'"):
        equal_mixup(loudness="rms")
    with pytest.raises(ValueError, match="sample_rate must be above 0, got 0"):
        equal_mixup(sample_rate=0)
    assert "loudness='equal', sample_rate=8000" in repr(equal_mixup(sample_rate=8000))
