"""curl, as a judge of the HTTP server that nobody here wrote."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_WRITE,
    Event,
    EventBase,
)
from evsvc.core.reactor.event import event_self_cbarg
from evsvc.http import HttpServer, ServerOptions, ServerRequest
from evsvc.http.wire.limits import ReaderLimits

pytestmark = pytest.mark.interop

PATIENCE_S = 30.0
LARGE = bytes(range(256)) * 8192  # 2 MiB


class Result(NamedTuple):
    """What curl wrote, and its exit status."""

    body: bytes
    errors: str
    status: int


class Curl:
    """Runs curl while the base loops, with the real clock."""

    def __init__(self, base: EventBase, path: str, port: int) -> None:
        self._base = base
        self._path = path
        self.url = f"http://127.0.0.1:{port}"

    def __call__(self, *arguments: str, data: bytes = b"") -> Result:
        """Run `curl --silent --show-error arguments...`; `data` is its standard input."""
        command = [self._path, "--disable", "--silent", "--show-error", "--noproxy", "*"]
        with subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin
            assert process.stdout
            assert process.stderr
            outputs = [bytearray(), bytearray()]
            pipes = (process.stdout.fileno(), process.stderr.fileno())
            open_pipes = dict(zip(pipes, outputs, strict=True))
            unsent = memoryview(data)

            def on_readable(fd: int, what: int, arg: Event) -> None:
                piece = os.read(fd, 65536)
                open_pipes[fd] += piece
                if not piece:
                    arg.close()
                    del open_pipes[fd]
                    if not open_pipes:
                        self._base.loopbreak()

            def feed(fd: int, what: int, arg: object) -> None:
                nonlocal unsent
                try:
                    unsent = unsent[os.write(fd, unsent[:65536]) :]
                except BrokenPipeError:  # curl has its answer, and reads no more
                    unsent = unsent[:0]
                if unsent:
                    self._base.once(fd, EV_WRITE, feed)
                else:
                    process.stdin.close()

            def give_up(fd: int, what: int, arg: object) -> None:
                process.kill()

            for fd in pipes:
                flags = EV_READ | EV_PERSIST
                Event(self._base, fd, flags, on_readable, event_self_cbarg).add()
            if data:
                self._base.once(process.stdin.fileno(), EV_WRITE, feed)
            else:
                process.stdin.close()
            with self._base.timer(give_up) as patience:
                patience.add(PATIENCE_S)
                self._base.dispatch()
            return Result(bytes(outputs[0]), outputs[1].decode(), process.wait(PATIENCE_S))


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture
def server(base: EventBase) -> Iterator[HttpServer]:
    """A server with `/echo` (body), `/head` (request line and header), `/stream` and `/post`."""
    limits = ReaderLimits(max_headers_bytes=4096, max_body_bytes=len(LARGE))
    with HttpServer(base, ServerOptions(limits=limits)) as made:
        made.set_cb("/echo", lambda got, arg: got.send_reply(200, None, bytes(got.input_buffer)))
        made.set_cb("/head", describe)
        made.set_cb("/stream", stream)
        made.set_cb("/post", lambda got, arg: got.send_reply(204), methods=("POST",))
        yield made


def describe(got: ServerRequest, arg: object) -> None:
    lines = [f"{got.method} {got.uri} HTTP/1.{got.minor}"]
    lines += [f"{name}: {value}" for name, value in got.input_headers]
    got.output_headers.add("Content-Type", "text/plain")
    got.send_reply(200, None, "\n".join(lines).encode())


def stream(got: ServerRequest, arg: object) -> None:
    got.send_reply_start(200)
    for number in range(3):
        got.send_reply_chunk(b"%d," % number)
    got.send_reply_end()


@pytest.fixture
def port(server: HttpServer) -> int:
    port: int = server.bind_socket("127.0.0.1", 0).port
    return port


@pytest.fixture
def curl(base: EventBase, port: int, program: Callable[[str], str]) -> Curl:
    return Curl(base, program("curl"), port)


def test_get(curl: Curl) -> None:
    result = curl(f"{curl.url}/head?a=b", "--user-agent", "judge")
    lines = result.body.decode().split("\n")
    assert lines[0] == "GET /head?a=b HTTP/1.1"
    assert "User-Agent: judge" in lines
    assert result.status == 0


def test_post(curl: Curl) -> None:
    result = curl(f"{curl.url}/echo", "--data-binary", "@-", data=b"some data")
    assert (result.body, result.status) == (b"some data", 0)


@pytest.mark.parametrize("size", [0, 1, len(LARGE)])
def test_chunked_upload(curl: Curl, size: int) -> None:
    result = curl(f"{curl.url}/echo", "--upload-file", "-", data=LARGE[:size])
    assert result.status == 0
    assert result.body == LARGE[:size]


def test_chunked_post(curl: Curl) -> None:
    chunked = ("--header", "Transfer-Encoding: chunked")
    result = curl(f"{curl.url}/echo", *chunked, "--data-binary", "@-", data=LARGE)
    assert result.status == 0
    assert result.body == LARGE


def test_http_1_0(curl: Curl) -> None:
    result = curl("--http1.0", f"{curl.url}/head")
    assert result.body.startswith(b"GET /head HTTP/1.0\n")
    assert result.status == 0


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_a_stream(curl: Curl, version: str) -> None:
    result = curl(version, f"{curl.url}/stream", f"{curl.url}/stream")
    assert (result.body, result.status) == (b"0,1,2,0,1,2,", 0)


def test_head(curl: Curl) -> None:
    whole = curl(f"{curl.url}/head", "--user-agent", "judge")
    result = curl("--head", f"{curl.url}/head", "--user-agent", "judge")
    head = result.body.decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(whole.body) + len('HEAD') - len('GET')}\r\n" in head
    assert result.status == 0


def test_two_urls_over_one_connection(curl: Curl, server: HttpServer) -> None:
    write_out = ("--write-out", "%{num_connects}\n", "--output", os.devnull)
    result = curl(*write_out, f"{curl.url}/head", *write_out[2:], f"{curl.url}/stream")
    assert result.body == b"1\n0\n"


def test_expect_with_a_large_body(curl: Curl) -> None:
    expect = ("--header", "Expect: 100-continue", "--expect100-timeout", "60")
    result = curl("--verbose", *expect, f"{curl.url}/echo", "--data-binary", "@-", data=LARGE)
    assert result.status == 0
    assert result.body == LARGE
    assert "< HTTP/1.1 100 Continue" in result.errors


def test_expect_with_a_body_that_is_too_large(curl: Curl) -> None:
    expect = ("--header", "Expect: 100-continue", "--expect100-timeout", "60")
    code = ("--write-out", "%{http_code} %{size_upload}", "--output", os.devnull)
    result = curl(*expect, *code, f"{curl.url}/echo", "--data-binary", "@-", data=LARGE + b"x")
    assert result.body == b"413 0"


@pytest.mark.parametrize(
    ("arguments", "path", "code"),
    [
        ((), "/missing", "404"),
        ((), "/post", "405"),
        (("--request", "FLOOP"), "/echo", "501"),
        (("--header", "Expect: something-else", "--data", "x"), "/echo", "417"),
        (("--header", "X-Long: " + "x" * 4096), "/echo", "431"),
        (("--header", "Host:"), "/echo", "400"),
        (("--data", "x"), "/post", "204"),
    ],
)
def test_statuses(curl: Curl, arguments: tuple[str, ...], path: str, code: str) -> None:
    result = curl(
        *arguments, "--write-out", "%{http_code}", "--output", os.devnull, curl.url + path
    )
    assert (result.body.decode(), result.status) == (code, 0)


@pytest.mark.parametrize("form", [(), ("--header", "Transfer-Encoding: chunked")])
def test_413_arrives_while_curl_is_sending(curl: Curl, form: tuple[str, ...]) -> None:
    code = ("--write-out", "%{http_code}", "--output", os.devnull, "--header", "Expect:")
    result = curl(*code, *form, f"{curl.url}/echo", "--data-binary", "@-", data=LARGE * 3)
    assert result.body == b"413"


def test_a_pipeline_is_answered_in_order(base: EventBase, curl: Curl, port: int) -> None:
    """curl has given pipelining up, so a socket asks here."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"".join(b"GET /head?%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(16)))
        sock.shutdown(socket.SHUT_WR)
        received = bytearray()

        def on_readable(fd: int, what: int, arg: object) -> None:
            data = sock.recv(65536)
            received.extend(data)
            if not data:
                base.loopbreak()

        with Event(base, sock, EV_READ | EV_PERSIST, on_readable) as event:
            event.add()
            base.dispatch()
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 16
    positions = [received.find(b"GET /head?%d HTTP" % n) for n in range(16)]
    assert positions == sorted(positions)
    assert -1 not in positions
