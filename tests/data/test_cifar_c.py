"""Corrupted images: what each corruption does, in which order they are stored, and the published archives."""

import io
import json
import tarfile
from dataclasses import replace
from functools import cache
from hashlib import md5
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import cifar_c
from data_prep.cifar_c import ARCHIVES, Archive, corrupt, download
from data_prep.command import PrepareError, run
from data_prep.corruptions import corrupted
from data_prep.download import DownloadError
from data_prep.images import Part, store
from data_prep.textures import frost_texture, plasma
from randommix_audio.data import BankError
from randommix_audio.evaluation import CORRUPTIONS, read_corruption
from recipes.images.task import ImageTask

from .pictures import served

# Their published parameters do not grow in every step: glass and elastic change kind, frost lets less light in.
NOT_ORDERED = ("glass_blur", "elastic_transform", "frost")


@cache
def pictures(count: int = 40) -> np.ndarray:
    """Smooth coloured blobs with an edge through them, as photographs have both."""
    rng = np.random.default_rng(0)
    small = rng.integers(30, 226, (count, 5, 5, 3), dtype=np.uint8)
    large = np.stack([np.asarray(Image.fromarray(s).resize((32, 32), Image.Resampling.BICUBIC)) for s in small])
    right = np.arange(32) >= 3 + np.arange(count)[:, None] % 26  # the edge is elsewhere in each
    return np.where(right[:, None, :, None], 255 - large, large).clip(25, 225)


@cache
def changed(name: str, severity: int) -> np.ndarray:
    return corrupted(pictures(), name, severity, seed=0)


def difference(name: str, severity: int) -> float:
    return float(((changed(name, severity).astype(float) - pictures()) ** 2).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_changes_every_image_and_keeps_its_shape_and_type(name):
    for severity in range(1, 6):
        got = changed(name, severity)
        assert got.dtype == np.uint8
        assert got.shape == pictures().shape
        assert (got != pictures()).any((1, 2, 3)).all()


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in NOT_ORDERED])
def test_a_severer_corruption_changes_more(name):
    found = [difference(name, severity) for severity in range(1, 6)]
    # motion blur is equally wide at 3 and 4; 28 pixels may fall upon these edges worse than 27
    assert all(after > before * 0.8 for before, after in pairwise(found))
    assert found[4] > 1.5 * found[0]


def test_what_frost_hides_grows_with_its_severity():
    def alike(severity: int) -> float:
        return float(np.corrcoef(changed("frost", severity).ravel(), pictures().ravel())[0, 1])

    found = [alike(severity) for severity in range(1, 6)]
    assert all(after < before for before, after in pairwise(found))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_pixels_and_another_one_others(name):
    np.testing.assert_array_equal(corrupted(pictures(), name, 3, seed=0), changed(name, 3))
    other = corrupted(pictures(), name, 3, seed=1)
    fixed = name in ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
    assert np.array_equal(other, changed(name, 3)) == fixed


def test_images_of_a_set_and_severities_have_draws_of_their_own():
    same = np.repeat(pictures()[:1], 6, 0)
    for name in ("gaussian_noise", "snow", "frost", "fog", "motion_blur", "elastic_transform"):
        got = corrupted(same, name, 3, 0)
        assert len({image.tobytes() for image in got}) == 6
        assert not np.array_equal(corrupted(same, name, 3, 0, first=6), got)
    noise = [changed("gaussian_noise", s).astype(float) - pictures() for s in (1, 2)]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.05


def test_the_input_is_left_as_it_is():
    before = pictures().copy()
    for name in CORRUPTIONS:
        corrupted(pictures(), name, 5, 0)
    np.testing.assert_array_equal(pictures(), before)


def test_noises_have_their_published_strength():
    grey = np.full((30, 32, 32, 3), 128, np.uint8)
    for severity, wanted in ((1, 0.04), (5, 0.10)):
        assert corrupted(grey, "gaussian_noise", severity, 0).std() / 255 == pytest.approx(wanted, rel=0.03)
    for severity, photons in ((1, 500), (5, 50)):
        wanted = np.sqrt(128 / 255 / photons)  # of a Poisson count
        assert corrupted(grey, "shot_noise", severity, 0).std() / 255 == pytest.approx(wanted, rel=0.03)
    salted = corrupted(grey, "impulse_noise", 5, 0)
    assert (salted == 0).mean() == pytest.approx(0.035, rel=0.1)
    assert (salted == 255).mean() == pytest.approx(0.035, rel=0.1)
    assert set(np.unique(salted)) <= {0, 127, 128, 255}


