"""CIFAR-10-C and CIFAR-100-C as published: one array for each corruption, five severities one after another.

Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise")
BLURS = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
WEATHER = ("snow", "frost", "fog", "brightness")
DIGITAL = ("contrast", "elastic_transform", "pixelate", "jpeg_compression")

CORRUPTIONS: tuple[str, ...] = NOISES + BLURS + WEATHER + DIGITAL
"""The 15 corruptions of the benchmark. The folders hold four more, meant for validation: the mean leaves them out."""

SEVERITIES = 5


def read_corruption(folder: str | os.PathLike[str], name: str, severity: int) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of one corruption at one severity, memory-mapped, and their labels.

    Args:
        folder: Holds `<name>.npy`, uint8 (5 N, H, W, 3), and `labels.npy`, whole numbers (5 N,); N is 10,000 in the
            published sets. Rows come by severity: the first N have severity 1.
        name: One of CORRUPTIONS, or of the four others that the published folders hold.
        severity: 1 (mild) to 5.

    Returns:
        Pictures uint8 (N, H, W, 3), read-only, and labels int64 (N,).

    Raises:
        FileNotFoundError: If a file is missing; one line that names it.
        ValueError: If the severity is none, or a file holds something else.
    """
    if severity not in range(1, SEVERITIES + 1):
        raise ValueError(f"severity must be 1 to {SEVERITIES}, got {severity}")
    images, labels = _array(folder, f"{name}.npy"), _array(folder, "labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) % SEVERITIES:
        raise ValueError(
            f"{Path(folder) / name}.npy: must be uint8 ({SEVERITIES} N, H, W, 3), is {images.dtype} {images.shape}"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{Path(folder) / 'labels.npy'}: must be {len(images)} whole numbers, one for each picture of "
            f"{name}.npy, is {labels.dtype} {labels.shape}"
        )
    count = len(images) // SEVERITIES
    rows = slice((severity - 1) * count, severity * count)
    return images[rows], labels[rows].astype(np.int64)


def corruption_error(
    error: Callable[[np.ndarray, np.ndarray], float],
    folder: str | os.PathLike[str],
    corruptions: Sequence[str] = CORRUPTIONS,
) -> dict[str, Any]:
    """The mean error over corruptions and severities, and every part of it.

    The mean is the plain one, as usual for CIFAR-C: errors are not divided by those of AlexNet, which the mCE of
    ImageNet-C does.

    Args:
        error: Called with pictures uint8 (N, H, W, 3) and labels (N,); gives the share 0 .. 1 of wrong answers.
        folder: As for `read_corruption`; every file is looked at before the first is judged.
        corruptions: Names of arrays in the folder.

    Returns:
        {"corruption_error": mean, "corruptions": {name: {"error": mean, "severities": [five errors]}}}.

    Raises:
        FileNotFoundError, ValueError: As read_corruption; and ValueError without corruptions.
    """
    if not corruptions:
        raise ValueError("corruptions names none")
    for name in corruptions:
        read_corruption(folder, name, 1)
    found: dict[str, dict[str, Any]] = {}
    for name in corruptions:
        errors = [float(error(*read_corruption(folder, name, severity))) for severity in range(1, SEVERITIES + 1)]
        found[name] = {"error": sum(errors) / SEVERITIES, "severities": errors}
    mean = sum(part["error"] for part in found.values()) / len(found)
    return {"corruption_error": mean, "corruptions": found}


def _array(folder: str | os.PathLike[str], name: str) -> np.ndarray:
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; unpack CIFAR-10-C or CIFAR-100-C there")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a readable NumPy array") from error
