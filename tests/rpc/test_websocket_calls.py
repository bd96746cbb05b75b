"""Calls that share a WebSocket: in any order, each with its own credit, end and faults.

What holds of calls by whatever way is tested by the modules that run over all of them.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from evsvc.core import EventBase, FakeClock
from evsvc.core.errors import ArgumentError, ArgumentTypeError, StateError
from evsvc.http import (
    ClientOptions,
    Ending,
    HttpRequest,
    HttpServer,
    ReaderLimits,
    ServerRequest,
    SessionExchange,
)
from evsvc.http.errors import (
    BodyTooLong,
    ConnectFailed,
    ConnectionClosed,
    LocalProtocolError,
    RequestTimeout,
)
from evsvc.http.websocket import WebSocketOptions, WsConnection, accept, connect
from evsvc.rpc import (
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_UNSTARTED,
    CallNotStarted,
    ClientStream,
    Health,
    HealthRequest,
    MethodOptions,
    MsgpackCodec,
    RemoteError,
    Rpc,
    RpcErrorCode,
    RpcPool,
    RpcServer,
    ServerCall,
    ServerStream,
    Serving,
    StreamOptions,
)
from evsvc.rpc.websocket import (
    SUBPROTOCOL,
    WEBSOCKET_PATH,
    RpcWebSocketOptions,
    add_endpoint,
    client,
    serve,
)
from evsvc.rpc.websocket.client import ClientSocket
from evsvc.rpc.websocket.client_request import CarriedClientRequest
from evsvc.rpc.websocket.flow import FIRST_CREDIT
from evsvc.rpc.websocket.frames import Kind
from evsvc.rpc.websocket.outbox import Outbox
from evsvc.rpc.websocket.outgoing import Outgoing
from evsvc.rpc.websocket.server import ServerSocket
from evsvc.rpc.websocket.server_request import CarriedServerRequest
from tests.core.tls_ends import contexts, issue, server_context_for
from tests.rpc.adding import Add, AddCall, AddReply, AddRequest, Caller, handle_add
from tests.rpc.conftest import Loop, freed_by_themselves
from tests.rpc.test_streams import Chat, Count, Item, ItemStream, Listener, Sum, count, echo
from tests.rpc.test_websocket_frames import HEAD, begun, outgoing

Echo = Rpc("Echo", Item, Item)


@pytest.fixture
def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}{WEBSOCKET_PATH}"


@pytest.fixture
def make_pool(base: EventBase, server: RpcServer, url: str) -> Iterator[Callable[..., RpcPool]]:
    """Return a function that makes a pool with a WebSocket to the server, which serves by then."""
    pools: list[RpcPool] = []

    def make(
        options: RpcWebSocketOptions | None = None,
        server_options: RpcWebSocketOptions | None = None,
        **how: Any,
    ) -> RpcPool:
        if not pools:
            serve(server, options=server_options)
        pools.append(RpcPool(base, timeout=500.0))
        add_endpoint(pools[-1], url, options, **how)
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def pool(make_pool: Callable[..., RpcPool]) -> RpcPool:
    return make_pool()


@pytest.fixture
def held(server: RpcServer) -> list[AddCall]:
    """Return the calls of Add, which nobody answers but the test."""
    calls: list[AddCall] = []
    server.register_rpc(Add, lambda call, arg: calls.append(call))
    return calls


def test_calls_share_one_connection_and_end_in_any_order(
    pool: RpcPool, held: list[AddCall], loop: Loop, http_server: HttpServer
) -> None:
    caller = Caller(pool, loop)
    for number in range(100):
        caller.start(number, 0)
    loop.until(lambda: len(held) == 100)
    assert http_server.connection_count == 1
    order = [*range(99, 49, -1), *range(0, 50)]
    for number in order:
        handle_add(held[number], None)
    results = caller.finish()
    assert [result.request.left for result in results] == order
    assert all(result.reply == AddReply(result.request.left) for result in results)


def test_observers_are_told_of_each_call_when_it_is_over(
    pool: RpcPool,
    held: list[AddCall],
    loop: Loop,
    clock: FakeClock,
    http_server: HttpServer,
) -> None:
    told: list[SessionExchange] = []
    http_server.add_session_observer(told.append)
    caller = Caller(pool, loop)
    given_up = caller.start()
    caller.start()
    caller.start()
    pool.make_request(Rpc("Unknown", AddRequest, AddReply), AddRequest(1, 2), caller.keep)
    loop.until(lambda: len(held) == 3 and len(told) == 1)
    clock.advance(1.5)
    handle_add(held[1], None)
    held[2].fail("no")
    caller.finish(3)
    given_up.cancel()
    loop.until(lambda: len(told) == 4)
    assert [(each.request.path, each.status, each.duration_s, each.ending) for each in told] == [
        ("/.rpc.Unknown", 404, 0.0, Ending.WHOLE),
        ("/.rpc.Add", 200, 1.5, Ending.WHOLE),
        ("/.rpc.Add", 503, 1.5, Ending.WHOLE),
        ("/.rpc.Add", 0, 1.5, Ending.BROKEN_OFF),
    ]
    http_server.remove_session_observer(told.append)
    caller.start()
    loop.until(lambda: len(held) == 4)
    handle_add(held[3], None)
    caller.finish(4)
    assert len(told) == 4
    with pytest.raises(ArgumentError, match="not a session observer"):
        http_server.remove_session_observer(told.append)
    with pytest.raises(ArgumentTypeError, match="5"):
        http_server.add_session_observer(5)


def test_an_observer_that_raises_harms_no_call(
    pool: RpcPool, server: RpcServer, loop: Loop, base: EventBase, http_server: HttpServer
) -> None:
    def observer(exchange: SessionExchange) -> None:
        raise LookupError("no such table")

    raised: list[Exception] = []
    base.exception_handler = raised.append
    server.register_rpc(Add, handle_add)
    http_server.add_session_observer(observer)
    caller = Caller(pool, loop)
    assert caller.call().reply == caller.call().reply == AddReply(3)
    assert [str(each) for each in raised] == ["no such table"] * 2


@pytest.mark.parametrize("calls", [3, 4])
def test_a_client_has_no_more_under_way_than_max_calls(
    make_pool: Callable[..., RpcPool], held: list[AddCall], loop: Loop, calls: int
) -> None:
    pool = make_pool(RpcWebSocketOptions(max_calls=3))
    caller = Caller(pool, loop)
    for number in range(calls):
        caller.start(number, 0)
    loop.until(lambda: len(held) == 3)
    loop.settle()
    assert pool.queued_calls == calls - 3
    handle_add(held[1], None)
    caller.finish(1)
    loop.until(lambda: len(held) == calls)


@pytest.mark.parametrize("calls", [3, 4])
def test_a_server_answers_one_call_more_than_max_calls_with_a_refusal(
    make_pool: Callable[..., RpcPool],
    held: list[AddCall],
    loop: Loop,
    http_server: HttpServer,
    calls: int,
) -> None:
    told: list[SessionExchange] = []
    http_server.add_session_observer(told.append)
    caller = Caller(make_pool(None, RpcWebSocketOptions(max_calls=3)), loop)
    for number in range(calls):
        caller.start(number, 0)
    loop.until(lambda: len(held) == 3)
    loop.settle()
    if calls == 4:
        cause = caller.finish(1)[0].status.cause
        assert isinstance(cause, RemoteError)
        assert (cause.response_code, cause.code) == (503, RpcErrorCode.RESOURCE_EXHAUSTED)
        assert cause.text == "3 calls share the WebSocket already"
        assert [(each.request.path, each.status, each.ending) for each in told] == [
            ("/.rpc.Add", 503, Ending.REFUSED)
        ]
    for call in held:
        handle_add(call, None)
    assert [not result.status.error for result in caller.finish()].count(True) == 3


def echo_call(call: ServerCall[Item, Item], arg: object) -> None:
    call.done(call.request)


@pytest.mark.parametrize("size", [0, FIRST_CREDIT - 100, FIRST_CREDIT + 1, 1_000_000])
def test_a_call_of_any_length_goes_both_ways(
    server: RpcServer, pool: RpcPool, loop: Loop, size: int
) -> None:
    server.register_rpc(Echo, echo_call)
    got: list[Any] = []
    pool.make_request(Echo, Item(1, "x" * size), lambda *outcome: got.append(outcome))
    loop.until(lambda: got)
    assert got[0][2] == Item(1, "x" * size)


def test_a_short_call_overtakes_long_ones(server: RpcServer, pool: RpcPool, loop: Loop) -> None:
    server.register_rpc(Echo, echo_call)
    server.register_rpc(Add, handle_add)
    order: list[str] = []
    long = Item(1, "x" * 1_000_000)
    for _ in range(3):
        pool.make_request(Echo, long, lambda *outcome: order.append("long"))
    pool.make_request(Add, AddRequest(1, 2), lambda *outcome: order.append("short"))
    loop.until(lambda: len(order) == 4)
    assert order[0] == "short"


def test_a_stream_that_is_held_back_holds_up_no_other_call(
    server: RpcServer, make_pool: Callable[..., RpcPool], loop: Loop
) -> None:
    sent: list[int] = []

    def flood(stream: ItemStream, arg: object) -> None:
        while len(sent) < 300 and stream.send(Item(len(sent), "x" * 10_000)):
            sent.append(1)
        if len(sent) == 300 and not stream.answered:
            stream.end()

    def begin(stream: ItemStream, arg: object) -> None:
        stream.set_drained_cb(flood)
        flood(stream, None)

    def take_one(stream: ClientStream[Item, Item], item: Item, arg: object) -> None:
        listener.keep(stream, item, arg)
        stream.pause_messages()

    window_bytes, backlog_bytes = 100_000, 50_000
    pool = make_pool(RpcWebSocketOptions(call_window_bytes=window_bytes))
    options = StreamOptions(max_backlog_bytes=backlog_bytes)
    server.register_stream(Count, begin, stream_options=options)
    server.register_rpc(Add, handle_add)
    listener = Listener(pool, loop)
    stream = listener.open(Count, request=Item(0), on_message=take_one)
    loop.until(lambda: listener.numbers)
    loop.settle()
    most_bytes = window_bytes + backlog_bytes + 2 * 10_100
    assert len(sent) * 10_000 < most_bytes, "the server was not held back"
    assert Caller(pool, loop).call().reply == AddReply(3)
    while not listener.ended:
        stream.resume_messages()
        seen = len(listener.numbers)
        loop.until(lambda: len(listener.numbers) > seen or listener.ended)  # noqa: B023
    assert listener.numbers == list(range(300))


class FakeSocket:
    """A WebSocket whose output goes when the test says so."""

    def __init__(self) -> None:
        self.is_open = True
        self.unsent_bytes = 0
        self.frames: list[bytes] = []
        self.drainedcb: Any = None

    def send_binary(self, data: bytes) -> None:
        self.frames.append(data)
        self.unsent_bytes += len(data)

    def set_drainedcb(self, cb: Any, arg: object = None) -> None:
        self.drainedcb = cb

    def drain(self) -> None:
        self.unsent_bytes = 0
        if self.drainedcb is not None:
            self.drainedcb(self, None)


def longer(call_id: int, size: int) -> Outgoing:
    flow = begun(10 * FIRST_CREDIT)
    flow.credit = 10 * FIRST_CREDIT
    out = Outgoing(call_id, flow, None)
    out.begin(Kind.REPLY, HEAD)
    out.put(bytes(size))
    out.finish()
    return out


def test_little_waits_in_the_websocket_and_calls_take_turns() -> None:
    ws, outbox = FakeSocket(), Outbox(40_000)
    outbox.open(ws)  # type: ignore[arg-type]
    most = 0
    for call_id in (1, 2, 3):
        outbox.kick(longer(call_id, 100_000))
        most = max(most, ws.unsent_bytes)
    while ws.drainedcb is not None:
        ws.drain()
        most = max(most, ws.unsent_bytes)
    assert 40_000 <= most < 40_000 + 33_000
    turns = [frame[4] for frame in ws.frames]
    assert turns == [1, 1, 1, 2, 3, 1, 2, 3, 2, 3, 2, 3], "the first was alone at first"


def test_before_it_is_open_an_outbox_keeps_all_and_after_it_is_closed_nothing() -> None:
    ws, outbox = FakeSocket(), Outbox(40_000)
    outbox.kick(longer(1, 10))
    outbox.send_at_once(b"to nobody")
    outbox.open(ws)  # type: ignore[arg-type]
    assert len(ws.frames) == 1
    outbox.close()
    outbox.kick(longer(2, 10))
    assert (len(ws.frames), ws.drainedcb) == (1, None)


def test_who_waits_until_all_is_sent_is_told_once_it_has_gone() -> None:
    ws, outbox = FakeSocket(), Outbox(40_000)
    outbox.open(ws)  # type: ignore[arg-type]
    told: list[int] = []
    out, _ = outgoing(credit=5)
    out.begin(Kind.REPLY, HEAD)
    out.put(b"abcdefgh")
    out.on_sent = lambda: told.append(1)
    outbox.tell_when_sent(out)
    outbox.tell_when_sent(out)
    outbox.kick(out)
    ws.drain()
    assert told == [], "some of it waits for credit"
    out.flow.receive_credit(3)
    outbox.kick(out)
    assert told == []
    ws.drain()
    ws.drain()
    assert (told, ws.drainedcb) == ([1], None)


def break_off(calls: list[Any]) -> None:
    """Have the client's connection end without a word."""
    carrier = calls[0].connection.bufferevent
    carrier.socket.shutdown(socket.SHUT_RDWR)


