"""A run that is killed and goes on equals a run that nobody disturbed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recipes.shared import records
from recipes.shared.records import MetricsLog, read_metrics, without_times
from tests.recipes.conftest import ROOT, environment, run_here, stopped_after

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are not known to Windows")
# disk:1 and 2 are config.yaml; then for each epoch the metrics, best.ckpt if better, last.ckpt; then pictures, results.
MOMENTS = (
    "disk:2",
    "disk:3",
    "disk:5",
    "step:2",
    "disk:7",
    "disk:8",
    "disk:9",
    "step:7",
    "disk:12",
    "disk:15",
)


@pytest.fixture(scope="module")
def runs(task_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    arguments = [sys.executable, "-m", "tests.recipes.kill_harness", str(task_folder), str(folder), *MOMENTS]
    done = subprocess.run(arguments, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize("moment", MOMENTS)
def test_weights_optimizer_and_average_are_bit_equal_to_the_undisturbed_run(runs, moment):
    for file in ("last.ckpt", "best.ckpt"):
        one, other = (
            torch.load(runs / name / file, weights_only=True) for name in ("undisturbed", moment.replace(":", ""))
        )
        for state in (one, other):
            state["config"].pop("name")
            for name in (
                "seconds",
                "metrics_bytes",
                "commit",
            ):  # lines hold times; people commit while tests run
                state.pop(name, None)
        assert equal(one, other)


@pytest.mark.parametrize("moment", MOMENTS)
def test_metrics_hold_every_epoch_once_with_equal_numbers(runs, moment):
    lines = read_metrics(runs / moment.replace(":", "") / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert without_times(lines) == without_times(read_metrics(runs / "undisturbed" / "metrics.jsonl"))


@pytest.mark.parametrize("moment", MOMENTS)
def test_results_are_equal_but_for_times(runs, moment):
    one, other = (
        json.loads((runs / name / "results.json").read_text()) for name in ("undisturbed", moment.replace(":", ""))
    )
    for result in (one, other):
        for name in ("seconds", "clips_per_second", "commit"):
            result.pop(name)
        result["config"].pop("name")
    assert one == other


@pytest.mark.parametrize("moment", MOMENTS)
def test_tensorboard_shows_no_step_twice(runs, moment):
    events = EventAccumulator(str(runs / moment.replace(":", "")))
    events.Reload()
    steps = [scalar.step for scalar in events.Scalars("train_loss")]
    assert steps == sorted(set(steps))
    assert len(steps) == 3


@pytest.mark.parametrize("steps", [1, 7, 11, 14])
def test_a_run_with_few_checkpoints_equals_one_with_all_of_them_wherever_it_is_stopped(task_folder, tmp_path, steps):
    options = ("--epochs=5", "--ema_decay=0.9", "--resume=auto")  # 3 steps an epoch
    run_here(task_folder, tmp_path, "--name=all", *options)
    with stopped_after(steps):
        run_here(task_folder, tmp_path, "--name=few", "--store_every=2", *options)
    assert (tmp_path / "few" / "last.ckpt").is_file() == (steps >= 6)
    run_here(task_folder, tmp_path, "--name=few", "--store_every=2", *options)
    for file in ("last.ckpt", "best.ckpt"):
        one, other = (torch.load(tmp_path / name / file, weights_only=True) for name in ("all", "few"))
        for name in ("model", "average", "optimizer", "epoch", "step", "best"):
            assert equal(one.get(name), other.get(name))
    one, other = (without_times(read_metrics(tmp_path / name / "metrics.jsonl")) for name in ("all", "few"))
    assert one == other


def test_checkpoints_are_written_when_they_are_due_and_at_the_end(task_folder, tmp_path, monkeypatch):
    written: list[tuple[str, int]] = []
    save = records.save
    monkeypatch.setattr(
        records, "save", lambda state, path: (written.append((path.name, state["epoch"])), save(state, path))
    )
    run_here(task_folder, tmp_path, "--name=a", "--epochs=7", "--store_every=3")
    assert [epoch for name, epoch in written if name == "last.ckpt"] == [3, 6, 7]
    assert len([name for name, _ in written if name == "best.ckpt"]) <= 3


def test_a_line_behind_the_checkpoint_is_cut_off_and_the_rest_stays(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"epoch": 1})
    known = log.size
    log.append({"epoch": 2})
    with open(log.path, "a") as file:
        file.write('{"epoch": 3, "trai')
    MetricsLog(tmp_path / "metrics.jsonl", keep=known).append({"epoch": 2})
    assert read_metrics(log.path) == [{"epoch": 1}, {"epoch": 2}]


def test_a_finished_run_is_left_alone(runs, task_folder):
    from tests.recipes.kill_harness import OPTIONS

    before = {f: f.stat().st_mtime_ns for f in (runs / "undisturbed").rglob("*")}
    results = run_here(task_folder, runs, "--name=undisturbed", "--resume=auto", *OPTIONS)
    assert results["last"]["epoch"] == 3
    assert {f: f.stat().st_mtime_ns for f in (runs / "undisturbed").rglob("*")} == before
