"""Training on images: it learns, every mixer works, it goes on where it was stopped, and says what counts."""

import json
from pathlib import Path

import pytest
import torch

import randommix_audio as rma
from recipes.images import report, sweep
from recipes.images.classifier import load
from recipes.shared import records
from recipes.shared.console import UserError
from tests.recipes.conftest import ROOT, run_twice, stopped_after, weights
from tests.recipes.gratings import LABELS, SMALL, make_files, make_set, run_here
from tests.recipes.test_resume import equal


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_set(tmp_path_factory.mktemp("gratings") / "set")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("gratings") / "files")


def test_the_loss_falls_and_the_gratings_are_told_apart(prepared, tmp_path):
    results = run_here(prepared, tmp_path, "--epochs=20", "--mixer=none", "--name=a", "--lr=0.1")
    lines = records.read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert lines[-1]["train_loss"] < 0.5 * lines[0]["train_loss"]
    assert results["last"]["test"]["accuracy"] >= 19 / 21


@pytest.mark.parametrize("mixer", rma.MIXERS)
def test_every_mixer_trains_with_the_arguments_of_the_paper_s_configuration(prepared, tmp_path, mixer):
    arguments = "{alpha: 1.0, per: batch, variant: official}"
    results = run_here(prepared, tmp_path, "--epochs=1", f"--mixer={mixer}", f"--mixer_args={arguments}")
    assert (results["mixer"], results["last"]["test"]["clips"]) == (mixer, 21)
    (line,) = records.read_metrics(tmp_path / f"{mixer}-w4-s0" / "metrics.jsonl")
    assert line["step"] == 4
    assert all(weight.isfinite().all() for weight in weights(tmp_path / f"{mixer}-w4-s0" / "last.ckpt").values())


def test_without_a_validation_split_the_last_epoch_counts_and_no_epoch_is_chosen_by_the_test_set(
    prepared, tmp_path, capsys
):
    results = run_here(prepared, tmp_path, "--epochs=3", "--name=a")
    assert results["selection"] == "last epoch: there is no validation split"
    assert results["clips"] == {"train": 60, "validation": 0, "test": 21}
    assert results["last"] == results["best"]
    assert results["last"]["epoch"] == 3
    assert results["last"]["validation"]["accuracy"] is None
    assert capsys.readouterr().out.count("test accuracy") == 1
    for line in records.read_metrics(tmp_path / "a" / "metrics.jsonl"):
        assert not any(name.startswith("test") for name in line)


def test_with_a_validation_split_the_best_epoch_is_the_one_with_its_best_accuracy(tmp_path, monkeypatch):
    data = make_set(tmp_path / "set", validation=12)
    results = run_here(data, tmp_path, "--epochs=4", "--name=a", "--lr=0.3")
    accuracy = [line["validation_accuracy"] for line in records.read_metrics(tmp_path / "a" / "metrics.jsonl")]
    assert results["selection"] == "best validation accuracy"
    assert results["best"]["epoch"] == 1 + accuracy.index(max(accuracy))
    assert results["best"]["validation"]["accuracy"] == max(accuracy)


def test_a_run_leaves_its_curves_its_confusions_and_what_mixing_does_to_images(prepared, tmp_path):
    run_here(prepared, tmp_path, "--epochs=1", "--name=a", "--pictures=true")
    found = {picture.stem for picture in (tmp_path / "a" / "pictures").iterdir()}
    assert found == {"curves", "confusion", "mixes", "methods"}


@pytest.mark.parametrize("kind, last", [("prepared", "true"), ("prepared", "false"), ("files", "true")])
def test_a_run_that_was_stopped_ends_as_an_undisturbed_one(kind, last, request, tmp_path):
    data = request.getfixturevalue(kind)
    options = [
        "--epochs=3",
        "--ema_decay=0.9",
        "--dropout=0.2",
        "--batch_size=8",
        "--image_size=12",
        f"--channels_last={last}",
        "--mixer_args={per: row}",
    ]
    run_here(data, tmp_path, "--name=undisturbed", *options)
    steps = torch.load(tmp_path / "undisturbed" / "last.ckpt", weights_only=True)["step"] // 3
    with stopped_after(steps + 2):  # the second epoch is begun and lost
        run_here(data, tmp_path, "--name=stopped", *options)
    run_here(data, tmp_path, "--name=stopped", "--resume=auto", *options)
    one, other = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("undisturbed", "stopped"))
    for part in ("model", "average", "optimizer", "best", "step", "shape", "data"):
        assert equal(one[part], other[part])
    lines = [records.read_metrics(tmp_path / name / "metrics.jsonl") for name in ("undisturbed", "stopped")]
    assert records.without_times(lines[0]) == records.without_times(lines[1])
    assert len(lines[0]) == 3


def test_images_on_the_device_and_images_read_from_the_disk_train_alike(prepared, tmp_path):
    for name in ("yes", "no"):
        run_here(prepared, tmp_path, "--epochs=2", f"--name={name}", f"--resident={name}")
    assert equal(weights(tmp_path / "yes" / "last.ckpt"), weights(tmp_path / "no" / "last.ckpt"))


