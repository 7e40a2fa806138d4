import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from randommix_audio.data import Clip, Entries, NoiseBank, Task, WaveBank
from randommix_audio.evaluation import GROUPS, speech_conditions
from recipes.shared.console import UserError
from recipes.speech_commands import evaluate, robustness, silence
from tests.recipes.conftest import LABELS, RATE, run_here


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task whose clips are named by speaker: 8 tones of two pitches by four speakers, one recording of noise."""
    folder, random = tmp_path_factory.mktemp("spoken"), np.random.default_rng(0)
    clips = []
    for word, pitch in (("low", 400), ("high", 1200)):
        for who in "dbca":
            for split in ("train", "validation", "test"):
                name = f"{word}/{who}_nohash_{split}"
                (folder / "wav" / word).mkdir(parents=True, exist_ok=True)
                tone = 0.3 * np.sin(2 * np.pi * pitch * random.uniform(0.9, 1.1) * np.arange(RATE) / RATE)
                soundfile.write(folder / "wav" / f"{name}.wav", tone + 0.03 * random.standard_normal(RATE), RATE)
                clips.append(Clip(folder / "wav" / f"{name}.wav", word, split, name))
    bank = WaveBank.build(folder / "task" / "bank", clips, sample_rate=RATE, progress=False)
    noise = NoiseBank((3000 * random.standard_normal(9000)).astype(np.int16), np.array([0, 9000]), ["hum"], RATE)
    entries = {}
    for split in ("train", "validation", "test"):
        rows = [i for i, s in enumerate(bank.splits) if s == split]
        of_words = Entries.of(bank, rows, [LABELS.index(bank.labels[i]) for i in rows], noise)
        entries[split] = of_words.with_silence(2, None, None, 2)
    Task(LABELS, bank, entries, noise).save(folder / "task")
    return folder / "task"


@pytest.fixture(scope="module")
def trained(spoken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_here(spoken, folder, "--epochs=12", "--mixer=none", "--name=a", "--lr=0.1")
    return folder / "a"


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(trained / "last.ckpt", tmp_path / "last.ckpt"))


QUICK = ("--device=cpu", "--quick=true", "--split=validation")


@pytest.fixture(scope="module")
def tested(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and the numbers of a quick test."""
    folder = tmp_path_factory.mktemp("tested")
    shutil.copy(trained / "last.ckpt", folder)
    robustness.main([f"--checkpoint={folder / 'last.ckpt'}", *QUICK])
    return folder


def test_numbers_and_picture_lie_beside_the_checkpoint_and_say_what_was_tested(checkpoint, spoken, capsys):
    robustness.main([f"--checkpoint={checkpoint}", "--device=cpu", "--batch_size=3"])
    report = json.loads((checkpoint.parent / "robustness.json").read_text())
    assert (checkpoint.parent / "robustness.png").read_bytes().startswith(b"\x89PNG")
    assert list(report["conditions"]) == [c.name for c in speech_conditions()]
    assert (report["clips"], report["epoch"], report["left_out"]) == (10, 12, [])
    assert report["settings"].keys() >= {"data_digest", "checkpoint_digest", "seed", "split"}
    assert {"commit", "noise_error", "occlusion_error", "fgsm_error"} <= report.keys()
    evaluate.main([f"--checkpoint={checkpoint}", "--device=cpu"])
    accuracy = json.loads((checkpoint.parent / "evaluation-last-test.json").read_text())["accuracy"]
    assert report["clean_error"] == pytest.approx(1 - accuracy)
    said = capsys.readouterr().out
    assert all(group in said for group in GROUPS)


def test_a_test_that_is_there_is_not_repeated_unless_asked_for(tested, tmp_path, capsys):
    folder = shutil.copytree(tested, tmp_path / "a")
    arguments, out = [f"--checkpoint={folder / 'last.ckpt'}", *QUICK, "--batch_size=7"], folder / "robustness.json"
    first = json.loads(out.read_text())
    out.write_text(json.dumps({**first, "commit": "mark"}))
    robustness.main(arguments)
    assert "holds this test already" in capsys.readouterr().out
    assert json.loads(out.read_text())["commit"] == "mark"
    robustness.main([*arguments, "--again=true"])
    again = json.loads(out.read_text())
    assert again.pop("checkpoint") != first.pop("checkpoint")  # the folder is a copy
    assert again == first


