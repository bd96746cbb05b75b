"""What a server chooses by: the codec, hooks, the limits of a method, the codes of errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, EventBase, FakeClock, StateError
from evsvc.http import HttpServer
from evsvc.rpc import (
    EVRPC_CONTINUE,
    EVRPC_INPUT,
    EVRPC_OUTPUT,
    EVRPC_PAUSE,
    EVRPC_TERMINATE,
    CallFailed,
    DefinitionError,
    EvtagCodec,
    JsonCodec,
    MethodOptions,
    MsgpackCodec,
    Rpc,
    RpcErrorCode,
    RpcServer,
    ServerCall,
)
from tests.rpc.adding import Add, handle_add
from tests.rpc.conftest import Answer

MSGPACK = b"\x82\xa4left\x01\xa5right\x02"
JSON = b'{"left": 1, "right": 2}'
EVTAG = bytes.fromhex("010101020102")


class Asker:
    """Posts calls of Add with fields of its own."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer

    def send(self, body: bytes, *fields: str, name: str = "Add") -> None:
        head = f"POST /.rpc.{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        self.peer.send((head + "".join(f"{each}\r\n" for each in fields) + "\r\n").encode() + body)

    def ask(self, body: bytes, *fields: str, name: str = "Add") -> Answer:
        self.send(body, *fields, name=name)
        answer: Answer = self.peer.read()
        return answer


@pytest.fixture
def asker(peer: Any) -> Asker:
    return Asker(peer)


@pytest.fixture
def every(http_server: HttpServer) -> Iterator[RpcServer]:
    with RpcServer(http_server, codec=[MsgpackCodec(), JsonCodec(), EvtagCodec()]) as server:
        server.register_rpc(Add, handle_add)
        yield server


@pytest.mark.parametrize(
    ("content_type", "body", "reply_type", "reply"),
    [
        ("application/msgpack", MSGPACK, "application/msgpack", b"\x81\xa5total\x03"),
        ("application/json", JSON, "application/json", b'{"total":3}'),
        ("Application/JSON; charset=utf-8", JSON, "application/json", b'{"total":3}'),
        ("application/octet-stream", EVTAG, "application/octet-stream", b"\x01\x01\x03"),
        (None, EVTAG, "application/octet-stream", b"\x01\x01\x03"),
    ],
)
def test_the_content_type_picks_the_codec(
    every: RpcServer,
    asker: Asker,
    content_type: str | None,
    body: bytes,
    reply_type: str,
    reply: bytes,
) -> None:
    fields = [] if content_type is None else [f"Content-Type: {content_type}"]
    answer = asker.ask(body, *fields)
    found = (answer.code, answer.headers["content-type"], answer.body)
    assert found == (200, reply_type, reply)


def test_without_libevents_codec_the_first_one_reads_what_says_nothing(
    server: RpcServer, asker: Asker
) -> None:
    server.register_rpc(Add, handle_add)
    for fields in ([], ["Content-Type: application/octet-stream"]):
        answer = asker.ask(MSGPACK, *fields)
        assert (answer.code, answer.headers["content-type"]) == (200, "application/msgpack")


def test_a_type_that_no_codec_has_is_415_and_the_connection_lives_on(
    server: RpcServer, asker: Asker
) -> None:
    server.register_rpc(Add, handle_add)
    answer = asker.ask(JSON, "Content-Type: application/x-www-form-urlencoded")
    assert answer.code == 415
    failure = json.loads(answer.body)
    assert failure["code"] == "UNIMPLEMENTED"
    assert "application/json" in failure["message"]
    assert asker.ask(MSGPACK).code == 200


def test_codecs_are_one_or_more_of_different_types(http_server: HttpServer) -> None:
    for codecs in ([], [JsonCodec(), JsonCodec()]):
        with pytest.raises(ArgumentError):
            RpcServer(http_server, codec=codecs)


@dataclass
class Ratio:
    value: float


def test_what_a_codec_does_not_carry_is_found_when_it_is_registered(every: RpcServer) -> None:
    with pytest.raises(DefinitionError, match=r"^Ratio\.value: "):
        every.register_rpc(Rpc("Halve", Ratio, Ratio), lambda call, arg: None)


def test_a_handler_answers_with_a_code_and_details(server: RpcServer, asker: Asker) -> None:
    def fails(call: ServerCall[Any, Any], arg: object) -> None:
        call.fail("no such number", RpcErrorCode.NOT_FOUND, {"number": 1})

    def raises(call: ServerCall[Any, Any], arg: object) -> None:
        raise CallFailed("too many", RpcErrorCode.RESOURCE_EXHAUSTED)

    server.register_rpc(Add, fails)
    server.register_rpc(Rpc("Other", Add.request_type, Add.reply_type), raises)
    answer = asker.ask(MSGPACK)
    assert answer.code == 503
    assert json.loads(answer.body) == {
        "code": "NOT_FOUND",
        "message": "no such number",
        "details": {"number": 1},
    }
    other = json.loads(asker.ask(MSGPACK, name="Other").body)
    assert other == {"code": "RESOURCE_EXHAUSTED", "message": "too many"}


