"""Which parts of a batch matter: saliency maps (B, F, T) for the methods that follow them.

What `plan(saliency=...)` takes: a tensor, the name of a kind ("energy", "spectral_residual"), or a callable of the
batch such as `LossGradient`. Only proportions within a row count.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from randommix_audio.layout import LAYOUTS, resolve_layout, to_bcft

Saliency = Tensor | str | Callable[[Tensor], Tensor]

GRID = 64
"""The most points along an axis on which the spectral residual is computed, as in its paper."""


class SaliencyOfBatch:
    """The saliency of a batch, computed when first asked for and then kept.

    Args:
        x: The batch as the user gave it.
        layout: Its axis order.
        lengths: (B,) valid frames; None: all.
        given: What `plan` was given.

    Raises:
        TypeError: If what was given is no tensor, name or callable.
        ValueError: If a tensor has another shape, or there is no such kind.
    """

    def __init__(self, x: Tensor, layout: str, lengths: Tensor | None, given: Saliency | None) -> None:
        self.x, self.layout, self.lengths, self.given = x, layout, lengths, given
        if isinstance(given, str):
            if given not in KINDS:
                raise ValueError(f"saliency must be one of {', '.join(KINDS)}, a tensor or a callable; got {given!r}")
        elif isinstance(given, Tensor):
            self._check(given)
        elif given is not None and not callable(given):
            raise TypeError(f"saliency must be a (B, F, T) tensor, a name or a callable, got {type(given).__name__}")
        device = x.device.type
        # Asked for a callable alone: the question takes as long as a draw.
        self._autocast = (
            (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) if callable(given) else None
        )
        self._kept: dict[str, Tensor] = {}

    def map(self, kind: str = "energy") -> Tensor:
        """(B, F, T) float32, finite, at least 0, and 0 beyond the valid frames.

        Negative, infinite and undefined values count as 0.

        Args:
            kind: What the mixer was made with; it counts where `plan` was given nothing.

        Raises:
            ValueError: If what a callable gave has another shape.
        """
        key = kind if self.given is None else ""  # what was given is the same for every method of the plan
        if key not in self._kept:
            self._kept[key] = self._cleaned(self._raw(kind))
        return self._kept[key]

    def unread(self) -> "SaliencyOfBatch":
        """A stand-in that is 0 everywhere, for rows that are drawn and then used nowhere."""
        batch, _, freq, time = to_bcft(self.x, self.layout).shape
        nothing = torch.zeros(1, device=self.x.device).expand(batch, freq, time)
        return SaliencyOfBatch(self.x, self.layout, self.lengths, nothing)

    def _raw(self, kind: str) -> Tensor:
        given = self.given
        if isinstance(given, Tensor):
            return given
        if given is None or isinstance(given, str):
            return KINDS[given or kind](to_bcft(self.x.detach(), self.layout), self.lengths)
        assert self._autocast is not None
        enabled, dtype = self._autocast
        # The plan is drawn without gradients or autocast; a callable that runs a model wants both as its user has them.
        with torch.enable_grad(), torch.autocast(self.x.device.type, dtype, enabled):
            if isinstance(given, LossGradient):
                return given(self.x.detach(), self.layout)
            return given(self.x.detach())

    def _cleaned(self, raw: Tensor) -> Tensor:
        self._check(raw)
        device = self.x.device
        # A copy to the CPU must be waited for, one to an accelerator must not.
        values = raw.detach().to(device, non_blocking=device.type != "cpu").float()
        values = torch.nan_to_num(values, 0.0, 0.0, 0.0).clamp(min=0)
        return values if self.lengths is None else values.masked_fill(_beyond(self.lengths, values.shape[2])[:, 0], 0.0)

    def _check(self, raw: Any) -> None:
        batch, _, freq, time = to_bcft(self.x, self.layout).shape
        if not isinstance(raw, Tensor) or raw.shape != (batch, freq, time):
            found = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            raise ValueError(f"saliency must be (B, F, T) = {(batch, freq, time)}, got {found}")


def energy(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """How far each bin lies above the lowest value of its row: what is loud is salient.

    A level above the row's own floor is at least 0 and means the same for power, logarithms and scaled features. A
    batch of a single bin is a waveform, and its energy is the square of each sample.

    Args:
        x: (B, C, F, T).
        lengths: (B,) valid frames; None: all.

    Returns:
        (B, F, T) float32, mean over channels; what stands beyond the valid frames has no meaning.
    """
    values = x.float()
    if x.shape[2] == 1:
        return values.square().mean(1)
    counted = values.masked_fill(~values.isfinite(), float("inf"))  # the logarithm of silence is no floor
    if lengths is not None:
        counted = counted.masked_fill(_beyond(lengths, x.shape[3]), float("inf"))
    return values.mean(1) - counted.amin((1, 2, 3)).view(-1, 1, 1)


def spectral_residual(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """What is unexpected in the spectrum of a picture: its log amplitude less that of its neighbourhood.

    Hou and Zhang 2007, "Saliency detection: A spectral residual approach", section 2.3, of the picture that `energy`
    gives. As in the paper the picture is made smaller first, to at most 64 points along each axis, and saliency is
    smoothed by a Gaussian of 8 of these points. Here only the valid frames are looked at, so that a row has the same
    saliency however much it is padded, and they go on in their mirror image, because the jump from the end of a clip to
    its start would stand out most.

    Args:
        x: (B, C, F, T).
        lengths: (B,) valid frames; None: all.

    Returns:
        (B, F, T) float32, at least 0; what stands beyond the valid frames has no meaning.
    """
    batch, _, freq, time = x.shape
    valid = torch.full((batch,), time, device=x.device) if lengths is None else lengths
    level = torch.nan_to_num(energy(x, lengths), 0.0, 0.0, 0.0).clamp(min=0)
    bands, points = min(freq, GRID), valid.clamp(1, GRID)
    small = _sampled(F.interpolate(level[:, None], size=(bands, time), mode="area")[:, 0], valid, points)
    along_freq, along_time = _cosines(torch.full_like(valid, bands), bands), _cosines(points, GRID)
    spectrum = along_freq @ small @ along_time.mT
    amplitude = spectrum.abs()
    # Rounding leaves noise where the spectrum is empty: what lies below this floor is nothing, and has no logarithm.
    floor = (1e-6 * amplitude.amax((1, 2), keepdim=True)).clamp(min=torch.finfo(torch.float32).tiny)
    present = (amplitude > floor).float()
    log_amplitude = torch.maximum(amplitude, floor).log() * present
    around = _with_neighbours(log_amplitude) / _with_neighbours(present).clamp(min=1)
    half = torch.ones(GRID, device=x.device)
    half[:1] = 0.5  # the constant counts once, every other cosine to both sides; one element alone would be a copy
    residual = spectrum.sign() * (log_amplitude - around).exp() * present * half[:bands, None] * half
    salient = (along_freq.mT @ residual @ along_time).square()
    inside = (torch.arange(GRID, device=x.device) < points[:, None, None]).float()
    salient = smoothed(salient, 8.0) / smoothed(inside, 8.0)
    salient = F.interpolate(salient[:, None], size=(freq, GRID), mode="bilinear")[:, 0]
    position = (torch.arange(time, device=x.device) + 0.5) * (points / valid.clamp(min=1))[:, None] - 0.5
    return _between(salient, torch.minimum(position.clamp(min=0), points[:, None] - 1))


KINDS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "energy": energy,
    "spectral_residual": spectral_residual,
}


class LossGradient:
    """How much the loss of the clean batch depends on each bin: one extra forward and backward pass.

    The root of the mean over channels of the squared gradient of the loss (Kim, Choo and Song 2020, "Puzzle Mix",
    section 4.1, after Simonyan et al. 2013), to be given to a plan::

        x, plan = mixer(x, saliency=LossGradient(model, F.cross_entropy, target))

    With keep = 0 only the gradient of the batch is computed. The model runs in `eval()` and is set back as it was, so
    that batch norm statistics, dropout and its random numbers, and the gradients of the weights are left alone.

    With keep > 0 the pass is a training step on the clean batch too, in the mode that the model is in: the same
    backward pass adds keep times the gradient of the clean loss to the gradients of the weights (`clean_lam` of the
    published Puzzle Mix and Co-Mixup code). Draw the plan after `zero_grad` and before `step`.

    Of DistributedDataParallel the module inside runs, without communication: processes may draw different methods, and
    kept gradients are averaged with those of the training step. Pass any other wrapper's own inner module (of Lightning
    Fabric `model.module`); under FSDP all processes must draw the same method. A compiled model is compiled a second
    time for `eval()`.

    Args:
        model: The model that is trained; it is called with the batch, in the batch's layout.
        criterion: Function of (output, target); its mean is taken if it gives more than one value.
        target: Targets of the batch before mixing, passed on as they are.
        inputs: What the model takes after the batch, such as lengths.
        layout: Axis order of the batch; None: the mixer's where a plan calls this, else the usual one of that rank.
        keep: Weight of the clean loss whose gradient is kept, at least 0. Where gradients of several batches are
            accumulated, divide it as the loss.
        smooth: Standard deviation, in bins and frames, of a Gaussian that the saliency is smoothed with; 0: none.
        scale: Applied to the loss before the backward pass, such as `scaler.scale` of a GradScaler: without it, small
            gradients become 0 in float16, and kept ones would not fit those of a scaled loss. A scale is no part of
            what matters, as only proportions within a row count. bfloat16 and float32 need none.

    Raises:
        TypeError: If the model is not a module, or the criterion cannot be called.
        ValueError: If keep or smooth is out of range, or the layout is unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Callable[..., Tensor],
        target: Any,
        *,
        inputs: Sequence[Any] = (),
        layout: str | None = None,
        keep: float = 0.0,
        smooth: float = 0.0,
        scale: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"the model must be a torch.nn.Module, got {type(model).__name__}")
        if not callable(criterion):
            raise TypeError(f"the criterion must be callable, got {type(criterion).__name__}")
        if layout is not None and layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)} or None, got {layout!r}")
        for name, value in (("keep", keep), ("smooth", smooth)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {value!r}")
        self.model, self.criterion, self.target, self.inputs = model, criterion, target, tuple(inputs)
        self.layout, self.keep, self.smooth, self.scale = layout, float(keep), float(smooth), scale

    def __call__(self, x: Tensor, layout: str | None = None) -> Tensor:
        """The saliency of a batch.

        Args:
            x: The batch before mixing; it is not modified.
            layout: Its axis order, where this was made without one.

        Returns:
            (B, F, T) float32, at least 0.

        Raises:
            ValueError: If the loss does not depend on the batch.
        """
        name = resolve_layout(x, self.layout or layout)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = (x.clone() if x.is_inference() else x).detach().requires_grad_()
            gradient = self._kept(leaf) if self.keep > 0 else self._alone(leaf)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return smoothed(to_bcft(gradient, name).float().square().mean(1).sqrt(), self.smooth)

    def _alone(self, leaf: Tensor) -> Tensor:
        """The gradient of the batch and of nothing else."""
        model = _without_communication(self.model)
        with _evaluating(model):
            loss = self._loss(model, leaf)
            (gradient,) = torch.autograd.grad(self._scaled(loss), leaf, allow_unused=True)
        return self._found(gradient)

    def _kept(self, leaf: Tensor) -> Tensor:
        """The gradient of the batch, while those of the weights are added to."""
        loss = self._loss(_without_communication(self.model), leaf)
        self._scaled(self.keep * loss).backward()
        return self._found(leaf.grad)

    def _loss(self, model: nn.Module, leaf: Tensor) -> Tensor:
        # A model that writes into its input must reach neither the batch nor a leaf, where autograd forbids it.
        loss = self.criterion(model(leaf.clone(), *self.inputs), self.target)
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            raise ValueError("the loss must be a tensor that depends on the batch by what can be differentiated")
        return loss.mean()

    def _scaled(self, loss: Tensor) -> Tensor:
        return loss if self.scale is None else self.scale(loss)

    def _found(self, gradient: Tensor | None) -> Tensor:
        if gradient is None:
            raise ValueError("the loss does not depend on the batch by what can be differentiated")
        return gradient


def smoothed(values: Tensor, deviation: float) -> Tensor:
    """Values (B, F, T), smoothed along both axes by a Gaussian whose weights sum to 1 at the edges too.

    Args:
        values: Floating-point.
        deviation: Its standard deviation, in bins and frames; 0 changes nothing.
    """
    if deviation == 0:
        return values
    reach = int(3 * deviation) + 1
    place = torch.arange(-reach, reach + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (place / deviation).square()).view(1, 1, 1, -1)
    for _ in range(2):  # along time, then, turned, along frequency, and turned back
        inside = torch.ones(1, 1, 1, values.shape[2], device=values.device, dtype=values.dtype)
        total, weight = (F.conv2d(part, kernel, padding=(0, reach)) for part in (values[:, None], inside))
        values = (total / weight)[:, 0].transpose(1, 2)
    return values


def _beyond(lengths: Tensor, time: int) -> Tensor:
    """The frames beyond the valid ones, (B, 1, 1, T) bool."""
    return torch.arange(time, device=lengths.device) >= lengths.view(-1, 1, 1, 1)


def _sampled(values: Tensor, valid: Tensor, points: Tensor) -> Tensor:
    """The valid frames of (B, R, T) as `points`, (B,) at most GRID, means of equal stretches, (B, R, GRID)."""
    total = F.pad(values.cumsum(2), (1, 0))
    step = (valid / points)[:, None]
    edge = torch.minimum(torch.arange(GRID + 1, device=values.device) * step, valid[:, None])
    return _between(total, edge).diff(dim=2) / step.clamp(min=torch.finfo(torch.float32).tiny)[:, None]


def _cosines(points: Tensor, size: int) -> Tensor:
    """Cosines over `points`, (n,), as rows of (n, size, size): the spectrum of what goes on in its mirror image."""
    count = torch.arange(size, device=points.device)
    inside = count < points[:, None]
    angle = torch.pi * count[:, None] * (count + 0.5) / points[:, None, None]
    return angle.cos() * inside[:, :, None] * inside[:, None, :]


def _with_neighbours(values: Tensor) -> Tensor:
    """Sums over 3 x 3 places of a spectrum (B, R, N), which is mirrored at its start and 0 beyond its end."""
    padded = F.pad(values, (1, 1, 1, 1))
    padded[:, 0] = padded[:, 2]
    padded[:, :, 0] = padded[:, :, 2]
    return 9 * F.avg_pool2d(padded[:, None], 3, stride=1)[:, 0]


def _between(values: Tensor, position: Tensor) -> Tensor:
    """Values (B, R, T) interpolated linearly at positions (B, N) in [0, T - 1], (B, R, N)."""
    low = position.long()
    below, above = (
        values.gather(2, at[:, None].expand(-1, values.shape[1], -1))
        for at in (low, (low + 1).clamp(max=values.shape[2] - 1))
    )
    return below.lerp(above, (position - low)[:, None])


def _without_communication(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel: a forward pass of the whole waits for all other processes."""
    inner = getattr(model, "_orig_mod", model)  # torch.compile of the whole
    return inner.module if isinstance(inner, DistributedDataParallel) else model


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in `eval()` for a while, then every part of it in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    recurrent = [(module, module.dropout) for module in model.modules() if isinstance(module, nn.RNNBase)]
    try:
        model.eval()
        for layer, _ in recurrent:
            # cuDNN goes backward through a recurrent layer in training alone; without dropout that changes nothing.
            layer.training, layer.dropout = True, 0.0
        yield
    finally:
        model.train(modes[0][1])  # first as a whole: some models do more than set a flag
        for module, mode in modes:
            module.training = mode
        for layer, dropout in recurrent:
            layer.dropout = dropout
