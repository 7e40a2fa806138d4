"""A prepared task: taken up when it is the one asked for, else refused or replaced, never silently another."""

import json

import numpy as np
import pytest
import soundfile

from data_prep.command import PrepareError
from randommix_audio.data import BankError, BankLoader, Task, bank

from .words import corpus, make, wav, with_noise


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


def test_a_file_repaired_at_the_same_size_leaves_no_entry_with_another_label(tmp_path):
    root = corpus(tmp_path)
    bad = root / "no" / "00000001_nohash_0.wav"
    content = bad.read_bytes()
    bad.write_bytes(b"\0" * len(content))
    lacking = make(root, skip_bad=True)
    bad.write_bytes(content)
    task = make(root)
    assert task.bank.digest != lacking.bank.digest
    assert sum(len(rows) for rows in task.entries.values()) == sum(len(rows) for rows in lacking.entries.values()) + 1
    assert task.metadata["skipped"] == []
    for split, rows in task.entries.items():
        for clip, target in zip(rows.clip.tolist(), rows.target.tolist(), strict=True):
            if clip >= 0:
                assert (task.bank.labels[clip], task.bank.splits[clip]) == (task.labels[target], split)


def test_a_call_that_fails_leaves_the_task_that_was_there(tmp_path):
    root = with_noise(corpus(tmp_path))
    (root / "yes" / "00000004_nohash_0.wav").write_bytes(b"\0" * 99)
    before = make(root, skip_bad=True)
    for mistake in ({}, {"overwrite": True, "pad": "both"}):
        with pytest.raises(BankError, match="--skip_bad"):
            make(root, **mistake)
    (root / "_background_noise_" / "tap.wav").write_bytes(b"")
    with pytest.raises(PrepareError):
        make(root, overwrite=True)
    after = Task.open(root / "prepared" / "kaggle12")
    assert (after.bank.digest, after.metadata) == (before.bank.digest, before.metadata)


def test_the_settings_say_how_clips_were_made_as_long_as_each_other(tmp_path):
    root = corpus(tmp_path)
    settings = make(root, pad="both", seconds=0.75).metadata["settings"]
    assert (settings["pad"], settings["seconds"]) == ("both", 0.75)
    with pytest.raises(BankError, match=r"holds another task \(seconds 0.75, pad both\).*--overwrite"):
        make(root)


def test_a_task_of_an_earlier_format_is_refused_in_one_line_until_told_to_replace_it(tmp_path):
    root = corpus(tmp_path)
    out = make(root).bank.folder.parent
    for path in (out / "task.json", out / "bank" / "bank.json"):
        stored = {key: value for key, value in json.loads(path.read_text()).items() if key != "digest"}
        path.write_text(json.dumps(stored | {"format": 1}))
    with pytest.raises(BankError, match=r"kaggle12: holds a task in another format; pass --overwrite true") as caught:
        make(root)
    assert "\n" not in str(caught.value)
    assert len(make(root, overwrite=True).labels) == 12


@pytest.mark.parametrize("protocol", ["all", "official12"])
def test_noise_that_cannot_be_read_stops_before_the_clips_are_decoded_or_is_left_out(tmp_path, monkeypatch, protocol):
    root = with_noise(corpus(tmp_path))
    (root / "_background_noise_" / "tap.wav").write_bytes(b"\0" * 99)
    with monkeypatch.context() as patch:
        patch.setattr(bank, "read", lambda *_, **__: pytest.fail("decoded a clip"))
        with pytest.raises(PrepareError, match=r"tap\.wav: .*--skip_bad true"):
            make(root, protocol=protocol)
    task = make(root, protocol=protocol, skip_bad=True)
    assert task.noise.names == ["hum"]
    assert [key for key, _ in task.metadata["skipped"]] == ["_background_noise_/tap.wav"]
    wav(root / "_background_noise_" / "tap.wav", 1, 40_000)
    with pytest.raises(BankError, match="--overwrite"):
        make(root, protocol=protocol)
    assert make(root, protocol=protocol, overwrite=True).noise.names == ["hum", "tap"]


def test_noise_shorter_than_a_clip_is_repeated_and_said(tmp_path):
    root = corpus(tmp_path)
    short = soundfile.read(wav(root / "_background_noise_" / "tap.wav", 1, 7000), dtype="int16")[0]
    task = make(root, protocol="official12")
    np.testing.assert_array_equal(task.noise[0], np.concatenate([short, short, short[:2000]]))
    assert any("shorter than a clip, repeated: tap.wav" in note for note in task.metadata["notes"])
    (batch,) = BankLoader(task.split("test"), 64).epoch(0)
    assert batch.wave[batch.silence].any(dim=1).all()


def test_a_root_that_cannot_be_written_asks_for_out(tmp_path):
    root = corpus(tmp_path)
    (root / "prepared").write_text("a file in the way")
    with pytest.raises(PrepareError, match="--out"):
        make(root)
    assert len(make(root, out=tmp_path / "elsewhere").labels) == 12
