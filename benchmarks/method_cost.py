"""What each method costs in training: the time of a step with it over that of a step without, in one run.

A step is what the Speech Commands recipe does: draw, mix, forward, loss, backward, SGD, for PreAct-ResNet18 on log-mel
spectrograms of 32 x 32. Steps with and without alternate, the methods take turns, round after round.
"""

import argparse
import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import randommix_audio as rma
from benchmarks import timing
from benchmarks.timing import Times, Work, ratio
from randommix_audio.data import BankLoader, Task
from randommix_audio.saliency import LossGradient
from recipes.shared.models import seeded
from recipes.shared.preact_resnet import count_parameters

CLASSES, SIDE = 12, 32  # of random features: classes, bins, frames
MANIFOLD_LAYERS, PATCHUP_LAYERS = ("input", "stages.1", "stages.3"), ("stem", "stages.1")
PARTS = {"saliency": "saliency pass", "plan": "plan", "apply": "apply"}


@dataclass(frozen=True)
class Case:
    """A line of the table.

    Attributes:
        label: What it is called.
        mixer: Name of the mixer.
        options: Its arguments.
        gradient: Whether it follows the gradient of the loss rather than the mixer's own saliency.
        keep: Weight of the clean loss whose weight gradient is kept.
        layers: Hidden layers that are mixed.
    """

    label: str
    mixer: str
    options: dict[str, Any] = field(default_factory=dict)
    gradient: bool = False
    keep: float = 0.0
    layers: tuple[str, ...] = ()


CASES = (
    Case("none", "none"),  # compared with itself: how well the machine can be measured
    Case("mixup", "mixup"),
    Case("cutmix", "cutmix"),
    Case("resizemix", "resizemix"),
    Case("fmix", "fmix"),
    Case("randommix", "randommix"),
    Case("cutout", "cutout"),
    Case("saliencymix, energy", "saliencymix"),
    Case("saliencymix, gradient", "saliencymix", gradient=True),
    Case("puzzlemix, energy", "puzzlemix"),
    Case("puzzlemix, gradient", "puzzlemix", gradient=True),
    Case("puzzlemix, gradient kept", "puzzlemix", gradient=True, keep=1.0),
    Case("comixup, energy", "comixup"),
    Case("comixup, gradient", "comixup", gradient=True),
    Case("comixup, gradient kept", "comixup", gradient=True, keep=1.0),
    Case("manifoldmix", "manifoldmix", layers=MANIFOLD_LAYERS),
    Case("patchup, patches per channel", "patchup", layers=PATCHUP_LAYERS),
    Case("patchup, patches shared", "patchup", {"per_channel": False}, layers=PATCHUP_LAYERS),
)


class Training:
    """A model of its own that is trained with one method, always on the same batch.

    Args:
        case: The method.
        model: Initial weights; they are copied.
        x: (B, 1, F, T) features.
        target: (B,) classes.
    """

    def __init__(self, case: Case, model: nn.Module, x: Tensor, target: Tensor) -> None:
        self.case, self.x, self.target = case, x, target
        self.model = copy.deepcopy(model).train()
        self.mixer = rma.build(case.mixer, **case.options)
        self.hidden = self.mixer.attach(self.model, case.layers) if case.layers else None
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.generator = torch.Generator(x.device).manual_seed(0)
        self.gradient = LossGradient(self.model, F.cross_entropy, target, keep=case.keep)

    def step(self) -> None:
        """One step of the training."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.case.mixer == "none":
            loss = F.cross_entropy(self.model(self.x), self.target)
        elif self.hidden is not None:
            hidden_plan = self.hidden.draw(self.x, generator=self.generator)
            loss = hidden_plan.loss(F.cross_entropy, self.model(self.x), self.target)
        else:
            plan = self.plan(self.gradient if self.case.gradient else None)
            loss = plan.loss(F.cross_entropy, self.model(plan.apply(self.x)), self.target)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def plan(self, saliency: Any = None) -> rma.MixPlan:
        """The plan of a step."""
        return self.mixer.plan(self.x, generator=self.generator, saliency=saliency)

    def parts(self) -> dict[str, Work]:
        """What can be timed by itself: the saliency pass, drawing the plan with its result known, applying the plan."""
        if self.case.mixer == "none":
            return {}
        if self.hidden is not None:
            return {"plan": partial(self.hidden.draw, self.x, generator=self.generator)}
        salient = self.gradient(self.x) if self.case.gradient else None
        parts: dict[str, Work] = {"plan": partial(self.plan, salient), "apply": partial(self.plan().apply, self.x)}
        if self.case.gradient:
            parts["saliency"] = partial(self.gradient, self.x)
        return parts


def seconds_of_each(works: Sequence[Work], device: torch.device) -> list[float]:
    """Seconds of some calls that follow each other; on CUDA events measure them."""
    if device.type == "cuda":
        events = [torch.cuda.Event(enable_timing=True) for _ in range(len(works) + 1)]
        events[0].record()  # type: ignore[no-untyped-call]
        for work, event in zip(works, events[1:], strict=True):
            work()
            event.record()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in pairwise(events)]
    marks = [time.perf_counter()]
    for work in works:
        work()
        timing.synchronize(device)
        marks.append(time.perf_counter())
    return [after - before for before, after in pairwise(marks)]


def beside(
    works: Mapping[str, Work], reference: Work, calls: int, rounds: int, device: torch.device
) -> dict[str, tuple[Times, Times]]:
    """Seconds of a call and of the reference, by name, in rounds through all works, forwards and backwards in turn.

    Calls of both alternate, so that both meet the machine alike. The mean counts and not the median, because what a
    method does differs from step to step: RandomMix draws another one, Puzzle Mix another number of blocks.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: -1 if number % 2 else 1]:
            works[name]()
            seconds = seconds_of_each([reference, works[name]] * calls, device)
            found[name].append((mean(seconds[1::2]), mean(seconds[::2])))
    return {
        name: (Times(own), Times(others)) for name, pairs in found.items() for own, others in [zip(*pairs, strict=True)]
    }


