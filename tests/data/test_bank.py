"""The bank: decoded once, whole or absent, never silently another one."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from randommix_audio.data import BankError, Clip, WaveBank, bank, fit

RATE = 16000


def corpus(folder: Path, count: int = 7, rate: int = RATE) -> list[Clip]:
    """Clips of different lengths, some longer and some shorter than a tenth of a second."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for i in range(count):
        wave = np.random.default_rng(i).integers(-9000, 9000, 800 + 300 * (i % 7)).astype(np.int16)
        path = folder / f"{i}.wav"
        soundfile.write(path, wave, rate)
        clips.append(Clip(path, "ab"[i % 2], "train" if i % 3 else "test", f"w/{i}.wav"))
    return clips


def build(folder: Path, clips: list[Clip], **kwargs: object) -> WaveBank:
    return WaveBank.build(folder, clips, seconds=0.1, progress=False, **kwargs)


def test_rows_hold_the_samples_padded_or_cut_at_the_end(tmp_path):
    clips = corpus(tmp_path / "in")
    made = build(tmp_path / "bank", clips, metadata={"note": "x"})
    assert made.clips.shape == (7, 1600)
    assert made.lengths.tolist() == [800, 1100, 1400, 1600, 1600, 1600, 1600]
    for i, clip in enumerate(clips):
        wave, _ = soundfile.read(clip.path, dtype="int16")
        np.testing.assert_array_equal(made.clips[i], fit(wave, 1600))
        np.testing.assert_array_equal(made.clips[i][: made.lengths[i]], wave[:1600])
    assert (made.keys[2], made.labels[2], made.splits[2]) == ("w/2.wav", "a", "train")
    assert made.metadata == {"note": "x"}
    np.testing.assert_array_equal(WaveBank.open(tmp_path / "bank").clips, made.clips)


def test_fit_pads_or_cuts_both_ends_alike_when_asked():
    wave = np.arange(1, 6, dtype=np.int16)
    assert fit(wave, 8, "both").tolist() == [0, 1, 2, 3, 4, 5, 0, 0]
    assert fit(wave, 2, "both").tolist() == [2, 3]
    assert fit(wave, 8).tolist() == [1, 2, 3, 4, 5, 0, 0, 0]


def test_clips_of_another_rate_are_resampled_and_long_ones_need_not_be_decoded_whole(tmp_path):
    made = build(tmp_path / "bank", corpus(tmp_path / "in", 3, rate=8000))
    assert made.lengths.tolist() == [1600, 1600, 1600]
    soundfile.write(tmp_path / "long.flac", np.zeros(30 * RATE, dtype=np.int16), RATE)
    assert build(tmp_path / "b2", [Clip(tmp_path / "long.flac", "a", "train", "long")]).lengths.tolist() == [1600]


def test_a_finished_bank_is_not_decoded_again(tmp_path, monkeypatch):
    clips = corpus(tmp_path / "in")
    build(tmp_path / "bank", clips)
    monkeypatch.setattr(bank, "read", lambda *_, **__: pytest.fail("decoded again"))
    assert len(build(tmp_path / "bank", clips)) == 7


def test_a_bank_of_other_clips_or_settings_is_refused_or_rebuilt_but_never_reused(tmp_path):
    clips = corpus(tmp_path / "in")
    build(tmp_path / "bank", clips)
    with pytest.raises(BankError, match="other clips or settings"):
        build(tmp_path / "bank", clips, pad="both")
    with pytest.raises(BankError, match="other clips or settings"):
        build(tmp_path / "bank", clips[:5])
    soundfile.write(clips[0].path, np.ones(555, dtype=np.int16), RATE)
    with pytest.raises(BankError, match="other clips or settings"):
        build(tmp_path / "bank", clips)
    assert build(tmp_path / "bank", clips, rebuild=True).lengths[0] == 555


