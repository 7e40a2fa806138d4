"""Random textures for corruptions: fog by the diamond-square algorithm, and frost that is drawn, not photographed."""

import numpy as np

_TINT = np.array([0.82, 0.93, 1.0])  # of ice


def plasma(count: int, size: int, decay: float, generator: np.random.Generator) -> np.ndarray:
    """Height maps by the diamond-square algorithm on a torus.

    Args:
        count: N.
        size: S, a power of 2.
        decay: by which the reach of the displacements is divided when the grid becomes twice as fine; a displacement is
            uniform within the square of that reach.
        generator: of the draws.

    Returns:
        (N, S, S) in [0, 1], both ends taken in each map.
    """
    heights = np.zeros((count, size, size))
    step, reach = size, 100.0
    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        beside = corners + np.roll(corners, -1, 1)
        centres = _displaced(beside + np.roll(beside, -1, 2), reach, generator)
        heights[:, half::step, half::step] = centres
        # the edges between: two corners, and the centres of the two squares that share the edge
        across = corners + np.roll(corners, -1, 2) + centres + np.roll(centres, 1, 1)
        heights[:, ::step, half::step] = _displaced(across, reach, generator)
        along = beside + centres + np.roll(centres, 1, 2)
        heights[:, half::step, ::step] = _displaced(along, reach, generator)
        step, reach = half, reach / decay
    heights -= heights.min((1, 2), keepdims=True)
    return heights / heights.max((1, 2), keepdims=True)


def _displaced(four: np.ndarray, reach: float, generator: np.random.Generator) -> np.ndarray:
    return four / 4 + reach * generator.uniform(-reach, reach, four.shape)


def frost_texture(count: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Pictures of ice crystals: a thin uneven film, ridges where crystals meet, and needles in six directions.

    Args:
        count: N.
        size: S.
        generator: of the draws.

    Returns:
        (N, S, S, 3) in [0, 1], bluish white, with a mean of about one half.
    """
    film = _smooth_noise(count, size, 2.0, generator)
    ridges = 1 - np.abs(_smooth_noise(count, size, 1.2, generator))
    needles = _needles(count, size, generator)
    ice = 0.42 + 0.12 * film + 0.35 * ridges.clip(0) ** 3 * (0.5 + 0.5 * film).clip(0, 1) + 0.55 * needles
    return ice.clip(0, 1)[..., None] * _TINT


def _smooth_noise(count: int, size: int, exponent: float, generator: np.random.Generator) -> np.ndarray:
    """(N, S, S) Gaussian noise with amplitudes that fall as frequency^-exponent; mean 0, deviation 1."""
    rows, columns = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(generator.normal(size=(count, size, size))) * frequency**-exponent
    noise = np.fft.irfft2(spectrum, (size, size))
    return noise / noise.std((1, 2), keepdims=True)


def _needles(count: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """(N, S, S) in [0, 1]: stars with six arms that fade from their centres, turned in each picture."""
    stars, reach = 7, size * 0.3
    rows, columns = np.mgrid[:size, :size]
    turn = generator.uniform(0, np.pi / 3, count)[:, None, None]
    picture = np.zeros((count, size, size))
    for _ in range(stars):
        y, x = generator.uniform(0, size, (2, count, 1, 1))
        length = reach * generator.uniform(0.4, 1, (count, 1, 1))
        distance, angle = np.hypot(rows - y, columns - x), np.arctan2(rows - y, columns - x) - turn
        off_arm = distance * np.abs(np.sin(np.mod(angle + np.pi / 6, np.pi / 3) - np.pi / 6))
        picture = np.maximum(picture, np.exp(-((off_arm / 0.7) ** 2)) * (1 - distance / length).clip(0))
    return picture
