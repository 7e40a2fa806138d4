"""What all mixers share: reading the batch, choosing partners and rows, and turning a drawn geometry into a plan."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

from randommix_audio.draws import Draws
from randommix_audio.geometry import Geometry, Size, Span
from randommix_audio.layout import LAYOUTS, resolve_layout, to_bcft
from randommix_audio.pairing import PAIRINGS, draw_partners
from randommix_audio.plan import MixPlan, identity_plan
from randommix_audio.saliency import Saliency, SaliencyOfBatch

if TYPE_CHECKING:
    from randommix_audio.hidden import Hidden

Schedule = float | Sequence[Sequence[float]]
LengthPolicy = Literal["longest", "shortest", "anchor"]


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that a geometry is drawn for.

    Attributes:
        count: The number of rows n.
        size: Channels, frequency bins and frames of the batch.
        index: (n,) long, where the rows stand in the batch.
        partner_index: (n,) long, where their partners stand.
        own: (n,) long, valid frames of each row.
        partner: (n,) long, valid frames of its partner.
        mixed: (n,) bool, whether the row is mixed at all; None: every row is.
        ragged: Whether lengths were given.
        each: Whether every row has a lambda, box or mask of its own.
        longest_pair: Frames that two rows of the batch have together at most, as far as the host knows.
        x: (B, C, F, T) the whole batch; only methods that follow saliency read its values.
        saliency: What is salient in the whole batch, computed when first asked for.
    """

    count: int
    size: Size
    index: Tensor
    partner_index: Tensor
    own: Tensor
    partner: Tensor
    mixed: Tensor | None
    ragged: bool
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
    def both(self) -> Tensor:
        """(n,) long, frames over which the row is mixed: where both are valid, or 0 where the row is not mixed."""
        both = torch.minimum(self.own, self.partner)
        return both if self.mixed is None else both * self.mixed

    def take(self, rows: Tensor) -> "Rows":
        """The chosen rows, (m,) long."""
        return replace(
            self,
            count=rows.shape[0],
            index=self.index[rows],
            partner_index=self.partner_index[rows],
            own=self.own[rows],
            partner=self.partner[rows],
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
        out: (n,) long, valid frames of the output.
        candidates: Names of the methods that were drawn from.
        of_row: (n,) long on the CPU, which of them mixes each row; None where one mixes all.
        sources: (J, n) long, the rows of the batch that are mixed in, where these are not the partners alone.
    """

    geometry: Geometry
    out: Tensor
    candidates: tuple[str, ...]
    of_row: Tensor | None = None
    sources: Tensor | None = None


class Mixer(nn.Module):
    """Base of all mixers: `plan` draws, `plan.apply` mixes, calling the mixer does both.

    A mixer has no parameters and keeps nothing between calls but the training progress. In `eval()` it returns the
    batch itself and the plan that leaves every row alone.

    Args:
        p: How much is mixed. With per="row" exactly round(p * B) rows, chosen at random (of those that `rows` allows);
            with per="batch" the whole batch with probability p. A list of (progress, p) pairs is a schedule, linear in
            between; see `set_progress`.
        per: Whether lambda, box and mask are drawn once for the batch or for each row.
        pairing: Who is mixed with whom, see `randommix_audio.pairing.draw_partners`.
        layout: Axis order of the batch; None: 4-D BCFT, 3-D BFT, 2-D BT. BTF must be named.
        fill: Value beyond the new lengths where a length policy cuts rows short; a front end's `pad_value`.

    Raises:
        ValueError: If an argument is not one of its choices or out of range.
    """

    name: ClassVar[str]
    hidden: ClassVar[bool] = False
    """Whether the method mixes the map of a hidden layer, see `attach`."""
    source_count: int = 2
    """K, the number of sources of a row, itself included."""

    def __init__(
        self,
        *,
        p: Schedule = 1.0,
        per: Literal["batch", "row"] = "batch",
        pairing: str = "permutation",
        layout: str | None = None,
        fill: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("per", per, ("batch", "row"))
        check_choice("pairing", pairing, PAIRINGS)
        if layout is not None:
            check_choice("layout", layout, LAYOUTS)
        self.p = p
        self.per = per
        self.pairing = pairing
        self.layout = layout
        self.fill = float(fill)
        self.progress = 0.0
        self._schedule = _read_schedule(p)

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """Draw how the rows are mixed.

        Returns:
            The geometry, the valid frames of the output, and the names of the methods.
        """
        raise TypeError(f"{type(self).__name__} cannot be drawn")

    def set_progress(self, progress: float) -> None:
        """Tell how much of the training is done, in [0, 1]; a schedule of `p` follows it.

        Raises:
            ValueError: If progress is outside [0, 1].
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress must lie in [0, 1], got {progress}")
        self.progress = float(progress)

    @property
    def current_p(self) -> float:
        """The value of `p` at the present progress; at a jump of the schedule, the later value."""
        before = [point for point in self._schedule if point[0] <= self.progress]
        after = [point for point in self._schedule if point[0] > self.progress]
        if not before or not after:
            return (before or after)[-1 if before else 0][1]
        (start, low), (end, high) = before[-1], after[0]
        return low + (high - low) * (self.progress - start) / (end - start)

    def plan(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        rows: Tensor | None = None,
        generator: Generator | None = None,
        saliency: Saliency | None = None,
    ) -> MixPlan:
        """Draw all that is random about mixing `x`.

        Only its shape, dtype and device are read, by methods that follow saliency its values too.

        Args:
            x: Floating-point batch in the mixer's layout.
            lengths: (B,) integers in [0, T], valid frames of each row; None: all of them. Frames beyond are never mixed
                in. Lengths on an accelerator are clamped, because checking them would wait for it.
            rows: (B,) bool, rows that may be mixed or used as partners at all; None: every row.
            generator: On the CPU or on the device of `x`; None: torch's default generator.
            saliency: (B, F, T), or a callable of `x` that gives it and runs only if the drawn method needs it; None:
                what the method was made with. See `randommix_audio.saliency`.

        Raises:
            TypeError: If `x` is not floating-point, or lengths or rows have the wrong kind of entries.
            ValueError: If a shape does not fit, or a length is out of range.
        """
        layout, canonical = _read_batch(x, self.layout)
        batch, size = canonical.shape[0], Size(*canonical.shape[1:])
        longest_pair = _longest_pair(lengths, size.time)
        lengths = _check_lengths(lengths, batch, size.time, x.device)
        rows = _check_rows(rows, batch, x.device)
        draws = Draws(generator, x.device)
        salient = SaliencyOfBatch(x, layout, lengths, saliency)
        p = self.current_p
        # A plan drawn in inference mode or under autocast must serve a training step all the same.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            if batch == 0 or (self.per == "batch" and p < 1 and draws.host(1)[0] >= p):
                return identity_plan(x, layout, lengths, self.source_count)
            partner = draw_partners(self.pairing, batch, draws, rows, lengths)
            chosen, mixed = _choose_rows(p if self.per == "row" else 1.0, batch, draws, rows)
            here = torch.arange(batch, device=x.device)
            if mixed is not None:
                partner = torch.where(mixed, partner, here)
            ragged = lengths is not None
            own = torch.full((batch,), size.time, device=x.device) if lengths is None else lengths
            context = Rows(
                count=batch,
                size=size,
                index=here,
                partner_index=partner,
                own=own,
                partner=own[partner],
                mixed=mixed,
                ragged=ragged,
                each=self.per == "row",
                longest_pair=longest_pair,
                x=canonical.detach(),
                saliency=salient,
            )
            drawn = self.draw_geometry(draws, context)
            others = partner[None] if drawn.sources is None else drawn.sources
            return MixPlan(
                sources=torch.cat([here[None], others, here.expand(self.source_count - 1 - others.shape[0], -1)]),
                share=_measure_share(drawn.geometry, context, drawn.out, self.source_count),
                geometry=drawn.geometry,
                candidates=drawn.candidates,
                size=size,
                layout=layout,
                lengths=drawn.out if ragged or drawn.geometry.output_time(size.time) != size.time else None,
                drawn=drawn.of_row,
                mixed_rows=chosen,
            )

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        rows: Tensor | None = None,
        generator: Generator | None = None,
        saliency: Saliency | None = None,
    ) -> tuple[Tensor, MixPlan]:
        """Draw a plan and apply it; see `plan`. In eval(): `x` itself and the plan that leaves every row alone."""
        if not self.training:
            layout, canonical = _read_batch(x, self.layout)
            lengths = _check_lengths(lengths, canonical.shape[0], canonical.shape[3], x.device)
            return x, identity_plan(x, layout, lengths, self.source_count)
        plan = self.plan(x, lengths, rows, generator, saliency)
        return plan.apply(x), plan

    def attach(self, model: nn.Module, layers: Sequence[str], time_axis: int | None = None) -> "Hidden":
        """Let this mixer mix inside a model: `hidden.draw(x)` before each forward draws one of the layers.

        Attach before torch.compile and before DistributedDataParallel. A candidate of RandomMix that is no method for
        layers mixes the model's first tensor.

        Args:
            model: The model itself.
            layers: Names from `model.named_modules()`, whose outputs are mixed, and "input" for the model's first
                tensor argument. A layer is one that runs once for each forward, best one between residual blocks; its
                output is a tensor, or a tuple whose first entry is one, of the shape (B, C, F, T), (B, T, D) or (B, D).
            time_axis: Which axis of a map is time; None: the last of four, the second of three.

        Raises:
            TypeError: If the model is no module.
            ValueError: If there is no such layer, the model is compiled or wrapped, or this method, or a candidate
                drawn for each row, only mixes the input.
        """
        from randommix_audio.hidden import Hidden  # knows the mixers

        return Hidden(self, model, layers, time_axis)

    def draw_count(self, rows: Rows) -> int:
        """How many lambdas, boxes or masks are drawn: one, or one for each row.

        A candidate of RandomMix draws for each row if RandomMix does.
        """
        return rows.count if rows.each or self.per == "row" else 1

    def extra_repr(self) -> str:
        """The common arguments, for `repr`."""
        layout = f", layout={self.layout!r}" if self.layout else ""
        return f"p={self.p}, per={self.per!r}, pairing={self.pairing!r}{layout}"


