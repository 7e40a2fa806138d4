"""The paper's tables, run again: `python -m recipes.tables 3 --data data/sc/prepared/kaggle12 --budget small`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from randommix_audio import viewing
from randommix_audio.files import write_atomically
from recipes.shared import console
from recipes.shared.console import UserError
from recipes.tables import budget
from recipes.tables.collect import Collector, read_costs
from recipes.tables.estimate import describe
from recipes.tables.execute import Executor, Model, Testing, Work, threads_of_each
from recipes.tables.locks import waiting_for
from recipes.tables.paper import TABLES, Table
from recipes.tables.plan import Plan, Planner, Wanted
from recipes.tables.render import Rendering

PROGRAM = "python -m recipes.tables"


@dataclass
class Options:
    """Run the trainings that tables of the RandomMix paper need, and write the tables.

    What is finished is taken, what was stopped goes on, what is missing is run; a run that several tables need is
    trained once. Writes table<N>-<corpus>.md, .csv and .png.

    Args:
        tables: numbers of tables, 1 to 6.
        corpus: images or speech; null is what the paper has: speech for table 3, images for the others.
        data: a prepared folder, which stands for the first corpus of each table; or folders by corpus, such as
            '{cifar10: FOLDER, cifar100: FOLDER}', of cifar10, cifar100, tiny_imagenet, imagenet and speech_commands,
            columns of the others being left out; null takes all where data_prep puts them.
        corruptions: folder of CIFAR-100-C or its like, for tables 4 and 5 on images; null leaves the column empty.
        runs: folder of all trainings.
        out: folder of the tables; null is <runs>/tables.
        seeds: of the trainings, e.g. '[0, 1, 2]'.
        budget: paper, small, small_silence_unmixed, gpu, or a YAML file like those in recipes/tables/budgets.
        rows: only these rows, e.g. '[none, mixup, randommix]', in table 5 '[1-1-1-1]', in table 6 '[none, M, MC]';
            null takes all but what the paper quotes from others.
        model: last or best (validation accuracy), the checkpoint that counts.
        jobs: trainings at the same time.
        threads: of each training; null shares the cores.
        device: auto, cpu, cuda, cuda:N or mps; null leaves it to the configurations.
        cost: JSON file of `python -m benchmarks.method_cost`, for the last column of table 2.
        dry_run: say what would run and about how long it would take.
        report_only: run nothing, write the tables of what is there.
    """

    tables: list[str]
    corpus: Literal["images", "speech"] | None = None
    data: dict[str, str] | str | None = None
    corruptions: str | None = None
    runs: str = "runs/tables"
    out: str | None = None
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    budget: str = "paper"
    rows: list[str] | None = None
    model: Model = "last"
    jobs: int = 1
    threads: int | None = None
    device: str | None = None
    cost: str | None = None
    dry_run: bool = False
    report_only: bool = False

    def __post_init__(self) -> None:
        for name in ("jobs", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if not self.seeds or min(self.seeds) < 0:
            raise UserError(f"seeds must be one or more whole numbers from 0, got {self.seeds}")
        if self.corruptions is not None and not Path(self.corruptions).is_dir():
            raise UserError(f"corruptions: {self.corruptions}: no such folder")


def tables(options: Options) -> list[Table]:
    """The tables that were asked for.

    Raises:
        UserError: where the paper has no such table, or it is of the other corpus.
    """
    found = []
    for word in options.tables:
        number = int(word) if word.isdecimal() else 0
        if not 1 <= number <= 6:
            raise UserError(f"tables must be of 1 to 6, got {word}")
        corpus = options.corpus or ("speech" if number == 3 else "images")
        if (number, corpus) not in TABLES:
            other = next(other for (n, other) in TABLES if n == number)
            raise UserError(f"table {number} is of {other}; on {corpus} there are tables {_numbers(corpus)}")
        found.append(TABLES[number, corpus])
    return found


def _numbers(corpus: str) -> str:
    return ", ".join(str(number) for number, its in sorted(TABLES) if its == corpus)


def refuse_one_folder(wanted: list[Table], data: dict[str, str] | str | None) -> None:
    """Refuse a single folder for tables of different corpora: it would stand for each of them.

    Raises:
        UserError: naming the corpora.
    """
    first = sorted({table.columns[0].setting.corpus for table in wanted})
    if isinstance(data, str) and len(first) > 1:
        named = ", ".join(f"{corpus}: FOLDER" for corpus in first)
        raise UserError(f"data: these tables are of {' and '.join(first)}; name them, --data '{{{named}}}'")


def write(plan: Plan, collector: Collector, options: Options, out: Path) -> None:
    """Print a table, and write it."""
    recipes = {column.setting.recipe for column in plan.table.columns}
    about = {
        "budget": options.budget,
        "model": options.model,
        "cost": options.cost,
        "robustness": {recipe: collector.testing.options(recipe) for recipe in recipes},
    }
    rendering = Rendering(plan, collector.collect(plan), about)
    text = rendering.markdown()
    stem = out / f"table{plan.table.number}-{plan.table.corpus}"
    with waiting_for(out):
        picture = viewing.save(rendering.picture(), stem.with_suffix(".png"))
        write_atomically(stem.with_suffix(".csv"), rendering.csv())
        write_atomically(stem.with_suffix(".md"), f"{text}\n![differences]({picture.name})\n")
    print(f"\n{text}\nwritten: {stem}.md, .csv, .png", flush=True)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, PROGRAM, argv, positional="tables")
    wanted_tables = tables(options)
    chosen = budget.load(options.budget)
    costs = read_costs(options.cost)
    threads = threads_of_each(options.jobs, options.threads)
    rows = None if options.rows is None else tuple(options.rows)
    seeds = tuple(dict.fromkeys(options.seeds))
    refuse_one_folder(wanted_tables, options.data)
    planner = Planner(Wanted(chosen, options.data, seeds, rows, options.device, threads))
    plans = [planner.plan(table) for table in wanted_tables]
    runs = Path(options.runs).resolve()
    testing = Testing(chosen, options.corruptions, options.model)
    works = [Work(run, plan.robust()) for plan in plans for run in plan.runs.values()]
    executor = Executor(works, runs, testing, options.jobs, threads)
    if options.dry_run:
        print(describe(executor))
        return
    if not options.report_only:
        runs.mkdir(parents=True, exist_ok=True)
        executor.run()
    collector = Collector(runs, testing, costs)
    for plan in plans:
        write(plan, collector, options, Path(options.out) if options.out else runs / "tables")
    if executor.failed:
        number = len(executor.failed)
        raise UserError(f"{number} of {len(executor.works)} runs failed; the same command tries them again")


if __name__ == "__main__":
    console.run(main, again="the same command goes on")
