"""A prepared set of images: what is in it, and what is said of a folder that is none."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_prep.images import Part, store
from randommix_audio.data import BankError
from recipes.images.task import ImageTask

LABELS = ["cat", "dog", "eel"]


def pixels(count: int, seed: int = 0, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def made(out: Path, train: np.ndarray, test: np.ndarray | None = None, **options: object) -> ImageTask:
    parts = {"test": Part(np.arange(len(test)) % 3, test)} if test is not None else {}
    parts["train"] = Part(np.arange(len(train)) % 3, train)
    return store(out, LABELS, 6, parts, options.pop("settings", {"seed": 0}), progress=False, **options)


def test_what_was_stored_is_read_again_without_loading_the_images(tmp_path):
    train, test = pixels(7), pixels(4, 1)
    made(tmp_path / "a", train, test)
    task = ImageTask.load(tmp_path / "a")
    assert task.splits == ("train", "test")
    assert (task.labels, task.size, task.root) == (LABELS, 6, tmp_path / "a")
    assert task.counts() == {"train": 7, "test": 4}
    images, targets = task.split("train")
    assert isinstance(images, np.memmap)
    np.testing.assert_array_equal(images, train)
    np.testing.assert_array_equal(task.split("test")[0], test)
    assert targets.dtype == np.int64
    assert targets.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_mean_and_deviation_are_those_of_the_training_images_alone(tmp_path):
    train = pixels(5) // np.array([1, 2, 3], dtype=np.uint8)
    task = made(tmp_path, train, np.zeros((2, 6, 6, 3), np.uint8))
    np.testing.assert_allclose(task.mean, (train / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(task.std, (train / 255).std((0, 1, 2)))


def test_the_digest_changes_with_a_pixel_a_target_or_a_name_and_with_nothing_else(tmp_path):
    train = pixels(5)
    digest = made(tmp_path / "a", train).digest
    assert made(tmp_path / "b", train, settings={"seed": 9}).digest == digest
    other = train.copy()
    other[4, 5, 5, 2] ^= 1
    assert made(tmp_path / "c", other).digest != digest
    assert made(tmp_path / "d", train[:, ::-1]).digest != digest
    renamed = store(
        tmp_path / "e", ["cat", "dog", "elk"], 6, {"train": Part(np.arange(5) % 3, train)}, {}, progress=False
    )
    moved = store(tmp_path / "f", LABELS, 6, {"train": Part((np.arange(5) + 1) % 3, train)}, {}, progress=False)
    assert len({digest, renamed.digest, moved.digest}) == 3


def test_images_of_another_shape_or_type_are_not_stored(tmp_path):
    for wrong in (pixels(3)[:, :5], pixels(3).astype(np.int64)):
        with pytest.raises(ValueError, match=r"an image must be uint8 \(6, 6, 3\), not "):
            made(tmp_path, wrong)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_split_that_is_not_there_is_named(tmp_path):
    task = made(tmp_path, pixels(3))
    assert task.splits == ("train",)
    with pytest.raises(ValueError, match="has no split 'test', only train"):
        task.split("test")


def test_a_folder_that_is_no_prepared_set_is_one_line(tmp_path):
    with pytest.raises(BankError, match=r"nowhere: holds no prepared set of images \(no task.json\)"):
        ImageTask.load(tmp_path / "nowhere")
    (tmp_path / "task.json").write_text(json.dumps({"format": 2, "labels": [], "bank": "x"}))
    with pytest.raises(BankError, match=r"its task.json is of another kind"):
        ImageTask.load(tmp_path)
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(BankError, match=r"task.json: damaged .*make the prepared set of images again"):
        ImageTask.load(tmp_path)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("train_images.npy", None, r"holds no prepared set of images \(no train_images.npy\)"),
        ("train_targets.npy", None, r"no train_targets.npy"),
        ("train_images.npy", np.zeros((3, 5, 6, 3), np.uint8), r"train_images.npy: damaged \(holds uint8 of shape"),
        ("train_images.npy", np.zeros((3, 6, 6, 3), np.float32), r"holds float32"),
        ("train_targets.npy", np.zeros(4, np.int64), r"train_targets.npy: damaged .*for 3 images"),
        ("train_targets.npy", np.array([0, 1, 3]), r"names classes beyond the 3"),
        ("train_targets.npy", np.array([0, -1, 2]), r"names classes beyond the 3"),
    ],
)
def test_arrays_that_are_missing_or_wrong_are_named(tmp_path, name, change, message):
    made(tmp_path, pixels(3))
    if change is None:
        (tmp_path / name).unlink()
    else:
        np.save(tmp_path / name, change)
    with pytest.raises(BankError, match=message):
        ImageTask.load(tmp_path)


def test_an_array_that_is_cut_short_is_named(tmp_path):
    made(tmp_path, pixels(3))
    whole = (tmp_path / "train_images.npy").read_bytes()
    (tmp_path / "train_images.npy").write_bytes(whole[:-10])
    with pytest.raises(BankError, match=r"train_images.npy: damaged"):
        ImageTask.load(tmp_path)
