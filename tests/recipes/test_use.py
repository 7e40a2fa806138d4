"""Evaluating, predicting, exporting, and tables of runs."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from recipes.shared import scores
from recipes.shared.console import UserError
from recipes.speech_commands import evaluate, export, predict, report, sweep
from recipes.speech_commands.recogniser import load
from tests.recipes.conftest import LABELS, RATE, SMALL, run, run_here


@pytest.fixture(scope="module")
def trained(task_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_here(task_folder, folder, "--epochs=10", "--mixer=none", "--name=a", "--lr=0.1", "--ema_decay=0.8")
    return folder / "a"


def tone(path: Path, pitch: float, rate: int, seconds: float, channels: int = 1, **options: str) -> str:
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)
    wave = wave + 0.1 * np.random.default_rng(1).standard_normal(len(wave))
    soundfile.write(path, np.stack([wave] * channels, 1), rate, **options)
    return str(path)


def test_evaluate_gives_the_numbers_that_training_ended_with(trained, task_folder, capsys, tmp_path):
    for kind in ("last", "best"):
        out = tmp_path / f"{kind}.json"
        evaluate.main([f"--checkpoint={trained / kind}.ckpt", f"--out={out}", "--device=cpu", "--batch_size=4"])
        stored, results = json.loads(out.read_text()), json.loads((trained / "results.json").read_text())
        assert stored["confusion"] == results[kind]["test"]["confusion"]
        assert stored["loss"] == pytest.approx(results[kind]["test"]["loss"], rel=1e-5)
    said = capsys.readouterr().out
    assert "silence" in said
    assert "9 clips" in said


def test_a_corpus_with_other_labels_is_refused(trained, task_folder, tmp_path):
    import shutil

    other = shutil.copytree(task_folder, tmp_path / "other")
    stored = json.loads((other / "task.json").read_text())
    stored["labels"] = LABELS[::-1]
    (other / "task.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="was trained on low high silence"):
        evaluate.main([f"--checkpoint={trained / 'last.ckpt'}", f"--data={other}", "--device=cpu"])


def test_predict_reads_any_rate_width_and_channel_count(trained, tmp_path, capsys):
    files = [
        tone(tmp_path / "a.wav", 400, RATE, 1.0),
        tone(tmp_path / "b.flac", 1200, 44100, 1.0, channels=2),
        tone(tmp_path / "c.wav", 1200, 11025, 0.9, subtype="PCM_24"),
        tone(tmp_path / "d.wav", 400, 8000, 0.95, channels=5, subtype="FLOAT"),
    ]
    predict.main([*files, f"--checkpoint={trained / 'last.ckpt'}", "--device=cpu", "--top=2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines] == ["low", "high", "high", "low"]
    assert all(0 <= float(line.split()[4]) <= 1 for line in lines)


def test_a_longer_file_is_recognised_window_by_window(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "WINDOWS", 2)
    long = tmp_path / "long.wav"
    pieces = [soundfile.read(tone(tmp_path / f"{p}.wav", p, RATE, 1.0))[0] for p in (400, 1200, 400)]
    soundfile.write(long, np.concatenate([*pieces, np.zeros(100)]), RATE)
    model, _ = load(trained / "last.ckpt")
    found = list(predict.predict(model, str(long)))
    assert [f.start for f in found] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert [LABELS[int(f.probabilities.argmax())] for f in found[::2][:3]] == ["low", "high", "low"]
    assert found[-1].end == pytest.approx(3.025)


def test_a_file_that_cannot_be_used_is_named_and_the_others_are_still_recognised(trained, tmp_path):
    good = tone(tmp_path / "good.wav", 400, RATE, 0.2)
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    done = run("predict", bad, tmp_path / "none.wav", good, "--checkpoint", trained / "last.ckpt", "--device=cpu")
    assert done.returncode == 2
    assert "good.wav" in done.stdout
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert "bad.wav" in done.stderr
    assert "none.wav" in done.stderr


@pytest.mark.parametrize("program", [evaluate, export, predict])
def test_a_missing_or_broken_checkpoint_is_one_line(program, tmp_path):
    more = ["x.wav"] if program is predict else [f"--out={tmp_path / 'm.onnx'}"]
    with pytest.raises(UserError, match=r"none\.ckpt: no such checkpoint"):
        program.main([*more, f"--checkpoint={tmp_path / 'none.ckpt'}"])
    (tmp_path / "broken.ckpt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(UserError, match=r"broken\.ckpt: not a readable checkpoint"):
        program.main([*more, f"--checkpoint={tmp_path / 'broken.ckpt'}"])


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_the_exported_file_gives_the_probabilities_of_predict(trained, tmp_path, ending, capsys):
    out = tmp_path / f"model{ending}"
    export.main([f"--checkpoint={trained / 'last.ckpt'}", f"--out={out}"])
    about = json.loads((tmp_path / f"model{ending}.json").read_text())
    assert about["labels"] == LABELS
    model, _ = load(trained / "last.ckpt")
    for rows in (1, 3):
        wave = 0.2 * torch.randn(rows, about["samples"], generator=torch.Generator().manual_seed(rows))
        expected = model(wave).detach()
        if ending == ".onnx":
            (logits,) = onnxruntime.InferenceSession(str(out)).run(None, {"wave": wave.numpy()})
        else:
            logits = torch.export.load(out).module()(wave).detach().numpy()
        assert np.abs(logits - expected.numpy()).max() < 1e-4


def test_an_export_to_an_unknown_format_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match=r"out must end in \.onnx or \.pt2"):
        export.main([f"--checkpoint={trained / 'last.ckpt'}", f"--out={tmp_path / 'model.tflite'}"])


def test_scores_by_hand():
    matrix = scores.confusion(torch.tensor([0, 1, 1, 2, 0]), torch.tensor([0, 0, 1, 1, 1]), 3)
    found = scores.report(matrix, ["a", "b", "c"])
    assert found["confusion"] == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert found["accuracy"] == 2 / 5
    assert found["macro_accuracy"] == pytest.approx((1 / 2 + 1 / 3) / 2)  # nothing of class c was there to be heard
    assert found["per_class"]["c"] == {"clips": 0, "recall": None, "precision": 0.0, "f1": 0.0}


def result(folder: Path, mixer: str, seed: int, accuracy: float) -> str:
    split = {"accuracy": accuracy, "macro_accuracy": accuracy - 0.01, "clips": 100}
    folder.mkdir()
    about = {"mixer": mixer, "seed": seed, "commit": "abc", "width": 4, "epochs": 2, "clips_per_second": 10.0}
    both = {"test": split, "validation": split}
    (folder / "results.json").write_text(json.dumps({**about, "last": both, "best": both}))
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
