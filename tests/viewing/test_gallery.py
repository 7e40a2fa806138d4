"""Every method on the same two clips."""

import numpy as np
import pytest
import torch

import randommix_audio as rma
from randommix_audio.viewing import gallery
from randommix_audio.viewing.figure import png
from randommix_audio.viewing.gallery import methods_to_show, mixer_for
from tests.viewing.drawing import BINS, FRAMES, content, grey_from, panels


def test_a_gallery_has_one_line_for_each_method_on_the_same_two_clips():
    a, b = torch.randn(BINS, FRAMES), torch.randn(BINS, FRAMES)
    lines = panels(gallery(a, b, ("yes", "no")))
    assert [line[2].get_title().split(":")[0] for line in lines] == methods_to_show()
    for own, partner, weight, mixed in lines:
        np.testing.assert_array_equal(content(own), a)
        if weight.get_title().startswith("cutout"):
            assert partner.get_title() == "no partner"
            continue
        np.testing.assert_array_equal(content(partner), b)
        assert "no" in mixed.get_title()


def test_a_gallery_of_the_same_seed_is_the_same_file():
    a, b = torch.randn(BINS, FRAMES), torch.randn(BINS, FRAMES)
    first, second, other = (png(gallery(a, b, methods=["fmix"], seed=seed)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_a_gallery_of_waveforms_and_of_pictures_is_drawn_as_such():
    waves = panels(gallery(torch.randn(600), torch.randn(600), methods=["mixup", "time_cutmix"]))
    assert all(line[3].lines for line in waves)
    images = panels(gallery(torch.rand(3, 8, 10), torch.rand(3, 8, 10), methods=["cutmix"]))
    assert content(images[0][3]).shape == (8, 10, 3)


def test_a_gallery_refuses_clips_of_two_lengths_and_unknown_methods():
    with pytest.raises(ValueError, match="pad the shorter"):
        gallery(torch.randn(BINS, 5), torch.randn(BINS, 6))
    with pytest.raises(ValueError, match="nothing_like_it"):
        gallery(torch.randn(BINS, 5), torch.randn(BINS, 5), methods=["nothing_like_it"])


def test_a_gallery_ends_with_the_longer_clip_and_weights_beyond_the_mix_are_grey():
    x = torch.randn(2, BINS, FRAMES)
    (line,) = panels(gallery(x[0], x[1], methods=["cutmix"], lengths=[6, 15]))
    assert [axes.get_xlim() for axes in line] == [(0, 15)] * 4
    assert [grey_from(axes) for axes in line] == [6, None, 6, 6]


def test_clips_of_methods_that_follow_saliency_are_outlined():
    x = torch.rand(2, BINS, FRAMES)
    lines = panels(gallery(x[0], x[1], methods=["mixup", "saliencymix"]))
    assert [[bool(axes.collections) for axes in line[:2]] for line in lines] == [[False, False], [True, True]]


def test_what_is_cut_out_is_filled_with_the_floor_of_the_front_end_if_there_is_one():
    front_end = rma.LogMel(n_mels=BINS, n_fft=512)
    assert front_end.pad_value < -1
    x = front_end(torch.randn(2, 3200))
    filled = {}
    for name, known in (("floor", front_end), ("zero", None)):
        ((_, _, weight, cut),) = panels(gallery(x[0], x[1], methods=["cutout"], front_end=known))
        filled[name] = np.unique(content(cut)[content(weight) == 0])
    assert filled["floor"] == pytest.approx([front_end.pad_value])
    assert filled["zero"] == [0]


def test_the_front_end_of_waveforms_gives_seconds_and_no_floor():
    front_end = rma.LogMel()
    wave = torch.rand(2, 600) + 1
    ((_, _, _, cut),) = panels(gallery(wave[0], wave[1], methods=["cutout"], front_end=front_end))
    times, samples = cut.lines[0].get_data()
    assert times[-1] == pytest.approx(599 / 16000)
    assert samples.min() == 0


def test_methods_are_drawn_with_their_own_alpha_unless_one_is_given():
    for method in ("mixup", "comixup"):
        assert mixer_for(method).alpha == rma.build(method).alpha
        assert mixer_for(method, alpha=0.3).alpha == 0.3
    assert rma.build("comixup").alpha != rma.build("mixup").alpha
    mixer_for("cutout", alpha=0.3, variant="official")


def test_a_mixer_may_be_given_in_place_of_a_name():
    x = torch.rand(2, BINS, FRAMES)
    mixer = rma.Cutout(axes="time", count=2, size=0.2)
    ((_, _, weight, _),) = panels(gallery(x[0], x[1], methods=[mixer]))
    assert (content(weight) == content(weight)[:1]).all()
