"""Blocks of several rows, chosen for all rows of the batch together: Co-Mixup."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from randommix_audio.draws import Draws
from randommix_audio.geometry import Blocks
from randommix_audio.geometry.blocks import block_of_bin, block_of_frame
from randommix_audio.mixers.base import Mixer
from randommix_audio.mixers.checks import check_alpha, check_choice
from randommix_audio.mixers.rows import Drawn, Rows
from randommix_audio.saliency import KINDS
from randommix_audio.solvers.joint_labels import JointProblem, compatibility_of, joint_labels

_LEAST_PRIOR = 1e-8  # as in the published code: no input is ruled out by the prior alone


class CoMixup(Mixer):
    """Blocks of up to `most` rows in each output, chosen for all outputs together.

    Kim, Choo, Jeong and Song 2021, "Co-Mixup: Saliency guided joint mixup with supermodular diversity" (ICLR), equation
    1. The batch is cut into parts of at most `part` rows, as equal as can be; the rows of a part are its inputs and its
    outputs. z[j, k] says how block k of output j is made of the inputs: of one, or half of each of two. With n blocks
    and o[j] = sum_k z[j, k] / n, what output j consists of, z minimises

        sum_j sum_k -s[k] z[j, k]                       s[k]: saliency of the inputs in block k
        + beta / n sum_j sum_kk' |z[j, k] - z[j, k']|^2 / 2          k and k' neighbours
        + gamma n sum_j o[j] h(A sum_j'!=j o[j'])       h(v) = v where v > tau, else 0; A = (1 - omega) I + omega D
        - eta sum_j o[j] log phi                        phi ~ Dirichlet(alpha), one for each part

    D is the distance between the most salient blocks of two inputs. So an output shows what is salient in many rows,
    in few pieces, and an input that the other outputs show more than tau times is shown elsewhere no more. The
    minimiser is `randommix_audio.solvers.joint_labels`, batched on the device: no graph cuts, no copies to the host.

    The blocks of output j span the valid frames of row j, and the output is as long as that row. Nothing is moved:
    another row counts with the saliency that it has in the same frames, and it is not used where it has ended. Saliency
    is normalised to the sum 1 over a row; a row without any counts as salient everywhere alike.

    Where saliency is much the same everywhere, borders cost more than they show and rows stay alone: about one in ten
    with log-mels above a floor ("whisper"), four in ten where the deepest silence spreads them ("kaldi"). A smaller
    beta or a sharper saliency mixes more.

    A row's own share may be 0: its first source is the row all the same, and `most` - 1 others are left. Rows that are
    not mixed (`p`, `rows`, without frames) are nobody's source. Nothing is drawn once for the batch, and nobody has one
    partner: `pairing` counts for nothing, and `per` only says how `p` does.

    The published code finds the distances on means of 8 x 8 pixels instead of blocks, starts from any input in every
    block instead of the row itself in half of them, and resolves outputs of the same inputs afterwards; such pairs are
    rare here.

    Args:
        alpha: Parameter of the Dirichlet distribution, above 0: small values let few inputs prevail.
        blocks: How many blocks an axis has, one number or [along frequency, along time]; at most its bins or frames.
        beta: Smoothness, at least 0.
        gamma: Diversity of the outputs, at least 0.
        tau: How often the other outputs may show an input at no cost, at least 0.
        eta: Weight of the prior, at least 0.
        omega: How much the places of the salient blocks count, in [0, 1].
        iterations: How often each output is chosen anew, at least 1.
        part: The most rows that are mixed with each other, at least 1.
        most: K, the most rows that an output consists of, itself included; at least 2.
        saliency: Where `plan` is given none: a kind of `randommix_audio.saliency`.
        **common: See `Mixer`.

    Raises:
        ValueError: If an argument is out of range.
    """

    name: ClassVar[str] = "comixup"

    def __init__(
        self,
        alpha: float = 2.0,
        blocks: int | Sequence[int] = 4,
        beta: float = 0.32,
        gamma: float = 1.0,
        tau: float = 0.83,
        eta: float = 0.05,
        omega: float = 0.001,
        iterations: int = 4,
        part: int = 20,
        most: int = 4,
        saliency: str = "energy",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_choice("saliency", saliency, tuple(KINDS))
        for argument, value in (("beta", beta), ("gamma", gamma), ("tau", tau), ("eta", eta)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{argument} must be at least 0, got {value}")
        if not 0 <= omega <= 1:
            raise ValueError(f"omega must lie in [0, 1], got {omega}")
        for argument, value, least in (("iterations", iterations, 1), ("part", part, 1), ("most", most, 2)):
            if value != int(value) or value < least:
                raise ValueError(f"{argument} must be a whole number of at least {least}, got {value}")
        self.alpha = check_alpha(alpha)
        self.blocks = blocks
        self._counts = _read_counts(blocks)
        self.beta, self.gamma, self.tau, self.eta = float(beta), float(gamma), float(tau), float(eta)
        self.omega, self.iterations, self.part, self.most = float(omega), int(iterations), int(part), int(most)
        self.source_count = self.most
        self.saliency = saliency

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """See `Mixer.draw_geometry`."""
        grid = tuple(min(count, size) for count, size in zip(self._counts, rows.size[1:], strict=True))
        slots, filled, place = _divide(rows.count, self.part, rows.device)
        own = torch.where(filled, rows.own[slots], 0)
        both = rows.own if rows.mixed is None else rows.own * rows.mixed
        problem = self._problem(draws, rows, grid, slots, torch.where(filled, both[slots], 0), own)
        start = draws.uniform(*slots.shape, *grid)
        sources, weights = joint_labels(problem, start, self.iterations, self.most)
        local = slots.expand(self.most, -1, -1).gather(2, sources).flatten(1)[:, place]  # (K, n)
        geometry = Blocks(weights.flatten(1, 2)[:, place], both, rows.own[local])
        return Drawn(geometry, rows.own, (self.name,), sources=rows.index[local[1:]])

    def _problem(
        self, draws: Draws, rows: Rows, grid: tuple[int, ...], slots: Tensor, both: Tensor, own: Tensor
    ) -> JointProblem:
        """The problem of parts with the rows `slots`, grids over `both` and `own` valid frames, all (P, m)."""
        spans = both if rows.ragged else both.amax(1, keepdim=True)  # (P, J)
        saliency = _seen(_banded(rows, grid[0], self.saliency)[slots], spans, grid[1])
        present = both > 0
        block = torch.arange(grid[1], device=rows.device)
        first_frames = (block * spans[..., None] + grid[1] - 1) // grid[1]  # frame t lies in block t nt // span
        in_time = first_frames[:, :, None] < own[:, None, :, None]  # (P, J, I, nt)
        pairs = present[:, :, None] & present[:, None]
        log_gamma = draws.log_gamma(self.alpha, *slots.shape)
        log_prior = (log_gamma - log_gamma.logsumexp(1, keepdim=True)).exp().clamp(min=_LEAST_PRIOR).log()
        peaks = saliency.diagonal(dim1=1, dim2=2).movedim(-1, 1) if rows.ragged else saliency[:, 0]
        return JointProblem(
            saliency,
            compatibility_of(peaks, present, self.omega),
            log_prior,
            (pairs[..., None] & in_time)[:, :, :, None],
            beta=self.beta,
            gamma=self.gamma,
            tau=self.tau,
            eta=self.eta,
        )

    def extra_repr(self) -> str:
        """See `Mixer.extra_repr`."""
        energy = f"beta={self.beta}, gamma={self.gamma}, tau={self.tau}, eta={self.eta}, omega={self.omega}"
        size = f"iterations={self.iterations}, part={self.part}, most={self.most}"
        return f"alpha={self.alpha}, blocks={self.blocks}, {energy}, {size}, {super().extra_repr()}"


def _read_counts(blocks: int | Sequence[int]) -> tuple[int, int]:
    """Read `blocks` as (along frequency, along time)."""
    try:
        bands, frames = (blocks, blocks) if isinstance(blocks, int) else blocks
        if bands == int(bands) >= 1 and frames == int(frames) >= 1:
            return int(bands), int(frames)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"blocks must be a number above 0, or a pair of them, got {blocks!r}")


def _divide(count: int, part: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Divide n rows in their order into the fewest parts of at most `part` rows, which differ by one row at most.

    Returns:
        The row in each slot, (P, m) long, some twice; whether the slot is filled, (P, m) bool; and where each row
        stands among the P m slots, (n,) long.
    """
    parts = -(-count // part)
    first = torch.arange(parts + 1, device=device) * count // parts
    slot = torch.arange(-(-count // parts), device=device)
    row = torch.arange(count, device=device)
    part_of_row = ((row + 1) * parts - 1) // count
    place = part_of_row * slot.shape[0] + row - first[part_of_row]
    slots = first[:-1, None] + slot
    return slots.clamp(max=count - 1), slots < first[1:, None], place


def _banded(rows: Rows, bands: int, kind: str) -> Tensor:
    """Saliency summed over bands of frequency and normalised to the sum 1, (n, nf, T); 0 beyond the valid frames."""
    band = block_of_bin(rows.freq, bands, rows.device) == torch.arange(bands, device=rows.device)[:, None]
    inside = torch.arange(rows.time, device=rows.device) < rows.own[:, None, None]
    saliency = rows.saliency.map(kind).index_select(0, rows.index).contiguous()
    summed = band.float() @ (saliency + 1e-30 * inside)  # a row without saliency has the same everywhere
    return summed / summed.sum((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def _seen(banded: Tensor, spans: Tensor, blocks: int) -> Tensor:
    """The saliency of each input in each block of each output, (P, J, I, nf, nt).

    Args:
        banded: (P, I, nf, T).
        spans: (P, J) long, the frames that the grid of each output spans.
        blocks: nt, blocks along time.
    """
    time = banded.shape[3]
    block = block_of_frame(time, blocks, spans.flatten()).view(*spans.shape, time)
    inside = torch.arange(time, device=spans.device) < spans[..., None]
    member = (block[..., None] == torch.arange(blocks, device=spans.device)) & inside[..., None]  # (P, J, T, nt)
    seen = banded.flatten(1, 2) @ member.float().transpose(1, 2).flatten(2)  # (P, I nf, J nt)
    return seen.view(*banded.shape[:3], -1, blocks).permute(0, 3, 1, 2, 4)
