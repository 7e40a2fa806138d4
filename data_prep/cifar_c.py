"""CIFAR-10-C and CIFAR-100-C: the published arrays, or arrays in the same layout made of any prepared set.

    python -m data_prep.cifar_c --classes 10 --root data/cifar_c
    python -m data_prep.cifar_c --make data/cifar/prepared/cifar10 --out data/cifar10_c_made

D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019 (https://arxiv.org/abs/1903.12261); the arrays are theirs, at Zenodo, under CC BY 4.0.

A folder holds `<corruption>.npy`, (5 N, 32, 32, 3) uint8, all N images at severity 1, then all at severity 2, and so
on; and `labels.npy`, (5 N,), the same N labels five times. In a folder that was made here, `made.json` says that these
are not the published arrays: numbers measured on them cannot be compared with published ones.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from randommix_audio.data import BankError
from randommix_audio.data.errors import parsing
from randommix_audio.data.files import atomic, locked, write_json
from randommix_audio.evaluation.corruptions import CORRUPTIONS, SEVERITIES, read_corruption
from recipes.images.task import ImageTask

from .command import PrepareError, run
from .corruptions import SIZE, corrupted
from .download import extract, fetch
from .images import bar_of, begin_array

AT_ONCE = 500  # images that are corrupted together; the draws depend on it
NOTICE = "made here, not the published arrays; frost is a drawn texture, not photographs"


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        name: of its folder, and of the file without `.tar`.
        md5: the hash that was published.
        mirror: address of the folder that holds it.
        rows: length of each array.
    """

    name: str
    md5: str
    mirror: str
    rows: int = 50_000


ARCHIVES = {
    10: Archive("CIFAR-10-C", "56bf5dcef84df0e2308c6dcbcbbd8499", "https://zenodo.org/records/2535967/files"),
    100: Archive("CIFAR-100-C", "11f0ed0f1191edbf9fa23466ae6021d3", "https://zenodo.org/records/3555552/files"),
}


def download(root: Path, archive: Archive, mirror: str | None = None, progress: bool = True) -> Path:
    """The folder of the published arrays below root, fetched and unpacked if it is not there.

    Raises:
        DownloadError: the archive cannot be fetched or unpacked.
        PrepareError: an array is missing or of another shape; names it.
        BlockingIOError: another process is fetching it.
    """
    folder, unpacked = root / archive.name, root / f"{archive.name}.unpacked"
    if folder.is_dir():
        check(folder, archive.rows)
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        url = f"{(mirror or archive.mirror).rstrip('/')}/{archive.name}.tar"
        extract(fetch([url], root, f"md5:{archive.md5}", progress), unpacked, progress)
        try:
            check(unpacked / archive.name, archive.rows)
        except PrepareError:
            shutil.rmtree(unpacked)
            raise
        (unpacked / archive.name).replace(folder)
        shutil.rmtree(unpacked)
    return folder


