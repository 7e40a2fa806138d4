"""The rows that a geometry is drawn for, what is drawn for them, and what share of each source comes of it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from randommix_audio.draws import Draws
from randommix_audio.geometry import Geometry, Size, Span
from randommix_audio.saliency import SaliencyOfBatch

LengthPolicy = Literal["longest", "shortest", "anchor"]


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that a geometry is drawn for.

    Attributes:
        count: The number of rows n.
        size: Channels, frequency bins and frames of the batch.
        index: (n,) long, where the rows stand in the batch.
        partner_index: (n,) long, where their partners stand.
        lengths: (n,) long, valid frames of each row; None: all of them.
        partner_lengths: (n,) long, valid frames of its partner; None: all of them.
        mixed: (n,) bool, whether the row is mixed at all; None: every row is.
        each: Whether every row has a lambda, box or mask of its own.
        longest_pair: Frames that two rows of the batch have together at most, as far as the host knows.
        x: (B, C, F, T) the whole batch; only methods that follow saliency read its values.
        saliency: What is salient in the whole batch, computed when first asked for.
    """

    count: int
    size: Size
    index: Tensor
    partner_index: Tensor
    lengths: Tensor | None
    partner_lengths: Tensor | None
    mixed: Tensor | None
    each: bool
    longest_pair: int
    x: Tensor
    saliency: SaliencyOfBatch

    @property
    def freq(self) -> int:
        """Frequency bins F."""
        return self.size.freq

    @property
    def time(self) -> int:
        """Frames T."""
        return self.size.time

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the mix will be computed in."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """The device of the batch."""
        return self.x.device

    @property
    def ragged(self) -> bool:
        """Whether lengths were given."""
        return self.lengths is not None

    @property
    def alike(self) -> bool:
        """Whether every row is mixed over all its frames, so that one number can serve all rows."""
        return self.lengths is None and self.mixed is None

    @cached_property
    def own(self) -> Tensor:
        """(n,) long, valid frames of each row."""
        return torch.full((self.count,), self.time, device=self.device) if self.lengths is None else self.lengths

    @property
    def partner(self) -> Tensor:
        """(n,) long, valid frames of the partner of each row."""
        return self.own if self.partner_lengths is None else self.partner_lengths

    @cached_property
    def both(self) -> Tensor:
        """(n,) long, frames over which the row is mixed: where both are valid, or 0 where the row is not mixed."""
        both = torch.minimum(self.own, self.partner) if self.ragged else self.own
        return both if self.mixed is None else both * self.mixed

    def take(self, rows: Tensor) -> "Rows":
        """The chosen rows, (m,) long."""
        return replace(
            self,
            count=rows.shape[0],
            index=self.index[rows],
            partner_index=self.partner_index[rows],
            lengths=None if self.lengths is None else self.lengths[rows],
            partner_lengths=None if self.partner_lengths is None else self.partner_lengths[rows],
            mixed=None if self.mixed is None else self.mixed[rows],
        )

    def span(self, policy: str, fill: float) -> Span | None:
        """What happens along time for methods that mix every frame; see `Mixup` for the policies."""
        if not self.ragged:
            return None
        both = self.both
        if policy == "anchor":
            return Span(self.own, torch.where(self.partner <= self.own, both, 0), self.own)
        out = torch.maximum(self.own, self.partner) if policy == "longest" else both
        out = out if self.mixed is None else torch.where(self.mixed, out, self.own)
        return Span(self.own, both, out, fill if policy == "shortest" else None)


class Drawn(NamedTuple):
    """What a mixer drew for some rows.

    Attributes:
        geometry: How they are laid over their partners.
        out: (n,) long, valid frames of the output; None: those of the rows.
        candidates: Names of the methods that were drawn from.
        of_row: (n,) long on the CPU, which of them mixes each row; None where one mixes all.
        sources: (J, n) long, the rows of the batch that are mixed in, where these are not the partners alone.
    """

    geometry: Geometry
    out: Tensor | None
    candidates: tuple[str, ...]
    of_row: Tensor | None = None
    sources: Tensor | None = None


def longest_pair_of(lengths: Tensor | None, time: int) -> int:
    """What the two longest rows have together, if their lengths are on the host; else 2 T."""
    if type(lengths) is not Tensor or lengths.device.type != "cpu" or lengths.ndim != 1 or len(lengths) < 2:
        return 2 * time
    return min(int(lengths.topk(2).values.sum()), 2 * time)


def choose_rows(p: float, batch: int, draws: Draws, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Choose round(p * B) rows at random, of the allowed ones alone.

    Returns:
        (m,) long, rows among which are all that are chosen; and (B,) bool, whether each row is. None for every row.
    """
    if p >= 1:
        return None, rows
    order = draws.permutation(batch)
    if rows is None:
        chosen = order[: round(p * batch)]
        return chosen, torch.zeros(batch, dtype=torch.bool, device=draws.device).index_fill_(0, chosen, True)
    # How many rows are allowed is known to the device alone: the first round(p * B) in order hold all that are chosen.
    order = order[(~rows)[order].to(torch.uint8).argsort(stable=True)]
    wanted = draws.from_host([round(p * allowed) for allowed in range(batch + 1)])
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(batch, device=draws.device))
    return order[: round(p * batch)], rows & (rank < wanted.gather(0, rows.sum().view(1)))


def measure_share(geometry: Geometry, rows: Rows, out: Tensor | None, source_count: int) -> Tensor:
    """Mean weight of K sources over the valid positions of the output, (K, n) float32, columns summing to 1."""
    known = geometry.known_share(rows.size)
    if known is not None:
        share = torch.full((source_count, rows.count), 1 - known, device=rows.device)
        share[1].fill_(known)
        if source_count > 2:
            share[2:].fill_(0.0)
        return share
    areas = geometry.areas(rows.size, rows.both)
    frames: Tensor | int = rows.time
    out = rows.own if out is None else out
    if out is not rows.own or rows.ragged:
        areas, frames = _with_frames_alone(areas.expand(-1, rows.count), geometry, rows, out), out.clamp(min=1)
    others = (areas / (rows.freq * frames)).clamp(0, 1)
    own = 1 - others if others.shape[0] == 1 else (1 - others.sum(0, keepdim=True)).clamp(min=0)
    unused = others.new_zeros(source_count - 1 - others.shape[0], others.shape[1])
    return torch.cat([own, others, unused]).expand(-1, rows.count).contiguous()


def _with_frames_alone(areas: Tensor, geometry: Geometry, rows: Rows, out: Tensor) -> Tensor:
    """Count the frames that a partner has for itself, where it goes on after the row has ended, to its area."""
    if areas.shape[0]:
        alone = rows.freq * (out - rows.own).clamp(min=0)
        joined = geometry.joined()
        alone = alone if joined is None else torch.where(joined, 0, alone)  # the partner's part of one joined target
        areas = torch.cat([areas[:1] + alone, areas[1:]])
    return areas
