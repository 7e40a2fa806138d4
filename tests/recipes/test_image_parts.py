"""Parts of the image recipe on their own: augmentation, networks, order, scores."""

import importlib

import pytest
import torch
from torch import nn

import randommix_audio as rma
from recipes.images.augment import crop_and_flip, normalise, pixels
from recipes.images.job import ImageJob
from recipes.images.sources import open_source
from recipes.shared import records
from recipes.shared.batching import epoch_rows
from recipes.shared.classifier import contact_sheet, judge, report_of
from recipes.shared.console import UserError
from recipes.shared.devices import make_fabric
from recipes.shared.models import LAYERS, make_model
from recipes.shared.preact_resnet import count_parameters
from recipes.shared.trainer import Moment
from tests.recipes.conftest import run_here as run_speech_here
from tests.recipes.gratings import config_of, make_set


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int, height: int = 5, width: int = 7) -> torch.Tensor:
    """Images whose pixels are all different and above 0, so that one can see where each came from."""
    one = torch.arange(1, height * width * 3 + 1, dtype=torch.uint8).view(1, height, width, 3)
    return one.expand(count, -1, -1, -1).clone()


def windows(image: torch.Tensor, padding: int) -> dict[bytes, tuple[int, int, bool]]:
    """Every crop of a padded image, mirrored and not, by its bytes."""
    height, width = image.shape[:2]
    padded = torch.zeros(height + 2 * padding, width + 2 * padding, 3, dtype=image.dtype)
    padded[padding : padding + height, padding : padding + width] = image
    found = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[top : top + height, left : left + width]
            found[crop.numpy().tobytes()] = (top, left, False)
            found[crop.flip(1).contiguous().numpy().tobytes()] = (top, left, True)
    return found


def test_every_row_is_a_crop_of_its_own_padded_image_at_any_place_and_half_of_them_are_mirrored():
    images = numbered(2000)
    out = crop_and_flip(images, 2, 0.5, generator())
    assert (out.shape, out.dtype) == (images.shape, torch.uint8)
    known = windows(images[0], 2)
    places = [known[row.numpy().tobytes()] for row in out]  # a KeyError is a row that is no crop
    assert {place[:2] for place in places} == {(top, left) for top in range(5) for left in range(5)}
    assert 900 < sum(mirrored for _, _, mirrored in places) < 1100
    assert torch.equal(images, numbered(2000))


@pytest.mark.parametrize("rows", [1, 3])
def test_the_generator_alone_decides_and_nothing_is_done_where_nothing_is_asked_for(rows):
    images = numbered(rows)
    images[0] = 0
    first, again, other = (crop_and_flip(images, 3, 0.5, generator(seed)) for seed in (1, 1, 3))
    assert torch.equal(first, again)
    assert rows == 1 or not torch.equal(first, other)
    assert torch.equal(crop_and_flip(images, 0, 0.0, generator()), images)
    assert torch.equal(crop_and_flip(images, 0, 1.0, generator()), images.flip(2))


def test_images_are_normalised_channel_by_channel():
    images = torch.tensor([[[[0, 51, 255]], [[255, 0, 102]]]], dtype=torch.uint8)  # (1, 2, 1, 3)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.5, 0.1, 0.2), (0.5, 0.1, 0.4)))
    assert torch.allclose(pixels(images)[0, :, 0, 0], torch.tensor([0.0, 0.2, 1.0]))
    found = normalise(images, mean, std)
    assert torch.allclose(found, torch.tensor([[[[-1.0], [1.0]], [[1.0], [-1.0]], [[2.0], [0.5]]]]))


@pytest.mark.parametrize(
    "model, width, classes, millions", [("wide_resnet28", 160, 10, 36.48), ("resnet50", 64, 1000, 25.56)]
)
def test_the_networks_have_as_many_parameters_as_in_their_papers(model, width, classes, millions):
    with torch.device("meta"):
        assert round(count_parameters(make_model(classes, 3, width, model=model)) / 1e6, 2) == millions


def test_wide_resnet_has_28_convolutions_and_divides_height_and_width_by_4():
    model = make_model(5, 3, 6, model="wide_resnet28")
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 28
    assert model.stages(model.stem(torch.rand(2, 3, 12, 16))).shape == (2, 24, 3, 4)


@pytest.mark.parametrize("model", LAYERS)
@pytest.mark.parametrize("channels, height, width", [(3, 32, 40), (1, 40, 33)])
def test_every_network_takes_any_height_width_and_number_of_channels(model, channels, height, width):
    network = make_model(7, channels, 2, 0.1, model).eval()
    assert network(torch.rand(1, channels, height, width)).shape == (1, 7)


@pytest.mark.parametrize("model", LAYERS)
@pytest.mark.parametrize("mixer", ["manifoldmix", "patchup"])
def test_the_layers_of_every_network_can_be_mixed(model, mixer):
    network = make_model(3, 3, 2, model=model).train()
    layers = LAYERS[model][mixer]
    x, target = torch.rand(4, 3, 32, 40), torch.tensor([0, 1, 2, 0])
    hidden = rma.build(mixer, per="row").attach(network, list(layers))
    drawn = set()
    for seed in range(20):
        plan = hidden.draw(x, generator=generator(seed))
        logits = network(x)
        assert plan.loss(nn.functional.cross_entropy, logits, target).isfinite()
        drawn.add(plan.layer)
    assert drawn >= set(layers)


