"""The example of each toolkit runs as it stands, and is short."""

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert not re.search(r"\bnan\b", said)
    assert "loss" in said or "tensor" in said


def test_examples_are_short():
    assert EXAMPLES
    assert {path.stem: lines for path in EXAMPLES if (lines := len(path.read_text().splitlines())) > 40} == {}
