"""RandomMix: one of several methods, drawn by weight, for each batch or for each row."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from randommix_audio.draws import Draws, choose
from randommix_audio.geometry import Grouped
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.block import CutMix, FreqCutMix, ResizeMix, TimeCutMix
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.comixup import CoMixup
from randommix_audio.mixers.cutout import Cutout
from randommix_audio.mixers.fourier import FMix
from randommix_audio.mixers.hidden import ManifoldMixup, PatchUp
from randommix_audio.mixers.linear import Mixup, NoMix
from randommix_audio.mixers.puzzle import PuzzleMix
from randommix_audio.mixers.rows import Drawn, Rows
from randommix_audio.mixers.saliency import SaliencyMix

_CLASSES: tuple[type[Mixer], ...] = (
    NoMix,
    Mixup,
    CutMix,
    TimeCutMix,
    FreqCutMix,
    ResizeMix,
    FMix,
    Cutout,
    SaliencyMix,
    PuzzleMix,
    CoMixup,
    ManifoldMixup,
    PatchUp,
)
CANDIDATES: dict[str, type[Mixer]] = {mixer.name: mixer for mixer in _CLASSES}


class RandomMix(Mixer):
    """Pair the batch at random, mix it with one of the candidates, drawn with probabilities proportional to weights.

    Liu et al. 2022, "RandomMix: A mixed sample data augmentation method with multiple mixed modes" (published 2024 as
    "RandoMix"), section 2.2, equations 3 and 4. The paper draws one method for each batch (per="batch").

    Args:
        candidates: List of names or mixers. A name is built with this mixer's `per`, `fill`, `domain` and `front_end`,
            and its `alpha` and `variant` where the method has them. A mixer keeps its own arguments, but p, pairing and
            layout are this mixer's alone, and per="row" of either makes every row draw for itself.
        weights: One number for each candidate, at least 0, not all 0; None: all alike.
        alpha: Parameter of the Beta distribution of named candidates.
        variant: "default" or "official", for named candidates.
        **common: See `Mixer`; per="row" draws the method for each row as well.

    Raises:
        ValueError: If a candidate is unknown, has a p, pairing or layout of its own, or the weights do not fit.
    """

    name: ClassVar[str] = "randommix"

    def __init__(
        self,
        candidates: Sequence[str | Mixer] = ("mixup", "cutmix", "resizemix", "fmix"),
        weights: Sequence[float] | None = None,
        alpha: float = 1.0,
        variant: str = "default",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("variant", variant, ("default", "official"))
        check_alpha(alpha)
        if isinstance(candidates, str | dict) or not isinstance(candidates, Sequence):
            raise ValueError(
                f"candidates must be a list of names or mixers, with weights beside it; got {candidates!r}"
            )
        shared = {"per": self.per, "fill": self.fill, "domain": self.domain, "front_end": self.front_end}
        own = {"alpha": alpha, "variant": variant}
        self.candidates = nn.ModuleList(_candidate(item, shared, own) for item in candidates)
        for candidate in self.candidates:
            self._refuse_what_would_be_ignored(candidate)
        self.weights = _check_weights(weights, len(self.candidates))
        self.source_count = max(2, *(self._mixer(k).source_count for k in range(len(self.weights))))
        self.alpha = alpha
        self.variant = variant

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        if self.per == "batch":
            (chosen,) = choose(draws.decide(1), self.weights)
            return self._mixer(chosen).draw_in_domain(draws, rows)
        chosen_of_row = np.array(choose(draws.decide(rows.count), self.weights))
        members = [np.flatnonzero(chosen_of_row == k) for k in range(len(self.weights))]
        # One group for each candidate, of two rows at least: compiled code then sees the same shapes of work each time.
        padded = [np.resize(rows_of_group, max(2, len(rows_of_group))) for rows_of_group in members]
        groups = tuple(draws.from_host(rows_of_group) for rows_of_group in padded)
        # What is drawn for padding is read nowhere, and no saliency is computed for it.
        unread = replace(rows, saliency=rows.saliency.unread())
        taken = [(rows if len(used) else unread).take(group) for used, group in zip(members, groups, strict=True)]
        drawn = [self._mixer(k).draw_in_domain(draws, rows_of_group) for k, rows_of_group in enumerate(taken)]
        inverse = draws.from_host(_places(members, padded, rows.count))
        lengths = [of_rows.own if part.out is None else part.out for part, of_rows in zip(drawn, taken, strict=True)]
        out = torch.cat(lengths).index_select(0, inverse)
        sources = [self._sources(part, rows.take(group)) for part, group in zip(drawn, groups, strict=True)]
        names = tuple(self._mixer(k).name for k in range(len(self.weights)))
        # A tensor and not a tuple of names: compiled code would be made anew for every size of the batch.
        of_row = torch.tensor(chosen_of_row, dtype=torch.long)
        return Drawn(
            Grouped(groups, tuple(part.geometry for part in drawn), inverse),
            out,
            names,
            of_row,
            torch.cat(sources, 1).index_select(1, inverse),
        )

    def draw_in_domain(self, draws: Draws, rows: Rows) -> Drawn:
        """What `draw_geometry` draws: every candidate has a domain of its own."""
        return self.draw_geometry(draws, rows)

    def check_layout(self, layout: str) -> None:
        """See `Mixer.check_layout`."""
        super().check_layout(layout)
        for index in range(len(self.weights)):
            self._mixer(index).check_layout(layout)

    def _sources(self, drawn: Drawn, rows: Rows) -> Tensor:
        """What is mixed into the rows of a group, (K - 1, n) long; a method with fewer sources names the row itself."""
        others = rows.partner_index[None] if drawn.sources is None else drawn.sources
        return torch.cat([others, rows.index.expand(self.source_count - 1 - others.shape[0], -1)])

    def _refuse_what_would_be_ignored(self, candidate: nn.Module) -> None:
        for argument, plain in (("p", 1), ("pairing", "permutation"), ("layout", None)):
            value = getattr(candidate, argument)
            if value not in (plain, getattr(self, argument) if argument != "p" else plain):
                raise ValueError(f"a candidate has {argument}={value!r}; set {argument} on RandomMix, which rules it")

    def _mixer(self, index: int) -> Mixer:
        mixer = self.candidates[index]
        assert isinstance(mixer, Mixer)
        return mixer

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        return f"weights={self.weights}, {super().extra_repr()}"


def _places(members: list[np.ndarray], padded: list[np.ndarray], count: int) -> np.ndarray:
    """Where each row stands when the padded groups are written one after the other, (count,)."""
    places = np.zeros(count, dtype=np.int64)
    start = 0
    for rows_of_group, padded_rows in zip(members, padded, strict=True):
        places[rows_of_group] = start + np.arange(len(rows_of_group))
        start += len(padded_rows)
    return places


def _candidate(item: str | Mixer, shared: dict[str, Any], own: dict[str, Any]) -> Mixer:
    if isinstance(item, str):
        check_choice("candidate", item, tuple(CANDIDATES))
        mixer = CANDIDATES[item]
        known = inspect.signature(mixer.__init__).parameters
        return mixer(**shared, **{name: value for name, value in own.items() if name in known})
    if isinstance(item, RandomMix):
        raise ValueError("a RandomMix cannot be a candidate of another; give all candidates to one, with weights")
    if not isinstance(item, Mixer):
        raise ValueError(f"a candidate is a name or a mixer, got {item!r}")
    return item


def _check_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    if count == 0:
        raise ValueError("RandomMix needs at least one candidate")
    values = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(values) != count:
        raise ValueError(f"{count} candidates need {count} weights, got {len(values)}")
    if not all(0 <= value < float("inf") for value in values) or sum(values) == 0:
        raise ValueError(f"weights must be at least 0 and not all 0, got {values}")
    return values
