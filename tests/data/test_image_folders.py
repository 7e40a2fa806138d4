"""Folders of images: which split each goes to, how it is fitted, and what is said of folders that are not right."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import image_folders
from data_prep.command import PrepareError, run
from data_prep.image_folders import prepare, split_of
from randommix_audio.data import BankError
from recipes.images.task import ImageTask

from .pictures import encoded, noise


def image(path: Path, seed: int, height: int = 32, width: int = 32, kind: str = "PNG") -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = noise(seed, height, width)
    path.write_bytes(encoded(pixels, kind))
    return pixels


def folders(root: Path, *splits: str, each: int = 3) -> Path:
    for s, split in enumerate(splits):
        for c, label in enumerate(("dog", "cat")):
            for i in range(each):
                image(root / split / label / f"{i}.png", 100 * s + 10 * c + i)
    return root


def test_train_and_test_folders_are_the_splits_and_names_are_sorted(tmp_path):
    task = prepare(folders(tmp_path, "train", "test"), progress=False)
    assert task.root == tmp_path / "_prepared"
    assert (task.labels, task.size) == (["cat", "dog"], 32)
    assert task.counts() == {"train": 6, "test": 6}
    images, targets = task.split("test")
    assert targets.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(images, [noise(100 + i) for i in (10, 11, 12, 0, 1, 2)])
    assert prepare(tmp_path, progress=False) == task  # what it wrote there is not taken for a class


def test_val_is_the_test_split_only_where_there_is_no_test(tmp_path):
    assert prepare(folders(tmp_path / "a", "train", "val"), progress=False).splits == ("train", "test")
    task = prepare(folders(tmp_path / "b", "train", "val", "test"), progress=False)
    assert task.splits == ("train", "validation", "test")
    np.testing.assert_array_equal(task.split("validation")[0][0], noise(110))
    np.testing.assert_array_equal(task.split("test")[0][0], noise(210))


def test_without_split_folders_the_name_of_a_file_decides_alone(tmp_path):
    task = prepare(folders(tmp_path, ".", each=60), progress=False)
    wanted = [split_of(f"{i}.png") for i in range(60)]
    assert task.counts() == {name: 2 * wanted.count(name) for name in ("train", "validation", "test")}
    first = next(i for i in sorted(range(60), key=str) if wanted[i] == "test")
    np.testing.assert_array_equal(task.split("test")[0][0], noise(10 + first))


def test_about_a_tenth_of_all_names_goes_to_validation_and_to_test():
    splits = [split_of(f"image_{i}.jpg") for i in range(5000)]
    for name in ("validation", "test"):
        assert 400 < splits.count(name) < 600


def test_a_class_may_be_called_train(tmp_path):
    for label in ("train", "ship"):
        for i in range(30):
            image(tmp_path / label / f"{i}.png", i)
    assert prepare(tmp_path, progress=False).labels == ["ship", "train"]


def test_some_training_images_can_be_set_apart_unless_there_are_others_to_validate_on(tmp_path):
    task = prepare(folders(tmp_path / "a", "train", "test"), validation=0.34, progress=False)
    assert task.counts() == {"train": 4, "validation": 2, "test": 6}
    with pytest.raises(PrepareError, match="has 6 images to validate on already; leave out --validation"):
        prepare(folders(tmp_path / "b", "train", "val", "test"), validation=0.3, progress=False)


def test_the_middle_of_an_image_is_taken_after_its_shorter_side_fits(tmp_path):
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, 40:80] = (200, 100, 50)  # the middle third, a square
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "wide.png").write_bytes(encoded(pixels))
        (tmp_path / split / "a" / "tall.png").write_bytes(encoded(np.ascontiguousarray(pixels.transpose(1, 0, 2))))
    task = prepare(tmp_path, size=20, progress=False)
    for got in task.split("train")[0]:
        assert got.shape == (20, 20, 3)
        np.testing.assert_array_equal(got[3:-3, 3:-3], np.broadcast_to([200, 100, 50], (14, 14, 3)))


def test_images_of_the_right_size_keep_their_very_pixels_and_small_ones_are_enlarged(tmp_path):
    for split in ("train", "test"):
        pixels = image(tmp_path / split / "a" / "1.png", 5, 16, 16)
        image(tmp_path / split / "a" / "2.png", 6, 8, 9)
    images, _ = prepare(tmp_path, size=16, progress=False).split("train")
    np.testing.assert_array_equal(images[0], pixels)
    assert images[1].std() > 20


def test_palettes_grey_and_transparent_images_become_rgb(tmp_path):
    for split in ("train", "test"):
        folder = tmp_path / split / "a"
        folder.mkdir(parents=True)
        source = Image.fromarray(noise(0))
        source.convert("P").save(folder / "1.gif")
        source.convert("L").save(folder / "2.png")
        source.convert("RGBA").save(folder / "3.png")
    images, _ = prepare(tmp_path, progress=False).split("train")
    assert images.shape == (3, 32, 32, 3)
    np.testing.assert_array_equal(images[2], noise(0))
    np.testing.assert_array_equal(images[1][..., 0], images[1][..., 2])


def test_a_class_without_images_is_named(tmp_path):
    folders(tmp_path, "train", "test")
    (tmp_path / "train" / "eel").mkdir()
    (tmp_path / "train" / "eel" / "notes.txt").write_text("none yet")
    with pytest.raises(PrepareError, match=r"train/eel: a folder of a class without images"):
        prepare(tmp_path, progress=False)


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_prepared(tmp_path):
    folders(tmp_path, "train", "test")
    bad = tmp_path / "train" / "dog" / "1.png"
    for content in (b"", b"no image", encoded(noise(0))[:1000], encoded(noise(0), "JPEG")[:500]):
        bad.write_bytes(content)
        with pytest.raises(PrepareError, match=r"train/dog/1.png: cannot be read \(") as caught:
            prepare(tmp_path, progress=False)
        assert "\n" not in str(caught.value)
        assert not list((tmp_path / "_prepared").glob("*.np*"))


def test_an_image_of_16_bits_is_named_and_not_cut_off(tmp_path):
    folders(tmp_path, "train", "test")
    Image.fromarray(np.full((32, 32), 40_000, np.uint16)).save(tmp_path / "test" / "cat" / "2.png")
    with pytest.raises(PrepareError, match=r"test/cat/2.png: has more than 8 bits"):
        prepare(tmp_path, progress=False)


def test_folders_that_are_not_laid_out_so_are_told_in_one_line(tmp_path):
    with pytest.raises(PrepareError, match="nowhere: no such folder"):
        prepare(tmp_path / "nowhere", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrepareError, match="empty: holds no folders of images, one for each class"):
        prepare(tmp_path / "empty", progress=False)
    with pytest.raises(PrepareError, match=r"has no test or val beside train; pass --root .*train"):
        prepare(folders(tmp_path / "a", "train"), progress=False)
    with pytest.raises(PrepareError, match="has test, but no train"):
        prepare(folders(tmp_path / "b", "test"), progress=False)
    image(folders(tmp_path / "c", "train", "test") / "test" / "eel" / "1.png", 0)
    with pytest.raises(PrepareError, match="class eel has test images, but none to train on"):
        prepare(tmp_path / "c", progress=False)
    for size in (3, 1025):
        with pytest.raises(PrepareError, match=f"size must be 4 to 1024, not {size}"):
            prepare(tmp_path / "c", size=size, progress=False)


def test_other_images_or_another_size_replace_a_set_only_when_told(tmp_path):
    task = prepare(folders(tmp_path, "train", "test"), progress=False)
    with pytest.raises(BankError, match=r"holds another set of images \(size 32\); pass --overwrite true"):
        prepare(tmp_path, size=16, progress=False)
    image(tmp_path / "train" / "dog" / "9.png", 9)
    with pytest.raises(BankError, match=r"holds another set of images \(other images\)"):
        prepare(tmp_path, progress=False)
    assert ImageTask.load(tmp_path / "_prepared") == task
    (tmp_path / "train" / "dog" / "1.png").write_bytes(b"broken")
    with pytest.raises(PrepareError):
        prepare(tmp_path, overwrite=True, progress=False)
    assert ImageTask.load(tmp_path / "_prepared").split("train")[0].shape == (6, 32, 32, 3)  # as it was
    image(tmp_path / "train" / "dog" / "1.png", 1)
    assert prepare(tmp_path, overwrite=True, progress=False).counts() == {"train": 7, "test": 6}


def test_a_folder_with_a_task_of_another_kind_is_left_alone(tmp_path):
    folders(tmp_path, "train", "test")
    out = tmp_path / "out"
    out.mkdir()
    (out / "task.json").write_text('{"format": 2}')
    with pytest.raises(BankError, match="holds another task; pass --overwrite true or another --out"):
        prepare(tmp_path, out, progress=False)
    assert (out / "task.json").read_text() == '{"format": 2}'


def test_a_place_that_cannot_be_written_to_is_named_with_the_way_out(tmp_path):
    folders(tmp_path, "train", "test")
    (tmp_path / "_prepared").write_text("a file")
    with pytest.raises(PrepareError, match=r"_prepared: cannot be made .*pass --out"):
        prepare(tmp_path, progress=False)


def test_the_command_prints_the_splits_and_tells_mistakes_in_one_line(tmp_path, capsys):
    folders(tmp_path, "train", "test")
    run(image_folders.main, [f"--root={tmp_path}", f"--out={tmp_path / 'out'}", "--size=8"])
    said = capsys.readouterr().out.splitlines()
    assert [line.split() for line in said[:3]] == [
        ["split", "images", "classes"],
        ["train", "6", "2"],
        ["test", "6", "2"],
    ]
    assert said[-1] == f"prepared: {tmp_path / 'out'}"
    with pytest.raises(SystemExit) as left:
        run(image_folders.main, [f"--root={tmp_path / 'nowhere'}"])
    assert left.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'nowhere'}: no such folder\n"


def test_real_photographs_become_a_set_of_ten_classes(real_data, tmp_path):
    if not (real_data / "cifar10_jpeg").is_dir():
        pytest.skip("real data: no cifar10_jpeg in it")
    task = prepare(real_data / "cifar10_jpeg", tmp_path / "out", progress=False)
    for split in ("train", "test"):
        assert task.counts()[split] == len(list((real_data / "cifar10_jpeg" / split).glob("*/*.jpg"))) > 0
    assert len(task.labels) == 10
    assert task.labels[:3] == ["airplane", "automobile", "bird"]
    np.testing.assert_allclose(task.mean, (0.4914, 0.4822, 0.4465), atol=0.02)  # as published for all of CIFAR-10
    np.testing.assert_allclose(task.std, (0.2470, 0.2435, 0.2616), atol=0.02)