@pytest.mark.parametrize(
    "more, said",
    [
        ("--seed=1", "another seed"),
        ("--limit_clips=4", "another data digest"),
        ("--quick=false", "another conditions"),
        ("--split=test", "another data digest"),
        ("", "another checkpoint digest"),
    ],
)
def test_the_numbers_of_another_test_are_not_replaced(tested, tmp_path, more, said):
    folder = shutil.copytree(tested, tmp_path / "a")
    if not more:
        state = torch.load(folder / "last.ckpt", weights_only=True)
        torch.save({**state, "epoch": 99}, folder / "last.ckpt")
    before = (folder / "robustness.json").read_text()
    with pytest.raises(UserError, match=rf"robustness\.json: was made with {said}; --again true replaces it"):
        robustness.main([f"--checkpoint={folder / 'last.ckpt'}", *QUICK, *([more] if more else [])])
    assert (folder / "robustness.json").read_text() == before


def test_fewer_clips_are_spread_over_the_split_and_keep_their_numbers(spoken):
    whole, some = (robustness.speech_set(Task.open(spoken), "test", limit) for limit in (None, 5))
    assert some.index.tolist() == [0, 2, 4, 6, 8]
    assert torch.equal(some.wave, whole.wave[::2])
    assert torch.equal(some.target, whole.target[::2])
    assert torch.equal(some.voices.wave, whole.wave)  # babble goes on to be of all clips
    assert len(robustness.speech_set(Task.open(spoken), "test", 99)) == 10


def test_speakers_are_known_by_the_names_of_their_clips_and_silence_has_none(spoken, task_folder):
    assert robustness.speakers(Task.open(spoken).split("test")).tolist() == [3, 1, 2, 0, 3, 1, 2, 0, -1, -1]
    assert robustness.speakers(Task.open(task_folder).split("test")) is None


def test_what_the_data_has_nothing_for_is_left_out_and_named(trained, task_folder, tmp_path, capsys):
    shutil.copy(trained / "last.ckpt", tmp_path / "last.ckpt")
    out = tmp_path / "elsewhere.json"
    robustness.main([f"--checkpoint={tmp_path / 'last.ckpt'}", f"--data={task_folder}", f"--out={out}", "--device=cpu"])
    report = json.loads(out.read_text())
    assert report["left_out"] == ["babble"]
    assert "babble" not in report["groups"]
    assert "babble           left out: nobody knows who speaks in the clips" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", "elsewhere.json", "elsewhere.png"}


def test_a_front_end_that_normalises_clips_is_tested_without_steps_of_decibels(spoken, tmp_path, capsys):
    options = ("--front_end.normalize=per_feature", "--epochs=1", "--mixer=none", "--name=a")
    run_here(spoken, tmp_path, *options)
    robustness.main([f"--checkpoint={tmp_path / 'a' / 'last.ckpt'}", *QUICK])
    report = json.loads((tmp_path / "a" / "robustness.json").read_text())
    assert report["left_out"] == ["fgsm_features"]
    assert report["fgsm_error"] == report["groups"]["fgsm_wave"]
    assert "fgsm_features    left out: the front end normalises each clip" in capsys.readouterr().out


def test_mistakes_are_one_line(checkpoint, tmp_path):
    with pytest.raises(UserError, match="limit_clips must be at least 1, got 0"):
        robustness.main([f"--checkpoint={checkpoint}", "--limit_clips=0"])
    with pytest.raises(UserError, match="nowhere: no such folder"):
        robustness.main([f"--checkpoint={checkpoint}", f"--out={tmp_path / 'nowhere' / 'a.json'}"])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match=r"other\.json: holds no test of robustness"):
        robustness.main([f"--checkpoint={checkpoint}", f"--out={tmp_path / 'other.json'}", "--device=cpu"])


