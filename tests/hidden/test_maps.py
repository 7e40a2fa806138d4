"""Maps of every shape: which axis is time, where lengths end, dtypes, frame labels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from randommix_audio.mixers.hidden import ManifoldMixup, PatchUp
from tests.hidden.models import Passing, seeded

MIXERS = st.sampled_from(
    [
        ManifoldMixup(),
        ManifoldMixup(per="row"),
        PatchUp(),
        PatchUp(per="row", block=3),
        PatchUp(mode="hard", per_channel=False),
        PatchUp(mode="hard", per="row", p=0.5),
    ]
)


@st.composite
def maps(draw: st.DrawFn) -> tuple[torch.Tensor, int | None, int | None]:
    """A map of any possible shape, the `time_axis` to attach with, and the axis that is time."""
    sizes = [draw(st.integers(1, 5)), *(draw(st.sampled_from(few)) for few in ([1, 3], [1, 2, 9, 14], [1, 5, 23]))]
    ndim = draw(st.integers(2, 4))
    x = torch.randn(sizes[:ndim] if ndim < 4 else sizes, generator=seeded(draw(st.integers(0, 99))))
    named, axis = draw(
        st.sampled_from({2: [(None, None)], 3: [(None, 1), (2, 2), (-1, 2)], 4: [(None, 3), (2, 2)]}[ndim])
    )
    return x, named, axis


@settings(max_examples=200, deadline=None)
@given(MIXERS, maps(), st.sampled_from([1, 7, 40]), st.integers(0, 1000), st.booleans())
def test_any_map_is_mixed_where_both_rows_are_valid_by_the_weights_that_make_the_share(
    mixer, drawn, time, seed, ragged
):
    x, time_axis, axis = drawn
    rows = x.shape[0]
    batch = torch.randn(rows, 8, time)
    lengths = torch.randint(0, time + 1, (rows,), generator=seeded(seed)) if ragged else torch.full((rows,), time)
    model = Passing()
    hidden = mixer.attach(model, layers=["layer"], time_axis=time_axis)
    plan = hidden.draw(batch, lengths=lengths if ragged else None, generator=seeded(seed))
    map_time = 1 if axis is None else x.shape[axis]
    valid_frames = torch.ceil(lengths * map_time / time).long()
    valid = torch.arange(map_time) < valid_frames[:, None]
    if axis is None:
        valid = valid.expand_as(x)
    else:
        shape = [1] * x.ndim
        shape[0], shape[axis] = rows, map_time
        valid = valid.view(shape).expand_as(x)
    mixed = model(x.masked_fill(~valid, float("nan")))
    partner = plan.pair(x)
    both = valid & plan.pair(valid)
    assert torch.equal(mixed.isnan(), ~valid)
    assert torch.equal(mixed[valid & ~both], x[valid & ~both])
    own_weight = torch.where(both, (mixed - partner) / (x - partner), 1.0)
    own_weight = torch.where(torch.isfinite(own_weight), own_weight, 1.0)  # a row that is its own partner
    measured = torch.where(valid, own_weight, 0).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
    measured = torch.where(valid.flatten(1).any(1), measured, 1.0)
    others = plan.sources[1] != torch.arange(rows)
    torch.testing.assert_close(plan.lam[others], measured[others], atol=2e-3, rtol=0)
    torch.testing.assert_close(plan.share.sum(0), torch.ones(rows))


def test_the_features_of_a_sequence_are_channels_and_patches_go_along_time():
    x = torch.zeros(2, 40, 16)
    x[1] = 1
    model = Passing()
    plan = PatchUp(mode="hard", pairing="roll", block=5, gamma=0.2).attach(model, layers=["layer"]).draw(x)
    changed = model(x)[0]
    assert plan.map_size == (16, 1, 40)
    assert len(torch.unique(changed.T, dim=0)) > 8
    runs = "".join(str(int(v)) for v in changed[4:-4].T.reshape(-1)).split("0")
    assert (changed[:, :] == 0).any()
    assert max(len(run) for run in runs) >= 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("mixer", [ManifoldMixup(), PatchUp(), PatchUp(mode="hard")])
def test_the_dtype_of_the_map_is_kept_and_the_share_is_of_the_weights_used_in_it(dtype, mixer):
    x = torch.zeros(2, 3, 10, 22, dtype=dtype)
    x[0] = 1
    model = Passing()
    mixer.pairing = "roll"
    plan = mixer.attach(model, layers=["layer"]).draw(torch.zeros(2, 10, 22), generator=seeded(1))
    mixed = model(x)
    assert mixed.dtype == dtype
    torch.testing.assert_close(1 - mixed[1].double().mean().float(), plan.lam[1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("mixer", [ManifoldMixup(), PatchUp()])
def test_maps_under_autocast_keep_their_low_precision(mixer):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 4, 3))
    x = torch.randn(4, 1, 16, 20)
    plan = mixer.attach(model, layers=["0"]).draw(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    assert plan.share.dtype == torch.float32


def test_a_mixed_map_lies_in_memory_as_the_map():
    image = torch.randn(4, 8, 10, 22)
    for x, axis in (
        (image, None),
        (image, 2),
        (image.contiguous(memory_format=torch.channels_last), None),
        (image[0], 1),
    ):
        for mixer in (ManifoldMixup(), PatchUp(), PatchUp(mode="hard"), PatchUp(per="row")):
            model = Passing()
            mixer.attach(model, layers=["layer"], time_axis=axis).draw(torch.randn(x.shape[0], 1, 22))
            assert model(x).stride() == x.stride()


def test_frame_labels_follow_the_weights_of_the_map_that_was_mixed():
    batch = torch.randn(3, 8, 40)
    lengths = torch.tensor([40, 17, 33])
    labels = torch.rand(3, 5, 10)
    for mixer in (PatchUp(per="row", pairing="roll"), ManifoldMixup(pairing="roll")):
        model = Passing()
        plan = mixer.attach(model, layers=["layer"]).draw(batch, lengths=lengths, generator=seeded(2))
        x = torch.zeros(3, 20, 6)  # (B, T', D): each frame of the map is two of the batch
        x[0] = 1
        own_weight = model(x)[0].mean(1)  # of the first row, whose partner is zero
        expected = (
            own_weight.view(10, 2).mean(1) * labels[0] + (1 - own_weight.view(10, 2).mean(1)) * plan.pair(labels)[0]
        )
        torch.testing.assert_close(plan.mix_frames(labels, hop=4)[0], expected)
        torch.testing.assert_close(own_weight.mean(), plan.lam[0])


def test_maps_that_cannot_be_mixed_name_the_layer_and_the_shape():
    x = torch.randn(4, 3, 20, 34)
    model = Passing()
    hidden = ManifoldMixup().attach(model, layers=["layer"])
    hidden.draw(x)
    for bad, message in ((x[:3], "for 4 rows"), (x[0, 0, 0], "maps are"), (x[None], "maps are")):
        with pytest.raises(ValueError, match=rf"layer 'layer' gave a map of shape \({bad.shape[0]},.*{message}"):
            model(bad)
    with pytest.raises(TypeError, match=r"layer 'layer' gave a map .*floating-point maps"):
        model(x.long())
    hidden.detach()
    ManifoldMixup().attach(model, layers=["layer"], time_axis=3).draw(x)
    with pytest.raises(ValueError, match="time_axis=3 is not an axis"):
        model(x[:, 0])
