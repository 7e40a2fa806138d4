"""Plain PyTorch: mixing in a DataLoader's `collate_fn`, on the CPU, in its workers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator
from torch.utils.data import default_collate

from randommix_audio.draws import step_generator
from randommix_audio.mixers import Mixer


class MixCollate:
    """A `collate_fn` that mixes the collated batch and puts the plan beside it.

    On an accelerator, mixing behind the loader is faster; see the README. This is for loops that cannot be touched.

    Each worker draws from a generator of its own, derived from the seed that PyTorch gives the worker: no two of them
    draw alike, epochs differ, and a run that begins with `torch.manual_seed` repeats. The generator that dropout and
    the dataset use is left alone.

    Args:
        mixer: Any mixer.
        collate_fn: Makes a batch of samples: a dict, a list or a tuple.
        input: Where in the batch the tensor to mix is: a key, or a position.
        lengths: Where the (B,) lengths of its rows are, which are replaced by those of the mix; None: there are none.
        plan: Under which key a dict gets the plan. A list or tuple gets it as its last entry.
        rank: The process of a distributed run, so that processes that are seeded alike draw differently.
    """

    def __init__(
        self,
        mixer: Mixer,
        collate_fn: Callable[[Any], Any] = default_collate,
        input: str | int = 0,
        lengths: str | int | None = None,
        plan: str = "plan",
        rank: int = 0,
    ) -> None:
        self.mixer, self.collate_fn, self.rank = mixer, collate_fn, rank
        self.input, self.lengths, self.plan = input, lengths, plan
        self._generator: Generator | None = None
        self._seed: int | None = None

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Collate and mix.

        Raises:
            TypeError: If the batch is neither a dict nor a list nor a tuple.
            ValueError: If a dict has an entry where the plan belongs.
        """
        batch = self.collate_fn(samples)
        if not isinstance(batch, dict | list | tuple):
            raise TypeError(f"collate_fn must give a dict, a list or a tuple, got {type(batch).__name__}")
        entries: Any = dict(batch) if isinstance(batch, dict) else list(batch)
        lengths = None if self.lengths is None else entries[self.lengths]
        entries[self.input], plan = self.mixer(entries[self.input], lengths=lengths, generator=self._own_generator())
        if lengths is not None:
            entries[self.lengths] = plan.lengths
        if isinstance(entries, list):
            return [*entries, plan]
        if self.plan in entries:
            raise ValueError(f"the batch has an entry {self.plan!r} already: name another key with plan=")
        return {**entries, self.plan: plan}

    def _own_generator(self) -> Generator:
        seed = torch.initial_seed()
        if self._generator is None or self._seed != seed:  # in a forked worker the seed is another than in its parent
            self._generator, self._seed = step_generator(seed, 0, self.rank), seed
        return self._generator

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_generator": None, "_seed": None}
