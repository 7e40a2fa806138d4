import pytest
import torch

from randommix_audio.evaluation import (
    active_power,
    active_samples,
    add_noise,
    babble,
    background,
    pink,
    row_keys,
    white,
)

RATE = 4000


def keys(rows: int, name: str = "x") -> torch.Tensor:
    return row_keys(0, name, torch.arange(rows))


def words(rows: int = 5, samples: int = 4010) -> torch.Tensor:
    """Tones of different levels and lengths in digital silence."""
    time = torch.arange(samples) / RATE
    level = torch.tensor([0.5, 0.01, 0.9, 0.2, 0.1])[:rows, None]
    begin = torch.tensor([0.1, 0.5, 0.0, 0.3, 0.2])[:rows, None]
    end = begin + torch.tensor([0.3, 0.02, 1.0, 0.08, 0.5])[:rows, None]
    inside = ((time + 1e-6) >= begin) & ((time + 1e-6) < end)
    return level * torch.sin(2 * torch.pi * 500 * time) * inside


def decibels(ratio: torch.Tensor) -> torch.Tensor:
    return 10 * ratio.log10()


def test_the_active_part_is_the_word_and_not_the_silence_around_it():
    active = active_samples(words(), RATE)
    assert active.sum(1).tolist() == [1200, 80, 4000, 320, 2000]  # the last 10 samples are no whole frame
    assert active.float().argmax(1).tolist() == [400, 2000, 0, 1200, 800]


def test_a_frame_20_decibels_below_the_loudest_is_the_quietest_that_counts():
    wave = torch.cat([torch.full((1, 80), level) for level in (1.0, 0.11, 0.09)], dim=1)
    assert active_samples(wave, RATE).unflatten(1, (3, 80))[:, :, 0].tolist() == [[True, True, False]]


def test_a_clip_shorter_than_a_frame_is_one_frame_and_zeros_are_never_active():
    assert active_samples(torch.ones(1, 33), RATE).all()
    assert not active_samples(torch.zeros(2, 400), RATE).any()
    assert active_power(torch.zeros(2, 400), RATE).tolist() == [0, 0]


@pytest.mark.parametrize("kind", [white, pink])
@pytest.mark.parametrize("snr", [20.0, 0.0, -5.0])
def test_the_ratio_is_the_one_asked_for_where_the_word_is(kind, snr):
    wave = words()
    noisy = add_noise(wave, 7 * kind(keys(5), wave.shape[1]), snr, RATE)
    noise = noisy - wave
    for row, (clean, added) in enumerate(zip(wave, noise, strict=True)):
        spoken = clean[active_samples(wave, RATE)[row]]
        assert decibels(spoken.square().mean() / added.square().mean()).item() == pytest.approx(snr, abs=0.1)


def test_rows_without_speech_or_without_noise_stay_as_they_are():
    wave = words(3)
    wave[1] = 0
    noise = white(keys(3), wave.shape[1])
    noise[2] = 0
    noisy = add_noise(wave, noise, -5.0, RATE)
    assert not torch.equal(noisy[0], wave[0])
    torch.testing.assert_close(noisy[1:], wave[1:], rtol=0, atol=0)


def slope(noise: torch.Tensor) -> float:
    """Decibels per decade by regression on the mean periodogram, each decade with equal weight."""
    power = decibels(torch.fft.rfft(noise).abs().square().mean(0))
    edges = torch.logspace(1, torch.log10(torch.tensor(len(power) - 2.0)).item(), 20).long()
    x, y = [], []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        x.append(torch.arange(low, high + 1).double().log10().mean())
        y.append(power[low : high + 1].double().mean())
    x, y = torch.stack(x), torch.stack(y)
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()


def test_white_noise_is_flat_and_pink_noise_falls_by_10_decibels_a_decade():
    assert slope(white(keys(300), 8001)) == pytest.approx(0, abs=0.3)
    assert slope(pink(keys(300), 8001)) == pytest.approx(-10, abs=0.3)
    assert pink(keys(3), 801).mean(1).abs().max() < 1e-6


