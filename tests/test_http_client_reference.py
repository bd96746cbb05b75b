"""Each line of docs/http-client.md is true: it is run, against a server that is driven by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc import http
from evsvc.core import EVLOOP_NONBLOCK, EventBase, FakeClock
from evsvc.http import (
    BasicAuth,
    ClientOptions,
    ClientResponse,
    HttpClient,
    HttpClientOptions,
    HttpConnection,
    HttpRequest,
    StatusError,
)
from tests.http.peers import QUIET_PASSES, Origin, Peer, response

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "http-client.md").read_text("utf-8")
ANSWER = re.findall(r"^```http\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)[0]
PIECES = [b"piece ", b"by piece"]


def rows_of(title: str) -> list[tuple[str, str]]:
    """The cells of the table in a section."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (?!---)(.*?) \| (.*) \|$", section, re.MULTILINE)[1:]
    assert len(cells) == section.count("\n| ") - 2
    return cells


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def base(clock: FakeClock) -> Iterator[EventBase]:
    with EventBase(clock=clock) as made:
        yield made


@pytest.fixture
def origin(base: EventBase) -> Iterator[Origin]:
    made = Origin(base)
    yield made
    made.close()


class World:
    """A client, and what its callback was given."""

    def __init__(self, base: EventBase, origin: Origin) -> None:
        options = HttpClientOptions(
            connection=ClientOptions(read_s=5.0), max_body_bytes=100, timeout_s=60.0
        )
        self.origin = origin
        self.client = HttpClient(base, None, options)
        self.given: list[ClientResponse] = []
        pieces = list(PIECES)
        self.names: dict[str, Any] = {
            "client": self.client,
            "url": f"http://127.0.0.1:{origin.port}",
            "done": lambda response, arg: self.given.append(response),
            "produce": lambda request, arg: pieces.pop(0) if pieces else None,
            "BasicAuth": BasicAuth,
        }

    def ask(self, do: str = 'client.get(url + "/menu", done)') -> None:
        exec(do, self.names)

    def answer(self, data: bytes) -> Peer:
        peer = self.origin.accept()
        peer.read_head()
        peer.send(data)
        return peer


@pytest.fixture
def world(base: EventBase, origin: Origin) -> Iterator[World]:
    made = World(base, origin)
    yield made
    made.client.close()


@pytest.mark.parametrize(("do", "gets"), rows_of("Ask"))
def test_what_is_asked_is_what_the_server_gets(world: World, do: str, gets: str) -> None:
    world.ask(do.strip("`"))
    message = world.origin.accept().read_message()
    line, *rest = re.findall(r"`(.*?)`", gets)
    assert message.line == f"{line} HTTP/1.1"
    seen = {message.body.decode(), *(f"{name}: {value}" for name, value in message.fields)}
    for expected in rest:
        if expected == "Accept-Encoding":
            assert message.field(expected) is not None
        else:
            assert expected in seen


@pytest.mark.parametrize(("asked", "answer"), rows_of("The answer"))
def test_what_the_answer_says(world: World, asked: str, answer: str) -> None:
    world.ask()
    world.answer(ANSWER.replace("\n", "\r\n").encode())
    names = {"response": world.given[0]}
    assert f"`{eval(asked.strip('`'), names)!r}`" == answer


def stop(world: World, clock: FakeClock) -> None:
    world.origin.stop()
    world.ask()


def cut_off(world: World, clock: FakeClock) -> None:
    world.ask()
    world.answer(response(body=b"hello")[:-1]).close()


def say_nonsense(world: World, clock: FakeClock) -> None:
    world.ask()
    world.answer(b"SSH-2.0-x\r\n")


def be_silent(world: World, clock: FakeClock) -> None:
    world.ask()
    world.answer(b"")
    clock.advance(5.0)


def take_long(world: World, clock: FakeClock) -> None:
    world.ask()
    peer = world.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n")
    for _ in range(15):
        peer.send(b"x")
        clock.advance(4.0)


def say_much(world: World, clock: FakeClock) -> None:
    world.ask()
    world.answer(response(body=bytes(101)))


def send_around(world: World, clock: FakeClock) -> None:
    world.ask()
    peer = world.answer(response("Location: /next", status="302 Found"))
    for _ in range(10):
        peer.read_head()
        peer.send(response("Location: /next", status="302 Found"))


ENDS: dict[str, Callable[[World, FakeClock], None]] = {
    "nobody listens": stop,
    "the server closes before the end of its answer": cut_off,
    "it answers what is no HTTP": say_nonsense,
    "it is silent for `ClientOptions.read_s`": be_silent,
    "all of it is not done within `timeout_s`": take_long,
    "the body is longer than `max_body_bytes`": say_much,
    "it is sent from one place to another, and on, and on": send_around,
}


@pytest.mark.parametrize(("happens", "error"), rows_of("No answer"))
def test_why_there_is_no_answer(world: World, clock: FakeClock, happens: str, error: str) -> None:
    ENDS[happens](world, clock)
    for _ in range(QUIET_PASSES):
        world.client.base.loop(EVLOOP_NONBLOCK)
    kind = getattr(http, error.strip("`"))
    assert type(world.given[0].error) is kind
    with pytest.raises(kind):
        world.given[0].raise_for_error()


def test_a_status_is_raised_when_asked_for(world: World) -> None:
    world.ask()
    world.answer(response(status="404 Not Found"))
    assert world.given[0].error is None
    with pytest.raises(StatusError, match="404"):
        world.given[0].raise_for_error()


ONE = [
    'request.set_body(b"hi")',
    "request.stream_body(produce)",
    "request.set_chunked_cb(take)",
    "request.set_interim_cb(hear)",
    "request.cancel()",
]


def test_what_can_be_done_on_one_connection_is_all_tried_below() -> None:
    assert [do.strip("`") for do, _ in rows_of("One connection")] == ONE


@pytest.mark.parametrize("do", ONE)
def test_one_connection(base: EventBase, origin: Origin, do: str) -> None:
    told: list[Any] = []
    pieces = list(PIECES)
    request = HttpRequest(lambda got, arg: told.append(("done", got.take_body())))
    names = {
        "request": request,
        "produce": lambda request, arg: pieces.pop(0) if pieces else None,
        "take": lambda got, arg: told.append((got.input_buffer.remove(), arg)),
        "hear": lambda got, status, headers, arg: told.append((status, headers["Link"], arg)),
    }
    if "cancel" not in do:
        exec(do, names)
    with HttpConnection(base, None, "127.0.0.1", origin.port) as connection:
        connection.make_request(request, "GET", "/")
        peer = origin.accept()
        message = peer.read_message()
        if "cancel" in do:
            exec(do, names)
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(body=b"ok"))
    body = {ONE[0]: b"hi", ONE[1]: b"".join(PIECES)}.get(do, b"")
    assert message.body == body
    assert told == {
        ONE[2]: [(b"ok", None), ("done", b"")],
        ONE[3]: [(103, "</a>", None), ("done", b"ok")],
        ONE[4]: [],
    }.get(do, [("done", b"ok")])


def test_it_is_one_screen() -> None:
    assert len(PAGE.splitlines()) <= 80
    assert max(len(line) for line in PAGE.splitlines()) <= 118
