"""The paper's tables, from trainings of a tiny task to Markdown, CSV and picture."""

import csv
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from randommix_audio.data.errors import BankError
from recipes.shared import pool
from recipes.shared.console import UserError
from recipes.tables.__main__ import main
from recipes.tables.budget import load
from recipes.tables.execute import Executor, Testing, Work, merged, train_words
from recipes.tables.paper import TABLES
from recipes.tables.plan import Planner, Wanted
from recipes.tables.statistics import BY_ROWS_OF_ONE
from tests.recipes.conftest import FRONT_END, ROOT, environment

ROWS = "--rows=[none, mixup, cutmix, randommix]"
OPTIONS = {"width": 2, "epochs": 1, "warmup_epochs": 0, "batch_size": 8, "front_end": FRONT_END}


def budget_file(folder: Path, **options: object) -> Path:
    """A budget of one epoch at width 2."""
    share = {"config": "small", "options": {**OPTIONS, **options}, "robustness": {"quick": True, "limit_clips": 4}}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"speech_commands": share}))
    return path


def arguments(task: Path, runs: Path, budget: Path, *more: str) -> list[str]:
    base = [f"--data={task}", f"--runs={runs}", f"--budget={budget}", "--corpus=speech", "--jobs=2", "--threads=1"]
    return [*more, *base]


