"""Tiny ImageNet from an archive in the official layout, and what is said of one that is not right."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from data_prep import tiny_imagenet
from data_prep.command import PrepareError, run
from data_prep.download import DownloadError
from randommix_audio.data import BankError
from recipes.images.task import ImageTask

from .pictures import encoded, noise, served, zipped

WNIDS = ("n03444034", "n02124075", "n01443537")  # not in the order of their names


COUNTS = (12, 6)


def prepare(root: Path, **options: object) -> ImageTask:
    return tiny_imagenet.prepare(root, **{"counts": COUNTS, **options})


def members(**changed: bytes | None) -> dict[str, bytes]:
    """Four training images of each class, one of them grey, and two test images of each; PNG keeps their pixels."""
    made, lines = {"wnids.txt": b"", "words.txt": b"n01443537\tgoldfish\n"}, []
    for c, wnid in enumerate(WNIDS):
        for i in range(4):
            pixels = noise(10 * c + i, 64, 64)
            made[f"train/{wnid}/images/{wnid}_{i}.JPEG"] = encoded(pixels[..., 0] if i == 3 else pixels)
        made[f"train/{wnid}/{wnid}_boxes.txt"] = b""
    for i in range(6):
        made[f"val/images/val_{i}.JPEG"] = encoded(noise(100 + i, 64, 64))
        lines.append(f"val_{i}.JPEG\t{WNIDS[i % 3]}\t0\t32\t44\t62\n")
    made["val/val_annotations.txt"] = "".join(lines).encode()
    made["test/images/test_0.JPEG"] = encoded(noise(200, 64, 64))
    made |= {name.replace("__", "/"): content for name, content in changed.items()}
    return {f"tiny-imagenet-200/{name}": content for name, content in made.items() if content is not None}


def hash_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def archived(root: Path, made: dict[str, bytes]) -> str:
    root.mkdir(parents=True, exist_ok=True)
    return zipped(root / "tiny-imagenet-200.zip", made)


def test_the_archive_is_fetched_and_its_validation_images_are_the_test_split(tmp_path):
    md5 = archived(tmp_path / "served", members())
    with served(tmp_path / "served") as address:
        task = prepare(tmp_path / "a", md5=md5, mirrors=[address], progress=False)
    assert task.root == tmp_path / "a" / "prepared" / "tiny_imagenet"
    assert task.labels == sorted(WNIDS)
    assert (task.size, task.counts()) == (64, {"train": 12, "test": 6})
    images, targets = task.split("test")
    np.testing.assert_array_equal(images, [noise(100 + i, 64, 64) for i in range(6)])
    assert targets.tolist() == [2, 1, 0, 2, 1, 0]
    images, targets = task.split("train")
    assert targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    np.testing.assert_array_equal(images[8:11], [noise(i, 64, 64) for i in range(3)])


def test_grey_images_become_rgb(tmp_path):
    task = prepare(tmp_path, md5=archived(tmp_path, members()), progress=False)
    grey = noise(3, 64, 64)[..., 0]
    np.testing.assert_array_equal(task.split("train")[0][11], np.stack([grey] * 3, -1))


def test_a_folder_that_is_unpacked_already_gives_the_same_set_and_asks_no_server(tmp_path):
    digest = prepare(tmp_path, md5=archived(tmp_path, members()), progress=False).digest
    for name, content in members().items():
        (tmp_path / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / name).write_bytes(content)
    for root in (tmp_path / "b", tmp_path / "b" / "tiny-imagenet-200"):
        assert prepare(root, mirrors=["http://127.0.0.1:9"], progress=False).digest == digest


def test_some_training_images_of_each_class_can_be_set_apart(tmp_path):
    task = prepare(tmp_path, validation=0.25, md5=archived(tmp_path, members()), progress=False)
    assert task.counts() == {"train": 9, "validation": 3, "test": 6}
    assert task.split("validation")[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"val__val_annotations.txt": None}, r"holds no val/val_annotations.txt"),
        ({"val__val_annotations.txt": b"val_0.JPEG n02124075\n"}, r"line 1: must be an image and its class"),
        ({"val__val_annotations.txt": b"val_0.JPEG\tn09\t0\n"}, r"line 1: there are no training images of class 'n09'"),
        ({"val__val_annotations.txt": b"val_9.JPEG\tn02124075\t0\n"}, r"line 1: there is no val/images/val_9.JPEG"),
        ({"val__images__val_2.JPEG": b"no image"}, r"val/images/val_2.JPEG: cannot be read \(not an image\)"),
        ({"train__n03444034__images__n03444034_1.JPEG": encoded(noise(0))[:900]}, r"n03444034_1.JPEG: cannot be read"),
    ],
)
def test_what_is_wrong_in_the_archive_is_named_in_one_line_and_nothing_is_prepared(tmp_path, changed, message):
    md5 = archived(tmp_path, members(**changed))
    with pytest.raises(PrepareError, match=message) as caught:
        prepare(tmp_path, md5=md5, progress=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(BankError, match="holds no prepared set"):
        ImageTask.load(tmp_path / "prepared" / "tiny_imagenet")
    assert not list(tmp_path.rglob("*.np*"))


def test_an_archive_without_training_images_or_that_was_cut_or_is_another_one_is_named(tmp_path):
    with pytest.raises(PrepareError, match=r"holds no train/<class>/images"):
        prepare(tmp_path, md5=archived(tmp_path, {"a.txt": b""}), progress=False)
    archived(tmp_path, members())
    with (
        served(tmp_path) as address,
        pytest.raises(DownloadError, match=r"tiny-imagenet-200.zip: what came does not have the expected MD5"),
    ):
        prepare(tmp_path / "b", mirrors=[address], progress=False)
    path = tmp_path / "tiny-imagenet-200.zip"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(PrepareError, match=r"tiny-imagenet-200.zip: damaged archive"):
        prepare(tmp_path, md5=hash_of(path), progress=False)


def test_a_damaged_member_is_found(tmp_path):
    archived(tmp_path, members())
    path = tmp_path / "tiny-imagenet-200.zip"
    content = path.read_bytes()
    place = content.index(b"IDAT", content.index(b"val_3.JPEG")) + 100
    path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    with pytest.raises(PrepareError, match=r"damaged archive .*val_3.JPEG"):
        prepare(tmp_path, md5=hash_of(path), progress=False)


def test_the_command_prints_the_splits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tiny_imagenet, "COUNTS", COUNTS)
    for name, content in members().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    run(tiny_imagenet.main, [f"--root={tmp_path}", f"--out={tmp_path / 'out'}"])
    said = capsys.readouterr().out.splitlines()
    assert said[2].split() == ["test", "6", "3"]
    assert said[-1] == f"prepared: {tmp_path / 'out'}"
    with pytest.raises(SystemExit) as left:
        run(tiny_imagenet.main, [f"--root={tmp_path}", "--validation=2"])
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: validation must be 0 to 0.5, not 2.0\n"
