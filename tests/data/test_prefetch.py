"""Batches that are prepared ahead: in which order, by whom, and how many at once. CUDA itself is not needed."""

import gc
import weakref
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import randommix_audio as rma
from randommix_audio.data import Prefetch, prefetch
from randommix_audio.data.prefetch import CudaSide, moved, run_ahead, tensors


class Diary:
    """A side that writes down what is asked of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def prepare(self, batch: Any, transform: Any) -> tuple[Any, str]:
        self.lines.append(f"prepare {batch}")
        return transform(batch), f"ready {batch}"

    def hand_over(self, made: Any, ready: str) -> None:
        self.lines.append(f"hand over {made}, {ready}")


@dataclass
class Pair:
    wave: Tensor
    name: str


@dataclass(slots=True)
class Slotted:
    wave: Tensor


Both = namedtuple("Both", "x y")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_batches_of_any_structure_arrive_on_the_device(device):
    batches = [Pair(torch.ones(2), "a"), {"x": [torch.ones(3)], "n": 1}, Both(torch.ones(1), None), (torch.ones(4),)]
    pair, mapping, both, single = Prefetch(batches, device)
    assert {x.device.type for x in (pair.wave, mapping["x"][0], both.x, single[0])} == {device}
    assert (pair.name, mapping["n"], both.y, type(both)) == ("a", 1, None, Both)


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict, MappingProxyType, lambda x: defaultdict(list, x)])
def test_mappings_of_any_type_are_moved_and_keep_it(kind):
    batch = kind({"x": torch.ones(2), "y": [torch.ones(1)], "name": "a"})
    (there,) = Prefetch([batch], "meta")
    assert type(there) is type(batch)
    assert {there["x"].device.type, there["y"][0].device.type} == {"meta"}
    assert batch["x"].device.type == "cpu"
    assert there["name"] == "a"
    assert len(list(tensors(there))) == 2
    if isinstance(batch, defaultdict):
        assert there["none"] == []


def test_arrays_and_slots_are_understood():
    batch = (Slotted(torch.ones(2)), np.ones(3), np.float32(1), Path("a"), torch.Size([2]))
    (there,) = Prefetch([batch], "meta")
    assert there[0].wave.device.type == "meta"
    assert there[1] is batch[1]
    assert list(tensors(there)) == [there[0].wave]
    with pytest.raises(TypeError, match="transform gives a ndarray"):
        list(tensors(np.array([torch.ones(1), None], dtype=object)))


def test_a_plan_arrives_as_its_own_method_would_bring_it():
    x = torch.randn(4, 5, 7)
    plan = rma.RandomMix(per="row").plan(x, lengths=torch.tensor([7, 3, 5, 7]))
    there, expected = moved(plan, lambda tensor: tensor.to("meta")), plan.to("meta")
    assert [t.device for t in tensors(there)] == [t.device for t in tensors(expected)]
    assert there.sources.device.type == "meta"
    assert there.method == plan.method  # drawn on the host, and still there


def test_the_transform_runs_without_gradients_once_for_each_batch_in_order():
    seen = []

    def transform(x: Tensor) -> Tensor:
        seen.append((int(x), torch.is_grad_enabled()))
        return x + 1

    made = list(Prefetch([torch.tensor(i) for i in range(5)], "cpu", transform))
    assert [int(x) for x in made] == [1, 2, 3, 4, 5]
    assert seen == [(i, False) for i in range(5)]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("ahead", [1, 2, 3, 9])
def test_the_next_batches_are_prepared_before_one_is_handed_over(ahead):
    side = Diary()
    arriving = run_ahead("abcd", side, str.upper, ahead)
    assert next(arriving) == "A"
    assert side.lines == [*(f"prepare {x}" for x in "abcd"[:ahead]), "hand over A, ready a"]
    assert list(arriving) == ["B", "C", "D"]
    assert [line for line in side.lines if line[0] == "h"] == [f"hand over {x.upper()}, ready {x}" for x in "abcd"]
    assert len(side.lines) == 8


@pytest.mark.parametrize("ahead", [1, 3])
def test_at_most_so_many_batches_are_alive(ahead):
    class Thing:
        pass

    alive: weakref.WeakSet[Thing] = weakref.WeakSet()
    most = 0

    def things() -> Any:
        nonlocal most
        for _ in range(10):
            thing = Thing()
            alive.add(thing)
            most = max(most, len(alive))
            yield thing
            del thing

    for _thing in run_ahead(things(), Diary(), lambda thing: thing, ahead):
        assert len(alive) <= ahead + 1  # here, and one that the source of this test holds until it is asked again
    assert most <= ahead + 1  # with the one that the loop holds
    del _thing
    gc.collect()
    assert not alive


def test_an_error_of_the_loader_comes_through_and_leaving_early_ends_the_loader():
    ended = []

    def failing() -> Any:
        try:
            yield torch.zeros(1)
            raise OSError("the disk is gone")
        finally:
            ended.append(True)

    for make in (lambda: iter(Prefetch(failing(), "cpu")), lambda: run_ahead(failing(), Diary(), lambda x: x, 1)):
        with pytest.raises(OSError, match="the disk is gone"):
            list(make())
        arriving = make()
        next(arriving)
        del arriving
    assert ended == [True] * 4


@pytest.mark.parametrize("ahead", [1, 2, 3, 9])
@pytest.mark.parametrize("guilty", ["loader", "transform"])
def test_an_error_comes_after_the_batches_before_it(ahead, guilty):
    def batches() -> Any:
        yield from range(4)
        if guilty == "loader":
            raise OSError("the disk is gone")
        yield 4

    def transform(batch: int) -> int:
        if batch == 4:
            raise OSError("the disk is gone")
        return batch

    seen = []
    arriving = run_ahead(batches(), Diary(), transform, ahead)
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(arriving)
    for batch in run_ahead(batches(), Diary(), transform, ahead):
        seen.append(batch)
        if batch == 3:
            break
    assert seen == [0, 1, 2, 3] * 2
    assert list(arriving) == []


class FakeCuda:
    """Streams that write down what waits for what; copies stay on the CPU."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        self.now = "model"
        self.made = 0
        patch.setattr(prefetch, "_STREAMS", {})
        patch.setattr(torch.cuda, "Stream", self.new_stream)
        patch.setattr(torch.cuda, "current_stream", lambda device: self.stream("model"))
        patch.setattr(torch.cuda, "stream", self.inside)
        patch.setattr(Tensor, "is_pinned", lambda x: False)
        patch.setattr(Tensor, "is_cuda", True)
        patch.setattr(Tensor, "pin_memory", lambda x: self.note("pin", x))
        patch.setattr(Tensor, "record_stream", lambda x, stream: self.note(f"keep for {stream.name}", x))

    def note(self, line: str, x: Any = None) -> Any:
        self.lines.append(line)
        return x

    def new_stream(self, device: torch.device) -> Any:
        self.made += 1
        return self.stream("side")

    def stream(self, name: str) -> Any:
        class Stream:
            wait_stream = staticmethod(lambda other: self.note(f"{name} waits for {other.name}"))
            wait_event = staticmethod(lambda event: self.note(f"{name} waits for {event}"))
            record_event = staticmethod(lambda: self.note(f"event on {name}", f"the event of {name}"))

        Stream.name = name  # type: ignore[attr-defined]
        return Stream()

    @contextmanager
    def inside(self, stream: Any) -> Any:
        before, self.now = self.now, stream.name
        yield
        self.now = before


