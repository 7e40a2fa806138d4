"""Sweeps over mixers and seeds, and the tables of their results."""

import json
from pathlib import Path

import pytest

import randommix_audio as rma
from recipes.shared.console import UserError
from recipes.shared.sweep import Sweep
from recipes.shared.sweep import arguments as parse
from recipes.speech_commands import report, sweep
from tests.recipes.conftest import SMALL, run, run_here


def result(folder: Path, mixer: str, seed: int, accuracy: float | None, **more: object) -> str:
    split = {"accuracy": accuracy, "macro_accuracy": accuracy and accuracy - 0.01, "clips": 100}
    folder.mkdir()
    about = {"mixer": mixer, "seed": seed, "commit": "abc", "width": 4, "epochs": 2, "clips_per_second": 10.0}
    both = {"test": split, "validation": split}
    (folder / "results.json").write_text(json.dumps({**about, "last": both, "best": both, **more}))
    return str(folder)


def test_the_table_pairs_runs_by_seed(tmp_path, capsys):
    values = {("none", 0): 0.90, ("none", 1): 0.92, ("none", 2): 0.91, ("fmix", 0): 0.93, ("fmix", 1): 0.94}
    folders = [result(tmp_path / f"{m}{s}", m, s, a) for (m, s), a in values.items()]
    (tmp_path / "unfinished").mkdir()
    report.main([*folders, str(tmp_path / "unfinished")])
    said = capsys.readouterr().out
    # differences +3 and +2 points: mean 2.5, t(1) = 12.706, standard error 0.5
    assert "| fmix | 2 | 93.50 ± 0.71 | 92.50 ± 0.71 | 93.50 ± 0.71 | +2.50 ± 6.35 (2 pairs) | 10 |" in said
    assert said.index("| none |") < said.index("| fmix |")
    assert "not finished" in said


def test_two_runs_of_one_mixer_and_seed_are_refused_in_one_table(tmp_path):
    folders = [result(tmp_path / name, "none", 0, 0.9) for name in ("a", "b")]
    with pytest.raises(UserError, match="a second run of none with seed 0"):
        report.main(folders)


def test_a_sweep_runs_what_is_missing_and_skips_what_is_finished(task_folder, tmp_path, capsys):
    run_here(task_folder, tmp_path, "--epochs=1", "--mixer=none")
    rest = [f"--data={task_folder}", f"--runs={tmp_path}", "--epochs=1", *SMALL]
    sweep.main(["--mixers", "none", "randommix", "--seeds", "0", "--jobs", "2", *rest])
    said = capsys.readouterr().out
    assert "2 runs, 1 finished" in said
    assert said.count("started") == 1
    assert (tmp_path / "randommix-w4-s0" / "results.json").is_file()
    with pytest.raises(UserError, match=r"mixer must be one of .*, got nnone"):
        sweep.main(["--mixers", "nnone", *rest])


@pytest.mark.parametrize(
    "own, others, named",
    [
        ({"epochs": 2}, {"epochs": 3}, "epochs 3, but"),
        ({"labels": ["a", "b"]}, {"labels": ["b", "a"]}, "labels"),
        ({"clips": {"test": 3}}, {"clips": {"test": 4}}, "clips"),
        ({"data": "one"}, {"data": "other"}, "data other, but"),
        ({"task": {"settings": {"seed": 0}}}, {"task": {"settings": {"seed": 1}}}, "task"),
        ({"config": {"lr": 0.1}}, {"config": {"lr": 0.2}}, "lr 0.2, but"),
    ],
)
def test_runs_of_different_trainings_are_refused_in_one_table(tmp_path, own, others, named):
    folders = [result(tmp_path / "a", "none", 0, 0.9, **own), result(tmp_path / "b", "fmix", 0, 0.9, **others)]
    with pytest.raises(UserError, match=f"b: has {named}"):
        report.main(folders)


