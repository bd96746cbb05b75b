"""One call from end to end: its reply, and every way in which there is none."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    LEV_OPT_CLOSE_ON_FREE,
    BufferEvent,
    ConnListener,
    EventBase,
)
from evsvc.http import HttpConnection, HttpServer, ServerRequest
from evsvc.rpc import (
    EVRPC_STATUS_ERR_BADPAYLOAD,
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    CallTimeout,
    MsgpackCodec,
    PayloadError,
    PayloadLimits,
    RemoteError,
    Rpc,
    RpcPool,
    RpcServer,
    ServerCall,
)
from tests.ports import held_port
from tests.rpc.adding import (
    Add,
    AddCall,
    AddReply,
    AddRequest,
    Caller,
    assert_serves_on,
    handle_add,
)

pytestmark = pytest.mark.every_carrier

Connect = Callable[[], HttpConnection]

MSGPACK = "application/msgpack"


@dataclass
class WrongReply:
    total: str


@dataclass
class Count:
    number: int


@dataclass
class Numbers:
    data: bytes


def test_a_call_gets_its_reply(server: RpcServer, caller: Caller) -> None:
    server.register_rpc(Add, handle_add)
    caller.start(40, 2, "arg")
    (result,) = caller.finish()
    assert result.reply == AddReply(42)
    assert (result.request, result.arg) == (AddRequest(40, 2), "arg")
    status = result.status
    assert (status.error, status.message, status.cause) == (EVRPC_STATUS_ERR_NONE, "", None)
    assert status.http_request is not None
    assert status.http_request.response_code == 200
    found = status.http_request.input_headers.find("Content-Type")
    assert found == "application/msgpack"


def test_the_server_sees_a_binary_post(server: RpcServer, caller: Caller) -> None:
    seen = []

    def handler(call: AddCall, arg: object) -> None:
        headers = call.http_request.input_headers
        seen.append((call.http_request.method, headers.find("Content-Type")))
        handle_add(call, arg)

    server.register_rpc(Add, handler)
    caller.call()
    assert seen == [("POST", "application/msgpack")]


@pytest.mark.http_alone
@pytest.mark.parametrize(
    ("code", "content_type", "body", "error", "message"),
    [
        (503, "text/plain; charset=utf-8", b"too\r\n busy\n", RemoteError, "503: too busy"),
        (503, "text/plain", b"\xff\x1b[0m\0", RemoteError, "503: \ufffd\ufffd[0m\ufffd"),
        (404, "text/html", b"<p>no</p>", RemoteError, "404"),
        (302, None, b"", RemoteError, "302"),
        (503, "application/json", b'{"code": 1, "message": "a"}', RemoteError, "503: a"),
        (503, "application/json", b'{"message": 1}', RemoteError, "503"),
        (503, "application/json", b"[" * 100_000, RemoteError, "503"),
        (200, "text/html", b"\x80", PayloadError, "the answer is text/html, not application/msg"),
        (201, "application/octet-stream", b"\x81\xa5total\x03", RemoteError, "201"),
        (200, MSGPACK, b"", PayloadError, "the payload ends inside a value"),
        (200, MSGPACK, b"\xc1", PayloadError, "the payload is not MessagePack"),
        (
            200,
            "application/msgpack",
            b"\x81\xa5total\xa13",
            PayloadError,
            "AddReply.total: expected int, got str",
        ),
        (200, MSGPACK, b"\x80", PayloadError, "AddReply.total: is missing"),
        (
            200,
            "application/msgpack",
            b"\x91" * 9000,
            PayloadError,
            "the payload is nested too deeply",
        ),
    ],
)
def test_an_answer_that_is_no_reply_is_badpayload_and_the_connection_lives_on(
    http_server: HttpServer,
    caller: Caller,
    code: int,
    content_type: str | None,
    body: bytes,
    error: type[Exception],
    message: str,
) -> None:
    """libevent too ends a 503 page as BADPAYLOAD."""
    ports = []

    def answer(request: ServerRequest, arg: object) -> None:
        ports.append(request.remote_port)
        if len(ports) == 2:
            request.output_headers.add("Content-Type", "application/octet-stream")
            request.send_reply(200, None, b"\x81\xa5total\x03")
            return
        if content_type is not None:
            request.output_headers.add("Content-Type", content_type)
        request.send_reply(code, None, body)

    http_server.set_cb(Add.path, answer)
    result = caller.call()
    assert (result.status.error, result.reply) == (EVRPC_STATUS_ERR_BADPAYLOAD, None)
    assert type(result.status.cause) is error
    assert message in result.status.message
    assert result.status.http_request is not None
    assert result.status.http_request.response_code == code
    assert_serves_on(caller)
    assert ports[0] == ports[1]


@pytest.mark.http_alone
def test_a_peers_explanation_is_shortened(http_server: HttpServer, caller: Caller) -> None:
    sizes_bytes = [1025, 1024, 1023]

    def answer(request: ServerRequest, arg: object) -> None:
        request.output_headers.add("Content-Type", "text/plain")
        request.send_reply(503, None, b"x" * sizes_bytes.pop())

    http_server.set_cb(Add.path, answer)
    for kept_bytes in (1023, 1024, 1024):
        cause = caller.call().status.cause
        assert isinstance(cause, RemoteError)
        assert (cause.response_code, len(cause.text)) == (503, kept_bytes)


def test_the_servers_reason_reaches_the_caller(server: RpcServer, caller: Caller) -> None:
    """One side's definition differs from the other's: both learn where."""
    other = Rpc("Add", WrongReply, AddReply)
    server.register_rpc(other, lambda call, arg: call.done(AddReply(1)))
    result = caller.call()
    assert result.status.error is EVRPC_STATUS_ERR_BADPAYLOAD
    assert result.status.message == "the server answered 503: WrongReply.total: is missing"


def test_a_reply_of_another_type_is_refused_by_the_client(
    server: RpcServer, caller: Caller
) -> None:
    other = Rpc("Add", AddRequest, WrongReply)
    server.register_rpc(other, lambda call, arg: call.done(WrongReply("3")))
    result = caller.call()
    assert result.status.error is EVRPC_STATUS_ERR_BADPAYLOAD
    assert result.status.message == "AddReply.total: expected int, got str"


def test_replies_are_bounded(
    base: EventBase, server: RpcServer, connect: Connect, loop: Any
) -> None:
    numbers = Rpc("Numbers", Count, Numbers)

    def handler(call: ServerCall[Count, Numbers], arg: object) -> None:
        call.done(Numbers(bytes(call.request.number)))

    overhead_bytes = len(b"\x81\xa4data\xc5\x00\x00")
    errors = []
    with RpcPool(base, codec=MsgpackCodec(PayloadLimits(max_payload_bytes=1000))) as pool:
        pool.add_connection(connect())
        server.register_rpc(numbers, handler)
        for number in (1000 - overhead_bytes, 1001 - overhead_bytes):
            pool.make_request(numbers, Count(number), lambda status, *rest: errors.append(status))
        loop.until(lambda: len(errors) == 2)
    assert [status.error for status in errors] == [
        EVRPC_STATUS_ERR_NONE,
        EVRPC_STATUS_ERR_BADPAYLOAD,
    ]
    assert errors[1].message == "1001 payload bytes are more than the limit of 1000"


def test_a_refused_connection_is_a_timeout_with_its_cause(base: EventBase, loop: Any) -> None:
    with held_port() as port, RpcPool(base) as pool:
        pool.add_connection(HttpConnection(base, None, "127.0.0.1", port))
        caller = Caller(pool, loop)
        result = caller.call()
        assert (result.status.error, result.reply) == (EVRPC_STATUS_ERR_TIMEOUT, None)
        assert isinstance(result.status.cause, ConnectionError)
        assert result.status.message
        assert caller.call().status.error is EVRPC_STATUS_ERR_TIMEOUT


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"junk\r\n\r\n"]
)
def test_an_http_failure_is_a_timeout_with_its_cause(
    base: EventBase, loop: Any, answer: bytes
) -> None:
    """libevent reports TIMEOUT whenever HTTP delivers nothing."""

    def accept(listener: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        bev.setcb(reply, hang_up, None)
        bev.enable(EV_READ)

    def reply(bev: BufferEvent, ctx: object) -> None:
        bev.disable(EV_READ)
        bev.write(answer)
        if not answer:
            bev.close()

    def hang_up(bev: BufferEvent, ctx: object) -> None:
        bev.close()

    listener = ConnListener.new_bind(
        base, accept, None, LEV_OPT_CLOSE_ON_FREE, 16, ("127.0.0.1", 0)
    )
    port = listener.socket.getsockname()[1]
    with RpcPool(base, timeout=5.0) as pool:
        pool.add_connection(HttpConnection(base, None, "127.0.0.1", port))
        result = Caller(pool, loop).call()
    listener.close()
    assert (result.status.error, result.reply) == (EVRPC_STATUS_ERR_TIMEOUT, None)
    assert result.status.cause is not None
    assert not isinstance(result.status.cause, CallTimeout)


def test_an_ill_typed_request_raises_at_the_call(caller: Caller, pool: RpcPool) -> None:
    with pytest.raises(PayloadError, match=r"^AddRequest\.right: expected int, got str$"):
        pool.make_request(Add, AddRequest(1, "2"), caller.keep)  # type: ignore[arg-type]
    with pytest.raises(PayloadError, match=r"^AddRequest: expected AddRequest, got AddReply$"):
        pool.make_request(Add, AddReply(1), caller.keep)  # type: ignore[misc]
    caller.loop.settle()
    assert caller.results == []


def test_the_request_is_sent_as_it_was_at_the_call(server: RpcServer, caller: Caller) -> None:
    server.register_rpc(Add, handle_add)
    request = AddRequest(1, 2)
    caller.pool.make_request(Add, request, caller.keep)
    request.left = 100
    caller.loop.until(lambda: caller.results)
    assert caller.results[0].reply == AddReply(3)
