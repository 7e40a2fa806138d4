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
from recipes.shared.devices import exact, make_fabric
from recipes.shared.tests_of_robustness import digest_of, is_there

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
        limit_corruption_images: this many images of each corruption and severity, spread evenly over the set; null for
            all.
        out: JSON file for the errors; null writes robustness.json beside the checkpoint.
        batch_size: images of a batch; it changes no result.
        workers: processes that decode image files.
        seed: of the places of the blocks.
        device: auto, cpu, cuda, cuda:N or mps.
        again: test once more, or with other settings, and replace what an earlier test has written.
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
    again: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "limit_corruption_images"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed must be 0 to 2^63 - 1, got {self.seed}")
        if self.limit_corruption_images is not None and self.corruptions is None:
            raise UserError("limit_corruption_images needs --corruptions")


def measure(options: Options, out: Path) -> dict[str, Any] | None:
    """The content of robustness.json, or None where it is there already.

    Returns:
        clean_error, fgsm_error, corruption_error (None without `corruptions`) and occlusion_error, 0 to 1; mistakes,
        for each of these kinds how often each image was misjudged, of 75 times under corruption, else of one; details
        of each; settings of the test; digest of the images, seed, commit, checkpoint, epoch.

    Raises:
        UserError: where checkpoint, images and corruptions do not fit, or `out` holds another test and `again` is off.
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
    settings = {
        "checkpoint_digest": digest_of(options.checkpoint),
        "data_digest": source.digest,
        "corruptions": None if options.corruptions is None else fingerprint(options.corruptions),
        "limit_corruption_images": options.limit_corruption_images,
        "seed": options.seed,
    }
    if is_there(out, settings, options.again):
        return None
    found: dict[str, Any] = {"corruption_error": None, "corruptions": None, "images": None, "made": None}
    with exact():
        attacked, targets = _attacked(model, source, options)
        if options.corruptions is not None:
            refuse_other_images(options.corruptions, targets)
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
        "settings": settings,
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
        UserError: where size or classes are not those of the checkpoint.
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
        if labels.min() < 0 or labels.max() >= len(shape.labels):
            raise UserError(f"{folder}: has labels up to {labels.max()}, the checkpoint {len(shape.labels)} classes")
    made = made_here(folder)
    if made is not None and made.get("labels", shape.labels) != shape.labels:
        raise UserError(f"{folder}: was made of images with other labels than those of the checkpoint")


def refuse_other_images(folder: str, targets: Tensor) -> None:
    """Refuse corruptions whose labels are not those of the test images, one for one, where there are as many.

    Raises:
        UserError: where they differ.
    """
    labels = torch.from_numpy(read_corruption(folder, CORRUPTIONS[0], 1)[1])
    if len(labels) == len(targets) and not torch.equal(labels, targets):
        raise UserError(f"{folder}: its labels are not those of the test images; it was made of other ones")


def fingerprint(folder: str) -> list[Any]:
    """What tells corruptions from others wherever they lie: the sizes of the arrays, and what made.json says."""
    files = [Path(folder) / f"{name}.npy" for name in CORRUPTIONS]
    made = Path(folder) / "made.json"
    sizes = [file.stat().st_size if file.is_file() else 0 for file in files]
    return [sizes, made.read_text(encoding="utf-8") if made.is_file() else ""]


def made_here(folder: str) -> dict[str, Any] | None:
    """What `data_prep.cifar_c --make` says of its arrays, which are not the published ones; None for those."""
    file = Path(folder) / "made.json"
    return records.read_json(file) if file.is_file() else None


def _attacked(model: Normalized, source: Source, options: Options) -> tuple[dict[str, Any], Tensor]:
    """The errors on the test images as they are, after FGSM, and behind blocks of zeros; and their targets (N,)."""
    wrong: list[Tensor] = []
    targets: list[Tensor] = []
    done = 0
    for x, target in batches(source, "test", options.batch_size):
        keys = row_keys(options.seed, "occlusion", torch.arange(done, done + len(x), device=x.device))
        kinds = (x, fgsm(model, x, target, EPS), zero_blocks(x, keys, size=BLOCK))
        wrong.append(torch.stack([_wrong(model, kind, target) for kind in kinds]))
        targets.append(target.cpu())
        done += len(x)
    marks = dict(zip(("clean", "fgsm", "occlusion"), torch.cat(wrong, dim=1).cpu().long(), strict=True))
    errors = {f"{kind}_error": int(mark.sum()) / done for kind, mark in marks.items()}
    mistakes = {kind: mark.tolist() for kind, mark in marks.items()}
    return {**errors, "mistakes": mistakes}, torch.cat(targets)


def _corrupted(model: Normalized, options: Options) -> dict[str, Any]:
    """The mean error over all corruptions and severities, each of them, and of how many images each."""
    assert options.corruptions is not None
    there = len(read_corruption(options.corruptions, CORRUPTIONS[0], 1)[1])
    count = min(there, options.limit_corruption_images or there)
    kept = np.arange(count) * there // count  # sets may lie class by class: the first images would be of one class
    progress = Progress(len(CORRUPTIONS) * len(SEVERITIES) * count)

    mistakes = torch.zeros(count, dtype=torch.long)

    def error(images: np.ndarray, labels: np.ndarray) -> float:
        wrong = []
        for some, target in _parts(images, labels, kept, options.batch_size):
            wrong.append(_wrong(model, pixels(some.to(model.mean.device)), target.to(model.mean.device)))
            progress.advance(len(some))
        mark = torch.cat(wrong).cpu()
        mistakes.add_(mark)
        return int(mark.sum()) / count

    try:
        found = corruption_error(error, options.corruptions)
    finally:
        progress.close()
    about = made_here(options.corruptions)
    made = None if about is None else str(about.get("notice"))
    return {**found, "images": count, "made": made, "mistakes": mistakes.tolist()}


def _parts(
    images: np.ndarray, labels: np.ndarray, rows: np.ndarray, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        yield torch.from_numpy(np.array(images[some])), torch.from_numpy(labels[some])


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
    report = measure(options, out)
    if report is None:
        print(f"{out}: holds this test already; --again true repeats it")
        return
    print("\n".join(lines(report)), flush=True)
    records.write_json(out, report)
    print(f"errors: {out}")


if __name__ == "__main__":
    console.run(main)