def test_when_the_websocket_ends_so_do_its_calls_on_both_sides(
    pool: RpcPool, held: list[AddCall], loop: Loop, http_server: HttpServer
) -> None:
    gone: list[object] = []
    caller = Caller(pool, loop)
    caller.start()
    caller.start()
    loop.until(lambda: len(held) == 2)
    for call in held:
        call.on_cancel(lambda call, arg: gone.append(arg), "gone")
    break_off(held)
    first, second = caller.finish()
    for result in (first, second):
        assert isinstance(result.status.cause, ConnectionClosed)
        assert "the WebSocket has ended (1006)" in str(result.status.cause)
    loop.until(lambda: len(gone) == 2)
    assert [call.cancelled for call in held] == [True, True]
    assert held[0].connection is None
    handle_add(held[0], None)  # harmless
    caller.start()
    loop.until(lambda: len(held) == 3)  # on another WebSocket
    handle_add(held[2], None)
    assert caller.finish()[2].reply == AddReply(3)
    assert http_server.connection_count == 1


def test_every_call_of_a_websocket_that_ends_is_told_whatever_the_others_do(
    pool: RpcPool, held: list[AddCall], loop: Loop, http_server: HttpServer, base: EventBase
) -> None:
    gone: list[object] = []
    raised: list[BaseException] = []
    base.exception_handler = raised.append

    def fall(call: AddCall, arg: object) -> None:
        gone.append(call)
        raise LookupError("cancelled")

    caller = Caller(pool, loop)
    for _ in range(3):
        caller.start()
    loop.until(lambda: len(held) == 3)
    for call in held:
        call.on_cancel(fall)
    logging.disable()
    try:
        break_off(held)
        loop.until(lambda: len(gone) == 3)
    finally:
        logging.disable(logging.NOTSET)
    assert len(raised) == 3


