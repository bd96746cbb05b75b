"""A request as an application receives it, and the response as it sends it (ASGI 3)."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from evsvc.asgi import ClientGone
from evsvc.asgi.http_exchange import NEXT, Phase, Step
from evsvc.asgi.scope import http_scope
from evsvc.core import ArgumentError, ArgumentTypeError, StateError
from evsvc.http import Client, Headers, LocalProtocolError, TrustedProxies
from tests.asgi.gateway import Gateway
from tests.hosted import PATIENCE_S, read_to_end, send_until_full

Serve = Callable[..., Gateway]
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
TEXT = [(b"content-type", b"text/plain")]


def start(status: Any = 200, headers: Any = TEXT) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def piece(body: Any = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def sending(*messages: Any) -> Any:
    """An application that sends these messages."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            for message in messages:
                await send(message)

    return application


async def whole_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            return body


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body = await whole_body(receive)
    await send(start())
    await send(piece(body))


async def tell(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the scope as JSON."""
    await send(start())
    await send(piece(json.dumps(scope, default=lambda value: value.decode("latin-1")).encode()))


def told(gateway: Gateway, path: str = "/", **how: Any) -> dict[str, Any]:
    answer = gateway.ask(path, **how)
    assert answer.status == 200
    return json.loads(answer.body)


def test_the_scope_of_a_request(serve: Serve) -> None:
    gateway = serve(tell, starts=False)
    scope = told(gateway, "/caf%C3%A9%20x?a=%20b", headers={"X-Own": "V", "X-own": "v"})
    assert scope["type"] == "http"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("1.1", "GET", "http")
    assert (scope["path"], scope["raw_path"]) == ("/café x", "/caf%C3%A9%20x")
    assert (scope["query_string"], scope["root_path"]) == ("a=%20b", "")
    assert scope["client"][0] == "127.0.0.1"
    assert scope["server"] == ["127.0.0.1", gateway.port]
    assert ["x-own", "v"] in scope["headers"]
    assert ["host", f"127.0.0.1:{gateway.port}"] in scope["headers"]
    assert scope["state"] == {}
    assert scope["extensions"] == {"http.response.pathsend": {}}


def test_a_mounted_application_knows_where(serve: Serve) -> None:
    gateway = serve(tell, prefix="/my/app/", starts=False)
    for path in ("/my/app/x", "/my/app/", "/my/app"):
        scope = told(gateway, path)
        assert (scope["root_path"], scope["path"]) == ("/my/app", path)
    assert gateway.ask("/my").status == 404


def test_the_client_is_whom_a_trusted_proxy_tells(serve: Serve) -> None:
    gateway = serve(tell, starts=False)
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
    assert told(gateway, headers=headers)["scheme"] == "http"
    gateway.in_loop(gateway.server.set_trusted_proxies, TrustedProxies(["127.0.0.1"]))
    scope = told(gateway, headers=headers)
    assert (scope["scheme"], scope["client"]) == ("https", ["192.0.2.7", 0])


def test_a_client_of_a_unix_socket_has_no_address(serve: Serve, tmp_path: Any) -> None:
    gateway = serve(tell, starts=False)
    path = str(tmp_path / "s")
    gateway.in_loop(gateway.server.bind_unix, path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(path)
        sock.sendall(b"GET / HTTP/1.0\r\nHost: h:81\r\n\r\n")
        scope = json.loads(read_to_end(sock).partition(b"\r\n\r\n")[2])
    assert (scope["client"], scope["server"]) == (None, [path, None])


@pytest.mark.parametrize(
    ("scheme", "host", "name", "port"),
    [
        ("https", "shop.example", "shop.example", 443),
        ("http", "[::1]:81", "[::1]", 81),
        ("http", None, "localhost", 80),
        ("gopher", "h:", "h", 80),
    ],
)
def test_over_no_socket_the_server_is_whom_the_client_addressed(
    scheme: str, host: str | None, name: str, port: int
) -> None:
    request: Any = SimpleNamespace(
        client=Client("", 0, scheme, host),
        connection=None,
        encoded_path="/",
        input_headers=Headers(),
        method="GET",
        minor=1,
        query=None,
        uri="/",
    )
    assert http_scope(request, "", {})["server"] == (name, port)


@pytest.mark.parametrize("body", [None, b"", b"abc", b"x" * 1_000_000])
def test_a_body_is_received_and_one_response_has_its_length(serve: Serve, body: Any) -> None:
    answer = serve(echo, starts=False).ask(method="POST", body=body)
    assert answer.body == (body or b"")
    assert answer.fields["content-length"] == str(len(body or b""))


def test_a_chunked_body(serve: Serve) -> None:
    assert serve(echo, starts=False).ask(method="POST", body=[b"ab", b"c"]).body == b"abc"


def test_a_handler_may_be_the_general_callback_and_take_whole_bodies(serve: Serve) -> None:
    gateway = serve(echo, prefix="/other/", starts=False)
    gateway.in_loop(gateway.server.set_gencb, gateway.handler)
    assert gateway.ask("/", "POST", b"whole").body == b"whole"


def test_both_ways_may_stream_at_once(serve: Serve) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        while True:
            message = await receive()
            await send(piece(message["body"].upper(), message["more_body"]))
            if not message["more_body"]:
                return

    sock = serve(application, starts=False).connect()
    sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 6\r\n\r\n")
    received = b""
    for sent in (b"one", b"two"):
        sock.sendall(sent)
        while sent.upper() not in received:
            received += sock.recv(65536)
    assert (received + read_to_end(sock)).endswith(b"0\r\n\r\n")


def test_a_client_is_told_to_go_on_when_its_body_is_received(serve: Serve) -> None:
    sock = serve(echo, starts=False).connect()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
    sock.sendall(head + b"Connection: close\r\n\r\n")
    assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b"ok")
    assert read_to_end(sock).endswith(b"\r\n\r\nok")


def test_the_memory_for_a_body_is_bounded(serve: Serve) -> None:
    """What the server holds of it is the limit, and one read on top of it."""
    size, most = 20_000_000, 100_000
    may_go_on = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await asyncio.to_thread(may_go_on.wait, PATIENCE_S)
        count = len(message["body"])
        while message["more_body"]:
            message = await receive()
            count += len(message["body"])
        await send(start())
        await send(piece(b"%d" % count))

    gateway = serve(application, starts=False, max_input_bytes=most)
    sock = gateway.connect()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    sock.sendall(head % size)
    data = b"x" * 65536
    sent = send_until_full(gateway, sock, data)
    assert sent < size
    metrics = gateway.in_loop(lambda: gateway.server.metrics)
    assert gateway.in_loop(lambda: metrics.holdings).received_bytes < most + 300_000
    may_go_on.set()
    while sent < size:
        sent += sock.send(data[: size - sent])
    assert read_to_end(sock).endswith(b"%d" % size)


def test_the_application_waits_for_a_client_that_does_not_read(serve: Serve) -> None:
    size, most, total = 16384, 65536, 400

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        for _ in range(total):
            await send(piece(b"x" * size, True))
        await send(piece())

    gateway = serve(application, starts=False, max_output_bytes=most)
    sock = gateway.connect(receive_bytes=4096)
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    metrics = gateway.in_loop(lambda: gateway.server.metrics)
    received = 0
    while True:
        assert gateway.in_loop(lambda: metrics.holdings).unsent_bytes <= most + size
        data = sock.recv(size)
        if not data:
            break
        received += len(data)
    assert received > size * total


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("messages", "length", "body"),
    [
        ([start(), piece(b"abc")], "3", b"abc"),
        ([start(), piece()], "0", b""),
        ([start(), {"type": "http.response.body"}], "0", b""),
        ([start(), piece(b"a", True), piece(b"b", True), piece(b"c")], None, b"abc"),
        ([start(), piece(b"", True), piece(bytearray(b"x"))], None, b"x"),
        ([start(headers=[*TEXT, [b"Content-Length", b"3"]]), piece(b"abc")], "3", b"abc"),
        ([start(headers=((b"content-length", b"2"),)), piece(b"a", True), piece(b"b")], "2", b"ab"),
        ([{"type": "http.response.start", "status": 201}, piece(memoryview(b"a"))], "1", b"a"),
    ],
)
def test_responses(serve: Serve, method: str, messages: Any, length: Any, body: bytes) -> None:
    answer = serve(sending(*messages), starts=False).ask(method=method)
    assert answer.status == messages[0]["status"]
    if method == "HEAD":
        assert answer.body == b""
        assert answer.fields.get("content-length") == (length if length != "0" else None)
    else:
        assert (answer.body, answer.fields.get("content-length")) == (body, length)


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_body_has_none(serve: Serve, status: int) -> None:
    gateway = serve(sending(start(status, []), piece(b"not to be sent")), starts=False)
    data = gateway.exchange(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert data.endswith(b"\r\n\r\n")


def test_the_connections_own_fields_are_left_out_but_close(serve: Serve) -> None:
    headers = [
        (b"transfer-encoding", b"chunked"),
        (b"keep-alive", b"timeout=5"),
        (b"connection", b"close"),
        (b"x-own", b"1"),
    ]
    gateway = serve(sending(start(headers=headers), piece(b"abc")), starts=False)
    head, _, body = gateway.exchange(GET).partition(b"\r\n\r\n")
    assert body == b"abc"
    assert b"Connection: close" in head or b"connection: close" in head
    assert b"ransfer" not in head
    assert b"timeout" not in head
    assert b"x-own: 1" in head


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("size", [0, 5, 1_000_000])
def test_a_file_may_be_sent_by_its_path(
    serve: Serve, tmp_path: Any, method: str, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    message = {"type": "http.response.pathsend", "path": str(path)}
    answer = serve(sending(start(), message), starts=False).ask(method=method)
    assert answer.body == (b"x" * size if method == "GET" else b"")
    if size or method == "GET":
        assert answer.fields["content-length"] == str(size)


@pytest.mark.parametrize("path", ["/no/such/file", "/dev/null", "/"])
def test_a_file_that_cannot_be_sent_is_500(serve: Serve, path: str) -> None:
    message = {"type": "http.response.pathsend", "path": path}
    gateway = serve(sending(start(), message), starts=False)
    assert gateway.ask().status == 500
    assert isinstance(gateway.take_faults()[0], OSError | ArgumentError)


def test_a_file_is_the_whole_body(serve: Serve, tmp_path: Any) -> None:
    message = {"type": "http.response.pathsend", "path": __file__}
    gateway = serve(sending(start(), piece(b"begun", True), message), starts=False)
    gateway.exchange(GET)
    assert isinstance(gateway.take_faults()[0], StateError)


BAD = [
    ([piece(b"x")], StateError),
    ([start(), start()], StateError),
    ([{"type": "http.response.zerocopysend"}], StateError),
    ([{"type": "websocket.accept"}], StateError),
    ([start("200"), piece()], ArgumentTypeError),
    ([start(True), piece()], ArgumentTypeError),
    ([start(199), piece()], ArgumentError),
    ([start(600), piece()], ArgumentError),
    ([start(headers=[("x", "text")]), piece()], ArgumentTypeError),
    ([start(headers=[(b"x", b"a\r\nY: b")]), piece()], ArgumentError),
    ([start(headers=[(b"x", b"\0")]), piece()], ArgumentError),
    ([start(headers=[(b"x y", b"1")]), piece()], ArgumentError),
    ([start(headers=[(b"x", b"1", b"2")]), piece()], ArgumentTypeError),
    ([start(headers=5), piece()], ArgumentTypeError),
    ([start(), piece("text")], ArgumentTypeError),
    ([start(), piece(None)], ArgumentTypeError),
    ([start(headers=[(b"content-length", b"5")]), piece(b"abc")], ArgumentError),
    ([start(headers=[(b"content-length", b"x")]), piece(b"abc")], ArgumentError),
    ([start()], StateError),
    ([], StateError),
]


@pytest.mark.parametrize(("messages", "fault"), BAD)
def test_what_cannot_be_sent_raises_and_is_500(serve: Serve, messages: Any, fault: Any) -> None:
    gateway = serve(sending(*messages), starts=False)
    answer = gateway.ask()
    assert (answer.status, "y" in answer.fields) == (500, False)
    assert type(gateway.take_faults()[0]) is fault


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([start(), piece(b"a", True)], StateError),
        ([start(), piece(b"a", True), piece("text", True)], ArgumentTypeError),
        (
            [start(headers=[(b"content-length", b"2")]), piece(b"a", True), piece()],
            LocalProtocolError,
        ),
        ([start(headers=[(b"content-length", b"2")]), piece(b"abc", True)], LocalProtocolError),
    ],
)
def test_a_response_that_is_not_whole_is_broken_off(
    serve: Serve, messages: Any, fault: Any
) -> None:
    gateway = serve(sending(*messages), starts=False)
    data = gateway.exchange(GET)
    assert b"0\r\n\r\n" not in data
    assert b"500" not in data
    assert type(gateway.take_faults()[0]) is fault


def test_what_is_sent_behind_the_end_raises_and_the_response_stands(serve: Serve) -> None:
    gateway = serve(sending(start(), piece(b"whole"), piece(b"more")), starts=False)
    assert gateway.ask().body == b"whole"
    assert isinstance(gateway.take_faults()[0], StateError)


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_only_listed_moves_are_legal(phase: Phase, step: Step) -> None:
    legal = {
        Phase.NOTHING: {Step.START},
        Phase.HEAD: {Step.PIECE, Step.LAST_PIECE, Step.FILE},
        Phase.BODY: {Step.PIECE, Step.LAST_PIECE},
        Phase.OVER: set(),
    }
    assert ((phase, step) in NEXT) == (step in legal[phase])


def test_an_application_that_raises_is_500_and_logged(serve: Serve, caplog: Any) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        raise KeyError("its own fault")

    gateway = serve(application, starts=False)
    assert gateway.ask().status == 500
    assert isinstance(gateway.take_faults()[0], KeyError)
    assert "its own fault" in caplog.text


def test_work_behind_the_response_holds_nobody_up(serve: Serve) -> None:
    """As the background tasks of frameworks do."""
    let_go = threading.Event()
    done = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(piece(b"x"))
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        await asyncio.to_thread(let_go.wait, PATIENCE_S)
        done.set()

    gateway = serve(application, starts=False)
    sock = gateway.connect()
    for _ in range(2):
        sock.sendall(GET)
        data = b""
        while not data.endswith(b"\r\n\r\nx"):
            data += sock.recv(65536)
    let_go.set()
    assert done.wait(PATIENCE_S)


def test_a_client_that_goes_is_told_and_the_call_goes_on(serve: Serve) -> None:
    heard: list[Any] = []
    over = threading.Event()
    begun = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        heard.append(await receive())
        begun.set()
        heard.append(await receive())
        heard.append(await receive())
        over.set()

    gateway = serve(application, starts=False)
    sock = gateway.connect()
    sock.sendall(GET)
    assert begun.wait(PATIENCE_S)
    sock.close()
    assert over.wait(PATIENCE_S)
    assert heard == [
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
        {"type": "http.disconnect"},
    ]
    gateway.stop()
    gateway.faults.clear()  # it has not answered a client that might still have listened


def test_sending_to_a_client_that_has_gone_raises_an_os_error(serve: Serve) -> None:
    raised: list[BaseException] = []
    over = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        try:
            while True:
                await send(piece(b"x" * 65536, True))
        except OSError as exc:
            raised.append(exc)
            over.set()
            raise RuntimeError("as frameworks do") from exc

    gateway = serve(application, starts=False)
    sock = gateway.connect()
    sock.sendall(GET)
    assert sock.recv(100)
    sock.close()
    assert over.wait(PATIENCE_S)
    assert isinstance(raised[0], ClientGone)


@pytest.mark.parametrize("status", [200, 204])
def test_an_endless_response_without_body_holds_up_nobody_and_ends_with_its_client(
    serve: Serve, status: int
) -> None:
    over = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/other":
            await send(start())
            await send(piece(b"answered"))
            return
        await send(start(status, []))
        try:
            while True:
                await send(piece(b"x", True))
        finally:
            over.set()

    gateway = serve(application, starts=False)
    sock = gateway.connect()
    sock.sendall(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" if status == 200 else GET)
    assert sock.recv(12) == b"HTTP/1.1 %d" % status
    assert gateway.ask("/other").body == b"answered"
    sock.close()
    assert over.wait(PATIENCE_S)


def test_who_receives_the_end_for_ever_holds_up_nobody(serve: Serve) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/other":
            await send(start())
            await send(piece(b"answered"))
            return
        await send(start())
        await send(piece(b"x"))
        while True:
            await receive()

    gateway = serve(application, starts=False)
    assert gateway.ask().body == b"x"
    assert gateway.ask("/other").body == b"answered"
    gateway.run(gateway.handler.shutdown(deadline_s=0))


def test_a_client_that_has_ended_its_side_can_still_be_answered(serve: Serve) -> None:
    heard: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        heard.append((await receive())["type"])
        await send(start())
        await send(piece(b"still "))

    sock = serve(application, starts=False).connect()
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    sock.shutdown(socket.SHUT_WR)
    assert read_to_end(sock).endswith(b"still ")
    assert heard == ["http.disconnect"]


def test_a_body_that_breaks_off_is_a_disconnect(serve: Serve) -> None:
    heard: list[Any] = []
    over = threading.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            heard.append(message["body"])
        with pytest.raises(ClientGone):
            await send(start())
        over.set()

    gateway = serve(application, starts=False)
    sock = gateway.connect()
    sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234")
    sock.close()
    assert over.wait(PATIENCE_S)
    assert b"".join(heard) in (b"", b"01234")


@pytest.mark.parametrize(
    ("how", "body", "status"),
    [
        ({}, b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefg\r\n", b"400"),
        ({"max_stream_bytes": 4}, b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", b"413"),
        ({"body_s": 0.05, "body_grace_s": 0.05}, b"Content-Length: 5\r\n\r\nab", b"408"),
    ],
)
def test_a_body_that_is_refused_is_answered_once(
    serve: Serve, how: Any, body: bytes, status: bytes
) -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "http.request":
            pass
        await send(start())
        await send(piece(b"a second answer"))

    gateway = serve(application, starts=False, **how)
    data = gateway.exchange(b"POST / HTTP/1.1\r\nHost: h\r\n" + body)
    assert data.count(b"HTTP/1.1") == 1
    assert data.startswith(b"HTTP/1.1 " + status)


def test_the_next_request_follows_a_body_that_nobody_receives(serve: Serve) -> None:
    gateway = serve(sending(start(), piece(b"x")), starts=False)
    data = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n01234"
    data += b"GET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert gateway.exchange(data).count(b"HTTP/1.1 200 OK") == 2
