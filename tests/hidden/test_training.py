"""Training with hidden layers mixed: compiled, checkpointed, in two processes; and what the loss is."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import randommix_audio as rma
from randommix_audio.hidden import HiddenPlan
from randommix_audio.mixers.hidden import ManifoldMixup, PatchUp
from randommix_audio.saliency import LossGradient
from tests.hidden import two_processes
from tests.hidden.models import CLASSES, LAYERS, Network, gradients, seeded

MIXERS = [ManifoldMixup(), PatchUp(), PatchUp(per="row", mode="hard")]


def batch(seed: int, rows: int = 6, time: int = 33) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(seed)
    return torch.randn(rows, 1, 20, time, generator=generator), torch.randint(0, CLASSES, (rows,), generator=generator)


class Counting:
    """A compiler backend that runs the graph as it is, and counts how many it was given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


def train_both(mixer, steps, layers, varying=False, lengths=False, **compilation):
    """Steps of a compiled and of a plain model that carry out the same plans; losses and gradients are compared."""
    torch._dynamo.reset()
    model, plain = Network(), Network()
    hidden, plainly = mixer.attach(model, layers), mixer.attach(plain, layers)
    compiled = torch.compile(model, fullgraph=True, **compilation)
    drawn = set()
    for step in range(steps):
        x, target = batch(step, 6 + step % 3, 33 + 4 * (step % 4)) if varying else batch(step)
        frames = torch.randint(1, x.shape[3] + 1, (x.shape[0],)) if lengths else None
        plan = hidden.draw(x, lengths=frames, generator=seeded(step))
        drawn.add(plan.layer)
        same = plainly.use(HiddenPlan.from_state_dict(plan.state_dict()))
        loss = plan.loss(F.cross_entropy, compiled(x), target)
        expected = same.loss(F.cross_entropy, plain(x), target)
        torch.testing.assert_close(plan.share, same.share)
        torch.testing.assert_close(loss, expected)
        pairs = zip(gradients(model, loss), gradients(plain, expected), strict=True)
        assert all(torch.allclose(found, wanted, atol=1e-5) for found, wanted in pairs)
    assert drawn == set(layers)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_compiled_model_is_one_graph_for_each_layer_and_trains_as_a_plain_one(mixer):
    backend = Counting()
    train_both(mixer, 50, LAYERS, backend=backend)
    assert backend.graphs <= len(LAYERS) + 2


def test_a_handful_of_graphs_serve_batches_of_any_size_and_length():
    backend = Counting()
    train_both(PatchUp(per="row"), 30, LAYERS[1:], varying=True, lengths=True, backend=backend)
    assert backend.graphs <= len(LAYERS) + 1


def test_a_compiled_model_trains_alike_when_autograd_is_compiled_too():
    train_both(PatchUp(), 8, LAYERS[2:], backend="aot_eager")


def test_the_size_that_compiled_code_met_serves_frame_labels():
    torch._dynamo.reset()
    model = Network()
    hidden = PatchUp().attach(model, layers=["blocks.0"])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    x, _ = batch(0)
    plan = hidden.draw(x)
    compiled(x)
    assert plan.map_size == (8, 10, 17)
    assert plan.mix_frames(torch.rand(6, 3, 33)).shape == (6, 3, 33)


def test_a_model_that_ran_compiled_before_it_was_attached_to_does_not_train_unnoticed():
    torch._dynamo.reset()
    model = Network()
    x, target = batch(0)
    compiled = torch.compile(model, backend="eager")
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):  # torch ignores the hooks of attach
        compiled(x)
        plan = PatchUp().attach(model, layers=["stem"]).draw(x)
        scores = compiled(x)
    with pytest.raises(RuntimeError, match="compiled before attach"):
        plan.loss(F.cross_entropy, scores, target)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("mixer", MIXERS)
def test_activation_checkpointing_gives_the_same_gradients(mixer, reentrant):
    plain, model = Network(), Network(reentrant)
    hidden, plainly = mixer.attach(model, LAYERS[2:]), mixer.attach(plain, LAYERS[2:])
    for step in range(4):
        x, target = batch(step)
        plan = hidden.draw(x, generator=seeded(step))
        same = plainly.draw(x, generator=seeded(step))
        loss, expected = (p.loss(F.cross_entropy, m(x), target) for p, m in ((plan, model), (same, plain)))
        loss.backward()
        expected.backward()
        for found, wanted in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.equal(found.grad, wanted.grad)
        model.zero_grad()
        plain.zero_grad()


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_draw_between_forward_and_backward_is_refused_under_activation_checkpointing(reentrant):
    model = Network(reentrant)
    hidden = PatchUp().attach(model, LAYERS[2:])
    x, target = batch(0)
    loss = hidden.draw(x).loss(F.cross_entropy, model(x), target)
    hidden.draw(x)
    with pytest.raises(RuntimeError, match="run backward before the next draw"):
        loss.backward()


def test_checkpointed_layers_compile_where_torch_is_told_that_the_record_is_made_once():
    torch._dynamo.reset()
    plain, model = Network(), Network(reentrant=False)
    mixer = PatchUp()
    hidden, plainly = mixer.attach(model, LAYERS[2:]), mixer.attach(plain, LAYERS[2:])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for step in range(3):
        x, target = batch(step)
        plan, same = hidden.draw(x, generator=seeded(step)), plainly.draw(x, generator=seeded(step))
        with torch._dynamo.config.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=True):
            loss = plan.loss(F.cross_entropy, compiled(x), target)
        expected = same.loss(F.cross_entropy, plain(x), target)
        pairs = zip(gradients(model, loss), gradients(plain, expected), strict=True)
        assert all(torch.allclose(found, wanted, atol=1e-5) for found, wanted in pairs)


