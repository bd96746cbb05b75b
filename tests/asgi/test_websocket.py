"""A WebSocket as an application has it (ASGI 3), and as the websockets package sees it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync import client as websocket_client

from evsvc.asgi import ClientGone
from evsvc.core import ArgumentError, ArgumentTypeError, StateError
from evsvc.http.websocket import WebSocketOptions
from tests.asgi.gateway import Gateway
from tests.hosted import PATIENCE_S

Serve = Callable[..., Gateway]
ACCEPT = {"type": "websocket.accept"}


@contextmanager
def connected(gateway: Gateway, path: str = "/", **how: Any) -> Any:
    url = f"ws://127.0.0.1:{gateway.port}{path}"
    with websocket_client.connect(url, open_timeout=PATIENCE_S, proxy=None, **how) as session:
        yield session


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    assert await receive() == {"type": "websocket.connect"}
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def test_messages_of_both_kinds_come_back(serve: Serve) -> None:
    gateway = serve(echo, starts=False)
    with connected(gateway) as session:
        for message in ("text é", b"bytes", "", b"", "x" * 200_000):
            session.send(message)
            assert session.recv(PATIENCE_S) == message


def test_the_scope_of_a_websocket(serve: Serve) -> None:
    scopes: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send(
            {**ACCEPT, "subprotocol": scope["subprotocols"][1], "headers": [(b"x-own", b"1")]}
        )
        await receive()
        await receive()

    gateway = serve(application, starts=False, prefix="/ws/")
    with connected(gateway, "/ws/room?n=1", subprotocols=["one", "two"]) as session:
        assert session.subprotocol == "two"
        assert session.response.headers["x-own"] == "1"
    (scope,) = scopes
    assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
    assert (scope["path"], scope["root_path"], scope["query_string"]) == ("/ws/room", "/ws", b"n=1")
    assert scope["subprotocols"] == ["one", "two"]
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert "method" not in scope


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4001, "enough"), (None, None)])
def test_the_application_closes(serve: Serve, code: Any, reason: Any) -> None:
    heard: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": code, "reason": reason})
        heard.append(await receive())
        with pytest.raises(ClientGone):
            await send({"type": "websocket.send", "text": "too late"})

    gateway = serve(application, starts=False)
    with connected(gateway) as session, pytest.raises(ConnectionClosed) as closed:
        session.recv(PATIENCE_S)
    assert closed.value.rcvd.code == (code or 1000)
    assert closed.value.rcvd.reason == (reason or "")
    gateway.stop()
    assert heard[0]["type"] == "websocket.disconnect"


def test_the_client_closes(serve: Serve) -> None:
    heard: list[Any] = []
    over = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        heard.extend([await receive(), await receive()])
        over.set()

    gateway = serve(application, starts=False)
    with connected(gateway) as session:
        session.close(4000, "bye")
    assert over.wait(PATIENCE_S)
    assert heard == [{"type": "websocket.disconnect", "code": 4000, "reason": "bye"}] * 2


def test_a_connection_that_is_lost_is_1006(serve: Serve) -> None:
    heard: list[Any] = []
    over = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        heard.append(await receive())
        over.set()

    gateway = serve(application, starts=False)
    with connected(gateway) as session:
        session.socket.shutdown(2)
        assert over.wait(PATIENCE_S)
    assert heard == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


def test_a_client_that_goes_before_it_is_accepted_is_a_disconnect(serve: Serve) -> None:
    heard: list[Any] = []
    entered, over = threading.Event(), threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        entered.set()
        heard.append(await receive())
        for message in (ACCEPT, {"type": "websocket.http.response.start", "status": 404}):
            with pytest.raises(ClientGone):
                await send(message)
        over.set()

    gateway = serve(application, starts=False)
    sock = gateway.connect()
    sock.sendall(HANDSHAKE)
    assert entered.wait(PATIENCE_S)
    sock.close()
    assert over.wait(PATIENCE_S)
    assert heard[0]["code"] == 1006


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


def status_of(gateway: Gateway, data: bytes) -> int:
    """The status that answers a request which is sent as it stands."""
    sock = gateway.connect()
    sock.sendall(data)
    with sock.makefile("rb") as stream:
        return int(stream.readline().split()[1])


def test_a_refusal_is_403(serve: Serve) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})
        assert (await receive())["type"] == "websocket.disconnect"

    gateway = serve(application, starts=False)
    with pytest.raises(InvalidStatus) as refused, connected(gateway):
        raise AssertionError("it was accepted")
    assert refused.value.response.status_code == 403


def test_a_refusal_may_be_a_response_of_its_own(serve: Serve) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        prefix = "websocket.http.response"
        await send({"type": f"{prefix}.start", "status": 401, "headers": [(b"x-why", b"1")]})
        with pytest.raises(StateError):
            await send(ACCEPT)
        await send({"type": f"{prefix}.body", "body": b"log in", "more_body": True})
        await send({"type": f"{prefix}.body", "body": b" first"})

    gateway = serve(application, starts=False)
    with pytest.raises(InvalidStatus) as refused, connected(gateway):
        raise AssertionError("it was accepted")
    response = refused.value.response
    assert (response.status_code, response.headers["x-why"]) == (401, "1")
    assert response.body == b"log in first"


def test_a_refusal_that_is_not_whole_is_broken_off(serve: Serve) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        prefix = "websocket.http.response"
        await send({"type": f"{prefix}.start", "status": 401})
        await send({"type": f"{prefix}.body", "body": b"log in", "more_body": True})

    gateway = serve(application, starts=False)
    assert b"0\r\n\r\n" not in gateway.exchange(HANDSHAKE)
    assert isinstance(gateway.take_faults()[0], StateError)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "too early"},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.what"},
        {"type": "websocket.accept", "headers": [(b"x", b"a\r\nY: b")]},
        {"type": "websocket.accept", "headers": [("x", "text")]},
        {"type": "websocket.accept", "headers": [(b"sec-websocket-accept", b"x")]},
        {"type": "websocket.accept", "subprotocol": "no token"},
    ],
)
def test_what_cannot_be_sent_before_it_is_accepted_is_500(serve: Serve, message: Any) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(message)

    gateway = serve(application, starts=False)
    assert status_of(gateway, HANDSHAKE) == 500
    gateway.take_faults()


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (ACCEPT, StateError),
        ({"type": "websocket.http.response.start", "status": 200}, StateError),
        ({"type": "websocket.send"}, ArgumentError),
        ({"type": "websocket.send", "text": "both", "bytes": b"of them"}, ArgumentError),
        ({"type": "websocket.send", "text": b"bytes"}, ArgumentTypeError),
        ({"type": "websocket.send", "bytes": "text"}, ArgumentTypeError),
        ({"type": "websocket.close", "code": 1006}, ArgumentError),
        ({"type": "websocket.close", "code": 1000, "reason": "x" * 124}, ArgumentError),
        (KeyError("its own fault"), KeyError),
    ],
)
def test_a_fault_of_an_open_one_is_1011(serve: Serve, message: Any, fault: Any) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        if isinstance(message, Exception):
            raise message
        await send(message)

    gateway = serve(application, starts=False)
    with connected(gateway) as session, pytest.raises(ConnectionClosed) as closed:
        session.recv(PATIENCE_S)
    assert closed.value.rcvd.code == 1011
    assert type(gateway.take_faults()[0]) is fault


def test_one_that_returns_closes_with_1000(serve: Serve) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)

    gateway = serve(application, starts=False)
    with connected(gateway) as session, pytest.raises(ConnectionClosed) as closed:
        session.recv(PATIENCE_S)
    assert closed.value.rcvd.code == 1000


@pytest.mark.parametrize("raises", [False, True])
def test_one_that_does_not_answer_is_500(serve: Serve, raises: bool) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if raises:
            raise KeyError("its own fault")

    gateway = serve(application, starts=False)
    with pytest.raises(InvalidStatus) as refused, connected(gateway):
        raise AssertionError("it was accepted")
    assert refused.value.response.status_code == 500
    assert isinstance(gateway.take_faults()[0], KeyError if raises else StateError)


def test_what_is_no_handshake_is_400_when_it_is_accepted(serve: Serve) -> None:
    gateway = serve(echo, starts=False)
    assert status_of(gateway, HANDSHAKE.replace(b"MDEy", b"")) == 400


def test_the_server_that_stops_tells_its_sessions(serve: Serve) -> None:
    gateway = serve(echo, starts=False)
    with connected(gateway) as session:
        session.send("x")
        assert session.recv(PATIENCE_S) == "x"
        gateway.in_loop(gateway.server.shutdown)
        with pytest.raises(ConnectionClosed) as closed:
            session.recv(PATIENCE_S)
    assert closed.value.rcvd.code == 1001


def test_messages_that_are_not_received_hold_the_client_back(serve: Serve) -> None:
    """No more than `max_messages` wait, and they all come when the application receives them."""
    total, most = 2000, 5
    waiting: list[int] = []
    go_on = asyncio.Event()
    entered = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        exchange = receive.__self__
        await receive()
        await send(ACCEPT)
        entered.set()
        await go_on.wait()
        for number in range(total):
            waiting.append(len(exchange._messages))
            assert (await receive())["text"] == str(number)
        await send({"type": "websocket.send", "text": "all"})

    gateway = serve(application, starts=False, max_messages=most)
    with connected(gateway) as session:
        assert entered.wait(PATIENCE_S)
        for number in range(total):
            session.send(str(number))
        gateway.in_loop(go_on.set)
        assert session.recv(PATIENCE_S) == "all"
    assert max(waiting) == most


def test_large_messages_that_are_not_received_hold_the_client_back(serve: Serve) -> None:
    waiting: list[int] = []
    go_on = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        exchange = receive.__self__
        await receive()
        await send(ACCEPT)
        await go_on.wait()
        for _ in range(20):
            waiting.append(exchange._waiting_bytes)
            await receive()
        await send({"type": "websocket.send", "text": "all"})

    gateway = serve(application, starts=False, max_input_bytes=1500)
    with connected(gateway) as session:
        for _ in range(20):
            session.send(b"x" * 1000)
        gateway.in_loop(go_on.set)
        assert session.recv(PATIENCE_S) == "all"
    assert max(waiting) == 2000


def test_send_waits_for_a_client_that_does_not_read(serve: Serve) -> None:
    size, most, total = 16384, 65536, 600
    unsent: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        exchange = send.__self__
        await receive()
        await send(ACCEPT)
        for _ in range(total):
            await send({"type": "websocket.send", "bytes": b"x" * size})
            unsent.append(exchange._session.unsent_bytes)

    gateway = serve(application, starts=False, max_output_bytes=most)
    with connected(gateway, max_queue=1) as session:
        for _ in range(total):
            assert len(session.recv(PATIENCE_S)) == size
    assert most < max(unsent) <= most + size + 100


def test_the_options_of_websockets_are_the_programs(serve: Serve) -> None:
    gateway = serve(echo, starts=False, websocket=WebSocketOptions(max_message_bytes=10))
    with connected(gateway) as session:
        session.send("x" * 10)
        assert session.recv(PATIENCE_S) == "x" * 10
        session.send("x" * 11)
        with pytest.raises(ConnectionClosed) as closed:
            session.recv(PATIENCE_S)
    assert closed.value.rcvd.code == 1009


WITHOUT = """
import sys
sys.modules["wsproto"] = None
from evsvc.asgi import AsgiHandler
from evsvc import EventBase, HttpServer
from evsvc.aio import EventLoop
import socket

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": scope["type"].encode()})

base = EventBase()
server = HttpServer(base)
loop = EventLoop(base)
AsgiHandler(loop, app).mount(server)
port = server.bind_socket("127.0.0.1", 0).port

async def main():
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setblocking(False)
    await loop.sock_sendall(sock, HANDSHAKE)
    print((await loop.sock_recv(sock, 1000)).decode().splitlines()[0])
    sock.close()

loop.run_until_complete(main())
server.close()
loop.close()
base.close()
"""


def test_without_wsproto_an_upgrade_is_an_ordinary_request() -> None:
    code = WITHOUT.replace("HANDSHAKE", repr(HANDSHAKE))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("HTTP/1.1 200 OK\n", "")
