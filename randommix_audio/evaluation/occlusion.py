"""Random zero blocks, the occlusion of the RandomMix paper's robustness experiment (section 3.2.1)."""

import torch
from torch import Tensor

from randommix_audio.evaluation.rows import integers


def zero_blocks(
    x: Tensor, keys: Tensor, *, size: tuple[float, float] = (0.5, 0.5), blocks: int = 1, fill: float = 0.0
) -> Tensor:
    """Cover rectangles of each picture with one value, at places that depend on the row's key alone.

    The paper says "filling random occlusion blocks with zeros" and gives neither number nor size. Fixed here: one block
    of half the height and half the width (16 x 16 of 32 x 32, a quarter of the picture), every place where it fits
    equally likely, the same on all channels. A size of (1, 0.2) covers a fifth of the time of a log-mel spectrogram in
    all bands, (0.2, 1) a fifth of the bands all the time.

    Args:
        x: (B, C, H, W) or (B, H, W), in a space where `fill` means nothing is there: pixels in [0, 1] with fill 0, or
            log-mel features with the front end's pad_value.
        keys: (B,) long of `row_keys`.
        size: Height and width of a block as fractions 0 .. 1 of the picture's, rounded to whole positions.
        blocks: How many are laid over each picture; they may overlap.
        fill: What stands in the blocks.

    Returns:
        A new tensor like x.

    Raises:
        ValueError: If a shape is wrong, a size lies outside 0 .. 1, or blocks is below 1.
    """
    if x.ndim not in (3, 4) or keys.shape != x.shape[:1]:
        raise ValueError(
            f"x must be (B, C, H, W) or (B, H, W) with keys (B,), got {tuple(x.shape)}, {tuple(keys.shape)}"
        )
    if not all(0 <= part <= 1 for part in size):
        raise ValueError(f"size must be two fractions 0 .. 1 of the picture, got {size}")
    if blocks < 1:
        raise ValueError(f"blocks must be at least 1, got {blocks}")
    covered = None
    for axis, part in enumerate(size):
        extent = x.shape[axis - 2]
        length = round(part * extent)
        start = integers(keys, 2 * blocks, extent - length + 1)[:, axis::2, None]  # (B, blocks, 1)
        place = torch.arange(extent, device=x.device)
        inside = (place >= start) & (place < start + length)  # (B, blocks, extent)
        covered = inside[..., None] if covered is None else covered & inside[..., None, :]
    assert covered is not None
    mask = covered.any(dim=1)  # (B, H, W)
    return x.masked_fill(mask if x.ndim == 3 else mask[:, None], fill)
