"""Turn finished runs into the Markdown of RESULTS.md: `python -m recipes.an4.report runs/*`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_prep.command import one_line
from recipes.an4.scores import DRAWS, interval, resampled
from recipes.shared import console, records
from recipes.shared.console import UserError
from recipes.shared.records import RESULTS

COMPARED = {  # options that a table compares
    *("mixer", "mix_p", "mix_until", "mixer_args", "candidates", "weights"),
    *("spec_augment", "spec_augment_order"),
}


@dataclass
class Options:
    """Print a table of finished runs, one line for each setting, and which differences are decided.

    Args:
        folders: folders of runs; those without results.json are left out, and named.
        model: whose test numbers are compared: last, best (at the best validation WER) or average (of the last epochs).
        resample: what the bootstrap draws, utterances or whole speakers, besides the runs.
    """

    folders: list[str]
    model: Literal["last", "best", "average"] = "last"
    resample: Literal["utterances", "speakers"] = "utterances"


Runs = dict[str, dict[int, dict[str, Any]]]  # results by setting and seed


def read_runs(folders: Sequence[str], model: str) -> tuple[Runs, list[str]]:
    """Results by setting and seed, and the folders that hold none.

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
        result = records.read_json(path)
        try:
            setting, seed = result["setting"], result["seed"]
            _ = [row["word_errors"] for row in result[model]["test"]["transcripts"]]
            own = (folder, {"data": result["data"], **_options(result, compared=False)})
            mixing = (folder, _options(result, compared=True))
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: not the results of a run of this recipe (lacks {one_line(error)})") from error
        if seed in runs.setdefault(setting, {}):
            raise UserError(f"{folder}: a second run of {setting} with seed {seed}; give one kind only")
        runs[setting][seed] = result
        first = first or own
        _refuse_other(own, first)
        _refuse_other(mixing, firsts.setdefault(setting, mixing))
    return runs, missing


def _options(result: dict[str, Any], compared: bool) -> dict[str, Any]:
    """The options that the runs of a table have in common, or those that it compares."""
    options = result["config"]
    left_out = records.FREE | {"seed", "data"}
    return {name: options[name] for name in sorted(options.keys() - left_out) if (name in COMPARED) == compared}


def _refuse_other(its: tuple[str, dict[str, Any]], others: tuple[str, dict[str, Any]]) -> None:
    for name in its[1].keys() & others[1].keys():
        if its[1][name] != others[1][name]:
            raise UserError(
                f"{its[0]}: has {name} {its[1][name]}, but {others[0]} {others[1][name]}; give one kind only"
            )


def samples(same: dict[int, dict[str, Any]], model: str, resample: str) -> np.ndarray:
    """Bootstrap samples of the mean test WER of a setting over its seeds."""
    tables = [result[model]["test"]["transcripts"] for _, result in sorted(same.items())]
    errors = np.array([[row["word_errors"] for row in table] for table in tables])
    words = np.array([row["words"] for row in tables[0]])
    speakers = [row["speaker"] for row in tables[0]] if resample == "speakers" else None
    return resampled(errors, words, speakers)


def table(runs: Runs, model: str, resample: str) -> str:
    """The Markdown table: means over seeds in percent, with standard deviations and bootstrap intervals."""
    head = ["setting", "seeds", "test WER", "95 % interval", "test CER", "validation WER", "utterances/s"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for setting, same in runs.items():
        low, high = interval(samples(same, model, resample))
        scores = {
            (split, rate): [result[model][split][rate] for result in same.values()]
            for split, rate in (("test", "wer"), ("test", "cer"), ("validation", "wer"))
        }
        cells = [
            *(setting, str(len(same)), spread(scores["test", "wer"]), f"{100 * low:.2f} to {100 * high:.2f}"),
            *(spread(scores["test", "cer"]), spread(scores["validation", "wer"])),
            f"{statistics.mean(result['clips_per_second'] for result in same.values()):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def differences(runs: Runs, model: str, resample: str) -> list[str]:
    """One line for each pair of settings: difference of the mean test WER in points, its interval, and what follows."""
    lines = []
    for one, other in combinations(runs, 2):
        shared = sorted(runs[one].keys() & runs[other].keys())
        if not shared:
            lines.append(f"- {other} and {one}: no seed in common, not compared")
            continue
        found = [samples({seed: runs[name][seed] for seed in shared}, model, resample) for name in (other, one)]
        gap = 100 * statistics.mean(
            runs[other][seed][model]["test"]["wer"] - runs[one][seed][model]["test"]["wer"] for seed in shared
        )
        low, high = interval(found[0] - found[1])
        decided = "fewer errors" if high < 0 else "more errors" if low > 0 else "not decided"
        lines.append(f"- {other} against {one}: {gap:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f}), {decided}")
    return lines


def spread(scores: Sequence[float | None]) -> str:
    """Mean +- standard deviation in percent; "-" without a score."""
    values = [score for score in scores if score is not None]
    if not values:
        return "-"
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.an4.report", argv, positional="folders")
    runs, missing = read_runs(options.folders, options.model)
    if not runs:
        raise UserError("none of the folders holds a results.json")
    order = sorted(runs, key=lambda setting: (setting != "none", setting))
    runs = {setting: dict(sorted(runs[setting].items())) for setting in order}
    anyone = next(iter(runs[order[0]].values()))
    test = anyone[options.model]["test"]
    if not test["words"]:
        raise UserError("the runs have no test utterances")
    commits = sorted({result["commit"] for same in runs.values() for result in same.values()})
    print(
        f"Greedy decoding of the {options.model} weights, {test['utterances']} test utterances of {test['words']} "
        f"words, {anyone['parameters']} parameters, {anyone['epochs']} epochs, commit {', '.join(commits)}. ± is the "
        f"standard deviation over seeds; intervals are the middle 95 % of {DRAWS} bootstrap samples of "
        f"{options.resample} and seeds.\n"
    )
    print(table(runs, options.model, options.resample) + "\n")
    for line in differences(runs, options.model, options.resample):
        print(line)
    for folder in missing:
        print(f"\nnot finished: {folder}")


if __name__ == "__main__":
    console.run(main)
