"""What holds for every mixer, on any batch: checked over random shapes, lengths and seeds."""

import io

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import randommix_audio as rma
from tests.mixers.strategies import batches, mixers

many = settings(max_examples=150, deadline=None)


@many
@given(mixers(), batches())
def test_shares_sum_to_one_and_equal_the_mean_weight_inside_the_valid_frames(mixer, drawn):
    x, lengths, generator = drawn
    plan = mixer.plan(x, lengths, generator=generator)
    batch, _, freq, time = x.shape
    weights = plan.weights.expand(-1, batch, -1, freq, time).mean(2, keepdim=True)
    valid = torch.full((batch,), time) if plan.lengths is None else plan.lengths
    inside = (torch.arange(time) < valid[:, None])[None, :, None, None, :]
    measured = (weights * inside).sum((2, 3, 4)) / (valid * freq).clamp(min=1)
    measured[0] += (measured.sum(0) == 0).float()  # a row without frames, or without any that is not cut out, is itself
    torch.testing.assert_close(plan.share.sum(0), torch.ones(batch))
    torch.testing.assert_close(plan.share, measured / measured.sum(0), atol=1e-5, rtol=0)
    assert (plan.sources[0] == torch.arange(batch)).all()


@many
@given(mixers(fill=-3.0), batches())
def test_the_mix_is_the_weighted_sum_of_the_sources_and_of_the_fill_and_the_input_is_not_modified(mixer, drawn):
    x, lengths, generator = drawn
    before = x.clone()
    plan = mixer.plan(x, lengths, generator=generator)
    mixed = plan.apply(x)
    assert torch.equal(x, before)
    assert mixed.data_ptr() != x.data_ptr()
    weights = plan.weights
    expected = (1 - weights.sum(0)) * mixer.fill
    for k, source in enumerate(plan.sources):
        expected = expected + weights[k] * plan.geometry.warp(x[source], k)
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)


@many
@given(mixers(fill=1.0), batches())
def test_ones_stay_ones_everywhere_where_the_fill_is_one(mixer, drawn):
    x, lengths, generator = drawn
    plan = mixer.plan(x, lengths, generator=generator)
    mixed = plan.apply(torch.ones_like(x))
    torch.testing.assert_close(mixed, torch.ones_like(x))


@many
@given(mixers(), batches())
def test_padding_is_never_mixed_into_valid_frames(mixer, drawn):
    x, lengths, generator = drawn
    if lengths is None:
        return
    padded = torch.arange(x.shape[3]) >= lengths.view(-1, 1, 1, 1)
    plan = mixer.plan(x, lengths, generator=generator)
    mixed = plan.apply(x.masked_fill(padded, float("inf")))
    valid = torch.arange(x.shape[3]) < plan.lengths.view(-1, 1, 1, 1)
    clean = plan.apply(x.masked_fill(padded, 0.0))
    assert torch.equal(mixed.masked_fill(~valid, 0.0), clean.masked_fill(~valid, 0.0))


@many
@given(mixers(), batches())
def test_a_plan_commutes_with_a_permutation_of_channels(mixer, drawn):
    assume(not getattr(mixer, "per_channel", False))  # PatchUp draws patches for each channel
    x, lengths, generator = drawn
    plan = mixer.plan(x, lengths, generator=generator)
    order = torch.randperm(x.shape[1])
    assert torch.equal(plan.apply(x[:, order]), plan.apply(x)[:, order])


@many
@given(mixers(), batches())
def test_a_plan_read_back_from_its_state_mixes_alike(mixer, drawn):
    x, lengths, generator = drawn
    plan = mixer.plan(x, lengths, generator=generator)
    file = io.BytesIO()
    torch.save(plan.state_dict(), file)
    file.seek(0)
    again = rma.MixPlan.from_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again.apply(x), plan.apply(x))
    assert torch.equal(again.share, plan.share)
    assert torch.equal(again.weights, plan.weights)
    assert (again.method, again.layout) == (plan.method, plan.layout)
    assert repr(again) == repr(plan)


@many
@given(mixers(), batches())
def test_the_same_generator_state_gives_the_same_plan(mixer, drawn):
    x, lengths, generator = drawn
    state = generator.get_state()
    first = mixer.plan(x, lengths, generator=generator)
    generator.set_state(state)
    second = mixer.plan(x, lengths, generator=generator)
    assert torch.equal(first.sources, second.sources)
    assert torch.equal(first.weights, second.weights)


@many
@given(mixers(), batches())
def test_gradients_reach_the_sources_in_proportion_to_their_weights(mixer, drawn):
    x, lengths, generator = drawn
    x.requires_grad_()
    plan = mixer.plan(x, lengths, generator=generator)
    mixed = plan.apply(x)
    mixed.sum().backward()
    assert x.grad is not None
    if plan.geometry.label_frames(plan.size) is None:  # nothing is moved
        weights = plan.weights.expand(-1, *x.shape)
        expected = torch.zeros_like(x)
        for source, weight in zip(plan.sources, weights, strict=True):
            expected.index_add_(0, source, weight)
        torch.testing.assert_close(x.grad, expected, atol=1e-4, rtol=1e-4)


@many
@given(mixers(), batches(), st.sampled_from(["plain", "channels last", "cut out"]))
def test_a_batch_without_gradients_is_mixed_as_one_with_gradients(mixer, drawn, memory):
    x, lengths, generator = drawn
    if memory == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif memory == "cut out":
        x = torch.stack([x, x], -1)[..., 0]
    plan = mixer.plan(x, lengths, generator=generator)
    tracked = plan.apply(x.clone().requires_grad_()).detach()
    torch.testing.assert_close(plan.apply(x), tracked)
    out = torch.full_like(x, float("nan"))
    torch.testing.assert_close(plan.apply(x, out=out), tracked)
    itself = x.clone()
    assert plan.apply(itself, out=itself) is itself
    torch.testing.assert_close(itself, tracked)
    infinite = x.masked_fill(x > 1.5, float("inf"))
    expected = plan.apply(infinite.clone().requires_grad_()).detach()
    torch.testing.assert_close(plan.apply(infinite), expected, equal_nan=True)
