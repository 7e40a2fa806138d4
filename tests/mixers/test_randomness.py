"""Where randomness comes from, and where it must not go."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import randommix_audio as rma
from randommix_audio import draws
from tests.devices import pretended_cuda
from tests.mixers.strategies import NAMES, WITH_OFFICIAL_VARIANT


@pytest.mark.parametrize("name", NAMES)
def test_a_given_generator_leaves_torchs_own_alone(name):
    x = torch.randn(4, 8, 20)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    rma.build(name, per="row", p=0.5).plan(x, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_generator_torch_manual_seed_decides(name):
    x = torch.randn(6, 8, 20)
    mixer = rma.build(name, per="row")
    torch.manual_seed(7)
    first = mixer.plan(x)
    torch.manual_seed(7)
    assert torch.equal(mixer.plan(x).weights, first.weights)


def test_step_generators_differ_by_seed_step_and_rank_and_repeat():
    draw = {
        key: float(torch.rand(1, generator=rma.step_generator(*key)))
        for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 10, 0), (11, 0, 0)]
    }
    assert len(set(draw.values())) == len(draw)
    assert float(torch.rand(1, generator=rma.step_generator(0, 1, 0))) == draw[0, 1, 0]


class DeviceGenerator:
    """Stands in for a generator of an accelerator: its state can be read, nothing can be copied from the device."""

    def __init__(self) -> None:
        self.device = torch.device("meta")
        self.offset = 0

    def get_state(self) -> torch.Tensor:
        return torch.tensor([5, self.offset], dtype=torch.uint8)


def test_host_draws_from_a_device_generator_advance_it(monkeypatch):
    generator = DeviceGenerator()
    real = torch.rand

    def rand(*size, generator=None, **options):
        if isinstance(generator, DeviceGenerator):
            generator.offset += 1
            return None
        return real(*size, generator=generator, **options)

    monkeypatch.setattr(draws.torch, "rand", rand)
    first, second = draws.host_uniforms(generator, 3), draws.host_uniforms(generator, 3)
    assert first != second
    assert draws.host_uniforms(type(generator)(), 3) == first


@pytest.mark.parametrize("per", ["batch", "row"])
def test_processes_of_one_method_generator_draw_one_method_and_partners_of_their_own(per):
    x = torch.randn(32, 8, 20)
    mixer = rma.RandomMix(per=per, p=0.5)
    methods, rows = set(), 0
    for step in range(12):
        first, second = (
            mixer.plan(
                x,
                generator=rma.step_generator(0, step, rank),
                method_generator=rma.step_generator(0, step, -1),
            )
            for rank in range(2)
        )
        if per == "row":
            assert len(set(first.method)) > 1
            assert torch.equal(first.drawn, second.drawn)
        else:
            assert first.method == second.method
        methods |= {str(first.method)}
        rows += int((first.sources[1] != second.sources[1]).sum())
    assert len(methods) > 2
    assert rows > 100


def test_a_method_generator_decides_the_number_of_blocks():
    x = torch.randn(4, 1, 16, 24).abs()
    mixer = rma.PuzzleMix()
    blocks = [
        [
            mixer.plan(
                x,
                generator=rma.step_generator(0, step, rank),
                method_generator=rma.step_generator(0, step, -1),
            ).geometry.grid.shape
            for step in range(8)
        ]
        for rank in range(2)
    ]
    assert blocks[0] == blocks[1]
    assert len(set(blocks[0])) > 1


@pytest.mark.parametrize("options", [{"per": "row"}, {"per": "row", "p": 0.3}, {"p": 0.5}])
def test_processes_whose_batches_differ_in_size_keep_one_method_generator_in_step(options):
    mixer = rma.RandomMix(["mixup", "puzzlemix"], **options)
    decided = []
    for rank, sizes in enumerate([(4, 4, 4, 4, 4, 4), (4, 1, 0, 7, 2, 4)]):
        method_generator = rma.step_generator(0, 0, -1)
        plans = [
            mixer.plan(
                torch.randn(size, 1, 16, 24).abs(),
                generator=rma.step_generator(0, step, rank),
                method_generator=method_generator,
            )
            for step, size in enumerate(sizes)
        ]
        decided.append((plans[-1].method, plans[3].method[:4], method_generator.get_state().tolist()))
    assert decided[0] == decided[1]


def test_the_number_of_blocks_does_not_follow_from_how_many_rows_chose_their_method_before():
    mixer = rma.RandomMix([rma.PuzzleMix(per="row"), "mixup"], weights=[1, 0], per="row")
    blocks = [
        [
            mixer.plan(torch.rand(size, 1, 16, 24), method_generator=rma.step_generator(0, step, -1))
            .geometry.parts[0]
            .grid.shape[-2:]
            for step in range(8)
        ]
        for size in (4, 7)
    ]
    assert blocks[0] == blocks[1]
    assert len(set(blocks[0])) > 1


def test_without_a_method_generator_the_generator_decides_all():
    x = torch.randn(6, 8, 20)
    plans = [rma.RandomMix().plan(x, generator=torch.Generator().manual_seed(step)) for step in range(20)]
    again = [rma.RandomMix().plan(x, None, None, torch.Generator().manual_seed(step), None, None) for step in range(20)]
    assert [plan.method for plan in plans] == [plan.method for plan in again]


def test_a_method_generator_that_would_have_to_be_waited_for_is_refused():
    x = torch.randn(6, 8, 20)
    with pytest.raises(ValueError, match="method_generator lives on meta; it must live on the CPU"):
        rma.RandomMix().plan(x, method_generator=DeviceGenerator())
    with pytest.raises(TypeError, match=r"method_generator must be a torch.Generator, got int"):
        rma.RandomMix().plan(x, method_generator=3)


@pytest.mark.parametrize("per", ["batch", "row"])
@pytest.mark.parametrize("variant", ["default", "official"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [None, "cpu", "cuda"])
def test_plan_and_apply_never_wait_for_the_device(name, per, variant, lengths, monkeypatch):
    monkeypatch.setattr(draws, "host_uniforms", lambda generator, count: [(k % 7) / 7 for k in range(count)])
    options = {"variant": variant} if name in WITH_OFFICIAL_VARIANT else {}
    mixer = rma.build(name, per=per, p=0.7, **options)
    with pretended_cuda():
        x = torch.randn(9, 1, 20, 50, device="cuda")
        valid = torch.randint(0, 51, (9,), device=lengths) if lengths else None
        for pairing in ("permutation", "derangement", "neighbour"):
            mixer.pairing = pairing
            mixer(x, lengths=valid)
            mixed, plan = mixer(x, lengths=valid, rows=torch.rand(9, device="cuda") > 0.5)
            assert mixed.shape == x.shape
            plan.loss(
                torch.nn.functional.cross_entropy,
                torch.randn(9, 4, device="cuda"),
                torch.randint(0, 4, (9,), device="cuda"),
            )
            plan.accuracy(torch.randn(9, 4, device="cuda"), torch.randint(0, 4, (9,), device="cuda"))
            plan.mix_targets(torch.rand(9, 4, device="cuda"))
            plan.mix_frames(torch.rand(9, 4, 10, device="cuda"), hop=5)
            plan.weights.sum()
        mixer.eval()(x, lengths=valid)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["batch", "row"])
def test_no_way_to_apply_a_plan_waits_for_the_device(name, per, monkeypatch):
    monkeypatch.setattr(draws, "host_uniforms", lambda generator, count: [(k % 7) / 7 for k in range(count)])
    with pretended_cuda():
        for lengths in (None, torch.randint(0, 51, (9,), device="cuda")):
            x = torch.randn(9, 1, 20, 50, device="cuda")
            plan = rma.build(name, per=per).plan(x, lengths=lengths)
            assert plan.apply(x, out=torch.empty_like(x)).shape == x.shape
            assert plan.apply(x, out=x) is x
    with FakeTensorMode():
        for lengths in (None, torch.randint(0, 51, (9,))):
            x = torch.randn(9, 1, 20, 50, requires_grad=True)
            rma.build(name, per=per).plan(x, lengths=lengths).apply(x).sum().backward()


@pytest.mark.parametrize("saliency", ["energy", "spectral_residual"])
@pytest.mark.parametrize("name", ["saliencymix", "puzzlemix", "comixup"])
def test_no_saliency_waits_for_the_device(name, saliency, monkeypatch):
    monkeypatch.setattr(draws, "host_uniforms", lambda generator, count: [(k % 7) / 7 for k in range(count)])
    with pretended_cuda():
        x = torch.randn(9, 1, 20, 50, device="cuda")
        for lengths in (None, torch.randint(0, 51, (9,), device="cuda")):
            rma.build(name, saliency=saliency)(x, lengths=lengths)


def test_a_generator_of_a_third_device_is_refused():
    with pytest.raises(ValueError, match="generator lives on meta"):
        draws.Draws(DeviceGenerator(), torch.device("cpu"))


def test_autocast_changes_no_plan():
    x = torch.randn(4, 20, 50)
    plain = rma.FMix(per="row").plan(x, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = rma.FMix(per="row").plan(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.weights, cast.weights)