def test_unreadable_files_are_counted_and_named_or_left_out_and_said(tmp_path):
    clips = corpus(tmp_path / "in")
    for i in (1, 4, 5, 6):
        Path(clips[i].path).write_bytes(b"no audio")
    with pytest.raises(BankError, match=r"4 files cannot be read: .*1\.wav: .*5\.wav: .*and 1 more"):
        build(tmp_path / "bank", clips)
    with pytest.raises(BankError, match="no bank"):
        WaveBank.open(tmp_path / "bank")
    made = build(tmp_path / "bank", clips, skip_bad=True)
    assert made.keys == ["w/0.wav", "w/2.wav", "w/3.wav"]
    assert [key for key, _ in made.skipped] == ["w/1.wav", "w/4.wav", "w/5.wav", "w/6.wav"]
    np.testing.assert_array_equal(made.clips[1][:1400], soundfile.read(clips[2].path, dtype="int16")[0])
    with pytest.raises(BankError, match="4 files cannot be read"):
        build(tmp_path / "bank", clips)


def test_a_bank_of_nothing_but_bad_files_and_twice_the_same_key_are_errors(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    bad = Clip(tmp_path / "bad.wav", "a", "train", "bad")
    with pytest.raises(BankError, match="none of 1 files"):
        build(tmp_path / "bank", [bad], skip_bad=True)
    with pytest.raises(BankError, match="more than once"):
        build(tmp_path / "bank", [bad, bad])
    with pytest.raises(BankError, match="no clips"):
        build(tmp_path / "bank", [])


def test_what_is_no_bank_or_half_of_one_does_not_open(tmp_path):
    clips = corpus(tmp_path / "in")
    build(tmp_path / "bank", clips)
    samples = tmp_path / "bank" / "clips.i16"
    samples.write_bytes(samples.read_bytes()[:-2])
    with pytest.raises(BankError, match="build the bank again"):
        WaveBank.open(tmp_path / "bank")
    assert len(build(tmp_path / "bank", clips)) == 7
    (tmp_path / "bank" / "bank.json").write_text("{")
    with pytest.raises(BankError, match="damaged"):
        WaveBank.open(tmp_path / "bank")
    with pytest.raises(BankError, match="no bank"):
        WaveBank.open(tmp_path / "nowhere")


def damaged(clip: Clip) -> bytes:
    """Fill a file with zeros at the same size, as a copy that broke off does; what was in it."""
    whole = Path(clip.path).read_bytes()
    Path(clip.path).write_bytes(b"\0" * len(whole))
    return whole


def test_a_repaired_file_of_the_same_size_goes_in_and_changes_the_digest(tmp_path):
    clips = corpus(tmp_path / "in")
    whole = build(tmp_path / "whole", clips)
    content = damaged(clips[1])
    lacking = build(tmp_path / "bank", clips, skip_bad=True)
    assert build(tmp_path / "bank", clips, skip_bad=True).digest == lacking.digest != whole.digest
    Path(clips[1].path).write_bytes(content)
    made = build(tmp_path / "bank", clips, skip_bad=True)
    assert (made.keys, made.skipped) == (whole.keys, [])
    assert made.digest == whole.digest
    assert made.fingerprint == lacking.fingerprint
    np.testing.assert_array_equal(made.clips, whole.clips)


def test_a_build_that_fails_leaves_the_bank_that_was_there(tmp_path, monkeypatch):
    clips = corpus(tmp_path / "in")
    damaged(clips[1])
    made = build(tmp_path / "bank", clips, skip_bad=True)
    rows = np.array(made.clips)
    read: list[str] = []
    real = bank.read
    monkeypatch.setattr(bank, "read", lambda path, *a, **k: read.append(Path(path).name) or real(path, *a, **k))
    with pytest.raises(BankError, match="1 file cannot be read"):
        build(tmp_path / "bank", clips)
    assert read == ["1.wav"]  # and not the corpus again
    with pytest.raises(BankError, match="1 file cannot be read"):
        build(tmp_path / "bank", clips, pad="both", rebuild=True)
    with monkeypatch.context() as patch:
        patch.setattr(bank.json, "dump", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            build(tmp_path / "bank", clips, pad="both", rebuild=True, skip_bad=True)
    assert WaveBank.open(tmp_path / "bank").digest == made.digest
    np.testing.assert_array_equal(WaveBank.open(tmp_path / "bank").clips, rows)


def test_a_bank_of_an_earlier_format_is_refused_or_rebuilt_in_one_line(tmp_path):
    clips = corpus(tmp_path / "in")
    build(tmp_path / "bank", clips)
    path = tmp_path / "bank" / "bank.json"
    earlier = {k: v for k, v in json.loads(path.read_text()).items() if k != "digest"} | {"format": 1}
    path.write_text(json.dumps(earlier))
    for refused in (lambda: WaveBank.open(tmp_path / "bank"), lambda: build(tmp_path / "bank", clips)):
        with pytest.raises(BankError, match="another format; rebuild it") as caught:
            refused()
        assert "\n" not in str(caught.value)
    assert json.loads(path.read_text()) == earlier
    assert len(build(tmp_path / "bank", clips, rebuild=True)) == 7


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "null", '"bank"', "{}", '{"format": 2}', "\0\0\0\0", "[" * 100_000),
        {"lengths": 3},
        {"lengths": [1e99]},
        {"keys": ["w/0.wav"]},
        {"labels": 7},
        {"samples": "many"},
        {"digest": "0"},
        {"more": 1},
    ],
)
def test_a_damaged_bank_json_is_one_line_that_names_it_and_is_made_again(tmp_path, content):
    clips = corpus(tmp_path / "in", 2)
    build(tmp_path / "bank", clips)
    path = tmp_path / "bank" / "bank.json"
    path.write_text(content if isinstance(content, str) else json.dumps(json.loads(path.read_text()) | content))
    with pytest.raises(BankError, match=r"bank\.json: damaged \(.+\); make the bank again") as caught:
        WaveBank.open(tmp_path / "bank")
    assert "\n" not in str(caught.value)
    assert len(build(tmp_path / "bank", clips)) == 2


