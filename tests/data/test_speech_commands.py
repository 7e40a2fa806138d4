"""Speech Commands: splits, protocols, and the command line, on small corpora made on the spot."""

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import speech_commands
from data_prep.command import PrepareError, run
from data_prep.protocols import COMMANDS
from data_prep.speech_commands import prepare
from data_prep.word_folders import read_list, scan, which_set, without_suffix
from randommix_audio.data import BankError, BankLoader, Task

REPOSITORY = Path(__file__).parents[2]


def wav(path: Path, seed: int, samples: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).integers(-5000, 5000, samples).astype(np.int16), 16000)
    return path


def corpus(root: Path, words: tuple[str, ...] = (*COMMANDS, "cat", "bed"), each: int = 6, suffix: str = ".wav") -> Path:
    """`each` clips of each word: one for validation, two for testing, the rest for training."""
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for w, word in enumerate(words):
        for i in range(each):
            wav(root / word / f"{i:08x}_nohash_0{suffix}", 100 * w + i)
            if i < 3:
                name = "validation_list.txt" if i == 0 else "testing_list.txt"
                lists[name].append(f"{word}/{i:08x}_nohash_0.wav\n")
    for name, lines in lists.items():
        (root / name).write_text("".join(lines))
    return root


def with_noise(root: Path) -> Path:
    wav(root / "_background_noise_" / "tap.wav", 1, 40_000)
    wav(root / "_background_noise_" / "hum.wav", 2, 50_000)
    return root


def make(root: Path, **kwargs: object) -> Task:
    return prepare(root, progress=False, **kwargs)


def test_the_speaker_hash_keeps_speakers_together_and_splits_80_10_10():
    assert which_set("bed/026290a7_nohash_0.wav") == "validation"  # as in the published validation_list.txt
    assert which_set("bed/0c40e715_nohash_0.wav") == "test"
    assert which_set("a/bbb_nohash_3.wav") == which_set("z/bbb_nohash_0.flac")
    shares = [which_set(f"yes/{i:08x}_nohash_0.wav") for i in range(4000)]
    assert abs(shares.count("validation") - 400) < 60
    assert abs(shares.count("test") - 400) < 60


def test_list_files_name_flac_and_back_slashes_alike(tmp_path):
    (tmp_path / "l.txt").write_text("yes/a_nohash_0.wav\r\nno\\b_nohash_1.wav\n\n./up/c.wav.wav\n")
    assert read_list(tmp_path / "l.txt") == {"yes/a_nohash_0", "no/b_nohash_1", "up/c"}
    assert without_suffix("yes\\a_nohash_0.FLAC") == "yes/a_nohash_0"


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_lists_decide_the_splits_where_there_are_any(tmp_path, suffix):
    found = scan(corpus(tmp_path, suffix=suffix))
    assert list(found.split.values()).count("validation") == 12
    assert list(found.split.values()).count("test") == 24
    assert found.split[f"yes/00000000_nohash_0{suffix}"] == "validation"


