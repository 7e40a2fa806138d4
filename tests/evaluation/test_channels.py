import math

import pytest
import torch

from randommix_audio.evaluation import (
    band_limited,
    clipped,
    encoded,
    gained,
    mu_law,
    reverberated,
    room_responses,
    row_keys,
    shifted,
    white,
)

RATE = 8000


def keys(rows: int, name: str = "x") -> torch.Tensor:
    return row_keys(0, name, torch.arange(rows))


def tone(pitch: float, samples: int = RATE, level: float = 0.5) -> torch.Tensor:
    return level * torch.sin(2 * math.pi * pitch * torch.arange(samples).double() / RATE)[None].float()


@pytest.mark.parametrize("rt60", [0.2, 0.5, 1.0])
def test_reverberation_decays_by_60_decibels_in_rt60_by_schroeders_integral(rt60):
    tail = room_responses(keys(30), rt60, RATE).double()[:, 1:].square()
    left = 10 * (tail.flip(1).cumsum(1).flip(1).mean(0) / tail.sum(1).mean()).log10()
    start, end = (int((left < level).float().argmax()) for level in (-5, -25))
    assert 3 * (end - start) / RATE == pytest.approx(rt60, rel=0.05)


def test_the_direct_sound_is_kept_and_a_longer_reverberation_is_stronger():
    for rt60 in (0.2, 1.0):
        responses = room_responses(keys(4), rt60, RATE)
        assert responses.shape == (4, 1 + rt60 * RATE)
        assert responses[:, 0].tolist() == [1.0] * 4
        ratio = -10 * responses[:, 1:].square().sum(1).log10()
        torch.testing.assert_close(ratio, torch.full((4,), 10 * math.log10(0.16245 / rt60)), rtol=0, atol=0.01)
    assert not torch.allclose(responses[0], responses[1])


def test_reverberation_is_linear_convolution_cut_at_the_end_of_the_clip():
    wave, responses = white(keys(3), 101), room_responses(keys(3), 0.02, RATE)
    found = reverberated(wave, responses)
    for row in range(3):
        expected = torch.nn.functional.conv1d(wave[row][None, None], responses[row].flip(0)[None, None], padding=160)
        torch.testing.assert_close(found[row], expected[0, 0, :101], rtol=1e-4, atol=1e-5)


def test_gain_is_in_decibels_at_16_bits_and_full_scale_is_the_limit():
    wave = torch.tensor([[0.11, -0.3, 0.0]])
    torch.testing.assert_close(gained(wave, 20), torch.tensor([[32767 / 32768, -1.0, 0.0]]))
    torch.testing.assert_close(gained(wave, -20), wave / 10, rtol=0, atol=0.5 / 32768)
    torch.testing.assert_close(gained(wave, -80) * 32768, torch.tensor([[0.0, -1.0, 0.0]]))
    as_stored = torch.arange(-32768, 32768)[None] / 32768
    torch.testing.assert_close(gained(as_stored, 0.0), as_stored, rtol=0, atol=0)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_of_active_samples_is_clipped_whatever_silence_surrounds_them(share):
    wave = white(keys(4), RATE) * torch.tensor([0.1, 1.0, 0.01, 0.3])[:, None]
    wave[1:, 4000:] = 0
    cut = clipped(wave, share, RATE)
    changed = (cut != wave).sum(1) / torch.tensor([8000, 4000, 4000, 4000])
    torch.testing.assert_close(changed, torch.full((4,), share), rtol=0, atol=5e-4)
    level = cut.abs().amax(1, keepdim=True)
    torch.testing.assert_close(cut, wave.maximum(-level).minimum(level), rtol=0, atol=0)


def test_clipping_nothing_changes_nothing_and_silence_stays_silence():
    wave = white(keys(2), 400)
    torch.testing.assert_close(clipped(wave, 0.0, RATE), wave, rtol=0, atol=0)
    assert not clipped(torch.zeros(1, 400), 0.5, RATE).any()


def test_a_shift_moves_by_the_time_asked_for_in_either_direction_and_brings_zeros():
    wave = torch.arange(1.0, 101.0).expand(60, 100)
    moved = shifted(wave, keys(60), 0.00125, RATE)
    later = moved[:, 0] == 0
    assert 15 < later.sum() < 45
    for row in moved[later]:
        assert row.tolist() == [0.0] * 10 + wave[0, :90].tolist()
    for row in moved[~later]:
        assert row.tolist() == wave[0, 10:].tolist() + [0.0] * 10
    assert not shifted(wave, keys(60), 1.0, RATE).any()


def test_a_band_keeps_what_is_inside_and_takes_what_is_not():
    kept, lost = tone(1000), tone(200) + tone(3600)
    torch.testing.assert_close(band_limited(kept + lost, 300, 3400, RATE), kept, rtol=0, atol=1e-5)
    wave = white(keys(1), 801)
    torch.testing.assert_close(band_limited(wave, 0, 4000, RATE), wave, rtol=0, atol=1e-5)


def test_mu_law_has_the_levels_and_the_accuracy_of_its_bits():
    ramp = torch.linspace(-1.2, 1.2, 20001)[None]
    assert len(mu_law(ramp, 8).unique()) == 255
    assert len(mu_law(ramp, 4).unique()) == 15
    assert mu_law(torch.tensor([[0.0, 1.0, -1.0]]), 8).tolist() == [[0.0, 1.0, -1.0]]
    for level in (0.9, 0.05):  # the point of the logarithm: quiet speech is quantised as well as loud speech
        wave = tone(331, level=level)
        ratio = 10 * (wave.square().mean() / (mu_law(wave) - wave).square().mean()).log10()
        assert 34 < ratio < 41


def test_files_of_either_kind_come_back_in_place_and_as_long_as_they_were():
    time = torch.arange(8001) / RATE
    wave = torch.stack([0.4 * torch.sin(2 * math.pi * (200 + 900 * time) * time), 0.2 * torch.sin(2000 * time)])
    for kind in ("vorbis", "mp3"):
        errors = []
        for strength in (0.3, 0.9):
            back = encoded(wave, RATE, kind, strength)
            assert back.shape == wave.shape
            errors.append((back - wave).square().mean() / wave.square().mean())
        assert errors[0] < 0.05
        assert 0 < errors[0] < errors[1]
    with pytest.raises(ValueError, match="kind must be one of vorbis, mp3"):
        encoded(wave, RATE, "aac", 0.5)


def test_mistakes_are_named():
    wave = torch.zeros(1, 100)
    with pytest.raises(ValueError, match="rt60 must be above 0"):
        room_responses(keys(1), 0.0, RATE)
    with pytest.raises(ValueError, match="share must lie in"):
        clipped(wave, 1.5, RATE)
    with pytest.raises(ValueError, match="need 0 <= low < high"):
        band_limited(wave, 300, 200, RATE)
    with pytest.raises(ValueError, match="bits must be at least 2"):
        mu_law(wave, 1)