def test_on_cuda_copy_and_transform_run_on_a_stream_that_the_model_s_waits_for(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    side = CudaSide(torch.device("cpu"))
    transform = lambda x: cuda.note(f"transform on {cuda.now}", (x + 1, {"kept": x}))  # noqa: E731
    made, ready = side.prepare(torch.zeros(2), transform)
    side.hand_over(made, ready)
    assert cuda.lines == [
        "side waits for model",
        "pin",
        "transform on side",
        "event on side",
        "model waits for the event of side",
        "keep for model",
        "keep for model",
    ]
    assert cuda.now == "model"


def test_on_cuda_every_epoch_has_the_same_stream_which_waits_for_what_the_model_s_has_begun(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    for _ in range(3):
        CudaSide(torch.device("cpu"))
    assert cuda.made == 1
    assert cuda.lines == ["side waits for model"] * 3


def test_on_cuda_a_batch_that_is_on_the_device_already_is_refused(monkeypatch):
    FakeCuda(monkeypatch)
    with pytest.raises(ValueError, match="the loader puts batches onto meta itself; give it device='cpu'"):
        CudaSide(torch.device("cpu")).prepare(torch.zeros(2, device="meta"), lambda x: x)


def test_the_tensors_of_a_plan_are_found_and_objects_that_hide_some_are_refused():
    x = torch.randn(4, 5, 7)
    plan = rma.RandomMix(per="row").plan(x, lengths=torch.tensor([7, 3, 5, 7]))
    found = {id(tensor) for tensor in tensors((x, plan))}
    assert {id(x), id(plan.sources), id(plan.share), id(plan.lengths)} <= found
    stored = [value for value in plan.state_dict().values() if isinstance(value, Tensor)]
    assert len(found) >= len(stored)
    with pytest.raises(TypeError, match="transform gives a Generator, whose tensors cannot be found"):
        list(tensors([x, torch.Generator()]))


def test_ahead_must_be_at_least_one():
    with pytest.raises(ValueError, match="ahead must be at least 1, not 0"):
        Prefetch([], "cpu", ahead=0)
