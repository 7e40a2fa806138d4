import pytest
import torch
from torch import nn
from torch.nn import functional as F

from randommix_audio.evaluation import Normalized, fgsm

EPS = 8 / 255


def network(channels: int = 3, classes: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    # tanh, so that no pixel has a gradient of exactly zero
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(1),
        nn.Linear(8 * 6 * 5, classes),
    )  # fmt: skip


def batch(rows: int = 5, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(rows, channels, 6, 5, generator=generator)
    return x, torch.arange(rows) % 4


@pytest.mark.parametrize("rows, channels", [(1, 1), (5, 3)])
def test_every_pixel_moves_by_eps_or_to_the_border_and_the_loss_rises(rows, channels):
    model, (x, target) = network(channels), batch(rows, channels)
    attacked = fgsm(model, x, target, EPS)
    up, down = (x + EPS).clamp(max=1), (x - EPS).clamp(min=0)
    assert ((attacked - up).abs().minimum((attacked - down).abs()) < 1e-6).all()
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    model.eval()
    loss = F.cross_entropy(model(x), target, reduction="none")
    assert (F.cross_entropy(model(attacked), target, reduction="none") > loss).all()
    assert not attacked.requires_grad


def test_it_is_the_formula_of_the_paper():
    model, (x, target) = network().eval(), batch()
    point = x.clone().requires_grad_(True)
    F.cross_entropy(model(point), target).backward()
    torch.testing.assert_close(fgsm(model, x, target, 0.1, low=None, high=None), x + 0.1 * point.grad.sign())


def test_neither_gradients_nor_modes_nor_statistics_of_the_model_change():
    model, (x, target) = network(), batch()
    model[1].eval()  # a frozen layer in a model that trains
    F.cross_entropy(model(x), target).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    fgsm(model, x, target, EPS)
    assert [m.training for m in model] == [True, False, True, True, True, True]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=0)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_modes_come_back_when_the_model_fails():
    model, (x, target) = network(), batch()
    with pytest.raises(RuntimeError):
        fgsm(model, x[..., :-1], target, EPS)
    assert model.training


def test_a_row_does_not_depend_on_the_others_of_its_batch():
    model, (x, target) = network(), batch(7)
    whole = fgsm(model, x, target, EPS)
    parts = [fgsm(model, x[rows], target[rows], EPS) for rows in (slice(0, 1), slice(1, 4), slice(4, 7))]
    torch.testing.assert_close(torch.cat(parts), whole)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode):
    model, (x, target) = network(), batch()
    expected = fgsm(model, x, target, EPS)
    with mode():
        torch.testing.assert_close(fgsm(model, x * 1, target * 1, EPS), expected)
        assert not torch.is_grad_enabled()


def test_eps_is_in_pixels_whatever_the_normalisation_inside():
    model, (x, target) = network(), batch()
    for std in ((0.1, 0.2, 0.3), (1.0, 2.0, 9.0)):
        attacked = fgsm(Normalized(model, (0.5, 0.4, 0.3), std), x, target, EPS, low=None, high=None)
        torch.testing.assert_close((attacked - x).abs(), torch.full_like(x, EPS))


def test_normalisation_goes_by_channel():
    x = torch.rand(2, 3, 4, 5)
    seen = Normalized(nn.Identity(), (0.1, 0.2, 0.3), (1.0, 2.0, 4.0))(x)
    for channel, (mean, std) in enumerate(((0.1, 1), (0.2, 2), (0.3, 4))):
        torch.testing.assert_close(seen[:, channel], (x[:, channel] - mean) / std)


def test_a_normalised_model_has_the_state_of_the_model_alone():
    assert [f"model.{name}" for name in network().state_dict()] == list(
        Normalized(network(), (0, 0, 0), (1, 1, 1)).state_dict()
    )


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="mean and std need one value for each channel, got 3 and 1"):
        Normalized(network(), (0.5, 0.5, 0.5), (1.0,))
    with pytest.raises(ValueError, match="std must be above 0"):
        Normalized(network(), (0.5,), (0.0,))
    with pytest.raises(ValueError, match=r"x must be \(B, 3, H, W\), got \(2, 1, 6, 5\)"):
        Normalized(network(), (0.5,) * 3, (1.0,) * 3)(torch.rand(2, 1, 6, 5))
    with pytest.raises(ValueError, match="eps must not be negative"):
        fgsm(network(), *batch(), -0.1)
    with pytest.raises(ValueError, match="floating point"):
        fgsm(network(), torch.zeros(1, 3, 6, 5, dtype=torch.uint8), torch.zeros(1).long(), EPS)
