"""The server against raw sockets: what is answered, and that the connection lives on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, EventBase, StateError
from evsvc.http import HttpServer
from evsvc.rpc import (
    MsgpackCodec,
    PayloadError,
    PayloadLimits,
    Rpc,
    RpcKind,
    RpcServer,
    ServerCall,
)


@dataclass
class AddRequest:
    left: int
    right: int


@dataclass
class AddReply:
    total: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    total: int


@dataclass
class Text:
    text: str


@dataclass
class Nest:
    inner: list[Nest] = field(default_factory=list)


Add = Rpc("Add", AddRequest, AddReply)
Echo = Rpc("Echo", Text, Text)
AddCall = ServerCall[AddRequest, AddReply]

SOUND = b"\x82\xa4left\x01\xa5right\x02"
SOUND_REQUEST = (
    b"POST /.rpc.Add HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(SOUND) + SOUND
)
SUM = {"total": 3, "notes": []}


def explanation(answer: Any) -> str:
    text: str = json.loads(answer.body)["message"]
    return text


def handle_add(call: AddCall, arg: object) -> None:
    call.reply.total = call.request.left + call.request.right
    call.done()


def handle_echo(call: ServerCall[Text, Text], arg: object) -> None:
    call.done(call.request)


def assert_serves_on(peer: Any) -> None:
    """The connection lives on: a sound call on it is answered."""
    answer = peer.post("Add", SOUND)
    assert (answer.code, msgpack.unpackb(answer.body)) == (200, SUM)


def test_a_sound_call_is_answered_with_the_reply(server: RpcServer, peer: Any) -> None:
    server.register_rpc(Add, handle_add)
    answer = peer.post("Add", SOUND)
    assert answer.code == 200
    assert answer.headers["content-type"] == "application/msgpack"
    assert msgpack.unpackb(answer.body) == SUM


def test_the_handler_gets_the_call_and_its_arg(server: RpcServer, peer: Any) -> None:
    seen: list[object] = []

    def handler(call: AddCall, arg: object) -> None:
        seen.append((call.rpc, call.request, arg, call.http_request.method, call.finished))
        call.done(AddReply(0))
        seen.append(call.finished)

    server.register_rpc(Add, handler, "arg")
    peer.post("Add", SOUND)
    assert seen == [(Add, AddRequest(1, 2), "arg", "POST", False), True]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "the request has no body"),
        (b"garbage", "6 bytes follow the message"),
        (b"\xc1", "the payload is not MessagePack: "),
        (SOUND + b"\x00", "1 bytes follow the message"),
        (SOUND[:-1], "the payload ends inside a value"),
        (b"\x91" * 5000, "the payload is nested too deeply"),
        (b"\x81\xa4left\x01", "AddRequest.right: is missing"),
        (b"\x82\xa4left\x01\xa5right\xa12", "AddRequest.right: expected int, got str"),
        (b"\x82\xa4left\x01\xa5right\xc3", "AddRequest.right: expected int, got bool"),
        (b"\x82\xa4left\x01\xa5other\x02", "AddRequest.right: is missing"),
    ],
)
def test_a_bad_payload_is_503_with_its_reason_and_the_connection_lives_on(
    server: RpcServer, peer: Any, caplog: pytest.LogCaptureFixture, body: bytes, text: str
) -> None:
    """Garbage POST to the RPC's path is 503."""
    server.register_rpc(Add, handle_add)
    with caplog.at_level(logging.INFO, "evsvc.rpc"):
        answer = peer.post("Add", body)
    assert answer.code == 503
    assert explanation(answer).startswith(text)
    assert answer.body.endswith(b"\n")
    assert answer.headers["content-type"] == "application/json"
    records = [record for record in caplog.records if record.name == "evsvc.rpc"]
    assert [record.levelno for record in records] == [logging.INFO]
    assert text in records[0].getMessage()
    assert_serves_on(peer)


