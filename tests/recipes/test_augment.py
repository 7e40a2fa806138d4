"""Augmentation of single clips."""

import pytest
import torch

import randommix_audio as rma
from recipes.speech_commands.augment import Augmentation, Augmenter, runs, warp

RATE = 1000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rate_one_and_no_shift_give_the_very_same_values():
    x = torch.randn(3, 5, 17, generator=generator())
    assert torch.equal(warp(x, torch.ones(3), torch.zeros(3), 0.0), x)


def test_a_shift_moves_right_or_left_and_fills_what_is_left_open():
    x = torch.arange(1.0, 6.0).expand(2, 1, 5)
    moved = warp(x, torch.ones(2), torch.tensor([2.0, -1.0]), -9.0)
    assert moved[:, 0].tolist() == [[-9, -9, 1, 2, 3], [2, 3, 4, 5, -9]]


def test_a_higher_rate_raises_the_pitch_by_that_factor():
    tone = torch.sin(2 * torch.pi * 50 * torch.arange(RATE) / RATE)
    faster = warp(tone[None, None], torch.tensor([1.2]), torch.zeros(1), 0.0)[0, 0]
    spoken = faster[: int(RATE / 1.2)]
    assert abs(int(torch.fft.rfft(spoken).abs().argmax()) * RATE / len(spoken) - 60) < 1
    assert (faster[int(RATE / 1.2) + 1 :] == 0).all()


def test_the_same_generator_gives_the_same_batch_and_the_input_stays():
    options = Augmentation(
        gain_p=0.5, gain=(0.5, 1.5), speed_p=0.5, speed=0.2, shift_p=1, shift_ms=100, noise_p=0.8, time_masks=1,
        time_mask=3, freq_masks=1, freq_mask=2,
    )  # fmt: skip
    augmenter = Augmenter(options, RATE, [torch.randn(2500), torch.randn(300)], "cpu")
    wave, x = torch.randn(7, RATE).clamp(-1, 1), torch.randn(7, 6, 11)
    kept = wave.clone(), x.clone()
    first = augmenter.wave(wave, generator(1)), augmenter.features(x, generator(1), -1.0)
    again = augmenter.wave(wave, generator(1)), augmenter.features(x, generator(1), -1.0)
    other = augmenter.wave(wave, generator(2)), augmenter.features(x, generator(2), -1.0)
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert torch.equal(wave, kept[0])
    assert torch.equal(x, kept[1])


def test_noise_reaches_the_rows_with_its_probability_and_never_above_its_gain():
    augmenter = Augmenter(Augmentation(noise_p=0.25, noise_gain=0.1), RATE, [torch.ones(5000)], "cpu")
    noisy = augmenter.wave(torch.zeros(4000, 8), generator())
    assert abs((noisy[:, 0] > 0).float().mean() - 0.25) < 0.03
    assert noisy.max() <= 0.1
    assert noisy.max() > 0.09


def test_noise_recordings_shorter_than_a_clip_are_repeated_and_never_run_into_each_other():
    augmenter = Augmenter(
        Augmentation(noise_p=1, noise_gain=1.0),
        RATE,
        [torch.full((30,), 0.25), torch.full((5000,), 0.5)],
        "cpu",
    )
    crops = augmenter._crops(200, 100, generator())
    assert set(crops.unique().tolist()) == {0.25, 0.5}
    assert (crops == crops[:, :1]).all()


def test_runs_have_all_lengths_up_to_the_longest_and_stay_inside():
    mask = runs(5000, 20, 1, 6, generator())
    assert set(mask.sum(1).tolist()) == set(range(7))
    assert mask[:, 0].any()
    assert mask[:, -1].any()
    assert not runs(10, 20, 0, 6, generator()).any()
    assert runs(50, 3, 1, 100, generator()).shape == (50, 3)


def test_moved_frames_leave_the_front_end_s_own_silence():
    augmenter = Augmenter(Augmentation(shift_frames_p=1, shift_frames=3), RATE, [], "cpu")
    bands = torch.tensor([1.0, 2.0])[:, None].expand(500, 2, 9)
    moved = augmenter.features(bands, generator(), -0.5)
    assert set(moved.unique().tolist()) == {-0.5, 1.0, 2.0}
    assert set((moved[:, 0] == -0.5).sum(1).tolist()) == {0, 1, 2, 3}


def test_a_silent_clip_stays_silent_when_its_frames_are_moved_or_stretched():
    front_end = rma.LogMel.preset("randommix")
    x = front_end(torch.cat([torch.zeros(40, 16000), torch.randn(3, 16000, generator=generator())]))
    options = Augmentation(shift_frames_p=1, shift_frames=8, stretch_p=1, stretch=0.2)
    moved = Augmenter(options, 16000, [], "cpu").features(x, generator(), front_end.pad_value)
    assert torch.equal(moved[:40], x[:40])
    assert (moved[40:] == front_end.pad_value).all(1).any()


def test_the_speed_lies_between_the_inverses_of_the_longest_and_the_shortest_clip():
    ramp = torch.arange(100.0).expand(2000, 100)
    changed = Augmenter(Augmentation(speed_p=1, speed=0.2), RATE, [], "cpu").wave(ramp, generator())
    speed = changed[:, 50] / 50
    assert speed.min() == pytest.approx(1 / 1.2, abs=1e-3)
    assert speed.max() == pytest.approx(1 / 0.8, abs=2e-3)
    assert abs((speed < 1).float().mean() - 0.5) < 0.04


@pytest.mark.parametrize("masks", ["time", "freq"])
def test_a_masked_part_takes_the_mean_of_its_clip(masks):
    options = Augmentation(**{f"{masks}_masks": 1, f"{masks}_mask": 4})
    x = torch.randn(20, 6, 9, generator=generator())
    changed = Augmenter(options, RATE, [], "cpu").features(x, generator(), 0.0)
    means = x.mean((1, 2))[:, None, None].expand_as(x)
    assert torch.equal(changed[changed != x], means[changed != x])
    assert (changed != x).any()
