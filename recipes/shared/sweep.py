"""Many runs of a classifier: every mixer with every seed, for the `sweep` of a recipe."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import randommix_audio as rma
from recipes.shared import console, pool, records
from recipes.shared.console import UserError
from recipes.shared.mixing import make_mixer
from recipes.shared.options import Classifying
from recipes.shared.trainer import RESULTS, refuse_other_data


@dataclass(frozen=True)
class Swept:
    """The recipe whose trainings are run.

    Args:
        recipe: its package.
        options: of its `train`.
        digest: a digest of all data that a training with these options reads.
    """

    recipe: str
    options: type[Classifying]
    digest: Callable[[Any], str]


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, as all programs here do."""

    def error(self, message: str) -> NoReturn:
        """See argparse."""
        raise UserError(f"{message} (try --help)")


def arguments(swept: Swept, argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Options of the sweep, and all others, which go to `train` as they are."""
    parser = Parser(
        prog=f"python -m {swept.recipe}.sweep",
        description="Train every mixer with every seed: what is finished is skipped, what was stopped goes on, what is "
        f"missing is run. All other options go to {swept.recipe}.train.",
        allow_abbrev=False,
    )
    known = ", ".join(rma.MIXERS)
    parser.add_argument(
        "--mixers", nargs="+", default=["none", "randommix"], help=f"of {known} (default: none randommix)"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, sharing the cores (default: 1)")
    options, rest = parser.parse_known_args(argv)
    if options.jobs < 1:
        raise UserError(f"jobs must be at least 1, got {options.jobs}")
    if any(word.split("=")[0] == "--name" for word in rest):
        raise UserError("leave --name out: every run of a sweep has a name of its own")
    return options, rest


class Sweep:
    """Starts runs, at most `jobs` at a time, seed by seed so that pairs are complete early.

    Args:
        swept: the recipe.
        options: of the command line.
        rest: what goes to `train`.

    Raises:
        UserError: for options that `train` would refuse, and folders that hold other runs.
        BankError: where there is no prepared data.
    """

    def __init__(self, swept: Swept, options: argparse.Namespace, rest: list[str]) -> None:
        self.swept = swept
        self.threads = max(1, (os.cpu_count() or 1) // options.jobs)
        self.jobs = options.jobs
        self.waiting: list[tuple[Path, list[str]]] = []
        self.folders: list[Path] = []
        data = ""
        for seed in options.seeds:
            for mixer in options.mixers:
                own = [*rest, f"--mixer={mixer}", f"--seed={seed}", "--resume=auto"]
                config, configuration = console.parse(swept.options, f"python -m {swept.recipe}.train", own)
                make_mixer(config)
                name = dataclasses.replace(config, name=None).run_name(configuration)  # a file's name is for one run
                folder = Path(config.runs) / name
                if folder in self.folders:
                    continue
                data = data or swept.digest(config)
                self.folders.append(folder)
                if records.state_of(folder, config.plain()) == "finished":
                    refuse_other_data(folder, records.read_json(folder / RESULTS), {"data": data})
                    continue
                own.append(f"--name={name}")
                if config.threads is None:
                    own.append(f"--threads={self.threads}")
                self.waiting.append((folder, own))
        self.failed: list[Path] = []

    def run(self) -> None:
        """Run all, and say what became of each."""
        print(f"{len(self.folders)} runs, {len(self.folders) - len(self.waiting)} finished", flush=True)
        pool.run(self, self.jobs, self.threads)

    def empty(self) -> bool:
        """See `pool.Queue`, as the next two."""
        return not self.waiting

    def next(self) -> pool.Step | None:
        """The next run."""
        if not self.waiting:
            return None
        folder, own = self.waiting.pop(0)
        log = folder.parent / f"{folder.name}.log"
        print(f"started {folder} (log: {log})", flush=True)
        return pool.Step(str(folder), (sys.executable, "-m", f"{self.swept.recipe}.train", *own), log)

    def ended(self, step: pool.Step, code: int, seconds: float) -> None:
        """Say what became of a run."""
        folder = Path(step.name)
        if code == 0 and (folder / RESULTS).is_file():
            results = records.read_json(folder / RESULTS)
            accuracy = results["last"]["test"]["accuracy"]
            said = "no test clips" if accuracy is None else f"test accuracy {100 * accuracy:.2f} %"
            print(f"finished {folder}: {said}, {results['seconds']:.0f} s", flush=True)
            return
        self.failed.append(folder)
        print(f"failed {folder} (exit code {code}): {step.last_line()}", flush=True)


def main(swept: Swept, argv: list[str] | None = None) -> None:
    """Command line."""
    sweep = Sweep(swept, *arguments(swept, argv))
    sweep.run()
    if sweep.failed:
        raise UserError(f"{len(sweep.failed)} of {len(sweep.folders)} runs failed; the same command tries them again")
    print(f"table: python -m {swept.recipe}.report " + " ".join(map(str, sweep.folders)))
