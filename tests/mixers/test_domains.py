"""The power domain: log features are mixed as the powers that they stand for."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import randommix_audio as rma
from randommix_audio import draws
from randommix_audio.compiled import CompiledApply
from randommix_audio.data.reading import read
from randommix_audio.features.presets import PRESETS
from tests.devices import pretended_cuda
from tests.mixers.strategies import batches, mixers

WITH_POWER = [name for name in PRESETS if name not in ("nemo", "randommix")]
MASKS = ["cutmix", "time_cutmix", "freq_cutmix", "resizemix", "fmix", "cutout", "saliencymix"]
INPUT_METHODS = [name for name in rma.MIXERS if name not in ("none", "manifoldmix", "patchup")]
NATURAL = 4.342944819
many = settings(max_examples=60, deadline=None)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def power_mixup(**options):
    return rma.Mixup(**{"domain": "power", "front_end": "kaldi", "per": "row", **options})


def mixed_by_powers(logmel, plan, x):
    power = logmel.to_power(x)
    return logmel.from_power(sum(w[:, 0] * power[s] for w, s in zip(plan.weights, plan.sources, strict=True)))


@pytest.mark.parametrize("name", WITH_POWER)
@pytest.mark.parametrize("lengths", [False, True])
def test_mixing_in_the_power_domain_is_the_front_end_of_the_mixed_powers(name, lengths):
    logmel = rma.LogMel.preset(name)
    wave = torch.randn(5, 8000, generator=seeded()) * torch.tensor([1, 0.3, 0.1, 1e-3, 0])[:, None]
    x, frames = logmel(wave, torch.tensor([8000, 4000, 6500, 3001, 7000]))
    mixed, plan = power_mixup(front_end=name)(x, lengths=frames if lengths else None, generator=seeded(1))
    torch.testing.assert_close(mixed, mixed_by_powers(logmel, plan, x), atol=1e-4, rtol=0)
    assert not torch.allclose(mixed, rma.Mixup(per="row")(x, generator=seeded(1))[0], atol=0.01)


def test_a_floor_that_is_added_stays_the_floor():
    logmel = rma.LogMel(n_mels=20, floor=0.01, floor_mode="add", log="log10", mean=1.0, std=3.0)
    x = logmel(torch.randn(4, 4000, generator=seeded()) * 0.1)
    mixed, plan = power_mixup(front_end=logmel)(x, generator=seeded())
    torch.testing.assert_close(mixed, mixed_by_powers(logmel, plan, x), atol=1e-4, rtol=0)


def test_of_recorded_words_powers_are_added(real_data):
    logmel = rma.LogMel.preset("kaldi")
    files = [sorted((real_data / "speech_commands" / word).iterdir())[0] for word in ("yes", "no", "left", "stop")]
    waves = [torch.from_numpy(read(file, sample_rate=16000)[0]) for file in files]
    lengths = torch.tensor([len(wave) for wave in waves])
    x, frames = logmel(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths)
    mixed, plan = power_mixup(pairing="roll")(x, lengths=frames, generator=seeded())
    torch.testing.assert_close(mixed, mixed_by_powers(logmel, plan, x), atol=1e-4, rtol=0)


def test_padding_stays_at_the_floor_of_the_front_end():
    logmel = rma.LogMel.preset("whisper")
    x, frames = logmel(torch.randn(4, 8000), torch.tensor([8000, 4000, 3000, 5000]))
    for policy in ("longest", "shortest", "anchor"):
        mixer = power_mixup(front_end="whisper", length_policy=policy, fill=logmel.pad_value)
        mixed, plan = mixer(x, lengths=frames)
        beyond = torch.arange(x.shape[2]) >= plan.lengths[:, None]
        assert (mixed.movedim(1, 2)[beyond] == logmel.pad_value).all()


@many
@given(mixers(INPUT_METHODS, domain="power", front_end=NATURAL, fill=-2.0), batches(), st.booleans())
def test_every_method_adds_powers_by_its_weights(mixer, drawn, tracked):
    x, lengths, generator = drawn
    plan = mixer.plan(x, lengths, generator=generator)
    warped = [plan.geometry.warp(x[source], k) for k, source in enumerate(plan.sources)]
    left = (1 - plan.weights.sum(0)).clamp(min=0).where(plan.weights.sum(0) < 0.5, 0)
    power = sum(w * source.double().exp() for w, source in zip(plan.weights, warped, strict=True)) + left * (
        torch.tensor(-2.0).exp()
    )
    mixed = plan.apply(x.clone().requires_grad_(tracked)).detach()
    torch.testing.assert_close(mixed, power.log().float(), atol=2e-5, rtol=1e-5)


@many
@given(mixers(INPUT_METHODS, domain="power", front_end=3.0), batches())
def test_padding_is_never_mixed_in_and_what_stands_alone_is_kept_bit_by_bit(mixer, drawn):
    x, lengths, generator = drawn
    if lengths is None:
        return
    padded = torch.arange(x.shape[3]) >= lengths.view(-1, 1, 1, 1)
    plan = mixer.plan(x, lengths, generator=generator)
    valid = torch.arange(x.shape[3]) < plan.lengths.view(-1, 1, 1, 1)
    clean = plan.apply(x.masked_fill(padded, 0.0)).masked_fill(~valid, 0.0)
    for value in (float("inf"), float("-inf"), float("nan")):
        mixed = plan.apply(x.masked_fill(padded, value))
        assert torch.equal(mixed.masked_fill(~valid, 0.0), clean)
    whole = (plan.weights[0] == 1) & valid
    own = plan.geometry.warp(x, 0)  # Puzzle Mix moves blocks of the row itself, too
    assert torch.equal(plan.apply(x).masked_fill(~whole, 0.0), own.masked_fill(~whole, 0.0))


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("per", ["batch", "row"])
def test_a_mask_is_the_same_in_every_domain(name, per):
    x, lengths = torch.randn(5, 12, 31), torch.tensor([31, 4, 0, 17, 30])
    options = [{}, {"domain": "logmel"}, {"domain": "power", "front_end": "kaldi"}]
    mixed = [rma.build(name, per=per, **o)(x, lengths=lengths, generator=seeded())[0] for o in options]
    assert torch.equal(mixed[0], mixed[1])
    assert torch.equal(mixed[0], mixed[2])


@pytest.mark.parametrize("per", ["batch", "row"])
def test_random_mix_gives_its_domain_to_named_candidates_and_leaves_mixers_their_own(per):
    names = ["mixup", "puzzlemix", "cutmix"]
    mixer = rma.RandomMix(names, domain="power", front_end="espnet", per=per)
    assert [candidate.domain for candidate in mixer.candidates] == ["power"] * 3
    own = rma.RandomMix([power_mixup(front_end="espnet"), "fmix"], weights=[1, 1], per=per, pairing="roll")
    x = torch.randn(8, 9, 20)
    for step in range(4):
        mixed, plan = own(x, generator=seeded(step))
        expected = (plan.weights * x[plan.sources][:, :, None].exp()).sum(0)[:, 0].log()
        linear = (plan.weights * x[plan.sources][:, :, None]).sum(0)[:, 0]
        methods = [plan.method] * 8 if per == "batch" else plan.method
        by_power = torch.tensor([method == "mixup" for method in methods])[:, None, None]
        torch.testing.assert_close(mixed, torch.where(by_power, expected, linear), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mixup", "puzzlemix", "comixup", "randommix"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 3, 5])])
def test_the_derivative_in_the_power_domain_is_that_of_finite_differences(name, lengths):
    x = torch.randn(3, 1, 4, 6, dtype=torch.float64, generator=seeded(), requires_grad=True)
    mixer = rma.build(name, per="row", domain="power", front_end="kaldi")
    plan = mixer.plan(x, lengths=lengths, generator=seeded(3))
    assert torch.autograd.gradcheck(plan.apply, (x,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_kept_and_the_mix_computed_in_float32_at_least(dtype):
    x = (torch.randn(6, 8, 20, generator=seeded()) * 5 - 10).to(dtype)
    plan = power_mixup().plan(x, generator=seeded())
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for mixed in (plan.apply(x), plan.apply(x.clone().requires_grad_()).detach(), plan.apply(x.clone(), out=x.clone())):
        assert mixed.dtype == dtype
        assert torch.equal(mixed, plan.apply(x.to(wide)).to(dtype))


@pytest.mark.parametrize("per", ["batch", "row"])
@pytest.mark.parametrize("lengths", [None, torch.tensor([30, 7, 0, 12, 1, 29])])
def test_every_way_to_apply_gives_the_same_mix(per, lengths):
    x = torch.randn(6, 40, 30).transpose(1, 2)  # (B, F, T) in the memory of (B, T, F)
    plan = power_mixup(per=per, p=1.0 if per == "batch" else 0.5).plan(x, lengths, generator=seeded())
    expected = plan.apply(x)
    out = torch.empty_like(x)
    assert plan.apply(x, out=out) is out
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    torch.testing.assert_close(plan.apply(x.clone().requires_grad_()), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(CompiledApply(backend="eager")(plan, x), expected, rtol=1e-6, atol=1e-6)
    here = x.clone()
    assert plan.apply(here, out=here) is here
    assert torch.equal(here, expected)
    assert not torch.equal(x, expected)


@pytest.mark.parametrize("name", ["mixup", "puzzlemix", "randommix"])
def test_a_stored_plan_mixes_in_its_domain_again(name):
    x = torch.randn(5, 8, 21)
    plan = rma.build(name, per="row", domain="power", front_end="ast").plan(x, lengths=torch.tensor([21, 5, 9, 0, 20]))
    memory = io.BytesIO()
    torch.save(plan.state_dict(), memory)
    memory.seek(0)
    again = rma.MixPlan.from_state_dict(torch.load(memory, weights_only=True))
    assert torch.equal(again.apply(x), plan.apply(x))
    assert torch.equal(plan.to("cpu").apply(x), plan.apply(x))


@pytest.mark.parametrize("name", ["mixup", "puzzlemix", "comixup", "randommix"])
def test_nothing_waits_for_the_device_in_the_power_domain(name, monkeypatch):
    monkeypatch.setattr(draws, "host_uniforms", lambda generator, count: [(k % 7) / 7 for k in range(count)])
    mixer = rma.build(name, per="row", domain="power", front_end="kaldi")
    with pretended_cuda():
        for lengths in (None, torch.randint(0, 51, (9,), device="cuda")):
            x = torch.randn(9, 1, 20, 50, device="cuda")
            assert mixer.plan(x, lengths=lengths).apply(x, out=x) is x
    with FakeTensorMode():
        for lengths in (None, torch.randint(0, 51, (9,))):
            x = torch.randn(9, 1, 20, 50, requires_grad=True)
            mixer.plan(x, lengths=lengths).apply(x).sum().backward()


@pytest.mark.parametrize("per", ["batch", "row"])
def test_plans_of_different_front_ends_are_compiled_together_and_mixed_by_their_own(per):
    mix = CompiledApply(backend="eager")
    for step, front_end in enumerate([1.0, "kaldi", "whisper"]):
        x = torch.randn(5 + step, 10, 30 + step)
        plan = power_mixup(per=per, front_end=front_end).plan(x, generator=seeded(step))
        torch.testing.assert_close(mix(plan, x), plan.apply(x))


def test_features_far_apart_neither_overflow_nor_lose_the_quieter_one():
    x = torch.tensor([[[-1e4, 50.0, -torch.inf]], [[1e4, 50.0, 3.0]]])
    mixed, plan = rma.Mixup(domain="power", front_end="kaldi", pairing="roll")(x, generator=seeded())
    loud = [float(share[i].log()) for i, share in enumerate((plan.share[1], plan.share[0]))]
    for i in range(2):  # the loud row is the partner of the first and the second itself
        assert mixed[i, 0].tolist() == pytest.approx([1e4 + loud[i], 50.0, 3.0 + loud[i]], rel=1e-6)


def test_a_front_end_is_a_preset_a_module_or_decibels():
    logmel = rma.LogMel.preset("whisper")
    found = [rma.Mixup(domain="power", front_end=front_end).front_end for front_end in ("whisper", logmel, 40)]
    assert found == pytest.approx([40.0] * 3)
    assert "domain='power', front_end=40" in repr(rma.Mixup(domain="power", front_end=logmel))
    assert not list(rma.Mixup(domain="power", front_end=logmel).children())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"domain": "power"}, ValueError, "needs front_end: a preset"),
        ({"domain": "power", "front_end": "nemo"}, ValueError, 'front_end "nemo" gives every band .* not known'),
        ({"domain": "power", "front_end": "randommix"}, ValueError, '"randommix" .* own peak.*front_end=80 mixes'),
        ({"domain": "power", "front_end": "fbank"}, ValueError, "front_end must be one of torchaudio"),
        ({"domain": "power", "front_end": 0.0}, ValueError, "decibels above 0"),
        ({"domain": "power", "front_end": True}, ValueError, "decibels above 0"),
        ({"domain": "power", "front_end": {"log": "ln"}}, TypeError, "a LogMel or a number, got dict"),
        ({"domain": "log"}, ValueError, "domain must be one of waveform, power, logmel"),
        ({"front_end": "kaldi"}, ValueError, 'needs domain="power"'),
        ({"domain": "logmel", "front_end": "kaldi"}, ValueError, "needs domain=\"power\", got 'logmel'"),
    ],
)
def test_a_domain_that_cannot_be_is_named(options, error, message):
    with pytest.raises(error, match=message):
        rma.Mixup(**options)
    with pytest.raises(error, match=message):
        rma.RandomMix(**options)


def test_a_normalising_module_is_refused_as_its_preset_is():
    with pytest.raises(ValueError, match="LogMel gives every band"):
        power_mixup(front_end=rma.LogMel.preset("nemo"))


@pytest.mark.parametrize("domain", ["waveform", "logmel", "power"])
def test_a_batch_of_another_kind_is_refused(domain):
    front_end = "kaldi" if domain == "power" else None
    wave, features = torch.randn(3, 400), torch.randn(3, 8, 20)
    right, wrong = (wave, features) if domain == "waveform" else (features, wave)
    mixup = rma.Mixup(domain=domain, front_end=front_end)
    for mixer in (mixup, rma.RandomMix([mixup, "fmix"]), rma.RandomMix(domain=domain, front_end=front_end)):
        mixer(right)
        with pytest.raises(ValueError, match=f'domain="{domain}" mixes'):
            mixer(wrong)


@pytest.mark.parametrize("name", ["manifoldmix", "patchup"])
def test_maps_of_a_model_have_no_domain(name):
    with pytest.raises(ValueError, match=f"{name} mixes maps of a model"):
        rma.build(name, domain="power", front_end="kaldi")