def test_brightness_brightens_every_pixel_and_keeps_the_hue():
    got = changed("brightness", 2).astype(float)
    x = pictures().astype(float)
    assert (got.max(-1) > x.max(-1)).all()
    np.testing.assert_allclose(got.max(-1) - x.max(-1), 25.5, atol=1)  # 0.1, no pixel of these reaches white
    np.testing.assert_allclose(got / got.max(-1, keepdims=True), x / x.max(-1, keepdims=True), atol=0.02)
    black = corrupted(np.zeros((1, 32, 32, 3), np.uint8), "brightness", 5, 0)
    assert set(np.unique(black)) == {76}  # 0.3, grey


def test_contrast_keeps_the_mean_and_reduces_the_deviation_by_its_factor():
    for severity, factor in ((1, 0.75), (5, 0.15)):
        got = changed("contrast", severity).astype(float)
        np.testing.assert_allclose(got.mean((1, 2)), pictures().mean((1, 2)), atol=1)
        np.testing.assert_allclose(got.std((1, 2)), factor * pictures().std((1, 2)), atol=1)


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur", "pixelate"])
def test_blurs_and_pixels_leave_an_even_picture_as_it_is_and_smooth_another(name):
    even = np.full((3, 32, 32, 3), (200, 90, 30), np.uint8)
    assert np.abs(corrupted(even, name, 5, 0).astype(int) - even).max() <= 1  # fractions are cut off
    sharp = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert corrupted(sharp, name, 5, 0).std() < 0.8 * sharp.std()


def test_glass_takes_pixels_from_next_to_them_and_invents_none():
    marked = np.arange(1024, dtype=np.int64).reshape(1, 32, 32)
    image = np.stack([marked % 32 * 8, marked // 32 * 8, marked * 0], -1).astype(np.uint8)
    got = corrupted(image, "glass_blur", 1, 0)  # its Gaussian is too narrow to reach a neighbour
    moved = (image.astype(int) - got) / 8
    np.testing.assert_allclose(moved, np.rint(moved), atol=0.3)
    assert set(np.unique(np.rint(moved[..., :2]))) == {0, 1}


def test_fog_and_snow_make_dark_pictures_brighter():
    dark = pictures() // 6
    assert corrupted(dark, "snow", 3, 0).mean() > dark.mean() + 20
    assert (changed("fog", 5).std((1, 2)) < pictures().std((1, 2))).mean() > 0.9


def test_zoom_keeps_the_middle_and_moves_the_edge():
    off = np.abs(changed("zoom_blur", 5).astype(float) - pictures()).mean((0, 3))
    assert off[14:18, 8:12].mean() < off[:4, 8:12].mean()


def test_textures_are_uneven_and_in_range():
    rng = np.random.default_rng(0)
    height = plasma(5, 32, 2.0, rng)
    np.testing.assert_allclose(height.min((1, 2)), 0)
    np.testing.assert_allclose(height.max((1, 2)), 1)
    steps = [np.abs(np.diff(plasma(50, 32, decay, rng), axis=1)).mean() for decay in (3.0, 1.75)]
    assert steps[0] < steps[1]  # a slower decay is rougher
    ice = frost_texture(20, 32, rng)
    assert ice.shape == (20, 32, 32, 3)
    assert 0 <= ice.min() < 0.4 < ice.mean() < 0.65 < 0.9 < ice.max() <= 1
    assert (ice[..., 2] >= ice[..., 0]).all()  # bluish


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("rain", 1), "no corruption 'rain': there are gaussian_noise, "),
        (("fog", 0), "severity must be 1 to 5, not 0"),
        (("fog", 6), "severity must be 1 to 5, not 6"),
    ],
)
def test_another_corruption_or_severity_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupted(pictures(), *arguments, seed=0)