def test_a_call_that_is_cancelled_is_told_and_leaves_the_others_alone(
    pool: RpcPool, held: list[AddCall], loop: Loop, http_server: HttpServer
) -> None:
    caller = Caller(pool, loop)
    calls = [caller.start(number, 0) for number in range(3)]
    loop.until(lambda: len(held) == 3)
    calls[1].cancel()
    loop.until(lambda: held[1].cancelled)
    for call in held:
        handle_add(call, None)
    results = caller.finish(2)
    loop.settle()
    assert [result.request.left for result in results] == [0, 2]
    assert http_server.connection_count == 1


def test_a_call_that_is_cancelled_before_it_is_sent_is_never_seen(
    pool: RpcPool, held: list[AddCall], loop: Loop
) -> None:
    caller = Caller(pool, loop)
    caller.start(0, 0).cancel()
    caller.start(1, 0)
    loop.until(lambda: held)
    loop.settle()
    assert [call.request.left for call in held] == [1]


def test_where_no_websocket_is_to_be_had_calls_go_elsewhere(
    base: EventBase, server: RpcServer, http_server: HttpServer, port: int, loop: Loop
) -> None:
    server.register_rpc(Add, handle_add)
    http_server.set_cb("/plain", lambda request, arg: request.send_reply(200, None, b"hello"))
    with socket.socket() as refusing, RpcPool(base, timeout=50.0) as pool:
        refusing.bind(("127.0.0.1", 0))
        for url in (
            f"ws://127.0.0.1:{refusing.getsockname()[1]}/",
            f"ws://127.0.0.1:{port}/plain",
            f"ws://127.0.0.1:{port}/nothing",
        ):
            add_endpoint(pool, url)
        pool.add_endpoint("127.0.0.1", port, priority=1)
        caller = Caller(pool, loop)
        for _ in range(10):
            caller.start()
        assert all(result.reply == AddReply(3) for result in caller.finish())
        assert [endpoint.failures for endpoint in pool.endpoints] == [1, 1, 1, 0]


