"""The circumstances of a table: what was trained, on what, for how long, and where it differs from the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipes.shared import records
from recipes.shared.options import Classifying
from recipes.tables.collect import Collected
from recipes.tables.paper import ALL, Setting
from recipes.tables.plan import APART, OF_RANDOMMIX, Data, Plan


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
    lines += [plan.table.note] if plan.table.note else []
    lines += _circumstances(found)
    if found.missing:
        lines.append(f"not finished: {', '.join(found.missing)}")
    return lines


def stand_in(plan: Plan, setting: Setting) -> str:
    """What stands in for the paper's network or corpus, in words; empty where both are the paper's."""
    run = plan.run(setting)
    network = "" if _is_network(run.config, setting) else f"{run.config.model} of width {run.config.width}"
    return ", ".join(word for word in (network, _other_corpus(setting, plan.data[setting.corpus])) if word)


def _is_network(config: Classifying, setting: Setting) -> bool:
    return (config.model, config.width) == (setting.model, setting.width)


def _other_corpus(setting: Setting, data: Data) -> str:
    """How the data differ from the paper's corpus; empty where they do not."""
    name = Path(data.folder).name
    if data.classes != setting.classes or data.says not in ("", setting.says):
        return f"{data.says or name} instead of {setting.corpus_name}"
    if setting.says and not data.says:
        return f"{name}, a part of {setting.corpus_name} or other data"
    return f"{name}, a part of {setting.corpus_name}" if data.counts["train"] < 0.9 * setting.rows else ""


def _setting(plan: Plan, setting: Setting) -> list[str]:
    run, data = plan.run(setting), plan.data[setting.corpus]
    config = run.config
    seeds = sorted({seed for _, its, seed in plan.runs if its == setting})
    network = f"{config.model} of width {config.width}"
    network += "" if _is_network(config, setting) else f" (stand-in for {setting.model_name})"
    other = _other_corpus(setting, data)
    rows = "clips" if setting.recipe == "speech_commands" else "images"
    batches = f"{config.batch_size}" + (f" x {run.processes} processes" if run.processes > 1 else "")
    lines = [
        f"{setting.corpus_name}, {setting.model_name}: {network}, {config.epochs} epochs, batches of {batches}, "
        f"{data.counts['train']:,} training and {data.counts['test']:,} test {rows} of {data.classes} classes"
        f"{f' ({other})' if other else ''}, seeds {' '.join(map(str, seeds))}"
    ]
    if weights := [row for row in plan.table.rows if row.mixer == "randommix" and len(row.candidates) == len(ALL)]:
        said = sorted({",".join(f"{weight:g}" for weight in row.weights or setting.weights) for row in weights})
        lines.append(f"weights of RandomMix's candidates [{', '.join(ALL)}] there: [{'], ['.join(said)}]")
    if others := _differences(config, plan.papers[setting]):
        lines.append(f"differs from the paper's training in {'; '.join(others)}")
    return lines


def _differences(config: Classifying, paper: Classifying) -> list[str]:
    """Options that change what is computed and are not the paper's, as "name value (paper's)"."""
    own, its = records.plain(config.plain()), records.plain(paper.plain())
    same = APART | {"mixer", *OF_RANDOMMIX, "seed", "channels_last", "compile", "deterministic", "model", "width"}
    found = []
    for name in sorted(set(own) - same):
        if own[name] != its.get(name):
            found.append(f"{name} {own[name]} ({its.get(name)})")
    return found


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
    tested = sorted({test["commit"] for test in found.tests} - set(commits))
    machines = sorted(
        {
            f"{result.get('processor', 'unknown processor')}, {result['device']}, {result['processes']} x "
            f"{result['threads']} threads, torch {result['torch']}"
            for result in found.results
        }
    )
    hours = sum(result["seconds"] for result in found.results) / 3600
    return [
        f"{len(found.results)} runs, {hours:.2f} hours of training in all, commit {', '.join(commits)}"
        + (f"; robustness tested with commit {', '.join(tested)}" if tested else ""),
        f"machine: {'; '.join(machines)}",
    ]
