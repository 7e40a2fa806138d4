"""Which trainings a table needs, each with a name that follows from what is trained, so that tables share them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from randommix_audio.data import Task
from recipes.images.config import Config as ImageConfig
from recipes.images.sources import open_source
from recipes.shared import console, records
from recipes.shared.console import UserError
from recipes.shared.mixing import make_mixer
from recipes.shared.options import Classifying
from recipes.speech_commands.config import Config as SpeechConfig
from recipes.speech_commands.job import data_digest
from recipes.tables.budget import Budget, configuration
from recipes.tables.paper import ROBUST, Column, Row, Setting, Table

CONFIGS: dict[str, type[Classifying]] = {"speech_commands": SpeechConfig, "images": ImageConfig}
# These say where and how fast a training runs and what it is called, not what it computes.
APART = records.FREE
OF_RANDOMMIX = ("candidates", "weights")


@dataclass(frozen=True)
class Data:
    """What stands for a corpus.

    Args:
        folder: where it is.
        digest: of all that is read.
        classes: number of classes.
        counts: rows of each split.
        says: what it says of itself, in the words of `Setting.says`; empty where it says nothing.
    """

    folder: str
    digest: str
    classes: int
    counts: dict[str, int]
    says: str = ""


@dataclass(frozen=True)
class RunSpec:
    """One training.

    Args:
        recipe: the package inside recipes.
        config: all its options but name and place.
        data: what it is trained on.
        processes: that train it together.
    """

    recipe: str
    config: Classifying
    data: Data
    processes: int = 1

    @cached_property
    def name(self) -> str:
        """Of the folder: the recipe, the method, the seed, and a digest of data and options that are not off.

        Options that are off do not count, so that one that comes later leaves the names as they are.
        """
        options = {name: value for name, value in self.config.plain().items() if name not in APART}
        if self.config.mixer != "randommix":
            options = {name: value for name, value in options.items() if name not in OF_RANDOMMIX}
        if self.processes > 1:
            options["processes"] = self.processes
        content = json.dumps([self.recipe, self.data.digest, _numbers_alike(_without_off(options))], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:10]
        return f"{self.recipe}-{self._method}-s{self.config.seed}-{digest}"

    @property
    def _method(self) -> str:
        config = self.config
        if config.mixer != "randommix":
            return config.mixer
        letters = "".join(method[0] for method in config.candidates)
        return f"randommix_{letters}_{'_'.join(f'{weight:g}' for weight in config.weights)}"

    def options(self, runs: str) -> dict[str, Any]:
        """All options of `train`, as plain values; those of RandomMix are the defaults where it is another mixer."""
        config = self.config
        if config.mixer != "randommix":
            plain = type(config)()
            config = dataclasses.replace(config, **{name: getattr(plain, name) for name in OF_RANDOMMIX})
        return records.plain({**config.plain(), "name": self.name, "runs": runs, "resume": "auto"})


def _without_off(options: dict[str, Any]) -> dict[str, Any]:
    """Options that are on; in dictionaries of arguments, whose defaults are not known here, all of them count."""
    augment = options.get("augment", {})
    options = {**options, "augment": {name: value for name, value in augment.items() if value}}
    return {name: value for name, value in options.items() if value}


def _numbers_alike(value: Any) -> Any:
    """The same values with whole numbers as floats: 1 and 1.0 are the same option."""
    if isinstance(value, dict):
        return {name: _numbers_alike(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers_alike(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class Plan:
    """What one table needs.

    Args:
        table: with the columns that there is data for.
        runs: by row, setting and seed.
        data: by corpus.
        papers: options of the paper's own training, by setting.
        left_out: titles of columns without data.
    """

    table: Table
    runs: dict[tuple[str, Setting, int], RunSpec]
    data: dict[str, Data]
    papers: dict[Setting, Classifying] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def robust(self) -> bool:
        """Whether the runs are tested for robustness."""
        return any(column.score in ROBUST for column in self.table.columns)

    def run(self, setting: Setting) -> RunSpec:
        """Any run in a setting."""
        return next(run for (_, its, _), run in self.runs.items() if its == setting)


@dataclass(frozen=True)
class Wanted:
    """What the user asked for.

    Args:
        budget: how much is trained.
        data: folder by corpus, or one folder for the first corpus of each table, or None for those of data_prep.
        seeds: one or more.
        rows: keys of rows; None for those that the paper trained, and ours.
        device: of all trainings; None leaves it to their configuration.
        threads: of each training.
    """

    budget: Budget
    data: dict[str, str] | str | None
    seeds: tuple[int, ...]
    rows: tuple[str, ...] | None = None
    device: str | None = None
    threads: int | None = None


class Planner:
    """Makes plans, reading each configuration and each corpus once.

    Args:
        wanted: what the user asked for.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.corpora: dict[str, Data] = {}

    def plan(self, table: Table) -> Plan:
        """What a table needs.

        Raises:
            UserError: for a row that the table lacks, data that cannot be had, options that a recipe refuses.
        """
        rows = chosen(table, self.wanted.rows)
        folders = self._folders(table)
        columns = tuple(column for column in table.columns if column.setting.corpus in folders)
        runs: dict[tuple[str, Setting, int], RunSpec] = {}
        papers: dict[Setting, Classifying] = {}
        for setting in dict.fromkeys(column.setting for column in columns):
            base = self._base(setting, folders[setting.corpus])
            its = self._data(base, setting.recipe)
            processes = self.wanted.budget.processes.get(setting.corpus, 1)
            papers[setting] = self._parsed(setting, configuration(setting.recipe, setting.conf), {})
            for row in rows:
                config = with_row(base, row, setting)
                make_mixer(config)
                for seed in self.wanted.seeds:
                    own = dataclasses.replace(config, seed=seed)
                    runs[row.key, setting, seed] = RunSpec(setting.recipe, own, its, processes)
        reduced = dataclasses.replace(
            table, columns=columns, rows=tuple(_without(row, table.columns, columns) for row in table.rows)
        )
        left_out = tuple(column.title for column in table.columns if column not in columns)
        data = {corpus: self.corpora[folder] for corpus, folder in folders.items()}
        return Plan(reduced, runs, data, papers, left_out)

    def _folders(self, table: Table) -> dict[str, str]:
        """Where the corpora of a table are, those that the user gave."""
        corpora = {column.setting.corpus: column.setting.data for column in table.columns}
        given = self.wanted.data
        if given is None:
            found = corpora
        elif isinstance(given, str):
            found = {next(iter(corpora)): given}
        else:
            known = set(corpora) | {name for name in given if name in KNOWN}
            if unknown := sorted(set(given) - known):
                raise UserError(f"data: no corpus is called {unknown[0]}: choose from {', '.join(sorted(KNOWN))}")
            found = {corpus: given[corpus] for corpus in corpora if corpus in given}
        if not found:
            raise UserError(f"data: table {table.number} needs {' or '.join(corpora)}; none was given")
        return {corpus: str(Path(folder).resolve()) for corpus, folder in found.items()}

    def _base(self, setting: Setting, folder: str) -> Classifying:
        """The configuration of a setting within the budget."""
        share = self.wanted.budget.share(setting.recipe)
        file = configuration(setting.recipe, share.config or setting.conf)
        model = self.wanted.budget.stand_ins.get(setting.model, setting.model)
        options = {"model": model, **share.options, "data": folder, "pictures": False}
        config = self._parsed(setting, file, options)
        device, threads = self.wanted.device or config.device, self.wanted.threads or config.threads
        return dataclasses.replace(config, name=None, device=device, threads=threads)

    def _parsed(self, setting: Setting, file: Path, options: dict[str, Any]) -> Classifying:
        argv = [f"--config={file}", *(f"--{name}={word(value)}" for name, value in options.items())]
        return console.parse(CONFIGS[setting.recipe], f"budget, recipes.{setting.recipe}.train", argv)[0]

    def _data(self, config: Any, recipe: str) -> Data:
        if config.data not in self.corpora:
            self.corpora[config.data] = OPENERS[recipe](config)
        return self.corpora[config.data]


