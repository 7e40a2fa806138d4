"""The circumstances of a table: what was trained, on what, for how long, and where it differs from the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.tables.collect import Collected
from recipes.tables.paper import Setting
from recipes.tables.plan import Data, Plan


def facts(plan: Plan, found: Collected, about: dict[str, Any]) -> list[str]:
    """Lines of text.

    Args:
        plan: what was to be run.
        found: what was found.
        about: `budget`, `model`, and of the tests of robustness `robustness` by recipe.
    """
    lines = [f"budget {about['budget']}, {about['model']} checkpoint of each run"]
    for setting in dict.fromkeys(column.setting for column in plan.table.columns):
        lines += _setting(plan, setting)
    if plan.robust():
        lines += _tests(plan, found, about)
    lines += [f"left out, because no data was given: {title}" for title in plan.left_out]
    if any(column.score == "cost" for column in plan.table.columns):
        lines.append(
            "Cost: steps measured side by side by benchmarks.method_cost with PreAct-ResNet18 on the CPU or the "
            "accelerator named in its file"
            if about.get("cost")
            else "Cost was not measured: trainings at different times cannot be compared; --cost takes the file of "
            "benchmarks.method_cost"
        )
    lines += _circumstances(found)
    if found.missing:
        lines.append(f"not finished: {', '.join(found.missing)}")
    return lines


def _setting(plan: Plan, setting: Setting) -> list[str]:
    config, data = plan.config(setting), plan.data[setting.corpus]
    seeds = sorted({seed for _, its, seed in plan.runs if its == setting})
    network = f"{config.model} of width {config.width}"
    if (config.model, config.width) != (setting.model, setting.width):
        network += f" (stand-in for {setting.model_name})"
    train, test = data.counts["train"], data.counts["test"]
    rows = "clips" if setting.recipe == "speech_commands" else "images"
    return [
        f"{setting.corpus_name}, {setting.model_name}: {network}, {config.epochs} epochs, "
        f"batches of {config.batch_size}, {train:,} training and {test:,} test {rows} "
        f"of {data.classes} classes from {Path(data.folder).name}"
        f"{_stands_in(setting, data)}, seeds {' '.join(map(str, seeds))}"
    ]


def _stands_in(setting: Setting, data: Data) -> str:
    if data.classes != setting.classes:
        return f" (stand-in for {setting.corpus_name})"
    return f" (part of {setting.corpus_name}, or a stand-in)" if data.counts["train"] < 0.9 * setting.rows else ""


def _tests(plan: Plan, found: Collected, about: dict[str, Any]) -> list[str]:
    recipe = plan.table.columns[0].setting.recipe
    options = ", ".join(
        f"{name} {value}" for name, value in about["robustness"][recipe].items() if name != "corruptions"
    )
    lines = [f"robustness: recipes.{recipe}.robustness" + (f" with {options}" if options else "")]
    if recipe == "images":
        notices = {one["details"]["corruptions_made"] for one in found.tests if one["details"]["corruptions_made"]}
        lines += [f"corruptions: {notice}" for notice in sorted(notices)]
        if any(one["corruption_error"] is None for one in found.tests):
            lines.append("corruption errors were not measured: see --corruptions")
    else:
        left_out = sorted({group for one in found.tests for group in one["left_out"]})
        lines += [f"noise without {', '.join(left_out)}: the data has nothing for it"] if left_out else []
    return lines


def _circumstances(found: Collected) -> list[str]:
    if not found.results:
        return []
    commits = sorted({result["commit"] for result in found.results})
    machines = sorted(
        {
            f"{result.get('processor', 'unknown processor')}, {result['device']}, {result['processes']} x "
            f"{result['threads']} threads, torch {result['torch']}"
            for result in found.results
        }
    )
    hours = sum(result["seconds"] for result in found.results) / 3600
    return [
        f"{len(found.results)} runs, {hours:.2f} hours of training in all, commit {', '.join(commits)}",
        f"machine: {'; '.join(machines)}",
    ]
