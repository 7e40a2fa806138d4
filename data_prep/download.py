"""Fetch archives over an unreliable line, and unpack them without trusting what is in them."""

import os
import shutil
import sys
import tarfile
import time
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
import requests
from tqdm.auto import tqdm

from .command import PrepareError

_CHUNK = 1 << 16  # what a cut connection may lose


class DownloadError(PrepareError):
    """An archive that cannot be fetched or unpacked; the message is one line that says why."""


class ResumingDownloader:
    """A downloader for pooch that goes on where an earlier one was stopped.

    pooch's own begins again after a cut connection. Here the bytes lie in `part` until all of them have
    come; a connection that is cut is opened again as long as each try brings something.

    Args:
        part: file that holds what has come so far.
        tries: attempts in a row that may bring nothing.
        pause: seconds between attempts.
        progress: show a bar.
    """

    def __init__(self, part: Path, tries: int = 3, pause: float = 1.0, progress: bool = True) -> None:
        self.part, self.tries, self.pause, self.progress = part, tries, pause, progress

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        """Fetch `url` into `output_file` (called by pooch)."""
        failures = 0
        while True:
            before = self._held()
            try:
                self._go_on(url)
                break
            except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                failures = 0 if self._held() > before else failures + 1
                if failures >= self.tries or isinstance(error, requests.exceptions.SSLError):
                    raise
                time.sleep(self.pause)
        os.replace(self.part, output_file)

    def _held(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _go_on(self, url: str) -> None:
        held = self._held()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
        with requests.get(url, headers=headers, stream=True, timeout=(15, 60)) as answer:
            if answer.status_code == 416:  # nothing after what is held: complete, or of another file
                if _total(answer) == held:
                    return
                self.part.unlink()
                raise requests.exceptions.ConnectionError("the file on the server has changed")
            answer.raise_for_status()
            going_on = answer.status_code == 206 and _start(answer) == held
            held = held if going_on else 0
            length = int(answer.headers.get("Content-Length", 0))
            total = held + length if length else None
            with open(self.part, "ab" if going_on else "wb") as stream, self._bar(held, total) as bar:
                for chunk in answer.iter_content(_CHUNK):
                    stream.write(chunk)
                    bar.update(len(chunk))
        if total is not None and self._held() < total:
            raise requests.exceptions.ConnectionError("the connection was cut")

    def _bar(self, held: int, total: int | None) -> tqdm:
        often = 0.1 if sys.stderr.isatty() else 15.0
        return tqdm(
            total=total,
            initial=held,
            unit="B",
            unit_scale=True,
            desc=self.part.stem,
            disable=not self.progress,
            mininterval=often,
        )


def _start(answer: requests.Response) -> int:
    """First byte that a partial answer brings: `Content-Range: bytes 10-99/100`."""
    span = answer.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0]
    return int(span) if span.isdigit() else -1


def _total(answer: requests.Response) -> int:
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else -1


def fetch(urls: Sequence[str], folder: Path, known_hash: str | None, progress: bool = True, pause: float = 1.0) -> Path:
    """Download a file from the first of its addresses that answers, and check it.

    A stopped download goes on when called again; a file that is there and right is not fetched again, and one that is
    there and wrong is left alone.

    Args:
        urls: addresses of the same file.
        folder: where it goes, under the last part of its address.
        known_hash: the SHA-256 it must have, or `md5:` and its MD5 where no other was published; None accepts any.
        progress: show a bar.
        pause: seconds before a cut connection is opened again.

    Raises:
        DownloadError: no address gives the file, or what came, or lay there, is not the file expected.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("WARNING")
    name = urls[0].rsplit("/", 1)[-1]
    known = known_hash if known_hash is None or ":" in known_hash else f"sha256:{known_hash}"
    path = folder / name
    if known is not None and path.is_file():
        if pooch.hashes.hash_matches(path, known):
            return path
        raise DownloadError(f"{path}: is not the file expected (its {_kind(known)} is another); delete or move it")
    failures = []
    for url in urls:
        downloader = ResumingDownloader(folder / f"{name}.part", progress=progress, pause=pause)
        try:
            return Path(pooch.retrieve(url, known, fname=name, path=folder, downloader=downloader))
        except requests.exceptions.RequestException as error:
            failures.append(f"{url}: {_why(error)}")
        except ValueError:
            raise DownloadError(
                f"{url}: what came does not have the expected {_kind(known)}; try again later"
            ) from None
    raise DownloadError(f"cannot download {name} ({'; '.join(failures)})")


def _kind(known: str | None) -> str:
    return "MD5" if known and known.startswith("md5:") else "SHA-256"


def _why(error: requests.exceptions.RequestException) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "no secure connection (certificate refused)"
    return "no connection; is there a network?"


def extract(archive: Path, folder: Path, progress: bool = True) -> Path:
    """Unpack a tar archive into a new folder, which appears only when all of it is there.

    A stopped call is done again from the start. Links, devices, and names that lead out of the folder are
    refused.

    Raises:
        DownloadError: the archive is damaged or unsafe.
    """
    if folder.is_dir():
        return folder
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with (
            open(archive, "rb") as raw,
            tarfile.open(fileobj=raw, mode="r|*") as tar,
            tqdm(
                total=archive.stat().st_size,
                unit="B",
                unit_scale=True,
                desc=f"unpacking {archive.name}",
                disable=not progress,
                mininterval=0.1 if sys.stderr.isatty() else 15.0,
            ) as bar,
        ):
            for member in tar:
                _unpack(tar, member, partial, archive)
                bar.update(raw.tell() - bar.n)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a full disk, not a bad archive
        raise DownloadError(f"{archive}: damaged archive ({error}); delete it and try again") from None
    os.replace(partial, folder)
    return folder


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, archive: Path) -> None:
    name = PurePosixPath(member.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in member.name:
        raise DownloadError(f"{archive}: refused, its member {member.name!r} leads out of the folder")
    target = folder.joinpath(*name.parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    source = tar.extractfile(member) if member.isreg() else None
    if source is None:
        raise DownloadError(f"{archive}: refused, its member {member.name!r} is not a plain file")
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as stream:
        shutil.copyfileobj(source, stream)