def word(value: Any) -> str:
    """An option's value as it stands on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


KNOWN = ("cifar10", "cifar100", "tiny_imagenet", "imagenet", "speech_commands")


def chosen(table: Table, keys: Iterable[str] | None) -> list[Row]:
    """The rows that are trained.

    Raises:
        UserError: for a key that the table lacks.
    """
    if keys is None:
        return [row for row in table.rows if not row.quoted]
    by_key = {row.key.lower(): row for row in table.rows if not row.quoted}
    wanted = [key.lower().replace(" ", "") for key in keys]
    if unknown := [key for key in wanted if key not in by_key]:
        known = ", ".join(row.key for row in table.rows if not row.quoted)
        raise UserError(f"rows: table {table.number} has no {unknown[0]}: choose from {known}")
    return [row for key, row in by_key.items() if key in wanted]


def with_row(config: Classifying, row: Row, setting: Setting) -> Classifying:
    """The configuration with the mixer of a row."""
    if row.mixer != "randommix":
        return dataclasses.replace(config, mixer=row.mixer)
    weights = list(row.weights or setting.weights)
    return dataclasses.replace(config, mixer="randommix", candidates=list(row.candidates), weights=weights)


def _without(row: Row, columns: tuple[Column, ...], kept: tuple[Column, ...]) -> Row:
    numbers = tuple(number for column, number in zip(columns, row.paper, strict=True) if column in kept)
    return dataclasses.replace(row, paper=numbers)


def _speech(config: SpeechConfig) -> Data:
    task = Task.open(config.data)
    counts = {split: len(task.split(split)) for split in ("train", "validation", "test")}
    settings = task.metadata.get("settings", {})
    version = settings.get("version")
    says = f"v{version} {settings.get('protocol')}" if version else ""
    return Data(config.data, data_digest(task), len(task.labels), counts, says)


def _images(config: ImageConfig) -> Data:
    source = open_source(config, torch.device("cpu"))
    says = str(source.metadata.get("settings", {}).get("corpus", ""))
    return Data(config.data, source.digest, len(source.labels), dict(source.counts), says)


OPENERS: dict[str, Callable[[Any], Data]] = {"speech_commands": _speech, "images": _images}
