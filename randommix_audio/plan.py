"""The record of one mixing step: everything that was random about it, ready to be applied to any aligned tensor."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from randommix_audio import sequences, targets
from randommix_audio.geometry import Geometry, Size, Untouched, move, pack, unpack
from randommix_audio.geometry.in_place import is_tracked
from randommix_audio.layout import (
    LAYOUTS,
    from_bcft,
    layout_of_companion,
    resolve_layout,
    to_bcft,
)

# Plans on disk name their methods by position in this tuple, so that names are only ever added at its end.
METHODS = (
    *("none", "mixup", "cutmix", "time_cutmix", "freq_cutmix", "resizemix", "fmix", "randommix"),
    *("time_concat", "cutout", "saliencymix", "puzzlemix", "comixup", "manifoldmix", "patchup"),
)
# Methods after which neither transcript describes the whole mix.
PARTIAL = ("cutmix", "time_cutmix", "resizemix", "fmix", "saliencymix", "puzzlemix", "comixup", "patchup")


class MixedTargets:
    """What follows from who is mixed with whom and how much: losses, targets and accuracy of a mixed batch.

    Attributes:
        sources: (K, B) long, the rows of the batch that make up each output row; sources[0] is arange(B).
        share: (K, B) float32, columns sum to 1: how much of the valid part of each output row comes from each source.
    """

    sources: Tensor
    share: Tensor

    @property
    def batch(self) -> int:
        """The number of rows B."""
        return self.sources.shape[1]

    @property
    def lam(self) -> Tensor:
        """(B,) float32, each row's share of itself."""
        return self.share[0]

    def pair(self, values: Tensor, k: int = 1) -> Tensor:
        """The k-th source's entry for each row: `values[sources[k]]`, for values with B rows of any kind.

        Raises:
            ValueError: If the rows have no k-th source.
        """
        if not 0 <= k < self.sources.shape[0]:
            raise ValueError(f"this plan has {self.sources.shape[0]} sources for each row, numbered from 0; got k={k}")
        return values.index_select(0, self.sources[k])

    def loss(
        self,
        criterion: Callable[..., Tensor],
        prediction: Tensor,
        target: Tensor,
        reduction: Literal["mean", "sum", "none"] | None = None,
        **options: Any,
    ) -> Tensor:
        """Share-weighted loss of a prediction for the mixed batch; see `randommix_audio.targets.mixed_loss`."""
        return targets.mixed_loss(self.sources, self.share, criterion, prediction, target, reduction, **options)

    def mix_targets(
        self, target: Tensor, num_classes: int | None = None, kind: Literal["soft", "union"] = "soft"
    ) -> Tensor:
        """One target for each mixed row; see `randommix_audio.targets.mix_targets`."""
        return targets.mix_targets(self.sources, self.share, target, num_classes, kind)

    @property
    def transcripts(self) -> sequences.MixedRows:
        """Which transcripts each row is scored against, and how much each of them counts."""
        return sequences.MixedRows(self.sources, self.share)

    def ctc_loss(
        self, log_probs: Tensor, target: Tensor, target_lengths: Tensor, input_lengths: Tensor, **options: Any
    ) -> Tensor:
        """CTC loss against both transcripts, the encoder run once; see `randommix_audio.sequences.ctc_loss`."""
        return sequences.ctc_loss(self.transcripts, log_probs, target, target_lengths, input_lengths, **options)

    def attention_loss(
        self, decoder: Callable[[Any, Tensor], Tensor], encoded: Any, target: Tensor, **options: Any
    ) -> Tensor:
        """Cross entropy of a decoder run for both transcripts; see `randommix_audio.sequences.attention_loss`."""
        return sequences.attention_loss(self.transcripts, decoder, encoded, target, **options)

    def transducer_loss(
        self,
        joint: Callable[[Any, Tensor], Tensor],
        encoded: Any,
        target: Tensor,
        target_lengths: Tensor,
        encoded_lengths: Tensor,
        **options: Any,
    ) -> Tensor:
        """Transducer loss against both transcripts; see `randommix_audio.sequences.transducer_loss`."""
        rows = self.transcripts
        return sequences.transducer_loss(rows, joint, encoded, target, target_lengths, encoded_lengths, **options)

    def accuracy(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Share-weighted accuracy in [0, 1]; see `randommix_audio.targets.mixed_accuracy`."""
        return targets.mixed_accuracy(self.sources, self.share, prediction, target)


@dataclass(frozen=True, eq=False)
class MixPlan(MixedTargets):
    """Who is mixed with whom, how much and where. Drawn by a mixer; immutable; deterministic to apply.

    Shapes: B rows, K sources for each row (itself, its partner, with some methods more), F frequency bins, T frames.

    Attributes:
        sources: (K, B) long, the rows of the batch that make up each output row; sources[0] is arange(B). K is fixed
            for a mixer; a method that uses fewer gives the rest a share of 0.
        share: (K, B) float32, columns sum to 1: how much of the valid part of each output row comes from each source,
            measured from the weights really used.
        geometry: Where and how much, see `randommix_audio.geometry`.
        candidates: Names of the methods that were drawn from: one where the batch has one method.
        drawn: (B,) long on the CPU, which of the candidates mixes each row; None where there is one for the batch.
        size: Channels, bins and frames of the batch that the plan was drawn for.
        layout: Its axis order.
        lengths: (B,) long, valid frames of each output row; None where the batch has no lengths.
        mixed_rows: (m,) long, the rows that may have a share of another source; None: any row may.
    """

    sources: Tensor
    share: Tensor
    geometry: Geometry
    candidates: tuple[str, ...]
    size: Size
    layout: str
    lengths: Tensor | None = None
    drawn: Tensor | None = field(default=None, metadata={"on_host": True})
    mixed_rows: Tensor | None = None

    @property
    def method(self) -> str | list[str]:
        """The method's name, or one name for each row where the methods were drawn for each row."""
        if self.drawn is None:
            return self.candidates[0]
        return [self.candidates[index] for index in self.drawn.tolist()]

    @property
    def weights(self) -> Tensor:
        """Weights of the sources, float32, broadcastable to (K, B, C, F, T); made anew at each call."""
        return self._each_source(self.geometry.weights(self.size))

    @property
    def transcripts(self) -> sequences.MixedRows:
        """Which transcripts each row is scored against: a source's weight is its share where both are valid.

        Raises:
            ValueError: If the plan holds a method that leaves neither transcript whole.
        """
        if partial := [name for name in self.candidates if name in PARTIAL]:
            raise ValueError(
                f"{', '.join(partial)} covers or moves parts of both utterances, so that neither transcript fits the "
                "mix: for transcripts use mixup, freq_cutmix, time_concat or manifoldmix"
            )
        overlap = self.geometry.overlap()
        both = torch.full((self.batch,), self.size.time, device=self.share.device)
        both = both if overlap is None else torch.minimum(overlap, both)
        area = (self.size.freq * both).clamp(min=1)
        others = (self.geometry.areas(self.size, both).expand(-1, self.batch) / area).clamp(0, 1)
        share = self._each_source(torch.cat([(1 - others.sum(0, keepdim=True)).clamp(min=0), others]))
        return sequences.MixedRows(self.sources, share, self.mixed_rows, self.geometry.joined())

    def apply(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Mix a batch as planned.

        Args:
            x: Floating-point batch aligned with the one that the plan was drawn for: B rows in the same order, the same
                F and T (any F and T for a mixup without lengths). A BTF plan reads 3-D tensors as (B, T, F).
            out: Tensor to write the result into: `x` itself, which is then mixed in place, or one that shares no memory
                with it. In a training loop it saves the time to get memory for every batch.

        Returns:
            A new tensor (or `out`) of the shape, dtype and device of `x`; with time_concat of more frames. `x` is not
            modified unless it is `out`.

        Raises:
            TypeError: If `x` is not floating-point.
            ValueError: If `x` does not fit the plan.
        """
        layout = layout_of_companion(x, self.layout)
        if not x.is_floating_point():
            raise TypeError(f"only floating-point tensors can be mixed, got {x.dtype}; convert it, or use plan.pair")
        canonical = to_bcft(x, layout)
        size = Size(*canonical.shape[1:])
        if canonical.shape[0] != self.batch:
            raise ValueError(f"this plan is for {self.batch} rows, got {canonical.shape[0]}")
        if not self.geometry.fits(size, self.size):
            raise ValueError(
                f"this plan's weights vary over {self.size.freq} bins x {self.size.time} frames, got {size.freq} x "
                f"{size.time}; draw a plan from a tensor of that size, or use plan.mix_frames for frame labels"
            )
        shape = [self.geometry.output_time(n) if axis == "T" else n for axis, n in zip(layout, x.shape, strict=True)]
        if out is not None and (list(out.shape) != shape or out.dtype != x.dtype):
            raise ValueError(f"out must be {tuple(shape)} {x.dtype}, got {tuple(out.shape)} {out.dtype}")
        if not is_tracked(x) and (out is None or out is x or not is_tracked(out)):
            if out is None:
                out = torch.empty_like(x) if shape == list(x.shape) else x.new_empty(shape)
            if out is x:
                self.geometry.mix_in_place(canonical, self.sources)
            else:
                self.geometry.mix_into(to_bcft(out, layout), canonical, self.sources)
            return out
        mixed = from_bcft(self.geometry.mix_batch(canonical, self.sources), layout)
        if out is not None:
            return out.copy_(mixed)
        if mixed.shape != x.shape:
            return mixed.contiguous()
        strides = torch.empty_like(x, device="meta").stride()
        return mixed if mixed.stride() == strides else torch.empty_like(x).copy_(mixed)

    def mix_frames(self, target: Tensor, hop: int = 1, num_classes: int | None = None) -> Tensor:
        """Frame labels of the mixed batch; see `randommix_audio.targets.mix_frames`."""
        weights = self.geometry.label_weights(self.size)
        weights = self._each_source(weights.expand(-1, self.batch, -1, self.geometry.output_time(self.size.time)))
        frames = self.geometry.label_frames(self.size)
        frames = None if frames is None else self._each_source(frames.expand(-1, self.batch, -1, -1))
        return targets.mix_frames(self.sources, weights, target, hop, num_classes, frames, self.size.time)

    def _each_source(self, values: Tensor) -> Tensor:
        """Give the sources that the drawn method does not use, (K, ...), an entry of 0."""
        missing = self.sources.shape[0] - values.shape[0]
        return values if missing == 0 else F.pad(values, [0, 0] * (values.ndim - 1) + [0, missing])

    def to(self, device: torch.device | str) -> "MixPlan":
        """The same plan on another device."""
        return replace(
            self,
            sources=self.sources.to(device),
            share=self.share.to(device),
            geometry=move(self.geometry, device),
            lengths=None if self.lengths is None else self.lengths.to(device),
            mixed_rows=None if self.mixed_rows is None else self.mixed_rows.to(device),
        )

    def state_dict(self) -> dict[str, Any]:
        """The plan as nested dicts and lists of tensors, which `torch.load(..., weights_only=True)` reads back.

        Raises:
            ValueError: If the method is not one of this library.
        """
        if unknown := set(self.candidates) - set(METHODS):
            raise ValueError(f"plans of {', '.join(unknown)} cannot be stored: not a method of this library")
        state = {
            "sources": self.sources,
            "share": self.share,
            "geometry": pack(self.geometry),
            "candidates": torch.tensor([METHODS.index(name) for name in self.candidates]),
            "drawn": self.drawn,
            "shape": torch.tensor([*self.size, LAYOUTS.index(self.layout)]),
            "lengths": self.lengths,
            "mixed_rows": self.mixed_rows,
        }
        return {name: value for name, value in state.items() if value is not None}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "MixPlan":
        """Rebuild a plan from `state_dict`.

        Raises:
            ValueError: If an entry is missing or unknown.
        """
        needed = {"sources", "share", "geometry", "candidates", "shape"}
        if missing := needed - state.keys():
            raise ValueError(f"not the state of a MixPlan: {', '.join(sorted(missing))} is missing")
        if unknown := state.keys() - needed - {"lengths", "drawn", "mixed_rows"}:
            raise ValueError(f"not the state of a MixPlan of this version: {', '.join(sorted(unknown))} is unknown")
        *size, layout = state["shape"].tolist()
        if len(size) != len(Size._fields):
            raise ValueError("not the state of a MixPlan of this version: its shape names no channels")
        return cls(
            sources=state["sources"],
            share=state["share"],
            geometry=unpack(state["geometry"]),
            candidates=tuple(METHODS[index] for index in state["candidates"].tolist()),
            size=Size(*size),
            layout=LAYOUTS[layout],
            lengths=state.get("lengths"),
            drawn=state.get("drawn"),
            mixed_rows=state.get("mixed_rows"),
        )

    def __repr__(self) -> str:
        drawn_for = {"BCFT": "(B, C, F, T)", "BFT": "(B, F, T)", "BTF": "(B, T, F)", "BT": "(B, T)"}[self.layout]
        names = ", ".join(self.candidates)
        return f"MixPlan({names}; {self.batch} rows, F={self.size.freq}, T={self.size.time}, drawn for {drawn_for})"


def identity_plan(
    x: Tensor, layout: str | None = None, lengths: Tensor | None = None, source_count: int = 2
) -> MixPlan:
    """The plan that leaves every row as it is: share 1 of itself, of `source_count` sources."""
    layout = resolve_layout(x, layout)
    batch, *size = to_bcft(x, layout).shape
    here = torch.arange(batch, device=x.device)
    share = torch.zeros(source_count, batch, device=x.device)
    share[0] = 1
    return MixPlan(
        sources=here.repeat(source_count, 1),
        share=share,
        geometry=Untouched(torch.ones(1, device=x.device)),
        candidates=("none",),
        size=Size(*size),
        layout=layout,
        lengths=lengths,
        mixed_rows=here[:0],
    )
