"""libevent's own HTTP client, in C, asks our server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.core import EventBase
from evsvc.http import HttpServer, ServerOptions, ServerRequest
from evsvc.http.wire.limits import ReaderLimits
from evsvc.http.wire.status import Method
from tests.interop.runner import run

pytestmark = pytest.mark.interop

SOURCE = Path(__file__).with_name("evhttp_client.c")
PAGE = bytes(range(256)) * 400

Ask = Callable[..., list[str]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Path:
    target = tmp_path_factory.mktemp("evhttp") / "evhttp_client"
    command = [program("cc"), "-Wall", "-O1", "-o", str(target), str(SOURCE), "-levent"]
    subprocess.run(command, check=True)
    return target


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture
def server(base: EventBase) -> Iterator[HttpServer]:
    options = ServerOptions(
        limits=ReaderLimits(max_body_bytes=200_000),
        allowed_methods=sum(Method) & ~Method.EVHTTP_REQ_PATCH,
    )
    with HttpServer(base, options) as made:
        made.set_gencb(seen)
        made.set_cb("/page", lambda got, arg: got.send_reply(200, None, PAGE))
        made.set_cb("/stream", stream)
        made.set_cb("/none", lambda got, arg: got.send_reply(204))
        yield made


@pytest.fixture
def ask(base: EventBase, server: HttpServer, client: Path) -> Ask:
    """Return `ask((method, uri, body), ...)`: the lines that the client prints."""

    def make(*requests: tuple[str, str, int]) -> list[str]:
        port = server.bind_socket("127.0.0.1", 0).port
        words = [str(word) for request in requests for word in request]
        done = run(base, str(client), str(port), *words)
        assert (done.status, done.errors) == (0, "")
        return done.text.splitlines()

    return make


def seen(got: ServerRequest, arg: object) -> None:
    """Answer with the body; tell the rest in a field."""
    where = f"{got.method},{got.uri},{got.host},{got.remote_port}"
    got.output_headers.add("X-Seen", where)
    got.send_reply(200, None, bytes(got.input_buffer))


def stream(got: ServerRequest, arg: object) -> None:
    """Three chunks, each of which is sent when the one before has left."""
    left = [PAGE[:1000], PAGE[1000:2000], PAGE[2000:3000]]

    def go_on(connection: object, arg: object) -> None:
        if left:
            got.send_reply_chunk(left.pop(0), go_on)
        else:
            got.send_reply_end()

    got.send_reply_start(200)
    go_on(None, None)


def test_each_method_over_one_connection(ask: Ask) -> None:
    lines = ask(
        ("GET", "/a?b=c", 0),
        ("POST", "/p", 10),
        ("PUT", "/q", 150_000),
        ("HEAD", "/h", 0),
        ("DELETE", "/d", 0),
        ("OPTIONS", "/o", 0),
        ("GET", "/end", 0),
    )
    told = [line.split() for line in lines]
    assert [words[0] for words in told] == ["200"] * 7
    assert [int(words[2]) for words in told] == [0, 10, 150_000, 0, 0, 0, 0]
    targets = ["GET,/a?b=c", "POST,/p", "PUT,/q", "HEAD,/h", "DELETE,/d", "OPTIONS,/o", "GET,/end"]
    assert [words[4].rsplit(",", 2)[0] for words in told] == targets
    assert {words[4].split(",")[2] for words in told} == {"libevent.example"}
    assert len({words[4].split(",")[3] for words in told}) == 1, "the connection was kept"


def test_a_page_and_a_stream_arrive_whole(ask: Ask) -> None:
    page, flow, head, none = ask(
        ("GET", "/page", 0), ("GET", "/stream", 0), ("HEAD", "/stream", 0), ("GET", "/none", 0)
    )
    assert page.split()[2:4] == [str(len(PAGE)), str(sum(PAGE))]
    assert flow == f"200 3 3000 {sum(PAGE[:3000])} -"
    assert head == "200 0 0 0 -"
    assert none == "204 0 0 0 -"


def test_refusals_are_told_and_the_client_goes_on(ask: Ask) -> None:
    lines = ask(("POST", "/p", 200_001), ("GET", "/next", 0), ("PATCH", "/p", 0), ("GET", "/", 0))
    assert [line.split()[0] for line in lines] == ["413", "200", "501", "200"]


def test_a_client_whose_connection_was_closed_comes_again(ask: Ask, server: HttpServer) -> None:
    server.set_cb("/close", close)
    lines = ask(("GET", "/close", 0), ("GET", "/a", 0), ("GET", "/close", 0), ("GET", "/b", 0))
    assert [line.split()[0] for line in lines] == ["200"] * 4


def close(got: ServerRequest, arg: object) -> None:
    got.output_headers.add("Connection", "close")
    got.send_reply(200, None, b"bye")
