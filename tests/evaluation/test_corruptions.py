from pathlib import Path

import numpy as np
import pytest

from randommix_audio.evaluation import CORRUPTIONS, corruption_error, read_corruption

COUNT = 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every pixel holds 10 times the number of its corruption plus the severity; labels are the rows' numbers."""
    for number, name in enumerate(CORRUPTIONS):
        images = np.empty((5 * COUNT, 4, 6, 3), np.uint8)
        images[:] = (10 * number + 1 + np.arange(5 * COUNT) // COUNT)[:, None, None, None]
        np.save(tmp_path / f"{name}.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(np.arange(COUNT, dtype=np.uint8), 5))
    return tmp_path


def test_the_benchmark_has_fifteen_corruptions_of_four_kinds():
    assert len(set(CORRUPTIONS)) == 15
    assert not set(CORRUPTIONS) & {"speckle_noise", "gaussian_blur", "spatter", "saturate"}


def test_each_severity_is_its_own_fifth_of_the_file(folder):
    for severity in range(1, 6):
        images, labels = read_corruption(folder, "shot_noise", severity)
        assert (images.shape, images.dtype) == ((COUNT, 4, 6, 3), np.uint8)
        assert np.unique(images).tolist() == [10 + severity]
        assert labels.tolist() == list(range(COUNT))
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable


def test_the_mean_is_over_severities_and_corruptions_and_every_part_is_reported(folder):
    found = corruption_error(lambda images, labels: images[0, 0, 0, 0] / 200, folder)
    assert list(found["corruptions"]) == list(CORRUPTIONS)
    assert found["corruptions"]["shot_noise"]["severities"] == pytest.approx([0.055, 0.06, 0.065, 0.07, 0.075])
    assert found["corruptions"]["shot_noise"]["error"] == pytest.approx(0.065)
    assert found["corruption_error"] == pytest.approx((70 + 3) / 200)


def test_a_missing_file_is_one_line_and_said_before_the_work(folder):
    (folder / "fog.npy").unlink()
    asked = []
    with pytest.raises(FileNotFoundError, match=r"fog\.npy: no such file") as caught:
        corruption_error(lambda images, labels: asked.append(1) or 0.0, folder)
    assert asked == []
    assert "\n" not in str(caught.value)
    (folder / "labels.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels\.npy: no such file"):
        read_corruption(folder, "frost", 1)


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("fog", np.zeros((35, 4, 6, 3)), r"fog\.npy: must be uint8 .* is float64 \(35, 4, 6, 3\)"),
        ("fog", np.zeros((36, 4, 6, 3), np.uint8), r"fog\.npy: must be uint8 \(5 N, H, W, 3\), is uint8 \(36"),
        ("fog", np.zeros((35, 3, 4, 6), np.uint8), r"fog\.npy: must be uint8"),
        ("labels", np.zeros(7, np.int64), r"labels\.npy: must be 35 whole numbers"),
        ("labels", np.zeros(35), r"labels\.npy: must be 35 whole numbers, .* float64"),
    ],
)
def test_a_file_with_something_else_is_one_line(folder, name, content, said):
    np.save(folder / f"{name}.npy", content)
    with pytest.raises(ValueError, match=said):
        read_corruption(folder, "fog", 2)


def test_other_mistakes_are_named(folder):
    (folder / "fog.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"fog\.npy: not a readable NumPy array"):
        read_corruption(folder, "fog", 1)
    for severity in (0, 6):
        with pytest.raises(ValueError, match=f"severity must be 1 to 5, got {severity}"):
            read_corruption(folder, "snow", severity)
    with pytest.raises(ValueError, match="corruptions names none"):
        corruption_error(lambda images, labels: 0.0, folder, ())
