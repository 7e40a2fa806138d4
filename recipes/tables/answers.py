"""Which rows of a split a checkpoint gets right, so that differences between trainings can be paired row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from recipes.images import evaluate as of_images
from recipes.images.classifier import load as load_images
from recipes.shared import records
from recipes.shared.devices import exact, make_fabric
from recipes.speech_commands import evaluate as of_speech

BATCH = 256
SPLITS = ("validation", "test")


def places(recipe: str, checkpoint: Path, data: str, device: str) -> dict[str, list[int]] | None:
    """The place of the right class among all classes, 0 for the most likely one, of every row of each split in order.

    They are stored beside the checkpoint, and read from there the next time.

    Args:
        recipe: speech_commands or images.
        checkpoint: of a finished run.
        data: what it was trained on.
        device: where it runs.

    Returns:
        None where neither they nor the checkpoint were kept.

    Raises:
        UserError: where checkpoint and data do not fit.
    """
    file = checkpoint.with_name(f"places-{checkpoint.stem}.json")
    if file.is_file():
        return records.read_json(file)
    if not checkpoint.is_file():
        return None
    make = _speech if recipe == "speech_commands" else _images
    model, batches = make(str(checkpoint), data, make_fabric(device, "32-true").device)
    with exact():
        found = {split: _places(model, same) for split, same in batches}
    records.write_json(file, found)
    return found


@torch.no_grad()
def _places(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> list[int]:
    model.eval()
    found: list[int] = []
    for inputs, target in batches:
        logits = model(inputs).float()
        order = logits.argsort(dim=1, descending=True, stable=True)
        found += (order == target[:, None]).int().argmax(1).tolist()
    return found


Batches = Iterator[tuple[str, Iterable[tuple[Tensor, Tensor]]]]


def _speech(checkpoint: str, data: str, device: torch.device) -> tuple[nn.Module, Batches]:
    model, _, _, task = of_speech.load_with_corpus(checkpoint, data, device)
    entries = ((split, task.split(split)) for split in SPLITS)
    return model, ((split, of_speech.batches(some, BATCH, device) if len(some) else ()) for split, some in entries)


def _images(checkpoint: str, data: str, device: torch.device) -> tuple[nn.Module, Batches]:
    model, shape, _ = load_images(checkpoint, device)
    source = of_images.open_fitting(data, shape, checkpoint, device, BATCH)
    return model, ((split, of_images.batches(source, split, BATCH)) for split in SPLITS)
