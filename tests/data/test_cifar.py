"""CIFAR from archives in the official layout, and what is said of one that is not right."""

import os
import pickle
from dataclasses import replace
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import cifar
from data_prep.cifar import ARCHIVES, Archive, prepare, unpickled
from data_prep.command import PrepareError, run
from data_prep.download import DownloadError
from randommix_audio.data import BankError
from recipes.images.task import ImageTask

from .pictures import pickled_by_python2, served, tar_gz

EACH = 20  # images of a member


def members(classes: int) -> tuple[dict[str, dict[bytes, Any]], np.ndarray, np.ndarray]:
    """What the pickles of an archive hold, and all its images and targets, the test images last."""
    archive = ARCHIVES[classes]
    rng = np.random.default_rng(classes)
    names = [*archive.train, archive.test]
    images = rng.integers(0, 256, (len(names), EACH, 32, 32, 3), dtype=np.uint8)
    targets = np.arange(len(names) * EACH).reshape(len(names), EACH) % classes
    made: dict[str, dict[bytes, Any]] = {}
    for name, x, y in zip(names, images, targets, strict=True):
        rows = np.ascontiguousarray(x.transpose(0, 3, 1, 2).reshape(EACH, -1))
        made[name] = {b"data": rows, archive.targets.encode(): y.tolist(), b"batch_label": b"as published"}
    made[archive.meta] = {archive.names.encode(): [b"class %d" % i for i in range(classes)]}
    return made, images.reshape(-1, 32, 32, 3), targets.ravel()


def published(root: Path, classes: int, **changed: Any) -> Archive:
    """An archive in the official layout, with some members changed or (None) left out."""
    archive = ARCHIVES[classes]
    made = {**members(classes)[0], **changed}
    root.mkdir(parents=True, exist_ok=True)
    content = {
        f"{archive.folder}/{name}": value if isinstance(value, bytes) else pickled_by_python2(value)
        for name, value in made.items()
        if value is not None
    }
    md5 = tar_gz(root / archive.name, content | {f"{archive.folder}/readme.html": b"<html>"})
    return replace(archive, md5=md5, counts=(EACH * len(archive.train), EACH))


@pytest.mark.parametrize("classes", [10, 100])
def test_an_archive_is_fetched_and_its_images_targets_and_names_are_stored(tmp_path, classes):
    archive = published(tmp_path / "served", classes)
    _, images, targets = members(classes)
    with served(tmp_path / "served") as address:
        task = prepare(tmp_path / "a", classes, archive=archive, mirrors=[address], progress=False)
    assert task.root == tmp_path / "a" / "prepared" / f"cifar{classes}"
    assert task.labels == [f"class {i}" for i in range(classes)]
    assert task.counts() == {"train": len(images) - EACH, "test": EACH}
    for name, wanted in (("train", slice(None, -EACH)), ("test", slice(-EACH, None))):
        np.testing.assert_array_equal(task.split(name)[0], images[wanted])
        np.testing.assert_array_equal(task.split(name)[1], targets[wanted])


def test_an_archive_that_lies_there_or_is_unpacked_needs_no_server(tmp_path):
    archive = published(tmp_path / "a", 10)
    nowhere = ["http://127.0.0.1:9"]
    digest = prepare(tmp_path / "a", archive=archive, mirrors=nowhere, progress=False).digest
    for root, folder in ((tmp_path / "b", tmp_path / "b" / archive.folder), (tmp_path / "c", tmp_path / "c")):
        folder.mkdir(parents=True)
        for name, value in members(10)[0].items():
            (folder / name).write_bytes(pickled_by_python2(value))
        assert prepare(root, archive=archive, mirrors=nowhere, progress=False).digest == digest
        with pytest.raises(PrepareError, match=r"has \d+ training and \d+ test images, CIFAR-10 50,000 and 10,000"):
            prepare(root, out=tmp_path / "part", progress=False)  # a part is not called by the name of the whole


