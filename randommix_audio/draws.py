"""Every random number of a plan: where it is drawn, and how it reaches the device without waiting for it.

Numbers that only fill tensors are drawn where the generator lives. Numbers that decide which code runs (the method of a
batch, whether it is mixed at all) must be known to Python; `host_uniforms` is the one function that draws those, and it
never copies from an accelerator.
"""

import hashlib
import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from randommix_audio.transfer import to_device


def step_generator(seed: int, step: int, rank: int = 0, device: torch.device | str = "cpu") -> Generator:
    """A generator that depends on (seed, step, rank) alone, so that a run can be resumed or distributed exactly.

    Args:
        seed: The run's seed.
        step: The number of the training step.
        rank: The process of a distributed run; ranks draw independently. -1, which no process has, is for what all of
            them shall draw alike: the `method_generator` of a plan.
        device: Where the generator lives, the CPU or the batch's device.

    Returns:
        A freshly seeded generator; equal arguments give equal draws on equal devices.
    """
    generator = Generator(device=device)
    generator.manual_seed(_stable_hash(f"{seed}/{step}/{rank}".encode()))
    return generator


def host_uniforms(generator: Generator | None, count: int) -> list[float]:
    """Draw `count` numbers in [0, 1) as Python floats, without waiting for an accelerator.

    A CPU generator (None: torch's default one) is used directly. From a generator on a device a CPU generator is
    derived: its state lives on the host, so reading it copies nothing. One number is then drawn from the device
    generator, because a plan may need no other and the next plan must not see the same state.
    """
    return torch.rand(count, dtype=torch.float64, generator=_on_host(generator)).tolist()


def _on_host(generator: Generator | None) -> Generator | None:
    if generator is None or generator.device.type == "cpu":
        return generator
    derived = Generator().manual_seed(_stable_hash(generator.get_state().numpy().tobytes()))
    torch.rand(1, generator=generator, device=generator.device)
    return derived


def _stable_hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


