"""The CPU works through a batch in blocks: the values of the plain path, and little memory."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from randommix_audio.features import LogMel, blocks
from randommix_audio.features.presets import PRESETS

pytestmark = pytest.mark.filterwarnings("ignore:Empty filters")


def noise(rows: int, samples: int) -> Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))


def plainly(logmel: LogMel, wave: Tensor, *lengths: Tensor) -> Any:
    """What the path gives that autograd takes."""
    logmel.bank.requires_grad_()
    try:
        found = logmel(wave, *lengths)
    finally:
        logmel.bank.requires_grad_(False)
    return (found[0].detach(), found[1]) if lengths else found.detach()


class Storages(TorchDispatchMode):
    """The bytes of every storage that an operation wrote into, and of the largest complex one."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.complex = 0

    def __torch_dispatch__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.sizes[storage.data_ptr()] = max(storage.nbytes(), self.sizes.get(storage.data_ptr(), 0))
                self.complex = max(self.complex, storage.nbytes() if tensor.is_complex() else 0)
        return found


@pytest.mark.parametrize("block", [2**13, 2**18])
@pytest.mark.parametrize("name", PRESETS)
def test_blocks_of_any_size_give_the_values_of_the_plain_path(
    name: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_SAMPLES", block)
    logmel = LogMel.preset(name)
    wave, lengths = noise(7, 7013), torch.tensor([7013, 4001, 1, 2048, 513, 0, 7000])
    integers = (wave * 30000).round().clamp(-32768, 32767).to(torch.int16)
    for batch in (wave, integers, wave[:, ::2], wave[:, :3000].double()):
        torch.testing.assert_close(logmel(batch), plainly(logmel, batch), rtol=0, atol=1e-4)
    for batch in (wave, integers):
        x, frames = logmel(batch, lengths)
        expected, expected_frames = plainly(logmel, batch, lengths)
        assert torch.equal(frames, expected_frames)
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_fft", [1, 2, 37, 512])
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_clips_shorter_than_the_edge_odd_transforms_and_blocks_of_one_frame_too(
    n_fft: int, pad_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_SAMPLES", 1)
    logmel = LogMel(n_fft=n_fft, hop_length=3, n_mels=2, pad_mode=pad_mode, wave_scale=3.0, preemphasis=0.5)
    for wave in (noise(3, 5), noise(1, 300)):
        torch.testing.assert_close(logmel(wave), plainly(logmel, wave), rtol=0, atol=1e-4)


def test_a_batch_without_rows_has_features_without_rows() -> None:
    x, frames = LogMel()(noise(0, 16000), torch.zeros(0, dtype=torch.long))
    assert (x.shape, frames.shape) == ((0, 80, 101), (0,))


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("rows, samples", [(64, 16000), (1, 1024000)])
def test_beside_the_features_no_tensor_is_larger_than_a_block_or_a_row(
    rows: int, samples: int, with_lengths: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_SAMPLES", 2**16 // torch.get_num_threads())
    logmel, wave = LogMel(n_fft=512, win_length=400), (noise(rows, samples) * 30000).to(torch.int16)
    lengths = [torch.full((rows,), samples - 5)] if with_lengths else []
    with Storages() as blockwise:
        x = logmel(wave, *lengths)[0] if with_lengths else logmel(wave)
    with Storages() as plain:
        plainly(logmel, wave, *lengths)
    for known in (wave, x):
        blockwise.sizes.pop(known.untyped_storage().data_ptr(), None)
    block, row, levels = 4 * 2**16, 4 * (samples + 512), 4 * x[0].numel()
    assert max(blockwise.sizes.values()) < 1.1 * max(block, row, levels)
    assert blockwise.complex < 1.1 * block
    assert plain.complex > 10 * blockwise.complex


def test_a_wave_with_gradient_takes_the_plain_path_and_one_without_grad_mode_the_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logmel, wave = LogMel(), noise(2, 3000).requires_grad_()
    taken: list[str] = []
    original = blocks.mel_power
    monkeypatch.setattr(blocks, "mel_power", lambda *a: (taken.append("blocks"), original(*a))[1])
    x = logmel(wave)
    assert (x.requires_grad, taken) == (True, [])
    with torch.no_grad():
        torch.testing.assert_close(logmel(wave), x.detach(), rtol=0, atol=1e-5)
    with torch.inference_mode():
        logmel(wave)
    assert taken == ["blocks", "blocks"]


def test_a_filter_bank_that_is_learned_gets_its_gradient() -> None:
    logmel = LogMel()
    logmel.bank.requires_grad_()
    logmel(noise(2, 3000)).sum().backward()
    assert logmel.bank.grad is not None
    assert logmel.bank.grad.abs().max() > 0


def test_a_bank_that_is_changed_or_replaced_is_the_one_applied() -> None:
    logmel, wave = LogMel(), noise(2, 3000)
    before = logmel.to_power(logmel(wave))
    logmel.bank[150] += 1.0  # every band hears this bin now
    changed = logmel(wave)
    assert (logmel.to_power(changed) > 1.01 * before).any(dim=2).all()
    torch.testing.assert_close(changed, plainly(logmel, wave), rtol=0, atol=1e-5)
    logmel.bank = logmel.bank.flip(0).contiguous()
    torch.testing.assert_close(logmel(wave), plainly(logmel, wave), rtol=0, atol=1e-5)


def test_function_transforms_and_forward_derivatives_see_every_step() -> None:
    logmel, wave, direction = LogMel(), noise(3, 2000), noise(3, 2000).flip(1)
    batched = torch.func.vmap(lambda row: logmel(row[None])[0])(wave)
    torch.testing.assert_close(batched, logmel(wave), rtol=0, atol=1e-5)
    _, slope = torch.func.jvp(logmel, (wave,), (direction,))
    near = (logmel((wave + 1e-3 * direction).double()) - logmel((wave - 1e-3 * direction).double())) / 2e-3
    assert torch.quantile((slope - near).abs(), 0.5) < 1e-2
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(wave, direction)
        tangent = torch.autograd.forward_ad.unpack_dual(logmel(dual)).tangent
    torch.testing.assert_close(tangent, slope)
    gradient = torch.func.grad(lambda w: logmel(w).sum())(wave)
    assert gradient.abs().max() > 0


def test_a_fake_wave_gives_fake_features_of_the_right_shape() -> None:
    logmel = LogMel()
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert logmel(torch.zeros(3, 16000)).shape == (3, 80, 101)


@pytest.mark.parametrize("name", PRESETS)
def test_the_slices_hold_all_weight_of_the_bank_and_few_bins_more(name: str) -> None:
    bank = LogMel.preset(name).bank
    rest = bank.clone()
    touched = 0
    for bins, bands in blocks.band_slices(bank):
        rest[bins, bands] = 0
        touched += bank[bins, bands].numel()
    assert (rest == 0).all()
    assert touched < 0.7 * bank.numel()


def test_bands_without_weight_are_silent() -> None:
    assert blocks.band_slices(torch.zeros(5, 3)) == [(slice(0, 1), slice(0, 2)), (slice(0, 1), slice(2, 3))]
