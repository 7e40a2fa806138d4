"""Pictures of mixes show what a plan really does, in every layout, and touch nothing else."""

import numpy as np
import pytest
import torch

import randommix_audio as rma
from randommix_audio.viewing import show
from randommix_audio.viewing.axis import bin_centres
from randommix_audio.viewing.figure import png
from randommix_audio.viewing.mixes import rows_to_show
from tests.viewing.drawing import BINS, FRAMES, content, drawn_plan, grey_from, panels, scales_of


def test_a_line_shows_the_row_its_partner_the_weights_and_exactly_the_mix_of_the_plan():
    x = torch.randn(3, BINS, FRAMES)
    plan = drawn_plan(x)
    lines = panels(show(x, plan))
    assert len(lines) == 3
    mixed, weights = plan.apply(x), plan.weights[0].expand(3, 1, BINS, FRAMES)
    for row, (own, partner, weight, result) in enumerate(lines):
        np.testing.assert_array_equal(content(own), x[row])
        np.testing.assert_array_equal(content(partner), x[plan.sources[1, row]])
        np.testing.assert_array_equal(content(weight), weights[row, 0])
        np.testing.assert_array_equal(content(result), mixed[row])


def test_titles_name_the_method_the_partner_and_the_share_of_the_plan():
    x = torch.randn(2, BINS, FRAMES)
    plan = drawn_plan(x, "mixup")
    own, partner, weight, mixed = (axes.get_title() for axes in panels(show(x, plan, names=["yes", "no"]))[0])
    share = round(100 * float(plan.share[1, 0]))
    assert own == "own: yes"
    assert partner == "partner: no"
    assert weight.startswith("mixup")
    assert mixed == f"mixed: {100 - share} % yes + {share} % no"


@pytest.mark.parametrize("count", [1, 2])
def test_a_row_that_is_left_alone_is_said_not_to_be_mixed(count):
    x = torch.randn(count, BINS, FRAMES)
    plan = rma.NoMix().plan(x)
    _, partner, weight, mixed = panels(show(x, plan))[0]
    assert mixed.get_title() == "not mixed: row 0"
    assert weight.get_title() == "not mixed"
    assert partner.get_title() == "no partner"
    assert not partner.images, "what takes no part in the mix is not drawn"


def test_a_row_paired_with_itself_is_said_to_be():
    x = torch.randn(1, BINS, FRAMES)
    plan = rma.Mixup(pairing="roll").plan(x, generator=torch.Generator().manual_seed(0))
    _, partner, weight, mixed = (axes.get_title() for axes in panels(show(x, plan, names=["yes"]))[0])
    assert partner == "partner: itself"
    assert weight == "not mixed"
    assert mixed == "yes paired with itself"


def test_rows_that_are_mixed_are_shown_before_those_left_alone():
    x = torch.randn(5, BINS, FRAMES)
    mixed = torch.tensor([False, True, False, False, True])
    plan = rma.Mixup(pairing="derangement").plan(x, rows=mixed, generator=torch.Generator().manual_seed(0))
    assert rows_to_show(plan, 1) == [1]
    assert rows_to_show(plan, 2) == [1, 4]
    assert rows_to_show(plan, 3) == [0, 1, 4]
    titles = [line[3].get_title() for line in panels(show(x, plan, rows=3))]
    assert [title.split(":")[0] for title in titles] == ["not mixed", "mixed", "mixed"]


def test_all_lines_have_one_scale_and_weights_run_from_0_to_1():
    x = torch.randn(3, BINS, FRAMES) * torch.tensor([1.0, 2.0, 1.5]).view(3, 1, 1)
    figure = show(x, drawn_plan(x))
    assert len(set.union(*scales_of(figure))) == 1
    assert all(line[2].images[0].get_clim() == (0, 1) for line in panels(figure))


def test_a_line_of_a_far_smaller_range_has_its_own_scale_and_its_contents_share_it():
    x = torch.randn(4, BINS, FRAMES) * torch.tensor([1.0, 90.0, 90.0, 1.0]).view(4, 1, 1)
    plan = rma.Mixup(pairing="flip").plan(x, generator=torch.Generator().manual_seed(0))
    scales = scales_of(show(x, plan))
    assert [len(of_line) for of_line in scales] == [1, 1, 1, 1]
    (low, high), (_, loud) = (next(iter(scales[i])) for i in (0, 1))
    assert high < loud / 10
    assert low < 0


