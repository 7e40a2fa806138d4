"""The network of the recipes."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from recipes.shared.models import seeded
from recipes.shared.preact_resnet import PreActBlock, count_parameters, preact_resnet18
from tests.recipes.conftest import ROOT


def test_width_64_has_the_11_17_million_parameters_of_the_paper():
    assert round(count_parameters(preact_resnet18(10, channels=3)) / 1e6, 2) == 11.17


@pytest.mark.parametrize("channels, height, width", [(1, 32, 32), (3, 32, 32), (1, 40, 101), (1, 7, 3), (1, 1, 5)])
def test_any_height_and_width_give_one_logit_for_each_class(channels, height, width):
    model = preact_resnet18(12, channels=channels, width=4).eval()
    assert model(torch.randn(1, channels, height, width)).shape == (1, 12)


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_s_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (seeded(seed, 12, width=4) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.stem.weight, other.stem.weight)


def test_every_parameter_gets_a_gradient():
    model = preact_resnet18(5, width=4)
    model(torch.randn(3, 1, 9, 14)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_width_of_zero_is_named():
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        preact_resnet18(10, width=0)


@pytest.mark.parametrize("stride, height, width", [(1, 6, 9), (2, 6, 9), (2, 7, 12)])
def test_a_block_that_changes_its_shape_adds_the_strided_1x1_convolution_of_the_paper(stride, height, width):
    block = PreActBlock(3, 5, stride)
    x = torch.randn(2, 3, height, width)
    active = F.relu(block.norm1(x))
    residual = block.conv2(F.relu(block.norm2(block.conv1(active))))
    shortcut = F.conv2d(active, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), residual + shortcut)


NARROW = """
import torch
from recipes.shared.preact_resnet import preact_resnet18
torch.set_num_threads(1)
torch.manual_seed(0)
model = preact_resnet18(3, channels=3, width=4)
x = torch.randn(16, 3, 12, 12)
found = []
for layout in (torch.contiguous_format, torch.channels_last):
    model.zero_grad()
    model.to(memory_format=layout)(x.contiguous(memory_format=layout)).square().sum().backward()
    found.append([p.grad.clone() for p in model.parameters()])
for one, other in zip(*found, strict=True):
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
"""


def test_a_narrow_network_with_channels_last_has_its_gradients_on_cpus_without_avx512():
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", NARROW], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
