"""Batches on their way to a CUDA device."""

import pytest
import torch

import randommix_audio as rma
from randommix_audio.data import Prefetch

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize("ahead", [1, 2, 4])
@pytest.mark.parametrize("pinned", [False, True])
def test_batches_prepared_ahead_are_the_ones_prepared_in_turn(ahead, pinned):
    """A model that is slow on the device, memory that is used again at once: a missing wait would show."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(64, 16000, generator=generator) for _ in range(12)]
    batches = [wave.pin_memory() for wave in batches] if pinned else batches
    logmel = rma.LogMel().cuda()
    expected = [logmel(wave.cuda()) for wave in batches]
    product = torch.randn(4096, 4096, device="cuda")
    differences = []
    for number, x in enumerate(Prefetch(batches, "cuda", logmel, ahead=ahead)):
        for _ in range(4):
            product = (product @ product).tanh()
        differences.append((x - expected[number]).abs().max())
        del x
    assert len(differences) == len(batches)
    assert float(torch.stack(differences).max()) == 0.0