def test_images_of_another_size_or_type_are_refused():
    for wrong in (pictures()[:, :31], pictures().astype(np.float32)):
        with pytest.raises(ValueError, match=r"images must be uint8 \(N, 32, 32, 3\), not"):
            corrupted(wrong, "fog", 1, 0)


def prepared(root: Path, count: int = 7, size: int = 32, test: bool = True) -> ImageTask:
    x = pictures()[:count, :size, :size]
    parts = {"train": Part(np.zeros(1), x[:1])} | ({"test": Part(np.arange(count) % 3, x)} if test else {})
    return store(root, ["a", "b", "c"], size, parts, {}, progress=False)


def test_arrays_that_are_made_hold_all_images_at_one_severity_after_the_other(tmp_path, monkeypatch):
    task = prepared(tmp_path / "set")
    monkeypatch.setattr(cifar_c, "AT_ONCE", 4)  # the last part is shorter
    out = corrupt(task.root, seed=3, progress=False)
    assert out == tmp_path / "set_c"
    assert {path.stem for path in out.glob("*.npy")} == {*CORRUPTIONS, "labels"}
    images, targets = task.split("test")
    labels = np.load(out / "labels.npy")
    assert labels.dtype == np.uint8
    assert labels.tolist() == targets.tolist() * 5
    for name in CORRUPTIONS:
        stored = np.load(out / f"{name}.npy")
        assert (stored.dtype, stored.shape) == (np.uint8, (35, 32, 32, 3))
        for severity in range(1, 6):
            wanted = [corrupted(images[i : i + 4], name, severity, 3, i) for i in (0, 4)]
            np.testing.assert_array_equal(stored[7 * severity - 7 : 7 * severity], np.concatenate(wanted))
    read, read_labels = read_corruption(out, "contrast", 5)
    assert len(read) == len(read_labels) == 7
    assert read.std() < images.std() / 2


def test_what_was_made_says_that_it_is_not_what_was_published(tmp_path):
    task = prepared(tmp_path / "set", 2)
    about = json.loads((corrupt(task.root, progress=False) / "made.json").read_text())
    assert about["official"] is False
    assert "not the published arrays" in about["notice"]
    assert "frost is a drawn texture" in about["notice"]
    assert (about["source"], about["images"], about["seed"]) == (task.digest, 2, 0)


def test_arrays_are_replaced_only_when_told_and_published_ones_never(tmp_path):
    task = prepared(tmp_path / "set", 2)
    out = corrupt(task.root, progress=False)
    before = np.load(out / "snow.npy")
    stamp = (out / "snow.npy").stat().st_mtime_ns
    assert corrupt(task.root, progress=False) == out  # made already
    assert (out / "snow.npy").stat().st_mtime_ns == stamp
    with pytest.raises(BankError, match=r"set_c: holds other arrays \(seed 0\); pass --overwrite true"):
        corrupt(task.root, seed=1, progress=False)
    np.testing.assert_array_equal(np.load(out / "snow.npy"), before)
    corrupt(task.root, seed=1, overwrite=True, progress=False)
    assert not np.array_equal(np.load(out / "snow.npy"), before)
    (out / "made.json").unlink()  # as a folder that was downloaded
    with pytest.raises(BankError, match="was not made by this program; pass another --out"):
        corrupt(task.root, seed=1, overwrite=True, progress=False)


