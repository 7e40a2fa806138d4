"""Log-mels on a CUDA device: those of the CPU, in float32, without waiting."""

import pytest
import torch

import randommix_audio as rma
from randommix_audio.features.presets import PRESETS
from tests.devices import waiting_is_an_error

pytestmark = [pytest.mark.cuda, pytest.mark.filterwarnings("ignore:Empty filters")]


def noise() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(5, 16000, generator=generator), torch.tensor([16000, 12001, 7000, 3000, 16000])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("autocast", [False, True])
def test_features_are_those_of_the_cpu_whatever_autocast_says(preset, autocast):
    wave, lengths = noise()
    logmel = rma.LogMel.preset(preset)
    here, frames = logmel(wave, lengths)
    with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
        there, on_device = logmel.cuda()(wave.cuda(), lengths.cuda())
    assert there.dtype == torch.float32
    assert torch.equal(on_device.cpu(), frames)
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=5e-3)


def test_tf32_products_do_not_reach_the_filter_bank():
    wave, _ = noise()
    logmel = rma.LogMel.preset("whisper")
    here = logmel(wave)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        there = logmel.cuda()(wave.cuda())
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-3)


def test_whole_numbers_give_the_features_of_their_floats():
    wave, _ = noise()
    whole = (32768 * wave).round().clamp(-32768, 32767).short()
    logmel = rma.LogMel().cuda()
    torch.testing.assert_close(logmel(whole.cuda()), logmel(whole.cuda().float() / 32768), rtol=1e-5, atol=1e-4)


def test_features_are_made_without_waiting():
    wave, lengths = (tensor.cuda() for tensor in noise())
    logmel = rma.LogMel().cuda()
    logmel(wave, lengths)
    with waiting_is_an_error():
        logmel(wave, lengths)