def test_an_unknown_network_and_an_empty_one_are_named():
    with pytest.raises(ValueError, match="model must be one of preact_resnet18, wide_resnet28, resnet50, got vgg"):
        make_model(3, model="vgg")
    for model in LAYERS:
        with pytest.raises(ValueError, match="width must be at least 1, got 0"):
            make_model(3, width=0, model=model)


def test_without_torchvision_one_line_says_how_to_install_it(monkeypatch):
    def missing(name: str) -> None:
        raise OSError("libcudart.so: cannot open\nmore")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"torchvision cannot be imported .*: pip install '.*\[images\]'$") as caught:
        make_model(3, model="resnet50")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_an_epoch_and_take_as_many_steps(world_size):
    parts = [epoch_rows(11, 3, 5, 2, rank, world_size) for rank in range(world_size)]
    assert len({tuple(len(rows) for rows in part) for part in parts}) == 1
    everything = torch.cat([torch.cat(part) for part in parts]).tolist()
    assert set(everything) == set(range(11))
    assert len(everything) == -(-11 // world_size) * world_size
    assert [r.tolist() for r in parts[0]] == [r.tolist() for r in epoch_rows(11, 3, 5, 2, 0, world_size)]
    assert [r.tolist() for r in parts[0]] != [r.tolist() for r in epoch_rows(11, 3, 5, 3, 0, world_size)]


def test_no_rows_are_no_batches_and_few_rows_are_shared_by_many_processes():
    assert epoch_rows(0, 3, 0, 0) == []
    assert [len(epoch_rows(2, 4, 0, 0, rank, 5)) for rank in range(5)] == [1] * 5


def test_a_class_among_the_five_most_likely_counts_for_the_top_5_accuracy():
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]]).repeat(4, 1)
    labels = list("abcdefg")
    found = judge(nn.Identity(), [(logits[:3], torch.tensor([0, 4, 5])), (logits[3:], torch.tensor([1]))], 7)
    report = report_of(found, labels, top=True)
    assert (report["accuracy"], report["top5_accuracy"]) == (1 / 4, 3 / 4)
    assert "top5_accuracy" not in report_of(found, labels)
    assert "top5_accuracy" not in report_of(
        judge(nn.Identity(), [(logits[:, :5], torch.tensor([0] * 4))], 5), labels[:5], True
    )


def test_a_step_is_shown_in_colour_with_the_first_line_at_the_top():
    x = torch.rand(4, 3, 5, 7)
    plan = rma.build("mixup").plan(x, generator=generator())
    sheet = contact_sheet(x, plan, rows=3)
    assert sheet.shape == (3, 3 * 5, 3 * 7)
    assert torch.allclose(sheet[:, :5, :7], x[0], atol=0.05)
    spectrogram = contact_sheet(x[:, :1], plan, rows=3)
    assert torch.allclose(spectrogram[:, :5, :7].flip(1), x[0, :1], atol=0.05)


def test_a_step_augments_on_the_device_of_its_generator_and_pictures_show_what_was_there_before(tmp_path):
    config, _ = config_of(f"--data={make_set(tmp_path / 'set')}", "--mixer=none", "--resident=yes")
    fabric = make_fabric("cpu", "32-true")
    job = ImageJob(config, open_source(config, fabric.device), fabric)
    batch = next(job.batches(0))
    x = job.prepare(batch, generator(4))
    assert (x.shape, x.dtype) == ((16, 3, 12, 12), torch.float32)
    images, more = job.pictured(x)
    assert more == {"image": True}
    assert torch.allclose(images, pixels(crop_and_flip(batch.images, 4, 0.5, generator(4))), atol=1e-6)
    network = job.network()
    outcome = job.step(network, batch, Moment(0, 0.0, generator(4)))
    assert torch.allclose(outcome.loss, nn.functional.cross_entropy(network(x), batch.target))


def test_a_run_from_before_the_option_model_goes_on_with_the_network_that_it_has():
    old = {"width": 4, "lr": 0.1}
    assert records.differing(old, old | {"model": "preact_resnet18"}) is None
    assert records.differing(old, old | {"model": "resnet50"}) == ("model", "preact_resnet18", "resnet50")


def test_the_speech_recipe_trains_a_wide_resnet_and_reads_it_again(task_folder, tmp_path):
    from recipes.speech_commands import evaluate

    results = run_speech_here(
        task_folder, tmp_path, "--model=wide_resnet28", "--width=2", "--epochs=1", "--name=a", "--mixer=patchup"
    )
    assert results["model"] == "wide_resnet28"
    options = evaluate.Options(str(tmp_path / "a" / "last.ckpt"), device="cpu", batch_size=4)
    assert evaluate.evaluate(options)["confusion"] == results["last"]["test"]["confusion"]