def test_background_is_a_piece_of_a_recording_and_a_short_recording_is_repeated():
    recordings = [torch.arange(5000.0), 10000 + torch.arange(37.0)]
    crops = background(keys(400), recordings, 100)
    short = crops[:, 0] >= 10000
    assert 0.4 < short.float().mean() < 0.6
    assert (crops[~short].diff(dim=1) == 1).all()
    assert ((crops[short].diff(dim=1) == 1) | (crops[short].diff(dim=1) == -36)).all()
    first = crops[~short][:, 0]
    assert first.min() < 300
    assert 4600 < first.max() <= 4900
    quiet = background(keys(4), [torch.full((300,), 16384, dtype=torch.int16)], 100)
    torch.testing.assert_close(quiet, torch.full((4, 100), 0.5))


def test_a_recording_as_long_as_the_crop_fits_exactly():
    crops = background(keys(20), [torch.arange(100.0)], 100)
    torch.testing.assert_close(crops, torch.arange(100.0).expand(20, 100))


SPEAKER = torch.tensor([3, 9, 3, -1, 0, 9, 3, 5, -1])


def tones() -> torch.Tensor:
    """One pitch for each speaker, with a whole number of periods, so that rotation leaves it in its bin."""
    time = torch.arange(1000) / 1000
    pitch = torch.where(SPEAKER < 0, 30, 50 + 10 * SPEAKER)
    loud = torch.tensor([0.01, 0.9, 0.5, 0.3, 0.7, 0.2, 0.6, 0.05, 0.3])
    return loud[:, None] * torch.sin(2 * torch.pi * pitch[:, None] * time)


def heard(sum_of_tones: torch.Tensor) -> torch.Tensor:
    """(B, 5) strength of the tone of nobody and of the speakers 0, 3, 5 and 9."""
    return torch.fft.rfft(sum_of_tones).abs()[:, [30, 50, 80, 100, 140]] / 1000


def test_babble_is_the_voices_of_others_and_never_the_speakers_own():
    clips = tones()
    found = torch.zeros(9, 5)
    for draw in range(60):
        found = found.maximum(heard(babble(keys(9, f"{draw}"), SPEAKER, clips, SPEAKER, 1000)))
    expected = torch.ones(9, 5, dtype=torch.bool)
    expected[:, 0] = False  # silence has no voice
    for row, own in enumerate(SPEAKER.tolist()):
        if own >= 0:
            expected[row, [0, 3, 5, 9].index(own) + 1] = False
    assert ((found > 0.1) == expected).all()
    assert (found[~expected] < 1e-5).all()


def test_babble_voices_are_equally_loud_and_their_number_is_the_one_asked_for():
    energy = babble(keys(9), SPEAKER, tones(), SPEAKER, 1000, talkers=1).square().mean(1)
    torch.testing.assert_close(energy, torch.ones(9), rtol=1e-3, atol=0)


def test_each_other_clip_is_as_likely_in_babble():
    own = torch.full((4000,), 9)
    strength = heard(babble(row_keys(0, "x", torch.arange(4000)), own, tones(), SPEAKER, 1000, talkers=1))
    share = (strength > 0.1).float().mean(0)
    torch.testing.assert_close(share, torch.tensor([0, 1, 3, 1, 0]) / 5, rtol=0, atol=0.03)


def test_babble_needs_another_speaker():
    with pytest.raises(ValueError, match="at least two speakers"):
        babble(keys(2), torch.tensor([0, 0]), torch.rand(2, 100), torch.tensor([0, 0]), RATE)


def test_background_needs_recordings():
    for recordings in ([], [torch.zeros(0)]):
        with pytest.raises(ValueError, match="background needs recordings"):
            background(keys(2), recordings, 100)


def test_the_noise_of_a_row_does_not_depend_on_its_batch():
    clips = tones()
    for make in (
        lambda k, own: white(k, 101),
        lambda k, own: pink(k, 101),
        lambda k, own: background(k, [torch.rand(300, generator=torch.Generator().manual_seed(0))], 101),
        lambda k, own: babble(k, own, clips, SPEAKER, 1000),
    ):
        whole = make(keys(9), SPEAKER)
        order = torch.tensor([8, 2, 5])
        torch.testing.assert_close(make(keys(9)[order], SPEAKER[order]), whole[order], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(make(keys(9, "other"), SPEAKER), whole, atol=1e-3)


def test_recordings_of_floats_and_of_16_bits_are_equally_loud():
    sound = torch.randn(3000, generator=torch.Generator().manual_seed(0)) / 8
    whole = (32768 * sound).round().clamp(-32768, 32767).short()
    torch.testing.assert_close(
        background(keys(20), [sound, whole], 900), background(keys(20), [sound, sound], 900), rtol=0, atol=1e-4
    )
