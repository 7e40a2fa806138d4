"""The report of AN4's runs: which differences are decided, and which runs cannot be compared."""

import json
from pathlib import Path

import numpy as np
import pytest

from recipes.an4 import report
from recipes.shared.console import UserError


def result(folder: Path, setting: str, seed: int, wrong: list[int], **config: object) -> str:
    rows = [{"word_errors": n, "words": 10, "speaker": f"s{i // 2}"} for i, n in enumerate(wrong)]
    rate = sum(wrong) / (10 * len(wrong))
    test = {"wer": rate, "cer": rate / 2, "words": 10 * len(wrong), "utterances": len(wrong), "transcripts": rows}
    both = {"test": test, "validation": {"wer": rate, "cer": rate}}
    about = {"setting": setting, "seed": seed, "data": "d", "commit": "abc", "parameters": 9, "epochs": 2}
    options = {"epochs": 2, "lr": 0.1, "mixer": setting, "seed": seed, **config}
    folder.mkdir()
    whole = {**about, "clips_per_second": 5.0, "config": options, "last": both, "best": both, "average": both}
    (folder / "results.json").write_text(json.dumps(whole))
    return str(folder)


def test_the_report_says_which_differences_are_decided(tmp_path, capsys):
    random = np.random.default_rng(0)
    base = [int(n) for n in random.integers(2, 5, 100)]
    better, alike = [max(0, n - 1) for n in base], [int(n) for n in random.permutation(base)]
    folders = []
    for seed in range(2):
        for setting, wrong in (("none", base), ("mixup", better), ("specaugment", alike)):
            folders.append(result(tmp_path / f"{setting}{seed}", setting, seed, wrong))
    (tmp_path / "unfinished").mkdir()
    report.main([*folders, str(tmp_path / "unfinished")])
    said = capsys.readouterr().out
    assert f"| none | 2 | {sum(base) / 10:.2f} ± 0.00 |" in said
    assert said.index("| none |") < said.index("| mixup |") < said.index("| specaugment |")
    lines = [line for line in said.splitlines() if line.startswith("- ")]
    assert len(lines) == 3
    assert lines[0].startswith("- mixup against none: -10.00 points (-10.00 to -10.00), fewer errors")
    assert lines[1].startswith("- specaugment against none: +0.00 points")
    assert lines[1].endswith("not decided")
    assert "not finished" in said


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    one = result(tmp_path / "a", "none", 0, [1, 2])
    with pytest.raises(UserError, match="a second run of none with seed 0"):
        report.main([one, result(tmp_path / "b", "none", 0, [1, 2])])
    with pytest.raises(UserError, match=r"c: has lr 0.2, but .*a 0.1"):
        report.main([one, result(tmp_path / "c", "mixup", 0, [1, 2], lr=0.2)])
    with pytest.raises(UserError, match=r"d: has mixer x, but .*a none"):
        report.main([one, result(tmp_path / "d", "none", 1, [1, 2], mixer="x")])
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "results.json").write_text("{}")
    with pytest.raises(UserError, match=r"e.results.json: not the results of a run of this recipe \(lacks"):
        report.main([str(tmp_path / "e")])
    with pytest.raises(UserError, match="none of the folders"):
        report.main([str(tmp_path)])