def test_why_there_is_no_websocket_is_told(
    base: EventBase, http_server: HttpServer, port: int, loop: Loop
) -> None:
    with RpcPool(base, timeout=50.0) as pool:
        add_endpoint(pool, f"ws://127.0.0.1:{port}/nothing")
        cause = Caller(pool, loop).call().status.cause
    assert isinstance(cause, ConnectFailed)
    assert str(cause) == "no WebSocket: the answer is 404"


def test_a_server_that_speaks_another_protocol_is_left(
    base: EventBase, http_server: HttpServer, port: int, loop: Loop
) -> None:
    sessions: list[Any] = []
    http_server.set_cb("/ws", lambda request, arg: sessions.append(accept(request, print)))
    with RpcPool(base, timeout=50.0) as pool:
        add_endpoint(pool, f"ws://127.0.0.1:{port}/ws")
        cause = Caller(pool, loop).call().status.cause
        assert isinstance(cause, ConnectFailed)
        assert str(cause) == "the server does not speak evsvc-rpc.1"
        loop.until(lambda: sessions[0].close_code is not None)
        assert sessions[0].close_code == 1002


@pytest.mark.parametrize("subprotocols", [(), ("chat",), ("evsvc-rpc.2",)])
def test_a_client_that_offers_another_protocol_is_refused(
    base: EventBase, server: RpcServer, url: str, loop: Loop, subprotocols: tuple[str, ...]
) -> None:
    serve(server)
    outcome: list[Any] = []
    connect(base, url, print, lambda *got: outcome.append(got), subprotocols=subprotocols)
    loop.until(lambda: outcome)
    assert outcome[0][1].request.response_code == 400


