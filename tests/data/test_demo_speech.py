"""The spoken demo set: like the real corpus, the same for a seed, and not silent."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep import demo_speech, speaking
from data_prep.command import PrepareError
from data_prep.demo_speech import VARIANTS, clips_of, generate, speakers
from data_prep.protocols import COMMANDS
from data_prep.speaking import Espeak, Word, espeak
from data_prep.speech_commands import prepare
from randommix_audio.data import read

REPOSITORY = Path(__file__).parents[2]
FEW = {"train": ("Alex", "f1"), "validation": ("m3",), "test": ("f4",)}


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.suffix in (".wav", ".txt")}


@pytest.fixture
def few_voices(monkeypatch):
    monkeypatch.setattr(demo_speech, "VARIANTS", FEW)


def test_no_voice_speaks_in_two_splits():
    everyone = [variant for variants in VARIANTS.values() for variant in variants]
    assert len(set(everyone)) == len(everyone)
    assert len({speaker.name for speaker in speakers()}) == len(everyone)
    total = sum(len(clips_of(speaker, 0)) for speaker in speakers())
    assert 1500 <= total <= 2600


def test_the_set_is_a_corpus_of_loud_and_different_clips(tmp_path, few_voices):
    root = generate(tmp_path / "demo", progress=False)
    task = prepare(root, progress=False)
    assert len(task.labels) == 12
    assert task.counts()["train"][2:] == [6] * 10
    assert task.counts()["test"][2:] == [3] * 10
    assert task.noise.names == sorted(demo_speech.NOISES)
    clips = np.asarray(task.bank.clips).astype(float)
    assert clips.shape[1] == 16000
    peaks = np.abs(clips).max(axis=1)
    assert peaks.min() > 1000
    assert peaks.max() < 32767
    assert len({clip.tobytes() for clip in clips}) == len(clips)
    assert set(tree(root)["testing_list.txt"].decode().split()) == {
        key for key, split in zip(task.bank.keys, task.bank.splits, strict=True) if split == "test"
    }


def test_words_sound_different_and_last_like_words():
    with espeak() as engine:
        waves, rate = engine.say("en-us+f1", [Word(text, 150, 50, 50) for text in COMMANDS])
    assert rate == 22050
    assert all(0.15 < len(demo_speech.trimmed(wave)) / rate < 1.0 for wave in waves)
    assert len({wave.tobytes() for wave in waves}) == len(COMMANDS)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path, few_voices):
    first = tree(generate(tmp_path / "a", seed=0, progress=False))
    assert tree(generate(tmp_path / "b", seed=0, progress=False, workers=1)) == first
    other = tree(generate(tmp_path / "c", seed=1, progress=False))
    assert other["yes/" + next(n for n in first if n.startswith("yes/"))[4:]] not in first.values()


def test_a_stopped_run_goes_on_to_the_same_set(tmp_path, few_voices, monkeypatch):
    whole = tree(generate(tmp_path / "whole", progress=False))
    real = demo_speech.write_wave
    written: list[Path] = []

    def stopped(path, clip):
        if len(written) == 50:
            raise KeyboardInterrupt
        written.append(path)
        real(path, clip)

    monkeypatch.setattr(demo_speech, "write_wave", stopped)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "demo", progress=False, workers=1)
    assert not (tmp_path / "demo" / "testing_list.txt").exists()
    monkeypatch.setattr(demo_speech, "write_wave", real)
    assert tree(generate(tmp_path / "demo", progress=False)) == whole
    monkeypatch.setattr(Espeak, "say", lambda *_: pytest.fail("spoken again"))
    generate(tmp_path / "demo", progress=False)


KILLED = (
    f"from data_prep import demo_speech as d; import sys; d.VARIANTS = {FEW!r}; d.generate(sys.argv[1], progress=False)"
)


def test_a_run_that_is_killed_goes_on(tmp_path, few_voices):
    root = tmp_path / "demo"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(root)], cwd=REPOSITORY)
    while child.poll() is None and len(list(root.glob("*/*.wav"))) < 20:
        time.sleep(0.005)
    child.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    child.wait()
    made = list(root.glob("*/*.wav"))
    assert len(made) >= 20
    assert all(len(read(path)[0]) >= 16000 for path in made)
    generate(root, progress=False)
    assert not list(root.rglob("*.partial"))
    assert tree(root) == tree(generate(tmp_path / "whole", progress=False))


def test_the_command_fails_in_one_line(tmp_path):
    (tmp_path / "mine.txt").touch()
    command = [sys.executable, "-m", "data_prep.demo_speech", "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")


def test_a_folder_of_something_else_or_another_seed_is_left_alone(tmp_path, few_voices):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(PrepareError, match="is not empty"):
        generate(tmp_path / "mine", progress=False)
    generate(tmp_path / "demo", progress=False)
    with pytest.raises(PrepareError, match="another seed"):
        generate(tmp_path / "demo", seed=1, progress=False)


def test_a_long_path_of_the_data_is_shortened(monkeypatch, tmp_path):
    monkeypatch.setattr(speaking, "_SAFE_PATH", 0)
    with espeak() as engine:
        near = engine.data
        assert near.is_dir()
        waves, _ = engine.say("en-us+f1", [Word("yes", 150, 50, 50)])
        assert len(waves[0]) > 1000
    assert not near.exists()
    monkeypatch.setattr(Path, "symlink_to", lambda *_, **__: (_ for _ in ()).throw(OSError("not allowed")))
    with espeak() as engine:
        assert not engine.data.is_symlink()
        assert len(engine.say("en-us+f1", [Word("yes", 150, 50, 50)])[0][0]) > 1000


def test_a_child_that_fails_or_crashes_is_one_line(tmp_path, monkeypatch):
    with espeak() as engine:
        with pytest.raises(PrepareError, match=r"no voice en-us\+nobody") as caught:
            engine.say("en-us+nobody", [Word("yes", 150, 50, 50)])
        assert "\n" not in str(caught.value)
        with pytest.raises(PrepareError, match="espeak-ng failed"):
            Espeak(tmp_path / "no.so", engine.data).say("en-us+f1", [Word("yes", 150, 50, 50)])
        crash = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
        real = subprocess.run
        monkeypatch.setattr(subprocess, "run", lambda _, **kwargs: real([sys.executable, "-c", crash], **kwargs))
        with pytest.raises(PrepareError, match="espeak-ng failed"):
            engine.say("en-us+f1", [Word("yes", 150, 50, 50)])
    monkeypatch.setattr(speaking.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PrepareError, match="pip install"), espeak():
        pass
