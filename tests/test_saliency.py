"""Saliency: what counts as salient, and when it is computed."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import randommix_audio as rma
from randommix_audio.saliency import KINDS, SaliencyOfBatch, energy, smoothed, spectral_residual
from tests.devices import pretended_cuda

EVERY_KIND = pytest.mark.parametrize("kind", list(KINDS))


@pytest.fixture(autouse=True)
def _the_same_numbers_each_time() -> None:
    torch.manual_seed(0)


def salient(x: Tensor, given: object = None, lengths: Tensor | None = None, layout: str = "BFT") -> Tensor:
    return SaliencyOfBatch(x, layout, lengths, given).map()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- what was given


def test_negative_infinite_and_undefined_values_count_as_nothing():
    nan, inf = float("nan"), float("inf")
    given = torch.tensor([[[1.0, -2.0, nan], [inf, -inf, 0.5]]])
    assert salient(torch.zeros(1, 2, 3), given).tolist() == [[[1, 0, 0], [0, 0, 0.5]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.int64])
def test_given_values_may_be_of_any_kind_and_come_out_as_float32(dtype):
    given = torch.tensor([[[1, 0, 1], [0, 0, 1]]]).to(dtype)
    found = salient(torch.zeros(1, 2, 3, dtype=torch.float16), given)
    assert found.dtype == torch.float32
    assert torch.equal(found, given.float())


def test_frames_beyond_the_valid_ones_are_not_salient():
    given = torch.ones(3, 2, 5)
    found = salient(torch.zeros(3, 2, 5), given, torch.tensor([5, 2, 0]))
    assert found.sum((1, 2)).tolist() == [10, 4, 0]
    assert found[1, :, 2:].sum() == 0
    assert (given == 1).all()


def test_mistakes_in_what_is_given_are_named_whatever_the_method():
    x = torch.randn(4, 6, 9)
    with pytest.raises(ValueError, match=re.escape("saliency must be (B, F, T) = (4, 6, 9), got (4, 9, 6)")):
        rma.Mixup().plan(x, saliency=torch.rand(4, 9, 6))
    with pytest.raises(ValueError, match=r"one of energy, spectral_residual, a tensor or a callable; got 'loudness'"):
        rma.Mixup().plan(x, saliency="loudness")
    with pytest.raises(TypeError, match="a name or a callable, got list"):
        rma.Mixup().plan(x, saliency=[1.0])
    with pytest.raises(ValueError, match="got list"):
        rma.SaliencyMix().plan(x, saliency=lambda x: [1.0])
    with pytest.raises(ValueError, match=re.escape("got (4, 6)")):
        rma.SaliencyMix().plan(x, saliency=lambda x: x.mean(2))


# ---- when it is computed


class Counter:
    """A callable that counts its calls and remembers how it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.gradients = torch.is_grad_enabled()
        self.autocast = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
        self.tracked = x.requires_grad
        return x.abs()


@pytest.mark.parametrize(
    ("mixer", "calls"),
    [
        (rma.Mixup(), 0),
        (rma.Cutout(per="row"), 0),
        (rma.SaliencyMix(), 1),
        (rma.SaliencyMix(p=0.0), 0),
        (rma.RandomMix(["mixup", "saliencymix"], [0, 1]), 1),
        (rma.RandomMix(["mixup", "saliencymix"], [1, 0]), 0),
        (rma.RandomMix(["mixup", "saliencymix"], [1, 0], per="row"), 0),
        (rma.RandomMix(["mixup", "saliencymix"], per="row"), 1),
        (rma.RandomMix([rma.SaliencyMix(), rma.SaliencyMix(saliency="spectral_residual"), "mixup"], per="row"), 1),
    ],
    ids=lambda value: value if isinstance(value, int) else type(value).__name__,
)
def test_a_callable_runs_once_for_a_plan_and_only_where_a_row_follows_it(mixer, calls):
    count = Counter()
    mixer.plan(torch.randn(24, 6, 9), saliency=count, generator=seeded())
    assert count.calls == calls


def test_in_evaluation_nothing_is_computed():
    count = Counter()
    rma.SaliencyMix().eval()(torch.randn(4, 6, 9), saliency=count)
    assert count.calls == 0