def test_every_change_of_one_byte_is_answered_on_the_same_connection(
    server: RpcServer, peer: Any
) -> None:
    server.register_rpc(Add, handle_add)
    codes = set()
    for position in range(len(SOUND)):
        for byte in (0x00, 0x7F, 0x81, 0xC1, 0xDF, 0xFF):
            body = bytearray(SOUND)
            body[position] = byte
            codes.add(peer.post("Add", bytes(body)).code)
    assert codes == {200, 503}
    assert_serves_on(peer)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_than_post_is_503(server: RpcServer, peer: Any, method: str) -> None:
    server.register_rpc(Add, handle_add)
    answer = peer.post("Add", SOUND, method)
    text = f"a call is made by POST, not {method}"
    assert (answer.code, explanation(answer)) == (503, text)
    assert_serves_on(peer)


def test_payloads_are_bounded(http_server: HttpServer, peer: Any) -> None:
    codec = MsgpackCodec(PayloadLimits(max_payload_bytes=500))
    server = RpcServer(http_server, codec=codec)
    server.register_rpc(Echo, handle_echo)
    server.register_rpc(Add, handle_add)
    overhead_bytes = len(b"\x81\xa4text\xda\x00\x00")
    largest = msgpack.packb({"text": "x" * (500 - overhead_bytes)})
    assert len(largest) == 500
    answer = peer.post("Echo", largest)
    assert (answer.code, answer.body) == (200, largest)
    answer = peer.post("Echo", msgpack.packb({"text": "x" * (501 - overhead_bytes)}))
    assert answer.code == 503
    assert explanation(answer) == "501 payload bytes are more than the limit of 500"
    assert_serves_on(peer)


def test_by_default_a_mebibyte_is_the_limit(server: RpcServer, peer: Any) -> None:
    server.register_rpc(Echo, handle_echo)
    server.register_rpc(Add, handle_add)
    overhead_bytes = len(b"\x81\xa4text\xdb\x00\x00\x00\x00")
    text = "x" * (1024 * 1024 - overhead_bytes)
    assert peer.post("Echo", msgpack.packb({"text": text})).code == 200
    assert peer.post("Echo", msgpack.packb({"text": text + "x"})).code == 503
    assert_serves_on(peer)


def test_nesting_is_bounded(server: RpcServer, peer: Any) -> None:
    nested = Rpc("Nested", Nest, Text)

    def handler(call: ServerCall[Nest, Text], arg: object) -> None:
        call.done(Text("deep"))

    server.register_rpc(nested, handler)
    server.register_rpc(Add, handle_add)
    deepest = b"\x81\xa5inner\x91" * 31 + b"\x81\xa5inner\x90"
    assert peer.post("Nested", deepest).code == 200
    answer = peer.post("Nested", b"\x81\xa5inner\x91" + deepest)
    assert answer.code == 503
    assert explanation(answer).endswith("nested deeper than the limit of 64 levels")
    assert_serves_on(peer)


def test_done_may_come_much_later(base: EventBase, server: RpcServer, peer: Any) -> None:
    def handler(call: AddCall, arg: object) -> None:
        timer = base.timer(finish, call)
        timer.add(60.0)
        timers.append(timer)

    def finish(fd: int, what: int, call: AddCall) -> None:
        handle_add(call, None)

    timers: list[Any] = []
    server.register_rpc(Add, handler)
    assert_serves_on(peer)
    assert len(timers) == 1


def test_a_call_is_finished_once(server: RpcServer, peer: Any) -> None:
    calls: list[AddCall] = []

    def handler(call: AddCall, arg: object) -> None:
        handle_add(call, None)
        calls.append(call)

    server.register_rpc(Add, handler)
    assert_serves_on(peer)
    with pytest.raises(StateError, match="already finished"):
        calls[0].done()
    with pytest.raises(StateError, match="already finished"):
        calls[0].fail("too late")
    assert_serves_on(peer)


