"""What LogMel promises whatever the preset: rows stand alone, padding is silence, float32, gradients, clear errors."""

import copy
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from randommix_audio.features import LogMel
from randommix_audio.features.framing import pad_edges
from randommix_audio.features.presets import PRESETS

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters")

ABSOLUTE = [name for name in PRESETS if name not in ("nemo", "randommix")]  # levels do not hang on the clip
RELATIVE_FLOOR = ["librosa", "whisper", "speechbrain", "randommix"]  # the clip's peak decides the floor


def noise(rows: int = 3, samples: int = 16000, scale: float = 0.1) -> Tensor:
    return scale * torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=list(PRESETS))
def logmel(request: pytest.FixtureRequest) -> LogMel:
    return LogMel.preset(request.param)


def documented_presets() -> dict[str, list[str]]:
    """The rows of the first table of docs/features.md: preset, call, inside, rate, bands x frames, pad_value."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row for row in rows if len(row) == 6 and row[0] in PRESETS}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_rate_shape_and_pad_value_that_the_docs_say(name: str) -> None:
    _, _, _, rate, shape, pad_value = documented_presets()[name]
    logmel = LogMel.preset(name)
    x = logmel(noise(3, 16000))
    assert logmel.sample_rate == int(rate)
    assert f"{x.shape[1]} x {x.shape[2]}" == shape
    assert logmel.pad_value == pytest.approx(float(pad_value), rel=1e-4)
    assert (x.shape[0], x.dtype) == (3, torch.float32)


def test_a_row_of_a_padded_batch_has_the_features_of_the_clip_alone(logmel: LogMel) -> None:
    wave, lengths = noise(6, 7013), torch.tensor([7013, 4001, 2048, 513, 161, 0])
    x, frames = logmel(wave, lengths)
    for row, samples in enumerate(lengths.tolist()):
        count = logmel.frames(samples)
        assert frames[row] == count
        if count:
            alone = logmel(wave[row : row + 1, :samples])[0]
            torch.testing.assert_close(x[row, :, :count], alone, rtol=0, atol=1e-5)
        assert (x[row, :, count:] == logmel.pad_value).all()


def test_what_lies_beyond_a_rows_length_changes_neither_features_nor_gradient(logmel: LogMel) -> None:
    wave, lengths = noise(2, 5003), torch.tensor([5003, 2501])
    clean, clean_with_gradient = logmel(wave, lengths)[0], logmel(wave.clone().requires_grad_(), lengths)[0]
    wave[1, 2501:] = float("nan")
    assert torch.equal(logmel(wave, lengths)[0], clean)
    wave.requires_grad_()
    x = logmel(wave, lengths)[0]
    assert torch.equal(x, clean_with_gradient)
    x.square().sum().backward()
    assert torch.isfinite(wave.grad).all()
    assert (wave.grad[1, 2501:] == 0).all()


@pytest.mark.parametrize("name", RELATIVE_FLOOR)
@pytest.mark.parametrize("with_lengths", [False, True])
def test_a_loud_clip_does_not_raise_the_floor_of_a_quiet_one_in_its_batch(name: str, with_lengths: bool) -> None:
    logmel = LogMel.preset(name)
    wave = noise(2, 6007) * torch.tensor([[5.0], [1e-5]])
    lengths = torch.tensor([6007, 6007])
    x = logmel(wave, lengths)[0] if with_lengths else logmel(wave)
    torch.testing.assert_close(x[1], logmel(wave[1:])[0])


def test_the_relative_floor_of_a_clip_is_taken_from_its_valid_frames_only() -> None:
    logmel = LogMel.preset("randommix")
    wave = noise(1, 8000) * 1e-3
    wave[:, 4096:] = 1.0
    x, frames = logmel(wave, torch.tensor([4096]))
    assert x[0, :, : frames[0]].max() == 0.5  # the peak of the quiet part, not of the loud rest


@pytest.mark.parametrize("name", ["whisper", "librosa", "speechbrain", "randommix", "nemo"])
def test_a_burst_at_a_rows_end_counts_as_in_the_clip_alone(name: str) -> None:
    # the first frames beyond the row still reach its last samples, and here they are the loudest
    logmel = LogMel.preset(name)
    wave = noise(2, 8000) * 1e-4
    wave[0, 4000:] = 0.0
    wave[0, 3995:4000] = 0.5
    x, frames = logmel(wave, torch.tensor([4000, 8000]))
    torch.testing.assert_close(x[0, :, : frames[0]], logmel(wave[:1, :4000])[0], rtol=0, atol=1e-5)


def test_int16_is_read_as_the_float_wave_that_it_stands_for(logmel: LogMel) -> None:
    integers = (noise() * 30000).round().clamp(-32768, 32767).to(torch.int16)
    assert torch.equal(logmel(integers), logmel(integers.float() / 32768))


@pytest.mark.parametrize("name", ABSOLUTE)
def test_digital_silence_gives_pad_value(name: str) -> None:
    logmel = LogMel.preset(name)
    torch.testing.assert_close(
        logmel(torch.zeros(1, 4000)), torch.full((1, logmel.n_mels, logmel.frames(4000)), logmel.pad_value)
    )


def test_pad_value_may_be_given() -> None:
    x, frames = LogMel.preset("espnet", pad_value=0.0)(noise(2, 4000), torch.tensor([4000, 1000]))
    assert (x[1, :, frames[1] :] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_wave_is_computed_in_float32(logmel: LogMel, dtype: torch.dtype) -> None:
    wave = noise(2, 4001).to(dtype)
    x = logmel(wave)
    assert x.dtype == torch.float32
    assert torch.equal(x, logmel(wave.float()))


def test_autocast_and_half_change_nothing(logmel: LogMel) -> None:
    wave, lengths = noise(2, 4001), torch.tensor([4001, 2000])
    expected = logmel(wave, lengths)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(logmel(wave, lengths)[0], expected)
    model = torch.nn.Sequential(copy.deepcopy(logmel), torch.nn.Linear(3, 5)).half()
    assert model[1].weight.dtype == torch.float16
    assert torch.equal(model[0](wave, lengths)[0], expected)


def test_gradients_reach_the_wave_and_are_finite_even_in_silence(logmel: LogMel) -> None:
    wave = noise(3, 5003)
    wave[1] = 0
    wave.requires_grad_()
    x, _ = logmel(wave, torch.tensor([5003, 5003, 0]))
    (x * torch.linspace(-1, 1, x.shape[2])).sum().backward()
    assert torch.isfinite(wave.grad).all()
    assert wave.grad[0].abs().max() > 0


def test_it_compiles_to_one_graph_with_and_without_lengths(logmel: LogMel) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(logmel, fullgraph=True, backend="aot_eager")
    wave, lengths = noise(3, 4001), torch.tensor([4001, 2000, 0])
    torch.testing.assert_close(compiled(wave), logmel(wave))
    x, frames = compiled(wave, lengths)
    expected, expected_frames = logmel(wave, lengths)
    torch.testing.assert_close(x, expected)
    assert torch.equal(frames, expected_frames)


def test_nothing_of_the_lengths_is_looked_at_on_the_host(logmel: LogMel, monkeypatch: pytest.MonkeyPatch) -> None:
    # a meta tensor has no values: reading one raises (and autocast knows no such device)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    x, frames = logmel.to("meta")(noise(2, 4001).to("meta"), torch.tensor([4001, 2000]).to("meta"))
    assert (x.shape[0], frames.shape) == (2, (2,))


def test_frames_counts_alike_for_ints_tensors_and_what_comes_out(logmel: LogMel) -> None:
    samples = [0, 1, 159, 160, 161, 399, 400, 401, 511, 512, 4000, 16001]
    counts = [logmel.frames(n) for n in samples]
    assert logmel.frames(torch.tensor(samples)).tolist() == counts
    for n, count in zip(samples, counts, strict=True):
        if count:
            assert logmel(noise(2, n)).shape[2] == count


@pytest.mark.parametrize("n_fft", [401, 400])
@pytest.mark.parametrize("drop_last_frame", [False, True])
def test_an_odd_transform_counts_frames_as_torch_stft_does(n_fft: int, drop_last_frame: bool) -> None:
    logmel = LogMel(n_fft=n_fft, drop_last_frame=drop_last_frame)
    for samples in (1599, 1600, 1601):
        expected = torch.stft(noise(1, samples), n_fft, 160, return_complex=True, window=torch.ones(n_fft)).shape[2]
        assert logmel.frames(samples) == logmel(noise(1, samples)).shape[2] == expected - drop_last_frame


@pytest.mark.parametrize("name", ABSOLUTE)
def test_to_power_and_from_power_undo_each_other(name: str) -> None:
    logmel = LogMel.preset(name, ref=2.0)
    x = logmel(noise(2, 8003))
    power = logmel.to_power(x)
    assert (power >= 0).all()
    torch.testing.assert_close(logmel.from_power(power), x, rtol=1e-5, atol=1e-4)


def test_to_power_gives_the_mel_power_itself() -> None:
    wave = noise(1, 8003)
    power = LogMel(log="ln").to_power(LogMel(log="ln")(wave))
    for name, value in (("log", "db"), ("log", "log10"), ("floor_mode", "add"), ("mean", 3.0)):
        other = LogMel(**{name: value})
        torch.testing.assert_close(other.to_power(other(wave)), power, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", ["nemo", "randommix"])
def test_power_is_refused_where_the_features_do_not_tell_it(name: str) -> None:
    logmel = LogMel.preset(name)
    for convert in (logmel.to_power, logmel.from_power):
        with pytest.raises(ValueError, match="relative to each clip's"):
            convert(torch.zeros(1, logmel.n_mels, 5))


@pytest.mark.parametrize("samples", [1, 2, 3, 50])
def test_reflection_of_a_row_shorter_than_the_edge_goes_back_and_forth_as_numpys(samples: int) -> None:
    wave = noise(2, 60)
    wave[:, samples:] = 0
    row = torch.from_numpy(np.pad(wave[0, :samples].numpy(), 75, mode="reflect"))
    padded = pad_edges(wave, 75, 75, "reflect", torch.tensor([samples, samples]))
    assert padded.shape == (2, 75 + 60 + 75)
    assert torch.equal(padded[0, : len(row)], row)
    assert (padded[0, len(row) :] == 0).all()
    assert torch.equal(pad_edges(wave[:, :samples], 75, 75, "reflect")[0], row)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda m: m(torch.zeros(16000)), ValueError, r"\(batch, samples\), got \(16000,\)"),
        (lambda m: m(torch.zeros(1, 16000, dtype=torch.int32)), TypeError, "float or int16, got torch.int32"),
        (lambda m: m(torch.zeros(1, 159)), ValueError, "too few for one frame: 160 are needed"),
        (lambda m: m(torch.zeros(1, 0)), ValueError, "wave has 0 samples"),
        (lambda m: m(torch.zeros(2, 999), torch.tensor([999])), ValueError, r"lengths must be \(2,\)"),
        (lambda m: m(torch.zeros(1, 999), torch.tensor([1.0])), TypeError, "lengths are whole samples"),
        (lambda m: m(torch.zeros(1, 999), torch.tensor([1000])), ValueError, "lengths must be 0 to 999"),
        (
            lambda m: LogMel.preset("whispre"),
            ValueError,
            "'whispre'; choose from torchaudio, librosa, kaldi, whisper",
        ),
        (lambda m: LogMel(log="log2"), ValueError, "log 'log2' is unknown; choose from db, log10, ln"),
        (lambda m: LogMel(window="kaiser"), ValueError, "window 'kaiser' is unknown"),
        (lambda m: LogMel(mel_scale="bark"), ValueError, "mel_scale 'bark' is unknown"),
        (lambda m: LogMel(mel_scale="kaldi"), ValueError, "mel_norm 'slaney' goes with slaney and htk"),
        (lambda m: LogMel(mel_norm="area"), ValueError, "mel_norm 'area' is unknown"),
        (lambda m: LogMel(pad_mode="edge"), ValueError, "pad_mode 'edge' is unknown"),
        (lambda m: LogMel(f_max=9000.0), ValueError, "f_max <= 8000"),
        (lambda m: LogMel(hop_length=0), ValueError, "hop_length must be above 0"),
        (lambda m: LogMel(win_length=512), ValueError, "win_length 512 is longer than n_fft 400"),
        (lambda m: LogMel(ref="min"), ValueError, "ref is a power above 0 or 'max'"),
        (
            lambda m: LogMel(center=False, drop_last_frame=True),
            ValueError,
            "drop_last_frame needs center=True",
        ),
    ],
)
def test_a_mistake_is_named_in_one_line(call, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        call(LogMel.preset("whisper"))
    assert "\n" not in str(caught.value)


def test_a_batch_of_one_too_short_row_among_longer_ones_is_fine_for_kaldi() -> None:
    x, frames = LogMel.preset("kaldi")(noise(2, 800), torch.tensor([800, 399]))
    assert frames.tolist() == [3, 0]
    assert torch.isfinite(x).all()


def test_a_checkpoint_does_not_hold_the_front_end() -> None:
    assert LogMel.preset("whisper").state_dict() == {}


def test_repr_says_what_the_features_are() -> None:
    text = repr(LogMel.preset("kaldi"))
    for part in (
        "sample_rate=16000",
        "n_fft=512",
        "win_length=400",
        "n_mels=80",
        "povey",
        "pad_value=-15.94",
    ):
        assert part in text


def test_importing_the_front_end_loads_neither_librosa_nor_numba() -> None:
    code = "import sys, randommix_audio.features; print(sorted({'librosa', 'numba', 'torchaudio'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
