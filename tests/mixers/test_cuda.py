"""Plans, mixes and losses on a CUDA device: the numbers of the CPU, without waiting for the device."""

import pytest
import torch
import torch.nn.functional as F

import randommix_audio as rma
from randommix_audio.saliency import LossGradient
from tests.devices import waiting_is_an_error
from tests.hidden.models import LAYERS, Network
from tests.mixers.strategies import NAMES, WITH_OFFICIAL_VARIANT

pytestmark = pytest.mark.cuda

B, FREQ, TIME, CLASSES = 9, 20, 50, 4
SOLVED = ("puzzlemix", "comixup")  # a rounding error may decide for another block


def seeded(device: str = "cpu") -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def batch(channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded()
    return torch.randn(B, channels, FREQ, TIME, generator=generator), torch.arange(10, 10 + 5 * B, 5).clamp(max=TIME)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["batch", "row"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_neither_plan_nor_mix_nor_loss_waits_for_the_device(name, per, device):
    generator = seeded(device)
    mixer, x = rma.build(name, per=per), torch.randn(B, 1, FREQ, TIME, device="cuda")
    target, events = torch.arange(B, device="cuda") % CLASSES, torch.rand(B, CLASSES, 10, device="cuda")
    logits = torch.randn(B, CLASSES, device="cuda")

    def use(lengths: torch.Tensor | None, rows: torch.Tensor | None) -> None:
        plan = mixer.plan(x, lengths=lengths, rows=rows, generator=generator)
        plan.apply(x)
        plan.apply(x, out=torch.empty_like(x))
        plan.loss(F.cross_entropy, logits, target)
        plan.accuracy(logits, target)
        plan.mix_targets(target, CLASSES)
        plan.mix_frames(events, hop=5)

    frames, some = torch.full((B,), 31, device="cuda"), torch.rand(B, device="cuda") > 0.5
    for lengths, rows in ((None, None), (frames, some)):
        use(lengths, rows)  # what a device sets up once may wait
        with waiting_is_an_error():
            use(lengths, rows)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SOLVED])
@pytest.mark.parametrize("per", ["batch", "row"])
@pytest.mark.parametrize("variant", ["default", "official"])
def test_a_cpu_generator_draws_the_plan_of_the_cpu_and_the_mix_is_the_same(name, per, variant):
    mixer = rma.build(name, per=per, **({"variant": variant} if name in WITH_OFFICIAL_VARIANT else {}))
    x, lengths = batch()
    here = mixer.plan(x, lengths=lengths, generator=seeded())
    there = mixer.plan(x.cuda(), lengths=lengths.cuda(), generator=seeded())
    assert torch.equal(there.sources.cpu(), here.sources)
    torch.testing.assert_close(there.share.cpu(), here.share, rtol=0, atol=1e-5)
    torch.testing.assert_close(there.apply(x.cuda()).cpu(), here.apply(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["batch", "row"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_plan_that_is_moved_to_the_device_mixes_as_on_the_cpu(name, per, dtype):
    x, lengths = batch(channels=3)
    x = x.to(dtype).to(memory_format=torch.channels_last)
    plan = rma.build(name, per=per).plan(x, lengths=lengths, generator=seeded())
    moved = rma.MixPlan.from_state_dict(plan.state_dict()).to("cuda")
    mixed = moved.apply(x.cuda())
    assert (mixed.dtype, mixed.device.type) == (dtype, "cuda")
    close = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}[dtype]
    torch.testing.assert_close(mixed.cpu(), plan.apply(x), rtol=close, atol=close)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["batch", "row"])
def test_gradients_through_a_mix_are_those_of_the_cpu(name, per):
    x, lengths = batch()
    plan, weight = rma.build(name, per=per).plan(x, lengths=lengths, generator=seeded()), torch.randn_like(x)
    own, other = x.clone().requires_grad_(), x.cuda().requires_grad_()
    (plan.apply(own) * weight).sum().backward()
    (plan.to("cuda").apply(other) * weight.cuda()).sum().backward()
    assert own.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(other.grad.cpu(), own.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("per", ["batch", "row"])
def test_methods_that_solve_a_problem_find_most_of_the_cpu_s_blocks(name, per):
    mixer, generator = rma.build(name, per=per), seeded()
    x = torch.randn(64, 1, 32, 40, generator=generator)
    here, there = (mixer.plan(some, generator=seeded()) for some in (x, x.cuda()))
    same = (there.share.cpu() - here.share).abs().amax(0) < 1e-3
    assert same.float().mean() > 0.9


@pytest.mark.parametrize("per", ["batch", "row"])
def test_a_device_generator_is_replayed_by_its_seed(per):
    x = torch.randn(B, 1, FREQ, TIME, device="cuda")
    mixer = rma.RandomMix(per=per)
    first, again = (mixer(x, generator=rma.step_generator(3, 5, device="cuda"))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, mixer(x, generator=rma.step_generator(3, 6, device="cuda"))[0])


@pytest.mark.parametrize("name", ["randommix", "fmix"])
@pytest.mark.parametrize("per", ["batch", "row"])
def test_a_compiled_mix_is_the_plain_one(name, per):
    torch._dynamo.reset()
    mixer = rma.build(name, per=per)
    compiled = torch.compile(lambda x, plan: plan.apply(x), fullgraph=True, dynamic=True)
    for rows in (B, B - 1):
        x = torch.randn(rows, 1, FREQ, TIME, device="cuda")
        plan = mixer.plan(x, generator=seeded())
        torch.testing.assert_close(compiled(x, plan), plan.apply(x))


def test_the_mixed_ctc_loss_is_that_of_the_cpu():
    generator = seeded()
    x, frames = batch()
    plan = rma.Mixup(per="row").plan(x, lengths=frames, generator=generator)
    scores = torch.randn(B, TIME, 7, generator=generator).log_softmax(-1)
    text = torch.randint(1, 7, (B, 4), generator=generator)
    letters = torch.tensor([4, 3, 2, 1, 4, 3, 2, 1, 4])
    here = plan.ctc_loss(scores, text, letters, plan.lengths)
    moved = plan.to("cuda")
    there = moved.ctc_loss(scores.cuda(), text.cuda(), letters.cuda(), moved.lengths)
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mixer", [rma.ManifoldMixup(), rma.PatchUp(), rma.PatchUp(per="row", mode="hard")], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_layers_are_mixed_without_waiting(mixer, dtype):
    model = Network().cuda()
    hidden = mixer.attach(model, LAYERS)
    x, target = torch.randn(B, 1, FREQ, TIME, device="cuda"), torch.arange(B, device="cuda") % CLASSES
    for step in range(12):  # every layer comes once or more
        plan = hidden.draw(x, generator=rma.step_generator(0, step, device="cuda"))
        with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            if step < 6:
                plan.loss(F.cross_entropy, model(x), target).backward()
            else:
                with waiting_is_an_error():
                    plan.loss(F.cross_entropy, model(x), target).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", ["puzzlemix", "comixup", "saliencymix"])
def test_the_gradient_of_the_loss_is_followed_without_waiting(name):
    model, mixer = Network().cuda(), rma.build(name)
    x, target = torch.randn(B, 1, FREQ, TIME, device="cuda"), torch.arange(B, device="cuda") % CLASSES

    def mix() -> None:
        mixer(x, saliency=LossGradient(model, F.cross_entropy, target))

    mix()
    with waiting_is_an_error():
        mix()
