"""The record of one mixing step inside a model."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from randommix_audio import targets
from randommix_audio.geometry import Size, Untouched
from randommix_audio.hidden.maps import as_bcft, frames_of_map, mix_map, on_map, time_axis_of
from randommix_audio.plan import MixedTargets, MixPlan
from randommix_audio.sequences import MixedRows

INPUT = "input"


class HiddenPlan(MixedTargets):
    """Who is mixed with whom, how much, and at which layer. Drawn by `Hidden.draw`, carried out by the model's forward.

    Losses, targets and accuracy are those of a `MixPlan` (`loss`, `mix_targets`, `accuracy`, `pair`), outside
    `forward`. What they weigh by is `share`, measured on the map that the layer gave: it is known once the model has
    run. If the model runs several times before the next draw, every run is mixed alike, and the share is that of the
    last.

    Attributes:
        plan: What was drawn for the batch.
        layer: The name of the layer whose output is mixed, "input" for the model's first tensor; None where this plan
            mixes nothing.
    """

    def __init__(self, plan: MixPlan, layer: str | None) -> None:
        self.plan = plan
        self.layer = None if isinstance(plan.geometry, Untouched) else layer
        # Sizes are read off this empty tensor: compiled code takes the numbers of plan.size for constants, and would be
        # compiled anew for every length of a batch.
        self._drawn_for = torch.empty(0, *plan.size, device=plan.sources.device)
        self._map: Size | None = None
        self._share: Tensor | None = plan.share if self.layer is None else None

    @property
    def sources(self) -> Tensor:  # type: ignore[override]
        """(K, B) long, the rows of the batch that make up each row; sources[0] is arange(B)."""
        return self.plan.sources

    @property
    def share(self) -> Tensor:  # type: ignore[override]
        """(K, B) float32, columns sum to 1: how much of the valid part of each mixed map comes from each source.

        Raises:
            RuntimeError: If the model has not run since the draw, or the layer did not mix.
        """
        if self._share is None:
            raise RuntimeError(
                f"the share is measured on the map of {self.layer!r}, which has not been mixed since this plan was "
                "drawn: run the model in training mode first. If it has run, the layer was in eval() or not called, or "
                "the model was compiled before attach"
            )
        return self._share

    @property
    def carried_out(self) -> bool:
        """Whether the model has run since the draw, or need not because nothing is mixed; `share` is known then."""
        return self._share is not None

    @property
    def method(self) -> str | list[str]:
        """The method's name, or one name for each row where the methods were drawn for each row."""
        return self.plan.method

    @property
    def lengths(self) -> Tensor | None:
        """(B,) long, valid frames of each mixed row, in frames of the batch; None where it has no lengths.

        The methods for layers leave lengths as they are. A candidate that mixes the input may change them.
        """
        return self.plan.lengths

    @property
    def map_size(self) -> Size | None:
        """Channels, bins and frames of the map that was mixed; None before the model has run, and at the input."""
        return self._map

    @property
    def transcripts(self) -> MixedRows:
        """Which transcripts each row is scored against, for `ctc_loss` and its like; see `MixPlan.transcripts`.

        Raises:
            RuntimeError: If the model has not run since the draw.
            ValueError: If the method leaves neither transcript whole.
        """
        _ = self.share  # an error where the model has not run
        return self.plan.transcripts

    def mix_input(self, x: Tensor) -> Tensor:
        """Mix the model's first tensor, for layer "input".

        Args:
            x: As for `MixPlan.apply`.

        Raises:
            TypeError: If `x` is not floating-point.
            ValueError: If it has another size than the batch that the plan was drawn for.
        """
        mixed = replace(self.plan, size=Size(*self._drawn_for.shape[1:])).apply(x)
        self._share = self.plan.share
        return mixed

    def mix_map(self, x: Tensor, time_axis: int | None = None) -> Tensor:
        """Mix the output of a layer, and measure the share.

        Args:
            x: Floating-point (B, C, F', T'), (B, T', D) or (B, D).
            time_axis: See `Mixer.attach`.

        Returns:
            A new tensor of the shape and dtype of `x`.

        Raises:
            TypeError: If `x` is not floating-point.
            ValueError: If it has another shape or another number of rows.
        """
        if not x.is_floating_point():
            raise TypeError(f"only floating-point maps can be mixed, got {x.dtype}")
        axis = time_axis_of(x.ndim, time_axis)
        if x.shape[0] != self.batch:
            raise ValueError(f"this plan is for {self.batch} rows")
        size = Size(*as_bcft(x, axis).shape[1:])
        time = self._drawn_for.shape[3]
        geometry = on_map(self.plan.geometry, size.time, time)
        mixed, taken = mix_map(geometry, x, self.sources[1], axis)
        lengths = self.plan.lengths
        valid = size.time if lengths is None else frames_of_map(lengths, size.time, time).clamp(min=1)
        partners = (taken / valid).clamp(0, 1)
        unused = torch.zeros_like(self.plan.share[2:])
        self._share = torch.cat([torch.stack([1 - partners, partners]), unused])
        self._map = size
        return mixed

    def mix_frames(self, target: Tensor, hop: int = 1, num_classes: int | None = None) -> Tensor:
        """Frame labels of the mixed batch, see `randommix_audio.targets.mix_frames`; hop in frames of the batch.

        Frame t of T reads its weight from frame t T' // T of the map, averaged over its channels and bins.

        Raises:
            RuntimeError: If the model has not run since the draw.
        """
        _ = self.share  # an error where the model has not run
        if self._map is None:
            return self.plan.mix_frames(target, hop, num_classes)
        time = self.plan.size.time
        weights = on_map(self.plan.geometry, self._map.time, time).label_weights(self._map)
        weights = weights.expand(-1, self.batch, -1, self._map.time)
        frame = torch.arange(time, device=weights.device) * self._map.time // time
        return targets.mix_frames(self.sources[:2], weights[..., frame], target, hop, num_classes)

    def to(self, device: torch.device | str) -> "HiddenPlan":
        """The same plan on another device."""
        moved = HiddenPlan(self.plan.to(device), self.layer)
        moved._map = self._map
        moved._share = None if self._share is None else self._share.to(device)
        return moved

    def state_dict(self) -> dict[str, Any]:
        """The plan as nested dicts and lists of tensors, which `torch.load(..., weights_only=True)` reads back."""
        state = {
            "plan": self.plan.state_dict(),
            "layer": None if self.layer is None else torch.tensor(list(self.layer.encode()), dtype=torch.uint8),
            "map": None if self._map is None else torch.tensor(self._map),
            "share": self._share,
        }
        return {name: value for name, value in state.items() if value is not None}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "HiddenPlan":
        """Rebuild a plan from `state_dict`; `Hidden.use` carries it out once more.

        Raises:
            ValueError: If an entry is missing or unknown.
        """
        if "plan" not in state or (unknown := state.keys() - {"plan", "layer", "map", "share"}):
            found = ", ".join(sorted(unknown)) + " is unknown" if "plan" in state else "plan is missing"
            raise ValueError(f"not the state of a HiddenPlan of this version: {found}")
        layer = state.get("layer")
        plan = cls(MixPlan.from_state_dict(state["plan"]), None if layer is None else bytes(layer.tolist()).decode())
        plan._map = Size(*state["map"].tolist()) if "map" in state else None
        plan._share = state.get("share")
        return plan

    def __repr__(self) -> str:
        return f"HiddenPlan({', '.join(self.plan.candidates)} at {self.layer!r}; {self.batch} rows)"
