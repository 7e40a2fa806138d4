"""What every geometry has in common: sizes, what happens along time where lengths differ, and the mix itself."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from randommix_audio.geometry.in_place import row_slices, take_rows
from randommix_audio.geometry.powers import add_powers
from randommix_audio.layout import frame_numbers

_STEP_BYTES = 32  # of the float32 temporaries of a power mix, for each value


class Size(NamedTuple):
    """The size of one row of a batch: channels, frequency bins, frames."""

    channels: int
    freq: int
    time: int


@dataclass(frozen=True, eq=False)
class Span:
    """What happens along time when a row and its partner differ in length.

    Beyond `both` the source that is still valid stands alone: the row itself, or its partner from `own` to `out`.

    Attributes:
        own: (n,) valid frames of the row.
        both: (n,) frames over which the two are mixed; 0 for a row that is not mixed.
        out: (n,) valid frames of the output.
        fill: What stands from `out` to `own` where the output is shorter than the row; None: it is never shorter.
    """

    own: Tensor
    both: Tensor
    out: Tensor
    fill: float | None = None

    def limit(self, own_weight: Tensor, time: int) -> Tensor:
        """Restrict the weight of the row itself, broadcastable to (n, C, F, T), to the frames where both are valid."""
        frames = frame_numbers(time, own_weight.device)
        own, both, out = (limit.view(-1, 1, 1, 1) for limit in (self.own, self.both, self.out))
        own_weight = torch.where(frames < both, own_weight, torch.ones_like(own_weight))
        return torch.where((frames >= own) & (frames < out), torch.zeros_like(own_weight), own_weight)

    def cut_off(self, time: int) -> Tensor | None:
        """The row's frames beyond the output's end, (n, 1, 1, T) bool; None where there are none."""
        if self.fill is None:
            return None
        frames = frame_numbers(time, self.own.device)
        return (frames >= self.out.view(-1, 1, 1, 1)) & (frames < self.own.view(-1, 1, 1, 1))


@dataclass(frozen=True, eq=False)
class Geometry:
    """Base of all geometries: K sources for each row, the row itself first.

    A pair (K = 2, the default) defines `own_weight` and `partner_area`; the partner has the rest of the weight. Other
    numbers of sources define `others`, `weights`, `areas` and `mix`.

    Attributes:
        span: What happens along time where a row and its partner differ in length; None: nothing.
        neper: Units of the features for each neper of power where their powers are added, see `add_powers`; None: they
            are added themselves. Where all weights are 0 or 1 it makes no difference.
    """

    span: Span | None = field(default=None, kw_only=True)
    neper: float | None = field(default=None, kw_only=True)

    @property
    def others(self) -> int:
        """K - 1, the sources of a row besides itself."""
        return 1

    def output_time(self, time: int) -> int:
        """Frames of the mix of a batch of T frames."""
        return time

    def overlap(self) -> Tensor | None:
        """(n,) frames over which a row is mixed with its partner, for methods that mix every frame; None: all."""
        return None if self.span is None else self.span.both

    def joined(self) -> Tensor | None:
        """(n,) bool, rows that are followed by their partner; None: no row is."""
        return None

    def own_weight(self, size: Size) -> Tensor:
        """Weight of the row itself, float32 or bool, broadcastable to (n, C, F, T); `span` not yet regarded."""
        raise TypeError(f"{type(self).__name__} defines no weight")

    def partner_area(self, size: Size, both: Tensor) -> Tensor:
        """The partner's weight, mean over channels, summed over F bins and the frames [0, both); (n or 1,) float32."""
        raise TypeError(f"{type(self).__name__} defines no area")

    def warp(self, source: Tensor, k: int) -> Tensor:
        """Move the k-th source, (n, C, F, T), to where the weights expect it."""
        return source

    def weights(self, size: Size) -> Tensor:
        """Weights of all sources, float32, broadcastable to (K, n, C, F, T)."""
        own = self.weight(size).float()
        both = torch.stack([own, 1 - own])
        cut_off = self.cut_off(size.time)
        return both if cut_off is None else torch.where(cut_off, 0.0, both)

    def known_share(self, size: Size) -> float | None:
        """The partner's share of every row, where the host knows it."""
        return None

    def areas(self, size: Size, both: Tensor) -> Tensor:
        """Weights of the other sources, mean over channels, summed over bins and frames; (K - 1, n or 1) float32.

        Args:
            size: Of a row.
            both: (n,) the frames over which a pair is mixed.
        """
        return self.partner_area(size, both)[None]

    def label_weights(self, size: Size) -> Tensor:
        """What each source counts for the label of each frame, in R bands of frequency, (K, n or 1, R, T or 1)."""
        return self.weights(size).mean((2, 3)).unsqueeze(2)

    def label_frames(self, size: Size) -> Tensor | None:
        """The source's frame that stands at each frame of each band, (K, n or 1, R, T) long; None: none is moved."""
        return None

    def weight(self, size: Size) -> Tensor:
        """Weight of the row itself in a pair, float32 or bool, broadcastable to (n, C, F, T)."""
        own_weight = self.own_weight(size)
        return own_weight if self.span is None else self.span.limit(own_weight, size.time)

    def cut_off(self, time: int) -> Tensor | None:
        """Frames where neither source counts, (n, 1, 1, T) bool; None where there are none."""
        return None if self.span is None else self.span.cut_off(time)

    def mix(self, own: Tensor, *others: Tensor) -> Tensor:
        """Mix rows with their K - 1 other sources, each (n, C, F, T)."""
        (partner,) = others
        weight = self.weight(Size(*own.shape[1:]))
        partner = self.warp(partner, 1)
        if weight.dtype == torch.bool:
            mixed = torch.where(weight, own, partner)
        else:
            mixed = self.interpolate(own, partner, weight)
        cut_off = self.cut_off(own.shape[3])
        if cut_off is None or self.span is None or self.span.fill is None:
            return mixed
        return mixed.masked_fill(cut_off, self.span.fill)

    def fill_cut_off(self, out: Tensor) -> None:
        """Fill the frames of a mix where neither source counts."""
        cut_off = self.cut_off(out.shape[3])
        if cut_off is not None and self.span is not None and self.span.fill is not None:
            out.masked_fill_(cut_off, self.span.fill)

    def interpolate(self, own: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
        """Mix by weights between 0 and 1."""
        if self.neper is not None:
            return add_powers((own, partner), (weight, 1 - weight), self.neper)
        return own.lerp(partner, (1 - weight).to(own.dtype))

    def mix_parts(self, out: Tensor, x: Tensor, own: Tensor, partners: Tensor) -> None:
        """Mix pairs into `out`, whose temporaries are as large as a part of the rows.

        Args:
            out: (n, C, F, T), no part of `x`.
            x: (B, C, F, T).
            own: (n, C, F, T), the rows themselves.
            partners: (n,) long, the rows of `x` that are mixed in.
        """
        weight = self.weight(Size(*x.shape[1:]))
        for part in row_slices(out, itemsize=_STEP_BYTES):
            partner = x.index_select(0, partners[part])
            out[part] = self.interpolate(own[part], partner, take_rows(weight, part))
        self.fill_cut_off(out)

    def mix_batch(self, x: Tensor, sources: Tensor) -> Tensor:
        """Mix a batch, (B, C, F, T), whose row i has the sources `sources[:, i]`, the first of them itself."""
        return self.mix(x, *(x.index_select(0, source) for source in sources[1 : 1 + self.others]))

    def mix_into(self, out: Tensor, x: Tensor, sources: Tensor, rows: Tensor | None = None) -> None:
        """Mix as `mix_batch`, straight into `out`, for a batch whose single steps nobody needs to see.

        Args:
            out: (n, C, F, T), no part of `x`.
            x: (B, C, F, T).
            sources: (K, n) long.
            rows: (n,) long, the rows that are mixed; None: all of `x`.
        """
        own = x if rows is None else x.index_select(0, rows)
        out.copy_(self.mix(own, *(x.index_select(0, source) for source in sources[1 : 1 + self.others])))

    def mix_in_place(self, x: Tensor, sources: Tensor) -> None:
        """Mix as `mix_batch`, overwriting the batch."""
        mixed = torch.empty_like(x)
        self.mix_into(mixed, x, sources)
        x.copy_(mixed)

    def fits(self, size: Size, drawn: Size) -> bool:
        """Whether rows of a size can be mixed, given the size that the geometry was drawn for."""
        return size[1:] == drawn[1:]
