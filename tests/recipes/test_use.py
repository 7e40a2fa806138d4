"""Evaluating, predicting, exporting."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from randommix_audio.data import Clip, Entries, Task, WaveBank
from recipes.shared import records, scores
from recipes.shared.console import UserError
from recipes.speech_commands import evaluate, export, predict
from recipes.speech_commands.recogniser import load
from tests.recipes.conftest import LABELS, RATE, run, run_here


@pytest.fixture(scope="module")
def trained(task_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_here(task_folder, folder, "--epochs=20", "--width=8", "--mixer=none", "--name=a", "--ema_decay=0.8")
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
    other = shutil.copytree(task_folder, tmp_path / "other")
    stored = json.loads((other / "task.json").read_text())
    stored["labels"] = LABELS[::-1]
    (other / "task.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="was trained on low high silence"):
        evaluate.main([f"--checkpoint={trained / 'last.ckpt'}", f"--data={other}", "--device=cpu"])


def test_a_corpus_with_clips_of_another_length_is_refused(trained, tmp_path):
    clips = []
    for i, split in enumerate(("train", "validation", "test")):
        path = tone(tmp_path / f"{split}.wav", 400, RATE, 1.0)
        clips.append(Clip(path, "low", split, f"{i}"))
    bank = WaveBank.build(tmp_path / "task" / "bank", clips, sample_rate=RATE, seconds=2.0, progress=False)
    entries = {split: Entries.of(bank, [i], [0]) for i, split in enumerate(bank.splits)}
    Task(LABELS, bank, entries).save(tmp_path / "task")
    with pytest.raises(UserError, match=r"task: has clips of 8000 samples at 4000 Hz; .* on 4000 samples at 4000 Hz"):
        evaluate.main([f"--checkpoint={trained / 'last.ckpt'}", f"--data={tmp_path / 'task'}", "--device=cpu"])


def test_a_place_for_the_scores_that_is_not_there_is_said_before_the_work(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        evaluate.main([f"--checkpoint={tmp_path / 'none.ckpt'}", f"--out={tmp_path / 'nowhere' / 'scores.json'}"])


@pytest.mark.parametrize("pad, first", [("end", 0), ("both", 1500)])
def test_a_short_file_gets_its_zeros_where_the_clips_of_the_training_got_theirs(tmp_path, pad, first):
    short = tmp_path / "short.wav"
    soundfile.write(short, np.full(1000, 0.5), RATE)
    ((start, waves),) = predict.windows(str(short), RATE, RATE, 0.5, pad)
    assert (start, waves.shape) == (0.0, (1, RATE))
    assert np.flatnonzero(waves[0])[[0, -1]].tolist() == [first, first + 999]


def test_the_checkpoint_tells_predict_how_clips_are_padded_and_an_older_one_pads_at_the_end(task_folder, tmp_path):
    data = shutil.copytree(task_folder, tmp_path / "task")
    task = Task.open(data)
    task.metadata["settings"] = {"pad": "both"}
    task.save(data)
    run_here(data, tmp_path, "--epochs=1", "--name=a")
    model, state = load(tmp_path / "a" / "last.ckpt")
    assert model.shape.pad == "both"
    state["shape"].pop("pad")
    records.save(state, tmp_path / "old.ckpt")
    assert load(tmp_path / "old.ckpt")[0].shape.pad == "end"


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


def test_an_export_that_fails_leaves_the_older_file(trained, tmp_path, monkeypatch):
    out = tmp_path / "model.pt2"
    out.write_text("older")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match=r"model\.pt2: would give logits that differ"):
        export.main([f"--checkpoint={trained / 'last.ckpt'}", f"--out={out}"])
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("model.pt2", "older")]


@pytest.mark.parametrize("name, reason", [("folder.onnx", "is a folder"), ("file/model.onnx", "ot a directory|exists")])
def test_an_export_to_a_place_that_cannot_be_written_is_one_line(trained, tmp_path, name, reason):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").touch()
    done = run("export", f"--checkpoint={trained / 'last.ckpt'}", f"--out={tmp_path / name}")
    assert done.returncode == 2
    assert re.fullmatch(f"error: {tmp_path}.*({reason}).*\n", done.stderr)


def test_scores_by_hand():
    matrix = scores.confusion(torch.tensor([0, 1, 1, 2, 0]), torch.tensor([0, 0, 1, 1, 1]), 3)
    found = scores.report(matrix, ["a", "b", "c"])
    assert found["confusion"] == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
    assert found["accuracy"] == 2 / 5
    assert found["macro_accuracy"] == pytest.approx((1 / 2 + 1 / 3) / 2)  # nothing of class c was there to be heard
    assert found["per_class"]["c"] == {"clips": 0, "recall": None, "precision": 0.0, "f1": 0.0}
    nothing = scores.report(torch.zeros(2, 2, dtype=torch.long), ["a", "b"])
    assert (nothing["accuracy"], nothing["macro_accuracy"]) == (None, None)


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2"])
def test_an_exporter_that_fails_is_one_line_and_writes_nothing(trained, tmp_path, monkeypatch, name):
    def fail(*arguments, **options):
        raise TypeError("'NoneType' object is not subscriptable")

    monkeypatch.setattr(torch.onnx, "export", fail)
    monkeypatch.setattr(torch.export, "export", fail)
    model, _ = load(trained / "last.ckpt")
    with pytest.raises(UserError, match=r"the exporter failed \(TypeError in PyTorch"):
        export.export(model, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
