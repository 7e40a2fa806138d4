"""The README's code runs as it stands there, with stand-ins for the user's data and model."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parent.parent
CLASSES = 4


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
    exec("# sound events" + rest, names)
    assert names["plan"].batch == 5


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
