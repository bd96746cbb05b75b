"""RpcTestClient: methods are called without a socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from evsvc import Rpc, RpcServer
from evsvc.core import EventBase, FakeClock, StateError
from evsvc.http import HttpServer
from evsvc.rpc import (
    EVRPC_CONTINUE,
    EVRPC_INPUT,
    CallFailed,
    JsonCodec,
    PayloadLimits,
    RemoteError,
    RpcErrorCode,
    RpcKind,
    Service,
)
from evsvc.rpc.errors import CallTimeout
from evsvc.testing import NothingHappened, RpcTestClient, run_for, run_until


@dataclass
class Number:
    """A number."""

    value: int


Double = Rpc("Double", Number, Number)
Count = Rpc("Count", Number, Number, kind=RpcKind.SERVER_STREAM)


class Calculator(Service):
    """What there is to be called."""

    double = Double


def double(call: Any, arg: object) -> None:
    if call.request.value < 0:
        raise CallFailed("too little", RpcErrorCode.INVALID_ARGUMENT, {"least": 0})
    call.done(Number(2 * call.request.value))


def test_a_reply_is_returned(rpc_server: RpcServer, rpc_client: RpcTestClient) -> None:
    rpc_server.register_rpc(Double, double)
    assert rpc_client.call(Double, Number(21)) == Number(42)


def test_what_a_handler_fails_with_is_raised(
    rpc_server: RpcServer, rpc_client: RpcTestClient
) -> None:
    rpc_server.register_rpc(Double, double)
    with pytest.raises(RemoteError, match="too little") as raised:
        rpc_client.call(Double, Number(-1))
    assert raised.value.code == RpcErrorCode.INVALID_ARGUMENT
    assert raised.value.details == {"least": 0}


def test_metadata_and_deadline_arrive(rpc_server: RpcServer, rpc_client: RpcTestClient) -> None:
    def look(call: Any, arg: object) -> None:
        seen.append((call.metadata.find("X-User"), call.deadline is not None))
        call.done(call.request)

    seen: list[object] = []
    rpc_server.register_rpc(Double, look)
    rpc_client.call(Double, Number(1), timeout_s=5.0, metadata=[("X-User", "you")])
    assert seen == [("you", True)]


def test_a_handler_that_never_answers_is_told(
    rpc_server: RpcServer, rpc_client: RpcTestClient
) -> None:
    rpc_server.register_rpc(Double, lambda call, arg: None)
    with pytest.raises(NothingHappened, match="a reply to Double"):
        rpc_client.call(Double, Number(1))
    with pytest.raises(CallTimeout):
        rpc_client.call(Double, Number(1), timeout_s=5.0)


def test_calls_that_got_no_reply_cost_no_connection(
    rpc_server: RpcServer, http_server: HttpServer
) -> None:
    def answer_even(call: Any, arg: object) -> None:
        if call.request.value % 2 == 0:
            call.done(call.request)

    rpc_server.register_rpc(Double, answer_even)
    with RpcTestClient(http_server, connections=1) as client:
        for value in (1, 3, 5):
            with pytest.raises(CallTimeout):
                client.call(Double, Number(value), timeout_s=5.0)
            with pytest.raises(NothingHappened):
                client.call(Double, Number(value))
            assert client.call(Double, Number(value + 1)) == Number(value + 1)


@pytest.mark.parametrize("away_s", [10.0, 60.0, 10_000.0])
def test_a_client_that_was_idle_for_long_calls_again(
    rpc_server: RpcServer,
    rpc_client: RpcTestClient,
    event_base: EventBase,
    fake_clock: FakeClock,
    away_s: float,
) -> None:
    rpc_server.register_rpc(Double, double)
    for _ in range(6):
        assert rpc_client.call(Double, Number(2)) == Number(4)
        run_for(event_base, away_s)
        assert rpc_client.call(Double, Number(2)) == Number(4)
        fake_clock.advance(away_s)


def test_calling_inside_a_callback_is_refused_and_nothing_is_sent(
    rpc_server: RpcServer, rpc_client: RpcTestClient
) -> None:
    def call_again(call: Any, arg: object) -> None:
        called.append(call.request)
        with pytest.raises(StateError, match="running already"):
            rpc_client.call(Double, Number(2))
        call.done(call.request)

    called: list[Number] = []
    rpc_server.register_rpc(Double, call_again)
    assert rpc_client.call(Double, Number(1)) == Number(1)
    assert called == [Number(1)]


def test_closing_gives_up_the_calls_and_ends_the_connections(
    rpc_server: RpcServer, http_server: HttpServer, event_base: EventBase
) -> None:
    held: list[Any] = []
    heard: list[object] = []
    rpc_server.register_rpc(Double, lambda call, arg: held.append(call))
    client = RpcTestClient(http_server)
    for value in range(2):
        client.pool.make_request(
            Double, Number(value), lambda status, asked, reply, arg: heard.append(status)
        )
    run_until(event_base, lambda: len(held) == 2)
    assert http_server.connection_count == 2
    client.close()
    client.close()
    for call in held:
        call.done(call.request)
    run_until(event_base, lambda: not http_server.connection_count)
    assert heard == []


def test_stubs_and_streams_go_by_the_pool(
    rpc_server: RpcServer, rpc_client: RpcTestClient, event_base: EventBase
) -> None:
    def count(stream: Any, arg: object) -> None:
        for value in range(stream.request.value):
            stream.send(Number(value))
        stream.end()

    rpc_server.register_rpc(Double, double)
    rpc_server.register_stream(Count, count)
    got: list[Any] = []
    Calculator(rpc_client.pool).double(
        Number(4), lambda status, asked, reply, arg: got.append(reply)
    )
    rpc_client.pool.open_stream(
        Count,
        lambda status, asked, reply, arg: got.append(status.cause),
        request=Number(3),
        on_message=lambda stream, message, arg: got.append(message.value),
    )
    run_until(event_base, lambda: len(got) == 5)
    assert Number(8) in got
    assert [each for each in got if each != Number(8)] == [0, 1, 2, None]


def test_as_many_calls_are_under_way_as_there_are_connections_and_one_more_waits(
    rpc_server: RpcServer, http_server: HttpServer, event_base: EventBase
) -> None:
    held: list[Any] = []
    replies: list[Any] = []
    rpc_server.register_rpc(Double, lambda call, arg: held.append(call))
    with RpcTestClient(http_server, connections=2) as client:
        for value in range(3):
            client.pool.make_request(
                Double, Number(value), lambda status, asked, reply, arg: replies.append(reply)
            )
        run_for(event_base, 10.0)
        assert [call.request.value for call in held] == [0, 1]
        assert client.pool.queued_calls == 1
        held[0].done(Number(10))
        run_until(event_base, lambda: len(held) == 3)
        for call in held[1:]:
            call.done(Number(10))
        run_until(event_base, lambda: len(replies) == 3)
    assert replies == [Number(10)] * 3


def test_hooks_and_the_codec_s_limits_are_real(http_server: HttpServer) -> None:
    def look(call: Any, request: Any, body: Any, arg: object) -> object:
        seen.append(len(body))
        return EVRPC_CONTINUE

    seen: list[int] = []
    codec = JsonCodec(PayloadLimits(max_payload_bytes=len(b'{"value":123}')))
    server = RpcServer(http_server, codec=codec)
    server.add_hook(EVRPC_INPUT, look)
    server.register_rpc(Double, lambda call, arg: call.done(call.request))
    with RpcTestClient(http_server, codec=JsonCodec()) as client:
        assert client.call(Double, Number(123)) == Number(123)
        with pytest.raises(RemoteError):
            client.call(Double, Number(1234))
    assert seen == [13, 14]


def test_another_codec_is_spoken(rpc_server: RpcServer, http_server: HttpServer) -> None:
    rpc_server.register_rpc(Double, double)
    with RpcTestClient(http_server, codec=JsonCodec(), connections=1) as client:
        assert client.call(Double, Number(3)) == Number(6)
        assert len(client.pool.connections) == 1
