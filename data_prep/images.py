"""What all sets of images share: decoding, splits by chance, and the folder that the recipes read."""

import hashlib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import write_array_header_1_0
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from randommix_audio.data import BankError
from randommix_audio.data.files import atomic, locked, write_json
from randommix_audio.data.task import SPLITS
from recipes.images.task import FORMAT, ImageTask

from .command import PrepareError

_LEVELS = np.arange(256) / 255


@dataclass(frozen=True)
class Part:
    """One split, before it is stored.

    Attributes:
        targets: (N,) position of each image's class in the list of labels.
        images: the N images in the same order, (size, size, 3) uint8 each; read once.
    """

    targets: np.ndarray
    images: Iterable[np.ndarray]


def store(
    out: Path,
    labels: Sequence[str],
    size: int,
    parts: dict[str, Part],
    settings: dict[str, Any],
    notes: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
) -> ImageTask:
    """Write a prepared set; it replaces nothing before all images are read, and `task.json` is written last.

    Args:
        out: its folder, made when missing.
        labels: class names.
        size: height and width of the images.
        parts: the splits; empty ones are left out.
        settings: what the set is made of; a folder that has a set with the same settings is taken as it is.
        notes: lines that a reader may wish to know.
        overwrite: replace a set that was made with other settings.
        progress: show a bar.

    Raises:
        PrepareError: there are no training images, or the folder cannot be made.
        BankError: the folder holds another set, which stays as it is.
        BlockingIOError: another process is preparing the same folder.
    """
    parts = {name: parts[name] for name in SPLITS if name in parts and len(parts[name].targets)}
    if "train" not in parts:
        raise PrepareError(f"{out}: there would be no training images")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PrepareError(f"{out}: cannot be made ({error.strerror}); pass --out with a folder to write to") from None
    with locked(out):
        if ready := kept(out, settings, overwrite):
            return ready
        digest = hashlib.sha256("\0".join(labels).encode())
        moments = _write_parts(out, size, parts, digest, progress)
        about = {
            "kind": "images",
            "format": FORMAT,
            "labels": list(labels),
            "splits": list(parts),
            "size": size,
            "mean": moments[0],
            "std": moments[1],
            "digest": digest.hexdigest(),
            "metadata": {"settings": settings, "notes": list(notes)},
        }
        (out / "task.json").unlink(missing_ok=True)
        for path in _arrays(out, parts):
            _new(path).replace(path)
        write_json(out / "task.json", about)
        return ImageTask.load(out)


def kept(out: Path, settings: dict[str, Any], overwrite: bool) -> ImageTask | None:
    """The set that is in a folder if it was made with these settings, None where there is none to keep.

    Raises:
        BankError: the folder holds another set or another kind of task, and `overwrite` is False.
    """
    try:
        ready = ImageTask.load(out)
    except BankError:
        if (out / "task.json").exists() and not overwrite:
            raise BankError(f"{out}: holds another task; pass --overwrite true or another --out") from None
        return None
    was = ready.metadata.get("settings", {})
    if was == settings:
        return ready
    if overwrite:
        return None
    told = [key for key in settings if was.get(key) != settings[key] and key != "fingerprint"]
    what = ", ".join(f"{key} {was.get(key)}" for key in told) or "other images"
    raise BankError(f"{out}: holds another set of images ({what}); pass --overwrite true or another --out")


def _arrays(out: Path, parts: Iterable[str]) -> list[Path]:
    return [out / f"{name}_{what}.npy" for name in parts for what in ("images", "targets")]


def _new(path: Path) -> Path:
    """Where an array waits until all of them are there."""
    return path.with_name(path.name + ".new")


def _write_parts(
    out: Path, size: int, parts: dict[str, Part], digest: Any, progress: bool
) -> tuple[list[float], list[float]]:
    """Write all arrays under temporary names; gives the mean and the deviation of the training images."""
    histograms = {}
    total = sum(len(part.targets) for part in parts.values())
    try:
        with bar_of(total, "preparing", progress) as bar:
            for name, part in parts.items():
                histograms[name] = _write_part(out, name, part, size, digest, bar)
    except BaseException:
        for path in _arrays(out, parts):
            _new(path).unlink(missing_ok=True)
        raise
    return _moments(histograms["train"])


def bar_of(total: int, what: str, progress: bool) -> tqdm:
    """A bar that counts images; in a log file it writes a line every 15 seconds."""
    often = 0.1 if sys.stderr.isatty() else 15.0
    return tqdm(total=total, unit="image", desc=what, disable=not progress, mininterval=often)


