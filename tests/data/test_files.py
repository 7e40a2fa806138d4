"""Writing: whole or not at all, by one process at a time, and a full disk names the file."""

import os
import subprocess
import sys

import pytest

from randommix_audio.data.files import atomic, locked, write_json


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, step):
    path = tmp_path / "task.json"
    write_json(path, ["old"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_json(path, ["new"])
    assert caught.value.filename == str(path)
    assert "old" in path.read_text()
    assert os.listdir(tmp_path) == ["task.json"]


def test_a_mistake_made_while_writing_is_told_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic(tmp_path / "copy"):
        (tmp_path / "nowhere").read_bytes()
    assert caught.value.filename == str(tmp_path / "nowhere")
    assert os.listdir(tmp_path) == []


def test_a_folder_is_held_by_one_and_free_again_afterwards(tmp_path):
    for _ in range(2):
        with locked(tmp_path), pytest.raises(BlockingIOError, match="another process"), locked(tmp_path):
            pass


def test_pictures_are_written_without_loading_what_reads_audio():
    code = "import sys, randommix_audio.viewing; sys.exit(not {'soundfile', 'librosa'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
