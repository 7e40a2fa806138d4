"""FGSM, the attack of the RandomMix paper's robustness experiment (section 3.2.1)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Normalized(nn.Module):
    """A network behind the normalisation of its input, so that attacks and occlusion work on pixels in [0, 1].

    Args:
        model: Takes normalised images (B, C, H, W).
        mean: Of each channel, in the units of the pixels.
        std: Of each channel, above 0.

    Raises:
        ValueError: If mean and std differ in length, are empty, or a std is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not len(mean):
            raise ValueError(f"mean and std need one value for each channel, got {len(mean)} and {len(std)}")
        if not all(value > 0 for value in std):
            raise ValueError(f"std must be above 0 for each channel, got {list(std)}")
        self.model = model
        device = next((parameter.device for parameter in model.parameters()), None)
        for name, values in (("mean", mean), ("std", std)):
            # not persistent: the wrapped model's checkpoints stay what they are
            self.register_buffer(name, torch.tensor(values, device=device)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """What the model gives for pixels x (B, C, H, W) in [0, 1].

        Raises:
            ValueError: If x has another number of channels than mean.
        """
        if x.ndim != 4 or x.shape[1] != len(self.mean):
            raise ValueError(f"x must be (B, {len(self.mean)}, H, W), got {tuple(x.shape)}")
        return self.model((x - self.mean) / self.std)


def fgsm(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    eps: float,
    *,
    low: float | None = 0.0,
    high: float | None = 1.0,
    loss: Callable[..., Tensor] = F.cross_entropy,
) -> Tensor:
    """The fast gradient sign method: x + eps sign(gradient of the loss in x), kept within low and high.

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015, section 4. The
    RandomMix paper takes eps = 8/255 on pixels in [0, 1], with the normalisation inside the model: see `Normalized`.

    The model is in eval mode meanwhile and in its former mode afterwards; gradients of its parameters are not touched.
    Losses are summed over rows, so that a row's result does not depend on the others in its batch.

    Args:
        model: Gives logits for x.
        x: Input with the batch first, in the units of eps, floating point.
        target: What loss takes beside the logits, mostly (B,) classes.
        eps: How far each value moves, at least 0. A value whose gradient is exactly 0 stays.
        low: Least value of the result; None is no limit.
        high: Largest value of the result; None is no limit.
        loss: Called as loss(logits, target, reduction="sum").

    Returns:
        The attacked input, detached, of the shape, dtype and device of x.

    Raises:
        ValueError: If eps is negative or x is not floating point.
    """
    return stepped(x, gradient_sign(model, x, target, loss=loss), eps, low=low, high=high)


def gradient_sign(
    model: nn.Module, x: Tensor, target: Tensor, *, loss: Callable[..., Tensor] = F.cross_entropy
) -> Tensor:
    """The sign of the gradient of the loss in x: the direction of `fgsm`, the same for every eps.

    Args and conditions are those of `fgsm`.

    Returns:
        -1, 0 or 1 of the shape, dtype and device of x.

    Raises:
        ValueError: If x is not floating point.
    """
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point to have a gradient, got {x.dtype}")
    # Callers sit in no_grad or inference_mode as a rule, and there is no gradient in either.
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        point = x.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(model(point), target.clone(), reduction="sum"), point)
    return gradient.sign()


def stepped(x: Tensor, direction: Tensor, eps: float, *, low: float | None = 0.0, high: float | None = 1.0) -> Tensor:
    """Move x by eps in a direction of `gradient_sign` and keep it within low and high.

    Raises:
        ValueError: If eps is negative.
    """
    if not eps >= 0:
        raise ValueError(f"eps must not be negative, got {eps}")
    moved = x.detach() + eps * direction
    return moved if low is None and high is None else moved.clamp(low, high)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for the time being; every module gets its own mode back, frozen ones too."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
