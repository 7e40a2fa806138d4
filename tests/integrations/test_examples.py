"""The example of each toolkit runs as it stands, and is short; so does what the page about them quotes."""

import re
import runpy
import sys
from pathlib import Path

import hydra
import pytest
from hyperpyyaml import load_hyperpyyaml
from omegaconf import OmegaConf

import randommix_audio as rma

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert not re.search(r"\bnan\b|\bloss 0\.0+\b", said)
    assert "loss" in said or "tensor" in said


def test_examples_are_short():
    assert EXAMPLES
    assert {path.stem: lines for path in EXAMPLES if (lines := len(path.read_text().splitlines())) > 40} == {}


def blocks(language):
    page = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_python_on_the_page_is_python():
    assert len(blocks("python")) > 8
    for code in blocks("python"):
        compile(code, "docs/integrations.md", "exec")


def test_configurations_on_the_page_build_mixers():
    recipe, hydra_config, hyperpyyaml = blocks("yaml")
    assert isinstance(load_hyperpyyaml(recipe)["mix"].mixer, rma.RandomMix)
    assert hydra.utils.instantiate(OmegaConf.create(hydra_config)).mixer.current_p == 1.0
    assert load_hyperpyyaml(hyperpyyaml)["mixer"].candidates[1].alpha == 0.5


def test_every_example_is_on_the_page():
    page = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES if f"../examples/{path.name}" not in page] == []
