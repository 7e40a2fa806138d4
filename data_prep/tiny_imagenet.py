"""Tiny ImageNet: download, check, and store as arrays.

    python -m data_prep.tiny_imagenet --root data/tiny_imagenet

200 classes of ImageNet with 500 training images each, 64 x 64 pixels (Stanford CS231n;
http://cs231n.stanford.edu/tiny-imagenet-200.zip). The labels of its test images were never published: what is called
validation there, 50 images of each class, is the test split here, as in the literature.
"""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from randommix_audio.data.files import locked
from recipes.images.task import ImageTask

from .command import PrepareError, run
from .download import fetch
from .images import Part, decode, fingerprint, refuse_part, set_apart, store, table

SIZE = 64
FOLDER = "tiny-imagenet-200"
ARCHIVE = f"{FOLDER}.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
COUNTS = (100_000, 10_000)  # training and validation images
MIRRORS = ("http://cs231n.stanford.edu",)
ANNOTATIONS = "val/val_annotations.txt"
_TRAIN = re.compile(r"train/(?P<wnid>[^/]+)/images/[^/]+\.JPEG")


@dataclass(frozen=True)
class Files:
    """The files of the corpus, unpacked or not.

    Attributes:
        where: the folder or the archive.
        sizes: bytes of each file, by its path below `tiny-imagenet-200/`.
        read: gives the content of one of them.
    """

    where: Path
    sizes: dict[str, int]
    read: Callable[[str], bytes]


@contextmanager
def opened(root: Path, md5: str, mirrors: Sequence[str], progress: bool) -> Iterator[Files]:
    """The corpus in its unpacked folder, at or below root, or in the archive, fetched if need be.

    Raises:
        DownloadError: it cannot be fetched.
        PrepareError: the archive is damaged.
        BlockingIOError: another process is fetching it.
    """
    for folder in (root, root / FOLDER):
        if (folder / ANNOTATIONS).is_file():
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
            yield Files(folder, sizes, lambda name, folder=folder: (folder / name).read_bytes())  # type: ignore[misc]
            return
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        path = fetch([f"{mirror.rstrip('/')}/{ARCHIVE}" for mirror in mirrors], root, f"md5:{md5}", progress)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removeprefix(f"{FOLDER}/"): info for info in archive.infolist()}
            sizes = {name: info.file_size for name, info in members.items()}
            yield Files(path, sizes, lambda name: archive.read(members[name]))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise PrepareError(f"{path}: damaged archive ({error}); delete it and try again") from None


def training_images(files: Files) -> dict[str, list[str]]:
    """The training images of each class, both in order of their names.

    Raises:
        PrepareError: there are none.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(files.sizes):
        if match := _TRAIN.fullmatch(name):
            found.setdefault(match["wnid"], []).append(name)
    if not found:
        raise PrepareError(f"{files.where}: holds no train/<class>/images/*.JPEG")
    return found


def test_images(files: Files, labels: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The images that are named in val_annotations.txt, in its order, and the classes that it gives them.

    Raises:
        PrepareError: it is missing, or one of its lines is wrong; says which.
    """
    if ANNOTATIONS not in files.sizes:
        raise PrepareError(f"{files.where}: holds no {ANNOTATIONS}")
    place = {label: i for i, label in enumerate(labels)}
    names, targets = [], []
    for number, line in enumerate(files.read(ANNOTATIONS).decode("utf-8", "replace").splitlines(), 1):
        where, columns = f"{files.where}: {ANNOTATIONS}, line {number}", line.split("\t")
        if len(columns) < 2:
            raise PrepareError(f"{where}: must be an image and its class, separated by a tab, not {line!r}")
        if columns[1] not in place:
            raise PrepareError(f"{where}: there are no training images of class {columns[1]!r}")
        if (name := f"val/images/{columns[0]}") not in files.sizes:
            raise PrepareError(f"{where}: there is no {name}")
        names.append(name)
        targets.append(place[columns[1]])
    return names, np.array(targets, dtype=np.int64)


def prepare(
    root: str | Path,
    out: str | Path | None = None,
    validation: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
    md5: str = MD5,
    counts: tuple[int, int] | None = None,
    mirrors: Sequence[str] = MIRRORS,
    progress: bool = True,
) -> ImageTask:
    """Fetch Tiny ImageNet unless it is there, and store it as arrays; grey images become RGB.

    Args:
        root: folder with the archive or with its unpacked folder; where to download to otherwise.
        out: where the prepared set goes; None takes `root`/prepared/tiny_imagenet.
        validation: share of the training images of each class that is set apart, 0 to 0.5.
        seed: of the draw of these, 0 to 2^63 - 1.
        overwrite: replace a set that was prepared with other options.
        md5: of the archive, if not the official one.
        counts: training and validation images in it; None is 100,000 and 10,000.
        mirrors: addresses of the folder that holds the archive.
        progress: show bars.

    Raises:
        PrepareError: the archive cannot be fetched, something in it is missing or cannot be read, or an option is
            out of range.
        BankError: `out` holds another set, which stays as it is.
        BlockingIOError: another process is preparing the same folder.
    """
    set_apart(np.zeros(0), validation, seed)  # options are judged before anything is fetched
    root = Path(root)
    with opened(root, md5, mirrors, progress) as files:
        train = training_images(files)
        labels = list(train)
        names = [name for some in train.values() for name in some]
        targets = np.repeat(np.arange(len(labels)), [len(some) for some in train.values()])
        test_names, test_targets = test_images(files, labels)
        refuse_part(str(files.where), "Tiny ImageNet", (len(targets), len(test_targets)), counts or COUNTS)
        kept, apart = set_apart(targets, validation, seed)

        def pixels(some: Sequence[str]) -> Iterator[np.ndarray]:
            return (decode(files.read(name), f"{files.where}: {name}", SIZE) for name in some)

        parts = {
            "train": Part(targets[kept], pixels([names[i] for i in kept])),
            "validation": Part(targets[apart], pixels([names[i] for i in apart])),
            "test": Part(test_targets, pixels(test_names)),
        }
        settings = {
            "corpus": "Tiny ImageNet",
            "validation": validation,
            "seed": seed,
            "fingerprint": fingerprint({name: files.sizes[name] for name in names + test_names}),
        }
        out = root / "prepared" / "tiny_imagenet" if out is None else Path(out)
        return store(out, labels, SIZE, parts, settings, overwrite=overwrite, progress=progress)


def main(
    root: str = "data/tiny_imagenet",
    out: str | None = None,
    validation: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
    mirror: str | None = None,
) -> None:
    """Prepare Tiny ImageNet for training; it is downloaded (237 MB) unless it is there.

    Args:
        root: folder of the archive or of its unpacked files, or where to download to.
        out: where the prepared images go (1.4 GB); by default root/prepared/tiny_imagenet.
        validation: share of the training images of each class that is set apart to validate on, 0 to 0.5.
        seed: of the draw of these, 0 or more.
        overwrite: replace a set that was prepared with other options.
        mirror: address of a folder that holds the archive, instead of Stanford's.
    """
    task = prepare(root, out, validation, seed, overwrite, mirrors=(mirror,) if mirror else MIRRORS)
    print(table(task))
    print(f"prepared: {task.root}")


if __name__ == "__main__":
    run(main)