def begin_array(stream: IO[bytes], shape: tuple[int, ...]) -> None:
    """Write the head of a uint8 array of numpy; its bytes follow. A full disk is an OSError then, unlike in a map."""
    write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _write_part(out: Path, name: str, part: Part, size: int, digest: Any, bar: tqdm) -> np.ndarray:
    """Write the arrays of one split; gives (3, 256), how often each level comes in each channel."""
    images_path, targets_path = (_new(path) for path in _arrays(out, [name]))
    targets = np.asarray(part.targets, dtype="<i8")
    shape = (len(targets), size, size, 3)
    histogram = np.zeros((3, 256), dtype=np.int64)
    digest.update(f"\0{name} {shape}".encode())
    with atomic(images_path) as stream:
        begin_array(stream, shape)
        for image, _ in zip(part.images, targets, strict=True):
            if image.dtype != np.uint8 or image.shape != shape[1:]:
                raise ValueError(f"an image must be uint8 {shape[1:]}, not {image.dtype} {image.shape}")
            content = image.tobytes()
            stream.write(content)
            digest.update(content)
            for channel in range(3):
                histogram[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
            bar.update()
    digest.update(targets.tobytes())
    with atomic(targets_path) as stream:
        np.save(stream, targets)
    return histogram


def _moments(histogram: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in units of [0, 1]; exact, because levels are counted."""
    share = histogram / histogram.sum(1, keepdims=True)
    mean = share @ _LEVELS
    variance = share @ _LEVELS**2 - mean**2
    return mean.tolist(), np.sqrt(np.maximum(variance, 0)).tolist()


def set_apart(targets: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which training images to train on and which to validate on, the same share of each class.

    Args:
        targets: (N,) classes of the training images.
        share: of each class that is for validation, rounded, 0 to 0.5.
        seed: of the draw, 0 to 2^63 - 1.

    Returns:
        Rows to train on and rows to validate on, each in ascending order.

    Raises:
        PrepareError: share or seed are out of range.
    """
    if not 0 <= share <= 0.5:
        raise PrepareError(f"validation must be 0 to 0.5, not {share}")
    if not 0 <= seed < 2**63:
        raise PrepareError(f"seed must be 0 to 2^63 - 1, not {seed}")
    order = np.random.default_rng(seed).permutation(len(targets))
    apart = np.zeros(len(targets), dtype=bool)
    for target in np.unique(targets):
        rows = order[targets[order] == target]
        apart[rows[: round(share * len(rows))]] = True
    return np.flatnonzero(~apart), np.flatnonzero(apart)


def refuse_part(where: str, corpus: str, found: tuple[int, int], whole: tuple[int, int]) -> None:
    """Refuse a part of a corpus, such as an interrupted unpacking leaves, under the name of the whole.

    Args:
        where: it lies.
        corpus: its name.
        found: training and test images.
        whole: those of the corpus.

    Raises:
        PrepareError: the numbers differ.
    """
    if found != whole:
        raise PrepareError(
            f"{where}: has {found[0]:,} training and {found[1]:,} test images, {corpus} {whole[0]:,} and {whole[1]:,}; "
            "unpack it again, or give the archive alone"
        )


def fingerprint(sizes: Mapping[str, int]) -> str:
    """SHA-256 of the names and sizes of files: a cheap sign that these are the same as before."""
    return hashlib.sha256("\n".join(f"{name}\t{size}" for name, size in sizes.items()).encode()).hexdigest()


def decode(content: bytes, name: str, size: int) -> np.ndarray:
    """The pixels of an image file, (size, size, 3) uint8 RGB.

    An image is turned as its EXIF orientation says. One of another size is scaled so that its shorter side fits
    (bicubic, antialiased), and its middle is taken.

    Raises:
        PrepareError: it cannot be read, or has more than 8 bits for a channel; names it.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode[0] in "IF":
                raise PrepareError(f"{name}: has more than 8 bits for a channel, which would be cut off")
            rgb = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = "not an image" if isinstance(error, UnidentifiedImageError) else error
        raise PrepareError(f"{name}: cannot be read ({why})") from None
    if rgb.size != (size, size):
        rgb = _fitted(rgb, size)
    return np.asarray(rgb)


def _fitted(image: Image.Image, size: int) -> Image.Image:
    # Rounded as torchvision's resize and center_crop round, with which files are read for predictions.
    wide, high = (int(size * side / min(image.size)) for side in image.size)
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return image.crop((left, top, left + size, top + size))


def table(task: ImageTask) -> str:
    """The number of images of each split, as lines of text."""
    lines = [f"{'split':<12}{'images':>12}{'classes':>12}"]
    for name in task.splits:
        targets = task.split(name)[1]
        lines.append(f"{name:<12}{len(targets):>12}{len(np.unique(targets)):>12}")
    return "\n".join(lines)