@pytest.mark.parametrize(
    ("origins", "code"), [((), 403), (("http://a.example",), None), (None, None)]
)
def test_pages_of_others_may_call_only_where_they_are_named(
    base: EventBase, server: RpcServer, url: str, loop: Loop, origins: Any, code: int | None
) -> None:
    serve(server, origins=origins)
    outcome: list[Any] = []
    connect(
        base,
        url,
        print,
        lambda *got: outcome.append(got),
        subprotocols=(SUBPROTOCOL,),
        headers={"Origin": "http://a.example"},
    )
    loop.until(lambda: outcome)
    ws, error, _ = outcome[0]
    assert (None if error is None else error.request.response_code) == code
    if ws is not None:
        ws.close()
        loop.settle()


def test_a_server_that_stops_finishes_the_calls_under_way_and_begins_no_more(
    pool: RpcPool, held: list[AddCall], loop: Loop, http_server: HttpServer, server: RpcServer
) -> None:
    server.register_stream(Chat, echo)
    listener = Listener(pool, loop)
    stream = listener.open(Chat)
    stream.send(Item(1))
    caller = Caller(pool, loop)
    caller.start(1, 0)
    loop.until(lambda: held and listener.numbers)
    stopped: list[object] = []
    http_server.shutdown(stopped.append)
    caller.start(2, 0)  # before the client knows
    (late,) = caller.finish(1)
    assert late.request.left == 2
    assert isinstance(late.status.cause, ConnectFailed)
    caller.start(3, 0)
    assert isinstance(caller.finish(2)[1].status.cause, ConnectFailed)
    assert len(held) == 1
    handle_add(held[0], None)
    assert caller.finish(3)[2].reply == AddReply(1)
    loop.settle()
    assert not stopped
    stream.send(Item(2))
    stream.end()
    assert listener.finish()[0].error == EVRPC_STATUS_ERR_NONE
    assert listener.numbers == [1, 2]
    loop.until(lambda: stopped)
    assert http_server.connection_count == 0


def test_a_stop_with_a_limit_ends_the_calls_that_are_left(
    pool: RpcPool, held: list[AddCall], loop: Loop, http_server: HttpServer
) -> None:
    caller = Caller(pool, loop)
    caller.start()
    loop.until(lambda: held)
    stopped: list[object] = []
    http_server.shutdown(stopped.append, deadline_s=3.0)
    assert isinstance(caller.finish()[0].status.cause, ConnectionClosed)
    loop.until(lambda: stopped)
    assert held[0].cancelled


def test_calls_of_a_virtual_host_are_finished_when_its_server_stops(
    base: EventBase, http_server: HttpServer, url: str, loop: Loop
) -> None:
    held: list[AddCall] = []
    host = HttpServer(base)
    http_server.add_virtual_host("127.0.0.1", host)
    with RpcServer(host) as server, RpcPool(base, timeout=50.0) as pool:
        server.register_rpc(Add, lambda call, arg: held.append(call))
        serve(server)
        add_endpoint(pool, url)
        caller = Caller(pool, loop)
        caller.start()
        loop.until(lambda: held)
        stopped: list[object] = []
        http_server.shutdown(stopped.append)
        loop.settle()
        assert not stopped
        handle_add(held[0], None)
        assert caller.finish()[0].reply == AddReply(3)
        loop.until(lambda: stopped)


def test_an_idle_websocket_ends_with_a_servers_stop(
    pool: RpcPool, server: RpcServer, loop: Loop, http_server: HttpServer
) -> None:
    server.register_rpc(Add, handle_add)
    assert Caller(pool, loop).call().reply == AddReply(3)
    stopped: list[object] = []
    http_server.shutdown(stopped.append)
    loop.until(lambda: stopped)


def test_a_methods_calls_at_once_are_limited_as_by_http(
    pool: RpcPool, server: RpcServer, loop: Loop
) -> None:
    calls: list[AddCall] = []
    options = MethodOptions(max_concurrent=1)
    server.register_rpc(Add, lambda call, arg: calls.append(call), options=options)
    caller = Caller(pool, loop)
    caller.start(1, 0)
    loop.until(lambda: calls)
    caller.start(2, 0)
    cause = caller.finish(1)[0].status.cause
    assert isinstance(cause, RemoteError)
    assert cause.code is RpcErrorCode.RESOURCE_EXHAUSTED
    handle_add(calls[0], None)
    assert caller.finish(2)[1].reply == AddReply(1)


def test_an_rpc_that_is_not_there_is_not_found(pool: RpcPool, loop: Loop) -> None:
    cause = Caller(pool, loop).call().status.cause
    assert isinstance(cause, RemoteError)
    assert (cause.response_code, cause.code) == (404, RpcErrorCode.UNIMPLEMENTED)
    assert cause.text == "there is no RPC Add"