def check(folder: Path, rows: int) -> None:
    """See that a folder holds the 15 corruptions and the labels.

    Raises:
        PrepareError: an array is missing or of another shape; names it.
    """
    for name in CORRUPTIONS:
        try:
            images, _ = read_corruption(folder, name, 1)
        except (FileNotFoundError, ValueError) as error:
            raise PrepareError(str(error)) from None
        if images.shape != (rows // SEVERITIES, SIZE, SIZE, 3):
            shape = (SEVERITIES * len(images), *images.shape[1:])
            raise PrepareError(f"{folder / name}.npy: is of shape {shape}, not {(rows, SIZE, SIZE, 3)}")


def corrupt(
    prepared: str | Path,
    out: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Corrupt the test images of a prepared set; the folder takes its name only when all of it is there.

    Args:
        prepared: folder of a prepared set of 32 x 32 images with a test split.
        out: where the arrays go; None takes `prepared`_c beside it.
        seed: of all draws, 0 to 2^63 - 1.
        overwrite: replace arrays that were made here of another set or with another seed.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        PrepareError: the set has no test images or is of another size, or the seed is out of range.
        BankError: there is no such set, or `out` holds something else, which stays as it is.
        BlockingIOError: another process is making the same folder.
    """
    if not 0 <= seed < 2**63:
        raise PrepareError(f"seed must be 0 to 2^63 - 1, not {seed}")
    task = ImageTask.load(prepared)
    if "test" not in task.splits:
        raise PrepareError(f"{prepared}: has no test images")
    if task.size != SIZE:
        raise PrepareError(f"{prepared}: its images are of side {task.size}; the severities are those for {SIZE}")
    out = task.root.with_name(task.root.name + "_c") if out is None else Path(out)
    about = {
        "kind": "corruptions",
        "official": False,
        "notice": NOTICE,
        "corruptions": list(CORRUPTIONS),
        "severities": SEVERITIES,
        "images": task.counts()["test"],
        "seed": seed,
        "source": task.digest,
        "labels": task.labels,
    }
    if _is_made(out, about, overwrite):
        return out
    partial = out.with_name(out.name + ".partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrepareError(f"{out}: cannot be made ({error.strerror}); pass --out with a folder to write to") from None
    with locked(partial):
        _write(partial, task, seed, progress)
        write_json(partial / "made.json", about)
    if out.is_dir():
        shutil.rmtree(out)  # empty, or made here and to be replaced
    partial.replace(out)
    return out


def _is_made(out: Path, about: dict[str, Any], overwrite: bool) -> bool:
    """Is this what the folder holds already?

    Raises:
        BankError: it holds something else that must not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    was: dict[str, Any] = {}
    if (out / "made.json").is_file():
        with parsing(out / "made.json", "set of corrupted images"):
            was = dict(json.loads((out / "made.json").read_text(encoding="utf-8")))
    if was == about:
        return True
    if was.get("kind") != "corruptions":
        raise BankError(f"{out}: is there and was not made by this program; pass another --out")
    if not overwrite:
        told = ", ".join(f"{key} {was.get(key)}" for key in ("seed", "images") if was.get(key) != about[key])
        raise BankError(f"{out}: holds other arrays ({told or 'other images'}); pass --overwrite true or another --out")
    return False


def _write(folder: Path, task: ImageTask, seed: int, progress: bool) -> None:
    images, targets = task.split("test")
    count = len(images)
    kind = np.uint8 if len(task.labels) <= 256 else np.int64  # uint8 as published, where it is enough
    with atomic(folder / "labels.npy") as stream:
        np.save(stream, np.tile(targets, SEVERITIES).astype(kind))
    total = len(CORRUPTIONS) * SEVERITIES * count
    with bar_of(total, "corrupting", progress) as bar:
        for name in CORRUPTIONS:
            with atomic(folder / f"{name}.npy") as stream:
                begin_array(stream, (SEVERITIES * count, SIZE, SIZE, 3))
                for severity, first in product(range(1, SEVERITIES + 1), range(0, count, AT_ONCE)):
                    some = np.asarray(images[first : first + AT_ONCE])
                    stream.write(corrupted(some, name, severity, seed, first).tobytes())
                    bar.update(len(some))


def main(
    classes: Literal[10, 100] | None = None,
    root: str = "data/cifar_c",
    make: str | None = None,
    out: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    mirror: str | None = None,
) -> None:
    """Fetch the published CIFAR-10-C or CIFAR-100-C, or make such arrays of the test images of a prepared set.

    Args:
        classes: download the published arrays (2.9 GB) of CIFAR-10 or CIFAR-100.
        root: where to download to; the arrays lie in root/CIFAR-10-C or root/CIFAR-100-C.
        make: instead, the folder of a prepared set of 32 x 32 images to corrupt; frost is a drawn texture then.
        out: where the arrays that are made go; by default beside that folder, with _c at its name.
        seed: of all draws of --make, 0 or more.
        overwrite: replace arrays that were made of another set or with another seed.
        mirror: address of a folder that holds the archive, instead of Zenodo's.
    """
    if (classes is None) == (make is None):
        raise PrepareError("pass --classes 10 or 100 to download, or --make with a prepared folder, one of the two")
    if classes is not None:
        if out is not None or seed or overwrite:
            raise PrepareError("--out, --seed and --overwrite go with --make; the download goes to --root")
        print(f"ready: {download(Path(root), ARCHIVES[classes], mirror)}")
        return
    assert make is not None
    folder = corrupt(make, out, seed, overwrite)
    print(f"note: {NOTICE}", file=sys.stderr)
    print(f"made: {folder}")


if __name__ == "__main__":
    run(main)
