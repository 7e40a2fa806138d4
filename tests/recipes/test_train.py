"""Training on tones: it learns, every mixer works, and what is written is complete."""

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import randommix_audio as rma
from recipes.shared import records
from recipes.shared.console import UserError
from recipes.speech_commands.job import KeywordJob
from tests.recipes.conftest import LABELS, ROOT, SMALL, command, environment, make_task, run_here, run_twice, weights


def test_the_loss_falls_and_the_tones_are_told_apart(task_folder, tmp_path):
    results = run_here(task_folder, tmp_path, "--epochs=10", "--mixer=none", "--name=a", "--lr=0.1")
    lines = records.read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert lines[-1]["train_loss"] < 0.5 * lines[0]["train_loss"]
    assert results["last"]["test"]["accuracy"] >= 8 / 9


@pytest.mark.parametrize("mixer", rma.MIXERS)
def test_every_mixer_trains_with_the_arguments_of_the_paper_s_configuration(task_folder, tmp_path, mixer):
    arguments = "{alpha: 1.0, per: batch, variant: official}"
    results = run_here(task_folder, tmp_path, "--epochs=1", f"--mixer={mixer}", f"--mixer_args={arguments}")
    assert results["mixer"] == mixer
    assert results["last"]["test"]["clips"] == 9
    (line,) = records.read_metrics(tmp_path / f"{mixer}-w4-s0" / "metrics.jsonl")
    assert line["step"] == 3
    assert math.isfinite(line["train_loss"])
    assert all(weight.isfinite().all() for weight in weights(tmp_path / f"{mixer}-w4-s0" / "last.ckpt").values())


def test_results_hold_what_a_table_needs(task_folder, tmp_path):
    results = run_here(task_folder, tmp_path, "--epochs=2", "--name=a", "--pictures=true", "--seed=3")
    stored = json.loads((tmp_path / "a" / "results.json").read_text())
    assert stored["labels"] == LABELS
    assert stored["seed"] == 3
    assert stored["commit"]
    assert stored["parameters"] > 0
    assert stored["clips"] == {"train": 19, "validation": 9, "test": 9}
    for kind in ("last", "best"):
        for split in ("validation", "test"):
            scores = stored[kind][split]
            assert sum(map(sum, scores["confusion"])) == scores["clips"] == 9
            hits = sum(scores["confusion"][i][i] for i in range(3))
            assert scores["accuracy"] == hits / 9
            assert scores["macro_accuracy"] == pytest.approx(sum(scores["confusion"][i][i] / 3 for i in range(3)) / 3)
            assert scores["counts"] == dict.fromkeys(LABELS, 3)
            assert set(scores["per_class"]) == set(LABELS)
    pictures = {p.stem for p in (tmp_path / "a" / "pictures").iterdir()}
    assert pictures == {"curves", "confusion", "mixes", "methods"}
    assert results["best"]["epoch"] in (1, 2)


def test_the_checkpoint_holds_all_that_is_needed_to_go_on_and_to_recognise(task_folder, tmp_path):
    run_here(task_folder, tmp_path, "--epochs=1", "--name=a", "--ema_decay=0.9", "--mixer_args={alpha: 0.5}")
    state = torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)
    needed = {
        "model",
        "optimizer",
        "precision",
        "average",
        "epoch",
        "step",
        "metrics_bytes",
        "best",
        "config",
        "commit",
    }
    assert needed <= state.keys()
    assert state["shape"]["labels"] == LABELS
    assert state["shape"]["front_end"]["n_mels"] == 12
    assert state["config"]["mixer_args"] == {"alpha": 0.5}