def test_a_callable_has_gradients_and_the_autocast_of_its_user():
    count, x = Counter(), torch.randn(4, 6, 9, requires_grad=True)
    rma.SaliencyMix().plan(x, saliency=count)
    assert (count.gradients, count.autocast[0], count.tracked) == (True, False, False)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        rma.SaliencyMix().plan(x, saliency=count)
        assert torch.is_autocast_enabled("cpu")
        assert not torch.is_grad_enabled()
    assert (count.gradients, count.autocast, count.tracked) == (True, (True, torch.float16), False)


def test_a_name_given_to_the_plan_overrides_that_of_the_method():
    x = torch.randn(8, 20, 50)
    named = rma.SaliencyMix(saliency="spectral_residual").plan(x, generator=seeded())
    given = rma.SaliencyMix().plan(x, generator=seeded(), saliency="spectral_residual")
    assert torch.equal(named.weights, given.weights)
    assert not torch.equal(named.weights, rma.SaliencyMix().plan(x, generator=seeded()).weights)


@EVERY_KIND
def test_nothing_waits_for_the_device(kind):
    with pretended_cuda():
        for lengths in (None, torch.randint(0, 50, (4,), device="cuda")):
            assert salient(torch.randn(4, 20, 50, device="cuda"), kind, lengths).shape == (4, 20, 50)


# ---- energy and the spectral residual


@EVERY_KIND
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (3, 1, 1, 50), (3, 3, 50, 1), (1, 2, 5, 9), (4, 1, 80, 203)])
def test_any_shape_has_a_finite_saliency(kind, shape):
    x = torch.randn(shape)
    x[0] = 0
    for lengths in (None, torch.randint(0, shape[3] + 1, shape[:1])):
        found = salient(x, kind, lengths, "BCFT")
        assert found.shape == (shape[0], *shape[2:])
        assert found.isfinite().all()
        assert (found >= 0).all()


@EVERY_KIND
def test_a_row_has_the_same_saliency_however_much_it_is_padded_and_with_what(kind):
    x = torch.randn(3, 20, 70)
    lengths = torch.tensor([70, 33, 64])
    alone = salient(x, kind, lengths)
    padded = F.pad(x.masked_fill(torch.arange(70) >= lengths[:, None, None], float("nan")), (0, 31), value=-80.0)
    with_more = salient(padded, kind, lengths)
    torch.testing.assert_close(with_more[:, :, :70], alone)
    assert (with_more[:, :, 70:] == 0).all()


@EVERY_KIND
def test_louder_recordings_are_not_salient_elsewhere(kind):
    x = torch.randn(2, 20, 50)
    found, shifted, scaled = (salient(values, kind) for values in (x, x + 30, 4 * x))
    # The logarithm of a faint part of the spectrum makes much of rounding.
    torch.testing.assert_close(shifted / shifted.sum(), found / found.sum(), atol=1e-6, rtol=0.05)
    torch.testing.assert_close(scaled / scaled.sum(), found / found.sum(), atol=1e-6, rtol=0.05)


def test_energy_is_the_level_above_the_rows_own_floor_and_silence_is_no_floor():
    x = torch.tensor([[[[-4.0, 0.0, 2.0], [-3.0, -float("inf"), -99.0]]]])
    assert energy(x, torch.tensor([2])).tolist()[0][0][:2] == [0, 4]
    assert salient(x, "energy", torch.tensor([2]), "BCFT").tolist() == [[[0, 4, 0], [1, 0, 0]]]
    two = torch.stack([torch.zeros(2, 3), torch.full((2, 3), 4.0)])[None]
    assert (energy(two) == 2).all(), "the mean over channels, above one floor"


def test_the_energy_of_a_waveform_is_that_of_its_samples():
    wave = torch.tensor([[0.0, -0.5, 0.25, 0.0]])
    assert salient(wave, "energy", layout="BT").tolist() == [[[0, 0.25, 0.0625, 0]]]