def test_every_group_has_its_place_in_the_picture():
    placed = [group for _, groups, _ in robustness.PANELS for group in groups]
    assert sorted(placed) == sorted([*GROUPS, "vorbis", "mp3"])


@pytest.mark.parametrize("says, share", [("silence", 100.0), ("low", 0.0)])
def test_words_that_are_taken_for_silence_are_counted_clean_and_in_noise(checkpoint, capsys, says, share):
    state = torch.load(checkpoint, weights_only=True)
    state["model"]["head.bias"] += 1e6 * (torch.arange(len(LABELS)) == LABELS.index(says))
    torch.save(state, checkpoint)
    silence.main([f"--checkpoint={checkpoint}", "--snrs=[0, 20]", "--batch_size=3", "--device=cpu"])
    said = f"clean {share:.1f} %, 20 dB {share:.1f} %, 0 dB {share:.1f} %"
    assert capsys.readouterr().out == f"words taken for silence: {said}\n"


def test_silent_clips_are_left_out_and_noise_has_the_ratio_asked_for(checkpoint, monkeypatch):
    model, *others = silence.load_with_corpus(str(checkpoint), None, torch.device("cpu"))
    heard = []
    model.register_forward_pre_hook(lambda _, given: heard.append(given[0].clone()))
    monkeypatch.setattr(silence, "load_with_corpus", lambda *_: (model, *others))
    silence.taken_for_silence(silence.Options(str(checkpoint), snrs=[0.0, 20.0], device="cpu"))
    clean, weak, strong = heard
    assert len(clean) == 8  # of 10, two are silent
    assert clean.abs().amax(1).min() > 0
    ratio = (strong - clean).square().mean(1) / (weak - clean).square().mean(1)
    assert ratio.tolist() == pytest.approx([100.0] * 8, rel=1e-3)


def test_words_are_counted_alike_in_batches_of_any_size(checkpoint):
    found = [
        silence.taken_for_silence(silence.Options(str(checkpoint), snrs=[0.0, -10.0], batch_size=size, device="cpu"))
        for size in (1, 5, 256)
    ]
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == {"clean", "0 dB", "-10 dB"}


def renamed(checkpoint: Path, spoken: Path, folder: Path, name: str) -> silence.Options:
    """The checkpoint and its corpus with another name for the class of silence."""
    other = shutil.copytree(spoken, folder / "other")
    task, state = json.loads((other / "task.json").read_text()), torch.load(checkpoint, weights_only=True)
    task["labels"] = state["shape"]["labels"] = [name if label == "silence" else label for label in task["labels"]]
    (other / "task.json").write_text(json.dumps(task))
    torch.save(state, checkpoint)
    return silence.Options(str(checkpoint), data=str(other), device="cpu")


def test_silence_is_found_under_the_name_of_either_protocol(checkpoint, spoken, tmp_path):
    before = silence.taken_for_silence(silence.Options(str(checkpoint), device="cpu"))
    assert silence.taken_for_silence(renamed(checkpoint, spoken, tmp_path, "_silence_")) == before


def test_a_corpus_without_silence_is_refused(checkpoint, spoken, tmp_path):
    with pytest.raises(UserError, match="other: has no class of silence, only low high noise"):
        silence.taken_for_silence(renamed(checkpoint, spoken, tmp_path, "noise"))


def test_a_corpus_without_spoken_test_clips_and_empty_batches_are_refused(checkpoint, spoken, tmp_path):
    with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
        silence.taken_for_silence(silence.Options(str(checkpoint), batch_size=0, device="cpu"))
    other = shutil.copytree(spoken, tmp_path / "other")
    task = Task.open(other)
    task.entries["test"] = Entries.of(task.bank, [], []).with_silence(LABELS.index("silence"), None, None, 2)
    task.save(other)
    with pytest.raises(UserError, match="other: has no spoken test clips"):
        silence.taken_for_silence(silence.Options(str(checkpoint), data=str(other), device="cpu"))
