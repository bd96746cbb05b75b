"""What libevent's own tests of rpc insist on, with its sample messages and its wire format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import EvBuffer, EventBase
from evsvc.http import HttpConnection, HttpServer
from evsvc.rpc import (
    EVRPC_CONTINUE,
    EVRPC_INPUT,
    EVRPC_OUTPUT,
    EVRPC_PAUSE,
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    EvtagCodec,
    Rpc,
    RpcCall,
    RpcPool,
    RpcServer,
    RpcStatus,
    ServerCall,
    evtag,
    idl,
)
from evsvc.rpc.schema import message_shape
from tests.rpc.conftest import Loop, RawPeer

CLASSES: dict[str, Any] = idl.load(Path(__file__).with_name("sample.rpc"))
Msg, Kill, Run = CLASSES["msg"], CLASSES["kill"], CLASSES["run"]

Message: Rpc[Any, Any] = Rpc("Message", Msg, Kill)

SENT = Msg(from_name="niels", to_name="tester")
REPLY = Kill(weapon="dagger", action="wave around like an idiot")


def wield(call: ServerCall[Any, Any], arg: object) -> None:
    call.done(Kill(weapon="dagger", action="wave around like an idiot"))


class Calls:
    """Calls Message on a pool, and keeps the outcomes."""

    def __init__(self, pool: RpcPool, loop: Loop) -> None:
        self.pool = pool
        self.loop = loop
        self.outcomes: list[tuple[RpcStatus, Any, Any]] = []

    def keep(self, status: RpcStatus, request: Any, reply: Any, arg: object) -> None:
        self.outcomes.append((status, reply, arg))

    def make(self, arg: object = None) -> None:
        self.pool.make_request(Message, SENT, self.keep, arg)

    def wait(self, count: int = 1) -> list[tuple[RpcStatus, Any, Any]]:
        self.loop.until(lambda: len(self.outcomes) >= count)
        return self.outcomes


@pytest.fixture
def server(http_server: HttpServer) -> Iterator[RpcServer]:
    with RpcServer(http_server, codec=EvtagCodec()) as server:
        server.register_rpc(Message, wield)
        yield server


@pytest.fixture
def pool(base: EventBase, connect: Callable[[], HttpConnection]) -> Iterator[RpcPool]:
    with RpcPool(base, codec=EvtagCodec()) as pool:
        pool.add_connection(connect())
        yield pool


@pytest.fixture
def calls(server: RpcServer, pool: RpcPool, loop: Loop) -> Calls:
    return Calls(pool, loop)


def test_garbage_is_503(server: RpcServer, peer: RawPeer) -> None:
    assert peer.post("Message", b"Some bad data").code == 503


def test_a_get_is_503(server: RpcServer, peer: RawPeer) -> None:
    assert peer.post("Message", b"", method="GET").code == 503


def test_a_message_that_is_marshalled_by_hand_has_a_reply_to_unmarshal(
    server: RpcServer, peer: RawPeer
) -> None:
    body = EvBuffer()
    evtag.marshal_string(body, 1, "niels")
    evtag.marshal_string(body, 2, "tester")
    answer = peer.post("Message", body.remove())
    assert answer.code == 200
    reply = EvBuffer(answer.body)
    assert evtag.unmarshal_string(reply, 0x10121) == "dagger"
    assert evtag.unmarshal_string(reply, 2) == "wave around like an idiot"
    assert not len(reply)


def test_hooks_hand_headers_and_metadata_on_and_see_the_connection(
    server: RpcServer, pool: RpcPool, calls: Calls
) -> None:
    seen: list[object] = []

    def set_input(call: ServerCall[Any, Any], request: Any, body: object, arg: object) -> None:
        seen.append(call.connection is not None)
        request.input_headers.add("X-Hook", "input")

    def set_output(call: ServerCall[Any, Any], request: Any, body: object, arg: object) -> None:
        seen.append(call.connection is not None)
        request.output_headers.add("X-Hook", "output")

    def add_meta(call: RpcCall[Any, Any], request: Any, body: object, arg: object) -> None:
        seen.append(call.connection is not None)
        call.meta["meta"] = b"test\0"

    def find_meta(call: RpcCall[Any, Any], request: Any, body: object, arg: object) -> None:
        seen.append(call.connection is not None)
        seen.append(call.meta.get("meta"))
        seen.append(request.input_headers.find("X-Hook"))

    def handle(call: ServerCall[Any, Any], arg: object) -> None:
        seen.append(call.metadata.find("X-Hook"))
        wield(call, arg)

    server.unregister_rpc(Message)
    server.register_rpc(Message, handle)
    server.add_hook(EVRPC_INPUT, set_input)
    server.add_hook(EVRPC_OUTPUT, set_output)
    pool.add_hook(EVRPC_OUTPUT, add_meta)
    pool.add_hook(EVRPC_INPUT, find_meta)
    calls.make()
    assert calls.wait()[0][1] == REPLY
    assert seen == [True, True, "input", True, True, b"test\0", "output"]


def test_three_calls_one_after_the_other_one_of_them_made_by_hand(
    server: RpcServer, pool: RpcPool, calls: Calls
) -> None:
    for count in (1, 2):
        calls.make()
        calls.wait(count)
    RpcCall(pool, Message, SENT, calls.keep).start()
    assert [reply for _, reply, _ in calls.wait(3)] == [REPLY] * 3


def test_two_calls_at_once_on_one_connection_complete_in_their_order(
    server: RpcServer, calls: Calls
) -> None:
    calls.make("first")
    calls.make("second")
    assert [arg for _, _, arg in calls.wait(2)] == ["first", "second"]


def test_four_hooks_that_pause_are_resumed_by_timers(
    server: RpcServer, pool: RpcPool, calls: Calls, base: EventBase
) -> None:
    pauses: list[str] = []
    timers: list[object] = []

    def pause(call: Any, request: object, body: object, arg: str) -> object:
        pauses.append(arg)
        timer = base.timer(lambda fd, what, arg: call.resume(EVRPC_CONTINUE))
        timer.add(0.5)
        timers.append(timer)
        return EVRPC_PAUSE

    for kind in (EVRPC_INPUT, EVRPC_OUTPUT):
        server.add_hook(kind, pause, f"server {kind.name}")
        pool.add_hook(kind, pause, f"pool {kind.name}")
    calls.make()
    assert calls.wait()[0][0].error == EVRPC_STATUS_ERR_NONE
    assert pauses == [
        "pool EVRPC_OUTPUT",
        "server EVRPC_INPUT",
        "server EVRPC_OUTPUT",
        "pool EVRPC_INPUT",
    ]


def test_a_handler_that_never_replies_is_a_timeout_and_done_on_the_orphan_is_safe(
    server: RpcServer, pool: RpcPool, calls: Calls, base: EventBase, loop: Loop
) -> None:
    orphans: list[ServerCall[Any, Any]] = []
    server.unregister_rpc(Message)
    server.register_rpc(Message, lambda call, arg: orphans.append(call))
    pool.timeout = 1.0
    began = base.now
    calls.make()
    ((status, reply, _),) = calls.wait()
    assert (status.error, reply) == (EVRPC_STATUS_ERR_TIMEOUT, None)
    assert base.now - began == pytest.approx(1.0, abs=0.1)
    loop.settle()
    orphans[0].done(Kill(weapon="dagger", action="too late"))
    loop.settle()
    assert len(calls.outcomes) == 1


def test_a_message_with_a_thousand_nested_elements_goes_round_under_a_tag() -> None:
    sent = Msg(
        from_name="niels",
        to_name="phoenix",
        attack=Kill(weapon="feather", action="tickle", how_often=[0, 1, 2]),
        run=[
            Run(
                how="very fast but with some data in it",
                fixed_bytes=b"012345678901234567890123",
                notes=["this is my note", "pps"],
                large_number=0xDEAD0A0BCAFEBEEF,
                other_numbers=[0xDEAD0A0B, 0xBEEFCAFE],
            )
            for _ in range(1000)
        ],
    )
    codec, shape = EvtagCodec(), message_shape(Msg)
    buffer, payload = EvBuffer(), EvBuffer()
    evtag.marshal(buffer, 0xDEAF, codec.encode(shape, sent))
    assert evtag.unmarshal(buffer, payload) == 0xDEAF
    assert not len(buffer)
    assert codec.decode(shape, payload.remove()) == sent