async def awaited(call: AddCall, arg: object) -> None: ...


@pytest.mark.parametrize(("handler", "why"), [(None, "None"), (awaited, r"evsvc\.aio\.handler")])
def test_what_is_no_handler_is_refused(server: RpcServer, handler: Any, why: str) -> None:
    watch = Rpc("Watch", AddRequest, AddReply, kind=RpcKind.SERVER_STREAM)
    for register, rpc in ((server.register_rpc, Add), (server.register_stream, watch)):
        with pytest.raises(ArgumentTypeError, match=f"the handler of {rpc.name} .*{why}"):
            register(rpc, handler)
    assert not server.methods


def test_the_handler_may_choose_the_content_type(server: RpcServer, peer: Any) -> None:
    def handler(call: AddCall, arg: object) -> None:
        call.http_request.output_headers.add("Content-Type", "application/vnd.msgpack")
        handle_add(call, arg)

    server.register_rpc(Add, handler)
    assert peer.post("Add", SOUND).headers["content-type"] == "application/vnd.msgpack"


def test_a_whole_reply_may_be_given_or_assigned(server: RpcServer, peer: Any) -> None:
    def give(call: ServerCall[AddRequest, Frozen], arg: object) -> None:
        call.done(Frozen(7))

    def assign(call: ServerCall[AddRequest, Frozen], arg: object) -> None:
        call.reply = Frozen(8)
        call.done()

    server.register_rpc(Rpc("Give", AddRequest, Frozen), give)
    server.register_rpc(Rpc("Assign", AddRequest, Frozen), assign)
    assert msgpack.unpackb(peer.post("Give", SOUND).body) == {"total": 7}
    assert msgpack.unpackb(peer.post("Assign", SOUND).body) == {"total": 8}


def test_a_handler_may_fail_a_call_with_a_text(server: RpcServer, peer: Any) -> None:
    def handler(call: AddCall, arg: object) -> None:
        call.http_request.output_headers.add("Content-Type", "image/png")
        call.fail("no numbers today: \u00e9\ud800")

    server.register_rpc(Add, handler)
    answer = peer.post("Add", SOUND)
    assert (answer.code, explanation(answer)) == (503, "no numbers today: é\ud800")
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda call: None, "AddReply.total: is not set"),
        (lambda call: setattr(call.reply, "total", "3"), "AddReply.total: expected int, got str"),
        (lambda call: setattr(call, "reply", Frozen(3)), "AddReply: expected AddReply, got Frozen"),
    ],
)
def test_an_improper_reply_raises_in_the_program_and_is_503_to_the_peer(
    base: EventBase,
    server: RpcServer,
    peer: Any,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[AddCall], object],
    reason: str,
) -> None:
    raised = []

    def handler(call: AddCall, arg: object) -> None:
        change(call)
        try:
            call.done()
        except PayloadError as exc:
            raised.append(str(exc))
        with pytest.raises(StateError):
            call.done(AddReply(1))

    server.register_rpc(Add, handler)
    answer = peer.post("Add", SOUND)
    assert (answer.code, explanation(answer)) == (503, "the server made no proper reply")
    assert raised == [reason]
    records = [record for record in caplog.records if record.name == "evsvc.rpc"]
    assert [(record.levelno, reason in record.getMessage()) for record in records] == [
        (logging.ERROR, True)
    ]
    server.unregister_rpc(Add)
    server.register_rpc(Add, handle_add)
    assert_serves_on(peer)