def test_weights_with_channels_last_train_as_others_do_and_keep_their_layout(prepared, tmp_path):
    options = ["--epochs=2", "--ema_decay=0.9", "--lr=0.01"]
    for name in ("false", "true"):
        run_here(prepared, tmp_path, *options, f"--name={name}", f"--channels_last={name}")
    plain, last = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("false", "true"))
    for part in ("model", "average"):
        for name, weight in last[part].items():
            torch.testing.assert_close(weight, plain[part][name], atol=1e-4, rtol=1e-3)
    assert last["model"]["stages.0.conv1.weight"].is_contiguous(memory_format=torch.channels_last)
    assert last["average"]["stages.0.conv1.weight"].is_contiguous(memory_format=torch.channels_last)


def test_the_seed_decides_order_augmentation_and_mixing(prepared, tmp_path):
    lines = {}
    for name, more in {"a": (), "again": (), "other": ("--seed=1",), "still": ("--augment.padding=0",)}.items():
        run_here(prepared, tmp_path, "--epochs=1", f"--name={name}", *more)
        lines[name] = records.without_times(records.read_metrics(tmp_path / name / "metrics.jsonl"))
    assert lines["a"] == lines["again"]
    assert lines["other"] != lines["a"] != lines["still"]


def test_two_processes_agree_on_the_weights_and_share_the_images(prepared, tmp_path):
    options = [f"--data={prepared}", f"--runs={tmp_path}", *SMALL, "--epochs=1", "--name=a", "--batch_size=7"]
    done = run_twice("recipes.images.train", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert (results["processes"], results["last"]["test"]["clips"]) == (2, 21)
    assert len(set(results["checksums"])) == 1
    (line,) = records.read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert line["step"] == 5  # 30 images on each process


@pytest.mark.parametrize(
    "file", sorted((ROOT / "recipes" / "images" / "conf").glob("*.yaml")), ids=lambda file: file.stem
)
def test_every_configuration_is_accepted_and_trains(prepared, files, tmp_path, file):
    data = files if file.stem == "imagenet" else prepared
    own = ["--epochs=1", "--warmup_epochs=0", "--width=2", "--workers=0", "--image_size=12", "--batch_size=30"]
    results = run_here(data, tmp_path, *own, "--name=a", f"--config={file}")
    settings = results["config"]
    assert (settings["weight_decay"], settings["mixer"]) == (4e-5 if file.stem == "imagenet" else 5e-4, "randommix")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--mixer=mixupp"], "mixer must be one of none, mixup, cutmix"),
        (["--model=resnet"], "model must be one of preact_resnet18, wide_resnet28, resnet50, got resnet"),
        (["--mixer=patchup", "--model=wide_resnet28", "--layers=[stages.12]"], "'stages.12'"),
        (["--augment.padding=-1"], "augment.padding must not be negative, got -1"),
        (["--augment.flip=2"], "augment.flip must lie in [0, 1], got 2"),
        (["--augment.area=[0, 1]"], "augment.area must be a least and a largest share within (0, 1]"),
        (["--image_size=0"], "image_size must be at least 1, got 0"),
        (["--data=nothing/here"], "nothing/here: holds neither a prepared set (task.json) nor image files in train"),
    ],
)
def test_a_mistake_is_one_line_that_names_it_and_nothing_is_written(prepared, tmp_path, options, message):
    with pytest.raises(UserError) as caught:
        run_here(prepared, tmp_path, *options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_prepared_set_of_speech_is_no_set_of_images(task_folder, tmp_path):
    with pytest.raises(rma.data.BankError, match=r"holds no prepared set of images"):
        run_here(task_folder, tmp_path)


def test_a_run_of_other_images_is_not_gone_on_with(prepared, tmp_path):
    run_here(prepared, tmp_path, "--epochs=1", "--name=a")
    (tmp_path / "a" / "results.json").unlink()
    other = make_set(tmp_path / "other", size=10)
    records_config = tmp_path / "a" / "config.yaml"
    records_config.write_text(records_config.read_text().replace(str(prepared), str(other)))
    with pytest.raises(UserError, match="was trained on other data"):
        run_here(other, tmp_path, "--epochs=1", "--name=a", "--resume=auto")


def test_a_sweep_of_images_runs_what_is_missing_and_its_table_counts_images(prepared, tmp_path, capsys):
    run_here(prepared, tmp_path, "--epochs=1", "--mixer=fmix")
    rest = [f"--data={prepared}", f"--runs={tmp_path}", *SMALL, "--epochs=1"]
    sweep.main(["--mixers", "none", "fmix", "--seeds", "0", *rest])
    said = capsys.readouterr().out
    assert "2 runs, 1 finished" in said
    assert "table: python -m recipes.images.report" in said
    report.main([str(tmp_path / f"{mixer}-w4-s0") for mixer in ("none", "fmix")])
    said = capsys.readouterr().out
    assert "21 test images, width 4, 1 epochs" in said
    assert "| fmix | 1 |" in said


def test_a_checkpoint_holds_all_that_is_needed_to_classify(prepared, tmp_path):
    run_here(prepared, tmp_path, "--epochs=1", "--name=a", "--model=wide_resnet28", "--width=2")
    model, shape, state = load(tmp_path / "a" / "last.ckpt")
    assert (shape.labels, shape.model, shape.size, shape.width) == (LABELS, "wide_resnet28", 12, 2)
    assert model(torch.rand(2, 3, 12, 12)).shape == (2, 3)
    assert state["config"]["model"] == "wide_resnet28"
