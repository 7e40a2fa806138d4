"""CIFAR-10 and CIFAR-100: download, check, and store as arrays.

    python -m data_prep.cifar --classes 10 --root data/cifar
    python -m data_prep.cifar --classes 100 --root data/cifar --validation 0.1

Both are of Alex Krizhevsky: "Learning Multiple Layers of Features from Tiny Images", 2009
(https://www.cs.toronto.edu/~kriz/cifar.html): 50,000 training and 10,000 test images of 32 x 32 pixels.
"""

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from randommix_audio.data.files import locked
from recipes.images.task import ImageTask

from .command import PrepareError, run
from .download import fetch
from .images import Part, refuse_part, set_apart, store, table

SIZE = 32
MIRRORS = ("https://www.cs.toronto.edu/~kriz",)
# What reading a pickle that is something else, or half of it, raises.
_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(ImportError, OverflowError, RecursionError, MemoryError),
)


@dataclass(frozen=True)
class Archive:
    """A published archive, and what is where in it.

    Attributes:
        name: of the file.
        md5: the hash that was published.
        folder: of all members.
        train: members with the training images, in their order.
        test: the member with the test images.
        meta: the member with the names of the classes.
        names: key of the names in `meta`.
        targets: key of the classes in the others; the fine ones of CIFAR-100.
        counts: training and test images that it holds.
    """

    name: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    names: str
    targets: str
    counts: tuple[int, int] = (50_000, 10_000)


ARCHIVES = {
    10: Archive(
        "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch",
        "batches.meta",
        "label_names",
        "labels",
    ),
    100: Archive(
        "cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-python",
        ("train",),
        "test",
        "meta",
        "fine_label_names",
        "fine_labels",
    ),
}


class _ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays and plain types; whatever else a pickle asks for is refused, so that it can run nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")


def unpickled(content: bytes) -> dict[str, Any]:
    """A pickled dictionary of numpy arrays and plain types, written by Python 2 or 3.

    Raises:
        ValueError: it holds something else.
    """
    try:
        found = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except _DAMAGE as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    if not isinstance(found, dict):
        raise ValueError(f"it holds no dictionary but {type(found).__name__}")
    return found


def read_members(root: Path, archive: Archive, mirrors: Sequence[str], progress: bool) -> dict[str, bytes]:
    """The members that are needed, of the unpacked archive below root, or of the archive, fetched if need be.

    Raises:
        DownloadError: it cannot be fetched.
        PrepareError: it is damaged, or a member is missing.
        BlockingIOError: another process is fetching it.
    """
    wanted = (*archive.train, archive.test, archive.meta)
    unpacked = next((f for f in (root / archive.folder, root) if all((f / name).is_file() for name in wanted)), None)
    if unpacked is not None:
        return {name: (unpacked / name).read_bytes() for name in wanted}
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        urls = [f"{mirror.rstrip('/')}/{archive.name}" for mirror in mirrors]
        path = fetch(urls, root, f"md5:{archive.md5}", progress)
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix("./").removeprefix(f"{archive.folder}/")
                stream = tar.extractfile(member) if member.isreg() and name in wanted else None
                if stream is not None:
                    found[name] = stream.read()
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PrepareError(f"{path}: damaged archive ({error}); delete it and try again") from None
    if missing := [name for name in wanted if name not in found]:
        raise PrepareError(f"{path}: holds no {archive.folder}/{missing[0]}")
    return {name: found[name] for name in wanted}