class Draws:
    """The random numbers of one plan, as tensors on the device of the batch.

    Args:
        generator: On the CPU or on `device`; None is torch's default generator (of `device` for tensors, of the CPU for
            what is drawn on the host).
        device: Where the results are wanted.
        method_generator: On the CPU, of what `decide` draws; None: `generator`. It is drawn from once, here, however
            much is decided, so that processes whose batches differ in size stay alike in the next plan, too.

    Raises:
        TypeError: If a generator is something else.
        ValueError: If one lives on another device.
    """

    def __init__(
        self, generator: Generator | None, device: torch.device, method_generator: Generator | None = None
    ) -> None:
        for name, given in (("generator", generator), ("method_generator", method_generator)):
            if given is not None and not hasattr(given, "get_state"):
                raise TypeError(f"{name} must be a torch.Generator, got {type(given).__name__}")
        if generator is not None and generator.device.type not in ("cpu", device.type):
            raise ValueError(f"generator lives on {generator.device}; it must live on the CPU or on {device}")
        if method_generator is not None and method_generator.device.type != "cpu":
            raise ValueError(f"method_generator lives on {method_generator.device}; it must live on the CPU")
        self.generator = generator
        self._decisions = None if method_generator is None else host_uniforms(method_generator, 1)[0]
        self._decided = 0
        self.device = device
        self.origin = device if generator is None else generator.device
        self._host: Generator | None = None

    def uniform(self, *shape: int) -> Tensor:
        """Uniform float32 numbers in [0, 1)."""
        return self._moved(torch.rand(shape, generator=self.generator, device=self.origin))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal float32 numbers."""
        return self._moved(torch.randn(shape, generator=self.generator, device=self.origin))

    def permutation(self, count: int) -> Tensor:
        """The numbers 0 .. count - 1 in random order, (count,) long."""
        return self._moved(torch.randperm(count, generator=self.generator, device=self.origin))

    def beta(self, alpha: float, *shape: int) -> Tensor:
        """Beta(alpha, alpha) float32 numbers in [0, 1]: G / (G + H) of two Gamma(alpha) variables."""
        if alpha == 1.0:
            return self.uniform(*shape)
        first, second = self._log_gamma(alpha, 2, *shape)
        return self._moved(torch.sigmoid(first - second))

    def log_gamma(self, alpha: float, *shape: int) -> Tensor:
        """Logarithms of Gamma(alpha) variables, float32; divided by their sum, such variables are Dirichlet(alpha)."""
        return self._moved(self._log_gamma(alpha, *shape))

    def _log_gamma(self, alpha: float, *shape: int) -> Tensor:
        """Logarithms of Gamma(alpha) variables, where the generator lives.

        A Gamma(alpha) variable is a Gamma(alpha + 1) one times U^(1 / alpha) (Marsaglia and Tsang 2000). In logarithms
        nothing underflows, however small alpha is.
        """
        origin = torch.device("cpu") if self.origin.type == "mps" else self.origin  # gamma is not drawn on MPS
        generator = self.generator if self.generator is not None and self.generator.device == origin else None
        if generator is None and self.generator is not None:
            generator = Generator().manual_seed(int(self.host(1)[0] * 2**53))
        gamma = torch._standard_gamma(torch.full(shape, alpha + 1, device=origin), generator=generator)
        uniform = torch.rand(shape, generator=generator, device=origin)
        return gamma.log() + uniform.clamp(min=1e-30).log() / alpha

    def from_host(
        self, numbers: Sequence[float] | Sequence[Sequence[float]] | np.ndarray, dtype: torch.dtype = torch.long
    ) -> Tensor:
        """Numbers that Python knows, as a tensor on the device."""
        return self._moved(torch.tensor(numbers, dtype=dtype))

    def host(self, count: int) -> list[float]:
        """Uniform numbers that Python may branch on; see `host_uniforms`."""
        if self._host is None:
            self._host = _on_host(self.generator)  # derived once for all that one plan draws on the host
        return host_uniforms(self._host, count)

    def decide(self, count: int) -> list[float]:
        """Uniform numbers for what decides how much work a batch is: whether it is mixed, by which method, where.

        Processes of a distributed training whose method generators are alike do the same amount of work. Each call has
        a generator of its own, because the calls before may have drawn a number for each row of batches of any size.
        """
        if self._decisions is None:
            return self.host(count)
        self._decided += 1
        seed = _stable_hash(f"{self._decisions}/{self._decided}".encode())
        return host_uniforms(Generator().manual_seed(seed), count)

    def _moved(self, drawn: Tensor) -> Tensor:
        if drawn.device == self.device or drawn.device.type == self.device.type != "cuda":
            return drawn
        return to_device(drawn, self.device)


def random_integer(uniform: Tensor, count: Tensor) -> Tensor:
    """Turn uniform numbers in [0, 1) into integers in [0, count), count >= 1; the product may round up to `count`."""
    return torch.minimum((uniform * count).long(), count - 1)


def beta_of(uniform: float, alpha: float) -> float:
    """Turn a uniform number on the host into a Beta(alpha, alpha) one, by the formula of `Draws.beta`."""
    if alpha == 1.0:
        return uniform
    derived = random.Random(int(uniform * 2**53))
    first, second = (
        math.log(derived.gammavariate(alpha + 1, 1)) + math.log(1 - derived.random()) / alpha for _ in range(2)
    )
    return 1 / (1 + math.exp(min(second - first, 700.0)))


def choose(uniforms: list[float], weights: list[float]) -> list[int]:
    """Turn uniform numbers into indices drawn with probability weights / sum(weights), on the host."""
    total = sum(weights)
    edges = [sum(weights[: k + 1]) / total for k in range(len(weights))]
    last = max(k for k, weight in enumerate(weights) if weight > 0)
    return np.minimum(np.searchsorted(edges, uniforms, side="right"), last).tolist()