def test_a_handler_knows_who_calls(pool: RpcPool, server: RpcServer, loop: Loop) -> None:
    seen: list[Any] = []

    def answer(call: AddCall, arg: object) -> None:
        request, connection = call.http_request, call.connection
        assert connection is not None
        assert (request.remote_host, request.remote_port) == connection.peer
        seen.append((request.client.address, request.peer_certificate, request.method))
        with pytest.raises(LocalProtocolError, match="no body to be taken"):
            request.set_body_cbs(print)
        handle_add(call, arg)
        with pytest.raises(LocalProtocolError, match="answered already"):
            request.send_reply(200)

    server.register_rpc(Add, answer)
    assert Caller(pool, loop).call().reply == AddReply(3)
    assert seen == [("127.0.0.1", None, "POST")]


def test_a_wss_url_speaks_tls(
    base: EventBase, server: RpcServer, http_server: HttpServer, loop: Loop
) -> None:
    server.register_rpc(Add, handle_add)
    serve(server)
    http_server.set_tls(server_context_for(issue("127.0.0.1")))
    url = f"wss://127.0.0.1:{http_server.bind_socket('127.0.0.1', 0).port}{WEBSOCKET_PATH}"
    with RpcPool(base, timeout=50.0) as pool:
        add_endpoint(pool, url)
        assert isinstance(Caller(pool, loop).call().status.cause, ConnectFailed)
    with RpcPool(base, timeout=50.0) as pool:
        add_endpoint(pool, url, tls=contexts()[0])
        assert Caller(pool, loop).call().reply == AddReply(3)
    loop.settle()


def test_a_share_carries_its_own_requests_until_it_is_closed(pool: RpcPool) -> None:
    (share,) = [lane.connection for lane in pool.endpoints[0].lanes]
    with pytest.raises(ArgumentTypeError, match="not a request for a WebSocket"):
        share.make_request(HttpRequest(), "POST", "/.rpc.Add")
    pool.close()
    share.close()
    with pytest.raises(StateError, match="closed"):
        share.make_request(CarriedClientRequest(), "POST", "/.rpc.Add")


def test_health_is_asked_the_same_way(pool: RpcPool, server: RpcServer, loop: Loop) -> None:
    server.serve_health()
    got: list[Any] = []
    pool.make_request(Health, HealthRequest(), lambda *outcome: got.append(outcome))
    loop.until(lambda: got)
    assert got[0][2].status is Serving.SERVING


@pytest.mark.parametrize("is_too_long", [False, True])
@pytest.mark.parametrize("text", ["x" * 100, "x" * 200_000])
def test_a_request_is_no_longer_than_a_body_may_be(
    pool: RpcPool,
    server: RpcServer,
    loop: Loop,
    http_server: HttpServer,
    text: str,
    is_too_long: bool,
) -> None:
    server.register_rpc(Echo, echo_call)
    item = Item(1, text)
    size = len(MsgpackCodec().encode(Echo.request_shape, item))
    http_server.set_max_body_size(size - is_too_long)
    got: list[Any] = []
    pool.make_request(Echo, item, lambda *outcome: got.append(outcome))
    loop.until(lambda: got)
    if is_too_long:
        cause = got[0][0].cause
        assert isinstance(cause, RemoteError)
        assert cause.response_code == 413
        assert cause.text == f"a request of more than {size - 1} bytes"
    else:
        assert got[0][2] == item
    assert http_server.service.bodies_bytes == 0


def test_requests_that_are_gathered_are_bounded_together(
    base: EventBase, server: RpcServer, loop: Loop, url: str, http_server: HttpServer
) -> None:
    http_server.service.set_options(replace(http_server.options, max_bodies_bytes=300_000))
    server.register_rpc(Echo, echo_call)
    serve(server)
    got: list[Any] = []
    with RpcPool(base, timeout=50.0) as pool:
        add_endpoint(pool, url)
        for _ in range(5):
            pool.make_request(Echo, Item(1, "x" * 200_000), lambda *outcome: got.append(outcome))
        loop.until(lambda: len(got) == 5)
    texts = {str(status.cause.text) for status, _, _, _ in got if status.error}
    assert texts == {"all requests together have more than 300000 bytes"}
    assert any(not status.error for status, _, _, _ in got)
    assert http_server.service.bodies_bytes == 0


@pytest.mark.parametrize("is_too_long", [False, True])
@pytest.mark.parametrize("text", ["x" * 100, "x" * 200_000])
def test_a_reply_is_no_longer_than_a_body_may_be(
    make_pool: Callable[..., RpcPool], server: RpcServer, loop: Loop, text: str, is_too_long: bool
) -> None:
    server.register_rpc(Echo, echo_call)
    server.register_rpc(Add, handle_add)
    item = Item(1, text)
    size = len(MsgpackCodec().encode(Echo.request_shape, item))
    limits = ReaderLimits(max_body_bytes=size - is_too_long)
    pool = make_pool(client_options=ClientOptions(limits=limits))
    got: list[Any] = []
    pool.make_request(Echo, item, lambda *outcome: got.append(outcome))
    loop.until(lambda: got)
    if is_too_long:
        assert isinstance(got[0][0].cause, BodyTooLong)
    else:
        assert got[0][2] == item
    assert Caller(pool, loop).call().reply == AddReply(3)


