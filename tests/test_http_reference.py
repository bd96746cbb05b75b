"""Each line of docs/http.md is true: it is run, for the request on that page."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import EV_TIMEOUT, EvBuffer, EventBase, FakeClock
from evsvc.http import HttpServer, ServerRequest
from tests.http.peers import Peer

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "http.md").read_text("utf-8")
REQUEST = re.findall(r"^```http\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)[0]


def rows_of(title: str) -> list[tuple[str, str]]:
    """The cells of the table in a section."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| `(.*?)` \| (.*) \|$", section, re.MULTILINE)
    assert len(cells) == section.count("\n| ") - 2
    return cells


class Served:
    """A server whose handler runs one line of the page."""

    def __init__(self, base: EventBase, folder: Path) -> None:
        self.base = base
        self.server = HttpServer(base)
        self.told: list[Any] = []
        self.seen: list[object] = []
        path = folder / "file"
        path.write_bytes(b"a file")
        self.names: dict[str, Any] = {
            "json": json,
            "base": base,
            "path": path,
            "EvBuffer": EvBuffer,
            "EV_TIMEOUT": EV_TIMEOUT,
            "told": lambda *args: self.told.append(args[1:]),
            "later": lambda fd, what, request: request.send_reply(200, None, b"later"),
        }

    def connect(self, do: Callable[[dict[str, Any]], None], streams: bool = False) -> Peer:
        """Send the request of the page to a handler that does this."""

        def handle(request: ServerRequest, arg: object) -> None:
            self.names["request"] = request
            do(self.names)

        self.server.set_gencb(handle, streams=streams)
        self.port = self.server.bind_socket("127.0.0.1", 0).port
        peer = Peer(self.base, self._socket())
        peer.send(REQUEST.replace("\n", "\r\n").encode())
        return peer

    def _socket(self) -> Any:

        sock = socket.create_connection(("127.0.0.1", self.port))
        self.sock = sock
        return sock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def served(clock: FakeClock, tmp_path: Path) -> Iterator[Served]:
    with EventBase(clock=clock) as base:
        made = Served(base, tmp_path)
        yield made
        made.server.close()
        made.sock.close()


@pytest.mark.parametrize(("asked", "answer"), rows_of("Ask"))
def test_what_is_asked_is_answered(served: Served, asked: str, answer: str) -> None:
    served.connect(lambda names: served.seen.append(eval(asked, names)))
    assert [f"`{seen!r}`" for seen in served.seen] == [answer]


@pytest.mark.parametrize(("do", "gets"), rows_of("Answer, once"))
def test_an_answer_is_what_the_client_gets(
    served: Served, clock: FakeClock, do: str, gets: str
) -> None:
    peer = served.connect(lambda names: exec(do, names))
    clock.advance(0.02)
    peer.settle()
    if "an event" in gets:
        line, fields = peer.read_head()
        body = peer.read_bytes(int(peer.read_bytes(3), 16)).decode()
        assert body == "data: x\n\n"
        body = "data: x"
    else:
        message = peer.read_message(has_body="204" not in gets)
        line, fields, body = message.line, message.fields, message.body.decode()
    status, *rest = re.findall(r"`(.*?)`", gets)
    if "in chunks" in gets:
        status, rest = "200 OK", [status]
    assert line == f"HTTP/1.1 {status}"
    for expected in rest:
        assert expected in {body, *(f"{name}: {value}" for name, value in fields)}
    assert ("a page" in gets) == body.startswith("<HTML>")
    assert ("in chunks" in gets or "an event" in gets) == (
        ("Transfer-Encoding", "chunked") in fields
    )


def test_what_else_can_be_done_is_all_tried_below() -> None:
    assert [do for do, _ in rows_of("And")] == [
        GONE, COMPLETE, HINT, BODY, PAUSE, COMPRESSION, TAKE_OVER, CLOSE
    ]  # fmt: skip


GONE = 'request.set_on_gone_cb(told, "gone")'
COMPLETE = 'request.set_on_complete_cb(told, "sent")'
HINT = 'request.send_information(103, ("Link", "</a.css>; rel=preload"))'
BODY = "request.set_body_cbs(told, told)"
PAUSE = "request.pause_body(); request.resume_body()"
COMPRESSION = "request.set_compression(None)"
TAKE_OVER = "bufferevent, rest = request.take_over()"
CLOSE = "request.connection.close()"


def test_it_is_told_that_a_client_has_gone(served: Served) -> None:
    peer = served.connect(lambda names: exec(GONE, names))
    assert served.told == []
    peer.half_close()
    assert served.told == [("gone",)]


def test_it_is_told_that_a_reply_is_sent(served: Served) -> None:
    served.connect(lambda names: exec(f"{COMPLETE}; request.send_reply(200)", names))
    assert served.told == [("sent",)]


def test_a_client_is_told_before_the_reply(served: Served) -> None:
    peer = served.connect(lambda names: exec(f"{HINT}; request.send_reply(200)", names))
    line, fields = peer.read_head()
    assert line.startswith("HTTP/1.1 103 ")
    assert fields == [("Link", "</a.css>; rel=preload")]
    assert peer.read_message().status == 200


@pytest.mark.parametrize("then", ["", f"; {PAUSE}"])
def test_a_body_is_told_as_it_comes(served: Served, then: str) -> None:
    served.connect(lambda names: exec(BODY + then, names), streams=True)
    assert served.told == [(b'{"tea": 1}', None), (True, None)]


def test_one_reply_is_left_uncompressed(served: Served) -> None:
    peer = served.connect(lambda names: exec(f"{COMPRESSION}; request.send_reply(200)", names))
    assert peer.read_message().status == 200


def test_another_protocol_takes_the_connection(served: Served) -> None:
    peer = served.connect(lambda names: exec(f"{TAKE_OVER}; bufferevent.write(b'+OK')", names))
    assert peer.read_head()[0] == "HTTP/1.1 101 Switching Protocols"
    assert peer.read_bytes(3) == b"+OK"
    served.names["bufferevent"].close()


def test_a_connection_is_ended(served: Served) -> None:
    peer = served.connect(lambda names: exec(CLOSE, names))
    assert peer.read_to_end() == b""


def test_it_is_one_screen() -> None:
    assert len(PAGE.splitlines()) <= 80
    assert max(len(line) for line in PAGE.splitlines()) <= 118