@pytest.fixture(scope="module")
def made(task_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of runs and budget after table 4 of three rows with one seed."""
    folder = tmp_path_factory.mktemp("tables")
    budget = budget_file(folder)
    main(arguments(task_folder, folder / "runs", budget, "4", "--rows=[none, mixup, randommix]", "--seeds=[0]"))
    return folder / "runs", budget


def test_a_table_stands_in_markdown_csv_and_a_picture_with_the_papers_numbers_beside(made):
    runs, _ = made
    text = (runs / "tables" / "table4-speech.md").read_text()
    assert "| Method | Mixed Mode | Clean Error (%) † | paper | FGSM Error (%) † | paper | Noise Error (%) † |" in text
    mixup = next(line for line in text.splitlines() if line.startswith("| Mixup | L |"))
    assert "| 17.49 (-1.78) |" in mixup
    assert "| 43.40 (+0.90) |" in mixup
    assert next(line for line in text.splitlines() if line.startswith("| FMix | M | - |"))
    assert "by paired bootstrap over the test rows of one seed" in text
    assert "With one seed that says nothing of how much one training differs from the next." in text
    assert "width 2 (stand-in for PreAct-ResNet18), 1 epochs" in text
    assert "† stands in: preact_resnet18 of width 2, task instead of Google Speech Commands" in text
    assert "differs from the paper's training in batch_size 8 (256); epochs 1 (300); front_end" in text
    assert "The paper's numbers are of images" in text
    assert "On the mean of noise and occlusion error:" in text
    assert (runs / "tables" / "table4-speech.png").read_bytes().startswith(b"\x89PNG")
    with open(runs / "tables" / "table4-speech.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 * 4
    randommix = next(line for line in lines if line["row"] == "RandomMix" and line["score"] == "occlusion")
    assert float(randommix["paper"]) == 27.72
    found = next(runs.glob("speech_commands-randommix_mcrf_1_1_1_1-s0-*/robustness-last-*.json"))
    assert float(randommix["mean"]) == pytest.approx(100 * json.loads(found.read_text())["occlusion_error"], abs=1e-3)


def test_a_second_call_trains_nothing_and_another_table_takes_the_runs_that_it_shares(made, task_folder, capsys):
    runs, budget = made
    before = {file: file.stat().st_mtime_ns for file in runs.glob("*/results.json")}
    main(arguments(task_folder, runs, budget, "4", "--rows=[none, mixup, randommix]", "--seeds=[0]"))
    assert "3 runs, 3 finished" in capsys.readouterr().out
    main(arguments(task_folder, runs, budget, "3", "6", "--rows=[none, M, MCRF]", "--seeds=[0]", "--dry_run=true")[1:])
    said = capsys.readouterr().out
    assert said.count(": finished") == 3
    assert "0 of 3 runs to do" in said
    main(arguments(task_folder, runs, budget, "3", "--rows=[none, mixup, randommix]", "--seeds=[0]"))
    said = capsys.readouterr().out
    assert "started" not in said
    assert "| Mixup |" in said
    assert {file: file.stat().st_mtime_ns for file in runs.glob("*/results.json")} == before


def test_tables_are_written_without_the_checkpoints_too_and_take_test_rows_from_the_tests_of_robustness(
    made, task_folder, tmp_path, capsys
):
    runs, budget = tmp_path / "runs", made[1]
    shutil.copytree(made[0], runs)
    for file in [*runs.glob("*/*.ckpt"), *runs.glob("*/places-*.json")]:
        file.unlink()
    given = arguments(task_folder, runs, budget, "3", "--rows=[none, mixup]", "--seeds=[0]", "--report_only=true")

    def cells() -> list[dict[str, str]]:
        main(given)
        with open(runs / "tables" / "table3-speech.csv", newline="") as file:
            return [line for line in csv.DictReader(file) if line["row"] == "Mixup"]

    validation, test = cells()
    assert (validation["interval_by"], test["interval_by"]) == ("", "")  # four clips of the test set are not all of it
    rows = json.loads(next(runs.glob("*-none-*/results.json")).read_text())["clips"]["test"]
    for file in runs.glob("*/robustness-last-*.json"):
        tested = json.loads(file.read_text())
        tested["mistakes"]["clean"] = [1] + [0] * (rows - 1)
        file.write_text(json.dumps(tested))
    validation, test = cells()
    assert (validation["interval_by"], test["interval_by"]) == ("", BY_ROWS_OF_ONE)
    assert "interval by paired bootstrap over the test rows of one seed" in capsys.readouterr().out


def test_a_run_that_two_tables_need_is_trained_once(task_folder, tmp_path):
    planner = Planner(Wanted(load(str(budget_file(tmp_path))), str(task_folder), (0, 1)))
    plans = [planner.plan(TABLES[number, "speech"]) for number in (3, 4, 5, 6)]
    works = merged(Work(run, plan.robust()) for plan in plans for run in plan.runs.values())
    # 6 of tables 3 and 4; three more weights; of 16 sets six are among those
    assert len(works) == 2 * (6 + 3 + 10)
    assert sum(work.robust for work in works) == 2 * (6 + 3)
    assert [work.run.config.seed for work in works] == sorted(work.run.config.seed for work in works)


def test_the_name_of_a_run_follows_from_what_is_computed_alone(task_folder, tmp_path):
    planner = Planner(Wanted(load(str(budget_file(tmp_path))), str(task_folder), (0,)))
    run = next(iter(planner.plan(TABLES[3, "speech"]).runs.values()))

    def named(**options: object) -> str:
        return dataclasses.replace(run, config=dataclasses.replace(run.config, **options)).name

    assert run.config.mixer == "none"
    assert named(device="cpu", threads=7, pictures=True, data="elsewhere", weights=[3, 1, 1, 1]) == run.name
    assert named(mixer="randommix", weights=[1, 1, 1, 1]) == named(mixer="randommix", weights=[1.0, 1.0, 1.0, 1.0])
    assert named(front_end={"center": True}) != named(front_end={"center": False}) != run.name
    assert dataclasses.replace(run, processes=1).name == run.name != dataclasses.replace(run, processes=8).name
    others = [named(seed=1), named(epochs=2), named(mixer="mixup"), named(mix_silence=False), named(lr=0.1)]
    others += [named(mixer="randommix"), named(mixer="randommix", weights=[3, 1, 1, 1])]
    assert len({run.name, *others}) == 8


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a program at once there")
def test_a_call_that_is_stopped_half_way_goes_on_and_another_run_that_fails_is_named(task_folder, tmp_path, capsys):
    budget = budget_file(tmp_path, epochs=200)
    given = arguments(task_folder, tmp_path / "runs", budget, "3", "--rows=[none, mixup]", "--seeds=[0]")
    words = [sys.executable, "-m", "recipes.tables", *given]
    process = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 300  # of a busy machine
    while len(list((tmp_path / "runs").glob("*/last.ckpt"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert b"the same command goes on" in said
    folders = [file.parent for file in (tmp_path / "runs").glob("*/last.ckpt")]
    assert not any((folder / "results.json").exists() for folder in folders)
    mixup = next(folder for folder in folders if "-mixup-" in folder.name)
    (mixup / "last.ckpt").write_bytes(b"damaged")
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        main(given)
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.startswith(f"failed {mixup.name} (train, exit code 2): "))
    assert "last.ckpt: not a readable checkpoint" in line
    none = next(folder for folder in folders if "-none-" in folder.name)
    log = (tmp_path / "runs" / f"{none.name}.log").read_text()
    assert "going on after epoch" in log
    assert f"not finished: {mixup.name}" in said
    assert f"finished {none.name}" in said


def test_a_run_that_another_call_holds_is_not_started(made, task_folder, tmp_path, capsys):
    runs, budget = made
    planner = Planner(Wanted(load(str(budget)), str(task_folder), (1,), ("none",)))
    works = [Work(run, False) for run in planner.plan(TABLES[3, "speech"]).runs.values()]
    testing = Testing(load(str(budget)), None, "last")
    here = tmp_path / "runs"
    here.mkdir()
    first, second = (Executor(works, here, testing) for _ in range(2))
    step = first.next()
    assert step is not None
    assert second.next() is None
    assert "another process is at it" in capsys.readouterr().out
    first.held.popitem()[1][1].close()
    # What the other call has finished is taken, not trained again.
    finished = next(runs.glob("speech_commands-none-s0-*"))
    shutil.copytree(finished, here / works[0].run.name, dirs_exist_ok=True)
    stored = here / works[0].run.name / "config.yaml"
    stored.write_text(stored.read_text().replace("seed: 0", "seed: 1"))
    assert second.next() is None
    assert second.empty()
    assert "taken" in capsys.readouterr().out


def test_a_stopped_run_goes_on_though_its_data_lie_elsewhere_now(task_folder, tmp_path, capsys):
    budget, runs = budget_file(tmp_path, epochs=2), tmp_path / "runs"
    given = ["3", "--rows=[none]", "--seeds=[0]", "--report_only=false"]
    main(arguments(task_folder, runs, budget, *given))
    folder = next(runs.glob("*-none-*/results.json")).parent
    (folder / "results.json").unlink()
    moved = shutil.copytree(task_folder, tmp_path / "moved")
    capsys.readouterr()
    main(arguments(moved, runs, budget, *given))
    assert f"finished {folder.name}" in capsys.readouterr().out
    assert "going on after epoch 2" in (runs / f"{folder.name}.log").read_text()
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == str(moved)


@pytest.mark.parametrize("spoil", ["", "lr: 77"])
def test_a_folder_that_cannot_be_read_fails_alone(made, task_folder, tmp_path, capsys, spoil):
    runs, budget = tmp_path / "runs", made[1]
    shutil.copytree(made[0], runs)
    folder = next(runs.glob("*-none-*/results.json")).parent
    (folder / "config.yaml").write_text(spoil)
    given = arguments(task_folder, runs, budget, "3", "--rows=[none, mixup]", "--seeds=[0]")
    main([*given, "--dry_run=true"])
    assert f"failed {folder.name}: " in capsys.readouterr().out
    with pytest.raises(UserError, match="1 of 2 runs failed"):
        main([*given, "--report_only=true"])
    assert "| Mixup |" in capsys.readouterr().out


def test_a_program_that_cannot_be_started_has_failed_and_the_others_go_on(tmp_path):
    class Two:
        def __init__(self) -> None:
            missing = pool.Step("missing", (str(tmp_path / "no-such-program"),), tmp_path / "missing.log")
            there = pool.Step("there", (sys.executable, "-c", "print('here')"), tmp_path / "there.log")
            self.steps, self.codes = [missing, there], {}

        def next(self) -> pool.Step | None:
            return self.steps.pop(0) if self.steps else None

        def ended(self, step: pool.Step, code: int, seconds: float) -> None:
            self.codes[step.name] = code

        def empty(self) -> bool:
            return not self.steps

    queue = Two()
    pool.run(queue, 1, 1)
    assert queue.codes == {"missing": 127, "there": 0}
    assert "no-such-program: No such file or directory" in (tmp_path / "missing.log").read_text()


def test_several_processes_are_started_by_the_python_that_runs(task_folder, tmp_path):
    budget = load(str(budget_file(tmp_path)))
    budget.processes["speech_commands"] = 2
    plan = Planner(Wanted(budget, str(task_folder), (0,), ("none",))).plan(TABLES[3, "speech"])
    (run,) = plan.runs.values()
    words = train_words(run, tmp_path, Testing(budget, None, "last"))
    assert words[:4] == (sys.executable, "-m", "torch.distributed.run", "--standalone")
    assert words[4:7] == ("--nproc-per-node=2", "-m", "recipes.speech_commands.train")


def test_two_calls_that_write_the_same_tables_at_the_same_time_do_not_meet(made, task_folder, tmp_path):
    runs, budget = tmp_path / "runs", made[1]
    shutil.copytree(made[0], runs)
    for file in runs.glob("*/places-*.json"):
        file.unlink()
    given = arguments(task_folder, runs, budget, "3", "--rows=[none, mixup]", "--seeds=[0]", "--report_only=true")
    words = [sys.executable, "-m", "recipes.tables", *given]
    calls = [subprocess.Popen(words, cwd=ROOT, env=environment(), stderr=subprocess.PIPE) for _ in range(2)]
    assert [call.communicate(timeout=120)[1].decode() for call in calls] == ["", ""]
    assert len(list(runs.glob("*/places-last.json"))) == 2


@pytest.mark.parametrize(
    "words, message",
    [
        (["7"], "tables must be of 1 to 6, got 7"),
        (["3", "--corpus=images"], "table 3 is of speech; on images there are tables 1, 2, 4, 5, 6"),
        (["1", "--corpus=speech"], "table 1 is of images"),
        (["3", "--rows=[mixup, nomix]"], "rows: table 3 has no nomix: choose from none, mixup"),
        (["3", "--budget=huge"], "or a YAML file, got huge"),
        (["3", "--data={cifar11: x}"], "no corpus is called cifar11"),
        (["3", "--data={cifar10: x}"], "table 3 needs speech_commands; none was given"),
        (["3", "--data=no/where"], "no/where"),
        (["4", "6", "--corpus=images", "--data=x"], "these tables are of cifar100 and tiny_imagenet; name them"),
        (["1", "--rows=[cutout]"], "rows: table 1 has no cutout"),
        (["3", "--jobs=0"], "jobs must be at least 1"),
        (["2", "--cost=no.json"], "no.json: no such file"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(tmp_path, words, message):
    with pytest.raises((UserError, BankError), match=r".") as caught:
        main([*words, f"--runs={tmp_path / 'runs'}"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()
