"""Run what is missing: each training as a program of its own, then its test of robustness where a table needs it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from randommix_audio.data.files import locked
from randommix_audio.files import write_atomically
from recipes.images.robustness import fingerprint
from recipes.shared import pool, records
from recipes.shared.console import UserError
from recipes.shared.records import RESULTS
from recipes.tables.budget import Budget
from recipes.tables.plan import RunSpec, word

APART, TIMES = ".tables", "times.jsonl"
Model = Literal["last", "best"]


@dataclass(frozen=True)
class Testing:
    """How checkpoints are tested for robustness.

    Args:
        budget: whose options of `robustness` count.
        corruptions: folder of CIFAR-10-C or its like, for images; None leaves that column out.
        model: last or best, the checkpoint that counts.
    """

    budget: Budget
    corruptions: str | None
    model: Model

    def options(self, recipe: str) -> dict[str, Any]:
        """Options of the recipe's `robustness` but checkpoint and place."""
        options = dict(self.budget.share(recipe).robustness)
        if recipe != "images" or self.corruptions is None:
            options.pop("limit_corruption_images", None)
        elif recipe == "images":
            options["corruptions"] = str(Path(self.corruptions).resolve())
        return options

    def file(self, run: RunSpec) -> str:
        """Its file in the folder of a run: another one for other options."""
        options: dict[str, Any] = self.options(run.recipe)
        if "corruptions" in options:
            options["corruptions"] = fingerprint(options["corruptions"])
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:8]
        return f"robustness-{self.model}-{digest}.json"


@dataclass(frozen=True)
class Work:
    """A run and what is wanted of it.

    Args:
        run: the training.
        robust: whether its robustness is wanted.
    """

    run: RunSpec
    robust: bool


def merged(works: Iterable[Work]) -> list[Work]:
    """Every run once, seed by seed so that comparisons are complete early, with all that any table wants of it."""
    found: dict[str, Work] = {}
    for work in works:
        before = found.get(work.run.name)
        found[work.run.name] = Work(work.run, work.robust or (before is not None and before.robust))
    return sorted(found.values(), key=lambda work: work.run.config.seed)


