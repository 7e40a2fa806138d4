"""Folders of image files: what is read, in which order, and what is said of files that are none."""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.images import decode
from randommix_audio.data import BankError
from recipes.images import evaluate, predict
from recipes.images.batch import Batch
from recipes.images.files import ImageFiles, middle, read_image
from recipes.images.sources import open_source
from recipes.shared.batching import epoch_rows
from recipes.shared.console import UserError
from tests.recipes.conftest import ROOT, environment, weights
from tests.recipes.gratings import LABELS, config_of, make_files, run_here
from tests.recipes.test_resume import equal

SIZE = 14


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("files") / "gratings")


def source_of(folder: Path, *arguments: str) -> ImageFiles:
    config, _ = config_of(f"--data={folder}", f"--image_size={SIZE}", *arguments)
    source = open_source(config, torch.device("cpu"))
    assert isinstance(source, ImageFiles)
    return source


def epoch(source: ImageFiles, number: int) -> list[Batch]:
    return list(source.train(number, epoch_rows(source.counts["train"], 5, 0, number)))


def test_targets_are_the_folders_that_images_lie_in_and_val_is_the_test_split(files):
    source = source_of(files)
    assert source.labels == LABELS
    assert source.counts == {"train": 24, "validation": 0, "test": 9}
    read = list(source.read("test", torch.arange(9), 4))
    assert [len(batch) for batch in read] == [4, 4, 1]
    paths = sorted((files / "val").glob("*/*.jpg"))
    images = torch.cat([batch.images for batch in read])
    for path, image, target in zip(paths, images, torch.cat([batch.target for batch in read]), strict=True):
        assert path.parent.name == LABELS[target]
        assert torch.equal(image.permute(2, 0, 1), middle(read_image(path), SIZE, 256 / 224))


def test_where_there_is_a_test_folder_val_is_what_epochs_are_chosen_by(tmp_path):
    folder = make_files(tmp_path / "set", train=6, val=3)
    shutil.copytree(folder / "val", folder / "test")
    (folder / "test" / "plain" / "more.png").write_bytes(png())
    source = source_of(folder)
    assert source.counts == {"train": 6, "validation": 3, "test": 4}
    assert [len(batch) for split in ("validation", "test") for batch in source.read(split, torch.arange(3), 9)] == [
        3,
        3,
    ]


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9, 6)).save(stream, "PNG")
    return stream.getvalue()


def test_training_images_are_random_crops_that_depend_on_the_seed_the_epoch_and_the_row_alone(files):
    alone, helped = source_of(files), source_of(files, "--workers=2")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for number in (0, 1):
        rows = torch.cat(epoch_rows(24, 5, 0, number))
        for one, other in zip(epoch(alone, number), epoch(helped, number), strict=True):
            assert one.images.shape == (len(one), SIZE, SIZE, 3)
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.target, other.target)
        found = torch.cat([batch.target for batch in epoch(alone, number)])
        assert torch.equal(found, alone.files["train"].targets[rows])
    assert torch.equal(torch.get_rng_state(), before)  # dropout draws from it
    first, later, other = (
        next(source.train(number, [torch.tensor([3])])).images
        for source, number in ((alone, 0), (alone, 1), (source_of(files, "--seed=1"), 0))
    )
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)
    assert torch.equal(first, next(alone.train(0, [torch.tensor([7, 3])])).images[1:])


def test_workers_change_no_weight_of_a_training(files, tmp_path):
    for workers in (0, 1):
        run_here(files, tmp_path, "--epochs=2", f"--name=w{workers}", f"--workers={workers}", "--image_size=12")
    assert equal(weights(tmp_path / "w0" / "last.ckpt"), weights(tmp_path / "w1" / "last.ckpt"))


@pytest.mark.parametrize("workers, content", [(0, b"no image"), (1, b"")])
def test_a_file_that_is_no_image_is_named_in_one_line(tmp_path, workers, content):
    folder = make_files(tmp_path / "set", train=6, val=3)
    (folder / "train" / "plain" / "broken.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.jpg: not a readable image") as caught:
        epoch(source_of(folder, f"--workers={workers}"), 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "train" / "empty").mkdir(), "train: .*empty"),
        (lambda folder: (folder / "val" / "plain").rename(folder / "val" / "other"), r"other classes \(other, plain\)"),
        (lambda folder: (folder / "val").rename(folder / "test"), "holds neither a prepared set"),
        (lambda folder: (folder / "task.json").write_text("{"), "task.json"),
    ],
    ids=["empty class", "other classes", "no val", "damaged task"],
)
def test_a_folder_that_is_no_set_of_images_is_one_line_that_names_it(tmp_path, spoil, message):
    folder = make_files(tmp_path / "set", train=6, val=3)
    spoil(folder)
    with pytest.raises((UserError, BankError)) as caught:
        source_of(folder)
    assert re.search(message, str(caught.value))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_digest_sees_names_and_sizes_but_not_the_place(tmp_path):
    first, other = make_files(tmp_path / "a", train=6, val=3), make_files(tmp_path / "b", train=6, val=3)
    digest = source_of(first).digest
    assert source_of(other).digest == digest
    (other / "val" / "plain" / "01.jpg").rename(other / "val" / "plain" / "02.jpg")
    assert source_of(other).digest != digest


@pytest.mark.parametrize(
    "kind, ending", [("L", "jpg"), ("CMYK", "jpg"), ("RGBA", "png"), ("P", "png"), ("RGB", "webp")]
)
def test_files_of_any_kind_are_read_in_three_colours(tmp_path, kind, ending):
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (9, 6), (204, 204, 204)).convert(kind).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype) == ((3, 6, 9), torch.uint8)
    assert (image.int() - 204).abs().max() < 5


