"""The README's code runs as it stands there, with stand-ins for the user's data and model."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import randommix_audio as rma

ROOT = Path(__file__).parent.parent
CLASSES = 4


SYMBOLS = 6


class Encoder(torch.nn.Module):
    """A quarter as many frames of scores of symbols, (B, T', V), for (B, T, F) features."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.LazyConv1d(SYMBOLS, 1, stride=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.mT).mT


class LayeredModel(torch.nn.Module):
    """Scores of a batch of (B, F, T) features, with the layers that the examples name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.layer1, self.layer2 = (torch.nn.LazyConv2d(3, 1) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer2(self.layer1(self.conv1(x[:, None]))).mean((1, 3))[:, :CLASSES]


class KeywordModel(torch.nn.Module):
    """Scores of a batch of (B, F, T) features or (B, 3, H, W) images."""

    def __init__(self, per_frame: bool = False) -> None:
        super().__init__()
        self.per_frame = per_frame
        self.head = torch.nn.LazyConv1d(CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.head(x)
        return scores if self.per_frame else scores.mean(2)


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_example_runs_as_typed():
    (code,) = python_blocks("README.md")
    keywords, rest = code.replace('"cuda"', '"cpu"').replace(".cuda()", "").split("\n# sound events", 1)
    wave = torch.randn(5, 16000) / 10
    lengths = torch.tensor([16000, 9000, 12000, 16000, 4000])
    loader = [(wave, lengths, torch.tensor([0, 3, 1, 2, 2]))]
    names = {"F": F, "torch": torch, "model": KeywordModel(), "loader": loader}
    exec(keywords, names)
    assert names["loss"].requires_grad

    names |= {"model": KeywordModel(per_frame=True), "mixer": names["rma"].RandomMix(), "x": torch.randn(5, 80, 100)}
    names |= {"events": (torch.rand(5, CLASSES, 100) > 0.5).float(), "feats": torch.randn(5, 120, 80)}
    names |= {"frames": torch.tensor([120, 90, 60, 120, 33]), "images": torch.rand(5, 3, 32, 48)}
    names |= {"encoder": Encoder(), "text": torch.randint(1, SYMBOLS, (5, 4)), "text_lengths": torch.full((5,), 3)}
    exec("# sound events" + rest, names)
    assert names["loss"].requires_grad
    assert names["plan"].batch == 5


def test_the_examples_of_every_method_run_one_after_the_other():
    frames = torch.tensor([100, 90, 60, 100, 33])
    names = {"F": F, "torch": torch, "rma": rma, "logmel": rma.LogMel.preset("whisper"), "frames": frames}
    names |= {"x": torch.randn(5, 80, 100), "model": LayeredModel(), "target": torch.tensor([0, 3, 1, 2, 2])}
    names |= {"feats": torch.randn(5, 100, 80), "encoder": Encoder()}
    names |= {"wave": torch.randn(5, 16000) / 10, "samples": 160 * frames}
    names |= {"text": torch.randint(1, SYMBOLS, (5, 4)), "text_lengths": torch.full((5,), 3)}
    methods = []
    for code in python_blocks("docs/mixing.md"):
        names.pop("loss", None)
        exec(code, names)
        assert "loss" not in names or names["loss"].requires_grad
        methods.append(names["plan"].method)
    assert methods[:5] == ["cutout", "saliencymix", "puzzlemix", "comixup", "manifoldmix"]
    names["hidden"].draw(names["x"])


def test_the_lists_of_methods_name_all_and_no_others():
    for page in ("README.md", "docs/mixing.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        table = re.search(r"\| name \| what it does .*?\n\n", text, re.DOTALL)
        named = {
            name for row in table[0].strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
        }
        assert named | {"none"} == set(rma.MIXERS), page


def test_each_method_with_a_section_of_its_own_has_its_picture_there():
    text = (ROOT / "docs/mixing.md").read_text(encoding="utf-8")
    names = re.findall(r"\[`(\w+)`\]\(#", text)
    assert len(names) == 6
    for name in names:
        assert f"](pictures/{name}.png)" in text, name


@pytest.mark.parametrize("page", ["docs/mixing.md", "docs/features.md", "docs/data.md"])
def test_python_in_the_docs_is_python(page):
    for code in python_blocks(page):
        compile(code, page, "exec")


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*/*.md")]
    missing = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not missing
