"""Blocks of two rows put together so that what is salient in either survives: Puzzle Mix."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from randommix_audio.draws import Draws, choose
from randommix_audio.geometry import Blocks, block_sizes, pool_blocks
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.rows import Drawn, Rows
from randommix_audio.saliency import KINDS
from randommix_audio.solvers.block_labels import block_labels
from randommix_audio.solvers.transport import transport

BlockCounts = int | Sequence[int | Sequence[int]]
_PARTS = 8  # as many as the published code compares along each axis of 32 pixels
_IMAGE_SPREAD = 0.25  # standard deviation of images in [0, 1], on which the published gamma was chosen


class PuzzleMix(Mixer):
    """Blocks of the row and of its partner, chosen so that what is salient in either survives, and moved to fit.

    Kim, Choo and Song 2020, "Puzzle Mix: Exploiting saliency and local statistics for optimal mixup", section 4. A grid
    of blocks spans the frames where both rows are valid. In the paper's order:

    1. Every block gets a weight of the row itself from {0, 1/2, 1}. Together they cost the saliency that is lost, plus
       `beta` for neighbours of different weight, more where the values of the two rows differ across the border
       (`gamma`), minus `eta` times the log probability of the weights under the binomial distribution of
       lam ~ Beta(alpha, alpha); what costs least is taken. See `randommix_audio.solvers.block_labels`.
    2. The blocks of the row are then moved so that its salient ones stand where its weight is above 0, and those of the
       partner so that theirs stand where the partner's is, at a price for the distance (`eps`). See
       `randommix_audio.solvers.transport`. Frame labels move along.

    The share is that of the weights: it follows lam only as far as `eta` asks for, and differs from row to row even
    where lam is one for the batch; rows of share 0 or 1 are common. A block is only moved where the saliency gained
    outweighs the distance: energy, which is spread rather evenly over a spectrogram, moves next to none at the paper's
    `eps`, and a saliency that peaks in a few blocks moves many.

    Saliency is summed over each block and counts in parts of a row's whole; a row without any counts as salient
    everywhere alike. Values are compared by their means along the borders, over an eighth of the axis as in the
    published code, in units of four standard deviations of the batch's valid values: images in [0, 1], for which the
    published `gamma` was chosen, spread by about a quarter. Log-mels thus mix alike in nepers, decibels or normalised.

    Args:
        alpha: Parameter of the Beta distribution, above 0.
        blocks: How many blocks an axis has: one number, or a list to draw from for each batch, of numbers or of pairs
            [along frequency, along time]. An axis never has more blocks than bins or frames. The numbers are drawn on
            the host, because shapes depend on them.
        labels: How many weights a block can have: 2 for {0, 1}, 3 for {0, 1/2, 1}.
        beta: Smoothness of the weights, at least 0.
        gamma: Smoothness of the values, at least 0.
        eta: How much the share is held to lam, at least 0.
        transport: Whether blocks are moved.
        eps: What moving a block from one end of an axis to the other costs, in parts of a row's saliency; at least 0.
        saliency: Where `plan` is given none: a kind of `randommix_audio.saliency`.
        **common: See `Mixer`.

    Raises:
        ValueError: If an argument is out of range.
    """

    name: ClassVar[str] = "puzzlemix"

    def __init__(
        self,
        alpha: float = 1.0,
        blocks: BlockCounts = (2, 4, 8, 16),
        labels: int = 3,
        beta: float = 1.2,
        gamma: float = 0.5,
        eta: float = 0.2,
        transport: bool = True,
        eps: float = 0.8,
        saliency: str = "energy",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if labels not in (2, 3):
            raise ValueError(f"labels must be 2 or 3, got {labels!r}")
        check_choice("saliency", saliency, tuple(KINDS))
        for argument, value in (("beta", beta), ("gamma", gamma), ("eta", eta), ("eps", eps)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{argument} must be at least 0, got {value}")
        self.alpha = check_alpha(alpha)
        self.blocks = blocks
        self._choices = _read_block_counts(blocks)
        self.labels, self.beta, self.gamma, self.eta = labels, float(beta), float(gamma), float(eta)
        self.transport, self.eps, self.saliency = transport, float(eps), saliency

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        (chosen,) = choose(draws.decide(1), [1.0] * len(self._choices))
        bands, blocks = (min(count, size) for count, size in zip(self._choices[chosen], rows.size[1:], strict=True))
        lam = draws.beta(self.alpha, self.draw_count(rows)).expand(rows.count)
        own_saliency, partner_saliency = _pooled(rows.saliency.map(self.saliency), rows, bands, blocks)
        own_means, partner_means = _part_means(rows, bands, blocks)
        own = block_labels(
            own_saliency,
            partner_saliency,
            own_means,
            partner_means,
            lam,
            labels=self.labels,
            beta=self.beta,
            gamma=self.gamma,
            eta=self.eta,
        )
        moved = None
        if self.transport:
            empty = block_sizes(rows.freq, bands, blocks, rows.both) == 0
            sources = ((own, own_saliency), (1 - own, partner_saliency))
            moved = torch.stack([transport(weight, salient, self.eps, empty) for weight, salient in sources])
        valid = torch.stack([rows.own, rows.partner])
        return Drawn(Blocks(torch.stack([own, 1 - own]), rows.both, valid, moved), rows.own, (self.name,))

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        weights = f"labels={self.labels}, beta={self.beta}, gamma={self.gamma}, eta={self.eta}"
        moving = f"eps={self.eps}" if self.transport else "transport=False"
        return f"alpha={self.alpha}, blocks={self.blocks}, {weights}, {moving}, {super().extra_repr()}"


def _read_block_counts(blocks: BlockCounts) -> list[tuple[int, int]]:
    """Read `blocks` as pairs (along frequency, along time) to choose from."""
    choices = [blocks] if isinstance(blocks, int) else blocks
    try:
        pairs = [(choice, choice) if isinstance(choice, int) else tuple(choice) for choice in choices]
        if pairs and all(len(pair) == 2 and all(count == int(count) >= 1 for count in pair) for pair in pairs):
            return [(int(pair[0]), int(pair[1])) for pair in pairs]
    except (TypeError, ValueError):
        pass
    raise ValueError(f"blocks must be a number above 0, or a list of numbers or pairs of them, got {blocks!r}")


def _pooled(values: Tensor, rows: Rows, bands: int, blocks: int) -> list[Tensor]:
    """Sums over the blocks of each row and of its partner, both (n, ..., nf, nt), from (B, ..., F, T)."""
    pair = (rows.index, rows.partner_index)
    return [pool_blocks(values.index_select(0, index), bands, blocks, rows.both) for index in pair]


def _part_means(rows: Rows, bands: int, blocks: int) -> list[Tensor]:
    """Mean values of each row and of its partner over parts of the blocks, both (n, C, nf a, nt b)."""
    bands, blocks = (
        count * max(1, min(_PARTS, size) // count) for count, size in zip((bands, blocks), rows.size[1:], strict=True)
    )
    sizes = block_sizes(rows.freq, bands, blocks, rows.both).clamp(min=1).unsqueeze(1)
    return [sums / sizes for sums in _pooled(_comparable(rows.x, rows.saliency.lengths), rows, bands, blocks)]


def _comparable(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, C, F, T) with mean 0 and the spread of images in [0, 1]; 0 in padding and for what is not finite."""
    values = x.float().contiguous()  # sums must not depend on the memory layout
    finite = values.isfinite()
    if lengths is not None:
        finite = finite & (torch.arange(x.shape[3], device=x.device) < lengths.view(-1, 1, 1, 1))
    count = finite.sum().clamp(min=1)
    values = torch.where(finite, values, 0.0)
    values = torch.where(finite, values - values.sum() / count, 0.0)
    spread = (values.square().sum() / count).sqrt()
    return values * (_IMAGE_SPREAD / spread.clamp(min=torch.finfo(torch.float32).tiny))