@pytest.mark.parametrize("seconds", [0, -1, 1e-9, float("nan"), float("inf")])
def test_a_row_without_samples_is_refused(tmp_path, seconds):
    with pytest.raises(BankError, match="at least one sample"):
        WaveBank.build(tmp_path / "bank", corpus(tmp_path / "in", 1), seconds=seconds)


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_kill_between_the_samples_and_bank_json_loses_nothing(tmp_path, monkeypatch):
    clips = corpus(tmp_path / "in", 10)
    whole = build(tmp_path / "whole", clips)
    real = os.replace
    for _ in range(2):  # also when it happens again
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda a, b: killed() if Path(b).name == "bank.json" else real(a, b))
            with pytest.raises(KeyboardInterrupt):
                build(tmp_path / "bank", clips)
        assert (tmp_path / "bank" / "clips.i16").exists()
        monkeypatch.setattr(bank, "read", lambda *_, **__: pytest.fail("decoded again"))
    made = build(tmp_path / "bank", clips)
    assert made.keys == whole.keys
    np.testing.assert_array_equal(made.clips, whole.clips)


def test_a_kill_before_the_first_note_of_a_second_call_loses_nothing(tmp_path, monkeypatch):
    clips = corpus(tmp_path / "in", 10)
    monkeypatch.setattr(bank, "_CHUNK", 3)
    decoded: list[str] = []
    real = bank.read

    def stopped(path: Path, *args: object, **kwargs: object) -> object:
        decoded.append(path.stem)
        return killed() if decoded.count("7") == 1 and path.stem == "7" else real(path, *args, **kwargs)

    monkeypatch.setattr(bank, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "bank", clips, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(bank, "_lines", killed)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "bank", clips)
    decoded[:] = ["7"]
    assert build(tmp_path / "bank", clips).keys == [clip.key for clip in clips]
    assert sorted(decoded[1:]) == ["6", "7", "8", "9"]


