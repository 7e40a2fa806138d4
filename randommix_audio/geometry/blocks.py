"""A grid of blocks over the valid part of a row, each with its own weights of the sources: Puzzle Mix, Co-Mixup."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from randommix_audio.geometry.base import Geometry, Size
from randommix_audio.geometry.powers import add_powers


@dataclass(frozen=True, eq=False)
class Blocks(Geometry):
    """Block weights of K sources, whose blocks may have been moved.

    A grid of nf x nt blocks spans all F bins and the first `both` frames of a row: bin f lies in block f nf // F, frame
    t in block t nt // both. Beyond `both`, and where a source has ended, the row itself takes the weight.

    Attributes:
        grid: (K, n, nf, nt) float32 weights, summing to 1 over K.
        both: (n,) long, frames that the grid spans; 0 for a row that is not mixed.
        valid: (K, n) long, valid frames of each source.
        moved: (K, n, nf nt) long, the source's block that stands in each block, counted along time first; None: every
            block stays where it is.
    """

    grid: Tensor
    both: Tensor
    valid: Tensor
    moved: Tensor | None = None

    @property
    def others(self) -> int:
        return self.grid.shape[0] - 1

    def weights(self, size: Size) -> Tensor:
        bins = block_of_bin(size.freq, self.grid.shape[2], self.grid.device)
        return self._limited(self._along_time(self.grid, size.time).index_select(2, bins), 1.0).unsqueeze(2)

    def areas(self, size: Size, both: Tensor) -> Tensor:
        blocks = self.grid.shape[3]
        edges = _first_place(torch.arange(blocks + 1, device=self.both.device), self.both[:, None], blocks)
        frames = torch.minimum(edges, self.valid[1:, :, None]).diff().float()
        bins = _bins_of_block(size.freq, self.grid.shape[2], self.grid.device)
        return torch.einsum("knft,f,knt->kn", self.grid[1:], bins, frames)

    def label_weights(self, size: Size) -> Tensor:
        bands = _bins_of_block(size.freq, self.grid.shape[2], self.grid.device) / size.freq
        return self._limited(self._along_time(self.grid * bands[:, None], size.time), bands[:, None])

    def label_frames(self, size: Size) -> Tensor | None:
        if self.moved is None:
            return None
        frames = [self._source_frames(moved, size.time) for moved in self.moved]
        return torch.stack(frames)

    def warp(self, source: Tensor, k: int) -> Tensor:
        if self.moved is None:
            return source
        freq, time = source.shape[2:]
        bin_block = block_of_bin(freq, self.grid.shape[2], source.device)
        # Looked up in a table of each column's bins, so that little is as large as the batch.
        column = self._column(time)[:, None, :].expand(-1, freq, -1)
        index = (self._source_bins(self.moved[k], freq) * time).gather(2, column)
        index += self._source_frames(self.moved[k], time).index_select(1, bin_block)
        return source.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, source.shape[1], -1)).view_as(source)

    def mix(self, own: Tensor, *others: Tensor) -> Tensor:
        weights = self.weights(Size(*own.shape[1:]))
        if self.neper is not None:
            moved = [self.warp(source, k) for k, source in enumerate((own, *others))]
            return add_powers(moved, weights.unbind(), self.neper)
        weights = weights.to(own.dtype)
        mixed = torch.zeros_like(own)
        for k, source in enumerate((own, *others)):
            # What has no weight is left out: 0 times an infinite value is no number.
            mixed += (self.warp(source, k) * weights[k]).masked_fill_(weights[k] == 0, 0.0)
        return mixed

    def _along_time(self, per_block: Tensor, time: int) -> Tensor:
        """Spread (K, n, nf, nt) over the frames, (K, n, nf, T)."""
        index = block_of_frame(time, self.grid.shape[3], self.both)[None, :, None, :]
        return per_block.gather(3, index.expand(*per_block.shape[:3], -1))

    def _limited(self, weights: Tensor, whole: Tensor | float) -> Tensor:
        """Give the row itself what sources that have ended leave, and `whole` beyond the grid; (K, n, rows, T)."""
        frames = torch.arange(weights.shape[3], device=weights.device)
        limit = torch.minimum(self.both, self.valid)[1:, :, None, None]
        others = torch.where(frames < limit, weights[1:], 0.0)
        rest = (weights[1:] - others).sum(0)
        own = torch.where(frames < self.both[:, None, None], weights[0] + rest, whole)
        return torch.cat([own[None], others])

    def _source_frames(self, moved: Tensor, time: int) -> Tensor:
        """The frame of the source that stands at each frame of each band of blocks, (n, nf, T) long."""
        bands, blocks = self.grid.shape[2:]
        edges = _first_place(torch.arange(blocks + 1, device=moved.device), self.both[:, None], blocks)
        edges = edges[:, None, :].expand(-1, bands, -1)
        source = moved.view(-1, bands, blocks) % blocks
        first, end = edges.gather(2, source), edges.gather(2, source + 1)
        shift, last = _beyond(first - edges[:, :, :-1], 0), _beyond((end - 1).clamp(min=0), time - 1)
        column = self._column(time)[:, None, :].expand(-1, bands, -1)
        return torch.minimum(shift.gather(2, column) + torch.arange(time, device=moved.device), last.gather(2, column))

    def _source_bins(self, moved: Tensor, freq: int) -> Tensor:
        """The bin of the source that stands at each bin of each column of blocks, and beyond, (n, F, nt + 1) long."""
        bands, blocks = self.grid.shape[2:]
        edges = _first_place(torch.arange(bands + 1, device=moved.device), freq, bands)
        source = moved.view(-1, bands, blocks) // blocks
        shift = _beyond(edges[source] - edges[:-1, None], 0)
        last = _beyond((edges[source + 1] - 1).clamp(min=0), freq - 1)
        band = block_of_bin(freq, bands, moved.device)
        bins = torch.arange(freq, device=moved.device)[:, None]
        return torch.minimum(shift.index_select(1, band) + bins, last.index_select(1, band))

    def _column(self, time: int) -> Tensor:
        """The column of blocks that each frame lies in, nt beyond the grid, (n, T) long."""
        blocks = self.grid.shape[3]
        inside = torch.arange(time, device=self.both.device) < self.both[:, None]
        return torch.where(inside, block_of_frame(time, blocks, self.both), blocks)


def pool_blocks(values: Tensor, bands: int, blocks: int, both: Tensor) -> Tensor:
    """Sum values over the blocks of a grid.

    Args:
        values: (n, ..., F, T).
        bands: nf, blocks along frequency.
        blocks: nt, blocks along time.
        both: (n,) long, the frames that each row's grid spans; those beyond are left out.

    Returns:
        (n, ..., nf, nt); a block without bins or frames has 0.
    """
    freq, time = values.shape[-2:]
    of_frame = block_of_frame(time, blocks, both)
    inside = torch.arange(time, device=values.device) < both[:, None]
    along_time = torch.zeros(*of_frame.shape, blocks, dtype=values.dtype, device=values.device)
    along_time.scatter_(2, of_frame[..., None], inside[..., None].to(values.dtype))  # (n, T, nt)
    along_freq = torch.zeros(bands, freq, dtype=values.dtype, device=values.device)
    along_freq.scatter_(0, block_of_bin(freq, bands, values.device)[None], 1.0)
    shape = values.shape
    return along_freq @ (values.reshape(shape[0], -1, time) @ along_time).view(*shape[:-1], blocks)


def block_sizes(freq: int, bands: int, blocks: int, both: Tensor) -> Tensor:
    """The number of bins times frames of each block, (n, nf, nt) float32; see `pool_blocks`."""
    edges = _first_place(torch.arange(blocks + 1, device=both.device), both[:, None], blocks)
    return _bins_of_block(freq, bands, both.device)[:, None] * edges.diff().float()[:, None, :]


def block_of_bin(freq: int, bands: int, device: torch.device) -> Tensor:
    """The block along frequency of each bin, (F,) long."""
    return torch.arange(freq, device=device) * bands // freq


def block_of_frame(time: int, blocks: int, both: Tensor) -> Tensor:
    """The block along time of each frame, (n, T) long; of frames beyond `both`, (n,), the last one."""
    frames = torch.arange(time, device=both.device)
    return (frames * blocks // both.clamp(min=1)[:, None]).clamp(max=blocks - 1)


def _beyond(table: Tensor, value: int) -> Tensor:
    """Append a column for the frames beyond the grid, (n, nf, nt + 1)."""
    return F.pad(table, [0, 1], value=value)


def _bins_of_block(freq: int, bands: int, device: torch.device) -> Tensor:
    edges = _first_place(torch.arange(bands + 1, device=device), freq, bands)
    return edges.diff().float()


def _first_place(block: Tensor, size: Tensor | int, blocks: int) -> Tensor:
    """The first of `size` places that lies in a block: place p lies in block p blocks // size."""
    return (block * size + blocks - 1) // blocks
