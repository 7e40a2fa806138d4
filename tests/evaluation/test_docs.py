"""What docs/evaluation.md says is so."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from randommix_audio import LogMel
from randommix_audio.evaluation import CORRUPTIONS, GROUPS, speech_conditions

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def numbers(text: str) -> list[float]:
    plain = re.sub(r"RT60|300 to 3400|with 8 bits", "", text)
    return [float(found) for found in re.findall(r"[-+]?\d+(?:\.\d+)?", plain)]


def test_the_table_names_every_group_with_its_severities_and_its_mean():
    listed = {}
    for names, severities, quick, mean in re.findall(r"^\| (`\w.*?) \| (.*?) \| (.*?) \| (.*?) ?\|$", PAGE, re.M):
        for name in re.findall(r"`(\w+)`", names):
            listed[name] = (severities, quick, mean)
    for name, group in GROUPS.items():
        severities, quick, mean = listed[name]
        expected = [] if name == "telephone" else list(group.severities)
        assert sorted(numbers(severities)) == sorted(expected), name
        assert sorted(numbers(quick)) == sorted(group.quick), name
        assert mean == (f"`{group.mean}_error`" if group.mean else ""), name
    full, quick_ones = map(int, re.search(r"(\d+) conditions \((\d+) quick ones\)", PAGE).groups())
    assert (full, quick_ones) == (len(speech_conditions()), len(speech_conditions(quick=True)))


@pytest.mark.parametrize("number", range(2))
def test_the_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "CIFAR-100-C").mkdir(parents=True)
    for name in CORRUPTIONS:
        np.save(tmp_path / "data" / "CIFAR-100-C" / f"{name}.npy", np.zeros((10, 4, 4, 3), np.uint8))
    np.save(tmp_path / "data" / "CIFAR-100-C" / "labels.npy", np.zeros(10, np.int64))
    torch.manual_seed(0)
    speech = {
        "wave": torch.randn(6, 8000).clamp(-1, 1),
        "target": torch.arange(6) % 2,
        "speaker": torch.arange(6) % 3,
        "background": [torch.randn(9000)],
        "logmel": LogMel(8000, n_mels=12),
        "network": nn.Sequential(nn.Flatten(1), nn.Linear(12 * 51, 2)),
    }
    pictures = {
        "network": nn.Sequential(nn.Flatten(1), nn.Linear(3 * 32 * 20, 2)),
        "mean": (0.5,) * 3,
        "std": (0.2,) * 3,
        "x": torch.rand(4, 3, 32, 20),
        "target": torch.arange(4) % 2,
        "index": torch.arange(4),
        "error_of": lambda images, labels: 0.25,
    }
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 2
    names = (speech, pictures)[number]
    exec(blocks[number], names)
    assert 0 <= names["found"][("noise_error", "corruption_error")[number]] <= 1
