"""What RandomMix costs in the Speech Commands recipe: whole training steps with it beside steps without.

A step is the recipe's own: batch from the bank, augmentation, log-mel where the configuration needs it in every step,
plan, apply, forward, loss, backward, optimiser. Steps with and without alternate in one run, every batch is mixed. The
line "none" is a training without mixing beside another one: how well the machine can be measured. "Of the processor"
is the same cost in the time that the process had a processor, which other jobs disturb less. "Mixing" is plan and apply
by themselves in percent of a step without.
"""

import argparse
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import randommix_audio as rma
from benchmarks import synthetic, timing
from benchmarks.method_cost import beside, seconds_of_each
from benchmarks.timing import ratio
from randommix_audio.data import Batch, Task
from recipes.shared import console
from recipes.shared.devices import make_fabric
from recipes.shared.trainer import Trainer
from recipes.speech_commands.config import Config
from recipes.speech_commands.job import KeywordJob

CONFIGURATIONS = Path(__file__).resolve().parents[1] / "recipes" / "speech_commands" / "conf"
PER = ("batch", "row")
BATCHES = 4  # of clips that are made up where there are no real ones


class Training:
    """A training of the recipe that goes on step by step.

    Args:
        config: Its options.
        task: Its clips.
    """

    def __init__(self, config: Config, task: Task) -> None:
        fabric = make_fabric(config.device, config.precision)
        self.job = KeywordJob(config, task, fabric)
        network = self.job.network()
        self.trainer = Trainer(fabric, config, network, self.job, Path("unused"), config.plain(), config.compile)
        self.trainer.network.train()
        self.batches = self._batches()
        self.processor: list[float] = []
        self.step()  # computes the features of all clips where the recipe keeps them
        self.processor.clear()

    def _batches(self) -> Iterator[Batch]:
        for epoch in itertools.count():
            yield from self.job.batches(epoch)

    def step(self) -> None:
        """One step, the recipe's own."""
        begun = time.process_time()
        self.trainer._train_step(next(self.batches), None)
        self.processor.append(time.process_time() - begun)

    @torch.no_grad()
    def mixing(self, calls: int) -> float:
        """Seconds of plan and apply by themselves on the features of a batch, mean of some calls."""
        device, mixer = self.trainer.fabric.device, self.job.mixer
        batch, generator = next(self.batches), rma.step_generator(0, 0, device=device)
        x = self.job.prepare(batch, generator)
        seconds = seconds_of_each([lambda: mixer.plan(x, generator=generator).apply(x)] * (calls + 1), device)
        return mean(seconds[1:])


def configure(name: str, arguments: argparse.Namespace, device: torch.device) -> Config:
    """The options of a configuration of the recipe, by its name."""
    argv = ["--config", str(CONFIGURATIONS / f"{name}.yaml"), "--width", str(arguments.width)]
    argv += ["--batch_size", str(arguments.batch), "--device", str(device)]
    config, _ = console.parse(Config, "python -m benchmarks training", argv)
    # Half precision is emulated on most processors. The number of epochs is one that is never reached.
    precision = "32-true" if device.type == "cpu" else config.precision
    return dataclasses.replace(config, precision=precision, epochs=100_000, threads=None)


def measure(
    name: str, task: Task, arguments: argparse.Namespace, device: torch.device
) -> tuple[list[list[object]], Any]:
    """Lines of the table for one configuration, and the same as plain values."""
    config = configure(name, arguments, device)
    without = dataclasses.replace(config, mixer="none")
    reference = Training(without, task)
    trainings = {"none": Training(without, task)} | {
        f"per {per}": Training(dataclasses.replace(config, mixer="randommix", mixer_args=mixed(config, per)), task)
        for per in PER
    }
    works = {label: training.step for label, training in trainings.items()}
    steps = beside(works, reference.step, arguments.steps, arguments.rounds, device)
    lines: list[list[object]] = []
    facts: dict[str, Any] = {"features in every step": not reference.job.keeps_features}
    for label, (own, others) in steps.items():
        training, cost = trainings[label], ratio(own, others)
        figures: dict[str, Any] = {"cost": cost._asdict(), "seconds": own.seconds, "without": others.seconds}
        cells = [f"{cost.median:.3f} ({cost.low:.3f} to {cost.high:.3f})", "", ""]
        if device.type == "cpu":
            figures["of the processor"] = mean(training.processor) / mean(reference.processor)
            cells[1] = f"{figures['of the processor']:.3f}"
        if label != "none":
            figures["mixing"] = training.mixing(arguments.rounds * arguments.steps) / others.median
            cells[2] = f"{100 * figures['mixing']:.2f} %"
        lines.append([name, label, *cells, *(f"{1000 * value.median:.1f}" for value in (own, others))])
        facts[label] = figures
    return lines, facts


def mixed(config: Config, per: str) -> dict[str, Any]:
    """The mixer's arguments, every batch mixed."""
    return {**config.mixer_args, "per": per, "p": 1.0}


def run(task: Task, arguments: argparse.Namespace) -> None:
    """Measure all configurations on all devices, print and write."""
    environment = timing.environment()
    facts: dict[str, Any] = {"environment": environment, "options": {k: str(v) for k, v in vars(arguments).items()}}
    sections = ["# What RandomMix costs in the Speech Commands recipe\n", timing.described(environment)]
    sections.append(
        f"Batches of {arguments.batch} {'clips' if arguments.data else 'made-up clips'}, PreAct-ResNet18 of width "
        f"{arguments.width}; {arguments.rounds} rounds of {arguments.steps} steps with and as many without, one and "
        "the other. Cost: time of a step over that of a step without, median and quartiles over rounds.\n"
    )
    heads = ["configuration", "RandomMix", "cost", "of the processor", "mixing", "ms a step", "ms without"]
    for device in timing.devices(arguments.device):
        found = {name: measure(name, task, arguments, device) for name in arguments.configuration}
        sections += [f"## {device}\n", timing.markdown_table(heads, [x for lines, _ in found.values() for x in lines])]
        facts[str(device)] = {name: values for name, (_, values) in found.items()}
    timing.write(arguments.out, "training", "\n".join(sections), facts)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and write a table and a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    timing.common_arguments(parser)
    names = sorted(path.stem for path in CONFIGURATIONS.glob("*.yaml"))
    parser.add_argument(
        "--configuration", nargs="+", choices=names, default=["paper", "strong"], help="of the recipe; paper keeps "
        "the features of all clips, strong augments waveforms and computes log-mel in every step"
    )  # fmt: skip
    parser.add_argument("--data", help="folder made by data_prep (default: made-up clips)")
    parser.add_argument("--width", type=int, default=16, help="channels of the first stage; 64 is the paper's")
    parser.add_argument("--batch", type=int, default=256, help="rows of a batch")
    parser.add_argument("--steps", type=int, default=4, help="steps of a kind in each round")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.data:
        run(Task.open(arguments.data), arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(synthetic.task(Path(folder), BATCHES * arguments.batch), arguments)


if __name__ == "__main__":
    main()