def _batch(where: str, content: bytes, archive: Archive, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 32, 32, 3) uint8 images and (N,) int64 targets of one member."""
    try:
        batch = unpickled(content)
        data, targets = np.asarray(batch["data"]), np.asarray(batch[archive.targets])
        if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * SIZE * SIZE:
            raise ValueError(f"its data is {data.dtype} of shape {data.shape}, not uint8 of (N, {3 * SIZE * SIZE})")
        if targets.shape != (len(data),) or targets.dtype.kind not in "iu":
            raise ValueError(f"it has {len(data)} images, but {archive.targets} of shape {targets.shape}")
        if len(targets) and not 0 <= targets.min() <= targets.max() < classes:
            raise ValueError(f"its {archive.targets} go beyond {classes} classes")
    except KeyError as error:
        raise PrepareError(f"{where}: not a batch of CIFAR-{classes} (it has no {error})") from None
    except ValueError as error:
        raise PrepareError(f"{where}: not a batch of CIFAR-{classes} ({error})") from None
    return data.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1), targets.astype(np.int64)


def _labels(where: str, content: bytes, archive: Archive, classes: int) -> list[str]:
    try:
        names = unpickled(content)[archive.names]
    except (ValueError, KeyError) as error:
        raise PrepareError(f"{where}: no names of classes ({error})") from None
    if not isinstance(names, list) or len(names) != classes or not all(isinstance(name, str) for name in names):
        raise PrepareError(f"{where}: {archive.names} is no list of {classes} names")
    return names


def prepare(
    root: str | Path,
    classes: Literal[10, 100] = 10,
    out: str | Path | None = None,
    validation: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
    archive: Archive | None = None,
    mirrors: Sequence[str] = MIRRORS,
    progress: bool = True,
) -> ImageTask:
    """Fetch CIFAR unless it is there, check it, and store it as arrays.

    Args:
        root: folder with the archive, or with its unpacked folder; where to download to otherwise.
        classes: CIFAR-10, or CIFAR-100 with its fine labels.
        out: where the prepared set goes; None takes `root`/prepared/cifar`classes`.
        validation: share of the training images of each class that is set apart, 0 to 0.5.
        seed: of the draw of these, 0 to 2^63 - 1.
        overwrite: replace a set that was prepared with other options.
        archive: the archive, if not the official one.
        mirrors: addresses of the folder that holds the archive.
        progress: show bars.

    Raises:
        PrepareError: the archive cannot be fetched, or holds something else, or an option is out of range.
        BankError: `out` holds another set, which stays as it is.
        BlockingIOError: another process is preparing the same folder.
    """
    set_apart(np.zeros(0), validation, seed)  # options are judged before anything is fetched
    archive = ARCHIVES[classes] if archive is None else archive
    root = Path(root)
    members = read_members(root, archive, mirrors, progress)
    where = {name: f"{root}: {archive.folder}/{name}" for name in members}
    labels = _labels(where[archive.meta], members[archive.meta], archive, classes)
    batches = [_batch(where[name], members[name], archive, classes) for name in archive.train]
    images, targets = (np.concatenate(column) for column in zip(*batches, strict=True))
    test_images, test_targets = _batch(where[archive.test], members[archive.test], archive, classes)
    refuse_part(str(root), f"CIFAR-{classes}", (len(targets), len(test_targets)), archive.counts)
    kept, apart = set_apart(targets, validation, seed)
    parts = {
        "train": Part(targets[kept], (images[i] for i in kept)),
        "validation": Part(targets[apart], (images[i] for i in apart)),
        "test": Part(test_targets, test_images),
    }
    out = root / "prepared" / f"cifar{classes}" if out is None else Path(out)
    settings = {
        "corpus": f"CIFAR-{classes}",
        "validation": validation,
        "seed": seed,
        "fingerprint": hashlib.sha256(b"".join(members.values())).hexdigest(),
    }
    return store(out, labels, SIZE, parts, settings, overwrite=overwrite, progress=progress)


def main(
    classes: Literal[10, 100],
    root: str = "data/cifar",
    out: str | None = None,
    validation: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
    mirror: str | None = None,
) -> None:
    """Prepare CIFAR-10 or CIFAR-100 for training; it is downloaded (163 or 161 MB) unless it is there.

    Args:
        classes: 10, or 100 (fine labels).
        root: folder of the archive or of its unpacked files, or where to download to.
        out: where the prepared images go; by default root/prepared/cifar10 or cifar100.
        validation: share of the training images of each class that is set apart to validate on, 0 to 0.5.
        seed: of the draw of these, 0 or more.
        overwrite: replace a set that was prepared with other options.
        mirror: address of a folder that holds the archive, instead of its author's.
    """
    task = prepare(root, classes, out, validation, seed, overwrite, mirrors=(mirror,) if mirror else MIRRORS)
    print(table(task))
    print(f"prepared: {task.root}")


if __name__ == "__main__":
    run(main)
