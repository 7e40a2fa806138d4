"""Train a speech recogniser with CTC.

`python -m recipes.an4.train --config recipes/an4/conf/small.yaml --data data/an4/prepared`
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from randommix_audio import viewing
from recipes.an4.config import Config, make_mixer
from recipes.an4.job import SpeechJob
from recipes.an4.recogniser import load, recogniser_of
from recipes.an4.utterances import open_corpus
from recipes.shared import console, records
from recipes.shared.averaging import average_checkpoints
from recipes.shared.devices import make_deterministic, make_fabric
from recipes.shared.runs import begin, circumstances, say
from recipes.shared.trainer import BEST, LAST, METRICS, RESULTS, Trainer, refuse_other_data, snapshot

PROGRAM = "python -m recipes.an4.train"
AVERAGE = "average.ckpt"


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
    bank = open_corpus(config.data)
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        make_deterministic()
    fabric = make_fabric(config.device, config.precision)
    job = SpeechJob(config, bank, fabric)
    encoder = job.shape.make_encoder(config.seed)
    folder = Path(config.runs) / name
    with ExitStack() as lock:
        if begin(fabric, folder, config.plain(), config.resume == "auto", lock) == "finished":
            return _finished(fabric, job, folder)
        trainer = Trainer(
            fabric, config, encoder, job, folder, config.plain(), config.compile, snapshots=config.average_last
        )
        if trainer.resume():
            say(fabric, f"going on after epoch {trainer.epoch} of {folder}")
        trainer.fit()
        return _conclude(trainer, job, config, folder)


def _finished(fabric: Any, job: SpeechJob, folder: Path) -> dict[str, Any]:
    """Say again what a finished run has found."""
    results = records.read_json(folder / RESULTS)
    refuse_other_data(folder, results, job.about)
    say(fabric, f"{folder} is finished")
    if fabric.global_rank == 0:
        _tell(folder, results, sorted((folder / "pictures").glob("*.png")))
    return results


def _conclude(trainer: Trainer, job: SpeechJob, config: Config, folder: Path) -> dict[str, Any]:
    """Test the last, the best and the averaged model, and write results.json as the very last file."""
    fabric = trainer.fabric
    best, best_state = load(folder / BEST, fabric.device)
    tested = {
        "last": {"epoch": trainer.epoch, **_both(job, trainer.judged)},
        "best": {"epoch": best_state["epoch"], **_both(job, best.encoder)},
    }
    if config.average_last:
        paths = [snapshot(folder, trainer.epoch - k) for k in reversed(range(config.average_last))]
        state = average_checkpoints(paths, fabric.device)
        averaged = recogniser_of(state, folder / AVERAGE, fabric.device)
        tested["average"] = {"epoch": trainer.epoch, **_both(job, averaged.encoder)}
        if fabric.global_rank == 0:
            records.save(state, folder / AVERAGE)
    metrics = records.read_metrics(folder / METRICS)
    results = {
        "recipe": "an4",
        "data": job.about["data"],
        "config": config.plain(),
        "setting": config.setting,
        "epochs": config.epochs,
        "seed": config.seed,
        "utterances": {split: len(part) for split, part in job.splits.items()},
        **circumstances(trainer, metrics),
        **tested,
    }
    if fabric.global_rank == 0:
        pictures = draw(job, metrics, folder) if config.pictures else []
        records.write_json(folder / RESULTS, results)
        _tell(folder, tested, pictures)
    fabric.barrier()
    return results


def _both(job: SpeechJob, encoder: torch.nn.Module) -> dict[str, Any]:
    return {split: job.evaluate(encoder, split) for split in ("validation", "test")}


def draw(job: SpeechJob, metrics: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw the curves and some mixed utterances into <folder>/pictures."""
    figures = {"curves": viewing.curves(metrics, title=folder.name), "mixes": job.picture()}
    return [viewing.save(figure, folder / "pictures" / f"{name}.png") for name, figure in figures.items()]


MODELS = (
    ("last", LAST, "after the last epoch"),
    ("best", BEST, "at the best validation WER"),
    ("average", AVERAGE, "mean of the last epochs"),
)


def _tell(folder: Path, tested: dict[str, Any], pictures: list[Path]) -> None:
    for kind, file, meaning in MODELS:
        if kind not in tested:
            continue
        epoch, test = tested[kind]["epoch"], tested[kind]["test"]
        if test["wer"] is None:
            print(f"no test utterances; model {meaning} ({epoch}): {folder / file}")
            continue
        print(
            f"test WER {100 * test['wer']:.2f} %, CER {100 * test['cer']:.2f} %, {test['word_errors']} errors in "
            f"{test['words']} words of {test['utterances']} utterances, {meaning} ({epoch}): {folder / file}"
        )
    for picture in pictures:
        print(f"picture: {picture}")
    print(f"try it: python -m recipes.an4.transcribe --checkpoint {folder / LAST} FILE.wav", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    config, configuration = console.parse(Config, PROGRAM, argv)
    train(config, config.run_name(configuration))


if __name__ == "__main__":
    console.run(main, again="go on with the same command and --resume auto")
