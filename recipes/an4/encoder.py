"""A small convolutional CTC encoder: two strided convolutions, then residual blocks of depthwise convolutions.

The blocks are time-channel separable, as in QuartzNet (Kriman et al. 2020, "QuartzNet: Deep automatic speech
recognition with 1D time-channel separable convolutions"), and widen in the middle, as in ConvNeXt (Liu et al. 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def halved(lengths: Tensor) -> Tensor:
    """Frames behind a convolution of stride 2 that pads both ends: half, rounded up."""
    return (lengths + 1) // 2


class Block(nn.Module):
    """Depthwise convolution along time, batch norm, two pointwise layers, added to the input.

    Args:
        width: channels D.
        kernel: frames that the convolution sees, odd.
        expansion: how many times wider the middle is.
        dropout: probability of dropping a value of what is added.
    """

    def __init__(self, width: int, kernel: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.widen = nn.Conv1d(width, expansion * width, 1)
        self.narrow = nn.Conv1d(expansion * width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map (B, D, T) to (B, D, T); `valid` (B, 1, T) is 0 in padding, and so is the result."""
        y = self.norm(self.depthwise(x))
        y = self.narrow(F.silu(self.widen(y)))
        return x + self.dropout(y) * valid


class Encoder(nn.Module):
    """Log-mel frames to log-probabilities of symbols, one for each four frames.

    Padding is set to 0 before every convolution, which is what the convolutions themselves put beyond the ends: what
    the encoder says of a clip does not depend on how far it is padded.

    Args:
        n_mels: mel bands F.
        symbols: V, the blank included.
        width: channels D.
        blocks: residual blocks.
        kernel: frames (of 40 ms) that a block's convolution sees, odd.
        expansion: how many times wider the middle of a block is.
        dropout: probability of dropping a value inside the blocks.

    Raises:
        ValueError: for a number below 1, or an even kernel.
    """

    def __init__(
        self,
        n_mels: int,
        symbols: int,
        width: int = 192,
        blocks: int = 6,
        kernel: int = 15,
        expansion: int = 2,
        dropout: float = 0.15,
    ) -> None:
        super().__init__()
        numbers = {"n_mels": n_mels, "symbols": symbols, "width": width, "blocks": blocks, "expansion": expansion}
        for name, value in numbers.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        self.first = nn.Conv1d(n_mels, width, 7, stride=2, padding=3, bias=False)
        self.norm_first = nn.BatchNorm1d(width)
        self.second = nn.Conv1d(width, width, 5, stride=2, padding=2, bias=False)
        self.norm_second = nn.BatchNorm1d(width)
        self.blocks = nn.ModuleList(Block(width, kernel, expansion, dropout) for _ in range(blocks))
        self.head = nn.Conv1d(width, symbols, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Recognise a batch.

        Args:
            x: (B, T, F) features.
            lengths: (B,) valid frames.

        Returns:
            (B, T', V) log-probabilities in float32, T' = T / 4 rounded up, and (B,) valid frames of them.
        """
        x = x.transpose(1, 2)
        x = F.silu(self.norm_first(self.first(x * valid_frames(lengths, x))))
        lengths = halved(lengths)
        x = F.silu(self.norm_second(self.second(x * valid_frames(lengths, x))))
        lengths = halved(lengths)
        valid = valid_frames(lengths, x)
        x = x * valid
        for block in self.blocks:
            x = block(x, valid)
        return self.head(x).transpose(1, 2).float().log_softmax(-1), lengths


def valid_frames(lengths: Tensor, x: Tensor) -> Tensor:
    """(B, 1, T) of the dtype of x (B, D, T): 1 in valid frames, 0 in padding."""
    frames = torch.arange(x.shape[2], device=x.device)
    return (frames < lengths[:, None])[:, None].to(x.dtype)
