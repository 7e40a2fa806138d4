"""Turn finished runs into the Markdown table of RESULTS.md: `python -m recipes.speech_commands.report runs/*`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recipes.shared import console
from recipes.shared.console import UserError

# 97.5 % quantile of Student's t for 1, 2, ... degrees of freedom; beyond, the normal distribution's is close enough.
T975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.160,
    2.145,
    2.131,
)


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
    baseline: str = "none"


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Mean of paired differences and half the width of its 95 % interval (Student's t); None below two values."""
    if len(values) < 2:
        return None
    freedom = len(values) - 1
    quantile = T975[freedom - 1] if freedom <= len(T975) else 1.96
    return statistics.mean(values), quantile * statistics.stdev(values) / len(values) ** 0.5


def read_runs(folders: Sequence[str]) -> tuple[dict[str, dict[int, dict[str, Any]]], list[str]]:
    """Results by mixer and seed, and the folders that hold none."""
    runs: dict[str, dict[int, dict[str, Any]]] = {}
    missing = []
    for folder in folders:
        path = Path(folder) / "results.json"
        if not path.is_file():
            missing.append(folder)
            continue
        result = json.loads(path.read_text())
        same = runs.setdefault(result["mixer"], {})
        if result["seed"] in same:
            raise UserError(
                f"{folder}: a second run of {result['mixer']} with seed {result['seed']}; give one kind only"
            )
        same[result["seed"]] = result
    return runs, missing


def table(runs: dict[str, dict[int, dict[str, Any]]], model: str, baseline: str) -> str:
    """The Markdown table: mean +- standard deviation over seeds, in percent, and paired differences in points."""
    head = ["mixer", "seeds", "test", "test macro", "validation", f"difference to {baseline}", "clips/s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for mixer, same in sorted(runs.items(), key=lambda item: (item[0] != baseline, item[0])):
        test = {seed: result[model]["test"] for seed, result in same.items()}
        difference = ""
        if mixer != baseline and baseline in runs:
            reference = runs[baseline]
            common = sorted(set(test) & set(reference))
            gaps = [100 * (test[seed]["accuracy"] - reference[seed][model]["test"]["accuracy"]) for seed in common]
            found = interval(gaps)
            difference = f"{found[0]:+.2f} ± {found[1]:.2f} ({len(gaps)} pairs)" if found else ""
            if not found and gaps:
                difference = f"{gaps[0]:+.2f} (1 pair)"
        cells = [
            mixer,
            str(len(same)),
            spread([t["accuracy"] for t in test.values()]),
            spread([t["macro_accuracy"] for t in test.values()]),
            spread([result[model]["validation"]["accuracy"] for result in same.values()]),
            difference,
            f"{statistics.mean(result['clips_per_second'] for result in same.values()):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean +- standard deviation in percent."""
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.speech_commands.report", argv, positional="folders")
    runs, missing = read_runs(options.folders)
    if not runs:
        raise UserError("none of the folders holds a results.json")
    anyone = next(iter(next(iter(runs.values())).values()))
    test = anyone[options.model]["test"]
    commits = sorted({result["commit"] for same in runs.values() for result in same.values()})
    print(
        f"Accuracy in percent of the {options.model} checkpoint, {test['clips']} test clips, width {anyone['width']}, "
        f"{anyone['epochs']} epochs, commit {', '.join(commits)}; ± after a mean is the standard deviation over seeds, "
        "after a difference half the width of the 95 % interval of the paired differences.\n"
    )
    print(table(runs, options.model, options.baseline))
    for folder in missing:
        print(f"\nnot finished: {folder}")


if __name__ == "__main__":
    console.run(main)
