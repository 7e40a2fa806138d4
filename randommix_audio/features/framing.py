"""From a batch of waveforms to windowed frames, each row as if it stood alone."""

import torch
from torch import Tensor

WINDOWS = ("hann", "hamming", "povey")
PAD_MODES = ("reflect", "constant")


def analysis_window(name: str, win_length: int, frame_length: int, periodic: bool) -> Tensor:
    """The window of a frame: ``win_length`` samples in the middle of ``frame_length``, zeros around them.

    Args:
        name: "hann", "hamming" or "povey" (hann to the power 0.85, Kaldi's).
        win_length: Length of the window in samples.
        frame_length: Length of the frame in samples, at least win_length.
        periodic: True for the window of torch.stft, False for the symmetric one of Kaldi and NeMo.

    Returns:
        (frame_length,) float32.

    Raises:
        ValueError: If the name is unknown.
    """
    if name == "hann":
        window = torch.hann_window(win_length, periodic=periodic)
    elif name == "hamming":
        window = torch.hamming_window(win_length, periodic=periodic)
    elif name == "povey":
        window = torch.hann_window(win_length, periodic=periodic).pow(0.85)
    else:
        raise ValueError(f"window {name!r} is unknown; choose from {', '.join(WINDOWS)}")
    left = (frame_length - win_length) // 2
    return torch.cat([torch.zeros(left), window, torch.zeros(frame_length - win_length - left)])


def reflected_index(position: Tensor, length: Tensor) -> Tensor:
    """Where a position outside 0 .. length - 1 falls when a signal is mirrored at its ends, again and again.

    Args:
        position: Integer positions, any shape.
        length: Number of samples, broadcastable to position; 0 and 1 give index 0.

    Returns:
        Indices in 0 .. length - 1, as ``numpy.pad(mode="reflect")`` takes them.
    """
    last = (length - 1).clamp(min=0)
    period = (2 * last).clamp(min=1)
    phase = torch.remainder(position, period)
    return torch.minimum(phase, period - phase)


def pad_edges(wave: Tensor, left: int, right: int, mode: str, lengths: Tensor | None = None) -> Tensor:
    """Extend every row at its own two ends.

    Args:
        wave: (B, N), already zero beyond each row's length.
        left: Samples put before the first one.
        right: Samples put after the row's last one.
        mode: "reflect" or "constant" (zeros).
        lengths: (B,) samples of each row; None means N for all.

    Returns:
        (B, left + N + right); what lies beyond a row's own right edge is zero.
    """
    rows, samples = wave.shape
    if mode == "constant":
        return torch.cat([wave.new_zeros(rows, left), wave, wave.new_zeros(rows, right)], dim=1)
    length = torch.full((1, 1), samples, device=wave.device) if lengths is None else lengths[:, None]
    before, after, end = mirrored_edges(left, right, length)
    if lengths is None:
        return torch.cat([wave[:, before[0]], wave, wave[:, after[0]]], dim=1)
    head, tail = wave.gather(1, before), wave.gather(1, after)
    extended = torch.cat([head, wave, wave.new_zeros(rows, right)], dim=1)
    return extended.scatter(1, left + end, tail)


def mirrored_edges(left: int, right: int, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which samples of a row lie mirrored beyond its two ends.

    Args:
        left: Positions before the first sample.
        right: Positions after the last one.
        length: (B, 1) samples of each row.

    Returns:
        The samples for the positions before (B, left) and after (B, right), and the positions after (B, right).
    """
    end = torch.arange(right, device=length.device) + length
    start = torch.arange(-left, 0, device=length.device).expand(len(length), left)
    return reflected_index(start, length), reflected_index(end, length), end


def emphasise_wave(wave: Tensor, coefficient: float) -> Tensor:
    """y[n] = x[n] - coefficient * x[n - 1] over a (B, N) batch; the first sample is kept (NeMo)."""
    return torch.cat([wave[:, :1], wave[:, 1:] - coefficient * wave[:, :-1]], dim=1)


def emphasise_frames(frames: Tensor, coefficient: float) -> Tensor:
    """The same inside every frame (..., samples); the first sample is its own predecessor (Kaldi)."""
    previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    return frames - coefficient * previous


def condition_frames(frames: Tensor, remove_dc: bool, preemphasis: float) -> Tensor:
    """What is done to frames (..., samples) before the window: their mean subtracted, then emphasise_frames."""
    if remove_dc:
        frames = frames - frames.mean(dim=-1, keepdim=True)
    return emphasise_frames(frames, preemphasis) if preemphasis else frames