def published_residual(picture: np.ndarray) -> np.ndarray:
    """The formulas of the paper for a picture of at most 64 points that goes on in its mirror image."""
    size = picture.shape
    spectrum = np.fft.fft2(np.pad(picture, [(0, n) for n in size], mode="symmetric"))
    amplitude = np.abs(spectrum)
    log_amplitude = np.log(np.where(amplitude > 1e-6 * amplitude.max(), amplitude, np.nan))  # a mirrored one has gaps
    around = np.nanmean([np.roll(log_amplitude, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    filtered = np.nan_to_num(np.exp(log_amplitude - around)) * np.exp(1j * np.angle(spectrum))
    residual = np.abs(np.fft.ifft2(filtered)) ** 2
    return gaussian(residual[: size[0], : size[1]], 8.0)


def gaussian(values: np.ndarray, deviation: float) -> np.ndarray:
    def weights(size: int) -> np.ndarray:
        apart = np.arange(size)[:, None] - np.arange(size)
        kernel = np.exp(-0.5 * (apart / deviation) ** 2) * (abs(apart) <= int(3 * deviation) + 1)
        return kernel / kernel.sum(1, keepdims=True)

    return weights(values.shape[0]) @ values @ weights(values.shape[1]).T


def assert_proportional(found: Tensor, expected: np.ndarray, rtol: float) -> None:
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=rtol)


def test_the_spectral_residual_follows_the_papers_formulas_for_every_length():
    x = torch.rand(4, 1, 40, 64)
    lengths = torch.tensor([64, 63, 37, 3])
    found = spectral_residual(x, lengths)
    for row, picture, end in zip(found, x[:, 0].double().numpy(), lengths, strict=True):
        picture = picture[:, :end]
        assert_proportional(row[:, :end], published_residual(picture - picture.min()), rtol=2e-3)


def test_a_large_picture_is_made_smaller_first():
    x = torch.rand(1, 1, 192, 320)
    small = F.avg_pool2d(x.double(), (3, 5))
    expected = published_residual((small - x.min())[0, 0].numpy())
    centres = spectral_residual(x)[0, 1::3, 2::5]
    assert_proportional(centres, expected, rtol=5e-3)


def test_a_tone_that_starts_late_stands_out_among_steady_ones():
    x = torch.zeros(1, 1, 64, 64)
    x[:, :, ::4] = 1  # steady lines
    x[:, :, 30, 40:46] += 1
    peak = int(spectral_residual(x).flatten().argmax())
    assert abs(peak // 64 - 30) <= 4
    assert 36 <= peak % 64 <= 49


@pytest.mark.parametrize("size", [(9, 31), (1, 12), (12, 1), (2, 2)])
def test_smoothing_keeps_a_constant_and_spreads_a_point(size):
    torch.testing.assert_close(smoothed(torch.full((2, *size), 3.0), 1.7), torch.full((2, *size), 3.0))
    values = torch.rand(2, *size, dtype=torch.float64)
    expected = np.stack([gaussian(value, 1.7) for value in values.numpy()])
    np.testing.assert_allclose(smoothed(values, 1.7), expected)
    assert smoothed(values, 0) is values


def test_energy_peaks_inside_the_spoken_word(real_data):
    import soundfile

    files = [f for word in ("yes", "no", "left") for f in sorted((real_data / "speech_commands" / word).iterdir())[:20]]
    waves = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files]
    lengths = torch.tensor([len(wave) for wave in waves])
    wave = nn.utils.rnn.pad_sequence(waves, batch_first=True)
    front_end = rma.LogMel.preset("whisper")
    x, frames = front_end(wave, lengths)
    time = x.shape[2]
    power = F.avg_pool1d(wave.square()[:, None], 400, front_end.hop_length, 200)[:, 0, :time]
    word = power > 0.1 * power.amax(1, keepdim=True)
    assert word.float().mean() < 0.35, "the word is a small part of the clip"
    peak = salient(x, "energy", frames).flatten(1).argmax(1) % time
    assert word.gather(1, peak[:, None]).all()
    novel = salient(x, "spectral_residual", frames).flatten(1).argmax(1) % time
    assert word.gather(1, novel[:, None]).float().mean() > 2 * word.float().mean()