def test_validation_takes_its_share_of_every_class_and_another_draw_with_another_seed(tmp_path):
    archive = published(tmp_path, 10)
    whole = prepare(tmp_path, archive=archive, progress=False).split("train")[0]

    def parts(seed: int) -> tuple[ImageTask, list[bytes]]:
        out = tmp_path / f"out{seed}"
        task = prepare(tmp_path, out=out, validation=0.3, seed=seed, archive=archive, progress=False)
        return task, [image.tobytes() for image in task.split("validation")[0]]

    task, apart = parts(0)
    assert task.splits == ("train", "validation", "test")
    assert np.bincount(task.split("validation")[1]).tolist() == [3] * 10
    assert np.bincount(task.split("train")[1]).tolist() == [7] * 10
    there = [image.tobytes() for image in task.split("train")[0]] + apart
    assert sorted(there) == sorted(image.tobytes() for image in whole)
    assert parts(1)[1] != apart
    again = prepare(tmp_path, out=tmp_path / "c", validation=0.3, seed=0, archive=archive, progress=False)
    assert again.digest == task.digest


def test_the_official_archives_are_those_of_their_author():
    assert (ARCHIVES[10].md5, ARCHIVES[100].md5) == (
        "c58f30108f718f92721af3b95e74349a",
        "eb9058c3a382ffc7106e4002c42a8d85",
    )


def test_another_file_under_the_same_name_is_refused(tmp_path):
    published(tmp_path / "served", 10)
    with (
        served(tmp_path / "served") as address,
        pytest.raises(DownloadError, match=r"cifar-10-python.tar.gz: what came does not have the expected MD5"),
    ):
        prepare(tmp_path / "a", mirrors=[address], progress=False)
    assert not (tmp_path / "a" / "prepared").exists()


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 4):
        with pytest.raises(ValueError, match=r"mkdir, which is refused"):
            unpickled(pickle.dumps({"data": Harm()}, protocol))
    archive = published(tmp_path / "a", 10, test_batch=pickle.dumps(Harm()))
    with pytest.raises(PrepareError, match=r"cifar-10-batches-py/test_batch: not a batch of CIFAR-10 .*refused"):
        prepare(tmp_path / "a", archive=archive, progress=False)
    assert not (tmp_path / "harm").exists()


def test_pickles_of_python_3_are_read_too():
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    found = unpickled(pickle.dumps({"data": array, "labels": [1, 2]}, protocol=4))
    np.testing.assert_array_equal(found["data"], array)


ROWS = np.zeros((3, 3072), np.uint8)


@pytest.mark.parametrize(
    "member, content, message",
    [
        ("data_batch_2", None, r"cifar-10-python.tar.gz: holds no cifar-10-batches-py/data_batch_2"),
        ("data_batch_2", b"\x80\x02}q\x00(U", r"data_batch_2: not a batch of CIFAR-10 \("),
        ("data_batch_2", b"", r"data_batch_2: not a batch of CIFAR-10 \("),
        ("data_batch_2", pickle.dumps([1], 2), r"data_batch_2: not a batch .*no dictionary but list"),
        ("test_batch", {b"labels": [0]}, r"test_batch: not a batch of CIFAR-10 \(it has no 'data'\)"),
        ("test_batch", {b"data": ROWS, b"fine_labels": [0, 0, 0]}, r"it has no 'labels'"),
        ("test_batch", {b"data": ROWS[:, 1:], b"labels": [0, 0, 0]}, r"uint8 of shape \(3, 3071\)"),
        ("test_batch", {b"data": ROWS.astype(np.float32), b"labels": [0, 0, 0]}, r"its data is float32"),
        ("test_batch", {b"data": ROWS, b"labels": [0, 0]}, r"it has 3 images, but labels of shape \(2,\)"),
        ("test_batch", {b"data": ROWS, b"labels": [0, 10, 0]}, r"its labels go beyond 10 classes"),
        ("test_batch", {b"data": ROWS, b"labels": [0, -1, 0]}, r"its labels go beyond 10 classes"),
        ("batches.meta", {b"label_names": [b"a", b"b"]}, r"batches.meta: label_names is no list of 10 names"),
        ("batches.meta", {b"names": []}, r"batches.meta: no names of classes"),
    ],
)
def test_a_member_with_wrong_content_is_named_in_one_line(tmp_path, member, content, message):
    archive = published(tmp_path, 10, **{member: content})
    with pytest.raises(PrepareError, match=message) as caught:
        prepare(tmp_path, archive=archive, progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "prepared").exists()


