"""`evsvc fetch` as a program, on a server of our own."""

from __future__ import annotations

import gzip
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from evsvc.commands.saving import progress_text, saved_as, size_text
from evsvc.http import HttpServer, ServerRequest
from tests.core.tls_ends import HOST, authority, issue, server_context_for
from tests.interop.dns_daemons import LoopThread
from tests.ports import held_port

COMMAND = [sys.executable, "-m", "evsvc", "fetch"]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
}
LARGE = bytes(range(256)) * 2048


class Site:
    """A server in a thread, and the command on it."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self.halfway = threading.Event()
        thread.call(self._start)

    def _start(self) -> None:
        self.server = server = HttpServer(self._thread.base)
        self.port = server.bind_socket("127.0.0.1", 0).port
        self.url = f"http://127.0.0.1:{self.port}"
        server.set_gencb(_show)
        server.set_cb("/large", lambda request, arg: request.send_reply(200, None, LARGE))
        server.set_cb("/missing", lambda request, arg: request.send_reply(404, None, b"none here"))
        server.set_cb("/moved", _move)
        server.set_cb("/packed", _pack)
        server.set_cb("/empty", lambda request, arg: request.send_reply(204, None))
        server.set_cb("/half", self._send_half)
        server.set_cb("/cut", self._cut)

    def _send_half(self, request: ServerRequest, arg: object) -> None:
        request.send_reply_start(200, None)
        request.send_reply_chunk(b"half")
        self.halfway.set()

    def _cut(self, request: ServerRequest, arg: object) -> None:
        self._send_half(request, arg)
        self._thread.base.once(-1, 1, lambda *args: request.connection.close(), timeout=0.05)

    def fetch(self, *args: str, **more: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [*COMMAND, *args],
            **{"capture_output": True, "timeout": 30, "env": ENVIRONMENT, **more},
        )


def _show(request: ServerRequest, arg: object) -> None:
    kind = request.input_headers.find("Content-Type")
    own = request.input_headers.find("X-Own")
    body = bytes(request.input_buffer)
    told = f"{request.method} {request.uri} {kind} {own} ".encode() + body
    request.send_reply(200, None, told)


def _move(request: ServerRequest, arg: object) -> None:
    request.output_headers.add("Location", "/there")
    request.send_reply(302, None, b"moved")


def _pack(request: ServerRequest, arg: object) -> None:
    is_asked_for = "gzip" in (request.input_headers.find("Accept-Encoding") or "")
    if is_asked_for:
        request.output_headers.add("Content-Encoding", "gzip")
    request.send_reply(200, None, gzip.compress(b"text") if is_asked_for else b"plain")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    thread = LoopThread()
    made = Site(thread)
    yield made
    thread.call(made.server.close)
    thread.close()


def test_a_body_is_printed_as_it_is(site: Site) -> None:
    done = site.fetch(site.url + "/large")
    assert (done.returncode, done.stdout, done.stderr) == (0, LARGE, b"")


def test_method_fields_and_data_are_sent(site: Site, tmp_path: Path) -> None:
    form = b"application/x-www-form-urlencoded"
    done = site.fetch(site.url + "/a?b", "-d", "x=1", "-H", "X-Own: yes")
    assert done.stdout == b"POST /a?b " + form + b" yes x=1"
    done = site.fetch(site.url, "-X", "PUT", "-d", "@-", "-H", "content-type: t/x", input=b"\xff\n")
    assert done.stdout == b"PUT / t/x None \xff\n"
    file = tmp_path / "body"
    file.write_bytes(b"of a file")
    done = site.fetch(site.url, "-X", "PUT", "-d", f"@{file}")
    assert (done.returncode, done.stdout) == (0, b"PUT / " + form + b" None of a file")
    assert site.fetch(site.url, "-X", "HEAD").stdout == b""


def test_a_redirect_is_printed_as_it_is_or_followed(site: Site) -> None:
    done = site.fetch("-i", site.url + "/moved")
    assert done.returncode == 0
    assert done.stdout.startswith(b"HTTP/1.1 302 Found\n")
    assert b"\nLocation: /there\n" in done.stdout
    assert done.stdout.endswith(b"\n\nmoved")
    assert site.fetch("-L", site.url + "/moved").stdout == b"GET /there None None "


def test_a_status_is_a_failure_where_it_is_asked_for(site: Site, tmp_path: Path) -> None:
    done = site.fetch(site.url + "/missing")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"none here", b"")
    file = tmp_path / "out"
    done = site.fetch("--fail", "-i", "-o", str(file), site.url + "/missing")
    says = f"evsvc: {site.url}/missing: 404 Not Found\n".encode()
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", says)
    assert list(tmp_path.iterdir()) == []


def test_a_body_is_unpacked_where_it_is_asked_for(site: Site) -> None:
    assert site.fetch(site.url + "/packed").stdout == b"plain"
    assert site.fetch("--compressed", site.url + "/packed").stdout == b"text"


def test_a_file_is_written_whole_and_takes_the_place_of_the_old_one(
    site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"old")
    file.chmod(0o640)
    done = site.fetch("-o", str(file), site.url + "/large")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")  # no bar where nobody looks
    assert file.read_bytes() == LARGE
    assert file.stat().st_mode & 0o777 == 0o640
    assert site.fetch("-o", str(file), site.url + "/empty").returncode == 0
    assert file.read_bytes() == b""
    assert list(tmp_path.iterdir()) == [file]
    assert site.fetch("-o", "/dev/null", site.url + "/large").returncode == 0


def test_half_a_file_is_removed(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"old")
    done = site.fetch("-o", str(file), site.url + "/cut")
    assert done.returncode == 1
    assert re.fullmatch(rb"evsvc: .*\n", done.stderr)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    done = site.fetch("-o", str(tmp_path / "no" / "folder"), site.url + "/large")
    assert done.returncode == 1
    assert re.fullmatch(rb"evsvc: .*No such file.*\n", done.stderr)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_half_file(site: Site, tmp_path: Path, signum: signal.Signals) -> None:
    site.halfway.clear()
    command = [*COMMAND, "-o", str(tmp_path / "out"), site.url + "/half"]
    with subprocess.Popen(command, env=ENVIRONMENT) as process:
        assert site.halfway.wait(20)
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
        process.send_signal(signum)
        assert process.wait(20) == 128 + signum
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_ends_it_with_one_line(site: Site) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = site.fetch(site.url + "/large", capture_output=False, stdout=writer, stderr=-1)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b"evsvc: [Errno 32] Broken pipe\n"


def test_a_terminal_sees_how_far_it_is(site: Site, tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    done = site.fetch(
        "-o",
        str(tmp_path / "out"),
        site.url + "/large",
        capture_output=False,
        stderr=terminal,
        env={**ENVIRONMENT, "COLUMNS": "120"},
    )
    os.close(terminal)
    shown = os.read(screen, 65536).decode()
    os.close(screen)
    assert done.returncode == 0
    assert re.search(r"\rout \[#{30}\] 100%  512\.0 KiB of 512\.0 KiB  .*/s\x1b\[K\r\n$", shown)


def timing_of(stderr: bytes) -> dict[str, float | None]:
    pairs = [line.split(":") for line in stderr.decode().splitlines()]
    return {name: None if text.strip() == "-" else float(text) for name, text in pairs}


def test_timing_tells_when_each_step_was_done(site: Site) -> None:
    done = site.fetch("--timing", site.url + "/large")
    times = timing_of(done.stderr)
    assert list(times) == ["DNS", "connect", "TLS", "first byte", "total"]
    assert times["TLS"] is None
    moments = [moment for name, moment in times.items() if name != "DNS" and moment is not None]
    assert moments == sorted(moments)
    assert moments[0] > 0
    with held_port() as port:
        done = site.fetch("--timing", f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(b"evsvc: ")
    assert done.stdout == b""


def test_https_is_verified_and_timed(site: Site, tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(pem))
    context = server_context_for(issue("127.0.0.1"))
    thread = LoopThread()

    def start() -> tuple[HttpServer, int]:
        server = HttpServer(thread.base)
        server.set_gencb(_show)
        return server, server.bind_socket("127.0.0.1", 0, tls=context).port

    server, port = thread.call(start)
    try:
        url = f"https://127.0.0.1:{port}/s"
        trusting = {**ENVIRONMENT, "SSL_CERT_FILE": str(pem)}
        done = site.fetch("--timing", url, env=trusting)
        assert (done.returncode, done.stdout) == (0, b"GET /s None None ")
        times = timing_of(done.stderr)
        connected, secured, first = times["connect"], times["TLS"], times["first byte"]
        assert connected is not None
        assert secured is not None
        assert first is not None
        assert 0 < connected < secured < first
        done = site.fetch(url)
        assert done.returncode == 1
        assert re.fullmatch(rb"evsvc: .*certificate.*\n", done.stderr, re.IGNORECASE)
    finally:
        thread.call(server.close)
        thread.close()


def test_the_environment_s_proxy_is_asked(site: Site) -> None:
    there = {**ENVIRONMENT, "http_proxy": site.url}
    done = site.fetch(f"http://{HOST}:81/a", env=there)
    assert done.stdout.startswith(f"GET http://{HOST}:81/a ".encode())
    done = site.fetch(site.url + "/a", env={**there, "no_proxy": "127.0.0.1"})
    assert done.stdout.startswith(b"GET /a ")


@pytest.mark.parametrize(
    ("args", "code"),
    [(["-H", "none", "URL"], 2), (["--timeout", "0", "URL"], 2), (["ftp://x"], 1), ([], 2)],
)
def test_bad_usage_is_told(site: Site, args: list[str], code: int) -> None:
    done = site.fetch(*(site.url if each == "URL" else each for each in args))
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_a_file_that_is_not_kept_goes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    link = tmp_path / "link"
    link.symlink_to(file)
    with saved_as(str(link)) as saving:
        saving.file.write(b"new")
        saving.keep()
    assert file.read_bytes() == b"new"
    assert link.is_symlink()
    with saved_as(str(file)) as saving:
        saving.file.write(b"newer")
    assert file.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_progress_is_told_with_a_whole_and_without() -> None:
    assert progress_text(512, 2048, 0.5) == (
        "[#######.......................]  25%  512 B of 2.0 KiB  1.0 KiB/s"
    )
    assert progress_text(3 << 20, None, 1.5) == "3.0 MiB  2.0 MiB/s"
    assert progress_text(0, None, 0.0) == "0 B  -"
    assert size_text(5 << 50) == "5120.0 TiB"
