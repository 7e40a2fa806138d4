"""Train a keyword recogniser.

`python -m recipes.speech_commands.train --config recipes/speech_commands/conf/small.yaml --data data/sc`
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from randommix_audio import viewing
from randommix_audio.data import Task
from recipes.shared import console, records
from recipes.shared.devices import make_deterministic, make_fabric
from recipes.shared.preact_resnet import seeded
from recipes.shared.runs import begin, circumstances, say
from recipes.shared.trainer import BEST, LAST, METRICS, RESULTS, Trainer, refuse_other_data
from recipes.speech_commands.config import LAYERS, Config, make_mixer
from recipes.speech_commands.job import KeywordJob
from recipes.speech_commands.recogniser import load

PROGRAM = "python -m recipes.speech_commands.train"


def train(config: Config, name: str) -> dict[str, Any]:
    """Run a training from wherever it stands to its end.

    Args:
        config: the options.
        name: the folder of the run inside config.runs.

    Returns:
        What results.json holds.

    Raises:
        UserError: for whatever the person who typed the command can mend.
    """
    make_mixer(config)  # mistakes in the options come before anything is opened or written
    task = Task.open(config.data)
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        make_deterministic()
    fabric = make_fabric(config.device, config.precision)
    job = KeywordJob(config, task, fabric)
    network = seeded(config.seed, len(task.labels), width=config.width, dropout=config.dropout)
    folder = Path(config.runs) / name
    with ExitStack() as lock:
        if begin(fabric, folder, config.plain(), config.resume == "auto", lock) == "finished":
            return _finished(fabric, job, folder)
        trainer = Trainer(fabric, config, network, job, folder, config.plain(), config.compile)
        if trainer.resume():
            say(fabric, f"going on after epoch {trainer.epoch} of {folder}")
        trainer.fit()
        return _conclude(trainer, job, config, folder)


def _finished(fabric: Any, job: KeywordJob, folder: Path) -> dict[str, Any]:
    """Say again what a finished run has found."""
    results = records.read_json(folder / RESULTS)
    refuse_other_data(folder, results, job.about)
    say(fabric, f"{folder} is finished")
    if fabric.global_rank == 0:
        _tell(folder, results, sorted((folder / "pictures").glob("*.png")))
    return results


def _conclude(trainer: Trainer, job: KeywordJob, config: Config, folder: Path) -> dict[str, Any]:
    """Test the last and the best model, draw the pictures, and write results.json as the very last file."""
    fabric = trainer.fabric
    best, best_state = load(folder / BEST, fabric.device)
    tested = {
        "last": {"epoch": trainer.epoch, **_both(job, trainer.judged)},
        "best": {"epoch": best_state["epoch"], **_both(job, best.network)},
    }
    metrics = records.read_metrics(folder / METRICS)
    results = {
        "recipe": "speech_commands",
        "task": job.task.metadata,
        "data": job.about["data"],
        "config": config.plain(),
        "labels": job.task.labels,
        "mixer": config.mixer,
        "preset": config.preset,
        "width": config.width,
        "epochs": config.epochs,
        "seed": config.seed,
        "clips": {split: len(job.task.split(split)) for split in ("train", "validation", "test")},
        **circumstances(trainer, metrics),
        **tested,
    }
    if fabric.global_rank == 0:
        pictures = draw(job, metrics, tested["last"]["test"], folder) if config.pictures else []
        records.write_json(folder / RESULTS, results)
        _tell(folder, tested, pictures)
    fabric.barrier()
    return results


def _both(job: KeywordJob, network: torch.nn.Module) -> dict[str, Any]:
    return {split: job.evaluate(network, split) for split in ("validation", "test")}


def draw(job: KeywordJob, metrics: list[dict[str, Any]], test: dict[str, Any], folder: Path) -> list[Path]:
    """Draw curves, confusion matrix and mixed clips into <folder>/pictures."""
    for method in job.config.methods:
        if method in LAYERS:
            print(f"no picture of {method}: it mixes hidden layers")
    figures = {"curves": viewing.curves(metrics, title=folder.name), **job.galleries()}
    if test["clips"]:
        figures["confusion"] = viewing.confusion(test["confusion"], test["labels"])
    return [viewing.save(figure, folder / "pictures" / f"{name}.png") for name, figure in figures.items()]


def _tell(folder: Path, tested: dict[str, Any], pictures: list[Path]) -> None:
    for kind, file, meaning in (
        ("last", LAST, "after the last epoch"),
        ("best", BEST, "at the best validation accuracy"),
    ):
        epoch, test = tested[kind]["epoch"], tested[kind]["test"]
        if not test["clips"]:
            print(f"no test clips; model {meaning} ({epoch}): {folder / file}")
            continue
        print(
            f"test accuracy {100 * test['accuracy']:.2f} % (mean over classes {100 * test['macro_accuracy']:.2f} %), "
            f"{test['correct']} of {test['clips']} clips, {meaning} ({epoch}): {folder / file}"
        )
    for picture in pictures:
        print(f"picture: {picture}")
    print(f"try it: python -m recipes.speech_commands.predict --checkpoint {folder / LAST} FILE.wav", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    config, configuration = console.parse(Config, PROGRAM, argv)
    train(config, config.run_name(configuration))


if __name__ == "__main__":
    console.run(main, again="go on with the same command and --resume auto")
