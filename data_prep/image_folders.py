"""Any folder of images, one folder for each class, stored as arrays.

    python -m data_prep.image_folders --root /my/images --size 32 --out data/mine

A root is read in either of two forms:

- `train/<class>/*` and `test/<class>/*`, with or without `val/<class>/*`; where there is no `test/`, `val/` is the test
  split, as in ImageNet;
- `<class>/*`: split by the hash of the file name, a tenth each to validate on and to test on.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recipes.images.task import ImageTask

from .command import PrepareError, run
from .images import Part, decode, fingerprint, set_apart, store, table

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff"}
VALIDATION = ("val", "validation", "valid")
_TENTH = 10  # per cent of the file names, for each of validation and test


@dataclass(frozen=True)
class ImageFile:
    """An image on the disk.

    Attributes:
        path: the file.
        label: name of its class folder.
    """

    path: Path
    label: str


def _folders(root: Path) -> list[Path]:
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith((".", "_")))


def _files(root: Path) -> list[ImageFile]:
    """The images of all class folders of a root, in order of their names.

    Raises:
        PrepareError: a class folder has no images, or there are no class folders.
    """
    found = []
    for folder in _folders(root):
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if not paths:
            raise PrepareError(f"{folder}: a folder of a class without images ({', '.join(sorted(SUFFIXES))})")
        found += [ImageFile(path, folder.name) for path in paths]
    if not found:
        raise PrepareError(f"{root}: holds no folders of images, one for each class")
    return found


def split_of(name: str) -> str:
    """The split of a file where nobody has chosen it: it depends on its name alone, SHA-1 modulo 100."""
    place = int(hashlib.sha1(name.encode()).hexdigest(), 16) % 100
    return "validation" if place < _TENTH else "test" if place < 2 * _TENTH else "train"


def scan(root: Path) -> dict[str, list[ImageFile]]:
    """The images of each split.

    Raises:
        PrepareError: the folder is missing, or not laid out as described above; names what is wrong.
    """
    if not root.is_dir():
        raise PrepareError(f"{root}: no such folder")
    # A folder `train` with images in it is a class; a split has folders.
    parts = {f.name: f for f in _folders(root) if f.name in ("train", "test", *VALIDATION) and _folders(f)}
    if not parts:
        found: dict[str, list[ImageFile]] = {"train": [], "validation": [], "test": []}
        for file in _files(root):
            found[split_of(file.path.name)].append(file)
        return found
    if "train" not in parts:
        raise PrepareError(f"{root}: has {' and '.join(parts)}, but no train with a folder for each class")
    validation = next((parts[name] for name in VALIDATION if name in parts), None)
    if validation is None and "test" not in parts:
        raise PrepareError(f"{root}: has no test or val beside train; pass --root {root / 'train'} to split that")
    train = _files(parts["train"])
    if "test" not in parts:
        assert validation is not None
        return {"train": train, "test": _files(validation)}
    return {"train": train, "validation": _files(validation) if validation else [], "test": _files(parts["test"])}


def prepare(
    root: str | Path,
    out: str | Path | None = None,
    size: int = 32,
    validation: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> ImageTask:
    """Store a folder of images as arrays.

    An image of another size is scaled so that its shorter side fits, and its middle is taken.

    Args:
        root: the folder, see above.
        out: where the prepared set goes; None takes `root`/_prepared, which is not taken for a class.
        size: height and width, 4 to 1024.
        validation: share of the training images of each class that is set apart, 0 to 0.5; only where the folder has
            none to validate on.
        seed: of the draw of these, 0 to 2^63 - 1.
        overwrite: replace a set that was prepared from other images or with other options.
        progress: show a bar.

    Raises:
        PrepareError: the folder is not laid out so, an image cannot be read, or an option is out of range.
        BankError: `out` holds another set, which stays as it is.
        BlockingIOError: another process is preparing the same folder.
    """
    if not 4 <= size <= 1024:
        raise PrepareError(f"size must be 4 to 1024, not {size}")
    set_apart(np.zeros(0), validation, seed)
    root = Path(root)
    out = root / "_prepared" if out is None else Path(out)
    found = scan(root)
    labels = sorted({file.label for file in found["train"]})
    for name, files in found.items():
        if other := sorted({file.label for file in files} - set(labels)):
            raise PrepareError(f"{root}: class {other[0]} has {name} images, but none to train on")
    if validation and found.get("validation"):
        raise PrepareError(
            f"{root}: has {len(found['validation'])} images to validate on already; leave out --validation"
        )
    if not found.get("validation"):
        kept, apart = set_apart(_targets(found["train"], labels), validation, seed)
        train = found["train"]
        found = {**found, "train": [train[i] for i in kept], "validation": [train[i] for i in apart]}
    parts = {name: Part(_targets(files, labels), _pixels(files, size)) for name, files in found.items()}
    sizes = {
        f"{name}/{file.path.relative_to(root).as_posix()}": file.path.stat().st_size
        for name, files in found.items()
        for file in files
    }
    settings = {
        "corpus": "folders",
        "size": size,
        "validation": validation,
        "seed": seed,
        "fingerprint": fingerprint(sizes),
    }
    notes = [] if found["test"] else ["no images to test on: too few file names to split"]
    return store(out, labels, size, parts, settings, notes, overwrite, progress)


def _targets(files: Sequence[ImageFile], labels: Sequence[str]) -> np.ndarray:
    place = {label: i for i, label in enumerate(labels)}
    return np.array([place[file.label] for file in files], dtype=np.int64)


def _pixels(files: Sequence[ImageFile], size: int) -> Iterator[np.ndarray]:
    return (decode(file.path.read_bytes(), str(file.path), size) for file in files)


def main(
    root: str,
    out: str | None = None,
    size: int = 32,
    validation: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Prepare a folder of images, one folder for each class, for training.

    Args:
        root: folder with train/<class>/* and test/<class>/* (or val), or with <class>/* to be split by file name.
        out: where the prepared images go; by default root/_prepared.
        size: height and width; others are scaled to it by their shorter side and their middle is taken.
        validation: share of the training images of each class that is set apart to validate on, 0 to 0.5.
        seed: of the draw of these, 0 or more.
        overwrite: replace a set that was prepared from other images or with other options.
    """
    task = prepare(root, out, size, validation, seed, overwrite)
    for note in task.metadata["notes"]:
        print(f"note: {note}", file=sys.stderr)
    print(table(task))
    print(f"prepared: {task.root}")


if __name__ == "__main__":
    run(main)