def test_details_that_are_no_json_raise_and_the_call_can_still_be_answered(
    server: RpcServer, asker: Asker
) -> None:
    def handler(call: ServerCall[Any, Any], arg: object) -> None:
        with pytest.raises(ArgumentTypeError, match="details"):
            call.fail("no", details=object())
        call.done(Add.reply_type(4))

    server.register_rpc(Add, handler)
    assert asker.ask(MSGPACK).body == b"\x81\xa5total\x04"


def test_a_handler_knows_its_callers_deadline_and_metadata(
    server: RpcServer, asker: Asker, base: EventBase
) -> None:
    seen = []

    def handler(call: ServerCall[Any, Any], arg: object) -> None:
        left = None if call.deadline is None else round(call.deadline - base.now, 3)
        seen.append((left, call.metadata.find("Colour")))
        call.reply_metadata.add("Mood", "good")
        call.done(Add.reply_type(1))

    server.register_rpc(Add, handler)
    answer = asker.ask(MSGPACK, "Rpc-Timeout: 1.5", "Colour: red")
    assert answer.headers["mood"] == "good"
    for text in ("-1", "1e3", "nan", "", "1" * 400):
        asker.ask(MSGPACK, f"Rpc-Timeout: {text}")
    assert seen == [(1.5, "red")] + [(None, None)] * 5


def test_a_method_is_limited_in_calls_at_once_and_in_size(
    server: RpcServer, asker: Asker, http_server: HttpServer, base: EventBase, loop: Any
) -> None:
    held: list[ServerCall[Any, Any]] = []
    limits = MethodOptions(max_concurrent=1, max_request_bytes=len(MSGPACK))
    server.register_rpc(Add, lambda call, arg: held.append(call), None, limits)
    asker.send(MSGPACK)
    loop.until(lambda: held)
    port = http_server.bound_sockets[0].port
    other = Asker(type(asker.peer)(base, loop, port))
    refused = other.ask(MSGPACK)
    assert (refused.code, json.loads(refused.body)["code"]) == (503, "RESOURCE_EXHAUSTED")
    held.pop().done(Add.reply_type(1))
    assert asker.peer.read().code == 200
    too_long = asker.ask(MSGPACK + b"\0")
    assert json.loads(too_long.body)["code"] == "RESOURCE_EXHAUSTED"
    other.send(MSGPACK)
    loop.until(lambda: held)
    other.peer.reset()  # the caller goes: its place is free again
    loop.until(lambda: held[0].cancelled)
    asker.send(MSGPACK)
    loop.until(lambda: len(held) == 2)
    held.pop().done(Add.reply_type(1))
    assert asker.peer.read().code == 200
    other.peer.close()


@pytest.mark.parametrize("name", ["max_concurrent", "max_request_bytes"])
def test_a_limit_of_a_method_is_positive(name: str) -> None:
    with pytest.raises(ArgumentError, match=name):
        MethodOptions(**{name: 0})


def test_hooks_see_the_bytes_in_their_order_and_may_change_them(
    server: RpcServer, asker: Asker
) -> None:
    order: list[object] = []

    def rewrite(call: Any, request: Any, body: Any, arg: object) -> int:
        order.append((arg, bytes(body)))
        data = body.remove()
        body.add(data.replace(b"\x02", b"\x05") if arg == "in" else data.replace(b"\x06", b"\x07"))
        return EVRPC_CONTINUE

    def look(call: Any, request: Any, body: Any, arg: object) -> None:
        order.append((arg, bytes(body)))
        assert call.connection is not None
        if arg == "in 2":
            request.input_headers.add("Seen", "yes")
            call.meta["key"] = b"a\0b"
        else:
            assert call.meta["key"] == b"a\0b"
            request.output_headers.add("Seen-Too", "yes")

    def handler(call: ServerCall[Any, Any], arg: object) -> None:
        order.append(call.http_request.input_headers.find("Seen"))
        handle_add(call, arg)

    server.register_rpc(Add, handler)
    server.add_hook(EVRPC_INPUT, rewrite, "in")
    server.add_hook(EVRPC_INPUT, look, "in 2")
    server.add_hook(EVRPC_OUTPUT, look, "out")
    server.add_hook(EVRPC_OUTPUT, rewrite, "out 2")
    answer = asker.ask(MSGPACK)
    assert (answer.body, answer.headers["seen-too"]) == (b"\x81\xa5total\x07", "yes")
    assert order == [
        ("in", MSGPACK),
        ("in 2", b"\x82\xa4left\x01\xa5right\x05"),
        "yes",
        ("out", b"\x81\xa5total\x06"),
        ("out 2", b"\x81\xa5total\x06"),
    ]


