"""Mixers that look at the model: hidden layers that are mixed, and gradients that say what is salient."""

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from randommix_audio.data import Task
from recipes.shared import console, records
from recipes.shared.console import UserError
from recipes.shared.devices import make_fabric
from recipes.shared.mixing import make_mixer
from recipes.shared.models import seeded
from recipes.shared.preact_resnet import preact_resnet18
from recipes.shared.trainer import Moment, Trainer
from recipes.speech_commands.config import Config
from recipes.speech_commands.job import KeywordJob
from tests.recipes.conftest import SMALL, run_here, run_twice, stopped_after
from tests.recipes.test_resume import equal

CUTMIX_AND_PATCHUP = ("--mixer=randommix", "--candidates=[cutmix, patchup]", "--weights=[1, 2]")
KEPT = ("--mixer=puzzlemix", "--keep_gradient=0.7")


def config_of(*arguments: str) -> Config:
    return console.parse(Config, "train", [*SMALL, *arguments])[0]


def trainer_of(task_folder: Path, tmp_path: Path, *arguments: str, fabric: Fabric | None = None) -> Trainer:
    config = config_of(f"--data={task_folder}", *arguments)
    fabric = fabric or make_fabric("cpu", "32-true")
    job = KeywordJob(config, Task.open(task_folder), fabric)
    module = seeded(config.seed, len(job.task.labels), width=config.width)
    return Trainer(fabric, config, module, job, tmp_path, config.plain(), config.compile)


def first_step(trainer: Trainer) -> tuple[KeywordJob, object, Moment]:
    job = trainer.job
    assert isinstance(job, KeywordJob)
    trainer.network.train()
    return job, next(iter(job.batches(0))), Moment(0, 0.0, torch.Generator().manual_seed(0))


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize(
    "options, followed, layers",
    [
        (["--mixer=mixup"], None, None),
        (["--mixer=puzzlemix"], "gradient", None),
        (["--mixer=comixup"], "gradient", None),
        (["--mixer=saliencymix"], "energy", None),
        (["--mixer=puzzlemix", "--saliency=spectral_residual"], "spectral_residual", None),
        (["--mixer=randommix", "--candidates=[saliencymix, puzzlemix]"], "gradient", None),
        (["--mixer=randommix", "--candidates=[saliencymix, mixup]"], "energy", None),
        (["--mixer=manifoldmix"], None, ["input", "stages.1", "stages.3"]),
        (["--mixer=patchup"], None, ["stem", "stages.1"]),
        (["--mixer=patchup", "--layers=[stages.5]"], None, ["stages.5"]),
        (CUTMIX_AND_PATCHUP, None, ["stem", "stages.1"]),
    ],
)
def test_saliency_and_layers_are_the_paper_s_unless_given(options, followed, layers):
    config = config_of(*options)
    assert config.followed_saliency == followed
    assert config.hidden_layers == layers


def test_holes_are_filled_with_the_front_end_s_silence_unless_the_mixer_is_told_otherwise(task_folder, tmp_path):
    job = trainer_of(task_folder, tmp_path, "--mixer=cutout").job
    assert job.mixer.fill == job.front_end.pad_value != 0
    assert make_mixer(config_of("--mixer=cutout", "--mixer_args={fill: 0.25}"), fill=-0.5).fill == 0.25


