"""What the jobs of all classifiers have in common: the mixed training step, the scores of a split, the pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

import randommix_audio as rma
from randommix_audio import MixPlan
from randommix_audio.hidden import Hidden, HiddenPlan
from randommix_audio.hidden.plan import INPUT
from randommix_audio.saliency import LossGradient, Saliency
from recipes.shared import scores
from recipes.shared.devices import exact
from recipes.shared.mixing import make_mixer
from recipes.shared.models import HIDDEN_METHODS, seeded
from recipes.shared.options import Classifying
from recipes.shared.trainer import Moment, Outcome

TOP = 5  # a class among the five most likely ones counts for the top-5 accuracy


class Labelled(Protocol):
    """A batch: whatever else it holds, it has targets (B,) int64 on the device."""

    target: Tensor

    def __len__(self) -> int:
        """Number of rows."""


class ClassifierJob(ABC):
    """Mixing, loss and scores of a classifier, for `trainer.Trainer`; a recipe says where its batches come from.

    Args:
        config: the options.
        labels: names of the classes in the order of the outputs.
        fabric: device and processes.
        fill: what stands where a mix has nothing.

    Raises:
        UserError: for mixing options that do not fit.
    """

    channels = 1
    tells_top = False  # whether scores name the top-5 accuracy
    steps_per_epoch: int
    rows_per_epoch: int
    about: dict[str, Any]
    counts: dict[str, int]  # rows of the splits train, validation and test

    def __init__(self, config: Classifying, labels: list[str], fabric: Fabric, fill: float = 0.0) -> None:
        self.options, self.labels, self.fabric = config, labels, fabric
        self.mixer = make_mixer(config, fill)
        self.hidden: Hidden | None = None
        self.bare: nn.Module | None = None

    def network(self) -> nn.Module:
        """The network as it is before the training, on the CPU."""
        options = self.options
        made = seeded(
            options.seed, len(self.labels), self.channels, options.width, options.dropout, model=options.model
        )
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        return made.to(memory_format=layout)  # type: ignore[call-overload]

    def facts(self) -> dict[str, Any]:
        """What results.json says beside what it says of every classifier."""
        return {}

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of this process in an epoch, the same ones whenever asked."""

    @abstractmethod
    def prepare(self, batch: Any, generator: torch.Generator) -> Tensor:
        """The augmented inputs (B, C, F, T) of a batch, not mixed yet."""

    @abstractmethod
    def inputs(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of a split as (inputs (B, C, F, T), targets (B,)), without augmentation."""

    def mixable(self, batch: Any) -> Tensor | None:
        """(B,) bool, rows that may be mixed; None for all."""
        return None

    def pictured(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Inputs as pictures show them, and further arguments for `viewing.show` and `viewing.gallery`."""
        return x, {}

    def attach(self, module: nn.Module) -> None:
        """Take the model that is trained: its hidden layers are mixed, and its gradient says what is salient."""
        if self.options.hidden_layers is not None:
            self.hidden = self.mixer.attach(module, self.options.hidden_layers)
        self.bare = torch.compile(module) if self.options.compile else module  # type: ignore[assignment]

    def mix(self, x: Tensor, batch: Labelled, moment: Moment) -> MixPlan | HiddenPlan:
        """Draw the plan of a step; one for hidden layers is carried out by the model itself.

        Where the gradient of the clean loss is kept, it is in the gradients of the weights afterwards.
        """
        self.mixer.set_progress(moment.progress)
        rows = self.mixable(batch)
        saliency = self._saliency(batch, self.options.keep_gradient)
        draw = self.mixer.plan if self.hidden is None else self.hidden.draw
        with self.fabric.autocast():
            return draw(
                x,
                rows=rows,
                generator=moment.generator,
                saliency=saliency,
                method_generator=moment.method_generator,
            )

    def _saliency(self, batch: Labelled, keep: float = 0.0) -> Saliency | None:
        """What the methods follow, computed only if the method that is drawn follows it."""
        if self.options.followed_saliency != "gradient":
            return self.options.followed_saliency
        assert self.bare is not None
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)  # 16-mixed has one
        return LossGradient(
            self.bare, self._criterion, batch.target, keep=keep, scale=None if scaler is None else scaler.scale
        )

    @property
    def _criterion(self) -> Callable[..., Tensor]:
        return partial(F.cross_entropy, label_smoothing=self.options.label_smoothing)

    def step(self, network: nn.Module, batch: Labelled, moment: Moment) -> Outcome:
        """Loss and accuracy of one batch, both weighted by the shares of the mixed rows."""
        x = self.prepare(batch, moment.generator)
        plan = self.mix(x, batch, moment)
        if moment.pictures is not None:
            show_input(moment.pictures, x, plan, moment.step)
        logits = network(plan.apply(x) if isinstance(plan, MixPlan) else x)
        loss = plan.loss(self._criterion, logits, batch.target)
        return Outcome(loss, plan.accuracy(logits.detach(), batch.target), len(batch))

    def galleries(self, rows: int = 8) -> dict[str, Any]:
        """Pictures of the first batch: `mixes` as half-way through training, `methods` each method on two rows.

        Methods that mix hidden layers are left out; they have no picture.
        """
        from randommix_audio import viewing

        generator = rma.step_generator(self.options.seed, 0, device=self.fabric.device)
        batch = next(self.batches(0))
        x = self.prepare(batch, generator)
        names = [self.labels[i] for i in batch.target.tolist()]
        shown = [method for method in self.options.methods if method not in HIDDEN_METHODS]
        figures = {}
        self.mixer.set_progress(0.5)
        allowed = self.mixable(batch)
        plan = self.mixer.plan(x, rows=allowed, generator=generator, saliency=self._saliency(batch))
        drawn = {plan.method} if isinstance(plan.method, str) else set(plan.method)
        visible, more = self.pictured(x)
        if not drawn & set(HIDDEN_METHODS):
            figures["mixes"] = viewing.show(visible, plan, min(rows, len(names)), names, **more)
        pair = self.examples(batch)
        if shown not in ([], ["none"]) and len(pair) == 2:
            own, partner = pair
            both = (names[own], names[partner])
            figures["methods"] = viewing.gallery(visible[own], visible[partner], both, shown, **more)
        return figures

    def examples(self, batch: Any) -> list[int]:
        """Two rows of a batch on which the methods are shown; fewer where there are not as many."""
        return list(range(len(batch)))[:2]

    def evaluate(self, network: nn.Module, split: str) -> dict[str, Any]:
        """All scores of a split in float32, as whoever loads the checkpoint finds them; the same on every process."""
        with exact():
            found = judge(network, self.inputs(split), len(self.labels))
        found = Judged(*(value.to(self.fabric.device) for value in found))
        if self.fabric.world_size > 1:
            found = Judged(*(self.fabric.all_reduce(value, reduce_op="sum") for value in found))
        return report_of(found, self.labels, self.tells_top)

    def validate(self, network: nn.Module) -> dict[str, float | None]:
        """What metrics.jsonl says of the validation set, in the precision of the training."""
        with self.fabric.autocast():
            found = self.evaluate(network, "validation")
        named = ("loss", "accuracy", "macro_accuracy", "top5_accuracy")
        return {f"validation_{name}": found[name] for name in named if name in found}


