"""The loop's side of a request, alone: what cannot be sent holds no thread."""

from __future__ import annotations

from typing import Any

import pytest

from evsvc.core import ArgumentError, EvBuffer, EventBase
from evsvc.http import Headers
from evsvc.http.server.request import ReplyState
from evsvc.wsgi import ClientGone, WsgiOptions
from evsvc.wsgi.exchange import Exchange
from evsvc.wsgi.response import Head

HEAD = Head(200, "OK", Headers(), None)


class Request:
    """A request that takes no reply but an error."""

    method = "GET"
    output_headers = Headers()

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.state = ReplyState.PENDING
        self.errors: list[int] = []

    def set_on_gone_cb(self, cb: Any) -> None:
        self.gone_cb = cb

    def send_error(self, code: int) -> None:
        self.errors.append(code)
        self.state = ReplyState.DONE

    def _refuse(self, *args: object) -> None:
        raise ArgumentError("not to be sent")

    send_reply = send_reply_start = send_reply_chunk = send_reply_end = _refuse


class Connection:
    """The connection, the server and its service, all in one."""

    def __init__(self, base: Any = None) -> None:
        self.base = base
        self.server = self.service = self
        self.failed: list[Exception] = []
        self.closed = 0

    def callback_failed(self, exc: Exception, about: object) -> None:
        self.failed.append(exc)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def connection() -> Connection:
    return Connection()


def exchange_on(connection: Any) -> tuple[Exchange, Any]:
    request: Any = Request(connection)
    return Exchange(request, connection, WsgiOptions(max_output_bytes=10)), request


@pytest.mark.parametrize(
    ("call", "args"),
    [("reply", (HEAD, b"x")), ("start", (HEAD, b"x")), ("send", (b"x",)), ("end", ())],
)
def test_what_cannot_be_sent_is_500_and_lets_the_thread_go(
    connection: Connection, call: str, args: Any
) -> None:
    exchange, request = exchange_on(connection)
    getattr(exchange, call)(*args)
    assert (request.errors, len(connection.failed), exchange.is_gone) == ([500], 1, True)
    with pytest.raises(ClientGone):
        exchange.wait_for_client(11)
    getattr(exchange, call)(*args)
    assert (request.errors, len(connection.failed)) == ([500], 1)


def test_what_cannot_be_sent_within_a_reply_breaks_it_off(connection: Connection) -> None:
    exchange, request = exchange_on(connection)
    request.state = ReplyState.STREAMING
    exchange.send(b"x")
    assert (connection.closed, request.errors) == (1, [])


def test_a_file_for_nobody_is_closed(connection: Connection) -> None:
    exchange, request = exchange_on(connection)
    request.connection = None
    body = EvBuffer(b"of a file")
    exchange.reply(HEAD, body)
    assert len(body) == 0
    assert exchange.is_gone


def test_the_gate_lets_through_up_to_the_limit(connection: Connection) -> None:
    exchange, _ = exchange_on(connection)
    exchange.wait_for_client(10)  # one more would wait
    exchange.leave()
    with pytest.raises(ClientGone):
        exchange.wait_for_client(0)


def test_posting_to_a_closed_base_is_the_end(connection: Connection) -> None:
    connection.base = EventBase()
    connection.base.close()
    exchange, _ = exchange_on(connection)
    with pytest.raises(ClientGone, match="closed"):
        exchange.post(print)
