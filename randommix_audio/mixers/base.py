"""What all mixers share: reading the batch, choosing partners and rows, and turning a drawn geometry into a plan."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from randommix_audio.draws import Draws
from randommix_audio.geometry import Size
from randommix_audio.layout import LAYOUTS
from randommix_audio.mixers.checks import Schedule, check_choice, check_lengths, check_rows, read_batch, read_schedule
from randommix_audio.mixers.domain import DECIBELS_PER_NEPER, Domain, FrontEnd, check_layout, read_domain
from randommix_audio.mixers.rows import Drawn, Rows, choose_rows, longest_pair_of, measure_share
from randommix_audio.pairing import PAIRINGS, draw_partners
from randommix_audio.plan import MixPlan, identity_plan
from randommix_audio.saliency import Saliency, SaliencyOfBatch

if TYPE_CHECKING:
    from randommix_audio.hidden import Hidden


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
        domain: What is added where weights lie between 0 and 1. None: the values of the batch. "waveform", "logmel":
            these, too, but a batch of another kind is refused. "power": the powers of which the batch holds logarithms.
        front_end: How the batch relates to power, for domain="power": a preset of `LogMel`, a LogMel, or how many
            decibels one unit of the features is (10 / ln 10 = 4.343 for natural logarithms of power). Kept as decibels.

    Raises:
        TypeError: If the front end is something else.
        ValueError: If an argument is not one of its choices or out of range, or the front end's features do not tell
            their power.
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
        domain: Domain | None = None,
        front_end: FrontEnd | None = None,
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
        self.domain = domain
        self.front_end = read_domain(domain, front_end)
        if self.hidden and domain is not None:
            raise ValueError(f"{self.name} mixes maps of a model, which have no domain; got domain={domain!r}")
        self.progress = 0.0
        self._schedule = read_schedule(p)

    def draw_geometry(self, draws: Draws, rows: Rows) -> Drawn:
        """Draw how the rows are mixed.

        Returns:
            The geometry, the valid frames of the output, and the names of the methods.
        """
        raise TypeError(f"{type(self).__name__} cannot be drawn")

    def draw_in_domain(self, draws: Draws, rows: Rows) -> Drawn:
        """What `draw_geometry` draws, to be mixed in the domain of this mixer."""
        drawn = self.draw_geometry(draws, rows)
        if self.front_end is None:
            return drawn
        return drawn._replace(geometry=replace(drawn.geometry, neper=DECIBELS_PER_NEPER / self.front_end))

    def check_layout(self, layout: str) -> None:
        """Refuse a batch whose axes are not those of the mixer's domain.

        Raises:
            ValueError: If they are not.
        """
        check_layout(self.domain, layout)

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
        if len(self._schedule) == 1:
            return self._schedule[0][1]
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
        method_generator: Generator | None = None,
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
            method_generator: On the CPU, of what decides how much work the batch is: whether it is mixed at all, the
                method, the number of blocks; None: `generator`. In distributed training give all processes one of the
                same seed, such as `step_generator(seed, step, -1)`: none then waits for another's dearer method. A plan
                draws one number from it, also where batches differ in size.

        Raises:
            TypeError: If `x` is not floating-point, or lengths or rows have the wrong kind of entries.
            ValueError: If a shape does not fit, or a length is out of range.
        """
        layout, canonical = read_batch(x, self.layout)
        self.check_layout(layout)
        batch, size = canonical.shape[0], Size(*canonical.shape[1:])
        longest_pair = longest_pair_of(lengths, size.time)
        lengths = check_lengths(lengths, batch, size.time, x.device)
        rows = check_rows(rows, batch, x.device)
        draws = Draws(generator, x.device, method_generator)
        salient = SaliencyOfBatch(x, layout, lengths, saliency)
        with plain_mode(x.device.type):
            p = self.current_p
            if self._leaves_all_alone(p, batch, draws):
                return identity_plan(x, layout, lengths, self.source_count)
            partner = draw_partners(self.pairing, batch, draws, rows, lengths)
            chosen, mixed = choose_rows(p if self.per == "row" else 1.0, batch, draws, rows)
            here = torch.arange(batch, device=x.device)
            if mixed is not None:
                partner = torch.where(mixed, partner, here)
            context = Rows(
                count=batch,
                size=size,
                index=here,
                partner_index=partner,
                lengths=lengths,
                partner_lengths=None if lengths is None else lengths[partner],
                mixed=mixed,
                each=self.per == "row",
                longest_pair=longest_pair,
                x=canonical,
                saliency=salient,
            )
            drawn = self.draw_in_domain(draws, context)
            return MixPlan(
                sources=_all_sources(context, drawn, self.source_count),
                share=measure_share(drawn.geometry, context, drawn.out, self.source_count),
                geometry=drawn.geometry,
                candidates=drawn.candidates,
                size=size,
                layout=layout,
                lengths=drawn.out if context.ragged or drawn.geometry.output_time(size.time) != size.time else None,
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
        method_generator: Generator | None = None,
    ) -> tuple[Tensor, MixPlan]:
        """Draw a plan and apply it; see `plan`. In eval(): `x` itself and the plan that leaves every row alone."""
        if not self.training:
            layout, canonical = read_batch(x, self.layout)
            lengths = check_lengths(lengths, canonical.shape[0], canonical.shape[3], x.device)
            return x, identity_plan(x, layout, lengths, self.source_count)
        plan = self.plan(x, lengths, rows, generator, saliency, method_generator)
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

    def _leaves_all_alone(self, p: float, batch: int, draws: Draws) -> bool:
        """Whether the host knows that no row is mixed, so that nothing else need be drawn or looked at."""
        if batch == 0 or self.per == "row":
            return round(p * batch) == 0
        return p < 1 and draws.decide(1)[0] >= p

    def draw_count(self, rows: Rows) -> int:
        """How many lambdas, boxes or masks are drawn: one, or one for each row.

        A candidate of RandomMix draws for each row if RandomMix does.
        """
        return rows.count if rows.each or self.per == "row" else 1

    def extra_repr(self) -> str:
        """The common arguments, for `repr`."""
        layout = f", layout={self.layout!r}" if self.layout else ""
        domain = f", domain={self.domain!r}" if self.domain else ""
        front_end = f", front_end={self.front_end:.4g}" if self.front_end else ""
        return f"p={self.p}, per={self.per!r}, pairing={self.pairing!r}{layout}{domain}{front_end}"


def _all_sources(rows: Rows, drawn: Drawn, source_count: int) -> Tensor:
    """The rows themselves, what is mixed in, and the rows again for sources that are not used; (K, B) long."""
    if drawn.sources is None and source_count == 2:
        return torch.stack([rows.index, rows.partner_index])
    others = rows.partner_index[None] if drawn.sources is None else drawn.sources
    return torch.cat([rows.index[None], others, rows.index.expand(source_count - 1 - others.shape[0], -1)])


def plain_mode(device: str) -> AbstractContextManager[object]:
    """Without gradients, inference mode or autocast: a plan that is drawn in them must serve a training step, too."""
    if not (torch.is_inference_mode_enabled() or torch.is_autocast_enabled(device)):
        return torch.no_grad()
    modes = ExitStack()
    modes.enter_context(torch.inference_mode(False))
    modes.enter_context(torch.autocast(device, enabled=False))
    modes.enter_context(torch.no_grad())
    return modes
