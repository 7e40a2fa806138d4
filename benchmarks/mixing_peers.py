"""What other libraries, and published procedures written afresh, do for the same mix: one function of no argument each.

A peer that writes into its input keeps doing so, and is compared with ours mixing in place; beside ours making a new
batch its user would have to copy first, which is not timed. Peers that mix targets in the same call are timed with a
batch alone (their inner step, where they have one) and with class indices.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Work

PACKAGES = ("timm", "torchvision", "kornia", "torch_audiomentations")
CLASSES = 35


@dataclass(frozen=True)
class Peer:
    """One way to mix a batch.

    Attributes:
        name: The library, or "published procedure".
        method: The method of this library that it is compared with.
        per: Whether it draws once for the batch or for each row.
        alone: Mixes the batch.
        with_targets: Mixes the batch and its targets; None where nothing does both.
        in_place: Whether it overwrites the batch.
    """

    name: str
    method: str
    per: str
    alone: Work
    with_targets: Work | None = None
    in_place: bool = False


def peers(x: Tensor, target: Tensor) -> list[Peer]:
    """All peers that are installed, for a batch (B, 1, F, T) and its class indices (B,)."""
    found = []
    for make in (_timm, _torchvision, _kornia, _torch_audiomentations, _published):
        try:
            found += list(make(x.clone(), target))
        except ImportError:
            continue
    return found


def _timm(x: Tensor, target: Tensor) -> Iterator[Peer]:
    from timm.data import Mixup

    for method, alphas in (("mixup", (1.0, 0.0)), ("cutmix", (0.0, 1.0))):
        for per, mode in (("batch", "batch"), ("row", "elem")):
            mixer = Mixup(*alphas, mode=mode, num_classes=CLASSES, label_smoothing=0.0)
            inner = getattr(mixer, f"_mix_{mode}")
            yield Peer("timm", method, per, _call(inner, x), _call(mixer, x, target), in_place=True)


def _torchvision(x: Tensor, target: Tensor) -> Iterator[Peer]:
    from torchvision.transforms import v2

    for method, mixer in (("mixup", v2.MixUp(num_classes=CLASSES)), ("cutmix", v2.CutMix(num_classes=CLASSES))):

        def alone(mixer: Any = mixer) -> object:
            return mixer.transform(x, {"labels": None, "batch_size": len(x), **mixer.make_params([x])})

        yield Peer("torchvision", method, "batch", alone, _call(mixer, x, target))


def _kornia(x: Tensor, target: Tensor) -> Iterator[Peer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kornia.augmentation import RandomCutMixV2, RandomMixUpV2

        for method, kind in (("mixup", RandomMixUpV2), ("cutmix", RandomCutMixV2)):
            options = {"use_correct_lambda": True} if method == "cutmix" else {}
            for per in ("batch", "row"):
                same = per == "batch"
                alone, both = (
                    kind(p=1.0, same_on_batch=same, data_keys=keys, **options)
                    for keys in (["input"], ["input", "class"])
                )
                yield Peer("kornia", method, per, _call(alone, x), _call(both, x, target))


def _torch_audiomentations(x: Tensor, target: Tensor) -> Iterator[Peer]:
    from torch_audiomentations.augmentations.mix import Mix

    # As many values as a batch of waveforms. Its gain is a signal-to-noise ratio, and it has no class indices.
    wave = x.flatten(2)
    mixer = Mix(p=1.0, sample_rate=16000, output_type="dict")
    yield Peer("torch-audiomentations Mix", "mixup", "row", _call(mixer, wave))


def _published(x: Tensor, target: Tensor) -> Iterator[Peer]:
    yield Peer("published procedure", "fmix", "batch", lambda: fmix(x, 1))
    yield Peer("published procedure", "fmix", "row", lambda: fmix(x, len(x)))
    yield Peer("published procedure", "resizemix", "batch", lambda: resizemix(x))


def _call(function: Callable[..., object], *arguments: Tensor) -> Work:
    return lambda: function(*arguments)


def fmix(x: Tensor, masks: int) -> Tensor:
    """FMix as published (Harris et al. 2021): a NumPy spectrum and a full sort for each mask, then one weighted sum.

    Args:
        x: (B, C, F, T).
        masks: 1 for the batch, or B of them.
    """
    rng = np.random.default_rng()
    mask = np.stack([fmix_mask(rng, x.shape[2], x.shape[3], rng.beta(1.0, 1.0)) for _ in range(masks)])
    own = torch.from_numpy(mask).float().unsqueeze(1).to(x.device)
    return own * x + (1 - own) * x[torch.randperm(len(x))]


def fmix_mask(rng: np.random.Generator, freq: int, time: int, lam: float, decay: float = 3.0) -> np.ndarray:
    """One mask, (F, T) of 0 and 1, with lam F T ones: the highest points of decaying noise."""
    radius = np.hypot(np.fft.fftfreq(freq)[:, None], np.fft.rfftfreq(time)[None])
    noise = rng.standard_normal(radius.shape) + 1j * rng.standard_normal(radius.shape)
    field = np.fft.irfft2(noise / np.maximum(radius, 1 / max(freq, time)) ** decay, s=(freq, time)).ravel()
    count = int(np.ceil(lam * field.size) if rng.random() > 0.5 else np.floor(lam * field.size))
    mask = np.zeros(field.size)
    mask[np.argsort(field)[::-1][:count]] = 1.0
    return mask.reshape(freq, time)


def resizemix(x: Tensor) -> Tensor:
    """ResizeMix as published (Qin et al. 2020): one size for the batch, and a loop that pastes row by row."""
    rng = np.random.default_rng()
    partner = torch.randperm(len(x)).tolist()
    small = F.interpolate(x, scale_factor=float(rng.uniform(0.1, 0.8)), mode="nearest")
    freq, time = small.shape[2:]
    mixed = x.clone()
    for row, other in enumerate(partner):
        first_bin = min(max(rng.integers(x.shape[2]) - freq // 2, 0), x.shape[2] - freq)
        first_frame = min(max(rng.integers(x.shape[3]) - time // 2, 0), x.shape[3] - time)
        mixed[row, :, first_bin : first_bin + freq, first_frame : first_frame + time] = small[other]
    return mixed
