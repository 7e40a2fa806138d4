"""Two waveforms of equal loudness: the amplitudes that they are added with are not what they count for."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from randommix_audio.geometry.base import Geometry, Size
from randommix_audio.geometry.in_place import row_slices, take_rows
from randommix_audio.geometry.pairs import Constant

_STEP_BYTES = 20  # of the temporaries of a mix, for each value


@dataclass(frozen=True, eq=False)
class Gains(Constant):
    """A row and its partner with a gain of each, over the frames where they are mixed.

    `own` is what the row counts for, in targets and frame labels.

    Attributes:
        gain: (n, 2) float32, amplitude of the row and of its partner; 1 and 0 where `own` is 1.
    """

    gain: Tensor = field(kw_only=True)

    def weights(self, size: Size) -> Tensor:
        counted = super().weights(size)
        gains = self.gain.t()[..., None, None, None]
        return torch.where((counted > 0) & (counted < 1), gains, counted)

    def label_weights(self, size: Size) -> Tensor:
        return super().weights(size).mean((2, 3)).unsqueeze(2)

    def mix(self, own: Tensor, *others: Tensor) -> Tensor:
        (partner,) = others
        mixed = _add(own, partner, self.gain, self.weight(Size(*own.shape[1:])))
        cut_off = self.cut_off(own.shape[3])
        if cut_off is None or self.span is None or self.span.fill is None:
            return mixed
        return mixed.masked_fill(cut_off, self.span.fill)

    def mix_into(self, out: Tensor, x: Tensor, sources: Tensor, rows: Tensor | None = None) -> None:
        own = x if rows is None else x.index_select(0, rows)
        weight = self.weight(Size(*x.shape[1:]))
        for part in row_slices(out, itemsize=_STEP_BYTES):
            partner = x.index_select(0, sources[1, part])
            out[part] = _add(own[part], partner, self.gain[part], take_rows(weight, part))
        self.fill_cut_off(out)

    def mix_in_place(self, x: Tensor, sources: Tensor) -> None:
        Geometry.mix_in_place(self, x, sources)


def _add(own: Tensor, partner: Tensor, gain: Tensor, weight: Tensor) -> Tensor:
    of_own, of_partner = gain.to(own.dtype).view(-1, 2, 1, 1, 1).unbind(1)
    mixed = own * of_own + partner * of_partner
    return torch.where(weight == 1, own, torch.where(weight == 0, partner, mixed))