class Executor:
    """A queue of what is missing of some runs, see `pool.Queue`.

    Each run is held by one call at a time; what another call holds is waited for, and taken when it is there.

    Args:
        works: all runs.
        runs: folder of all runs.
        testing: how robustness is tested.
        jobs: programs at the same time.
        threads: of each.
    """

    def __init__(self, works: Iterable[Work], runs: Path, testing: Testing, jobs: int = 1, threads: int = 1) -> None:
        self.works, self.runs, self.testing = merged(works), runs, testing
        self.jobs, self.threads = jobs, threads
        self.failed: dict[str, str] = {}
        self.left = [work for work in self.works if self._looked_at(work)]
        self.held: dict[str, tuple[Work, ExitStack]] = {}
        self.waited: set[str] = set()

    def missing(self, work: Work) -> str | None:
        """The next thing to be done: "train", "robustness", or None.

        Raises:
            UserError: where the folder of the run holds something else.
        """
        folder = self.runs / work.run.name
        options = work.run.options(str(self.runs))
        if records.state_of(folder, options) != "finished":
            return "train"
        return "robustness" if work.robust and not (folder / self.testing.file(work.run)).is_file() else None

    def _looked_at(self, work: Work) -> str | None:
        """What is missing of a run; one whose folder cannot be read has failed, and the others go on."""
        try:
            return self.missing(work)
        except UserError as error:
            self.failed[work.run.name] = str(error)
            print(f"failed {work.run.name}: {error}", flush=True)
            return None

    def run(self) -> None:
        """Run all, and say what became of each."""
        finished = len(self.works) - len(self.left) - len(self.failed)
        print(f"{len(self.works)} runs, {finished} finished", flush=True)
        try:
            pool.run(self, self.jobs, self.threads)
        finally:
            for _, lock in self.held.values():
                lock.close()

    def empty(self) -> bool:
        """See `pool.Queue`, as the next two."""
        return not self.left

    def next(self) -> pool.Step | None:
        """The next step of a run that no other call holds."""
        for work in list(self.left):
            lock = self._hold(work)
            if lock is None:
                continue
            self.left.remove(work)
            kind = self._looked_at(work)  # another call may have done it meanwhile
            if kind is None:
                lock.close()
                if work.run.name in self.failed:
                    continue
                print(f"taken {work.run.name}", flush=True)
                continue
            self.held[work.run.name] = (work, lock)
            print(f"started {work.run.name} (log: {self._log(work)})", flush=True)
            return self._step(work, kind)
        return None

    def ended(self, step: pool.Step, code: int, seconds: float) -> pool.Step | None:
        """Go on with the same run, or let it go."""
        name, kind = step.name.split(" ")
        work, lock = self.held[name]
        left = self.missing(work)
        if code == 0 and left != kind:
            self._note(work, kind, seconds)
            if left is not None:
                return self._step(work, left)
            print(f"finished {name}: {self._said(work)}", flush=True)
        else:
            self.failed[name] = step.last_line()
            print(f"failed {name} ({kind}, exit code {code}): {step.last_line()}", flush=True)
        del self.held[name]
        lock.close()
        return None

    def _hold(self, work: Work) -> ExitStack | None:
        """Take a run for this call; None while another one, or a training that lost its call, has it."""
        name = work.run.name
        folder = self.runs / APART / name
        folder.mkdir(parents=True, exist_ok=True)
        lock = ExitStack()
        try:
            lock.enter_context(locked(folder))
            with records.held(self.runs / name):
                return lock
        except BlockingIOError:
            lock.close()
            if name not in self.waited:
                self.waited.add(name)
                print(f"waiting for {name}: another process is at it", flush=True)
            return None

    def _log(self, work: Work) -> Path:
        return self.runs / f"{work.run.name}.log"

    def _step(self, work: Work, kind: str) -> pool.Step:
        words = train_words if kind == "train" else robustness_words
        return pool.Step(f"{work.run.name} {kind}", words(work.run, self.runs, self.testing), self._log(work))

    def _note(self, work: Work, kind: str, seconds: float) -> None:
        """Remember how long it took, for estimates."""
        config = work.run.config
        about = {"what": kind, "recipe": work.run.recipe, "model": config.model, "width": config.width}
        with open(self.runs / TIMES, "a", encoding="utf-8") as file:
            file.write(json.dumps({**about, "seconds": round(seconds, 1)}) + "\n")

    def _said(self, work: Work) -> str:
        results = records.read_json(self.runs / work.run.name / RESULTS)
        accuracy = results[self.testing.model]["test"]["accuracy"]
        said = "no test rows" if accuracy is None else f"test accuracy {100 * accuracy:.2f} %"
        return f"{said}, {results['seconds']:.0f} s of training"


def train_words(run: RunSpec, runs: Path, testing: Testing) -> tuple[str, ...]:
    """The command that trains a run, whose options are written to a file first."""
    file = runs / APART / run.name / "train.yaml"
    write_atomically(file, yaml.safe_dump(run.options(str(runs)), sort_keys=False))
    launch: tuple[str, ...] = (sys.executable, "-m")
    if run.processes > 1:
        launch += ("torch.distributed.run", "--standalone", f"--nproc-per-node={run.processes}", "-m")
    return (*launch, f"recipes.{run.recipe}.train", f"--config={file}")


def robustness_words(run: RunSpec, runs: Path, testing: Testing) -> tuple[str, ...]:
    """The command that tests a run for robustness."""
    folder = runs / run.name
    options = {
        "checkpoint": folder / f"{testing.model}.ckpt",
        "data": run.data.folder,
        "device": run.config.device,
        "out": folder / testing.file(run),
        **testing.options(run.recipe),
    }
    words = [f"--{name}={word(records.plain(value))}" for name, value in options.items()]
    return (sys.executable, "-m", f"recipes.{run.recipe}.robustness", *words)


def threads_of_each(jobs: int, threads: int | None) -> int:
    """Threads that each of some programs has: those asked for, or an equal share of the cores."""
    return threads or max(1, (os.cpu_count() or 1) // jobs)
