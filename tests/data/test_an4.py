"""AN4 from a table, from the official archive, and what is said of a corpus that is not right."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import an4
from data_prep.an4 import prepare, read_utterances, table, validation_speakers
from data_prep.command import PrepareError, run
from data_prep.download import DownloadError
from randommix_audio.data import BankError, WaveBank, read

from .words import tarred


def wave(path: Path, seed: int, samples: int = 4000, rate: int = 16000, **options: str) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples_there = np.random.default_rng(seed).integers(-5000, 5000, samples).astype(np.int16)
    soundfile.write(path, samples_there, rate, **options)
    return samples_there


def folder(root: Path, lines: list[str]) -> Path:
    """Recordings a.wav to d.flac of four speakers, and a table."""
    for i, name in enumerate(("a.wav", "b.flac", "c.wav", "d.flac")):
        wave(root / "wav" / name, i, 4000 + 100 * i)
    (root / "transcripts.tsv").write_text("\n".join(["split\tpath\tspeaker\ttext", *lines]) + "\n")
    return root


LINES = [
    "train\twav/a.wav\tann\tyes",
    "train\twav/b.flac\tbob\t  enter  SIX nine ",
    "train\twav/c.wav\tcid\tX Y",
    "test\twav/d.flac\tdan\tO'NEIL",
]


def archive(root: Path) -> Path:
    """The official archive, made small: an4/etc, an4/wav in NIST SPHERE."""
    said = {"train": [("YES", "cen1", "fash"), ("GO TWO", "an2", "mblw")], "test": [("NO", "cen3", "fvap")]}
    for number, (split, utterances) in enumerate(said.items()):
        lines = []
        for i, (text, what, speaker) in enumerate(utterances):
            name = f"{what}-{speaker}-b"
            part = {"train": "an4_clstk", "test": "an4test_clstk"}[split]
            wave(root / "an4" / "wav" / part / speaker / f"{name}.sph", 10 * number + i, format="NIST")
            lines.append(f"<s> {text} </s> ({name})\n")
        etc = root / "an4" / "etc"
        etc.mkdir(exist_ok=True)
        (etc / f"an4_{split}.transcription").write_text("".join(lines))
    return root


def test_the_bank_has_texts_speakers_and_the_very_samples_of_every_recording(tmp_path):
    bank = prepare(folder(tmp_path, LINES), progress=False)
    assert bank.labels == ["YES", "ENTER SIX NINE", "X Y", "O'NEIL"]
    assert bank.metadata["speakers"]["wav/b.flac"] == "bob"
    assert bank.lengths.tolist() == [4000, 4100, 4200, 4300]
    for i, key in enumerate(bank.keys):
        samples, _ = read(tmp_path / key, dtype="int16")
        np.testing.assert_array_equal(bank.clips[i, : bank.lengths[i]], samples)
        assert not bank.clips[i, bank.lengths[i] :].any()


def test_validation_speakers_come_from_the_training_set_alone_and_do_not_depend_on_the_order():
    names = [f"s{i}" for i in range(74)]
    chosen = validation_speakers(names)
    assert len(chosen) == 4  # 5 % of 74, rounded
    assert validation_speakers([*names[::-1], "s3", "s3"]) == chosen
    assert len(validation_speakers(["a", "b"])) == 1
    assert validation_speakers(["a", "a"]) == set()


def test_a_speaker_is_set_apart_for_validation_unless_the_table_does_so(tmp_path):
    found = read_utterances(folder(tmp_path / "a", LINES))
    (apart,) = {u.speaker for u in found if u.split == "validation"}
    assert apart in ("ann", "bob", "cid")
    named = [LINES[0], LINES[1].replace("train", "validation"), *LINES[2:]]
    found = read_utterances(folder(tmp_path / "b", named))
    assert [u.split for u in found] == ["train", "validation", "train", "test"]


def test_the_archive_is_downloaded_unpacked_and_read_from_sphere_files(tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    tarred(archive(tmp_path / "made"), served / "an4_sphere.tar.gz")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(served)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            address = server.stdout.readline().decode().split("(")[1].split(")")[0]
            nothing = f"{address.rstrip('/')}/nothing"
            bank = prepare(tmp_path / "an4", mirrors=[nothing, address], progress=False)  # the first has it not
        finally:
            server.kill()
    assert sorted(bank.labels) == ["GO TWO", "NO", "YES"]
    assert bank.splits[bank.labels.index("NO")] == "test"
    assert set(bank.metadata["speakers"].values()) == {"fash", "mblw", "fvap"}
    wanted, _ = read(tmp_path / "made" / "an4" / "wav" / "an4test_clstk" / "fvap" / "cen3-fvap-b.sph", dtype="int16")
    np.testing.assert_array_equal(bank.clips[bank.labels.index("NO"), :4000], wanted)
    # No server now: what was fetched is enough, and the unpacked folder is as good as the one above it.
    assert prepare(tmp_path / "an4", progress=False).digest == bank.digest
    inside = prepare(tmp_path / "an4" / "an4_sphere", tmp_path / "other", progress=False)
    assert sorted(inside.labels) == sorted(bank.labels)


def test_an_archive_that_is_no_archive_is_one_line_and_leaves_nothing_unpacked(tmp_path):
    (tmp_path / "an4").mkdir()
    (tmp_path / "an4" / "an4_sphere.tar.gz").write_bytes(b"<html>moved</html>")
    with pytest.raises(DownloadError, match=r"an4_sphere.tar.gz: damaged archive .*; delete it and try again"):
        prepare(tmp_path / "an4", progress=False)
    assert not (tmp_path / "an4" / "an4_sphere").exists()


def test_an_archive_without_transcripts_is_named(tmp_path):
    wave(tmp_path / "made" / "an4" / "wav" / "a.sph", 0, format="NIST")
    (tmp_path / "an4").mkdir()
    tarred(tmp_path / "made", tmp_path / "an4" / "an4_sphere.tar.gz")
    with pytest.raises(PrepareError, match=r"an4: holds neither transcripts.tsv nor etc/an4_train.transcription and"):
        prepare(tmp_path / "an4", progress=False)


def test_a_folder_of_other_things_is_left_alone_and_nothing_is_downloaded_into_it(tmp_path):
    (tmp_path / "letters.txt").write_text("mine")
    with pytest.raises(PrepareError, match="holds neither"):
        prepare(tmp_path, mirrors=["http://127.0.0.1:1"], progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


@pytest.mark.parametrize(
    "lines, message",
    [
        (["dev\twav/a.wav\tann\tYES"], r"transcripts.tsv, line 2: the split must be one of train, .*, not 'dev'"),
        (["train\t../a.wav\tann\tYES"], r"line 2: the path must lead to a file below"),
        (["train\t/etc/a.wav\tann\tYES"], r"line 2: the path must lead to a file below"),
        (["train\twav/a.wav\tann\t  "], r"line 2: wav/a.wav has no text"),
        (["train\twav/a.wav\tann"], r"line 2: wav/a.wav has no text"),
        (["train\twav/a.wav\t\tYES"], r"line 2: wav/a.wav has no speaker"),
        ([LINES[0], LINES[0]], r"wav/a.wav has more than one transcript"),
        ([LINES[3]], r"has no training utterances"),
        ([], r"has no training utterances"),
    ],
)
def test_a_wrong_line_of_the_table_is_named(tmp_path, lines, message):
    with pytest.raises(PrepareError, match=message):
        prepare(folder(tmp_path, lines), progress=False)


def test_a_table_without_its_columns_or_not_of_text_is_named(tmp_path):
    root = folder(tmp_path, LINES)
    (root / "transcripts.tsv").write_text("split,path,speaker,text\n")
    with pytest.raises(PrepareError, match="its first line names no column split"):
        prepare(root, progress=False)
    (root / "transcripts.tsv").write_bytes(b"split\tpath\tspeaker\ttext\n\xff\xfe")
    with pytest.raises(PrepareError, match="not a table of text in UTF-8"):
        prepare(root, progress=False)


@pytest.mark.parametrize(
    "line, message",
    [
        ("YES", r"an4_train.transcription, line 1: must be `<s> TEXT </s> \(name\)`, not 'YES'"),
        ("<s> YES </s> (an9-nobody-b)", r"line 1: there is no recording an9-nobody-b below"),
    ],
)
def test_a_wrong_line_of_the_official_lists_is_named(tmp_path, line, message):
    root = archive(tmp_path)
    (root / "an4" / "etc" / "an4_train.transcription").write_text(line + "\n")
    with pytest.raises(PrepareError, match=message):
        prepare(root, progress=False)


def test_a_recording_that_cannot_be_read_is_named_and_can_be_left_out(tmp_path):
    root = folder(tmp_path, LINES)
    (root / "wav" / "b.flac").write_bytes(b"no audio")
    with pytest.raises(BankError, match=r"b.flac: cannot be read .*skip_bad"):
        prepare(root, progress=False)
    bank = prepare(root, skip_bad=True, progress=False)
    assert [key for key, _ in bank.skipped] == ["wav/b.flac"]
    assert len(bank) == 3


def test_another_transcript_makes_another_bank_which_replaces_the_old_one_only_when_told(tmp_path):
    root = folder(tmp_path, LINES)
    before = prepare(root, progress=False).digest
    folder(root, [LINES[0].replace("yes", "no"), *LINES[1:]])
    with pytest.raises(BankError, match=r"holds a bank of other clips or settings.*--overwrite true"):
        prepare(root, progress=False)
    assert WaveBank.open(root / "prepared").digest == before
    assert prepare(root, overwrite=True, progress=False).labels[0] == "NO"


def test_a_place_that_cannot_be_written_to_is_named_with_the_way_out(tmp_path):
    root = folder(tmp_path, LINES)
    (root / "prepared").write_text("a file")
    with pytest.raises(PrepareError, match=r"prepared: cannot be made .*pass --out"):
        prepare(root, progress=False)


def test_other_sample_rates_are_resampled(tmp_path):
    root = folder(tmp_path, LINES)
    wave(root / "wav" / "a.wav", 0, samples=4000, rate=8000)
    assert prepare(root, progress=False).lengths[0] == 8000


def test_the_command_prints_the_splits_and_tells_mistakes_in_one_line(tmp_path, capsys):
    root = folder(tmp_path, LINES)
    run(an4.main, [f"--root={root}", f"--out={tmp_path / 'out'}"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["split", "utterances", "speakers", "words", "minutes"]
    assert said[3].split() == ["test", "1", "1", "1", "0.0"]
    assert said[-1] == f"prepared: {tmp_path / 'out'}"
    (root / "transcripts.tsv").write_text("nothing\n")
    with pytest.raises(SystemExit) as left:
        run(an4.main, [f"--root={root}"])
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_real_corpus_has_its_948_and_130_utterances(real_data, tmp_path):
    if not (real_data / "an4").is_dir():
        pytest.skip("real data: no an4 in it")
    found = read_utterances(real_data / "an4")
    counts = {split: sum(u.split == split for u in found) for split in ("train", "validation", "test")}
    assert counts["train"] + counts["validation"] == 948
    assert counts["test"] == 130
    speakers = {split: {u.speaker for u in found if u.split == split} for split in counts}
    assert not (speakers["train"] & speakers["validation"]) | (speakers["train"] & speakers["test"])
    assert len(speakers["validation"]) == 4
    spheres = sorted((real_data / "an4" / "sphere").glob("*.sph"))
    for sphere in spheres:  # the same recordings in both forms
        twin = next(u.path for u in found if Path(u.path).stem == sphere.stem)
        np.testing.assert_array_equal(read(sphere, dtype="int16")[0], read(real_data / "an4" / twin, dtype="int16")[0])
    assert spheres


def test_the_table_counts_words_and_speakers_of_each_split(tmp_path):
    said = table(prepare(folder(tmp_path, LINES), progress=False)).splitlines()
    assert [line.split()[0] for line in said] == ["split", "train", "validation", "test"]
    assert sum(int(line.split()[1]) for line in said[1:]) == 4
    assert sum(int(line.split()[3]) for line in said[1:]) == 1 + 3 + 2 + 1
