"""WsTestClient: WebSocket handlers are talked to without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from evsvc.core import EV_TIMEOUT, EventBase
from evsvc.http import HttpServer, ServerRequest
from evsvc.http.websocket import HandshakeFailed, WebSocketOptions, accept
from evsvc.testing import HttpTestClient, NothingHappened, run_until
from evsvc.testing.websocket import WsTestClient


@pytest.fixture
def sessions(http_server: HttpServer) -> list[Any]:
    made: list[Any] = []

    def upgrade(request: ServerRequest, arg: object) -> None:
        made.append(accept(request, answer, subprotocols=("chat",)))

    def answer(ws: Any, kind: object, data: Any, arg: object) -> None:
        if data == "bye":
            ws.shutdown(4001, "as you wish")
        else:
            ws.send_text(f"you said {data!r}")

    http_server.set_cb("/chat", upgrade)
    return made


def test_messages_go_both_ways(http_client: HttpTestClient, sessions: list[Any]) -> None:
    with WsTestClient(http_client, "/chat", subprotocols=("chat", "other")) as ws:
        assert ws.session.subprotocol == "chat"
        ws.send("hello")
        ws.send(b"\0")
        assert ws.receive() == "you said 'hello'"
        assert ws.receive() == "you said b'\\x00'"
        with pytest.raises(NothingHappened, match="a message of /chat"):
            ws.receive()


def test_what_the_server_begins_is_received(
    http_client: HttpTestClient, sessions: list[Any], event_base: EventBase
) -> None:
    with WsTestClient(http_client, "/chat") as ws:
        event_base.once(
            -1, EV_TIMEOUT, lambda fd, what, arg: sessions[0].send_text("news"), timeout=2.0
        )
        assert ws.receive() == "news"


def test_the_end_has_its_code(http_client: HttpTestClient, sessions: list[Any]) -> None:
    with WsTestClient(http_client, "/chat") as ws:
        assert not ws.closed
        ws.send("bye")
        assert ws.wait_closed() == 4001
        assert ws.closed
        with pytest.raises(AssertionError, match="4001"):
            ws.receive()


def test_a_refusal_is_raised(http_client: HttpTestClient) -> None:
    with pytest.raises(HandshakeFailed, match="404"):
        WsTestClient(http_client, "/elsewhere")


def test_a_server_that_says_nothing_is_told(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    http_server.set_cb("/chat", lambda request, arg: None)
    with pytest.raises(NothingHappened, match="an answer of /chat"):
        WsTestClient(http_client, "/chat")


def test_going_away_is_seen(
    http_client: HttpTestClient, sessions: list[Any], event_base: EventBase
) -> None:
    with WsTestClient(http_client, "/chat", options=WebSocketOptions(deflate=False)):
        pass
    run_until(event_base, lambda: not sessions[0].is_open)
