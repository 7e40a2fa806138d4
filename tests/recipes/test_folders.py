"""Whose a run folder is: one process's at a time, and one task's, one set of options', one version of the code's."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml

from randommix_audio.data import Entries, Task
from randommix_audio.data.files import locked
from recipes.shared import records
from recipes.shared.console import UserError
from tests.recipes.conftest import ROOT, SMALL, command, environment, run, run_here


def other_targets(folder: Path, out: Path) -> Path:
    """A copy of a task in which one training clip has another label."""
    shutil.copytree(folder, out)
    task = Task.open(out)
    task.entries["train"].target[0] = 1 - task.entries["train"].target[0]
    task.save(out)
    return out


@contextmanager
def started(module: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A program of the recipe that does not outlive the block."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(module, *arguments), cwd=ROOT, env=environment(), **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if file.is_file():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    pytest.fail(f"{file} never came")


def moved(runs: Path, data: Path) -> None:
    """Let the run `a` say that it was trained on the folder `data`."""
    config = runs / "a" / "config.yaml"
    lines = [f"data: {data}" if line.startswith("data:") else line for line in config.read_text().splitlines()]
    config.write_text("\n".join(lines))


def test_a_second_process_is_refused_until_the_first_has_ended_however_it_ends(task_folder, tmp_path):
    arguments = [f"--data={task_folder}", f"--runs={tmp_path}", "--epochs=100000", "--name=a", *SMALL]
    with started("train", *arguments) as first:
        wait_for(tmp_path / "a" / "last.ckpt", first)
        for more in (["--resume=auto"], []):
            with pytest.raises(UserError, match="a: another process is writing here"):
                run_here(task_folder, tmp_path, "--epochs=100000", "--name=a", *more)
    with records.held(tmp_path / "a"):
        assert records.state_of(tmp_path / "a", records.read_config(tmp_path / "a")) == "unfinished"


def test_nothing_is_written_into_a_folder_that_another_process_has_just_made(task_folder, tmp_path):
    (tmp_path / "a").mkdir()
    with locked(tmp_path / "a"), pytest.raises(UserError, match="another process"):
        run_here(task_folder, tmp_path, "--name=a")
    assert [f.name for f in (tmp_path / "a").iterdir()] == [".lock"]


def test_a_folder_in_which_a_kill_left_half_of_the_first_file_is_new(task_folder, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml.partial").write_text("epo")
    assert run_here(task_folder, tmp_path, "--epochs=1", "--name=a")["epochs"] == 1


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_does_not_go_on_with_other_data_in_the_same_folder(task_folder, tmp_path, finished):
    run_here(task_folder, tmp_path, "--epochs=1", "--name=a")
    other = other_targets(task_folder, tmp_path / "other")
    moved(tmp_path, other)
    if not finished:
        (tmp_path / "a" / "results.json").unlink()
    with pytest.raises(UserError, match="a: was trained on other data"):
        run_here(other, tmp_path, "--epochs=1", "--name=a", "--resume=auto")


def test_a_run_goes_on_with_the_same_data_in_another_place(task_folder, tmp_path):
    run_here(task_folder, tmp_path, "--epochs=1", "--name=a")
    same = shutil.copytree(task_folder, tmp_path / "same")
    moved(tmp_path, same)
    (tmp_path / "a" / "results.json").unlink()
    assert run_here(same, tmp_path, "--epochs=1", "--name=a", "--resume=auto")["last"]["epoch"] == 1


def test_a_run_of_the_first_version_goes_on(task_folder, tmp_path):
    run_here(task_folder, tmp_path, "--epochs=1", "--name=a")
    state = torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)
    for name in ("data", "processes", "total_steps"):
        state.pop(name)
    state["shape"].pop("pad")
    records.save(state, tmp_path / "a" / "last.ckpt")
    (tmp_path / "a" / "results.json").unlink()
    config = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    for name in ("saliency", "keep_gradient", "layers"):
        config.pop(name)
    (tmp_path / "a" / "config.yaml").write_text(yaml.safe_dump(config))
    assert run_here(task_folder, tmp_path, "--epochs=1", "--name=a", "--resume=auto")["last"]["epoch"] == 1


def test_an_option_that_an_old_run_did_not_know_must_be_off_for_it_to_go_on():
    assert records.differing({"lr": 1}, {"lr": 1, "new": 0.0, "other": None}) is None
    assert records.differing({"lr": 1}, {"lr": 1, "new": 0.5}) == ("new", None, 0.5)
    assert records.differing({"lr": 1, "clip": None}, {"lr": 1, "clip": 0.0}) == ("clip", None, 0.0)


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "", b"\xff\xfe\x00"])
def test_a_damaged_config_is_named(task_folder, tmp_path, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"config\.yaml: damaged") as caught:
        run_here(task_folder, tmp_path, "--name=a", "--resume=auto")
    assert "\n" not in str(caught.value)


def test_a_network_that_no_memory_can_hold_is_one_line_and_makes_no_folder(task_folder, tmp_path):
    wide = [option for option in SMALL if not option.startswith("--width")]
    done = run("train", f"--data={task_folder}", f"--runs={tmp_path}", *wide, "--width=1000000")
    assert (done.returncode, done.stderr) == (2, "error: out of memory: lower --batch_size or --width\n")
    assert not list(tmp_path.iterdir())


def without(task: Path, out: Path, split: str) -> Path:
    """A copy of a task with an empty split."""
    shutil.copytree(task, out)
    changed = Task.open(out)
    changed.entries[split] = Entries.of(changed.bank, [], [], changed.noise)
    changed.save(out)
    return out


def test_without_validation_clips_nothing_is_said_of_them_and_the_last_epoch_counts_as_the_best(task_folder, tmp_path):
    data = without(task_folder, tmp_path / "task", "validation")
    results = run_here(data, tmp_path, "--epochs=3", "--name=a", "--pictures=true")
    assert results["best"]["epoch"] == 3
    assert results["best"]["test"] == results["last"]["test"]
    for line in records.read_metrics(tmp_path / "a" / "metrics.jsonl"):
        assert {line[f"validation_{name}"] for name in ("loss", "accuracy", "macro_accuracy")} == {None}


def test_without_test_clips_no_accuracy_is_said(task_folder, tmp_path, capsys):
    data = without(task_folder, tmp_path / "task", "test")
    results = run_here(data, tmp_path, "--epochs=1", "--name=a", "--pictures=true")
    assert results["last"]["test"]["accuracy"] is None
    assert json.loads((tmp_path / "a" / "results.json").read_text())["last"]["test"]["loss"] is None
    said = capsys.readouterr().out
    assert "no test clips" in said
    assert "test accuracy" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM that a process could answer")
def test_a_sweep_that_is_terminated_takes_its_runs_along(task_folder, tmp_path):
    rest = [f"--data={task_folder}", f"--runs={tmp_path}", "--epochs=100000", *SMALL]
    folder = tmp_path / "none-w4-s0"
    with started("sweep", "--mixers", "none", "--seeds", "0", *rest) as sweep:
        wait_for(folder / "last.ckpt", sweep)
        sweep.terminate()
        _, said = sweep.communicate(timeout=60)
    assert said.strip().splitlines()[-1] == "stopped; the same command goes on"
    with locked(folder):  # nobody trains there any more
        pass
