"""What the adapters share: axis orders that a toolkit fixes, and steps counted by somebody else."""

from torch import Generator, Tensor

from randommix_audio.draws import step_generator
from randommix_audio.layout import resolve_layout
from randommix_audio.mixers import Mixer

AXES = {"BFT": "(B, F, T)", "BTF": "(B, T, F)", "BT": "(B, T)"}


def require_layout(mixer: Mixer, x: Tensor, layout: str, toolkit: str) -> None:
    """Refuse a mixer that would read the toolkit's batch along the wrong axes.

    Args:
        mixer: The mixer, whose `layout` may be None.
        x: The batch.
        layout: What the toolkit's batches of this rank are.
        toolkit: Its name, for the message.

    Raises:
        ValueError: If the mixer reads `x` in another order.
    """
    if resolve_layout(x, mixer.layout) != layout:
        raise ValueError(
            f"{toolkit} batches of shape {tuple(x.shape)} are {AXES[layout]}: make the mixer with layout={layout!r}, "
            f"got layout={mixer.layout!r}"
        )


class StepGenerator:
    """One generator for each step of a toolkit's loop: equal (seed, step, rank) give equal draws, also after resuming.

    Batches that share a step, as under gradient accumulation, go on with its generator.
    """

    def __init__(self) -> None:
        self._of: tuple[int, int, int] | None = None
        self._generator: Generator | None = None

    def of(self, seed: int, step: int, rank: int) -> Generator:
        """The generator of a step, on the CPU."""
        if self._generator is None or self._of != (seed, step, rank):
            self._of, self._generator = (seed, step, rank), step_generator(seed, step, rank)
        return self._generator

    def __getstate__(self) -> dict[str, None]:
        return {"_of": None, "_generator": None}  # generators do not pickle, and a step's is made anew