def features(data: str | None, batch: int, device: torch.device) -> tuple[Tensor, Tensor, str]:
    """Features (B, 1, F, T), targets (B,), and what they are.

    Args:
        data: A folder made by data_prep; None: random numbers.
        batch: B.
        device: Where they are wanted.
    """
    if data is None:
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(batch, 1, SIDE, SIDE, generator=generator) - 0.5
        return x.to(device), torch.randint(CLASSES, (batch,), generator=generator).to(device), "random numbers"
    task = Task.open(data)
    front_end = rma.LogMel.preset("randommix", sample_rate=task.bank.sample_rate).to(device)
    first = next(iter(BankLoader(task.split("train"), batch, device=device).epoch(0)))
    return front_end(first.wave)[:, None], first.target, "real clips"


def measure(arguments: argparse.Namespace, device: torch.device) -> tuple[str, dict[str, Any]]:
    """A Markdown section and the same figures as plain values."""
    x, target, what = features(arguments.data, arguments.batch, device)
    model = seeded(0, int(target.max()) + 1, width=arguments.width).to(device)
    cases = [case for case in CASES if case.mixer in (arguments.only or rma.MIXERS)]
    reference = Training(CASES[0], model, x, target)
    trainings = {case.label: Training(case, model, x, target) for case in cases}
    rounds = arguments.rounds
    steps = beside({name: t.step for name, t in trainings.items()}, reference.step, arguments.steps, rounds, device)
    rows, facts = [], {}
    for name, training in trainings.items():
        own, without = steps[name]
        share = {}
        for part, work in training.parts().items():
            work()
            share[part] = median(seconds_of_each([work] * rounds, device)) / without.median
        cost = ratio(own, without)
        cells = [f"{100 * share[part]:.1f} %" if part in share else "" for part in PARTS]
        rows.append([name, cost, f"{1000 * own.median:.1f}", *cells])
        facts[name] = {"cost": cost._asdict(), "seconds": own.seconds, "without": without.seconds, "parts": share}
    about = (
        f"{device}: batches of {len(x)} x {x.shape[2]} x {x.shape[3]} ({what}), PreAct-ResNet18 of width "
        f"{arguments.width} ({count_parameters(model):,} weights), {rounds} rounds of {arguments.steps} steps with a "
        "method and as many without, one and the other. Cost: time of a step over that of a step without, median and "
        "quartiles over rounds. The last three columns are parts of a step that were timed by themselves, in percent "
        "of a step without.\n"
    )
    heads = ["method", "cost", "ms a step", *PARTS.values()]
    return f"{about}\n{timing.markdown_table(heads, rows)}", facts


def main() -> None:
    """Measure, print, and write a table and a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    timing.common_arguments(parser)
    parser.add_argument("--data", help="folder made by data_prep: real clips (default: random features)")
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage; 64 is the paper's")
    parser.add_argument("--batch", type=int, default=256, help="rows of a batch")
    parser.add_argument("--steps", type=int, default=3, help="steps of a method in each round")
    parser.add_argument("--only", nargs="+", choices=rma.MIXERS, help="these mixers alone (default: all)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found = {str(device): measure(arguments, device) for device in timing.devices(arguments.device)}
    facts = timing.environment()
    sections = [
        "# What each method costs in training\n",
        timing.described(facts),
        *(text for text, _ in found.values()),
    ]
    facts |= {
        "options": {name: value for name, value in vars(arguments).items() if name != "out"},
        "devices": {device: values for device, (_, values) in found.items()},
    }
    timing.write(arguments.out, "method_cost", "\n".join(sections), facts)


if __name__ == "__main__":
    main()
