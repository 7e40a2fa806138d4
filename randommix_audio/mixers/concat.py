"""One utterance after the other, for transcripts."""

from typing import Any, ClassVar

import torch

from randommix_audio.draws import Draws
from randommix_audio.geometry import Joined
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.rows import Drawn, Rows


class TimeConcat(Mixer):
    """The row followed by its partner, and so their transcripts: nothing is covered, and utterances get longer.

    The output has as many frames as two rows of the batch may need: where lengths are given on the CPU these are the
    two longest ones, else 2 T. `plan.lengths` says how long each row is. `plan.ctc_loss` and the other losses for
    transcripts join the transcripts alike; where symbols are characters they need `separator`, the space, because words
    would run together, and for a decoder `eos`, which would end up in the middle. The share of the row itself is 1,
    because one joined transcript fits the whole: losses for a class of each row have no place here.

    Args:
        max_frames: Rows that would become longer are left alone, and so is the size of the output; None: no limit.
        **common: See `Mixer`. `fill` is what stands behind the end: pass the front end's `pad_value`.

    Raises:
        ValueError: If an argument is out of range.
    """

    name: ClassVar[str] = "time_concat"

    def __init__(self, max_frames: int | None = None, **common: Any) -> None:
        super().__init__(**common)
        if max_frames is not None and max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, or None for no limit, got {max_frames}")
        self.max_frames = max_frames

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        frames = rows.longest_pair if self.max_frames is None else min(rows.longest_pair, self.max_frames)
        frames = max(frames, rows.time)
        itself = rows.index == rows.partner_index
        partner = torch.where(itself | (rows.both == 0) | (rows.own + rows.partner > frames), 0, rows.partner)
        return Drawn(Joined(rows.own, partner, frames, self.fill), rows.own + partner, (self.name,))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        return f"max_frames={self.max_frames}, {super().extra_repr()}"