@pytest.mark.parametrize("silence", [-100.0, 3.0, 0.0])
def test_a_constant_clip_does_not_change_the_scale_of_the_others(silence):
    x = torch.randn(3, BINS, FRAMES)
    x[1] = silence
    plan = drawn_plan(x)
    with_silence = set.union(*scales_of(show(x, plan)))
    assert len(with_silence) == 1
    low, high = with_silence.pop()
    assert high == x[[0, 2]].max()
    assert x[[0, 2]].min() <= low < -1


def test_frames_of_digital_silence_do_not_leave_speech_one_colour():
    x = torch.randn(2, BINS, FRAMES)
    x[..., FRAMES // 2 :] = -100
    low, _ = set.union(*scales_of(show(x, drawn_plan(x)))).pop()
    assert low > -5


def test_a_btf_batch_is_drawn_with_frequency_upwards_like_its_bft_twin():
    x = torch.randn(2, BINS, FRAMES)
    plan = drawn_plan(x.transpose(1, 2), layout="BTF")
    own = panels(show(x.transpose(1, 2), plan))[0][0]
    np.testing.assert_array_equal(content(own), x[0])
    assert own.images[0].origin == "lower"


def test_of_three_channels_that_are_no_picture_one_is_drawn():
    x = torch.randn(2, 3, BINS, FRAMES)
    own = panels(show(x, drawn_plan(x), channel=2))[0][0]
    np.testing.assert_array_equal(content(own), x[0, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_pictures_of_three_channels_are_drawn_in_colour_with_the_first_line_at_the_top(dtype):
    levels = torch.randint(0, 256, (2, 3, 9, 14), generator=torch.Generator().manual_seed(0))
    x = levels.to(dtype) if dtype == torch.uint8 else levels / 255
    plan = drawn_plan(levels / 255)
    own = panels(show(x, plan))[0][0]
    np.testing.assert_allclose(content(own), levels[0].permute(1, 2, 0) / 255, atol=1e-6)
    assert own.images[0].origin == "upper"


def test_normalised_pictures_are_brought_back_into_the_range_of_a_screen_when_asked_for():
    x = torch.randn(2, 3, 9, 14)
    drawn = content(panels(show(x, drawn_plan(x), image=True))[0][0])
    assert drawn.shape == (9, 14, 3)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_waveforms_are_drawn_as_lines_in_seconds():
    x = torch.randn(2, 800)
    plan = drawn_plan(x, "time_cutmix")
    _, _, weight, mixed = panels(show(x, plan, rows=1, sample_rate=8000))[0]
    times, samples = mixed.lines[0].get_data()
    np.testing.assert_array_equal(samples, plan.apply(x)[0])
    assert times[-1] == pytest.approx(799 / 8000)
    assert weight.get_ylim()[1] > 1
    assert mixed.get_xlabel() == "time (s)"


def test_axes_are_frames_and_bins_unless_the_front_end_is_known():
    x = torch.randn(2, BINS, FRAMES)
    first = panels(show(x, drawn_plan(x)))
    assert first[0][0].get_ylabel() == "mel bin"
    assert first[-1][0].get_xlabel() == "frame"


def test_with_a_front_end_axes_are_in_seconds_and_hertz():
    front_end = rma.LogMel(n_mels=BINS, n_fft=512)
    x = front_end(torch.randn(2, 3200))
    lines = panels(show(x, drawn_plan(x), front_end=front_end))
    assert lines[-1][0].get_xlabel() == "time (s)"
    assert lines[0][0].get_ylabel() == "frequency (Hz)"
    assert lines[0][0].images[0].get_extent()[1] == pytest.approx(x.shape[2] * 0.01)
    assert "1000" in [tick.get_text() for tick in lines[0][0].get_yticklabels()]


def test_bin_centres_rise_within_the_band_even_where_filters_are_empty():
    centres = bin_centres(rma.LogMel(n_fft=400, n_mels=128, mel_scale="htk", mel_norm=None))
    assert np.isfinite(centres).all()
    assert (np.diff(centres) >= 0).all()
    assert centres[0] >= 0
    assert centres[-1] <= 8000


def ragged_plan(x: torch.Tensor, method: str, lengths: list[int]) -> rma.MixPlan:
    mixer = rma.build(method, per="row", pairing="roll")
    return mixer.plan(x, lengths=torch.tensor(lengths), generator=torch.Generator().manual_seed(1))


def test_every_line_ends_with_the_valid_frames_of_its_mix():
    x = torch.randn(3, BINS, FRAMES)
    plan = ragged_plan(x, "cutmix", [15, 6, 11])
    for end, line in zip((15, 6, 11), panels(show(x, plan)), strict=True):
        assert [axes.get_xlim() for axes in line] == [(0, end)] * 4
        assert [content(axes).shape[-1] for axes in line] == [end] * 4


def test_lines_of_different_lengths_have_their_own_marks_of_time():
    def marked(lengths: list[int]) -> list[bool]:
        x = torch.randn(2, BINS, FRAMES)
        lines = panels(show(x, ragged_plan(x, "cutmix", lengths)))
        return [line[0].xaxis.get_tick_params()["labelbottom"] for line in lines]

    assert marked([15, 6]) == [True, True]
    assert marked([15, 15]) == [False, True]


def test_padding_is_grey_and_a_partner_that_goes_on_is_said_to():
    x = torch.randn(2, BINS, FRAMES)
    lengths = [15, 6]
    long, short = panels(show(x, ragged_plan(x, "cutmix", lengths), lengths=lengths))
    assert [grey_from(axes) for axes in long] == [None, 6, None, None]
    assert content(long[1]).shape[-1] == 6
    assert [grey_from(axes) for axes in short] == [None] * 4
    assert short[1].get_title() == "partner: row 0\n(first 6 frames of 15 frames)"


def test_the_padding_of_waveforms_is_grey_and_not_drawn():
    x = torch.randn(2, 800)
    lengths = [800, 300]
    own = panels(show(x, ragged_plan(x, "mixup", lengths), lengths=torch.tensor(lengths)))[1][0]
    assert grey_from(own) == 300
    assert len(own.lines[0].get_xdata()) == 300
    assert own.get_xlim() == (0, 800)


def test_a_clip_of_no_frames_is_all_grey():
    x = torch.randn(2, BINS, FRAMES)
    figure = show(x, ragged_plan(x, "mixup", [0, 9]), lengths=[0, 9])
    assert grey_from(panels(figure)[0][0]) == 0
    assert png(figure)


@pytest.mark.parametrize(
    ("preset", "unit"),
    [("librosa", "log-mel (dB)"), ("espnet", "log-mel (ln power)"), ("whisper", "log-mel (log10 power, scaled)")],
)
def test_the_colour_bar_of_the_mix_names_the_unit_of_the_front_end(preset, unit):
    front_end = rma.LogMel.preset(preset)
    x = front_end(torch.randn(2, 6400))
    bars = [axes.get_ylabel() for axes in show(x, drawn_plan(x), rows=1, front_end=front_end).axes[4:]]
    assert bars == ["", unit]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_batch_of_any_float_type_that_needs_gradients_is_drawn_and_left_as_it_was(dtype):
    x = torch.randn(1, BINS, FRAMES, dtype=dtype, requires_grad=True)
    before = x.detach().clone()
    show(x, drawn_plan(x.detach()))
    assert torch.equal(x, before)
    assert x.grad is None


def test_digital_silence_and_infinite_values_are_drawn_without_complaint():
    x = torch.zeros(2, BINS, FRAMES)
    x[1] = -torch.inf
    assert png(show(x, drawn_plan(x))).startswith(b"\x89PNG")


def test_rows_may_be_chosen_and_more_than_there_are_is_all():
    x = torch.randn(5, BINS, FRAMES)
    plan = drawn_plan(x)
    assert [line[0].get_title() for line in panels(show(x, plan, rows=[4, 2]))] == [
        "own: row 4",
        "own: row 2",
    ]
    assert len(panels(show(x, plan, rows=99))) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "rows must be at least 1"),
        ({"rows": [3]}, "row 3 is not in a batch of 3"),
        ({"rows": []}, "no row to show"),
        ({"names": ["a"]}, "1 names for a batch of 3"),
        ({"frequencies": [100.0]}, "1 frequencies for 12 bins"),
        ({"channel": 1}, "channel 1"),
        ({"lengths": [4, 4]}, "2 lengths for a batch of 3"),
    ],
)
def test_what_does_not_fit_the_batch_is_refused_by_name(arguments, message):
    x = torch.randn(3, BINS, FRAMES)
    with pytest.raises(ValueError, match=message):
        show(x, drawn_plan(x), **arguments)


def test_a_plan_of_another_batch_is_refused():
    plan = drawn_plan(torch.randn(2, BINS, FRAMES))
    with pytest.raises(ValueError, match="drawn for 2 rows, the batch has 3"):
        show(torch.randn(3, BINS, FRAMES), plan)


def test_dollars_in_a_name_are_not_mathematics():
    x = torch.randn(2, BINS, FRAMES)
    figure = show(x, drawn_plan(x), names=["a$b$", "b"])
    assert panels(figure)[0][0].get_title() == "own: a$b$"
    assert png(figure)
