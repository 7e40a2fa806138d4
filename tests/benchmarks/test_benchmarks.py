"""The measurements run, write what they promise, and their figures mean what the tables say. No time is judged."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import decoding, feeding, growth, training
from benchmarks.__main__ import SPEED, available, chosen

ROOT = Path(__file__).parents[2]


def lines(table: Path) -> dict[str, list[str]]:
    """Cells of each line of a Markdown table by the first one."""
    found = [line.strip("|\n").split("|") for line in table.read_text().splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in found}


def test_a_slope_is_the_power_by_which_time_grows_in_the_upper_half():
    sizes = [1, 2, 4, 8, 16]
    assert growth.slope(sizes, [3.0 * size for size in sizes]) == pytest.approx(1)
    assert growth.slope(sizes, [size**2.0 for size in sizes]) == pytest.approx(2)
    assert growth.slope(sizes, [99, 99, 4, 8, 16]) == pytest.approx(1)
    assert growth.slope([1, 2], [1, 8]) == pytest.approx(3)


def test_growth_writes_a_table_for_each_axis_and_a_picture(tmp_path):
    command = f"--device cpu --rounds 1 --rows 2 3 --frames 7 5 --seconds --picture --out {tmp_path}"
    growth.main(command.split())
    facts = json.loads((tmp_path / "growth.json").read_text())["cpu"]
    assert list(facts) == ["rows", "frames"]
    assert facts["frames"]["sizes"] == [5, 7]
    named = {"copy", *(f"{method} per {per}" for method in growth.METHODS for per in ("batch", "row"))}
    assert set(facts["rows"]["seconds"]) == set(facts["frames"]["slopes"]) == named
    assert lines(tmp_path / "growth.md").keys() >= named
    assert (tmp_path / "growth_cpu.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        growth.main(["--rows", "4"])


def test_growth_of_log_mel_is_that_of_the_front_end():
    works = growth.AXES["seconds"].works(1, torch.device("cpu"))
    assert list(works) == ["LogMel", "LogMel of int16", "torch.stft alone"]
    torch.testing.assert_close(works["LogMel"](), works["LogMel of int16"]())
    assert works["LogMel"]().shape == (16, 80, 101)


def test_feeding_compares_every_way_with_the_resident_bank(tmp_path):
    command = f"--device cpu --rounds 1 --clips 7 --batch 3 --seconds 0.2 --workers 0 1 --out {tmp_path}"
    feeding.main(command.split())
    found = lines(tmp_path / "feeding.md")
    files = {f"{kind} files, {count}" for kind in ("WAV", "FLAC") for count in ("0 workers", "1 worker")}
    assert found.keys() >= {"bank, resident", "bank, memory-mapped", *files}
    assert found["bank, resident"][1] == "1.00 (1.00 to 1.00)"


def test_every_way_of_feeding_gives_all_clips(tmp_path):
    class Options:
        clips, batch, seconds, workers = 7, 3, 0.2, [0]

    for epoch in feeding.ways(tmp_path, Options, torch.device("cpu")).values():
        assert [x.shape[0] for x in epoch(0)] == [3, 3, 1]


def test_decoding_times_epochs_of_all_images_by_the_number_of_workers(tmp_path):
    decoding.main(f"--rounds 2 --images 40 --batch 16 --workers 0 1 --out {tmp_path}".split())
    facts = json.loads((tmp_path / "decoding.json").read_text())
    assert {workers: len(seconds) for workers, seconds in facts["seconds"].items()} == {"0": 2, "1": 2}
    text = (tmp_path / "decoding.md").read_text()
    size = int(text.split(" pixels, ")[1].split(" kB")[0])
    assert 40 < size < 250  # ImageNet's files have 110 kB on average


def test_training_measures_the_recipe_with_and_without_randommix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = (
        f"--device cpu --rounds 2 --steps 1 --batch 6 --width 2 --configuration paper strong --out {tmp_path / 'out'}"
    )
    training.main(command.split())
    facts = json.loads(Path("out/training.json").read_text())["cpu"]
    assert {name: found["features in every step"] for name, found in facts.items()} == {"paper": False, "strong": True}
    for found in facts.values():
        assert "mixing" not in found["none"]
        assert found["per batch"]["mixing"] > 0
        assert found["per batch"]["of the processor"] > 0
        assert len(found["per row"]["cost"]) == 3
        assert len(found["per row"]["seconds"]) == len(found["per row"]["without"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_page_names_every_benchmark():
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    told = [line.split("`")[1].split()[0] for line in page.splitlines() if line.startswith("| `")]
    names = available()
    assert {chosen(name, list(names)) for name in told} == set(names)
    assert set(SPEED) <= set(names)