@pytest.mark.parametrize("kind", [EVRPC_INPUT, EVRPC_OUTPUT])
def test_a_hook_that_terminates_is_503_and_the_connection_lives_on(
    server: RpcServer, asker: Asker, kind: int
) -> None:
    server.register_rpc(Add, handle_add)
    hook = server.add_hook(kind, lambda *args: EVRPC_TERMINATE)
    answer = asker.ask(MSGPACK)
    assert (answer.code, json.loads(answer.body)["code"]) == (503, "ABORTED")
    server.remove_hook(hook)
    assert asker.ask(MSGPACK).code == 200
    with pytest.raises(ArgumentError, match="no hook"):
        server.remove_hook(hook)


def test_a_hook_pauses_a_call_and_the_hooks_behind_it_run_after_it(
    server: RpcServer, asker: Asker, base: EventBase
) -> None:
    pauses: list[object] = []
    behind: list[object] = []

    def pause(call: ServerCall[Any, Any], request: Any, body: Any, arg: object) -> int:
        pauses.append(arg)
        base.once(-1, 0x01, lambda *args: call.resume(EVRPC_CONTINUE), timeout=1.0)
        return EVRPC_PAUSE

    server.register_rpc(Add, handle_add)
    for kind in (EVRPC_INPUT, EVRPC_OUTPUT):
        server.add_hook(kind, pause, kind)
        server.add_hook(kind, lambda call, request, body, arg: behind.append(arg), kind)
    assert asker.ask(MSGPACK).body == b"\x81\xa5total\x03"
    assert pauses == behind == [EVRPC_INPUT, EVRPC_OUTPUT]


def test_a_paused_call_may_be_terminated_and_one_that_is_not_cannot_be_resumed(
    server: RpcServer, asker: Asker, loop: Any
) -> None:
    held: list[ServerCall[Any, Any]] = []

    def pause(call: ServerCall[Any, Any], request: Any, body: Any, arg: object) -> int:
        held.append(call)
        return EVRPC_PAUSE

    server.register_rpc(Add, handle_add)
    server.add_hook(EVRPC_INPUT, pause)
    asker.send(MSGPACK)
    loop.until(lambda: held)
    with pytest.raises(ArgumentError, match="7"):
        held[0].resume(7)
    held[0].resume(EVRPC_TERMINATE)
    assert asker.peer.read().code == 503
    with pytest.raises(StateError, match="not paused"):
        held[0].resume(EVRPC_CONTINUE)


def test_a_hook_that_raises_ends_its_call_alone(
    server: RpcServer, asker: Asker, base: EventBase, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []
    base.exception_handler = told.append
    server.register_rpc(Add, handle_add)
    hook = server.add_hook(EVRPC_INPUT, lambda *args: 1 / 0)  # type: ignore[arg-type, return-value]
    with caplog.at_level(logging.ERROR):
        assert asker.ask(MSGPACK).code == 503
    server.remove_hook(hook)
    assert asker.ask(MSGPACK).code == 200
    assert [type(each) for each in told] == [ZeroDivisionError]
    assert caplog.records[0].exc_info


def test_a_handler_that_raises_after_a_pause_ends_its_call_alone(
    server: RpcServer, asker: Asker, base: EventBase, clock: FakeClock, loop: Any
) -> None:
    told: list[BaseException] = []
    base.exception_handler = told.append
    held: list[ServerCall[Any, Any]] = []

    def pause(call: ServerCall[Any, Any], request: Any, body: Any, arg: object) -> int:
        held.append(call)
        return EVRPC_PAUSE

    server.register_rpc(Add, lambda call, arg: 1 // 0)
    server.add_hook(EVRPC_INPUT, pause)
    asker.send(MSGPACK)
    loop.until(lambda: held)
    held[0].resume(EVRPC_CONTINUE)
    answer = asker.peer.read()
    assert (answer.code, json.loads(answer.body)["code"]) == (503, "INTERNAL")
    assert [type(each) for each in told] == [ZeroDivisionError]


def test_hooks_have_a_kind_and_can_be_called(server: RpcServer) -> None:
    with pytest.raises(ArgumentError, match="5"):
        server.add_hook(5, lambda *args: None)
    with pytest.raises(ArgumentTypeError):
        server.add_hook(EVRPC_INPUT, None)  # type: ignore[arg-type]
