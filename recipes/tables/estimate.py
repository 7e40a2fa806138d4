"""How long what is missing will take, from the runs that are there."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from recipes.shared import records
from recipes.shared.records import RESULTS
from recipes.tables.execute import TIMES, Executor, Work


class Estimate:
    """Seconds of trainings and tests, by what others of the same kind took.

    Args:
        runs: folder of all runs.
    """

    def __init__(self, runs: Path) -> None:
        self.rates: dict[tuple[Any, ...], list[float]] = {}  # seconds for each row and epoch
        self.tests: dict[tuple[Any, ...], list[float]] = {}
        for file in sorted(runs.glob(f"*/{RESULTS}")):
            result = records.read_json(file)
            rows = result["clips"]["train"] * result["epochs"]
            kind = (result["recipe"], result["model"], result["width"])
            if rows:
                self.rates.setdefault(kind, []).append(result["seconds"] / rows)
        file = runs / TIMES
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            about = json.loads(line)
            if about["what"] == "robustness":
                kind = (about["recipe"], about["model"], about["width"])
                self.tests.setdefault(kind, []).append(about["seconds"])

    def seconds(self, work: Work, runs: Path, missing: str) -> float | None:
        """Of what is missing of a run; None where nothing like it has been run."""
        config = work.run.config
        kind = (work.run.recipe, config.model, config.width)
        total = 0.0
        if missing == "train":
            if kind not in self.rates:
                return None
            metrics = runs / work.run.name / "metrics.jsonl"
            done = len(metrics.read_text(encoding="utf-8").splitlines()) if metrics.is_file() else 0
            rows = work.run.data.counts["train"] * max(0, config.epochs - done)
            total += rows * statistics.median(self.rates[kind])
        if work.robust:
            if kind not in self.tests:
                return None
            total += statistics.median(self.tests[kind])
        return total


def describe(executor: Executor) -> str:
    """What would run, a line for each, and how long all of it would take."""
    estimate = Estimate(executor.runs)
    lines, known, unknown = [], 0.0, 0
    for work in executor.works:
        if work.run.name in executor.failed:
            continue
        missing = executor.missing(work)
        if missing is None:
            lines.append(f"{work.run.name}: finished")
            continue
        seconds = estimate.seconds(work, executor.runs, missing)
        known, unknown = known + (seconds or 0.0), unknown + (seconds is None)
        what = "train" + (", robustness" if work.robust else "") if missing == "train" else missing
        lines.append(f"{work.run.name}: {what}" + ("" if seconds is None else f", about {seconds / 60:.1f} min"))
    said = f"{len(executor.left)} of {len(executor.works)} runs to do"
    if known:
        said += f", about {known / executor.jobs / 60:.0f} min with --jobs {executor.jobs}"
    if unknown:
        said += f"; nothing is there to estimate {unknown} of them from"
    return "\n".join([*lines, said])
