"""Read audio files into numpy arrays, trusting nothing that a header says.

Whatever is wrong with a file, `info` and `read` raise `AudioError`, which names the file and the reason.
Files are decoded in blocks until they end, so a header that claims a gigabyte costs nothing.
"""

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from .containers import missing_bytes

PathLike = str | os.PathLike[str]

MIN_SAMPLE_RATE = 1_000
MAX_SAMPLE_RATE = 768_000
_OGG_PAGE_FRAMES = 2**20  # a page holds at most 255 packets of at most 4096 frames
_BLOCK_SAMPLES = 65_536  # frames times channels decoded at a time
_UNKNOWN_FRAMES = 2**62  # libsndfile reports 2**63 - 1 where a stream does not say how long it is
_ESTIMATED = ("MP3", "MPEG", "OGG")  # formats whose frame count is an estimate or ends with the last page
# Formats that code whole blocks may count the padding of the last one.
_BLOCK_CODED = {
    "MS_ADPCM": 4096,
    "IMA_ADPCM": 4096,
    "G721_32": 4096,
    "G723_24": 4096,
    "GSM610": 320,
    "NMS_ADPCM": 160,
}


class AudioError(Exception):
    """An audio file that cannot be used.

    Attributes:
        path: the file as it was asked for.
        reason: what is wrong with it, in one line.
    """

    def __init__(self, path: PathLike, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{os.fspath(self.path)}: {self.reason}"


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds: rate in Hz, channels, frames (samples per channel) and duration in seconds."""

    sample_rate: int
    channels: int
    frames: int
    duration: float


class _SequentialFile(soundfile.SoundFile):
    """A SoundFile that does not seek after each block.

    soundfile seeks to where the block ended, which fails at the end of a FLAC stream of unknown length.
    """

    def seekable(self) -> bool:
        return False


def info(path: PathLike) -> AudioInfo:
    """Sample rate, channels, frames and duration of an audio file, from its header.

    A stream that does not say how long it is gets decoded once to count its frames; what a FLAC header
    claims is found out only by reading.

    Raises:
        AudioError: the file is missing, a folder, empty, cut short, not audio, without samples, or its
            header is absurd.
    """
    with _open(path) as file:
        frames = file.frames
        if frames >= _UNKNOWN_FRAMES:
            frames = sum(len(block) for block in _blocks(path, file, None, "float32"))
        if frames <= 0:
            raise AudioError(path, "holds no samples")
        return AudioInfo(file.samplerate, file.channels, frames, frames / file.samplerate)


def read(
    path: PathLike,
    sample_rate: int | None = None,
    start: float = 0.0,
    duration: float | None = None,
    mono: bool = True,
    dtype: Literal["float32", "int16"] = "float32",
    content: bytes | None = None,
) -> tuple[np.ndarray, int]:
    """Samples of an audio file, or of a segment of it, at the rate asked for.

    Args:
        path: any file that libsndfile reads, whatever its name ends in.
        sample_rate: resample to this rate in Hz (soxr, high quality); None keeps the file's own.
        start: where to begin, in seconds of the file. What lies before is skipped by seeking, not decoded.
        duration: seconds to read; None reads to the end. A file that ends earlier gives what it has.
        mono: average the channels.
        dtype: "float32" with full scale at 1, or "int16": the very samples of a 16 bit file; anything else
            is scaled by 32768, rounded and clipped.
        content: the bytes of the file where they are in memory, as a member of an archive; `path` is then only
            what errors call it.

    Returns:
        (samples,) if mono, else (channels, samples), and the sample rate. All samples are finite.

    Raises:
        AudioError: the file is missing, a folder, empty, cut short, not audio, without samples in the
            segment, has NaN or infinite samples, or an absurd header. An MP3 may end before its header
            says: the count is an estimate there.
        ValueError: start, duration, sample_rate or dtype make no sense.
    """
    _check_arguments(sample_rate, start, duration, dtype)
    with _open(path, content) as file:
        rate = file.samplerate
        wanted = None if duration is None else max(1, round(duration * rate))
        first = round(start * rate)
        _skip(path, file, first)
        exact = dtype == "int16" and file.subtype == "PCM_16" and rate == (sample_rate or rate)
        coded = "int16" if exact and (file.channels == 1 or not mono) else _coded_type(file.subtype, dtype)
        blocks = [_mix(block, mono) for block in _blocks(path, file, wanted, coded)]
        got = sum(len(block) for block in blocks)
        if got == 0:
            raise AudioError(path, "holds no samples" if first == 0 else f"holds no samples after {start:g} s")
        _check_length(path, file, first, wanted, got)
    wave = np.concatenate(blocks).T
    if sample_rate is not None and sample_rate != rate:
        wave, rate = _resample(wave, rate, sample_rate), sample_rate
    if wave.dtype != np.int16:
        if not np.isfinite(wave).all():
            raise AudioError(path, "has samples that are NaN or infinite")
        wave = _to_int16(wave) if dtype == "int16" else wave.astype(np.float32, copy=False)
    wave = wave[0] if mono else wave
    return np.ascontiguousarray(wave), rate


def _check_arguments(sample_rate: int | None, start: float, duration: float | None, dtype: str) -> None:
    if dtype not in ("float32", "int16"):
        raise ValueError(f"dtype must be 'float32' or 'int16', not {dtype!r}")
    if not (np.isfinite(start) and start >= 0):
        raise ValueError(f"start must be 0 or more seconds, not {start}")
    if duration is not None and not (np.isfinite(duration) and duration > 0):
        raise ValueError(f"duration must be more than 0 seconds, not {duration}")
    if sample_rate is not None and not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise ValueError(f"sample_rate must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, not {sample_rate}")


def _open(path: PathLike, content: bytes | None = None) -> soundfile.SoundFile:
    """The opened file, its header checked."""
    try:
        size = _size(path) if content is None else len(content)
        if size == 0:
            raise AudioError(path, "is empty (0 bytes)")
        if lack := missing_bytes(path if content is None else io.BytesIO(content)):
            raise AudioError(path, f"is cut short: {lack} bytes less than its header claims")
        file = _open_by_content(path) if content is None else _SequentialFile(io.BytesIO(content))
    except FileNotFoundError:
        raise AudioError(path, "no such file") from None
    except OSError as error:
        raise AudioError(path, f"cannot be opened ({error.strerror or error})") from None
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise AudioError(path, f"cannot be read as audio ({_message(error)})") from None
    if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
        file.close()
        raise AudioError(path, f"its header claims a sample rate of {file.samplerate} Hz")
    return file


def _size(path: PathLike) -> int:
    """Bytes of a regular file."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(path, "is a folder, not an audio file")
    if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
        raise AudioError(path, "is not a regular file")
    return status.st_size


def _open_by_content(path: PathLike) -> soundfile.SoundFile:
    if Path(path).suffix.lower() != ".raw":
        return _SequentialFile(os.fspath(path))
    # soundfile takes .raw for headerless samples whatever the file holds; a file object without a name is
    # looked at.
    with open(path, "rb", buffering=0) as stream:
        return _SequentialFile(os.dup(stream.fileno()), closefd=True)


def _message(error: Exception) -> str:
    """What libsndfile said, without the path and the prefix that it puts before them."""
    return str(getattr(error, "error_string", error)).strip().removeprefix("Error : ").rstrip(".")


def _coded_type(subtype: str, dtype: str) -> str:
    """The type to decode to: 32 bit samples need float64 to be rounded once, everything else fits float32."""
    return "float64" if dtype == "int16" and subtype in ("PCM_32", "DOUBLE", "ALAC_32") else "float32"


def _blocks(path: PathLike, file: soundfile.SoundFile, frames: int | None, dtype: str) -> Iterator[np.ndarray]:
    """(frames, channels) blocks up to `frames` or to the end of the file, whatever the header claims."""
    block = max(1, _BLOCK_SAMPLES // file.channels)
    left = _UNKNOWN_FRAMES if frames is None else frames
    while left > 0:
        try:
            data = file.read(min(block, left), dtype=dtype, always_2d=True)
        except (soundfile.SoundFileError, RuntimeError, OSError, ValueError) as error:
            raise AudioError(path, f"cannot be decoded, cut short or damaged ({_message(error)})") from None
        if len(data) == 0:
            return
        yield data
        left -= len(data)


def _skip(path: PathLike, file: soundfile.SoundFile, first: int) -> None:
    """Go to a frame by seeking, and by decoding where a seek would fail or land elsewhere."""
    if first == 0:
        return
    if file.frames >= _UNKNOWN_FRAMES:
        _decode_past(path, file, first)
        return
    if first >= file.frames:
        held = file.frames / file.samplerate
        raise AudioError(path, f"holds {held:g} s, so nothing after {first / file.samplerate:g} s")
    # libsndfile 1.2 misses by some hundred samples where it seeks into the last page of an Ogg file.
    target = min(first, max(0, file.frames - _OGG_PAGE_FRAMES)) if file.format == "OGG" else first
    try:
        file.seek(target)
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError) as error:
        raise AudioError(path, f"cannot be searched, cut short or damaged ({_message(error)})") from None
    _decode_past(path, file, first - target)


def _decode_past(path: PathLike, file: soundfile.SoundFile, frames: int) -> None:
    for _ in _blocks(path, file, frames, "float32"):
        pass


def _mix(block: np.ndarray, mono: bool) -> np.ndarray:
    """(frames, channels) -> (frames, 1) where the channels are averaged."""
    if not mono or block.shape[1] == 1:
        return block
    return block.mean(axis=1, keepdims=True)


def _check_length(path: PathLike, file: soundfile.SoundFile, first: int, wanted: int | None, got: int) -> None:
    claimed = file.frames - first
    due = claimed if wanted is None else min(wanted, claimed)
    if file.frames >= _UNKNOWN_FRAMES or file.format in _ESTIMATED:
        return
    if got + _BLOCK_CODED.get(file.subtype, 0) < due:
        raise AudioError(path, f"is cut short: its header claims {file.frames} frames, {first + got} are there")


def _resample(wave: np.ndarray, rate: int, target: int) -> np.ndarray:
    import librosa  # costs a second to import, and most corpora come at the right rate

    with np.errstate(all="ignore"):  # samples that are not finite are reported by the caller
        return librosa.core.resample(
            np.ascontiguousarray(wave, dtype=np.float32), orig_sr=rate, target_sr=target, res_type="soxr_hq"
        )


def _to_int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