def test_the_seed_alone_decides_and_silence_can_be_kept_out_of_mixing(task_folder, tmp_path):
    lines = {}
    for name, more in {
        "a": [],
        "again": [],
        "other": ["--seed=1"],
        "spoken": ["--mix_silence=false"],
    }.items():
        run_here(task_folder, tmp_path, "--epochs=1", f"--name={name}", *more)
        lines[name] = records.without_times(records.read_metrics(tmp_path / name / "metrics.jsonl"))
    assert lines["a"] == lines["again"]
    assert lines["a"] != lines["other"]
    assert lines["a"] != lines["spoken"]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "recipes" / "speech_commands" / "conf").glob("*.yaml")), ids=lambda f: f.stem
)
def test_every_configuration_is_accepted_and_trains(task_folder, tmp_path, file):
    own = ["--epochs=1", "--warmup_epochs=0", "--precision=32-true", "--name=a"]
    run_here(task_folder, tmp_path, *own, f"--config={file}")
    assert yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())["epochs"] == 1


@pytest.mark.parametrize(
    "options, message",
    [
        (["--mixer=mixupp"], "mixer must be one of none, mixup, cutmix"),
        (["--mixer_args={alhpa: 1}"], "no mixer has an argument alhpa"),
        (["--mixer_args={alpha: -1}"], "mixer randommix: alpha"),
        (["--epochs=0"], "epochs must be at least 1, got 0"),
        (["--epochs=many"], "epochs"),
        (["--epoch=3"], "epoch"),
        (["--lr=-1"], "lr must not be negative"),
        (["--ema_decay=1.5"], "ema_decay must lie in"),
        (["--width=0"], "width must be at least 1"),
        (["--optimizer=adam"], "optimizer must be one of sgd, adamw, got adam"),
        (["--schedule=step"], "schedule must be one of cosine, constant, got step"),
        (["--device=gpu"], "device must be auto, cpu"),
        (["--device=cuda"], "not available here"),
        (["--preset=wisper"], "wisper"),
        (["--front_end={n_mel: 3}"], "n_mel"),
        (["--data=nothing/here"], "nothing/here"),
        (["--config=nothing.yaml"], "nothing.yaml"),
        (["--augment.noise_p=2"], "augment.noise_p must lie in"),
        (["--precision=fp16"], "precision must be one of 32-true, bf16-mixed, 16-mixed, got fp16"),
        (["--precision=16-mixed"], "precision 16-mixed needs CUDA"),
        (["--clip_norm=-1"], "clip_norm must be above 0"),
        (["--warmup_epochs=100"], "warmup_epochs must be at most epochs, 20, got 100"),
        (["--augment.time_mask=-5"], "augment.time_mask must not be negative, got -5"),
        (["--augment.shift_frames=-3"], "augment.shift_frames must not be negative, got -3"),
        (["--augment.gain=[1.5, 0.5]"], "augment.gain must be a lowest and a highest factor"),
        (["--name=../escaped"], "name must be the name of a folder inside"),
        (["--threads=0"], "threads must be at least 1, got 0"),
        (["--threads=-1"], "threads must be at least 1, got -1"),
        (["--seed=-1"], "seed must not be negative"),
        (["--seed=9223372036854775808"], "seed must be below 2^63"),
        (["--workers=-1"], "workers must not be negative"),
    ],
)
def test_a_mistake_is_one_line_that_names_it_and_nothing_is_written(task_folder, tmp_path, options, message):
    if options == ["--device=cuda"] and torch.cuda.is_available():
        options = ["--device=cuda:99"]
        message = "cuda:99"
    with pytest.raises((UserError, ValueError, OSError, rma.data.BankError)) as caught:
        run_here(task_folder, tmp_path, *options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_run_that_is_there_is_not_touched_without_resume_and_not_with_other_options(task_folder, tmp_path):
    run_here(task_folder, tmp_path, "--epochs=1", "--name=a")
    with pytest.raises(UserError, match=r"holds a run already \(finished\)"):
        run_here(task_folder, tmp_path, "--epochs=1", "--name=a")
    with pytest.raises(UserError, match="a: was made with epochs 1, not 2"):
        run_here(task_folder, tmp_path, "--epochs=2", "--name=a", "--resume=auto")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not the folder of a run"):
        run_here(task_folder, tmp_path, "--name=b", "--resume=auto")


def test_noise_without_noise_recordings_is_refused(tmp_path):
    folder = make_task(tmp_path / "quiet", clips_per_word=8, noise=False)
    with pytest.raises(UserError, match="no background noise"):
        run_here(folder, tmp_path, "--augment.noise_p=0.5")


@pytest.mark.parametrize("more", [[], ["--clip_norm=1.0"]])
def test_a_loss_that_is_no_number_is_said_and_the_last_good_checkpoint_stays(task_folder, tmp_path, monkeypatch, more):
    proper = KeywordJob.step

    def broken_in_epoch_2(self, network, batch, moment):
        outcome = proper(self, network, batch, moment)
        return replace(outcome, loss=outcome.loss * (float("nan") if moment.step >= self.steps_per_epoch else 1))

    monkeypatch.setattr(KeywordJob, "step", broken_in_epoch_2)
    with pytest.raises(UserError, match=r"training loss is nan in epoch 2: lower --lr"):
        run_here(task_folder, tmp_path, "--name=a", "--epochs=3", *more)
    assert torch.load(tmp_path / "a" / "last.ckpt", weights_only=True)["epoch"] == 1
    for kind in ("last", "best"):
        assert all(w.isfinite().all() for w in weights(tmp_path / "a" / f"{kind}.ckpt").values())
    assert [line["epoch"] for line in records.read_metrics(tmp_path / "a" / "metrics.jsonl")] == [1]


def test_the_program_ends_with_one_line_and_code_2_when_the_disk_is_full(task_folder, tmp_path):
    resource = pytest.importorskip("resource", reason="Windows knows no file size limit")
    arguments = [f"--data={task_folder}", f"--runs={tmp_path}", "--epochs=1", "--name=a", *SMALL]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # noqa: E731
    done = subprocess.run(
        command("train", *arguments),
        cwd=ROOT,
        env=environment(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith(": File too large")
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "a").glob("*.partial"))


@pytest.mark.parametrize(
    "mixer",
    [
        ["randommix"],
        ["patchup"],
        ["randommix", "--candidates=[puzzlemix, patchup]", "--weights=[1, 1]", "--keep_gradient=1"],
    ],
    ids=["input", "hidden", "saliency"],
)
def test_two_processes_agree_on_the_weights_and_share_the_clips(task_folder, tmp_path, mixer):
    # 2 x 5 rows a step: 19 training rows are 10 on each process, so that both take 2 steps
    options = ["--epochs=2", "--name=a", "--batch_size=5", "--mixer", *mixer]
    done = run_twice("recipes.speech_commands.train", f"--data={task_folder}", f"--runs={tmp_path}", *SMALL, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    assert results["processes"] == 2
    assert len(set(results["checksums"])) == 1
    assert len(results["checksums"]) == 2
    assert results["last"]["test"]["clips"] == 9
    assert done.stdout.count("test accuracy") == 2  # last and best, said by the first process only
    lines = records.read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [2, 4]
    (tmp_path / "a" / "results.json").unlink()
    with pytest.raises(UserError, match="a: was trained by 2 processes, not 1"):
        run_here(task_folder, tmp_path, *options, "--resume=auto")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole consoles, not to one process")
def test_ctrl_c_says_how_to_go_on(task_folder, tmp_path: Path):
    arguments = [f"--data={task_folder}", f"--runs={tmp_path}", "--epochs=100000", "--name=a", *SMALL]
    process = subprocess.Popen(
        command("train", *arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # tests that run in the background of a shell inherit that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        while process.poll() is None and not (tmp_path / "a" / "last.ckpt").is_file():
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "stopped; go on with the same command and --resume auto"
    assert "Traceback" not in said
