"""A run of any classifier from its start, or from where it was stopped, to results.json and the pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from randommix_audio import viewing
from recipes.shared import records
from recipes.shared.classifier import ClassifierJob
from recipes.shared.devices import make_deterministic, make_fabric
from recipes.shared.models import HIDDEN_METHODS
from recipes.shared.options import Classifying
from recipes.shared.runs import begin, circumstances, say
from recipes.shared.trainer import BEST, LAST, METRICS, RESULTS, Trainer, refuse_other_data

PICTURED_CLASSES = 100  # the confusion matrix of more classes would be a picture of several metres
LAST_COUNTS = "last epoch: there is no validation split"
BEST_COUNTS = "best validation accuracy"


@dataclass(frozen=True)
class Recipe:
    """What a recipe calls itself and its rows.

    Args:
        name: of the folder inside recipes.
        rows: what a row is called, in the plural.
        example: a file that `predict` takes.
    """

    name: str
    rows: str
    example: str


def train_classifier(
    recipe: Recipe, config: Classifying, name: str, make_job: Callable[[Fabric], ClassifierJob]
) -> dict[str, Any]:
    """Run a training from wherever it stands to its end.

    Args:
        recipe: whose training it is.
        config: the options.
        name: the folder of the run inside config.runs.
        make_job: makes the job, once device and processes are known.

    Returns:
        What results.json holds.

    Raises:
        UserError: for whatever the person who typed the command can mend.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        make_deterministic()
    fabric = make_fabric(config.device, config.precision)
    job = make_job(fabric)
    network = job.network()
    folder = Path(config.runs) / name
    with ExitStack() as lock:
        if begin(fabric, folder, config.plain(), config.resume == "auto", lock) == "finished":
            return _finished(recipe, fabric, job, folder)
        trainer = Trainer(fabric, config, network, job, folder, config.plain(), config.compile)
        if trainer.resume():
            say(fabric, f"going on after epoch {trainer.epoch} of {folder}")
        trainer.fit()
        return _conclude(recipe, trainer, job, folder)


def _finished(recipe: Recipe, fabric: Fabric, job: ClassifierJob, folder: Path) -> dict[str, Any]:
    """Say again what a finished run has found."""
    results = records.read_json(folder / RESULTS)
    refuse_other_data(folder, results, job.about)
    say(fabric, f"{folder} is finished")
    if fabric.global_rank == 0:
        _tell(recipe, folder, results, sorted((folder / "pictures").glob("*.png")))
    return results


def _conclude(recipe: Recipe, trainer: Trainer, job: ClassifierJob, folder: Path) -> dict[str, Any]:
    """Test the last and the best model, draw the pictures, and write results.json as the very last file."""
    fabric, config = trainer.fabric, job.options
    validated = job.counts["validation"] > 0
    last = {"epoch": trainer.epoch, **_both(job, trainer.judged)}
    metrics = records.read_metrics(folder / METRICS)
    results = {
        "recipe": recipe.name,
        "data": job.about["data"],
        "config": config.plain(),
        "labels": job.labels,
        "mixer": config.mixer,
        "model": config.model,
        "width": config.width,
        "epochs": config.epochs,
        "seed": config.seed,
        "clips": job.counts,
        "selection": BEST_COUNTS if validated else LAST_COUNTS,
        **job.facts(),
        **circumstances(trainer, metrics),
        "last": last,
        "best": _best(trainer, job, folder) if validated else last,
    }
    if fabric.global_rank == 0:
        pictures = draw(job, metrics, results["last"]["test"], folder) if config.pictures else []
        records.write_json(folder / RESULTS, results)
        _tell(recipe, folder, results, pictures)
    fabric.barrier()
    return results


def _best(trainer: Trainer, job: ClassifierJob, folder: Path) -> dict[str, Any]:
    """Test the model with the best validation accuracy."""
    state = records.load(folder / BEST, trainer.fabric.device)
    network = job.network().to(trainer.fabric.device)
    network.load_state_dict(state["model"])
    return {"epoch": state["epoch"], **_both(job, network)}


def _both(job: ClassifierJob, network: torch.nn.Module) -> dict[str, Any]:
    return {split: job.evaluate(network, split) for split in ("validation", "test")}


def draw(job: ClassifierJob, metrics: list[dict[str, Any]], test: dict[str, Any], folder: Path) -> list[Path]:
    """Draw curves, confusion matrix and mixed inputs into <folder>/pictures."""
    for method in job.options.methods:
        if method in HIDDEN_METHODS:
            print(f"no picture of {method}: it mixes hidden layers")
    figures = {"curves": viewing.curves(metrics, title=folder.name), **job.galleries()}
    if len(test["labels"]) > PICTURED_CLASSES:
        print(f"no picture of the confusion matrix of {len(test['labels'])} classes: see {folder / RESULTS}")
    elif test["clips"]:
        figures["confusion"] = viewing.confusion(test["confusion"], test["labels"])
    return [viewing.save(figure, folder / "pictures" / f"{name}.png") for name, figure in figures.items()]


def _tell(recipe: Recipe, folder: Path, results: dict[str, Any], pictures: list[Path]) -> None:
    kinds = [("last", LAST, "after the last epoch"), ("best", BEST, "at the best validation accuracy")]
    for kind, file, meaning in kinds[: 1 if results.get("selection") == LAST_COUNTS else 2]:
        epoch, test = results[kind]["epoch"], results[kind]["test"]
        if not test["clips"]:
            print(f"no test {recipe.rows}; model {meaning} ({epoch}): {folder / file}")
            continue
        top = f", top-5 {100 * test['top5_accuracy']:.2f} %" if "top5_accuracy" in test else ""
        print(
            f"test accuracy {100 * test['accuracy']:.2f} % (mean over classes {100 * test['macro_accuracy']:.2f} %"
            f"{top}), {test['correct']} of {test['clips']} {recipe.rows}, {meaning} ({epoch}): {folder / file}"
        )
    for picture in pictures:
        print(f"picture: {picture}")
    said = f"python -m recipes.{recipe.name}.predict --checkpoint {folder / LAST} {recipe.example}"
    print(f"try it: {said}", flush=True)
