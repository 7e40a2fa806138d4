"""The recipes on a CUDA device: every mixer in every precision, and going on after a stop."""

from pathlib import Path

import pytest
import torch

from tests.recipes import gratings
from tests.recipes.conftest import run_here, stopped_after
from tests.recipes.test_resume import equal

pytestmark = pytest.mark.cuda

ON_CUDA = ("--device=cuda", "--epochs=2")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("mixer", ["none", "randommix", "puzzlemix", "comixup", "manifoldmix", "patchup"])
def test_every_way_to_mix_trains_in_every_precision(task_folder, tmp_path, precision, mixer):
    results = run_here(task_folder, tmp_path, *ON_CUDA, f"--mixer={mixer}", f"--precision={precision}", "--name=a")
    assert results["device"] == torch.cuda.get_device_name()
    assert 0 <= results["last"]["test"]["accuracy"] <= 1


@pytest.mark.parametrize(
    "options",
    [
        ("--channels_last=true", "--ema_decay=0.9"),
        ("--augment.noise_p=1.0", "--augment.shift_p=1.0", "--augment.speed_p=0.5", "--resident=no"),
        ("--mixer_args={per: row, p: 0.5}", "--keep_gradient=0.5", "--mixer=puzzlemix", "--precision=16-mixed"),
        ("--compile=true",),
    ],
    ids=str,
)
def test_other_options_train(task_folder, tmp_path, options):
    assert run_here(task_folder, tmp_path, *ON_CUDA, *options, "--name=a")["last"]["epoch"] == 2


@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_a_run_that_goes_on_equals_an_undisturbed_one_with_deterministic_kernels(task_folder, tmp_path, precision):
    # 16-mixed skips its first steps, until the scale of the loss has fallen far enough
    options = (*ON_CUDA, "--epochs=8", "--deterministic=true", f"--precision={precision}")
    run_here(task_folder, tmp_path, *options, "--name=whole")
    with stopped_after(8):
        run_here(task_folder, tmp_path, *options, "--name=stopped")
    run_here(task_folder, tmp_path, *options, "--name=stopped", "--resume=auto")
    one, other = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True, map_location="cpu")["model"]
        for name in ("whole", "stopped")
    )
    assert equal(one, other)


@pytest.mark.parametrize("resident", ["yes", "no"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_images_train_from_the_device_and_from_the_host(tmp_path: Path, resident: str, precision: str):
    data = gratings.make_set(tmp_path / "set")
    options = (*ON_CUDA, f"--resident={resident}", f"--precision={precision}", "--channels_last=true", "--name=a")
    assert gratings.run_here(data, tmp_path, *options)["last"]["test"]["clips"] == 21