def _read_batch(x: Tensor, layout: str | None) -> tuple[str, Tensor]:
    """The axis order of a batch, and the batch as (B, C, F, T)."""
    if not isinstance(x, Tensor):
        raise TypeError(f"a batch must be a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"only floating-point batches can be mixed, got {x.dtype}")
    name = resolve_layout(x, layout)
    canonical = to_bcft(x, name)
    if 0 in canonical.shape[1:]:
        raise ValueError(f"a batch without channels, bins or frames cannot be mixed: {tuple(x.shape)} as {name}")
    return name, canonical


def _measure_share(geometry: Geometry, rows: Rows, out: Tensor, source_count: int) -> Tensor:
    """Mean weight of K sources over the valid positions of the output, (K, n) float32, columns summing to 1."""
    areas = geometry.areas(rows.size, rows.both).expand(-1, rows.count)
    if areas.shape[0]:
        alone = rows.freq * (out - rows.own).clamp(min=0)  # where the partner goes on after the row has ended
        joined = geometry.joined()
        alone = alone if joined is None else torch.where(joined, 0, alone)  # the partner's part of one joined target
        areas = torch.cat([areas[:1] + alone, areas[1:]])
    others = (areas / (rows.freq * out).clamp(min=1)).clamp(0, 1)
    unused = torch.zeros(source_count - 1 - areas.shape[0], rows.count, device=areas.device)
    return torch.cat([(1 - others.sum(0, keepdim=True)).clamp(min=0), others, unused])


def _choose_rows(p: float, batch: int, draws: Draws, rows: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
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


def _longest_pair(lengths: Tensor | None, time: int) -> int:
    """What the two longest rows have together, if their lengths are on the host; else 2 T."""
    if type(lengths) is not Tensor or lengths.device.type != "cpu" or lengths.ndim != 1 or len(lengths) < 2:
        return 2 * time
    return min(int(lengths.topk(2).values.sum()), 2 * time)


def _check_lengths(lengths: Tensor | None, batch: int, time: int, device: torch.device) -> Tensor | None:
    if lengths is None:
        return None
    if not isinstance(lengths, Tensor) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        found = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
        raise TypeError(f"lengths must be a tensor of valid frame counts, got {found}; multiply relative lengths by T")
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape ({batch},), got {tuple(lengths.shape)}")
    if type(lengths) is Tensor and lengths.device.type == "cpu" and ((lengths < 0) | (lengths > time)).any():
        raise ValueError(f"lengths must lie in [0, {time}] frames, got {lengths.min()} to {lengths.max()}")
    return lengths.to(device, torch.long, non_blocking=True).clamp(0, time)


def _check_rows(rows: Tensor | None, batch: int, device: torch.device) -> Tensor | None:
    if rows is None:
        return None
    if not isinstance(rows, Tensor) or rows.dtype != torch.bool:
        raise TypeError(f"rows must be a bool tensor, got {rows.dtype if isinstance(rows, Tensor) else rows!r}")
    if rows.shape != (batch,):
        raise ValueError(f"rows must have shape ({batch},), got {tuple(rows.shape)}")
    return rows.to(device, non_blocking=True)


def _read_schedule(p: Schedule) -> list[tuple[float, float]]:
    """Read `p` as (progress, p) points in order of progress."""
    message = f"p must lie in [0, 1], or be a list of (progress, p) pairs that do, got {p!r}"
    if isinstance(p, str):
        raise ValueError(message)
    try:
        points = [(0.0, float(p))] if isinstance(p, int | float) else [(float(at), float(value)) for at, value in p]
    except (TypeError, ValueError) as error:
        raise ValueError(message) from error
    if not points or any(not 0 <= number <= 1 for point in points for number in point):
        raise ValueError(message)
    if points != sorted(points, key=lambda point: point[0]):
        raise ValueError(f"the schedule of p must be in order of progress, got {p!r}")
    return points


def check_choice(argument: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ValueError: Naming the argument, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(choices)}; got {value!r}")


def check_alpha(alpha: float) -> float:
    """Refuse a parameter of the Beta distribution that is not above 0.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be a number above 0, got {alpha!r}; for no mixing use p=0 or the method none")
    return float(alpha)