def test_what_a_stopped_build_had_finished_is_not_decoded_again(tmp_path, monkeypatch):
    clips = corpus(tmp_path / "in", 10)
    whole = build(tmp_path / "whole", clips)
    monkeypatch.setattr(bank, "_CHUNK", 3)
    decoded: list[Path] = []
    real = bank.read

    def stopped(path, *args, **kwargs):
        decoded.append(path)
        if len(decoded) == 8:
            raise KeyboardInterrupt
        return real(path, *args, **kwargs)

    monkeypatch.setattr(bank, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "bank", clips, workers=1)
    with pytest.raises(BankError, match="no bank"):
        WaveBank.open(tmp_path / "bank")
    with open(tmp_path / "bank" / "clips.partial", "ab") as stream:
        stream.write(b"half a row")  # what a kill in the middle of a write leaves
    with open(tmp_path / "bank" / "progress", "a") as stream:
        stream.write("[16")
    decoded[:] = []
    made = build(tmp_path / "bank", clips)
    assert set(decoded) == {clip.path for clip in clips[6:]}
    np.testing.assert_array_equal(made.clips, whole.clips)


def test_progress_that_says_more_than_the_samples_hold_is_not_believed(tmp_path, monkeypatch):
    clips = corpus(tmp_path / "in", 6)
    whole = build(tmp_path / "whole", clips)
    folder = tmp_path / "bank"
    folder.mkdir()
    lines = [json.dumps(whole.fingerprint)] + [json.dumps([1600, ""])] * 5
    (folder / "progress").write_text("\n".join(lines) + "\n")
    (folder / "clips.partial").write_bytes(whole.clips[:2].tobytes() + b"xyz")
    made = build(folder, clips)
    np.testing.assert_array_equal(made.clips, whole.clips)


KILLED = """
import sys, time
from pathlib import Path
from randommix_audio.data import bank, Clip, WaveBank
bank._CHUNK = 4
real = bank.read
def slow(*args, **kwargs):
    time.sleep(0.01)
    return real(*args, **kwargs)
bank.read = slow
clips = [Clip(p, "a", "train", p.name) for p in sorted(Path(sys.argv[1]).glob("*.wav"))]
WaveBank.build(sys.argv[2], clips, seconds=0.1, progress=False, workers=2)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on this system")
def test_a_build_killed_anywhere_goes_on_to_the_same_bank(tmp_path):
    corpus(tmp_path / "in", 60)
    clips = [Clip(p, "a", "train", p.name) for p in sorted((tmp_path / "in").glob("*.wav"))]
    whole = build(tmp_path / "whole", clips)
    folder = tmp_path / "bank"
    grown = []
    for wait in (3, 30):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "in"), str(folder)])
        notes = folder / "progress"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and child.poll() is None:
            if notes.exists() and len(notes.read_text().splitlines()) > wait:
                break
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.wait()
        grown.append(len(notes.read_text().splitlines()) if notes.exists() else 61)
        if not (folder / "bank.json").exists():
            with pytest.raises(BankError):
                WaveBank.open(folder)
    assert grown == sorted(grown)
    made = build(folder, clips)
    np.testing.assert_array_equal(made.clips, whole.clips)
    np.testing.assert_array_equal(made.lengths, whole.lengths)
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "bank.json", "clips.i16"]


def test_two_processes_do_not_build_in_one_folder(tmp_path, monkeypatch):
    clips = corpus(tmp_path / "in")
    real, refused = bank.read, []

    def second(path, *args, **kwargs):
        try:
            build(tmp_path / "bank", clips)
        except BlockingIOError as error:
            refused.append(str(error))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(bank, "read", second)
    assert len(build(tmp_path / "bank", clips)) == 7
    assert len(refused) == 7
    assert "another process" in refused[0]


def test_a_full_disk_is_one_line_that_names_the_folder(tmp_path, monkeypatch):
    def full(_stream):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bank, "_to_disk", full)
    with pytest.raises(BankError, match=r"bank: cannot be written \(No space left"):
        build(tmp_path / "bank", corpus(tmp_path / "in"))


def test_a_bank_travels_to_a_worker_as_a_path_and_not_as_its_samples(tmp_path):
    made = build(tmp_path / "bank", corpus(tmp_path / "in"))
    assert made.clips.shape == (7, 1600)
    sent = pickle.dumps(made)
    assert len(sent) < 4000
    np.testing.assert_array_equal(pickle.loads(sent).clips, made.clips)