def test_the_published_three_part_loss_of_patchup_is_twice_the_loss_of_the_plan():
    """L(y_a) u + L(y_b') (1 - u) + L(W), u the unchanged part, y_b' the target in the patches, W the two weighed."""
    x, target = batch(0)
    own = F.one_hot(target, CLASSES).float()

    def cross_entropy(scores: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
        return -(soft * scores.log_softmax(1)).sum(1).mean()

    for mode in ("soft", "hard"):
        model = Network()
        hidden = PatchUp(mode=mode).attach(model, layers=["stem"])
        for seed in range(3):
            plan = hidden.draw(x, generator=seeded(seed))
            scores = model(x)
            geometry = plan.plan.geometry
            unchanged = 1 - geometry.covered(plan.map_size).float().mean()
            in_patches = geometry.own * own + (1 - geometry.own) * plan.pair(own)
            weighed = unchanged * own + (1 - unchanged) * in_patches
            published = (
                unchanged * cross_entropy(scores, own)
                + (1 - unchanged) * cross_entropy(scores, in_patches)
                + cross_entropy(scores, weighed)
            )
            assert 0.1 < unchanged < 0.7
            torch.testing.assert_close(published, 2 * plan.loss(F.cross_entropy, scores, target))
            torch.testing.assert_close(published, 2 * plan.loss(cross_entropy_rows, scores, own))


def cross_entropy_rows(scores: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    return -(soft * scores.log_softmax(1)).sum(1)


def test_transcripts_are_weighed_by_the_hidden_share_and_patches_leave_none_whole():
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 5))
    feats = torch.randn(4, 30, 8)
    text, text_lengths = torch.randint(1, 5, (4, 6)), torch.tensor([6, 3, 4, 5])
    lengths = torch.tensor([30, 21, 30, 18])
    plan = ManifoldMixup(layout="BTF").attach(model, layers=["0"]).draw(feats, lengths=lengths)
    log_probs = model(feats).log_softmax(-1)
    loss = plan.ctc_loss(log_probs, text, text_lengths, plan.lengths, reduction="none")
    lam = plan.plan.geometry.own

    def plain(source: torch.Tensor) -> torch.Tensor:
        pieces = log_probs.transpose(0, 1), text[source], lengths, text_lengths[source]
        return F.ctc_loss(*pieces, reduction="none", zero_infinity=True)

    torch.testing.assert_close(loss, lam * plain(plan.sources[0]) + (1 - lam) * plain(plan.sources[1]))
    plan = PatchUp(layout="BTF").attach(model, layers=["0"]).draw(feats)
    model(feats)
    with pytest.raises(ValueError, match="patchup covers or moves parts"):
        plan.ctc_loss(log_probs, text, text_lengths, lengths)


def test_two_processes_with_draws_of_their_own_train_one_model(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.hidden.two_processes", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, timeout=300)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["losses"] != second["losses"]
    assert first["keys"] == [f"module.{name}" for name in Network().state_dict()]
    # One process that carries out the plans of both, one after the other, and averages their gradients.
    model = Network()
    hidden = two_processes.MIXER.attach(model, LAYERS)
    optimizer = two_processes.optimizer_of(model)
    for step in range(two_processes.STEPS):
        for rank in range(2):
            x, target = two_processes.batch(step, rank)
            plan = hidden.draw(x, generator=rma.step_generator(0, step, rank))
            (plan.loss(F.cross_entropy, model(x), target) / 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, value in model.state_dict().items():
        assert torch.equal(first["state"][f"module.{name}"], second["state"][f"module.{name}"])
        torch.testing.assert_close(first["state"][f"module.{name}"], value)


def test_the_clean_pass_whose_gradient_is_kept_is_not_mixed_by_the_plan_of_the_step_before():
    model = Network()
    hidden = rma.RandomMix(["saliencymix", "manifoldmix"], weights=[1, 1]).attach(model, ["stem"])
    x, target = batch(0)
    kept = False
    for seed in range(20):
        hidden.use(HiddenPlan(ManifoldMixup().plan(x, generator=seeded(seed)), "stem"))
        model.zero_grad()
        saliency = LossGradient(model, F.cross_entropy, target[:4], keep=1.0)
        hidden.draw(x[:4], generator=seeded(seed), saliency=saliency)
        if model.stem.weight.grad is None:
            continue
        kept = True
        hidden.clear()
        clean = gradients(model, F.cross_entropy(model(x[:4]), target[:4]))
        torch.testing.assert_close([p.grad for p in model.parameters()], clean)
    assert kept


def test_in_eval_lengths_are_checked_as_in_training():
    model = Network().eval()
    hidden = ManifoldMixup().attach(model, ["stem"])
    with pytest.raises(TypeError, match="lengths"):
        hidden.draw(torch.randn(2, 1, 5, 9), torch.tensor([0.5, 1.0]))
    assert hidden.draw(torch.randn(2, 1, 5, 9), torch.tensor([5, 9], dtype=torch.int32)).lengths.dtype == torch.long
