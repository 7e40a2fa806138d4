"""The 15 common corruptions at five severities, for images of 32 x 32 pixels.

After D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
ICLR 2019 (https://arxiv.org/abs/1903.12261), with the severities of their CIFAR-10-C. Two things differ from the
published arrays: the draws, and frost, which they cut from photographs and which is drawn here, see `frost`.

Every function takes (N, 32, 32, 3) float64 in [0, 1], a severity of 1 to 5, and a generator, and gives the same shape
in any range; `corrupted` clips and stores.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from randommix_audio.evaluation.corruptions import CORRUPTIONS, SEVERITIES

from .textures import frost_texture, plasma

SIZE = 32


def corrupted(images: np.ndarray, name: str, severity: int, seed: int, first: int = 0) -> np.ndarray:
    """Corrupt images.

    Args:
        images: (N, 32, 32, 3) uint8.
        name: one of CORRUPTIONS.
        severity: 1 to 5.
        seed: of all draws, 0 to 2^63 - 1; the draws of two corruptions or severities are independent.
        first: number of the first of these images in its set, so that the parts of a set differ in their draws.

    Returns:
        (N, 32, 32, 3) uint8. Fractions are cut off, as in the published arrays.

    Raises:
        ValueError: there is no such corruption or severity, or the images have another shape or type.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"no corruption {name!r}: there are {', '.join(CORRUPTIONS)}")
    if severity not in range(1, SEVERITIES + 1):
        raise ValueError(f"severity must be 1 to {SEVERITIES}, not {severity}")
    if images.dtype != np.uint8 or images.shape[1:] != (SIZE, SIZE, 3):
        raise ValueError(f"images must be uint8 (N, {SIZE}, {SIZE}, 3), not {images.dtype} {images.shape}")
    generator = np.random.default_rng([seed, CORRUPTIONS.index(name), severity, first])
    changed = _FUNCTIONS[name](images / 255.0, severity, generator)
    return (np.clip(changed, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of the sensor in the dark."""
    return x + generator.normal(0, (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1], x.shape)


def shot_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Noise of counting photons: Poisson, fewer of them the severer."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return generator.poisson(x * photons) / photons


def impulse_noise(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Salt and pepper: some values become 0 or 1, each channel for itself."""
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    hit = generator.random(x.shape) < amount
    return np.where(hit, generator.integers(0, 2, x.shape), x)


def defocus_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A lens out of focus: a disk, its edge softened by a Gaussian of 3 x 3."""
    radius, sigma = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    y, across = np.mgrid[-3:4, -3:4]
    disk = (y**2 + across**2 <= radius**2).astype(float)
    soft = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    kernel = convolve(disk / disk.sum(), np.outer(soft, soft) / soft.sum() ** 2, mode="constant")
    return convolve(x, kernel[None, :, :, None], mode="mirror")


def glass_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Frosted glass: pixels change places between two Gaussian blurs.

    The published loop swaps views of one array, so a pixel takes the value of its neighbour above or to the left and
    the neighbour keeps it; pixels are visited from the last to the first, so no value moves on. Both are kept here.
    """
    sigma, iterations = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[severity - 1]
    x = np.floor(_gaussian(x, sigma) * 255) / 255
    rows, columns = np.mgrid[2:SIZE, 2:SIZE]
    image = np.arange(len(x))[:, None, None]
    for _ in range(iterations):
        dy, dx = generator.integers(-1, 1, (2, len(x), *rows.shape))
        x[:, 2:, 2:] = x[image, rows + dy, columns + dx]
    return _gaussian(x, sigma)


def _gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest")


def motion_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A camera that moves: a one-sided Gaussian along a line at -45 to 45 degrees."""
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    return _streaked(x, radius, sigma, generator.uniform(-45, 45, len(x)))


def _streaked(x: np.ndarray, radius: int, sigma: float, degrees: np.ndarray) -> np.ndarray:
    """Blur (N, H, W, C) along a line, at an angle for each image: 2 radius + 1 taps at the nearest pixels."""
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    rows, columns = np.mgrid[: x.shape[1], : x.shape[2]]
    image = np.arange(len(x))[:, None, None]
    angle = np.deg2rad(degrees)[:, None, None]
    out = np.zeros_like(x)
    for tap, weight in zip(taps, weights / weights.sum(), strict=True):
        down, right = (np.ceil(tap * way(angle) - 0.5).astype(int) for way in (np.sin, np.cos))
        out += weight * x[image, (rows + down).clip(0, x.shape[1] - 1), (columns + right).clip(0, x.shape[2] - 1)]
    return out


def zoom_blur(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A camera that moves towards the object: the mean of ever larger enlargements and the image itself."""
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    total = x + sum(_enlarged(x, factor) for factor in factors)
    return total / (len(factors) + 1)


def _enlarged(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of (N, S, S, C), enlarged to (N, S, S, C), linear between pixels."""
    size = x.shape[1]
    part = int(np.ceil(size / factor))
    whole = round(part * factor)
    at = (np.arange(size) + (whole - size) // 2) * (part - 1) / (whole - 1) + (size - part) // 2
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))  # (S, S): of each pixel for each new one
    return np.einsum("ih,nhwc,jw->nijc", weights, x, weights, optimize=True)


def snow(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Flakes in a paler, brighter picture."""
    loc, scale, factor, threshold, radius, sigma, share = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    flakes = _enlarged(generator.normal(loc, scale, (*x.shape[:3], 1)), factor)
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)
    flakes = _streaked(flakes, radius, sigma, generator.uniform(-135, -45, len(x)))
    grey = (x @ np.array([0.299, 0.587, 0.114]))[..., None]
    pale = share * x + (1 - share) * np.maximum(x, grey * 1.5 + 0.5)
    return pale + flakes + np.rot90(flakes, 2, axes=(1, 2))


def frost(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Ice on the lens. The published arrays cut it from photographs of frost; here it is a texture that is drawn."""
    share, ice = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    return share * x + ice * frost_texture(len(x), SIZE, generator)


def fog(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Fog of uneven thickness, by the diamond-square algorithm; the brightest level of the picture is kept."""
    thickness, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    brightest = x.max((1, 2, 3), keepdims=True)
    return (x + thickness * plasma(len(x), SIZE, decay, generator)[..., None]) * brightest / (brightest + thickness)


def brightness(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """More light: the value of HSV is raised, hue and saturation are kept; black becomes grey."""
    value = x.max(-1, keepdims=True)
    raised = np.minimum(value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1], 1)
    return np.where(value > 0, x / np.where(value > 0, value, 1), 1) * raised


def contrast(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Less contrast: each channel nearer to its mean."""
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] + mean


def elastic_transform(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """The picture on rubber: a random affine map, then smooth displacements (in pixels: strength, width, affine)."""
    strength, width, affine = (
        (0, 0, 2.56),
        (1.6, 6.4, 2.24),
        (2.56, 1.92, 1.92),
        (3.2, 1.28, 1.6),
        (3.2, 0.96, 0.96),
    )[severity - 1]
    x = _warped(x, *_affine(len(x), affine, generator))
    noise = generator.uniform(-1, 1, (2, len(x), SIZE, SIZE))
    dx, dy = strength * gaussian_filter(noise, (0, 0, width, width), mode="reflect", truncate=3)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return _warped(x, rows + dy, columns + dx)


def _affine(count: int, affine: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (N, 32, 32) where the map that moves three corners by up to `affine` pixels takes from."""
    corners = np.array([[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]])
    moved = corners + generator.uniform(-affine, affine, (count, 3, 2))
    with_ones = np.concatenate([moved, np.ones((count, 3, 1))], -1)
    back = np.linalg.solve(with_ones, np.broadcast_to(corners, (count, 3, 2)))  # [x', y', 1] back = [x, y]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    source = np.stack([columns, rows, np.ones_like(rows)], -1) @ back[:, None]  # (N, 32, 32, 2)
    return source[..., 1], source[..., 0]


def _warped(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The picture (N, S, S, C) at (N, S, S) places, linear between pixels, mirrored at the edges."""
    last = x.shape[1] - 1
    rows, columns = (last - np.abs(last - np.mod(at, 2 * last)) for at in (rows, columns))
    top, left = (np.minimum(at.astype(int), last - 1) for at in (rows, columns))
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    image = np.arange(len(x))[:, None, None]
    upper = x[image, top, left] * (1 - right) + x[image, top, left + 1] * right
    lower = x[image, top + 1, left] * (1 - right) + x[image, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def pixelate(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Fewer pixels: scaled down and up again by the mean of boxes."""
    few = int(SIZE * (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1])

    def scaled(image: Image.Image) -> Image.Image:
        box = Image.Resampling.BOX
        return image.resize((few, few), box).resize(image.size, box)

    return _by_pillow(x, scaled)


def jpeg_compression(x: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Stored as JPEG and read again."""
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def stored(image: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(stream)

    return _by_pillow(x, stored)


def _by_pillow(x: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    images = np.rint(x * 255).astype(np.uint8)
    # half a level more, because fractions are cut off in the end
    return (np.stack([np.asarray(change(Image.fromarray(image))) for image in images]) + 0.5) / 255


_FUNCTIONS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    function.__name__: function
    for function in (
        *(gaussian_noise, shot_noise, impulse_noise),
        *(defocus_blur, glass_blur, motion_blur, zoom_blur),
        *(snow, frost, fog, brightness),
        *(contrast, elastic_transform, pixelate, jpeg_compression),
    )
}
