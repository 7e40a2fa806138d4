"""The network of the recipes."""

import pytest
import torch

from recipes.shared.models import seeded
from recipes.shared.preact_resnet import count_parameters, preact_resnet18


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
