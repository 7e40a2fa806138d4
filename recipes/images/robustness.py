"""The paper's robustness experiment (section 3.2.1, tables 4 and 5) for a checkpoint.

`python -m recipes.images.robustness --checkpoint runs/a/last.ckpt --corruptions data/CIFAR-100-C`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from randommix_audio.evaluation import (
    CORRUPTIONS,
    Normalized,
    corruption_error,
    fgsm,
    read_corruption,
    row_keys,
    zero_blocks,
)
from recipes.images.augment import pixels
from recipes.images.classifier import Shape, load
from recipes.images.evaluate import batches, open_fitting
from recipes.images.sources import Source
from recipes.shared import console, records
from recipes.shared.console import Progress, UserError
from recipes.shared.devices import make_fabric

EPS = 8 / 255
SEVERITIES = range(1, 6)
BLOCK = (0.5, 0.5)  # height and width of the block of zeros, as shares of the image's


@dataclass
class Options:
    """Test how a checkpoint stands attacks, corruptions and occlusion; print the errors and write robustness.json.

    Args:
        checkpoint: last.ckpt or best.ckpt of a run.
        data: prepared set, or folder with train/<class>/ and val/<class>/; null takes what it was trained on.
        corruptions: folder of CIFAR-10-C or CIFAR-100-C, with <corruption>.npy and labels.npy; null leaves them out.
        limit_corruption_images: only the first so many images of each corruption and severity; null for all.
        out: JSON file for the errors; null writes robustness.json beside the checkpoint.
        batch_size: images of a batch; it changes no result.
        workers: processes that decode image files.
        seed: of the places of the blocks.
        device: auto, cpu, cuda, cuda:N or mps.
    """

    checkpoint: str
    data: str | None = None
    corruptions: str | None = None
    limit_corruption_images: int | None = None
    out: str | None = None
    batch_size: int = 256
    workers: int = 0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("batch_size", "limit_corruption_images"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed must be 0 to 2^63 - 1, got {self.seed}")
        if self.limit_corruption_images is not None and self.corruptions is None:
            raise UserError("limit_corruption_images needs --corruptions")


def robustness(options: Options) -> dict[str, Any]:
    """The four errors of a checkpoint, 0 to 1.

    Returns:
        clean_error, fgsm_error, corruption_error (None without `corruptions`) and occlusion_error; mistakes, for each
        of these kinds how often each image was misjudged, of 75 times under corruption, else of one; details of each;
        digest of the images, seed, commit, checkpoint, epoch.

    Raises:
        UserError: where checkpoint, images and corruptions do not fit.
        FileNotFoundError: where a corruption is missing.
    """
    device = make_fabric(options.device, "32-true").device
    model, shape, state = load(options.checkpoint, device)
    model.requires_grad_(False)  # FGSM needs the gradient of the images alone
    data = options.data or state["config"]["data"]
    if options.corruptions is not None:
        refuse_misfit(options.corruptions, shape)
    source = open_fitting(data, shape, options.checkpoint, device, options.batch_size, options.workers)
    if not source.counts["test"]:
        raise UserError(f"{data}: has no test images")
    found: dict[str, Any] = {"corruption_error": None, "corruptions": None, "images": None, "made": None}
    attacked = _attacked(model, source, options)
    if options.corruptions is not None:
        found = _corrupted(model, options)
        attacked["mistakes"]["corruption"] = found["mistakes"]
    return {
        **attacked,
        "corruption_error": found["corruption_error"],
        "details": {
            "test_images": source.counts["test"],
            "fgsm": {"eps": EPS, "pixels": [0, 1]},
            "occlusion": {"blocks": 1, "size": list(BLOCK), "fill": 0},
            "corruptions": found["corruptions"],
            "corruption_images": found["images"],
            "corruptions_made": found["made"],
            "limit_corruption_images": options.limit_corruption_images,
        },
        "checkpoint": options.checkpoint,
        "epoch": state["epoch"],
        "data": data,
        "digest": source.digest,
        "seed": options.seed,
        "commit": records.commit(),
    }


def refuse_misfit(folder: str, shape: Shape) -> None:
    """Refuse corruptions of other images before the work begins.

    Raises:
        UserError: where size or number of classes are not those of the checkpoint.
        FileNotFoundError: where an array is missing.
        ValueError: where one holds something else.
    """
    for name in CORRUPTIONS:
        images, labels = read_corruption(folder, name, 1)
        if images.shape[1:3] != (shape.size, shape.size):
            raise UserError(
                f"{folder}: {name} has images of {images.shape[1]} x {images.shape[2]}, "
                f"the checkpoint takes {shape.size} x {shape.size}"
            )
        if (classes := len(np.unique(labels))) != len(shape.labels) or labels.max() >= classes:
            raise UserError(f"{folder}: has {classes} classes, the checkpoint {len(shape.labels)}")


def made_here(folder: str) -> str | None:
    """What `data_prep.cifar_c --make` says of its arrays, which are not the published ones; None for those."""
    file = Path(folder) / "made.json"
    return str(records.read_json(file).get("notice")) if file.is_file() else None


def _attacked(model: Normalized, source: Source, options: Options) -> dict[str, Any]:
    """The errors on the test images as they are, after FGSM, and behind blocks of zeros; of all and of each image."""
    wrong: list[Tensor] = []
    done = 0
    for x, target in batches(source, "test", options.batch_size):
        keys = row_keys(options.seed, "occlusion", torch.arange(done, done + len(x), device=x.device))
        kinds = (x, fgsm(model, x, target, EPS), zero_blocks(x, keys, size=BLOCK))
        wrong.append(torch.stack([_wrong(model, kind, target) for kind in kinds]))
        done += len(x)
    marks = dict(zip(("clean", "fgsm", "occlusion"), torch.cat(wrong, dim=1).cpu().long(), strict=True))
    return {
        **{f"{kind}_error": int(mark.sum()) / done for kind, mark in marks.items()},
        "mistakes": {kind: mark.tolist() for kind, mark in marks.items()},
    }


def _corrupted(model: Normalized, options: Options) -> dict[str, Any]:
    """The mean error over all corruptions and severities, each of them, and of how many images each."""
    assert options.corruptions is not None
    count = len(read_corruption(options.corruptions, CORRUPTIONS[0], 1)[1])
    count = min(count, options.limit_corruption_images or count)
    progress = Progress(len(CORRUPTIONS) * len(SEVERITIES) * count)

    mistakes = torch.zeros(count, dtype=torch.long)

    def error(images: np.ndarray, labels: np.ndarray) -> float:
        wrong = []
        for some, target in _parts(images[:count], labels[:count], options.batch_size):
            wrong.append(_wrong(model, pixels(some.to(model.mean.device)), target.to(model.mean.device)))
            progress.advance(len(some))
        mark = torch.cat(wrong).cpu()
        mistakes.add_(mark)
        return int(mark.sum()) / count

    try:
        found = corruption_error(error, options.corruptions)
    finally:
        progress.close()
    return {**found, "images": count, "made": made_here(options.corruptions), "mistakes": mistakes.tolist()}


def _parts(images: np.ndarray, labels: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(labels), batch_size):
        part = slice(start, start + batch_size)
        yield torch.from_numpy(np.array(images[part])), torch.from_numpy(labels[part])


@torch.no_grad()
def _wrong(model: Normalized, x: Tensor, target: Tensor) -> Tensor:
    """(B,) bool, which images are taken for something else."""
    return model(x).argmax(1) != target


def lines(report: dict[str, Any]) -> Iterator[str]:
    """The errors in percent, as lines of text."""
    for name in ("clean", "fgsm", "corruption", "occlusion"):
        error = report[f"{name}_error"]
        yield f"{name:<12} error " + ("not measured: see --corruptions" if error is None else f"{100 * error:6.2f} %")
    if notice := report["details"]["corruptions_made"]:
        yield f"corruptions: {notice}"
    for name, found in (report["details"]["corruptions"] or {}).items():
        severities = " ".join(f"{100 * error:6.2f}" for error in found["severities"])
        yield f"  {name:<18} {100 * found['error']:6.2f} %   severity 1 to 5: {severities}"


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    options, _ = console.parse(Options, "python -m recipes.images.robustness", argv)
    out = records.place(options.out, Path(options.checkpoint).with_name("robustness.json"))
    report = robustness(options)
    print("\n".join(lines(report)), flush=True)
    records.write_json(out, report)
    print(f"errors: {out}")


if __name__ == "__main__":
    console.run(main)
