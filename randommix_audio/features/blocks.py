"""The mel power of a batch on the CPU, block by block.

Taken step by step, the frames, the complex spectrum and the power of a whole batch pass through main memory: for one
second in frames of 512 with a hop of 160 about 17 times the samples themselves. A block is so small that all of this
stays in the cache, and its buffers serve all blocks; an int16 batch becomes float32 a block at a time. The filter bank
is applied as what it is, a band matrix: some bands at once, on the bins that they weigh.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from randommix_audio.features import framing

if TYPE_CHECKING:
    from randommix_audio.features.logmel import LogMel

# For each thread: 1,024 frames of 512 samples; with their spectrum and power 5.2 MB. A quarter of it was a tenth slower
# on two cores with 1 MB of second-level and 32 MB of third-level cache. Smaller blocks also make threads wait for each
# other more often, which costs most where other processes want the cores too.
BLOCK_SAMPLES = 2**19
# Fewer touch fewer bins without weight, more make a product worth calling. Two products are the least.
BANDS_AT_ONCE = 40
# MKL sums the products of fewer columns in another order: with so many a row's bits do not hang on its batch.
LEAST_FRAMES = 16
INT16_SCALE = 2.0**-15


def is_plain(wave: Tensor) -> bool:
    """Whether it holds values in memory: no FakeTensor or other subclass, and nothing is being traced."""
    return type(wave) in (Tensor, torch.nn.Parameter) and torch._C._get_tracing_state() is None


def is_tracked(*tensors: Tensor) -> bool:
    """Whether what is done to them is recorded or transformed: by autograd, forward-mode AD or torch.func."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return True
    return torch.autograd.forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def band_slices(bank: Tensor) -> list[tuple[slice, slice]]:
    """Bins and bands of the blocks of a filter bank that hold all of its weight.

    Args:
        bank: (bins, bands) on the CPU.

    Returns:
        For up to BANDS_AT_ONCE neighbouring bands the smallest range of bins outside which they weigh nothing; one
        bin where they weigh none.
    """
    slices, step = [], min(BANDS_AT_ONCE, -(-bank.shape[1] // 2))
    for first in range(0, bank.shape[1], step):
        bands = slice(first, min(first + step, bank.shape[1]))
        weighed = [0, *bank[:, bands].any(dim=1).nonzero().flatten().tolist()]
        slices.append((slice(weighed[1] if len(weighed) > 1 else 0, weighed[-1] + 1), bands))
    return slices


def mel_power(
    front_end: "LogMel", wave: Tensor, lengths: Tensor | None, n_frames: int, slices: list[tuple[slice, slice]]
) -> Iterator[tuple[slice, Tensor]]:
    """The mel power of some rows after the other.

    Args:
        front_end: What the frames and the bands are.
        wave: (B, N) float or int16 on the CPU.
        lengths: (B,) long samples of each row; None means N for all.
        n_frames: T, the frames of N samples.
        slices: band_slices of the bank.

    Yields:
        The rows, and their mel power (rows, F, T) float32. The next block overwrites it.
    """
    batch, n_fft, n_mels = wave.shape[0], front_end.n_fft, front_end.n_mels
    capacity = max(1, BLOCK_SAMPLES * torch.get_num_threads() // n_fft)
    rows_at_once = max(1, min(batch, capacity // n_frames))
    frames_at_once = -(-n_frames // -(-n_frames // capacity))  # a row longer than a block is cut into equal pieces
    most = rows_at_once * frames_at_once
    window = front_end.window
    scale = front_end.wave_scale * (INT16_SCALE if wave.dtype == torch.int16 else 1.0)
    window, length = window if scale == 1.0 else window * scale, window.shape[0]
    weights = front_end.bank.T
    filters = [(bins, bands, weights[bands, bins]) for bins, bands in slices]
    padded_rows = PaddedRows(front_end, wave, lengths, rows_at_once)
    windowed = window.new_zeros(most, n_fft)  # stays zero beyond the window
    power = window.new_zeros(max(most, LEAST_FRAMES), n_fft // 2 + 1)
    mel = window.new_empty(n_mels, rows_at_once * n_frames + LEAST_FRAMES)
    for first in range(0, batch, rows_at_once):
        rows = slice(first, min(first + rows_at_once, batch))
        count = rows.stop - first
        frames = padded_rows.fill(rows).unfold(1, length, front_end.hop_length)
        for start in range(0, n_frames, frames_at_once):
            stop = min(start + frames_at_once, n_frames)
            size = count * (stop - start)
            piece = framing.condition_frames(frames[:, start:stop], front_end.remove_dc, front_end.frame_preemphasis)
            torch.mul(piece, window, out=windowed[:size].view(count, stop - start, n_fft)[:, :, :length])
            parts = torch.view_as_real(torch.fft.rfft(windowed[:size]))  # (frames, bins, 2)
            parts.mul_(parts)
            torch.add(parts[:, :, 0], parts[:, :, 1], out=power[:size])
            # only a row on its own is cut into pieces, so the frames of several rows follow each other in mel
            wide = max(size, LEAST_FRAMES)
            spectra, levels = power[:wide].T, mel[:, start : start + wide]
            for bins, bands, weight in filters:
                torch.mm(weight, spectra[bins], out=levels[bands])
        yield rows, mel[:, : count * n_frames].unflatten(1, (count, n_frames)).transpose(0, 1)


class PaddedRows:
    """Some rows of a batch after the other as float32, zero beyond their lengths, padded at their own two ends.

    What ``LogMel._prepare`` and ``framing.pad_edges`` make of the whole batch, but for the factor on the waveform.

    Args:
        front_end: How the edges are padded.
        wave: (B, N) float or int16 on the CPU.
        lengths: (B,) long samples of each row; None means N for all.
        at_once: Most rows that are asked for at once.
    """

    def __init__(self, front_end: "LogMel", wave: Tensor, lengths: Tensor | None, at_once: int) -> None:
        samples = wave.shape[1]
        # what mirrors the ends of shorter rows costs as much as one clip's features
        lengths = None if lengths is None or bool((lengths == samples).all()) else lengths
        self.wave, self.lengths, self.preemphasis = wave, lengths, front_end.wave_preemphasis
        self.edge = front_end.n_fft // 2 if front_end.center else 0
        self.mirrored = front_end.center and front_end.pad_mode == "reflect"
        self.padded = front_end.window.new_zeros(at_once, samples + 2 * self.edge)
        if lengths is None:
            return
        self.position = torch.arange(samples, dtype=torch.int32, device=wave.device)
        self.end = lengths[:, None].int()
        if self.mirrored:
            self.before, self.after, self.beyond = framing.mirrored_edges(self.edge, self.edge, lengths[:, None])

    def fill(self, rows: slice) -> Tensor:
        """(rows, edge + N + edge), overwritten by the next call."""
        wave = self.wave[rows]
        count, samples = wave.shape
        padded = self.padded[:count]
        left, inner, right = padded.split((self.edge, samples, self.edge), dim=1)
        inner.copy_(framing.emphasise_wave(wave.float(), self.preemphasis) if self.preemphasis else wave)
        if self.lengths is not None:
            shortest = int(self.end[rows].min())
            inner[:, shortest:].masked_fill_(self.position[shortest:] >= self.end[rows], 0.0)
        if not self.mirrored:
            return padded
        if self.lengths is not None:
            left.copy_(inner.gather(1, self.before[rows]))
            tail = inner.gather(1, self.after[rows])
            right.zero_()
            padded.scatter_(1, self.edge + self.beyond[rows], tail)
        elif samples > self.edge:
            left.copy_(inner[:, 1 : self.edge + 1].flip(1))
            right.copy_(inner[:, -self.edge - 1 : -1].flip(1))
        else:
            padded.copy_(framing.pad_edges(inner, self.edge, self.edge, "reflect"))
        return padded
