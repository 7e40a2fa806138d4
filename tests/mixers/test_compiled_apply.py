"""Applying plans by code that is compiled once for each kind of plan."""

import pytest
import torch

import randommix_audio as rma
from randommix_audio.compiled import CompiledApply
from tests.mixers.strategies import NAMES


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Counted:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [False, True])
def test_compiled_mixes_are_those_of_eager_mode(name, lengths):
    mix = CompiledApply(backend="eager")
    x = torch.randn(6, 1, 10, 30)
    valid = torch.tensor([30, 7, 0, 12, 1, 29]) if lengths else None
    plan = rma.build(name, per="row").plan(x, valid, generator=seeded(1))
    expected = plan.apply(x)
    torch.testing.assert_close(mix(plan, x), expected)
    out = torch.empty_like(expected)
    assert mix(plan, x, out=out) is out
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "resizemix", "fmix"])
@pytest.mark.parametrize("per", ["batch", "row"])
def test_a_kind_of_plan_is_compiled_once_for_any_batch(name, per):
    backend = Counted()
    mix = CompiledApply(backend=backend)
    mixer = rma.build(name, per=per)
    for step in range(8):
        x = torch.randn(5 + step % 4, 1, 10, 30 + step % 3)
        plan = mixer.plan(x, generator=seeded(step))
        torch.testing.assert_close(mix(plan, x), plan.apply(x))
    assert backend.graphs == 1


def test_methods_drawn_for_each_row_are_compiled_once_together():
    backend = Counted()
    mix = CompiledApply(backend=backend)
    mixer = rma.RandomMix(per="row")
    for step in range(20):
        x = torch.randn(5 + step % 4, 1, 10, 30)
        plan = mixer.plan(x, generator=seeded(step))
        torch.testing.assert_close(mix(plan, x), plan.apply(x))
    assert backend.graphs == 1


def test_more_kinds_than_torch_compiles_of_one_function_are_no_error():
    mix = CompiledApply(backend="eager")
    for dtype in (torch.float32, torch.float64):
        for per in ("batch", "row"):
            for lengths in (None, torch.tensor([9, 20, 13])):
                for name in ("mixup", "cutmix", "resizemix", "fmix"):
                    x = torch.randn(3, 1, 8, 20, dtype=dtype)
                    plan = rma.build(name, per=per).plan(x, lengths)
                    torch.testing.assert_close(mix(plan, x), plan.apply(x))


def test_gradients_flow_through_compiled_mixes():
    x = torch.randn(4, 8, 20, requires_grad=True)
    plan = rma.CutMix(per="row").plan(x)
    CompiledApply(backend="aot_eager")(plan, x).sum().backward()
    assert x.grad is not None
    again = x.detach().clone().requires_grad_()
    plan.apply(again).sum().backward()
    torch.testing.assert_close(x.grad, again.grad)


def test_a_compiled_mix_has_the_memory_layout_of_the_batch():
    x = torch.randn(5, 30, 12)
    plan = rma.Mixup(per="row", layout="BTF").plan(x)
    mixed = CompiledApply(backend="aot_eager")(plan, x)
    assert mixed.is_contiguous()
    torch.testing.assert_close(mixed, plan.apply(x))


def test_without_a_compiler_one_line_says_so():
    def broken(graph, inputs):
        raise OSError("No working C++ compiler found\nand much more")

    x = torch.randn(4, 8, 20)
    with pytest.raises(RuntimeError, match="cannot be compiled here") as error:
        CompiledApply(backend=broken)(rma.Mixup().plan(x), x)
    assert "No working C++ compiler found" in str(error.value)
    assert "plan.apply" in str(error.value)
    assert "\n" not in str(error.value)
