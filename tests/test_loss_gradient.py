"""The gradient of the loss as saliency: what it is, and that finding it leaves the model as it was."""

import gc
import re
import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import randommix_audio as rma
from randommix_audio.saliency import LossGradient, SaliencyOfBatch, smoothed

CLASSES = 5


@pytest.fixture(autouse=True)
def _the_same_numbers_each_time() -> None:
    torch.manual_seed(0)


def salient(x: Tensor, given: object = None, lengths: Tensor | None = None, layout: str = "BFT") -> Tensor:
    return SaliencyOfBatch(x, layout, lengths, given).map()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    """Everything that a pass could leave traces in: batch norm, dropout, a recurrent layer, a part that is frozen."""

    def __init__(self, freq: int = 6) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(freq)
        self.frozen = nn.BatchNorm1d(freq)
        self.recurrent = nn.LSTM(freq, 7, num_layers=2, dropout=0.5, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(7, CLASSES)
        self.frozen.eval()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.recurrent(self.frozen(self.norm(x)).transpose(1, 2))[0]
        return self.head(self.drop(hidden.mean(1)))


def plain_net() -> nn.Module:
    """A model that computes the same in training and evaluation."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(6, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 5)
    )


def gradients(model: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def test_the_gradient_is_the_one_computed_by_hand():
    x = torch.randn(4, 3, 5, 9)
    weight, target = torch.randn(3 * 5 * 9), torch.randn(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 9, 1, bias=False), nn.Flatten(0))
    model[1].weight.data[0] = weight
    found = LossGradient(model, F.mse_loss, target)(x)
    error = x.flatten(1) @ weight - target
    by_hand = (2 / 4) * error[:, None, None, None] * weight.view(1, 3, 5, 9)
    torch.testing.assert_close(found, by_hand.square().mean(1).sqrt())
    assert found.shape == (4, 5, 9)


def test_a_criterion_of_one_value_for_each_row_counts_with_its_mean():
    x, target, model = torch.randn(4, 6, 9), torch.randint(0, CLASSES, (4,)), plain_net()
    each = LossGradient(model, lambda z, y: F.cross_entropy(z, y, reduction="none"), target)(x)
    torch.testing.assert_close(each, LossGradient(model, F.cross_entropy, target)(x))


class Reads(nn.Module):
    """A model of (B, C, F, T) that takes its batch in another layout, and writes into it."""

    def __init__(self, layout: str, weight: Tensor) -> None:
        super().__init__()
        self.layout, self.weight = layout, nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        x = {"BCFT": lambda: x, "BFT": lambda: x[:, None], "BTF": lambda: x.mT[:, None]}.get(
            self.layout, lambda: x[:, None, None]
        )()
        return (x * self.weight).sum((1, 2, 3))


@pytest.mark.parametrize(
    ("layout", "shape"), [("BCFT", (4, 3, 5, 9)), ("BFT", (4, 5, 9)), ("BTF", (4, 9, 5)), ("BT", (4, 9))]
)
def test_every_layout_gives_bins_by_frames(layout, shape):
    x = torch.randn(shape)
    before = x.clone()
    freq = 1 if layout == "BT" else 5
    weight = torch.rand(1, shape[1] if layout == "BCFT" else 1, freq, 9)
    criterion = lambda output, target: output.sum()  # noqa: E731
    expected = (2 * weight.square().mean(1).sqrt()).expand(4, -1, -1)
    torch.testing.assert_close(LossGradient(Reads(layout, weight), criterion, None, layout=layout)(x), expected)
    assert torch.equal(x, before)
    seen = SaliencyOfBatch(x, layout, None, LossGradient(Reads(layout, weight), criterion, None)).map()
    torch.testing.assert_close(seen, expected)


def test_without_keeping_the_model_is_left_exactly_as_it_was():
    x, target, model = torch.randn(4, 6, 9), torch.randint(0, CLASSES, (4,)), Net()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: part.training for name, part in model.named_modules()}
    random = torch.get_rng_state()
    LossGradient(model, F.cross_entropy, target)(x)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert {name: part.training for name, part in model.named_modules()} == modes
    assert modes["frozen"] is False
    assert modes["norm"] is True
    assert model.recurrent.dropout == 0.5
    assert torch.equal(torch.get_rng_state(), random)
    assert (model.head.weight.grad == 1).all()
    assert all(p.grad is None for name, p in model.named_parameters() if name != "head.weight")
    assert all(p.requires_grad for p in model.parameters())


def test_the_pass_is_that_of_evaluation():
    x, target, model = torch.randn(4, 6, 9), torch.randint(0, CLASSES, (4,)), Net()
    found = LossGradient(model, F.cross_entropy, target)(x)
    leaf = x.clone().requires_grad_()
    F.cross_entropy(model.eval()(leaf), target).backward()
    torch.testing.assert_close(found, leaf.grad.abs())


def test_a_model_that_does_more_than_set_a_flag_is_set_back_too():
    class Merging(nn.Flatten):
        merged = False

        def train(self, mode: bool = True) -> "Merging":
            self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Merging(), nn.Linear(54, CLASSES))
    model.register_forward_hook(lambda *_: seen.append(model[0].merged))
    seen: list[bool] = []
    LossGradient(model, F.cross_entropy, torch.zeros(4, dtype=torch.long))(torch.randn(4, 6, 9))
    assert seen == [True]
    assert model[0].merged is False


def test_the_model_is_set_back_even_where_its_loss_fails():
    model = Net()
    with pytest.raises(ValueError, match="batch_size"):
        LossGradient(model, F.cross_entropy, torch.zeros(3, dtype=torch.long))(torch.randn(4, 6, 9))
    assert model.norm.training
    assert model.recurrent.dropout == 0.5


class Asked(TorchDispatchMode):
    """Notes which gradients (input, weight, bias) the backward passes of convolutions compute."""

    def __init__(self) -> None:
        super().__init__()
        self.gradients: list[list[bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            self.gradients.append(args[-1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("keep", "weights"), [(0.0, False), (0.5, True)])
def test_gradients_of_weights_are_computed_only_where_they_are_kept(keep, weights):
    with Asked() as asked:
        gradient = LossGradient(plain_net(), F.cross_entropy, torch.zeros(4, dtype=torch.long), keep=keep)
        gradient(torch.randn(4, 6, 9))
    assert asked.gradients == [[True, weights, weights]]


def test_a_kept_gradient_is_that_of_the_clean_loss_and_adds_to_that_of_the_mix():
    x, target, model = torch.randn(8, 6, 9), torch.randint(0, CLASSES, (8,)), plain_net()
    F.cross_entropy(model(x), target).backward()
    clean = gradients(model)
    model.zero_grad()
    alone = LossGradient(model, F.cross_entropy, target)(x)

    plan = rma.SaliencyMix().plan(
        x, saliency=LossGradient(model, F.cross_entropy, target, keep=0.7), generator=seeded()
    )
    for found, whole in zip(gradients(model), clean, strict=True):
        torch.testing.assert_close(found, 0.7 * whole)
    plan.loss(F.cross_entropy, model(plan.apply(x)), target).backward()
    both = gradients(model)
    model.zero_grad()
    plan.loss(F.cross_entropy, model(plan.apply(x)), target).backward()
    for found, mixed, whole in zip(both, gradients(model), clean, strict=True):
        torch.testing.assert_close(found, mixed + 0.7 * whole)

    again = rma.SaliencyMix().plan(x, saliency=alone, generator=seeded())
    assert torch.equal(plan.weights, again.weights), "what is kept does not change what is salient"


def test_keeping_is_a_training_step_and_leaves_the_modes_as_they_are():
    x, target, model = torch.randn(4, 6, 9), torch.randint(0, CLASSES, (4,)), Net()
    LossGradient(model, F.cross_entropy, target, keep=1.0)(x)
    assert int(model.norm.num_batches_tracked) == 1
    assert int(model.frozen.num_batches_tracked) == 0
    assert model.norm.training
    assert not model.frozen.training


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_no_graph_outlives_the_pass(keep):
    model, seen = plain_net(), []
    model[0].register_forward_hook(lambda _module, _inputs, output: seen.append(weakref.ref(output)))
    saliency = LossGradient(model, F.cross_entropy, torch.zeros(4, dtype=torch.long), keep=keep)
    found = saliency(torch.randn(4, 6, 9))
    gc.collect()
    assert seen[0]() is None
    assert not found.requires_grad


def test_it_works_without_gradients_in_inference_mode_and_with_a_batch_that_has_its_own():
    x, target, model = torch.randn(4, 6, 9), torch.randint(0, CLASSES, (4,)), plain_net()
    gradient = LossGradient(model, F.cross_entropy, target)
    expected = gradient(x)
    with torch.no_grad():
        assert torch.equal(gradient(x), expected)
    with torch.inference_mode():
        assert torch.equal(gradient(x.clone()), expected)
    x.requires_grad_()
    assert torch.equal(gradient(x), expected)
    assert x.grad is None


def test_under_autocast_the_training_step_that_follows_is_not_changed():
    x, target = torch.randn(8, 6, 9), torch.randint(0, CLASSES, (8,))

    def step(saliency: bool) -> list[Tensor]:
        model = plain_net()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            given = LossGradient(model, F.cross_entropy, target) if saliency else torch.ones(8, 6, 9)
            rma.SaliencyMix().plan(x, saliency=given)
            loss = F.cross_entropy(model(x), target)
        loss.backward()
        return gradients(model)

    for found, expected in zip(step(True), step(False), strict=True):
        assert torch.equal(found, expected)


def test_the_forward_pass_runs_in_the_users_autocast():
    dtypes, model = [], plain_net()
    model[0].register_forward_hook(lambda _module, _inputs, output: dtypes.append(output.dtype))
    gradient = LossGradient(model, F.cross_entropy, torch.zeros(4, dtype=torch.long), smooth=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plan = rma.SaliencyMix().plan(torch.randn(4, 6, 9), saliency=gradient)
        found = gradient(torch.randn(4, 6, 9))
    assert dtypes == [torch.bfloat16] * 2
    assert found.dtype == torch.float32
    assert plan.batch == 4


def test_a_scale_saves_gradients_that_float16_cannot_hold():
    model, target = plain_net().half(), torch.randint(0, CLASSES, (4,))
    model[4].weight.data *= 1e-5
    x = torch.randn(4, 6, 9, dtype=torch.float16)
    criterion = lambda z, y: F.cross_entropy(z.float(), y)  # noqa: E731
    lost = LossGradient(model, criterion, target)(x)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    saved = LossGradient(model, criterion, target, scale=scaler.scale)(x)
    assert (lost == 0).float().mean() > 0.5
    assert (saved > 0).float().mean() > 0.95
    assert saved.isfinite().all()


def test_kept_gradients_have_the_scale_of_the_scaled_loss():
    x, target, model = torch.randn(4, 6, 9), torch.randint(0, CLASSES, (4,)), plain_net()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    LossGradient(model, F.cross_entropy, target, keep=1.0, scale=scaler.scale)(x)
    scaled = gradients(model)
    model.zero_grad()
    scaler.scale(F.cross_entropy(model(x), target)).backward()
    for found, expected in zip(scaled, gradients(model), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_compiled_model_gives_the_same_and_is_set_back(keep):
    torch._dynamo.reset()
    x, target, model = torch.randn(4, 6, 9), torch.randint(0, CLASSES, (4,)), plain_net()
    model.insert(1, nn.BatchNorm1d(8))
    compiled = torch.compile(model, backend="aot_eager")
    expected = LossGradient(model, F.cross_entropy, target, keep=keep)(x)
    kept = gradients(model)
    model.zero_grad()
    torch.testing.assert_close(LossGradient(compiled, F.cross_entropy, target, keep=keep)(x), expected)
    for found, whole in zip(gradients(model), kept, strict=True):
        torch.testing.assert_close(found, whole)
    assert compiled.training
    assert all(part.training for part in model.modules())


def test_further_inputs_of_the_model_are_passed_on():
    class Masked(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return x.masked_fill(torch.arange(x.shape[2]) >= lengths[:, None, None], 0.0).sum((1, 2))

    lengths = torch.tensor([9, 4])
    found = LossGradient(Masked(), F.mse_loss, torch.ones(2), inputs=(lengths,))(torch.randn(2, 6, 9))
    assert (found[1, :, :4] > 0).all()
    assert (found[1, :, 4:] == 0).all()


def test_smoothing_is_that_of_the_saliency():
    x, target, model = torch.randn(4, 6, 9), torch.randint(0, CLASSES, (4,)), plain_net()
    plain = LossGradient(model, F.cross_entropy, target)(x)
    torch.testing.assert_close(LossGradient(model, F.cross_entropy, target, smooth=1.5)(x), smoothed(plain, 1.5))


def test_mistakes_about_the_gradient_are_named():
    model, target = plain_net(), torch.zeros(4, dtype=torch.long)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got function"):
        LossGradient(lambda x: x, F.cross_entropy, target)
    with pytest.raises(TypeError, match="criterion must be callable, got Tensor"):
        LossGradient(model, target, F.cross_entropy)
    for name in ("keep", "smooth"):
        for value in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"{name} must be at least 0"):
                LossGradient(model, F.cross_entropy, target, **{name: value})
    with pytest.raises(ValueError, match="layout must be one of"):
        LossGradient(model, F.cross_entropy, target, layout="TBF")
    for keep in (0.0, 1.0):
        with pytest.raises(ValueError, match="depends on the batch"):
            LossGradient(model, lambda output, _: output.detach().sum(), target, keep=keep)(torch.randn(4, 6, 9))
        with pytest.raises(ValueError, match="does not depend on the batch"):
            LossGradient(model, lambda _output, _: model[0].weight.sum(), target, keep=keep)(torch.randn(4, 6, 9))


def test_the_training_loop_of_the_docs_runs_as_it_stands_there():
    page = (Path(__file__).parent.parent / "docs" / "saliency.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    model = plain_net()
    before = [p.clone() for p in model.parameters()]
    batch = (torch.randn(8, 6, 40), torch.randint(1, 41, (8,)), torch.randint(0, CLASSES, (8,)))
    names = {"model": model, "loader": [batch] * 4, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    exec(code, names)
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def _process(rank: int, folder: str) -> None:
    """One of two processes, of which the first alone draws a method that follows saliency."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    x, target = torch.randn(2, 4, 6, 9, generator=seeded())[rank], torch.arange(4) + rank
    single = plain_net().insert(1, nn.BatchNorm1d(8))
    model = nn.parallel.DistributedDataParallel(plain_net().insert(1, nn.BatchNorm1d(8)))
    losses = [F.cross_entropy(single(x), target)]
    for keep in (0.0, 0.5):
        model.zero_grad()
        if rank == 0:
            LossGradient(model, F.cross_entropy, target, keep=keep)(x)
            losses += [keep * F.cross_entropy(single(x), target)] if keep else []
        F.cross_entropy(model(x), target).backward()
        single.zero_grad()
        sum(losses).backward(retain_graph=True)
        for found, expected in zip(gradients(model), gradients(single), strict=True):
            dist.all_reduce(expected)
            torch.testing.assert_close(found, expected / 2)
    dist.destroy_process_group()
    (Path(folder) / f"done{rank}").touch()


def test_of_two_processes_one_may_follow_the_gradient_alone_and_kept_gradients_are_averaged(tmp_path):
    mp.spawn(_process, (str(tmp_path),), nprocs=2)
    assert (tmp_path / "done0").exists()
    assert (tmp_path / "done1").exists()