def test_metadata_that_are_too_long_end_their_call_alone(
    make_pool: Callable[..., RpcPool], server: RpcServer, loop: Loop, caplog: Any
) -> None:
    def answer(call: AddCall, arg: object) -> None:
        if call.request.left:
            call.reply_metadata.add("Long", "x" * 500)
        handle_add(call, arg)

    server.register_rpc(Add, answer)
    limits = RpcWebSocketOptions(max_head_bytes=400)
    caller = Caller(make_pool(limits, limits), loop)
    with caplog.at_level(logging.CRITICAL):
        caller.start(1, 0)
        cause = caller.finish(1)[0].status.cause
    assert isinstance(cause, RemoteError)
    assert (cause.text, cause.code) == ("the reply is too long", RpcErrorCode.INTERNAL)
    got: list[Any] = []
    metadata = [("Long", "x" * 500)]
    caller.pool.make_request(Add, AddRequest(0, 0), lambda *out: got.append(out), metadata=metadata)
    loop.until(lambda: got)
    assert got[0][0].error == EVRPC_STATUS_ERR_UNSTARTED
    assert isinstance(got[0][0].cause, CallNotStarted)
    caller.start(0, 7)
    assert caller.finish(2)[1].reply == AddReply(7)


def test_a_peer_that_is_dead_is_found_by_its_silence(
    base: EventBase, http_server: HttpServer, port: int, loop: Loop
) -> None:
    sessions: list[WsConnection] = []

    def take(request: ServerRequest, arg: object) -> None:
        ws = accept(request, print, subprotocols=(SUBPROTOCOL,))
        assert ws is not None
        ws.pause()  # and so it answers no ping
        sessions.append(ws)

    http_server.set_cb("/ws", take)
    limits = RpcWebSocketOptions(websocket=WebSocketOptions(ping_s=3.0, pong_s=2.0))
    began = base.now
    with RpcPool(base, timeout=50.0) as pool:
        add_endpoint(pool, f"ws://127.0.0.1:{port}/ws", limits)
        cause = Caller(pool, loop).call().status.cause
    assert isinstance(cause, ConnectionClosed)
    assert base.now - began == pytest.approx(5.0, abs=0.5)


@pytest.mark.parametrize("silence_s", [9.0, 11.0])
def test_a_server_may_be_silent_about_a_call_for_so_long(
    make_pool: Callable[..., RpcPool],
    server: RpcServer,
    base: EventBase,
    loop: Loop,
    silence_s: float,
) -> None:
    cancelled: list[object] = []

    def answer(call: AddCall, arg: object) -> None:
        timer = base.timer(lambda fd, what, arg: handle_add(call, arg))
        timer.add(silence_s)
        call.on_cancel(lambda call, arg: cancelled.append(timer.close()))

    server.register_rpc(Add, answer)
    caller = Caller(make_pool(client_options=ClientOptions(read_s=10.0)), loop)
    status = caller.call().status
    if silence_s < 10:
        assert not status.error
    else:
        assert isinstance(status.cause, RequestTimeout)
        loop.until(lambda: cancelled)


def test_a_callback_that_raises_ends_its_call_alone(
    pool: RpcPool, held: list[AddCall], loop: Loop, base: EventBase, caplog: Any
) -> None:
    raised: list[BaseException] = []
    base.exception_handler = raised.append

    def fall(*outcome: object) -> None:
        raise LookupError("mine")

    pool.make_request(Add, AddRequest(1, 2), fall)
    caller = Caller(pool, loop)
    caller.start()
    loop.until(lambda: len(held) == 2)
    with caplog.at_level(logging.CRITICAL):
        for call in held:
            handle_add(call, None)
        assert caller.finish()[0].reply == AddReply(3)
    assert [str(exc) for exc in raised] == ["mine"]


def close_pool(pool: RpcPool) -> None:
    pool.close()


def remove_endpoint(pool: RpcPool) -> None:
    if pool.endpoints:
        pool.remove_endpoint(pool.endpoints[0])


@pytest.mark.parametrize(("action", "ended"), [(close_pool, 1), (remove_endpoint, 3)])
@pytest.mark.parametrize("is_broken", [False, True])
def test_a_callback_may_do_anything_to_the_pool(
    pool: RpcPool, held: list[AddCall], loop: Loop, action: Any, ended: int, is_broken: bool
) -> None:
    """After a reply, and when the WebSocket has ended under all calls."""

    class ActingCaller(Caller):
        def keep(self, *args: Any) -> None:
            super().keep(*args)
            action(self.pool)

    caller = ActingCaller(pool, loop)
    for _ in range(3):
        caller.start()
    loop.until(lambda: len(held) == 3)
    if is_broken:
        break_off(held)
    else:
        for call in held:
            handle_add(call, None)
    caller.finish(ended)
    loop.settle()
    assert len(caller.results) == ended
    assert all(bool(result.status.error) is is_broken for result in caller.results)


