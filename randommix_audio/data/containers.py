"""Does a file hold as much as its header claims? Answered from the container alone, without decoding.

libsndfile silently shortens a cut WAV, AIFF, AU or Ogg file to what is left of it. A training set that was
copied only in part would then train on half words, so the claims are checked here first.
"""

import os
import struct
from typing import BinaryIO

_UNKNOWN_32 = 0xFFFFFFFF
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_DATA = b"data"
_OGG_PAGE_LIMIT = 27 + 255 + 255 * 255
_MAX_CHUNKS = 10_000


def missing_bytes(file: str | os.PathLike[str] | BinaryIO) -> int:
    """Bytes that the header promises and the file lacks; 0 for a whole file or a container not known here.

    Known are RIFF, RIFX and RF64 WAV, AIFF and AIFC, AU, W64, CAF, and Ogg (whose last page says how long it
    is). A WAV or AU that was written into a pipe says "length unknown" (all bits set, in WAV also in the
    outer size) and is taken as whole. Less than one frame missing counts as whole: some writers miscount
    the last, incomplete one.

    Raises:
        OSError: the file cannot be opened or read.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as stream:
            return _missing(stream)
    return _missing(file)


def _missing(stream: BinaryIO) -> int:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(40)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return _missing_in_wav(stream, size, head)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _missing_in_chunk(stream, size, b"SSND", ">")
    if head[:4] == b".snd" and len(head) >= 24:
        offset, claimed = struct.unpack(">II", head[4:12])
        return 0 if claimed == _UNKNOWN_32 else max(0, offset + claimed - size)
    if head[:16] == _W64_RIFF:
        return _missing_in_w64(stream, size)
    if head[:4] == b"caff":
        return _missing_in_caf(stream, size)
    if head[:4] == b"OggS":
        return _missing_in_ogg(stream, size)
    return 0


def _missing_in_wav(stream: BinaryIO, size: int, head: bytes) -> int:
    order = ">" if head[:4] == b"RIFX" else "<"
    piped = head[:4] == b"RIFF" and struct.unpack("<I", head[4:8])[0] == _UNKNOWN_32
    long_size: int | None = None
    frame = 1
    for name, start, claimed in _chunks(stream, size, order):
        if name == b"ds64":
            stream.seek(start)
            sizes = stream.read(16)
            long_size = struct.unpack("<Q", sizes[8:16])[0] if len(sizes) == 16 else None
        elif name == b"fmt ":
            stream.seek(start)
            fields = stream.read(14)
            frame = struct.unpack(order + "H", fields[12:14])[0] if len(fields) == 14 else 1
        elif name == b"data":
            if claimed == _UNKNOWN_32 and (long_size is not None or piped):
                claimed = 0 if long_size is None else long_size
            lack = start + claimed - size
            return lack if lack >= max(1, frame) else 0
    return 0


def _missing_in_chunk(stream: BinaryIO, size: int, wanted: bytes, order: str) -> int:
    for name, start, claimed in _chunks(stream, size, order):
        if name == wanted:
            return max(0, start + claimed - size)
    return 0


def _chunks(stream: BinaryIO, size: int, order: str) -> list[tuple[bytes, int, int]]:
    """(name, first byte of the content, claimed content size) of the chunks that begin inside the file."""
    found: list[tuple[bytes, int, int]] = []
    at = 12
    while at + 8 <= size and len(found) < _MAX_CHUNKS:
        stream.seek(at)
        name, claimed = struct.unpack(order + "4sI", stream.read(8))
        found.append((name, at + 8, claimed))
        at += 8 + claimed + claimed % 2
    return found


def _missing_in_w64(stream: BinaryIO, size: int) -> int:
    at = 40
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        header = stream.read(24)
        if len(header) < 24:
            return 0
        claimed = struct.unpack("<Q", header[16:24])[0]  # counts its own 24 bytes
        if header[:4] == _W64_DATA:
            return max(0, at + claimed - size)
        at += max(24, (claimed + 7) // 8 * 8)
        if at > size:
            return 0
    return 0


def _missing_in_caf(stream: BinaryIO, size: int) -> int:
    at = 8
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        header = stream.read(12)
        if len(header) < 12:
            return 0
        claimed = struct.unpack(">q", header[4:])[0]  # -1 in a data chunk: up to the end of the file
        if header[:4] == b"data" or claimed < 0:
            return max(0, at + 12 + claimed - size)
        at += 12 + claimed
        if at > size:
            return 0
    return 0


def _missing_in_ogg(stream: BinaryIO, size: int) -> int:
    """An Ogg file has no total; it is cut where its last page ends beyond the end of the file."""
    stream.seek(max(0, size - _OGG_PAGE_LIMIT))
    tail = stream.read(_OGG_PAGE_LIMIT)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    return max(0, 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page))
