"""The errors of a classifier of images under attack, corruption and occlusion."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from randommix_audio.evaluation import CORRUPTIONS
from recipes.images import robustness
from recipes.images.task import ImageTask
from recipes.shared.console import UserError
from tests.recipes.gratings import make_set, run_here


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a network that tells the gratings apart; its set lies beside it."""
    folder = tmp_path_factory.mktemp("robust")
    make_set(folder / "set")
    run_here(folder / "set", folder, "--epochs=20", "--mixer=none", "--name=a", "--lr=0.1")
    return folder / "a" / "last.ckpt"


@pytest.fixture(scope="module")
def corruptions(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays as published, of the 21 test images: severity s swaps the axes of the first 3 (s - 1) images."""
    folder = tmp_path_factory.mktemp("corruptions")
    images, targets = ImageTask.load(trained.parent.parent / "set").split("test")
    severities = []
    for turned in (0, 3, 6, 9, 12):
        severities.append(np.array(images))
        severities[-1][:turned] = severities[-1][:turned].swapaxes(1, 2)
    for name in CORRUPTIONS:
        np.save(folder / f"{name}.npy", np.concatenate(severities))
    np.save(folder / "labels.npy", np.tile(targets, 5))
    return folder


def report_of(trained: Path, out: Path, *arguments: str) -> dict:
    robustness.main([f"--checkpoint={trained}", f"--out={out}", "--device=cpu", *arguments])
    return json.loads(out.read_text())


def test_errors_are_shares_of_wrong_answers_and_every_corruption_and_severity_is_listed(
    trained, corruptions, tmp_path, capsys
):
    found = report_of(trained, tmp_path / "robustness.json", f"--corruptions={corruptions}")
    results = json.loads((trained.parent / "results.json").read_text())
    assert found["clean_error"] == pytest.approx(1 - results["last"]["test"]["accuracy"])
    assert found["clean_error"] <= found["fgsm_error"] <= 1
    assert 0 <= found["occlusion_error"] <= 1
    listed = found["details"]["corruptions"]
    assert tuple(listed) == CORRUPTIONS
    # a standing grating is a lying one when its axes are swapped, and one without stripes stays what it is
    wrong = [found["clean_error"] + 2 * turned / 3 / 21 for turned in (0, 3, 6, 9, 12)]
    assert listed["fog"]["severities"] == pytest.approx(wrong, abs=0.1)
    assert found["corruption_error"] == pytest.approx(np.mean([one["error"] for one in listed.values()]))
    assert (found["digest"], found["seed"], found["details"]["corruption_images"]) == (results["data"], 0, 21)
    assert found["commit"]
    for kind, times in (("clean", 1), ("fgsm", 1), ("occlusion", 1), ("corruption", 75)):
        mistakes = found["mistakes"][kind]
        assert len(mistakes) == 21
        assert sum(mistakes) / 21 / times == pytest.approx(found[f"{kind}_error"])
    said = capsys.readouterr().out
    assert f"corruption   error {100 * found['corruption_error']:6.2f} %" in said
    assert all(name in said for name in CORRUPTIONS)


def test_an_attack_makes_more_mistakes_than_there_were(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "EPS", 0.3)  # the stripes are 0.6 high
    found = report_of(trained, tmp_path / "a.json")
    assert found["fgsm_error"] > found["clean_error"] + 0.2


def test_no_batch_size_changes_a_result_and_the_seed_says_where_the_blocks_are(trained, corruptions, tmp_path):
    options = {"checkpoint": str(trained), "corruptions": str(corruptions), "device": "cpu"}
    out = tmp_path / "a.json"
    found = [robustness.measure(robustness.Options(**options, batch_size=size), out) for size in (5, 21)]
    assert found[0] == found[1]


def test_without_corruptions_their_error_is_null_and_said_to_be_missing(trained, tmp_path, capsys):
    found = report_of(trained, tmp_path / "a.json")
    assert found["corruption_error"] is None
    assert "corruption   error not measured: see --corruptions" in capsys.readouterr().out


def test_arrays_that_were_made_here_are_said_not_to_be_the_published_ones(trained, corruptions, tmp_path, capsys):
    shutil.copytree(corruptions, tmp_path / "made")
    (tmp_path / "made" / "made.json").write_text('{"notice": "drawn by hand"}')
    limit = "--limit_corruption_images=1"
    assert (
        report_of(trained, tmp_path / "a.json", limit, f"--corruptions={corruptions}")["details"]["corruptions_made"]
        is None
    )
    found = report_of(trained, tmp_path / "b.json", limit, f"--corruptions={tmp_path / 'made'}")
    assert found["details"]["corruptions_made"] == "drawn by hand"
    assert "corruptions: drawn by hand" in capsys.readouterr().out


def test_a_limit_takes_images_spread_over_the_set_and_is_recorded(trained, corruptions, tmp_path):
    whole = report_of(trained, tmp_path / "a.json", f"--corruptions={corruptions}")["mistakes"]["corruption"]
    limit = ["--limit_corruption_images=3", f"--corruptions={corruptions}"]
    found = report_of(trained, tmp_path / "b.json", *limit)
    assert (found["details"]["limit_corruption_images"], found["details"]["corruption_images"]) == (3, 3)
    assert found["mistakes"]["corruption"] == [whole[row] for row in (0, 7, 14)]


def test_a_test_that_is_there_is_neither_repeated_nor_replaced_by_one_that_says_less(
    trained, corruptions, tmp_path, capsys
):
    out, arrays = tmp_path / "a.json", f"--corruptions={corruptions}"
    first = report_of(trained, out, arrays)
    out.write_text(json.dumps({**first, "commit": "mark"}))
    assert report_of(trained, out, arrays, "--batch_size=5")["commit"] == "mark"
    assert "holds this test already" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"a\.json: was made with another corruptions; --again true replaces it"):
        report_of(trained, out)
    assert report_of(trained, out, "--again=true")["corruption_error"] is None


def test_arrays_made_of_other_images_are_refused(trained, corruptions, tmp_path):
    other = shutil.copytree(corruptions, tmp_path / "other")
    np.save(other / "labels.npy", np.roll(np.load(corruptions / "labels.npy"), 1))
    with pytest.raises(UserError, match="other: its labels are not those of the test images"):
        report_of(trained, tmp_path / "a.json", f"--corruptions={other}")
    (other / "made.json").write_text('{"labels": ["x", "y", "z"]}')
    with pytest.raises(UserError, match="other: was made of images with other labels"):
        report_of(trained, tmp_path / "a.json", f"--corruptions={other}")


def test_the_errors_stand_beside_the_checkpoint_unless_told_otherwise(trained, capsys):
    robustness.main([f"--checkpoint={trained}", "--device=cpu"])
    assert (trained.parent / "robustness.json").is_file()
    assert "errors: " in capsys.readouterr().out


def test_what_does_not_fit_is_one_line_before_the_work(trained, corruptions, tmp_path):
    for file in corruptions.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    main = lambda *more: robustness.main([f"--checkpoint={trained}", "--device=cpu", *more])  # noqa: E731
    np.save(tmp_path / "labels.npy", np.full(5 * 21, 3, dtype=np.uint8))
    with pytest.raises(UserError, match="has labels up to 3, the checkpoint 3 classes"):
        main(f"--corruptions={tmp_path}")
    (tmp_path / "jpeg_compression.npy").unlink()
    np.save(tmp_path / "labels.npy", np.load(corruptions / "labels.npy"))
    with pytest.raises(FileNotFoundError, match=r"jpeg_compression\.npy: no such file") as caught:
        main(f"--corruptions={tmp_path}")
    assert "\n" not in str(caught.value)
    np.save(tmp_path / "gaussian_noise.npy", np.zeros((5 * 21, 12, 16, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="gaussian_noise has images of 12 x 16, the checkpoint takes 12 x 12"):
        main(f"--corruptions={tmp_path}")
    with pytest.raises(UserError, match="limit_corruption_images needs --corruptions"):
        main("--limit_corruption_images=3")
    with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
        main("--batch_size=0")
    other = make_set(tmp_path / "other", size=10)
    with pytest.raises(UserError, match=r"other: has images of 10 x 10; .* was trained on 12 x 12"):
        main(f"--data={other}")
