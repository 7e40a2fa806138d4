"""Mixing the maps of a hidden layer: Manifold Mixup and PatchUp. `Mixer.attach` puts them into a model."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from randommix_audio.draws import Draws
from randommix_audio.geometry import Constant, Patches, Span
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.rows import Drawn, Rows


class ManifoldMixup(Mixer):
    """Mixup of a hidden layer: lam * h(x) + (1 - lam) * h(partner), lam ~ Beta(alpha, alpha).

    Verma et al. 2019, "Manifold Mixup: Better representations by interpolating hidden states", section 2. The
    published code draws one of the input and the outputs of the first two groups of residual blocks for each batch:
    `ManifoldMixup().attach(model, layers=["input", "layer1", "layer2"])`.

    Lengths stay as they are, because the model may have read them before the layer is reached: where a row is longer
    than its partner it stands alone, where it is shorter the partner ends with it.

    Args:
        alpha: Parameter of the Beta distribution, above 0; 2.0 for CIFAR and 0.2 for Tiny ImageNet in the published
            code.
        **common: See `Mixer`.
    """

    name: ClassVar[str] = "manifoldmix"
    hidden: ClassVar[bool] = True

    def __init__(self, alpha: float = 2.0, **common: Any) -> None:
        super().__init__(**common)
        self.alpha = check_alpha(alpha)

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        own = _own_weight(draws.beta(self.alpha, self.draw_count(rows)), rows)
        some_alone = rows.ragged or rows.mixed is not None
        return Drawn(Constant(own, some_alone, span=_unchanged_lengths(rows)), rows.own, (self.name,))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        return f"alpha={self.alpha}, {super().extra_repr()}"


class PatchUp(Mixer):
    """Mixes a hidden layer inside random square patches, every channel having its own.

    Faramarzi et al. 2020, "PatchUp: A feature-space block-level regularization technique for convolutional neural
    networks"; see `randommix_audio.geometry.Patches` for how the patches are drawn. The rate of patches follows the
    size of the map at each call; the published code keeps that of whichever layer ran first.

    The published loss has three parts: the row's target weighted by the part of the map that has not changed, the
    target inside the patches weighted by the part that has, and the two mixed. For a loss that is linear in the target
    (cross-entropy) it is twice `plan.loss`.

    The published code chooses at random between CutMix of the input and these patches after one of the first two
    layers: `RandomMix(["cutmix", PatchUp()], weights=[1, 2]).attach(model, layers=["conv1", "layer1"])`.

    Args:
        alpha: Parameter of the Beta distribution of the row's own weight inside the patches, above 0; "soft" only.
        block: Side of a patch in positions of the map, at least 1.
        gamma: How much of the map is in patches, in (0, 1], edges and overlaps left aside; None: 0.75 for "soft" and
            0.5 for "hard". With 0.75 and a block of 7 this is 99.9 % of a map of 8 x 8, 77.3 % of one of 16 x 16 and
            63.6 % of one of 32 x 32 on average.
        mode: "soft" mixes inside the patches, "hard" puts the partner there.
        per_channel: Whether every channel has patches of its own, as in the paper, or all have the same.
        **common: See `Mixer`. With per="batch" all rows have the same patches, as published, whose code has p=1.0 for
            "soft" and 0.7 for "hard".

    Raises:
        ValueError: If an argument is not one of its choices or out of range.
    """

    name: ClassVar[str] = "patchup"
    hidden: ClassVar[bool] = True

    def __init__(
        self,
        alpha: float = 2.0,
        block: int = 7,
        gamma: float | None = None,
        mode: Literal["soft", "hard"] = "soft",
        per_channel: bool = True,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("mode", mode, ("soft", "hard"))
        if not isinstance(block, int) or isinstance(block, bool) or block < 1:
            raise ValueError(f"block must be a whole number of positions, at least 1, got {block!r}")
        gamma = (0.75 if mode == "soft" else 0.5) if gamma is None else gamma
        if not isinstance(gamma, int | float) or not 0 < gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], got {gamma!r}")
        self.alpha = check_alpha(alpha)
        self.block = block
        self.gamma = float(gamma)
        self.mode = mode
        self.per_channel = per_channel

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        count = self.draw_count(rows)
        lam = draws.beta(self.alpha, count) if self.mode == "soft" else torch.zeros(count, device=rows.device)
        geometry = Patches(
            own=_own_weight(lam, rows),
            seed=(draws.uniform(count, 2) * 2**24).long(),  # a float32 uniform number has 24 random bits
            block=self.block,
            gamma=self.gamma,
            per_channel=self.per_channel,
            some_alone=rows.ragged or rows.mixed is not None,
            span=_unchanged_lengths(rows),
        )
        return Drawn(geometry, rows.own, (self.name,))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        patches = f"block={self.block}, gamma={self.gamma}, mode={self.mode!r}, per_channel={self.per_channel}"
        return f"alpha={self.alpha}, {patches}, {super().extra_repr()}"


def _own_weight(lam: Tensor, rows: Rows) -> Tensor:
    """The row's own weight where it is mixed, (n or 1,) float32, such that it and the rest are exact in rows.dtype."""
    # Of two numbers that sum to 1 the larger has the coarser grid, on which the smaller lies too.
    own = torch.where(lam < 0.5, 1 - (1 - lam).to(rows.dtype).float(), lam.to(rows.dtype).float())
    return own if rows.mixed is None else torch.where(rows.mixed, own, 1.0)


def _unchanged_lengths(rows: Rows) -> Span | None:
    """Rows are mixed where both are valid, and stay as long as they are."""
    return Span(rows.own, rows.both, rows.own) if rows.ragged else None
