"""Scores of the runs that are there, for each cell of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipes.shared import records
from recipes.shared.console import UserError
from recipes.shared.records import RESULTS
from recipes.tables.answers import places
from recipes.tables.execute import APART, Testing
from recipes.tables.locks import waiting_for
from recipes.tables.paper import ROBUST, Column, Row
from recipes.tables.plan import Plan, RunSpec
from recipes.tables.statistics import Cell

TIMES = {"clean": 1, "fgsm": 1, "occlusion": 1, "corruption": 75}  # how often an image is looked at
COSTS = {"saliencymix": "saliencymix, energy", "puzzlemix": "puzzlemix, gradient", "comixup": "comixup, gradient"}


@dataclass(frozen=True)
class Collected:
    """What the runs of a table have found.

    Args:
        cells: by key of the row and number of the column.
        results: results.json of all runs that are finished.
        tests: all tests of robustness.
        missing: names of runs that are not there.
    """

    cells: dict[tuple[str, int], Cell]
    results: list[dict[str, Any]]
    tests: list[dict[str, Any]]
    missing: list[str]


class Collector:
    """Reads runs, each file once.

    Args:
        runs: folder of all runs.
        testing: how robustness was tested, and which checkpoint counts.
        costs: cost of each method by its name in `benchmarks.method_cost`; empty without.
    """

    def __init__(self, runs: Path, testing: Testing, costs: dict[str, float] | None = None) -> None:
        self.runs, self.testing, self.costs = runs, testing, costs or {}
        self.read: dict[Path, dict[str, Any] | None] = {}

    def collect(self, plan: Plan) -> Collected:
        """The cells of a table."""
        cells = {}
        for row in plan.table.rows:
            for number, column in enumerate(plan.table.columns):
                own = {
                    seed: run
                    for (key, setting, seed), run in plan.runs.items()
                    if (key, setting) == (row.key, column.setting)
                }
                cells[row.key, number] = self.cell(row, column, own)
        runs = {run.name: run for run in plan.runs.values()}
        results = [self._results(run) for run in runs.values()]
        tests = [self._file(run, self.testing.file(run)) for run in runs.values()] if plan.robust() else []
        missing = [name for name, result in zip(runs, results, strict=True) if result is None]
        return Collected(
            cells, [one for one in results if one is not None], [one for one in tests if one is not None], missing
        )

    def cell(self, row: Row, column: Column, runs: dict[int, RunSpec]) -> Cell:
        """One cell: a score of a row over its seeds."""
        if column.score == "cost":
            cost = self.costs.get(COSTS.get(row.mixer, row.mixer)) if runs else None
            return Cell() if cost is None else Cell({0: cost})
        get: Callable[[RunSpec, str], tuple[float, np.ndarray | None] | None]
        get = self._error if column.score in ROBUST else self._accuracy
        values, items = {}, {}
        for seed, run in runs.items():
            if found := get(run, column.score):
                values[seed] = 100 * found[0]
                if found[1] is not None:
                    items[seed] = 100 * found[1]
        return Cell(values, items)

    def _accuracy(self, run: RunSpec, score: str) -> tuple[float, np.ndarray | None] | None:
        results = self._results(run)
        if results is None:
            return None
        split = "validation" if score == "validation" else "test"
        value = results[self.testing.model][split].get("top5_accuracy" if score == "top5" else "accuracy")
        if value is None:
            return None
        return float(value), self._right(run, split, 5 if score == "top5" else 1)

    def _right(self, run: RunSpec, split: str, places_that_count: int) -> np.ndarray | None:
        """Which rows of a split were right; None where nobody kept that."""
        checkpoint = self.runs / run.name / f"{self.testing.model}.ckpt"
        try:
            with waiting_for(self.runs / APART / run.name):  # another call may be at it, as both write the same file
                found = places(run.recipe, checkpoint, run.data.folder, run.config.device)
        except UserError as error:
            print(f"which rows {run.name} gets right is not known: {error}", flush=True)
            found = None
        if found is not None:
            return (np.array(found[split]) < places_that_count).astype(float)
        tested = self._file(run, self.testing.file(run))
        mistakes = [] if tested is None else tested.get("mistakes", {}).get("clean", [])
        if (split, places_that_count, len(mistakes)) == ("test", 1, run.data.counts["test"]):
            return 1.0 - np.array(mistakes)
        return None

    def _error(self, run: RunSpec, score: str) -> tuple[float, np.ndarray | None] | None:
        found = self._file(run, self.testing.file(run))
        speech = run.recipe == "speech_commands"
        kind = "noise" if speech and score == "corruption" else score
        if found is None or found.get(f"{kind}_error") is None:
            return None
        mistakes = found.get("mistakes", {}).get(kind)
        times = conditions(found, kind) if speech else TIMES[kind]
        return float(found[f"{kind}_error"]), None if mistakes is None else np.array(mistakes) / times

    def _results(self, run: RunSpec) -> dict[str, Any] | None:
        return self._file(run, RESULTS)

    def _file(self, run: RunSpec, name: str) -> dict[str, Any] | None:
        path = self.runs / run.name / name
        if path not in self.read:
            self.read[path] = records.read_json(path) if path.is_file() else None
        return self.read[path]


def conditions(found: dict[str, Any], kind: str) -> int:
    """How many conditions of a kind a test on speech had."""
    from randommix_audio.evaluation import FILE_CODECS, GROUPS

    if kind == "clean":
        return 1
    known = GROUPS | FILE_CODECS
    return sum(row["group"] != "clean" and known[row["group"]].mean == kind for row in found["conditions"].values())


def read_costs(file: str | None) -> dict[str, float]:
    """Cost of each method from the JSON file of `python -m benchmarks.method_cost`; of the first device in it.

    Raises:
        UserError: where it holds something else.
    """
    if file is None:
        return {}
    if not Path(file).is_file():
        raise UserError(f"{file}: no such file; python -m benchmarks.method_cost writes one")
    found = records.read_json(file)
    try:
        methods = next(iter(found["devices"].values()))
        return {name: float(one["cost"]["median"]) for name, one in methods.items()}
    except (KeyError, TypeError, AttributeError, StopIteration, ValueError) as error:
        raise UserError(f"{file}: not what benchmarks.method_cost writes") from error
