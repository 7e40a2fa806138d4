"""Parts of the recipe on their own: averaged weights, kept features, compilation, options and their help."""

import functools
from pathlib import Path

import pytest
import torch

from randommix_audio.data import BankLoader, Task
from recipes.shared import console
from recipes.shared.console import UserError
from recipes.shared.devices import make_fabric
from recipes.shared.optim import Average
from recipes.shared.preact_resnet import preact_resnet18
from recipes.speech_commands import evaluate, predict, report
from recipes.speech_commands.config import Config
from recipes.speech_commands.job import KeywordJob, data_digest
from recipes.speech_commands.recogniser import load
from tests.recipes.conftest import SMALL, run_here


def test_averaged_weights_are_a_moving_average_with_a_rising_decay_and_counts_are_copied():
    model = preact_resnet18(3, width=2)
    average = Average(model, decay=0.2)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(4):
        model(torch.randn(4, 1, 5, 7))  # moves the statistics of batch norm
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        average.update(step)
        keep = min(0.2, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            counts = not value.is_floating_point()
            expected[name] = value.clone() if counts else keep * expected[name] + (1 - keep) * value
    found = average.model.state_dict()
    assert found["norm.num_batches_tracked"] == 4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_an_average_that_was_loaded_goes_on_from_there():
    model = preact_resnet18(3, width=2)
    average, other = Average(model, decay=0.5), preact_resnet18(3, width=2)
    average.model.load_state_dict(other.state_dict())
    average.update(step=10**6)
    wanted = 0.5 * other.head.weight + 0.5 * model.head.weight
    torch.testing.assert_close(average.model.head.weight, wanted.detach())


def job_of(task_folder: Path, *arguments: str) -> KeywordJob:
    config, _ = console.parse(Config, "train", [f"--data={task_folder}", *SMALL, *arguments])
    return KeywordJob(config, Task.open(task_folder), make_fabric("cpu", "32-true"))


@pytest.mark.parametrize("resident", ["yes", "no"])
def test_kept_features_are_those_of_the_waveforms_and_these_are_not_read_again(task_folder, monkeypatch, resident):
    job = job_of(task_folder, f"--resident={resident}", "--workers=1")
    loaded = list(BankLoader(job.task.split("train"), job.config.batch_size, seed=job.config.seed).epoch(1))
    for batch, wanted in zip(job.batches(1), loaded, strict=True):
        assert batch.wave.shape == (len(wanted), 0)
        for column in ("target", "silence", "index", "lengths"):
            assert torch.equal(getattr(batch, column), getattr(wanted, column))
        features = job.prepare(batch, torch.Generator())
        torch.testing.assert_close(features[:, 0], job.front_end(wanted.wave))
    monkeypatch.setattr(BankLoader, "epoch", None)  # from here on nothing can be loaded
    assert sum(len(batch) for batch in job.batches(2)) == 19


def test_changed_waveforms_are_read_in_every_epoch(task_folder):
    job = job_of(task_folder, "--augment.gain_p=1")
    assert all(batch.wave.shape[1] == job.shape.samples for batch in job.batches(0))


def test_the_digest_of_a_task_sees_targets_and_noise_but_not_the_place(task_folder):
    first, other = Task.open(task_folder), Task.open(task_folder)
    assert data_digest(first) == data_digest(other)
    other.entries["test"].target[0] += 1
    assert data_digest(first) != data_digest(other)
    assert first.noise is not None
    changed = Task.open(task_folder)
    assert changed.noise is not None
    changed.noise.samples = changed.noise.samples + 1
    assert data_digest(first) != data_digest(changed)


@pytest.mark.parametrize(
    "mixer",
    [["randommix"], ["manifoldmix"], ["patchup"], ["puzzlemix", "--keep_gradient=1"]],
    ids=lambda mixer: mixer[0],
)
def test_a_compiled_training_gives_the_weights_of_a_plain_one_and_a_checkpoint_that_loads(
    task_folder, tmp_path, monkeypatch, mixer
):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    options = ["--epochs=2", "--ema_decay=0.9", "--mixer", *mixer]
    for name, compiled in (("plain", "false"), ("compiled", "true")):
        run_here(task_folder, tmp_path, f"--name={name}", f"--compile={compiled}", *options)
    (plain, _), (compiled, _) = (load(tmp_path / name / "last.ckpt") for name in ("plain", "compiled"))
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_one_device_for_many_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="device cuda:1 is one device, but 2 processes were started"):
        make_fabric("cuda:1", "32-true")


@pytest.mark.parametrize(
    "program, said",
    [
        (predict, ["python -m recipes.speech_commands.predict", "Print the most likely words", "the audio files"]),
        (report, ["python -m recipes.speech_commands.report", "folders of runs; those without", "{last,best}"]),
        (evaluate, ["python -m recipes.speech_commands.evaluate", "{train,validation,test}"]),
    ],
)
def test_the_help_says_what_the_program_does_what_stands_without_a_name_and_what_can_be_chosen(program, said, capsys):
    with pytest.raises(SystemExit) as left:
        program.main(["--help"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in said:
        assert words in shown