def test_mixers_may_have_arguments_of_their_own_in_one_table_but_one_mixer_has_one_kind(tmp_path):
    one, two = ({"config": {"mixer_args": {"alpha": alpha}, "name": str(alpha)}} for alpha in (1.0, 0.5))
    folders = [result(tmp_path / "a", "none", 0, 0.9, **one), result(tmp_path / "b", "fmix", 0, 0.9, **two)]
    report.main(folders)
    with pytest.raises(UserError, match="c: has mixer_args"):
        report.main([*folders, result(tmp_path / "c", "fmix", 1, 0.9, **one)])


@pytest.mark.parametrize(
    "option, value", [("saliency", "energy"), ("keep_gradient", 1.0), ("layers", ["stem"]), ("mix_silence", False)]
)
def test_how_mixers_look_at_the_model_may_differ_in_one_table_but_not_within_one_mixer(tmp_path, option, value):
    one, two = {"config": {option: None}}, {"config": {option: value}}
    folders = [result(tmp_path / "a", "none", 0, 0.9, **one), result(tmp_path / "b", "patchup", 0, 0.9, **two)]
    report.main([*folders, "--baseline=patchup"])
    with pytest.raises(UserError, match=f"c: has {option}"):
        report.main([*folders, result(tmp_path / "c", "patchup", 1, 0.9, **one)])


def sweep_of(*arguments: str) -> Sweep:
    return Sweep(sweep.SWEPT, *parse(sweep.SWEPT, list(arguments)))


def test_a_sweep_takes_every_mixer(task_folder, tmp_path):
    rest = [f"--data={task_folder}", f"--runs={tmp_path}", *SMALL]
    made = sweep_of("--mixers", *rma.MIXERS, "--seeds", "0", *rest)
    assert [folder.name for folder, _ in made.waiting] == [f"{mixer}-w4-s0" for mixer in rma.MIXERS]


@pytest.mark.parametrize("content", ["{}", "{", "[]", '{"mixer": [], "seed": 0, "last": {}, "best": {}}', "\0"])
def test_damaged_results_are_named(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json: (damaged|not the results of a run)") as caught:
        report.main([str(tmp_path)])
    assert "\n" not in str(caught.value)


def test_a_baseline_without_runs_is_said_and_one_that_is_no_mixer_refused(tmp_path, capsys):
    folder = result(tmp_path / "a", "fmix", 0, None)
    report.main([folder, "--baseline=mixup"])
    said = capsys.readouterr().out
    assert "no run of mixup" in said
    assert "| fmix | 1 | - | - | - |  | 10 |" in said
    with pytest.raises(UserError, match=r"baseline must be one of .*, got nothing"):
        report.main([folder, "--baseline=nothing"])


def test_a_sweep_takes_no_run_of_other_options_or_other_data_for_its_own(task_folder, tmp_path):
    run_here(task_folder, tmp_path, "--epochs=1", "--mixer=none")
    rest = ["--mixers", "none", "--seeds", "0", f"--data={task_folder}", f"--runs={tmp_path}", *SMALL]
    with pytest.raises(UserError, match="none-w4-s0: was made with epochs 1, not 2"):
        sweep.main([*rest, "--epochs=2"])
    results = tmp_path / "none-w4-s0" / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"data": "other"}))
    with pytest.raises(UserError, match="none-w4-s0: was trained on other data"):
        sweep.main([*rest, "--epochs=1"])


def test_a_sweep_names_its_runs_itself_and_runs_none_twice(task_folder, tmp_path):
    (tmp_path / "conf.yaml").write_text("name: demo\nepochs: 1\n")
    rest = [f"--config={tmp_path / 'conf.yaml'}", f"--data={task_folder}", f"--runs={tmp_path}", *SMALL]
    made = sweep_of("--mixers", "none", "fmix", "none", "--seeds", "0", "0", *rest)
    assert [folder.name for folder, _ in made.waiting] == ["conf-none-w4-s0", "conf-fmix-w4-s0"]
    assert "--name=conf-none-w4-s0" in made.waiting[0][1]
    with pytest.raises(UserError, match="leave --name out"):
        sweep.main(["--name", "a", *rest])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--jobs=many"], "argument --jobs: invalid int"),
        (["--seeds", "x"], "--seeds"),
        (["--data=no/where"], "no/where"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line_before_anything_starts(tmp_path, arguments, message):
    done = run("sweep", f"--runs={tmp_path}", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