def test_a_making_that_was_stopped_leaves_no_folder_and_is_done_again(tmp_path, monkeypatch):
    task = prepared(tmp_path / "set", 2)
    whole = corrupt(task.root, tmp_path / "whole", progress=False)

    def stopped(images: np.ndarray, name: str, *others: int) -> np.ndarray:
        if name == "fog":
            raise KeyboardInterrupt
        return corrupted(images, name, *others)

    with monkeypatch.context() as patch:
        patch.setattr(cifar_c, "corrupted", stopped)
        with pytest.raises(KeyboardInterrupt):
            corrupt(task.root, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    corrupt(task.root, tmp_path / "out", progress=False)
    assert not (tmp_path / "out.partial").exists()
    for path in whole.glob("*.npy"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_sets_that_cannot_be_corrupted_are_named(tmp_path):
    with pytest.raises(BankError, match="nowhere: holds no prepared set of images"):
        corrupt(tmp_path / "nowhere", progress=False)
    with pytest.raises(PrepareError, match="a: has no test images"):
        corrupt(prepared(tmp_path / "a", test=False).root, progress=False)
    with pytest.raises(PrepareError, match="b: its images are of side 16; the severities are those for 32"):
        corrupt(prepared(tmp_path / "b", size=16).root, progress=False)
    with pytest.raises(PrepareError, match="seed must be 0 to"):
        corrupt(tmp_path / "a", seed=-1, progress=False)


def array(shape: tuple[int, ...], dtype: type = np.uint8) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(shape, dtype))
    return stream.getvalue()


def published(root: Path, **changed: bytes | None) -> Archive:
    """CIFAR-10-C with two images for each severity, some arrays changed or (None) left out."""
    made: dict[str, bytes | None] = dict.fromkeys((*CORRUPTIONS, "speckle_noise"), array((10, 32, 32, 3)))
    made |= {"labels": array((10,)), **changed}
    root.mkdir(parents=True, exist_ok=True)
    path = root / "CIFAR-10-C.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in made.items():
            if content is not None:
                member = tarfile.TarInfo(f"CIFAR-10-C/{name}.npy")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return replace(ARCHIVES[10], md5=md5(path.read_bytes()).hexdigest(), rows=10)


def test_the_published_arrays_are_fetched_once_and_unpacked(tmp_path):
    archive = published(tmp_path / "served")
    with served(tmp_path / "served") as address:
        folder = download(tmp_path / "a", archive, address, progress=False)
    assert folder == tmp_path / "a" / "CIFAR-10-C"
    assert (folder / "speckle_noise.npy").is_file()
    assert read_corruption(folder, "fog", 2)[0].shape == (2, 32, 32, 3)
    assert download(tmp_path / "a", archive, "http://127.0.0.1:9", progress=False) == folder
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".lock", "CIFAR-10-C", "CIFAR-10-C.tar"]


def test_the_official_archives_are_those_of_their_authors():
    assert (ARCHIVES[10].md5, ARCHIVES[100].md5) == (
        "56bf5dcef84df0e2308c6dcbcbbd8499",
        "11f0ed0f1191edbf9fa23466ae6021d3",
    )
    assert ARCHIVES[100].rows == 50_000


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"fog": None}, r"fog.npy: no such file"),
        ({"labels": None}, r"labels.npy: no such file"),
        ({"fog": b"nothing"}, r"fog.npy: not a readable NumPy array"),
        ({"fog": array((10, 28, 28, 3))}, r"fog.npy: is of shape \(10, 28, 28, 3\), not \(10, 32, 32, 3\)"),
        ({"fog": array((10, 32, 32, 3), np.float32)}, r"fog.npy: must be uint8"),
        ({"labels": array((5,))}, r"labels.npy: must be 10 whole numbers"),
    ],
)
def test_an_archive_with_wrong_content_is_named_and_not_taken_for_a_whole_one(tmp_path, changed, message):
    archive = published(tmp_path, **changed)
    with pytest.raises(PrepareError, match=message) as caught:
        download(tmp_path, archive, progress=False)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "CIFAR-10-C.tar"]


def test_another_archive_under_the_same_name_is_refused(tmp_path):
    published(tmp_path / "served")
    with (
        served(tmp_path / "served") as address,
        pytest.raises(DownloadError, match=r"CIFAR-10-C.tar: what came does not have the expected MD5"),
    ):
        download(tmp_path / "a", ARCHIVES[10], address, progress=False)


def test_the_command_makes_arrays_and_tells_mistakes_in_one_line(tmp_path, capsys):
    prepared(tmp_path / "set", 2)
    run(cifar_c.main, [f"--make={tmp_path / 'set'}", f"--out={tmp_path / 'out'}"])
    said = capsys.readouterr()
    assert said.out == f"made: {tmp_path / 'out'}\n"
    assert "note: made here, not the published arrays" in said.err
    for wrong in ([], ["--classes=10", f"--make={tmp_path}"], ["--classes=10", "--seed=1"], ["--make=nowhere"]):
        with pytest.raises(SystemExit) as left:
            run(cifar_c.main, wrong)
        assert left.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