def test_kaggle12_takes_all_unknown_words_and_a_tenth_of_zeros(tmp_path):
    task = make(corpus(tmp_path))
    assert task.labels == ["unknown", "silence", "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
    assert task.counts()["train"] == [6, 3] + [3] * 10
    assert task.counts()["validation"] == [2, 1] + [1] * 10
    assert task.counts()["test"] == [4, 2] + [2] * 10
    for batch in BankLoader(task.split("train"), 64).epoch(0):
        np.testing.assert_array_equal(batch.silence, batch.target == 1)
        assert not batch.wave[batch.silence].any()
        assert batch.wave[~batch.silence].any(dim=1).all()


def test_official12_draws_unknown_and_silence_of_noise(tmp_path):
    root = with_noise(corpus(tmp_path / "sc"))
    task = make(root, protocol="official12")
    assert task.labels == [
        "_silence_",
        "_unknown_",
        "yes",
        "no",
        "up",
        "down",
        "left",
        "right",
        "on",
        "off",
        "stop",
        "go",
    ]
    assert task.counts() == {"train": [3, 3] + [3] * 10, "validation": [1, 1] + [1] * 10, "test": [2, 2] + [2] * 10}
    for split in ("train", "validation", "test"):
        (batch,) = BankLoader(task.split(split), 64).epoch(0)
        assert batch.wave[batch.silence].any(dim=1).all()
        gains = task.split(split).noise_gain[task.split(split).silence]
        assert ((gains >= 0) & (gains <= 1)).all()
    assert len(task.noise) == 2
    again = make(root, protocol="official12", out=tmp_path / "again")
    assert again.bank.keys == task.bank.keys
    other = make(root, protocol="official12", out=tmp_path / "other", seed=1)
    assert other.split("train").noise_offset.tolist() != task.split("train").noise_offset.tolist()


def test_official12_takes_the_official_test_archive_where_it_is(tmp_path):
    root = with_noise(corpus(tmp_path))
    folder = root / "speech_commands_test_set_v0.02"
    for i, label in enumerate(("_silence_", "_silence_", "_unknown_", "yes", "go")):
        wav(folder / label / f"{i}.wav.wav", i, 16000)
    task = make(root, protocol="official12")
    assert task.counts()["test"] == [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    (batch,) = BankLoader(task.split("test"), 64).epoch(0)
    assert batch.silence.tolist() == (batch.target == 0).tolist()
    assert batch.wave.any(dim=1).all()


def test_all_takes_every_word_in_alphabetic_order(tmp_path):
    task = make(corpus(tmp_path, ("zoo", "ant", "Bee")), protocol="all")
    assert task.labels == ["Bee", "ant", "zoo"]
    assert task.counts()["train"] == [3, 3, 3]


def test_any_set_of_words_works_while_two_classes_remain(tmp_path):
    task = make(corpus(tmp_path / "a", ("yes", "go", "cat"), each=9))
    assert task.labels == ["unknown", "silence", "yes", "go"]
    assert any("no, up, down" in note for note in task.metadata["notes"])
    few = make(corpus(tmp_path / "b", ("yes", "no")))  # six training clips: a tenth is no silence
    assert few.labels == ["yes", "no"]
    assert any("unknown, silence" in note for note in few.metadata["notes"])
    with pytest.raises(PrepareError, match="--protocol all"):
        make(corpus(tmp_path / "c", ("cat", "dog")))
    with pytest.raises(PrepareError, match="only the class 'cat'"):
        make(corpus(tmp_path / "d", ("cat",)), protocol="all")


def test_a_folder_without_lists_is_split_by_speaker(tmp_path):
    for i in range(60):
        for word in ("yes", "no"):
            wav(tmp_path / word / f"{i:08x}_nohash_{i % 2}.wav", i, 500)
    task = make(tmp_path)
    speakers = {
        s: {k.split("/")[1][:8] for k, p in zip(task.bank.keys, task.bank.splits, strict=True) if p == s}
        for s in ("train", "validation", "test")
    }
    assert not speakers["train"] & speakers["test"]
    assert not speakers["train"] & speakers["validation"]
    assert all(speakers.values())


def test_a_missing_or_empty_folder_is_one_line_that_says_what_to_do(tmp_path):
    with pytest.raises(PrepareError, match=r"no such folder.*--version"):
        make(tmp_path / "nowhere")
    with pytest.raises(PrepareError, match="one folder per word"):
        make(tmp_path)


def test_a_prepared_task_is_taken_up_and_another_is_refused_or_replaced(tmp_path):
    root = corpus(tmp_path)
    task = make(root, out=tmp_path / "out")
    assert make(root, out=tmp_path / "out").counts() == task.counts()
    with pytest.raises(BankError, match=r"protocol kaggle12.*--overwrite"):
        make(root, out=tmp_path / "out", protocol="all")
    wav(root / "yes" / "new_nohash_0.wav", 5)
    with pytest.raises(BankError, match="--overwrite"):
        make(root, out=tmp_path / "out")
    assert len(make(root, out=tmp_path / "out", overwrite=True).bank) == len(task.bank) + 1


def test_files_that_cannot_be_read_stop_or_are_left_out(tmp_path):
    root = corpus(tmp_path)
    (root / "yes" / "00000004_nohash_0.wav").write_bytes(b"")
    with pytest.raises(BankError, match=r"yes/00000004_nohash_0.wav: is empty.*--skip_bad"):
        make(root)
    task = make(root, skip_bad=True)
    assert task.counts()["train"][2] == 2
    assert task.metadata["skipped"] == [["yes/00000004_nohash_0.wav", "is empty (0 bytes)"]]


def test_a_root_that_cannot_be_written_asks_for_out(tmp_path):
    root = corpus(tmp_path)
    (root / "prepared").write_text("a file in the way")
    with pytest.raises(PrepareError, match="--out"):
        make(root)
    assert len(make(root, out=tmp_path / "elsewhere").labels) == 12


def tarred(folder: Path, path: Path) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            data = file.read_bytes()
            member = tarfile.TarInfo(f"./{file.relative_to(folder).as_posix()}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_a_version_is_downloaded_unpacked_and_prepared_with_its_test_set(tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    tarred(with_noise(corpus(tmp_path / "words")), served / "speech_commands_v0.02.tar.gz")
    wav(tmp_path / "test" / "yes" / "a.wav", 0)
    wav(tmp_path / "test" / "_unknown_" / "b.wav", 1)
    tarred(tmp_path / "test", served / "speech_commands_test_set_v0.02.tar.gz")
    for table in (speech_commands.CORPUS, speech_commands.TEST_SET):
        name = table["0.02"].name
        digest = hashlib.sha256((served / f"{name}.tar.gz").read_bytes()).hexdigest()
        monkeypatch.setitem(table, "0.02", speech_commands.Archive(name, digest))
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(served)]
    with subprocess.Popen(
        [*command[:1], "-u", *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            address = server.stdout.readline().decode().split("(")[1].split(")")[0]
            task = make(tmp_path / "sc", version="0.02", protocol="official12", mirrors=[address])
        finally:
            server.kill()
    assert task.counts()["test"] == [0, 1, 1] + [0] * 9
    assert sum(task.counts()["train"]) == 36
    # No server now: what was fetched is enough, with and without the version.
    assert make(tmp_path / "sc", version="0.02").counts()["train"][2] == 3
    assert make(tmp_path / "sc", protocol="all").labels == sorted([*COMMANDS, "cat", "bed"])


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "data_prep.speech_commands", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_the_command_prints_the_counts_and_mistakes_in_one_line(tmp_path):
    done = call("--root", str(corpus(tmp_path / "sc")), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert rows["unknown"].split() == ["6", "2", "4"]
    assert rows["all"].split() == ["39", "13", "26"]
    wrong = call("--root", str(tmp_path / "nowhere"))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("error: ")
    offline = call("--root", str(tmp_path / "new"), "--version", "0.02", "--mirror", "http://127.0.0.1:9")
    assert (offline.returncode, offline.stderr.count("\n")) == (2, 1)
    assert "is there a network" in offline.stderr
    assert "official12" in call("--help").stdout


def test_the_real_clips_give_the_counts_of_their_lists(real_data, tmp_path):
    task = prepare(real_data / "speech_commands", out=tmp_path, progress=False)
    counts = task.counts()
    assert {split: sum(column) for split, column in counts.items()} == {"train": 3588, "validation": 664, "test": 1008}
    assert counts["test"][:4] == [211, 91, 68, 70]
    assert len(task.noise) == 6


@pytest.mark.parametrize(
    "wrong", [["--protocol", "kaggle"], ["--rot", "x"], ["--seconds", "many"], ["--seconds", "0"], ["--version", "3"]]
)
def test_a_mistake_in_an_option_is_one_line(tmp_path, wrong, capsys):
    with pytest.raises(SystemExit) as left:
        run(speech_commands.main, ["--root", str(corpus(tmp_path, ("yes", "no"))), *wrong])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