@pytest.mark.parametrize("rpc", [Add, Chat])
def test_a_handler_may_close_the_http_server(
    server: RpcServer, http_server: HttpServer, pool: RpcPool, loop: Loop, rpc: Any
) -> None:
    handled: list[Any] = []

    def close(call: Any, arg: object) -> None:
        http_server.close()
        handled.append(call)
        if rpc is Add:
            handle_add(call, arg)
        else:
            call.end()

    if rpc is Add:
        server.register_rpc(Add, close)
        cause = Caller(pool, loop).call().status.cause
    else:
        server.register_stream(Chat, close)
        listener = Listener(pool, loop)
        listener.open(Chat).send(Item(1))
        cause = listener.cause()
    assert isinstance(cause, ConnectionClosed)
    assert handled[0].cancelled


def test_numbers_that_are_used_up_begin_another_websocket(
    pool: RpcPool, held: list[AddCall], loop: Loop, monkeypatch: Any, http_server: HttpServer
) -> None:
    monkeypatch.setattr(client, "MAX_CALL_ID", 2)
    caller = Caller(pool, loop)
    for number in range(5):
        caller.start(number, 0)
    loop.until(lambda: len(held) == 5)
    assert http_server.connection_count == 3
    for call in held:
        handle_add(call, None)
    assert all(not result.status.error for result in caller.finish())
    loop.until(lambda: http_server.connection_count == 1)


def test_a_path_is_taken_away_with_its_server_and_open_websockets_live_on(
    pool: RpcPool, server: RpcServer, loop: Loop, http_server: HttpServer, url: str
) -> None:
    server.register_rpc(Add, handle_add)
    caller = Caller(pool, loop)
    assert caller.call().reply == AddReply(3)
    server.close()
    cause = caller.call().status.cause
    assert isinstance(cause, RemoteError)
    assert cause.response_code == 404
    with RpcServer(http_server) as another:
        serve(another)
        with pytest.raises(ArgumentError, match="websocket"):
            serve(another)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1/", {}),
        ("ws://127.0.0.1/#x", {}),
        ("ws://127.0.0.1/", {"weight": 0}),
        ("nonsense", {}),
    ],
)
def test_what_is_no_endpoint_raises_at_once(base: EventBase, url: str, options: Any) -> None:
    with RpcPool(base) as pool, pytest.raises(ArgumentError):
        add_endpoint(pool, url, **options)


def test_a_removed_endpoint_completes_its_calls_and_closes(
    pool: RpcPool, held: list[AddCall], loop: Loop, http_server: HttpServer
) -> None:
    caller = Caller(pool, loop)
    caller.start(1, 0)
    caller.start(2, 0)
    loop.until(lambda: len(held) == 2)
    pool.remove_endpoint(pool.endpoints[0])
    handle_add(held[1], None)
    assert caller.finish(1)[0].reply == AddReply(2)
    handle_add(held[0], None)
    assert caller.finish(2)[1].reply == AddReply(1)
    loop.until(lambda: http_server.connection_count == 0)


def run_in_every_way(pool: RpcPool, server: RpcServer, loop: Loop) -> None:
    """Have calls and streams that go well, fail, are cancelled, time out, and are left."""
    listener = Listener(pool, loop)
    server.register_stream(Count, count)
    server.register_stream(Chat, echo)
    server.register_stream(Sum, lambda stream, arg: stream.fail("no"))
    server.register_rpc(Add, handle_add)
    server.register_rpc(Echo, lambda call, arg: None)

    def finish() -> None:
        listener.finish()
        listener.ended.clear()
        listener.numbers.clear()

    assert Caller(pool, loop).call().reply == AddReply(3)
    listener.open(Count, request=Item(300))
    finish()
    stream = listener.open(Chat)
    stream.send(Item(1, "x" * 200_000))
    stream.end()
    finish()
    listener.open(Sum)
    finish()
    listener.open(Chat, timeout_s=1.0)
    finish()
    stream = listener.open(Chat)
    stream.send(Item(1))
    loop.until(lambda: listener.numbers)
    stream.cancel()
    pool.make_request(Echo, Item(1), lambda *outcome: None, timeout_s=1.0)
    listener.open(Chat)
    loop.settle()


def test_ended_calls_and_websockets_are_freed_without_the_cyclic_collector(
    base: EventBase, server: RpcServer, url: str, loop: Loop
) -> None:
    kinds = (
        ClientSocket,
        ServerSocket,
        CarriedClientRequest,
        CarriedServerRequest,
        ClientStream,
        ServerStream,
        ServerCall,
        WsConnection,
    )
    serve(server)
    with freed_by_themselves(*kinds):
        with RpcPool(base) as pool:
            add_endpoint(pool, url)
            run_in_every_way(pool, server, loop)
        del pool
        loop.settle()