class Judged(NamedTuple):
    """What a model made of labelled batches.

    Attributes:
        matrix: (classes, classes) confusion counts, row = truth.
        loss: sum of the cross entropies, a scalar.
        top: rows whose class is among the TOP most likely ones, a scalar.
    """

    matrix: Tensor
    loss: Tensor
    top: Tensor


def report_of(found: Judged, labels: list[str], top: bool = False) -> dict[str, Any]:
    """What `scores.report` says, with the mean loss and, of more than TOP classes, the top-5 accuracy where asked for.

    Args:
        found: sums over all rows.
        labels: names of the classes.
        top: whether to name the top-5 accuracy.
    """
    report = scores.report(found.matrix.cpu(), labels)
    rows = report["clips"]
    near = {"top5_accuracy": int(found.top) / rows if rows else None} if top and len(labels) > TOP else {}
    return {"loss": float(found.loss) / rows if rows else None, **near, **report}


@torch.no_grad()
def judge(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Judged:
    """Run a model over labelled batches.

    Args:
        model: takes what the batches hold; put into eval mode here.
        batches: pairs of inputs and (B,) targets.
        classes: number of classes.

    Returns:
        Sums over all batches on the device of the targets; a split without rows gives zeros on the CPU.
    """
    model.eval()
    found: Judged | None = None
    for inputs, target in batches:
        logits = model(inputs).float()
        counted = scores.confusion(logits.argmax(1), target, classes)
        lost = F.cross_entropy(logits, target, reduction="sum")
        near = (logits.topk(min(TOP, classes), dim=1).indices == target[:, None]).sum()
        own = Judged(counted, lost, near)
        found = own if found is None else Judged(*(a + b for a, b in zip(found, own, strict=True)))
    if found is None:
        return Judged(
            torch.zeros(classes, classes, dtype=torch.long), torch.zeros(()), torch.zeros((), dtype=torch.long)
        )
    return found


def show_input(writer: SummaryWriter, x: Tensor, plan: MixPlan | HiddenPlan, step: int) -> None:
    """Show TensorBoard what a step does to its input; a mix of a hidden layer has no picture and is named."""
    if isinstance(plan, HiddenPlan) and plan.layer not in (None, INPUT):
        writer.add_text("own, partner, mixed", f"no picture: the output of {plan.layer} was mixed", step)
        return
    plan = plan.plan if isinstance(plan, HiddenPlan) else plan
    writer.add_image("own, partner, mixed", contact_sheet(x, plan), step)


def contact_sheet(x: Tensor, plan: MixPlan, rows: int = 8) -> Tensor:
    """Inputs side by side for TensorBoard: the clips above, what is mixed in below, the mixes at the bottom.

    Args:
        x: (B, 1, F, T) features or (B, 3, H, W) images before mixing.
        plan: of this batch.
        rows: how many rows of the batch.

    Returns:
        (C, (K + 1) F, rows T) in 0..1 for the K sources of a row; of features low frequencies are at the bottom.
    """
    sources = [plan.pair(x, k) for k in range(len(plan.sources))]
    kinds = torch.stack([*sources, plan.apply(x)])[:, :rows]  # (K + 1, rows, C, F, T)
    kinds = kinds.flip(3) if x.shape[1] == 1 else kinds
    low, high = kinds.aminmax()
    scaled = (kinds - low) / (high - low).clamp(min=1e-6)
    return scaled.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