def test_16_bits_become_8_and_the_first_picture_of_a_moving_one_is_taken(tmp_path):
    Image.fromarray(np.full((6, 9), 200 * 257, dtype=np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").float().mean() == 200
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert torch.equal(read_image(tmp_path / "a.gif"), torch.full((3, 6, 9), 255, dtype=torch.uint8))


def test_an_upright_photograph_is_upright_in_a_prepared_set_and_for_predict_and_they_agree_on_its_pixels(tmp_path):
    image = Image.effect_noise((64, 48), 60).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = 6  # turn to the right
    image.save(tmp_path / "a.png", exif=exif)
    prepared = decode((tmp_path / "a.png").read_bytes(), "a.png", SIZE)
    predicted = middle(read_image(tmp_path / "a.png"), SIZE, 1.0).permute(1, 2, 0).numpy()
    assert np.abs(prepared.astype(int) - predicted).max() <= 1
    upright = np.asarray(image.rotate(-90, expand=True).resize((SIZE, 18), Image.Resampling.BICUBIC))
    assert np.array_equal(prepared, upright[2 : 2 + SIZE])


def test_hidden_files_are_no_images_and_others_are_passed_over_in_a_line(tmp_path, capsys):
    folder = make_files(tmp_path / "files", train=4, val=3)
    before = source_of(folder).digest
    (folder / "train" / "lying" / "._00.jpg").write_bytes(b"of a file system")
    (folder / "train" / "plain" / "a.bmp").write_bytes(b"BM")
    source = source_of(folder)
    assert (source.counts["train"], source.digest) == (4, before)
    assert "train: 1 files are none of .jpg, .jpeg, .png, .webp, .gif and passed over" in capsys.readouterr().out


@pytest.mark.parametrize("height, width", [(14, 14), (20, 31), (31, 20), (5, 9)])
def test_the_middle_is_cut_out_of_an_image_of_any_shape_and_one_that_fits_is_left_as_it_is(height, width):
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    assert middle(image, SIZE, 256 / 224).shape == (3, SIZE, SIZE)
    assert (height, width) != (SIZE, SIZE) or torch.equal(middle(image, SIZE, 1.0), image)


def test_evaluate_gives_the_numbers_that_training_ended_with_and_predict_the_same_classes(files, tmp_path, capsys):
    results = run_here(files, tmp_path, "--epochs=2", "--name=a", f"--image_size={SIZE}")
    checkpoint = tmp_path / "a" / "last.ckpt"
    found = evaluate.evaluate(evaluate.Options(str(checkpoint), batch_size=4, device="cpu"))
    assert found["confusion"] == results["last"]["test"]["confusion"]
    assert found["loss"] == pytest.approx(results["last"]["test"]["loss"], rel=1e-5)
    capsys.readouterr()
    paths = sorted((files / "val").glob("*/*.jpg"))
    predict.main([*map(str, paths), f"--checkpoint={checkpoint}", "--device=cpu", "--top=1"])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    hits = sum(path.parent.name == words[1] for path, words in zip(paths, said, strict=True))
    assert hits == found["correct"]


def test_predict_goes_on_behind_files_that_are_no_images_and_names_them(files, tmp_path, capsys):
    run_here(files, tmp_path, "--epochs=1", "--name=a", f"--image_size={SIZE}")
    (tmp_path / "bad.jpg").write_text("text")
    good = next((files / "val").glob("*/*.jpg"))
    given = [tmp_path / "bad.jpg", tmp_path / "none.jpg", good]
    with pytest.raises(UserError, match=r"bad\.jpg: not a readable image.*; .*none\.jpg"):
        predict.main([*map(str, given), f"--checkpoint={tmp_path / 'a' / 'last.ckpt'}", "--device=cpu"])
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(str(good))
    assert len(said.split()) == 1 + 2 * 3  # three classes, each with its probability


def test_programs_refuse_what_is_no_checkpoint_of_images_and_images_of_another_kind(files, tmp_path, capsys):
    run_here(files, tmp_path, "--epochs=1", "--name=a", f"--image_size={SIZE}")
    checkpoint = f"--checkpoint={tmp_path / 'a' / 'last.ckpt'}"
    other = make_files(tmp_path / "other", train=2, val=2)
    with pytest.raises(UserError, match="other: has other labels than those that"):
        evaluate.main([checkpoint, f"--data={other}", "--device=cpu"])
    with pytest.raises(UserError, match="gratings: has no validation images"):
        evaluate.main([checkpoint, "--split=validation", "--device=cpu"])
    torch.save({"model": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt: not a checkpoint of a classifier of images"):
        evaluate.main([f"--checkpoint={tmp_path / 'other.ckpt'}"])


def test_real_images_train_from_their_folders(real_data, tmp_path):
    folder = tmp_path / "cifar"
    folder.mkdir()
    for name, part in (("train", "train"), ("val", "test")):
        (folder / name).mkdir()
        for label in ("frog", "ship"):
            (folder / name / label).mkdir()
            for path in sorted((real_data / "cifar10_jpeg" / part / label).iterdir())[:40]:
                (folder / name / label / path.name).write_bytes(path.read_bytes())
    results = run_here(folder, tmp_path, "--epochs=4", "--name=a", "--image_size=32", "--mixer=none", "--lr=0.1")
    assert results["last"]["test"]["accuracy"] > 0.6


def test_the_program_says_in_one_line_that_there_are_no_images(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recipes.images.train", f"--data={tmp_path}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {tmp_path}: holds neither a prepared set")