def test_an_archive_that_is_none_or_was_cut_is_named(tmp_path):
    whole = tmp_path / published(tmp_path, 10).name
    for content in (b"<html>moved</html>", whole.read_bytes()[:-5000]):
        whole.write_bytes(content)
        archive = replace(ARCHIVES[10], md5=md5(content).hexdigest())
        with pytest.raises(PrepareError, match=r"cifar-10-python.tar.gz: damaged archive .*delete it and try again"):
            prepare(tmp_path, archive=archive, progress=False)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"validation": 0.6}, "validation must be 0 to 0.5, not 0.6"),
        ({"validation": -0.1}, "validation must be 0 to 0.5"),
        ({"validation": float("nan")}, "validation must be 0 to 0.5"),
        ({"seed": -1}, "seed must be 0 to"),
    ],
)
def test_an_option_out_of_range_is_said_before_anything_is_fetched(tmp_path, options, message):
    with pytest.raises(PrepareError, match=message):
        prepare(tmp_path / "a", mirrors=["http://127.0.0.1:9"], progress=False, **options)
    assert not (tmp_path / "a").exists()


def test_a_prepared_set_is_kept_and_another_one_replaces_it_only_when_told(tmp_path):
    archive = published(tmp_path, 10)
    task = prepare(tmp_path, archive=archive, progress=False)
    before = (task.root / "train_images.npy").stat().st_mtime_ns
    assert prepare(tmp_path, archive=archive, progress=False) == task
    assert (task.root / "train_images.npy").stat().st_mtime_ns == before
    with pytest.raises(BankError, match=r"holds another set of images \(validation 0.0\); pass --overwrite true"):
        prepare(tmp_path, validation=0.2, archive=archive, progress=False)
    assert ImageTask.load(task.root) == task
    new = prepare(tmp_path, validation=0.2, overwrite=True, archive=archive, progress=False)
    assert new.splits == ("train", "validation", "test")
    assert sorted(path.name for path in task.root.iterdir()) == sorted(
        [".lock", "task.json"] + [f"{split}_{what}.npy" for split in new.splits for what in ("images", "targets")]
    )


def test_a_preparation_that_was_killed_is_no_finished_one_and_is_done_again(tmp_path, monkeypatch):
    archive = published(tmp_path, 10)
    task = prepare(tmp_path, out=tmp_path / "whole", archive=archive, progress=False)
    out = tmp_path / "out"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.images.write_json", killed)  # all arrays are there, task.json is not
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path, out=out, archive=archive, progress=False)
    assert (out / "train_images.npy").exists()
    with pytest.raises(BankError, match="holds no prepared set of images"):
        ImageTask.load(out)
    (out / "train_images.npy.new.partial").write_bytes(b"half")
    (out / "test_images.npy").write_bytes(b"half")
    assert prepare(tmp_path, out=out, archive=archive, progress=False).digest == task.digest
    assert not list(out.glob("*.new*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_line_and_leaves_the_set_that_was_there(tmp_path):
    archive = published(tmp_path, 10)
    task = prepare(tmp_path, archive=archive, progress=False)
    (task.root / "test_images.npy.new.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        prepare(tmp_path, validation=0.2, overwrite=True, archive=archive, progress=False)
    assert "test_images.npy" in str(caught.value.filename)
    assert ImageTask.load(task.root) == task
    assert not list(task.root.glob("*.new*"))


def test_the_command_prints_the_splits_and_tells_mistakes_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ARCHIVES, 100, published(tmp_path, 100))
    run(cifar.main, ["--classes=100", f"--root={tmp_path}", "--validation=0.5", f"--out={tmp_path / 'out'}"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["split", "images", "classes"]
    assert said[1].split() == ["train", "20", "20"]
    assert said[-1] == f"prepared: {tmp_path / 'out'}"
    for wrong in (["--classes=11"], ["--classes=100", "--validation=0.9"], []):
        with pytest.raises(SystemExit) as left:
            run(cifar.main, [*wrong, f"--root={tmp_path}"])
        assert left.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
