"""Applying a plan inside compiled code."""

import pytest
import torch

import randommix_audio as rma
from tests.mixers.strategies import NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["batch", "row"])
def test_apply_compiles_as_one_graph_and_agrees_with_eager(name, per):
    torch._dynamo.reset()
    mixer = rma.build(name, per=per)
    compiled = torch.compile(lambda x, plan: plan.apply(x), fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (6, 5):
        x = torch.randn(batch, 1, 10, 30)
        plan = mixer.plan(x, generator=torch.Generator().manual_seed(batch))
        torch.testing.assert_close(compiled(x, plan), plan.apply(x))


def test_a_method_drawn_for_each_row_compiles_a_handful_of_graphs_for_any_draw():
    torch._dynamo.reset()
    compilations = 0

    def count(graph, inputs):
        nonlocal compilations
        compilations += 1
        return graph.forward

    mix = torch.compile(lambda x, plan: plan.apply(x), fullgraph=True, backend=count, dynamic=True)
    mixer = rma.RandomMix(per="row")
    for step in range(40):
        x = torch.randn(5 + step % 4, 1, 10, 30)
        plan = mixer.plan(x, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(mix(x, plan), plan.apply(x))
    assert compilations <= 6


@pytest.mark.parametrize("name", ["mixup", "cutmix", "resizemix"])
def test_numbers_that_the_host_drew_are_not_compiled_in(name):
    torch._dynamo.reset()
    compilations = 0

    def count(graph, inputs):
        nonlocal compilations
        compilations += 1
        return graph.forward

    mix = torch.compile(lambda x, plan: plan.apply(x), fullgraph=True, backend=count, dynamic=True)
    mixer = rma.build(name, per="batch")
    for step in range(12):
        x = torch.randn(5 + step % 3, 1, 10, 30)
        plan = mixer.plan(x, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(mix(x, plan), plan.apply(x))
    assert compilations == 1
