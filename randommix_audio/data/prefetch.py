"""Batches on their way to the device, copied and turned into features while the model is busy with those before."""

import copy
import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from pathlib import PurePath
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


class Prefetch(Generic[T]):
    """The batches of a loader on a device, `transform` applied to each.

    On CUDA the copy and the transform of the next batches run on a stream of their own, started before the batch at
    hand is given out: the model's stream waits for their event, never for the host. Batches that are not in pinned
    memory are copied there first. Memory is marked as used by the model's stream, so that it is not given to a later
    batch too early. Elsewhere a batch is copied and transformed when it is asked for: all cores work for the model
    already, and decoding ahead is done by the loader's workers.

    Batches may be tensors, dataclasses (a `MixPlan` is one), tuples, lists and mappings, nested as they like, and keep
    their types; what else is inside, such as numpy arrays, is left as it is. The transform runs under
    `torch.no_grad()`: what is trained belongs into the model. What it draws should come from a generator of its own,
    because it runs ahead of the model's step.

    Args:
        batches: any iterable, such as `StreamLoader.epoch(3)`, `BankLoader.epoch(3)` or a DataLoader.
        device: where the batches go.
        transform: gets a batch on the device, gives what the loop gets; None: the batch itself.
        ahead: on CUDA at most so many batches are alive here, besides that which the loop holds. With 1 a batch is
            prepared during the step before it, if the loop does not wait for that step; with 2 in any case.

    Raises:
        ValueError: ahead is below 1; on CUDA, while iterating, if the loader puts batches onto the device itself.
        TypeError: on CUDA, while iterating, if the transform gives an object in which tensors cannot be found.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        device: torch.device | str,
        transform: Callable[[Any], T] | None = None,
        ahead: int = 2,
    ) -> None:
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, not {ahead}")
        self.batches, self.device, self.ahead = batches, torch.device(device), ahead
        self.transform: Callable[[Any], Any] = transform or _unchanged

    def __iter__(self) -> Iterator[T]:
        if self.device.type == "cuda":
            return run_ahead(self.batches, CudaSide(self.device), self.transform, self.ahead)
        return map(self._prepare, self.batches)

    def _prepare(self, batch: Any) -> Any:
        with torch.no_grad():
            return self.transform(moved(batch, lambda tensor: tensor.to(self.device)))


class Side(Protocol):
    """Where batches are prepared beside the model's work."""

    def prepare(self, batch: Any, transform: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Start the copy and the transform; what will come of it, and what to wait for."""

    def hand_over(self, made: Any, ready: Any) -> None:
        """Let the model's stream wait until it is there, and keep its memory until that stream is through with it."""


def run_ahead(batches: Iterable[Any], side: Side, transform: Callable[[Any], Any], ahead: int) -> Iterator[Any]:
    """Give out batches of which the next `ahead` are being prepared.

    A batch is asked of the loader when the one before has been given out and the loop comes back for more: the model's
    step has been queued on the device by then, so that waiting for the loader costs the device nothing. An error of
    the loader or the transform comes when the batches before it have been given out, as it would without `ahead`.
    """
    waiting: deque[tuple[Any, Any]] = deque()
    arriving = iter(batches)
    failed: Exception | None = None
    try:
        while True:
            try:
                if (batch := next(arriving, _END)) is _END:
                    break
                waiting.append(side.prepare(batch, transform))
            except Exception as error:
                failed = error
                break
            del batch
            if len(waiting) == ahead:
                yield _first(waiting, side)
        while waiting:
            yield _first(waiting, side)
        if failed is not None:
            raise failed
    finally:
        waiting.clear()
        del arriving, failed  # the error knows this frame


_END = object()


def _first(waiting: deque[tuple[Any, Any]], side: Side) -> Any:
    made, ready = waiting.popleft()
    side.hand_over(made, ready)
    return made


_STREAMS: dict[torch.device, torch.cuda.Stream] = {}


class CudaSide:
    """A CUDA stream beside the one that is current: the same one each time, because memory is kept for each stream.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        if device not in _STREAMS:
            _STREAMS[device] = torch.cuda.Stream(device)
        self.device, self.stream = device, _STREAMS[device]
        # What the transform reads (filter banks) may still be on its way.
        self.stream.wait_stream(torch.cuda.current_stream(device))

    def prepare(self, batch: Any, transform: Callable[[Any], Any]) -> tuple[Any, torch.cuda.Event]:
        """Start the copy and the transform on the side stream."""
        with torch.cuda.stream(self.stream), torch.no_grad():
            made = transform(moved(batch, self._copy))
            return made, self.stream.record_event()

    def _copy(self, tensor: Tensor) -> Tensor:
        if tensor.device.type != "cpu":  # it may not be there yet for this stream
            raise ValueError(f"the loader puts batches onto {tensor.device} itself; give it device='cpu'")
        if not tensor.is_pinned():
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def hand_over(self, made: Any, ready: torch.cuda.Event) -> None:
        """Let the current stream wait for the event and own the memory."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(ready)
        for tensor in tensors(made):
            if tensor.is_cuda:
                tensor.record_stream(current)


def moved(batch: Any, move: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with `move` applied to every tensor, but those that a dataclass marks as `on_host`."""
    if isinstance(batch, Tensor):
        return move(batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        there = [field for field in dataclasses.fields(batch) if field.init and not field.metadata.get("on_host")]
        changes = {field.name: moved(getattr(batch, field.name), move) for field in there}
        return dataclasses.replace(batch, **changes)
    if isinstance(batch, Mapping):
        values = {key: moved(value, move) for key, value in batch.items()}
        if not isinstance(batch, MutableMapping):
            return type(batch)(values)  # type: ignore[call-arg]
        batch = copy.copy(batch)  # with what its type knows besides, such as a default
        batch.update(values)
        return batch
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(moved(value, move) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)([moved(value, move) for value in batch])
    return batch


def tensors(made: Any) -> Iterator[Tensor]:
    """Every tensor of a structure.

    Raises:
        TypeError: it holds an object that may hide tensors.
    """
    if isinstance(made, Tensor):
        yield made
    elif dataclasses.is_dataclass(made) and not isinstance(made, type):
        fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
        yield from tensors({**getattr(made, "__dict__", {}), **fields})
    elif isinstance(made, Mapping):
        for value in made.values():
            yield from tensors(value)
    elif isinstance(made, (list, tuple)):
        for value in made:
            yield from tensors(value)
    elif not (isinstance(made, _PLAIN) or (isinstance(made, np.ndarray) and made.dtype != object)):
        raise TypeError(f"transform gives a {type(made).__name__}, whose tensors cannot be found: use a dataclass")


_PLAIN = (str, bytes, int, float, complex, type(None), PurePath, np.generic, torch.device, torch.dtype)


def _unchanged(batch: Any) -> Any:
    return batch
