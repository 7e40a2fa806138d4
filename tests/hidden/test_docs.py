"""The page about hidden layers runs as it stands there, and what it states is so."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from randommix_audio.geometry import Size
from randommix_audio.geometry.patches import patch_rate
from tests.hidden.test_patches import expected_part

PAGE = (Path(__file__).parents[2] / "docs" / "hidden.md").read_text(encoding="utf-8")


class Model(nn.Module):
    """The layers that the page names, for (B, F, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
        self.layer2 = nn.Conv2d(6, 8, 3, 2, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer2(self.layer1(self.conv1(x.unsqueeze(1)))).mean((2, 3)))


def test_the_examples_train(monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: real(model, backend="eager", **options))
    loader = [(torch.randn(4, 20, 33), torch.tensor([33, 20, 7, 30]), torch.tensor([0, 2, 1, 1]))] * 3
    model = Model()
    names = {"model": model, "loader": loader, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    before = model.head.weight.clone()
    first, second, third = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(first, names)
    assert not torch.equal(model.head.weight, before)
    assert not model._forward_pre_hooks
    exec(second, names)
    assert {names["hidden"].draw(loader[0][0]).layer for _ in range(60)} == {"input", "conv1", "layer1"}
    names["hidden"].detach()
    exec(third, names)
    assert names["plan"].layer in ("conv1", "layer1")


def test_the_table_of_changed_parts_is_right():
    rows = re.findall(r"\| (\d+) x (\d+) \| ([\d.]+) \| ([\d.]+) \|", PAGE)
    assert len(rows) == 4
    for freq, time, soft, hard in rows:
        size = Size(1, int(freq), int(time))
        for gamma, stated in ((0.75, soft), (0.5, hard)):
            part = expected_part(patch_rate(gamma, 7, size) / 2**32, 7, size.freq, size.time)
            assert float(stated) == pytest.approx(part, abs=6e-4)