@pytest.mark.parametrize(
    "options, message",
    [
        (["--mixer=mixup", "--saliency=energy"], "saliency: mixup follows none"),
        (["--mixer=cutmix", "--layers=[stem]"], "layers: cutmix mixes the input alone"),
        (["--mixer=patchup", "--layers=[stages.11]"], "'stages.11'"),
        (["--mixer=patchup", "--layers=[stem, stem]"], "layers must be a list of different names"),
        (["--mixer=patchup", "--layers=[]"], "layers must be a list of different names"),
        (["--mixer=puzzlemix", "--keep_gradient=-1"], "keep_gradient must not be negative, got -1"),
        (["--mixer=puzzlemix", "--saliency=energy", "--keep_gradient=1"], "puzzlemix follows energy"),
        (["--mixer=mixup", "--keep_gradient=1"], "keep_gradient needs saliency gradient; mixup follows none"),
        (["--mixer=puzzlemix", "--mixer_args={saliency: energy}"], "saliency is an option of its own"),
        (["--mixer=puzzlemix", "--saliency=loud"], "saliency"),
        ([*CUTMIX_AND_PATCHUP, "--mixer_args={per: row}"], "mixer randommix, layers: "),
    ],
)
def test_options_that_do_not_fit_the_mixer_are_named_in_one_line(task_folder, tmp_path, options, message):
    with pytest.raises(UserError) as caught:
        run_here(task_folder, tmp_path, *options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("saliency", ["gradient", "energy", "spectral_residual"])
def test_all_candidates_of_randommix_can_follow_any_saliency(task_folder, tmp_path, saliency):
    both = ["--mixer=randommix", "--candidates=[saliencymix, puzzlemix]", "--weights=[1, 1]"]
    job, batch, moment = first_step(trainer_of(task_folder, tmp_path, *both, f"--saliency={saliency}"))
    x = job.prepare(batch, moment.generator)
    found = [job.mix(x, batch, moment).share for _ in range(2)]
    assert not torch.equal(*found)
    assert all(share.shape == (2, 8) for share in found)


def test_the_pass_that_finds_the_saliency_leaves_statistics_and_gradients_of_the_weights_alone(task_folder, tmp_path):
    trainer = trainer_of(task_folder, tmp_path, "--mixer=puzzlemix")
    job, batch, moment = first_step(trainer)
    before = {name: value.clone() for name, value in trainer.module.state_dict().items()}
    job.mix(job.prepare(batch, moment.generator), batch, moment)
    assert equal(before, dict(trainer.module.state_dict()))
    assert all(parameter.grad is None for parameter in trainer.module.parameters())
    assert all(module.training for module in trainer.module.modules())


def test_the_gradient_of_a_step_is_that_of_the_mixed_clips_plus_the_kept_one_of_the_clean_clips(task_folder, tmp_path):
    trainer = trainer_of(task_folder, tmp_path, *KEPT, "--label_smoothing=0.1")
    job, batch, moment = first_step(trainer)
    loss = job.step(trainer.network, batch, moment).loss
    kept = [parameter.grad.clone() for parameter in trainer.module.parameters()]
    x = job.prepare(batch, moment.generator)
    clean = F.cross_entropy(trainer.module(x), batch.target, label_smoothing=0.1)
    of_clean = torch.autograd.grad(clean, list(trainer.module.parameters()))
    for found, wanted in zip(kept, of_clean, strict=True):
        torch.testing.assert_close(found, 0.7 * wanted)
    of_mixed = torch.autograd.grad(loss, list(trainer.module.parameters()), retain_graph=True)
    trainer.fabric.backward(loss)
    for parameter, one, other in zip(trainer.module.parameters(), kept, of_mixed, strict=True):
        torch.testing.assert_close(parameter.grad, one + other)


def test_a_kept_gradient_is_scaled_as_the_other_one_in_half_precision(task_folder, tmp_path):
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    half = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    trainer = trainer_of(task_folder, tmp_path, *KEPT, fabric=half)
    job, batch, moment = first_step(trainer)
    job.step(trainer.network, batch, moment)
    with half.autocast():
        clean = F.cross_entropy(trainer.module(job.prepare(batch, moment.generator)), batch.target)
    of_clean = torch.autograd.grad(256 * 0.7 * clean, list(trainer.module.parameters()))
    for parameter, wanted in zip(trainer.module.parameters(), of_clean, strict=True):
        torch.testing.assert_close(parameter.grad, wanted)


def test_two_processes_share_the_gradient_that_each_has_kept(task_folder, tmp_path):
    done = run_twice("tests.recipes.ddp_harness", task_folder, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(f"process {rank} of 2: the mean" in done.stdout for rank in (0, 1))


@pytest.mark.parametrize("limit", [None, 0.5])
def test_the_optimizer_gets_what_this_step_has_kept_and_no_more_within_the_limit(
    task_folder, tmp_path, monkeypatch, limit
):
    gradients = []

    def taken(optimizer: torch.optim.SGD, *_: object) -> None:
        gradients.append(torch.cat([p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]))

    monkeypatch.setattr(torch.optim.SGD, "step", taken)  # the weights stay
    clip = [] if limit is None else [f"--clip_norm={limit}"]
    trainer = trainer_of(task_folder, tmp_path, *KEPT, "--keep_gradient=1000", *clip)
    job, batch, moment = first_step(trainer)
    for _ in range(2):
        trainer._train_step(batch, None)
    clean = F.cross_entropy(trainer.module(job.prepare(batch, moment.generator)), batch.target)
    kept = torch.cat([g.flatten() for g in torch.autograd.grad(1000 * clean, list(trainer.module.parameters()))])
    wanted = kept if limit is None else kept * limit / kept.norm()
    for gradient in gradients:  # that of the mixed clips is small beside it
        assert (gradient - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("options", [["--mixer=manifoldmix"], ["--mixer=patchup"], CUTMIX_AND_PATCHUP])
def test_hidden_mixing_stays_out_of_the_average_the_evaluation_and_the_checkpoint(task_folder, tmp_path, options):
    trainer = trainer_of(task_folder, tmp_path, *options, "--ema_decay=0.9")
    job, batch, _ = first_step(trainer)
    trainer._train_step(batch, None)
    assert hooks(trainer.module) > 0
    assert hooks(trainer.judged) == 0
    plain = preact_resnet18(3, width=4)
    plain.load_state_dict(trainer.module.state_dict())
    assert job.evaluate(trainer.module, "test") == job.evaluate(plain, "test")


def test_the_hidden_mix_of_a_step_is_not_in_the_next_step_s_pass_for_the_saliency(task_folder, tmp_path):
    options = ["--mixer=randommix", "--candidates=[manifoldmix, puzzlemix]", "--weights=[1, 1]", "--layers=[stem]"]
    trainer = trainer_of(task_folder, tmp_path, *options, "--keep_gradient=1")
    job, batch, moment = first_step(trainer)
    plain = preact_resnet18(3, width=4)
    plain.load_state_dict(trainer.module.state_dict())
    x = job.prepare(batch, moment.generator)
    job.mixer.weights = [1.0, 0.0]
    assert job.mix(x, batch, moment).method == "manifoldmix"
    assert not torch.equal(trainer.network(x), plain(x))
    job.mixer.weights = [0.0, 1.0]
    assert job.mix(x, batch, moment).method == "puzzlemix"
    clean = torch.autograd.grad(F.cross_entropy(plain(x), batch.target), list(plain.parameters()))
    for parameter, wanted in zip(trainer.module.parameters(), clean, strict=True):
        torch.testing.assert_close(parameter.grad, wanted)


class Recorder(SummaryWriter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.images: list[tuple[int, ...]] = []
        self.texts: list[str] = []

    def add_image(self, tag: str, image: torch.Tensor, step: int) -> None:
        self.images.append(tuple(image.shape))

    def add_text(self, tag: str, text: str, step: int) -> None:
        self.texts.append(text)


@pytest.mark.parametrize(
    "options, images, texts",
    [
        (["--mixer=cutout"], [(1, 2 * 12, 8 * 16)], []),
        (["--mixer=mixup"], [(1, 3 * 12, 8 * 16)], []),
        (["--mixer=comixup"], [(1, 5 * 12, 8 * 16)], []),
        (["--mixer=manifoldmix", "--layers=[input]"], [(1, 3 * 12, 8 * 16)], []),
        (["--mixer=manifoldmix", "--layers=[stages.3]"], [], ["no picture: the output of stages.3 was mixed"]),
    ],
)
def test_tensorboard_shows_all_sources_of_a_mixed_input_and_says_where_a_layer_was_mixed(
    task_folder, tmp_path, options, images, texts
):
    trainer = trainer_of(task_folder, tmp_path, *options)
    job, batch, moment = first_step(trainer)
    moment.pictures = Recorder()
    job.step(trainer.network, batch, moment)
    assert moment.pictures.images == images
    assert moment.pictures.texts == texts


@pytest.mark.parametrize(
    "options, drawn, left_out",
    [
        (["--mixer=manifoldmix"], {"curves", "confusion"}, "manifoldmix"),
        ([*CUTMIX_AND_PATCHUP, "--weights=[1, 0]"], {"curves", "confusion", "mixes", "methods"}, "patchup"),
    ],
)
def test_methods_of_hidden_layers_have_no_picture_and_are_named(
    task_folder, tmp_path, capsys, options, drawn, left_out
):
    run_here(task_folder, tmp_path, "--epochs=1", "--name=a", "--pictures=true", *options)
    assert {picture.stem for picture in (tmp_path / "a" / "pictures").iterdir()} == drawn
    assert f"no picture of {left_out}: it mixes hidden layers" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--mixer=manifoldmix"],
        ["--mixer=patchup"],
        [*KEPT, "--clip_norm=1"],
        ["--mixer=randommix", "--candidates=[comixup, patchup, saliencymix]", "--weights=[1, 1, 1]"],
    ],
    ids=["manifoldmix", "patchup", "puzzlemix", "randommix"],
)
def test_a_run_that_was_stopped_ends_as_an_undisturbed_one(task_folder, tmp_path, options):
    options = ["--epochs=3", "--ema_decay=0.9", "--dropout=0.2", "--augment.gain_p=0.5", *options]
    run_here(task_folder, tmp_path, "--name=undisturbed", *options)
    with stopped_after(5):  # three steps an epoch: the second epoch is begun and lost
        run_here(task_folder, tmp_path, "--name=stopped", *options)
    run_here(task_folder, tmp_path, "--name=stopped", "--resume=auto", *options)
    one, other = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("undisturbed", "stopped"))
    for part in ("model", "average", "optimizer", "best", "step"):
        assert equal(one[part], other[part])
    lines = [records.read_metrics(tmp_path / name / "metrics.jsonl") for name in ("undisturbed", "stopped")]
    assert records.without_times(lines[0]) == records.without_times(lines[1])
    assert len(lines[0]) == 3
