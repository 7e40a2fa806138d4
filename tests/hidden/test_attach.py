"""Attaching to a model: which layers, what a forward does with and without a draw, and what stays as it was."""

import copy
import gc
import io
from collections import namedtuple

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import randommix_audio as rma
from randommix_audio import draws
from randommix_audio.hidden import HiddenPlan
from randommix_audio.hidden.taps import PLANS
from randommix_audio.mixers.hidden import ManifoldMixup, PatchUp
from tests.devices import pretended_cuda
from tests.hidden.models import LAYERS, Network, Passing, seeded


def maps(model: nn.Module, names: list[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of some layers, as they go on to the next ones."""
    found = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: found.__setitem__(name, output)
        )
        for name in names
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("mixer", [ManifoldMixup(), PatchUp(), PatchUp(mode="hard", per="row")])
def test_the_drawn_layer_alone_is_mixed_as_the_plan_says(mixer):
    model = Network()
    x = torch.randn(5, 1, 20, 34)
    plain = maps(model, LAYERS[1:], x)
    hidden = mixer.attach(model, layers=LAYERS)
    drawn = set()
    for seed in range(12):
        plan = hidden.draw(x, generator=seeded(seed))
        drawn.add(plan.layer)
        mixed = maps(model, LAYERS[1:], x)
        before = LAYERS[1 : LAYERS.index(plan.layer)]
        assert all(torch.equal(mixed[name], plain[name]) for name in before)
        if plan.layer == "input":
            assert torch.equal(plan.share, plan.plan.share)
            continue
        own, partner = plain[plan.layer], plan.pair(plain[plan.layer])
        weight = plan.plan.geometry.weight(plan.map_size).float()
        torch.testing.assert_close(mixed[plan.layer], weight * own + (1 - weight) * partner)
        torch.testing.assert_close(plan.share[0], weight.mean((1, 2, 3)).expand(5))
        assert plan.map_size == own.shape[1:]
    assert drawn == set(LAYERS)


def test_every_layer_is_drawn_as_often_and_the_generator_decides():
    hidden = ManifoldMixup().attach(Network(), layers=LAYERS)
    x = torch.randn(3, 1, 20, 34)
    generator = seeded()
    drawn = [hidden.draw(x, generator=generator).layer for _ in range(1000)]
    assert all(200 < drawn.count(layer) < 300 for layer in LAYERS)
    again = seeded()
    assert [hidden.draw(x, generator=again).layer for _ in range(20)] == drawn[:20]
    torch.manual_seed(3)
    first = hidden.draw(x)
    torch.manual_seed(3)
    second = hidden.draw(x)
    assert first.layer == second.layer
    assert torch.equal(first.sources, second.sources)


def test_processes_of_one_method_generator_draw_one_layer():
    model = Network()
    with rma.ManifoldMixup(p=0.9).attach(model, LAYERS) as hidden:
        layers = [
            [
                hidden.draw(
                    torch.randn(6 - 3 * rank, 1, 8, 12),
                    generator=rma.step_generator(0, step, rank),
                    method_generator=rma.step_generator(0, step, -1),
                ).layer
                for step in range(12)
            ]
            for rank in range(2)
        ]
    assert layers[0] == layers[1]
    assert len(set(layers[0])) > 2


def test_a_plan_holds_for_every_forward_until_the_next_draw_or_clear():
    model = Network()
    x = torch.randn(4, 1, 20, 34)
    plain = model(x)
    hidden = PatchUp().attach(model, layers=["stem"])
    assert torch.equal(model(x), plain)
    hidden.draw(x, generator=seeded())
    mixed = model(x)
    assert not torch.equal(mixed, plain)
    assert torch.equal(model(x), mixed)
    hidden.draw(x, generator=seeded(1))
    assert not torch.equal(model(x), mixed)
    hidden.clear()
    assert hidden.plan is None
    assert torch.equal(model(x), plain)


def test_in_eval_nothing_is_mixed_and_a_plan_drawn_there_leaves_every_row_alone():
    model = Network()
    x = torch.randn(4, 1, 20, 34)
    plain = model(x)
    mixer = PatchUp()
    hidden = mixer.attach(model, layers=LAYERS)
    hidden.draw(x)
    assert torch.equal(model.eval()(x), plain)
    for module in (model, mixer):
        model.train()
        mixer.train()
        module.eval()
        plan = hidden.draw(x, lengths=torch.tensor([34, 2, 0, 9]))
        assert plan.layer is None
        assert plan.method == "none"
        assert plan.lam.tolist() == [1, 1, 1, 1]
        assert torch.equal(model(x), plain)


def test_a_batch_left_alone_by_p_has_its_share_at_once():
    model = Network()
    hidden = PatchUp(p=0.0).attach(model, layers=["stem"])
    x = torch.randn(4, 1, 20, 34)
    plan = hidden.draw(x)
    assert plan.layer is None
    assert plan.lam.tolist() == [1, 1, 1, 1]
    with_p = PatchUp(p=0.5, per="row", pairing="derangement").attach(model, layers=["stem"])
    plan = with_p.draw(x)
    model(x)
    assert int((plan.lam == 1).sum()) == 2


def test_the_share_read_before_the_model_ran_is_an_error_that_says_so():
    model = Network()
    hidden = ManifoldMixup().attach(model, layers=["blocks.0"])
    x = torch.randn(4, 1, 20, 34)
    plan = hidden.draw(x)
    for read in (lambda: plan.lam, lambda: plan.loss(nn.functional.cross_entropy, x, x), lambda: plan.mix_frames(x)):
        with pytest.raises(RuntimeError, match=r"'blocks.0', which has not been mixed since this plan was drawn"):
            read()
    model(x)
    assert plan.lam.shape == (4,)


def test_detach_leaves_the_model_as_it_was():
    model = Network()
    x = torch.randn(4, 1, 20, 34)
    plain = model(x)
    with ManifoldMixup().attach(model, layers=LAYERS) as hidden:
        hidden.draw(x)
    assert torch.equal(model(x), plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    hidden.detach()
    with pytest.raises(RuntimeError, match="detached"):
        hidden.draw(x)


def test_the_state_of_the_model_does_not_change_and_its_copies_are_not_mixed():
    model = Network()
    x = torch.randn(4, 1, 20, 34)
    plain, keys = model(x), list(model.state_dict())
    hidden = PatchUp().attach(model, layers=["stem", "blocks.0"])
    hidden.draw(x)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for copied in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(copied(x), plain)
    assert list(model.state_dict()) == keys
    assert list(model.buffers()) == []
    assert not torch.equal(model(x), plain)


def test_a_plan_read_back_from_its_state_mixes_alike_and_knows_its_share():
    x = torch.randn(4, 1, 20, 34)
    for mixer in (ManifoldMixup(), PatchUp(per="row")):
        model = Network()
        hidden = mixer.attach(model, layers=LAYERS)
        for seed in range(4):
            plan = hidden.draw(x, torch.tensor([34, 20, 7, 30]), generator=seeded(seed))
            unmet = HiddenPlan.from_state_dict(plan.state_dict())
            mixed = model(x)
            file = io.BytesIO()
            torch.save(plan.state_dict(), file)
            file.seek(0)
            again = HiddenPlan.from_state_dict(torch.load(file, weights_only=True))
            assert repr(again) == repr(plan)
            assert again.map_size == plan.map_size
            assert torch.equal(again.share, plan.share)
            hidden.draw(x)
            assert torch.equal(hidden.use(unmet) and model(x), mixed)
            assert torch.equal(unmet.share, plan.share)
            assert again.to("meta").share.device.type == "meta"
    with pytest.raises(ValueError, match="plan is missing"):
        HiddenPlan.from_state_dict({})
    with pytest.raises(ValueError, match="seed is unknown"):
        HiddenPlan.from_state_dict({**plan.state_dict(), "seed": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"mixes layer 'blocks\.1'; attached are stem"):
        PatchUp().attach(Network(), layers=["stem"]).use(HiddenPlan(plan.plan, "blocks.1"))


def test_the_first_tensor_is_the_input_however_it_is_passed():
    class Model(nn.Module):
        def forward(self, name, x=None, y=None):
            return x

    model = Model()
    hidden = ManifoldMixup().attach(model, layers=["input"])
    x = torch.randn(4, 20, 34)
    plan = hidden.draw(x, generator=seeded())
    expected = plan.plan.apply(x)
    assert torch.equal(model("a", x, x), expected)
    assert torch.equal(model("a", y=None, x=x), expected)
    with pytest.raises(TypeError, match="without a tensor"):
        model("a")
    with pytest.raises(ValueError, match="4 rows"):
        model("a", x[:2])


def test_the_first_tensor_of_a_tuple_is_mixed_and_the_rest_passes():
    Pair = namedtuple("Pair", "first second")
    x = torch.randn(4, 3, 20, 34)
    for give in (lambda x: (x, 7), lambda x: [x, 7], lambda x: Pair(x, 7)):
        model = Passing(give)
        plan = ManifoldMixup().attach(model, layers=["layer"]).draw(x)
        found = model(x)
        assert type(found) is type(give(x))
        assert found[1] == 7
        torch.testing.assert_close(found[0], plan.lam[0] * x + (1 - plan.lam[0]) * plan.pair(x))
    for give in (lambda x: {"x": x}, lambda x: ("a", x), lambda x: ()):
        model = Passing(give)
        ManifoldMixup().attach(model, layers=["layer"]).draw(x)
        with pytest.raises(TypeError, match=r"layer 'layer' gives a (dict|tuple); a layer to mix gives a tensor"):
            model(x)


def test_random_mix_mixes_a_layer_or_the_input_as_the_drawn_candidate_does():
    x = torch.randn(6, 1, 20, 34)
    for candidates in (["cutmix", PatchUp()], ["cutmix", "none", ManifoldMixup(), PatchUp()]):
        model = Network()
        hidden = rma.RandomMix(candidates).attach(model, layers=["stem", "blocks.0"])
        seen = set()
        for seed in range(40):
            plan = hidden.draw(x, generator=seeded(seed))
            model(x)
            assert (plan.layer == "input") == (plan.method == "cutmix")
            assert (plan.layer is None) == (plan.method == "none")
            assert plan.share.sum(0).tolist() == pytest.approx([1] * 6)
            seen.add((plan.method, plan.layer))
        assert {("cutmix", "input"), ("patchup", "stem"), ("patchup", "blocks.0")} <= seen


def test_rows_may_be_mixed_by_different_methods_for_layers():
    x = torch.randn(12, 1, 20, 34)
    model = Network()
    plain = maps(model, ["stem"], x)["stem"]
    hidden = rma.RandomMix([ManifoldMixup(), "none", PatchUp(mode="hard")], per="row").attach(model, layers=["stem"])
    plan = hidden.draw(x, lengths=torch.randint(0, 35, (12,)), generator=seeded())
    mixed = maps(model, ["stem"], x)["stem"]
    weights = plan.plan.geometry.weights(plan.map_size)
    torch.testing.assert_close(mixed, weights[0] * plain + weights[1] * plan.pair(plain))
    assert set(plan.method) == {"manifoldmix", "none", "patchup"}
    lengths = plan.lengths
    valid = (torch.arange(34) < lengths.view(-1, 1, 1, 1)).expand(weights[1].shape)
    expected = (weights[1] * valid).sum((1, 2, 3)) / (6 * 20 * lengths).clamp(min=1)
    torch.testing.assert_close(plan.share[1], expected)


def test_what_cannot_be_attached_is_refused_with_what_to_do():
    model = Network()
    with pytest.raises(ValueError, match="mixup mixes the batch itself: call x, plan"):
        rma.Mixup().attach(model, layers=["stem"])
    with pytest.raises(ValueError, match="mixes the batch itself"):
        rma.RandomMix(["mixup", "none"]).attach(model, layers=["stem"])
    with pytest.raises(ValueError, match='per="row" cannot draw from cutmix for the input and patchup for layers'):
        rma.RandomMix(["cutmix", PatchUp()], per="row").attach(model, layers=["stem"])
    mixer = PatchUp()
    with pytest.raises(ValueError, match=r"no layer 'block\.0'; near: blocks\.0"):
        mixer.attach(model, layers=["block.0"])
    with pytest.raises(ValueError, match=r"no layer 'xyz'; near: stem, blocks"):
        mixer.attach(model, layers=["xyz"])
    with pytest.raises(ValueError, match=r"'blocks' is a list of layers, which is never called"):
        mixer.attach(model, layers=["blocks"])
    for layers in ("stem", [], ["stem", "stem"]):
        with pytest.raises(ValueError, match="layers must be a list of different names"):
            mixer.attach(model, layers=layers)
    with pytest.raises(ValueError, match="time_axis must be one of"):
        mixer.attach(model, layers=["stem"], time_axis=0)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, got function"):
        mixer.attach(lambda x: x, layers=["stem"])
    with pytest.raises(ValueError, match="before DataParallel wraps it"):
        mixer.attach(nn.DataParallel(model), layers=["stem"])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_compiled_models_are_refused():
    mixer = PatchUp()
    with pytest.raises(ValueError, match=r"the model is compiled.*attach before compiling"):
        mixer.attach(torch.compile(Network()), layers=["stem"])
    in_place = Network()
    in_place.compile()
    with pytest.raises(ValueError, match="the model is compiled"):
        mixer.attach(in_place, layers=["stem"])
    partly = Network()
    partly.blocks[0] = torch.compile(partly.blocks[0])
    with pytest.raises(ValueError, match=r"blocks\.0 is compiled"):
        mixer.attach(partly, layers=["blocks.0._orig_mod.convolution"])
    mixer.attach(partly, layers=["stem", "blocks.1"])


@pytest.mark.parametrize(
    "mixer",
    [
        ManifoldMixup(per="row", p=0.5),
        PatchUp(),
        PatchUp(per="row", mode="hard"),
        rma.RandomMix([PatchUp(), "none", ManifoldMixup()], per="row"),
    ],
)
def test_neither_a_draw_nor_a_mixed_forward_waits_for_the_device(mixer, monkeypatch):
    monkeypatch.setattr(draws, "host_uniforms", lambda generator, count: [(k % 7) / 7 for k in range(count)])
    for pretended, device in ((pretended_cuda, "cuda"), (FakeTensorMode, "cpu")):
        with pretended():
            with torch.device(device):
                model, x, target = Network(), torch.randn(5, 1, 20, 34), torch.randint(0, 4, (5,))
                frames, some, events = torch.randint(0, 35, (5,)), torch.rand(5) > 0.5, torch.rand(5, 3, 34)
            for layer in LAYERS:
                with mixer.attach(model, layers=[layer]) as hidden:
                    for lengths in (None, frames):
                        plan = hidden.draw(x, lengths=lengths, rows=some)
                        loss = plan.loss(nn.functional.cross_entropy, model(x), target)
                        if device == "cpu":
                            loss.backward()
                        plan.mix_frames(events)
                        plan.mix_targets(target, num_classes=4)


def test_the_plan_of_a_model_that_is_gone_is_forgotten():
    known = set(PLANS)
    hidden = PatchUp().attach(Network(), layers=["stem"])
    hidden.draw(torch.randn(4, 1, 20, 34))
    assert set(PLANS) - known
    del hidden
    gc.collect()
    assert set(PLANS) <= known
