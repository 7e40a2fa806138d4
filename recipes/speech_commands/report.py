"""Turn finished runs into the Markdown table of RESULTS.md: `python -m recipes.speech_commands.report runs/*`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_prep.command import one_line
from recipes.shared import console, records
from recipes.shared.console import UserError
from recipes.shared.options import ClassifierMixer
from recipes.shared.records import RESULTS
from recipes.shared.student import interval

MIXING = {  # options that a table compares
    *("mixer", "mixer_args", "candidates", "weights", "mix_silence"),
    *("saliency", "keep_gradient", "layers"),
}
SCORES = ("accuracy", "macro_accuracy", "clips")


@dataclass
class Options:
    """Print a table of finished runs, one line for each mixer.

    Args:
        folders: folders of runs; those without results.json are left out, and named.
        model: last or best, the checkpoint whose test numbers are compared.
        baseline: the mixer that the others are compared with, seed by seed.
    """

    folders: list[str]
    model: Literal["last", "best"] = "last"
    baseline: ClassifierMixer = "none"


Runs = dict[str, dict[int, dict[str, Any]]]  # results by mixer and seed


def read_runs(folders: Sequence[str]) -> tuple[Runs, list[str]]:
    """Results by mixer and seed, and the folders that hold none.

    Raises:
        UserError: where results are damaged, or runs cannot be compared.
    """
    runs: Runs = {}
    missing: list[str] = []
    first: tuple[str, dict[str, Any]] | None = None
    firsts: dict[str, tuple[str, dict[str, Any]]] = {}
    for folder in folders:
        path = Path(folder) / RESULTS
        if not path.is_file():
            missing.append(folder)
            continue
        result = read_result(path)
        mixer, seed = result["mixer"], result["seed"]
        if seed in runs.setdefault(mixer, {}):
            raise UserError(f"{folder}: a second run of {mixer} with seed {seed}; give one kind only")
        runs[mixer][seed] = result
        first = first or (folder, result)
        refuse_other(folder, common(result), first[0], common(first[1]))
        firsts.setdefault(mixer, (folder, result))
        refuse_other(folder, mixing(result), firsts[mixer][0], mixing(firsts[mixer][1]))
    return runs, missing


def read_result(path: Path) -> dict[str, Any]:
    """One results.json.

    Raises:
        UserError: where it lacks what the table needs.
    """
    result = records.read_json(path)
    try:
        lacking = [name for name in ("commit", "width", "epochs", "clips_per_second") if name not in result]
        hash((result["mixer"], result["seed"]))
        for tested in (result["last"], result["best"]):
            lacking += [name for split in ("validation", "test") for name in SCORES if name not in tested[split]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not the results of a run ({one_line(error)})") from error
    if lacking:
        raise UserError(f"{path}: not the results of a run (lacks {lacking[0]})")
    return result


def common(result: dict[str, Any]) -> dict[str, Any]:
    """What all runs of a table must have in common: the data and every option but mixer and seed."""
    named = {name: result.get(name) for name in ("labels", "clips", "width", "epochs", "preset", "data")}
    task = result.get("task") or {}
    named["task"] = task.get("settings")
    options = records.ADDED | result["config"] if result.get("config") else {}
    known = {name: value for name, value in named.items() if value is not None}
    return known | {name: options[name] for name in sorted(options.keys() - records.FREE - {"seed", "data"} - MIXING)}


def mixing(result: dict[str, Any]) -> dict[str, Any]:
    """What the runs of one mixer must have in common as well."""
    options = result.get("config") or {}
    return {name: options[name] for name in sorted(options.keys() & MIXING)}


def refuse_other(folder: str, its: dict[str, Any], other: str, others: dict[str, Any]) -> None:
    """Refuse two runs that differ in more than a table compares; a result of the first version holds no options.

    Raises:
        UserError: naming the first difference.
    """
    for name in its.keys() & others.keys():
        if its[name] != others[name]:
            raise UserError(f"{folder}: has {name} {its[name]}, but {other} {others[name]}; give one kind only")


def table(runs: Runs, model: str, baseline: str) -> str:
    """The Markdown table: mean +- standard deviation over seeds, in percent, and paired differences in points."""
    head = ["mixer", "seeds", "test", "test macro", "validation", f"difference to {baseline}", "clips/s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for mixer, same in sorted(runs.items(), key=lambda item: (item[0] != baseline, item[0])):
        test = [result[model]["test"] for result in same.values()]
        cells = [
            mixer,
            str(len(same)),
            spread([t["accuracy"] for t in test]),
            spread([t["macro_accuracy"] for t in test]),
            spread([result[model]["validation"]["accuracy"] for result in same.values()]),
            difference(same, runs[baseline], model) if mixer != baseline and baseline in runs else "",
            f"{statistics.mean(result['clips_per_second'] for result in same.values()):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(same: dict[int, dict[str, Any]], baseline: dict[int, dict[str, Any]], model: str) -> str:
    """Paired difference of the test accuracy to the baseline, in points, over the seeds that both have."""
    pairs = [
        [runs[seed][model]["test"]["accuracy"] for runs in (same, baseline)] for seed in same.keys() & baseline.keys()
    ]
    gaps = [100 * (own - other) for own, other in pairs if own is not None and other is not None]
    if found := interval(gaps):
        return f"{found[0]:+.2f} ± {found[1]:.2f} ({len(gaps)} pairs)"
    return f"{gaps[0]:+.2f} (1 pair)" if gaps else ""


def spread(scores: Sequence[float | None]) -> str:
    """Mean +- standard deviation in percent; "-" without a score."""
    values = [score for score in scores if score is not None]
    if not values:
        return "-"
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def main(
    argv: list[str] | None = None, program: str = "python -m recipes.speech_commands.report", rows: str = "clips"
) -> None:
    """Command line, also that of other recipes for classifiers.

    Args:
        argv: arguments; None takes those of the process.
        program: how it is called.
        rows: what a row is called, in the plural.
    """
    options, _ = console.parse(Options, program, argv, positional="folders")
    runs, missing = read_runs(options.folders)
    if not runs:
        raise UserError("none of the folders holds a results.json")
    anyone = next(iter(next(iter(runs.values())).values()))
    test = anyone[options.model]["test"]
    commits = sorted({result["commit"] for same in runs.values() for result in same.values()})
    print(
        f"Accuracy in percent of the {options.model} checkpoint, {test['clips']} test {rows}, width {anyone['width']}, "
        f"{anyone['epochs']} epochs, commit {', '.join(commits)}; ± after a mean is the standard deviation over seeds, "
        "after a difference half the width of the 95 % interval of the paired differences.\n"
    )
    print(table(runs, options.model, options.baseline))
    if options.baseline not in runs:
        print(f"\nno run of {options.baseline}, so nothing to compare with: see --baseline")
    for folder in missing:
        print(f"\nnot finished: {folder}")


if __name__ == "__main__":
    console.run(main)
