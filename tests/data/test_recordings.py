"""Lists of recordings: manifests, shards, and what is wrong with them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from randommix_audio.data import AudioError, Recording, read_manifest, read_shards


def ramp(samples: int, first: int = 1) -> np.ndarray:
    return (np.arange(samples) + first).astype(np.int16)


def tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def coded(wave: np.ndarray, kind: str = "FLAC", rate: int = 16000) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=kind, subtype="PCM_16")
    return stream.getvalue()


def test_a_segment_is_read_alone(tmp_path):
    soundfile.write(tmp_path / "a.flac", ramp(4000), 16000)
    wave = Recording(tmp_path / "a.flac", start=0.05, duration=0.1).wave(16000)
    assert wave.dtype == np.int16
    np.testing.assert_array_equal(wave, ramp(1600, first=801))
    assert len(Recording(tmp_path / "a.flac", start=0.05, duration=0.1).wave(16000, longest=0.01)) == 160
    assert len(Recording(tmp_path / "a.flac").wave(8000)) == 2000


@pytest.mark.parametrize("wrong", [{"start": -1.0}, {"duration": 0.0}, {"start": float("nan")}, {"start": 9.0}])
def test_a_segment_that_is_not_there_is_named_with_its_file(tmp_path, wrong):
    soundfile.write(tmp_path / "a.flac", ramp(4000), 16000)
    with pytest.raises(AudioError, match=r"a\.flac: (start|duration|holds)"):
        Recording(tmp_path / "a.flac", **wrong).wave(16000)


def test_a_manifest_names_files_beside_it_segments_and_targets(tmp_path):
    lines = [{"audio_filepath": "a.wav", "text": "yes", "duration": 0.5}, {"audio_filepath": "/b.wav", "offset": 2}]
    (tmp_path / "train.json").write_text("\n\n".join(map(json.dumps, lines)))
    first, second = read_manifest(tmp_path / "train.json")
    assert first == Recording(tmp_path / "a.wav", None, 0.0, 0.5)
    assert second == Recording(Path("/b.wav"), None, 2.0, None)
    with pytest.raises(ValueError, match=r"train\.json, line 3: lacks 'text'"):
        read_manifest(tmp_path / "train.json", target="text")
    (tmp_path / "train.json").write_text(json.dumps(lines[0]))
    assert read_manifest(tmp_path / "train.json", target="text")[0].target == "yes"


def test_a_manifest_has_lines_that_end_with_a_newline_alone_and_may_begin_with_a_byte_order_mark(tmp_path):
    texts = ["one\u2028two", "three\u0085four", "five\u2029six", "seven"]
    lines = [json.dumps({"audio_filepath": f"{text}.wav", "text": text}, ensure_ascii=False) for text in texts]
    for content in ("\n".join(lines), "\r\n".join(lines) + "\r\n", "\ufeff" + "\n".join(lines)):
        (tmp_path / "m.json").write_bytes(content.encode())
        assert [recording.target for recording in read_manifest(tmp_path / "m.json", "text")] == texts
    (tmp_path / "m.json").write_bytes('{"audio_filepath": "f\xfcr.wav"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"m\.json: not UTF-8 text \("):
        read_manifest(tmp_path / "m.json")


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"audio_filepath": 3}', '{"audio_filepath": "a", "offset": "x"}'])
def test_a_line_that_is_no_entry_is_named(tmp_path, line):
    (tmp_path / "m.json").write_text('{"audio_filepath": "a.wav"}\n' + line)
    with pytest.raises(ValueError, match=r"m\.json, line 2: not an entry"):
        read_manifest(tmp_path / "m.json")


def test_a_shard_gives_each_sample_with_its_target(tmp_path):
    files = {"x/one.flac": coded(ramp(500)), "x/one.cls": b"3", "two.wav": coded(ramp(70), "WAV"), "two.cls": b"0\n"}
    one, two = read_shards([tar(tmp_path / "s.tar", files)])
    assert (one.target, two.target) == (3, 0)
    assert one.name == str(tmp_path / "s.tar" / "x" / "one.flac")
    np.testing.assert_array_equal(one.wave(16000), ramp(500))
    np.testing.assert_array_equal(two.wave(16000), ramp(70))
    files = {"a.wav": coded(ramp(9), "WAV"), "a.json": b'{"words": ["up"]}', "a.txt": b"up"}
    for extension, target in (("json", {"words": ["up"]}), ("txt", "up"), (None, None)):
        assert read_shards([tar(tmp_path / "t.tar", files)], target=extension)[0].target == target


@pytest.mark.parametrize(
    "files, reason",
    [
        ({"a.cls": b"1"}, "a has no audio"),
        ({"b.wav": b""}, "b has no cls"),
        ({"c.wav": b"", "c.cls": b"yes"}, r"c\.cls holds no cls"),
    ],
)
def test_a_sample_that_is_not_whole_is_named_with_its_shard(tmp_path, files, reason):
    with pytest.raises(ValueError, match=rf"s\.tar: {reason}"):
        read_shards([tar(tmp_path / "s.tar", files)])


def test_a_shard_that_cannot_be_searched_is_named(tmp_path):
    packed = tar(tmp_path / "s.tar.gz", {"a.wav": coded(ramp(9), "WAV"), "a.cls": b"1"}, "w:gz")
    with pytest.raises(ValueError, match=r"s\.tar\.gz: not an uncompressed tar"):
        read_shards([packed])


def test_what_is_no_part_of_a_sample_is_passed_over(tmp_path):
    files = {
        "README.md": b"read",
        "LICENSE": b"",
        "x/._a.wav": b"\0\5",
        ".DS_Store": b"",
        "x/a.wav": coded(ramp(9), "WAV"),
    }
    path = tar(tmp_path / "s.tar", {**files, "x/._a.cls": b"\0", "x/a.cls": b"1"})
    assert [(r.name, r.target) for r in read_shards([path])] == [(str(path / "x" / "a.wav"), 1)]
    assert len(read_shards([path], target=None)) == 1


def test_two_files_of_one_name_are_refused(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name in ("a.cls", "a.wav", "a.wav"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ValueError, match=r"s\.tar: a has two files \.wav"):
        read_shards([tmp_path / "s.tar"])


def test_a_tar_that_is_cut_short_anywhere_is_refused(tmp_path):
    path = tar(tmp_path / "s.tar", {"a.wav": b"x" * 700, "a.cls": b"1", "b.wav": b"y" * 600, "b.cls": b"2"})
    whole, end = path.read_bytes(), 5120  # four headers, six blocks of content
    for size in (0, 100, 512, 1000, *range(1536, end + 1, 512), 2100, 2560 + 511, end + 511):
        path.write_bytes(whole[:size])
        with pytest.raises(
            ValueError, match=r"s\.tar: (not an uncompressed tar, or damaged|cut short or damaged after)"
        ):
            read_shards([path])
    path.write_bytes(whole[: end + 512])
    assert [recording.target for recording in read_shards([path])] == [1, 2]


def test_an_absolute_name_in_a_shard_is_told_with_the_shard(tmp_path):
    path = tar(tmp_path / "s.tar", {"/data/a.wav": b"no audio at all", "/data/a.cls": b"1"})
    (recording,) = read_shards([path])
    assert recording.name == str(path / "data" / "a.wav")
    with pytest.raises(AudioError, match=r"s\.tar.data.a\.wav: cannot be read as audio"):
        recording.wave(16000)


def test_a_single_shard_is_not_taken_for_a_list(tmp_path):
    for path in (tmp_path / "s.tar", "s.tar"):
        with pytest.raises(TypeError, match=r"paths must be a list of tars, got one: read_shards\(\["):
            read_shards(path)


def test_a_broken_member_is_named_with_its_shard(tmp_path):
    whole = coded(ramp(900), "WAV")
    files = {"cut.wav": whole[:-400], "no.wav": b"no audio at all", "empty.wav": b"", "whole.wav": whole}
    path = tar(tmp_path / "s.tar", files)
    cut, no, empty, last = read_shards([path], target=None)
    for recording, reason in ((cut, "cut short: 400 bytes"), (no, "cannot be read as audio"), (empty, "is empty")):
        with pytest.raises(AudioError, match=reason) as caught:
            recording.wave(16000)
        assert str(caught.value).startswith(f"{recording.name}: ")
    path.write_bytes(path.read_bytes()[: last.member.first + 100])
    with pytest.raises(AudioError, match=r"whole\.wav: the tar is cut short"):
        last.wave(16000)
    path.unlink()
    with pytest.raises(AudioError, match=r"whole\.wav: cannot be opened"):
        last.wave(16000)
