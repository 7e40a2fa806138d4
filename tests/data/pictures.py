"""Small archives and folders of images, and a server for them on this machine."""

import http.server
import io
import pickle
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server for the files of a folder."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Python2(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings: without a codec."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, content: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(content)

    dispatch[bytes] = save_string


def pickled_by_python2(value: Any) -> bytes:
    stream = io.BytesIO()
    Python2(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def tar_gz(path: Path, members: dict[str, bytes]) -> str:
    """Write an archive; gives its MD5."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return md5(path.read_bytes()).hexdigest()


def zipped(path: Path, members: dict[str, bytes]) -> str:
    """Write a ZIP archive; gives its MD5."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return md5(path.read_bytes()).hexdigest()


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """An image file of (H, W, 3) or (H, W) uint8 pixels."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def noise(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
