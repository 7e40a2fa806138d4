"""Downloads over a line that is cut, and archives that mean harm; the server is on this machine."""

import hashlib
import http.server
import io
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_prep.download import DownloadError, extract, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; cuts the line after `cut` bytes as often as `cuts` says; honours ranges unless `plain`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/a.tar.gz": CONTENT}
        self.cut, self.cuts, self.plain = 100_000, 0, False
        self.asked: list[str] = []

    def url(self, name: str = "a.tar.gz") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        self.server.asked.append(span)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        begin = int(re.findall(r"\d+", span)[0]) if span and not self.server.plain else 0
        if begin >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = len(content)
        if self.server.cuts:
            self.server.cuts -= 1
            end = min(end, begin + self.server.cut)
        self.wfile.write(content[begin:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def get(server: Server, folder: Path, sha256: str | None = SHA, name: str = "a.tar.gz") -> Path:
    return fetch([server.url(name)], folder, sha256, progress=False, pause=0.01)


def test_a_file_is_fetched_once(server, tmp_path):
    path = get(server, tmp_path)
    assert path == tmp_path / "a.tar.gz"
    assert path.read_bytes() == CONTENT
    assert get(server, tmp_path) == path
    assert server.asked == [""]
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_line_cut_twice_is_taken_up_where_it_broke(server, tmp_path):
    server.cuts = 2
    assert get(server, tmp_path).read_bytes() == CONTENT
    begins = [int(span.strip("bytes=-") or 0) for span in server.asked]
    assert begins[0] == 0
    assert 30_000 < begins[1] <= 100_000 < begins[2] <= 200_000


def test_a_download_stopped_in_another_run_goes_on(server, tmp_path):
    (tmp_path / "a.tar.gz.part").write_bytes(CONTENT[:123_456])
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=123456-"]


def test_a_download_stopped_after_its_last_byte_is_not_fetched_again(server, tmp_path):
    (tmp_path / "a.tar.gz.part").write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    server.plain = True
    (tmp_path / "a.tar.gz.part").write_bytes(b"x" * 1000)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "a.tar.gz.part").write_bytes(CONTENT + b"more")
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_is_an_error_and_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(DownloadError, match="SHA-256"):
        get(server, tmp_path, "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_and_wrong_is_named_and_left_alone(server, tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"something of the user's")
    with pytest.raises(DownloadError, match=r"a\.tar\.gz: is not the file expected \(its SHA-256 is another\)"):
        get(server, tmp_path)
    assert (tmp_path / "a.tar.gz").read_bytes() == b"something of the user's"
    assert server.asked == []


def test_a_line_that_brings_nothing_is_given_up(server, tmp_path):
    server.cut, server.cuts = 0, 100
    with pytest.raises(DownloadError, match="no connection"):
        get(server, tmp_path)
    assert len(server.asked) == 3


def test_a_missing_file_and_a_missing_server_are_one_line_each(server, tmp_path):
    with pytest.raises(DownloadError, match=r"cannot download b.tar.gz .*404 Not Found"):
        get(server, tmp_path, name="b.tar.gz")
    with pytest.raises(DownloadError, match="is there a network") as caught:
        fetch(["http://127.0.0.1:9/a.tar.gz"], tmp_path, None, progress=False, pause=0)
    assert "\n" not in str(caught.value)


def test_the_second_address_is_asked_when_the_first_fails(server, tmp_path):
    urls = [server.url("gone/a.tar.gz"), server.url()]
    assert fetch(urls, tmp_path, SHA, progress=False, pause=0).read_bytes() == CONTENT


def archive(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name) if isinstance(content, bytes) else content
            if isinstance(content, bytes):
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def test_an_archive_is_unpacked_into_a_folder_of_its_own(tmp_path):
    path = archive(tmp_path / "a.tar.gz", {"./yes/a.wav": b"1", "no/b.wav": b"22", "README.md": b""})
    folder = extract(path, tmp_path / "a", progress=False)
    assert (folder / "yes/a.wav").read_bytes() == b"1"
    assert (folder / "no/b.wav").read_bytes() == b"22"
    assert extract(path, folder, progress=False) == folder


def test_what_a_stopped_unpacking_left_is_thrown_away(tmp_path):
    path = archive(tmp_path / "a.tar.gz", {"yes/a.wav": b"1"})
    (tmp_path / "a.partial/yes").mkdir(parents=True)
    (tmp_path / "a.partial/yes/half.wav").write_bytes(b"")
    folder = extract(path, tmp_path / "a", progress=False)
    assert sorted(os.listdir(folder / "yes")) == ["a.wav"]
    assert not (tmp_path / "a.partial").exists()


@pytest.mark.parametrize("name", ["../out.wav", "/out.wav", "yes/../../out.wav", "..\\out.wav", "C:\\out.wav"])
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    path = archive(tmp_path / "a.tar.gz", {"yes/a.wav": b"1", name: b"2"})
    with pytest.raises(DownloadError, match="leads out"):
        extract(path, tmp_path / "in" / "a", progress=False)
    assert not list(tmp_path.rglob("out.wav"))
    assert not (tmp_path / "in" / "a").exists()


def test_links_and_damaged_archives_are_refused(tmp_path):
    link = tarfile.TarInfo("yes/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    with pytest.raises(DownloadError, match="not a plain file"):
        extract(archive(tmp_path / "a.tar.gz", {"yes/link": link}), tmp_path / "a", progress=False)
    whole = archive(tmp_path / "b.tar.gz", {"yes/a.wav": CONTENT}).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DownloadError, match="damaged"):
        extract(tmp_path / "b.tar.gz", tmp_path / "b", progress=False)
    (tmp_path / "c.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(DownloadError, match="damaged"):
        extract(tmp_path / "c.tar.gz", tmp_path / "c", progress=False)
