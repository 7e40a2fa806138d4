"""Speech Commands: splits, protocols, and the command line, on small corpora made on the spot."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import demo_speech, download, speech_commands
from data_prep.command import PrepareError, run
from data_prep.protocols import COMMANDS
from data_prep.speech_commands import prepare
from data_prep.word_folders import read_list, scan, which_set, without_suffix
from randommix_audio.data import BankLoader

from .words import corpus, make, tarred, wav, with_noise

REPOSITORY = Path(__file__).parents[2]


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
    (tmp_path / "l.txt").write_text("yes/a_nohash_0.wav\n", encoding="utf-8-sig")
    assert read_list(tmp_path / "l.txt") == {"yes/a_nohash_0"}


def test_a_list_that_would_name_other_clips_than_it_means_is_refused(tmp_path):
    root = corpus(tmp_path)
    (root / "testing_list.txt").write_text(
        "yes/00000001_nohash_0.wav\ngrün/00000001_nohash_0.wav\n", encoding="latin-1"
    )
    with pytest.raises(PrepareError, match=r"testing_list.txt: is not UTF-8"):
        make(root)


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


def test_official12_says_when_its_test_is_not_the_official_one(tmp_path):
    root = with_noise(corpus(tmp_path))
    assert any(
        "no official test set" in note for note in make(root, protocol="official12", version="0.02").metadata["notes"]
    )
    wav(root / "speech_commands_test_set_v0.02" / "yes" / "a.wav", 1)
    notes = make(root, out=tmp_path / "o", protocol="official12", version="0.02").metadata["notes"]
    assert not any("no official test set" in note for note in notes)


def test_two_that_unpack_at_once_do_not_throw_away_each_others_files(tmp_path, monkeypatch):
    served = tmp_path / "served.tar.gz"
    tarred(corpus(tmp_path / "words"), served)
    wanted = sum(path.is_file() for path in (tmp_path / "words").rglob("*"))
    root = tmp_path / "sc"
    monkeypatch.setattr(speech_commands, "fetch", lambda *_: served)
    real, refused = download._unpack, []

    def second(*args):
        if not refused:
            with pytest.raises(BlockingIOError, match="another process") as caught:
                speech_commands.download(speech_commands.CORPUS["0.02"], root, progress=False)
            refused.append(caught)
        real(*args)

    monkeypatch.setattr(download, "_unpack", second)
    folder = speech_commands.download(speech_commands.CORPUS["0.02"], root, progress=False)
    assert sum(path.is_file() for path in folder.rglob("*")) == wanted
    assert refused


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
    told = call("--help").stdout
    assert "official12" in told
    assert told.startswith("usage: python -m data_prep.speech_commands ")


def test_the_real_clips_give_the_counts_of_their_lists(real_data, tmp_path):
    task = prepare(real_data / "speech_commands", out=tmp_path, progress=False)
    counts = task.counts()
    assert {split: sum(column) for split, column in counts.items()} == {"train": 3588, "validation": 664, "test": 1008}
    assert counts["test"][:4] == [211, 91, 68, 70]
    assert len(task.noise) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        *(["--protocol", "kaggle"], ["--rot", "x"], ["--seconds", "many"], ["--seconds", "0"], ["--version", "3"]),
        *(["--seconds", "nan"], ["--protocol", "official12", "--seed", "-1"], ["--seed", str(2**63)]),
    ],
)
def test_a_mistake_in_an_option_is_one_line(tmp_path, wrong, capsys):
    with pytest.raises(SystemExit) as left:
        run(speech_commands.main, ["--root", str(corpus(tmp_path, ("yes", "no"))), *wrong])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1


def test_an_error_that_only_says_what_is_wrong_with_a_value_is_one_line_too(capsys, monkeypatch):
    def odd(size: int = 3) -> None:
        raise ValueError(f"size must be even,\nnot {size}")

    with pytest.raises(SystemExit) as left:
        run(odd, [])
    assert (left.value.code, capsys.readouterr().err) == (2, "error: size must be even, not 3\n")
    monkeypatch.setenv("RANDOMMIX_TRACEBACK", "1")
    with pytest.raises(ValueError, match="even"):
        run(odd, [])


def test_the_other_command_is_called_by_its_name_too(capsys):
    with pytest.raises(SystemExit):
        run(demo_speech.main, ["--help"])
    assert capsys.readouterr().out.startswith("usage: python -m data_prep.demo_speech ")