@pytest.mark.parametrize("finish_first", [False, True])
def test_what_a_handler_raises_goes_on_and_the_peer_is_answered(
    base: EventBase, server: RpcServer, make_peer: Callable[[], Any], finish_first: bool
) -> None:
    raised: list[BaseException] = []
    base.exception_handler = raised.append

    def handler(call: AddCall, arg: object) -> None:
        if finish_first:
            handle_add(call, arg)
        raise ZeroDivisionError("a secret of the program")

    server.register_rpc(Add, handler)
    answer = make_peer().post("Add", SOUND)
    assert [type(exc) for exc in raised] == [ZeroDivisionError]
    if finish_first:
        assert (answer.code, msgpack.unpackb(answer.body)) == (200, SUM)
    else:
        assert (answer.code, explanation(answer)) == (503, "the handler failed")
    server.unregister_rpc(Add)
    server.register_rpc(Add, handle_add)
    assert_serves_on(make_peer())


def test_without_exception_handler_it_is_logged_and_the_peer_is_answered(
    server: RpcServer, peer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(call: AddCall, arg: object) -> None:
        raise ZeroDivisionError

    server.register_rpc(Add, handler)
    assert peer.post("Add", SOUND).code == 503
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        ZeroDivisionError
    ]


def leave(peer: Any, loop: Any, call: AddCall) -> None:
    peer.close()
    loop.settle()


def reset(peer: Any, loop: Any, call: AddCall) -> None:
    peer.reset()
    loop.until(lambda: call.http_request.connection is None)


@pytest.mark.parametrize("go", [leave, reset])
@pytest.mark.parametrize("finish", [handle_add, lambda call, arg: call.fail("nobody listens")])
def test_finishing_after_the_peer_left_is_harmless(
    server: RpcServer,
    make_peer: Callable[[], Any],
    loop: Any,
    go: Callable[[Any, Any, AddCall], None],
    finish: Callable[[AddCall, object], None],
) -> None:
    calls: list[AddCall] = []
    server.register_rpc(Add, lambda call, arg: calls.append(call))
    peer = make_peer()
    peer.send(SOUND_REQUEST)
    loop.until(lambda: calls)
    go(peer, loop, calls[0])
    finish(calls[0], None)
    loop.settle()
    with pytest.raises(StateError):
        calls[0].done()
    server.unregister_rpc(Add)
    server.register_rpc(Add, handle_add)
    assert_serves_on(make_peer())


def test_a_name_is_registered_once(server: RpcServer, peer: Any) -> None:
    server.register_rpc(Add, handle_add)
    with pytest.raises(ArgumentError, match=r"callback already: '/\.rpc\.Add'"):
        server.register_rpc(Rpc("Add", Text, Text), handle_echo)
    assert_serves_on(peer)


def test_an_unregistered_name_is_not_found_and_may_be_registered_again(
    server: RpcServer, peer: Any
) -> None:
    server.register_rpc(Add, handle_add)
    server.unregister_rpc(Add)
    assert peer.post("Add", SOUND).code == 404
    with pytest.raises(ArgumentError, match="'Add' is not registered"):
        server.unregister_rpc(Add)
    server.register_rpc(Add, handle_add)
    assert_serves_on(peer)


def test_close_unregisters_everything(server: RpcServer, peer: Any) -> None:
    server.register_rpc(Add, handle_add)
    server.register_rpc(Echo, handle_echo)
    server.close()
    server.close()
    assert peer.post("Add", SOUND).code == 404
    assert peer.post("Echo", SOUND).code == 404


def test_a_handler_may_unregister_itself(server: RpcServer, peer: Any) -> None:
    def handler(call: AddCall, arg: object) -> None:
        server.unregister_rpc(Add)
        handle_add(call, arg)

    server.register_rpc(Add, handler)
    assert_serves_on(peer)
    assert peer.post("Add", SOUND).code == 404


def test_a_handler_may_close_the_http_server(
    server: RpcServer, http_server: HttpServer, peer: Any, loop: Any
) -> None:
    calls: list[AddCall] = []

    def handler(call: AddCall, arg: object) -> None:
        http_server.close()
        handle_add(call, arg)
        calls.append(call)

    server.register_rpc(Add, handler)
    peer.send(SOUND_REQUEST)
    loop.until(lambda: calls)
    assert calls[0].finished
