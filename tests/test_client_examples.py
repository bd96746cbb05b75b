"""The examples of the HTTP client run as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evsvc.http import HttpServer
from tests.core.tls_ends import authority, issue, server_context_for
from tests.interop.dns_daemons import LoopThread
from tests.test_examples import run

DATA = bytes(range(256)) * 4000 + b"end"


class Site:
    """A server in a thread, over TLS: files, a redirect to one, and what has no ranges."""

    def __init__(self, thread: LoopThread, root: Path) -> None:
        self.root = root
        self.ranges: list[str | None] = []
        context = server_context_for(issue("127.0.0.1"))
        (root / "data").write_bytes(DATA)
        (root / "empty").write_bytes(b"")
        self.cafile = root / "ca.pem"
        authority().cert_pem.write_to_path(str(self.cafile))

        def start() -> None:
            self.server = server = HttpServer(thread.base)
            server.serve_directory("/files/", root)
            server.set_cb("/moved", self._move)
            server.set_cb("/changes", self._change)
            server.set_cb("/plain", lambda request, arg: request.send_reply(200, None, DATA))
            self.port = server.bind_socket("127.0.0.1", 0, tls=context).port

        thread.call(start)
        self.url = f"https://127.0.0.1:{self.port}"

    def _change(self, request, arg) -> None:  # type: ignore[no-untyped-def]
        """A file that is another one by the time its parts are asked for: all of it is sent."""
        if request.method == "GET":
            self.ranges.append(request.input_headers.find("Range"))
            assert request.input_headers.find("If-Range") == '"1"'
        request.output_headers.add("Accept-Ranges", "bytes")
        request.output_headers.add("ETag", '"1"' if request.method == "HEAD" else '"2"')
        request.send_reply(200, None, DATA)

    def _move(self, request, arg) -> None:  # type: ignore[no-untyped-def]
        request.output_headers.add("Location", "/files/data")
        request.send_reply(302, None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    thread = LoopThread()
    try:
        made = Site(thread, tmp_path_factory.mktemp("root"))
        yield made
        thread.call(made.server.close)
    finally:
        thread.close()


def test_https_client_says_what_came_of_each(site: Site) -> None:
    urls = [f"{site.url}/moved", f"{site.url}/files/none"]
    done = run("https_client.py", "--cafile", str(site.cafile), *urls)
    assert (done.returncode, done.stderr) == (0, "")
    lines = sorted(done.stdout.splitlines())
    assert f"{site.url}/files/data: 200, {len(DATA)} bytes of" in lines[0]
    assert lines[0].endswith(f" <- 302 {site.url}/moved")
    assert f"{site.url}/files/none: 404, " in lines[1]
    done = run("https_client.py", site.url)
    assert re.fullmatch(r".*: TlsFailed: .*\n", done.stdout)
    assert run("https_client.py", "ftp://x").returncode == 2


@pytest.mark.parametrize(
    ("path", "parts"), [("/files/data", 1), ("/moved", 5), ("/plain", 4), ("/files/empty", 4)]
)
def test_a_file_is_downloaded_in_parts(site: Site, tmp_path: Path, path: str, parts: int) -> None:
    file = tmp_path / "out"
    done = run(
        "parallel_download.py",
        *("--parts", str(parts), "--cafile", str(site.cafile), site.url + path, str(file)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_bytes() == (b"" if path.endswith("empty") else DATA)
    assert list(tmp_path.iterdir()) == [file]


def test_a_download_that_fails_leaves_nothing(site: Site, tmp_path: Path) -> None:
    arguments = ["--cafile", str(site.cafile), f"{site.url}/files/none", str(tmp_path / "out")]
    done = run("parallel_download.py", *arguments)
    assert done.returncode == 1
    assert "404" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_between_its_parts_is_given_up(site: Site, tmp_path: Path) -> None:
    arguments = ["--cafile", str(site.cafile), f"{site.url}/changes", str(tmp_path / "out")]
    done = run("parallel_download.py", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "status 200, 206 was wanted" in done.stderr
    assert len(site.ranges) > 0
    assert all(each is not None and each.startswith("bytes=") for each in site.ranges)
    assert list(tmp_path.iterdir()) == []
