"""Calls that share a connection: spread first, then pipelined; each has its own end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, EventBase, FakeClock
from evsvc.http import ClientOptions, HttpConnection, HttpServer, ServerOptions
from evsvc.rpc import (
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    CallTimeout,
    Rpc,
    RpcKind,
    RpcPool,
    RpcServer,
)
from evsvc.rpc.client.endpoints import Endpoint, choose
from tests.http.peers import Origin, response
from tests.rpc.adding import Add, AddReply, AddRequest, Caller, handle_add

Ask = Rpc("Ask", AddRequest, AddReply, idempotent=True)
Watch = Rpc("Watch", AddRequest, AddReply, kind=RpcKind.SERVER_STREAM)


@pytest.fixture
def make_pool(base: EventBase) -> Iterator[Callable[..., RpcPool]]:
    made: list[RpcPool] = []

    def make(most: int = 4, **options: Any) -> RpcPool:
        made.append(RpcPool(base, max_pipelined_calls=most, **options))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def pool(make_pool: Callable[..., RpcPool]) -> RpcPool:
    return make_pool()


@pytest.fixture
def caller(pool: RpcPool, loop: Any) -> Caller:
    return Caller(pool, loop)


@pytest.fixture
def origin(base: EventBase) -> Iterator[Origin]:
    made = Origin(base)
    yield made
    made.close()


@pytest.fixture
def held(server: RpcServer) -> list[Any]:
    """The calls that wait at the server to be answered."""
    calls: list[Any] = []
    server.register_rpc(Add, lambda call, arg: calls.append(call))
    return calls


def names(peer: Any) -> list[str]:
    """Return the targets of the requests that have come, each with a body."""
    peer.settle()
    peer.take()
    came = []
    while peer.received:
        line, fields = peer.read_head()
        peer.read_bytes(int(dict(fields)["Content-Length"]))
        came.append(line.split()[1])
    return came


def totals(caller: Caller) -> list[Any]:
    return [(result.arg, result.reply and result.reply.total) for result in caller.results]


@pytest.mark.parametrize("count", [4, 5])
def test_so_many_share_a_connection_and_one_more_waits(
    pool: RpcPool, caller: Caller, origin: Origin, count: int
) -> None:
    pool.add_endpoint("127.0.0.1", origin.port, max_connections=1)
    for _ in range(count):
        caller.start()
    peer = origin.accept()
    assert names(peer) == ["/.rpc.Add"] * 4
    assert pool.queued_calls == count - 4
    peer.send(response(status="503 Busy"))
    assert names(peer) == ["/.rpc.Add"] * (count - 4)


def test_by_default_none_do(base: EventBase, loop: Any, origin: Origin) -> None:
    with RpcPool(base) as pool:
        pool.add_endpoint("127.0.0.1", origin.port, max_connections=1)
        caller = Caller(pool, loop)
        caller.start()
        caller.start()
        assert names(origin.accept()) == ["/.rpc.Add"]
        assert pool.queued_calls == 1


@pytest.mark.parametrize("bad", [0, -1])
def test_the_number_is_positive(base: EventBase, bad: int) -> None:
    with pytest.raises(ArgumentError, match="max_pipelined_calls"):
        RpcPool(base, max_pipelined_calls=bad)


def test_it_is_a_number(base: EventBase) -> None:
    wrong: Any = 1.5
    with pytest.raises(ArgumentTypeError, match="max_pipelined_calls"):
        RpcPool(base, max_pipelined_calls=wrong)


def test_a_server_answers_each_with_its_own_reply(
    server: RpcServer, port: int, pool: RpcPool, caller: Caller, http_server: HttpServer
) -> None:
    server.register_rpc(Add, handle_add)
    pool.add_endpoint("127.0.0.1", port, max_connections=2)
    for number in range(100):
        caller.start(number, 1, number)
    caller.finish()
    assert sorted(totals(caller)) == [(number, number + 1) for number in range(100)]
    assert http_server.connection_count == 2


def test_a_reply_that_is_late_holds_up_those_behind_it(
    held: list[Any], port: int, pool: RpcPool, caller: Caller
) -> None:
    pool.add_endpoint("127.0.0.1", port, max_connections=1)
    for number in range(3):
        caller.start(number, 1, number)
    for number in range(3):
        caller.loop.settle()
        assert len(held) == number + 1, "the server has one of them in hand at a time"
        held[-1].done(AddReply(number))
    caller.finish()
    assert totals(caller) == [(number, number) for number in range(3)]


def test_calls_are_spread_over_connections_first(
    pool: RpcPool, caller: Caller, origin: Origin
) -> None:
    pool.add_endpoint("127.0.0.1", origin.port, max_connections=3)
    for _ in range(7):
        caller.start()
    peers = [origin.accept() for _ in range(3)]
    assert sorted(len(names(peer)) for peer in peers) == [2, 2, 3]


def test_a_connection_of_the_programs_pipelines(
    pool: RpcPool, caller: Caller, origin: Origin, base: EventBase
) -> None:
    options = ClientOptions(max_queued=2, read_s=7.0)
    with HttpConnection(base, None, "127.0.0.1", origin.port, options) as connection:
        pool.add_connection(connection)
        for _ in range(4):
            caller.start()
        assert names(origin.accept()) == ["/.rpc.Add"] * 4
        assert connection.options.read_s == 7.0
        pool.remove_connection(connection)


def test_a_stream_has_a_connection_for_itself(
    pool: RpcPool, caller: Caller, origin: Origin
) -> None:
    def open_stream() -> None:
        pool.open_stream(
            Watch, lambda *args: None, request=AddRequest(1, 2), on_message=lambda *args: None
        )

    pool.add_endpoint("127.0.0.1", origin.port, max_connections=2)
    open_stream()
    for _ in range(3):
        caller.start()
    first, second = origin.accept(), origin.accept()
    assert first.read_head()[0] == "POST /.rpc.Watch HTTP/1.1"
    assert names(second) == ["/.rpc.Add"] * 3
    open_stream()
    caller.start()
    assert pool.queued_calls == 2, "it waits for one without calls, and who comes later for it"
    second.send(response(status="503 Busy") * 3)
    assert second.read_head()[0] == "POST /.rpc.Watch HTTP/1.1"
    assert pool.queued_calls == 1


def test_a_call_that_is_given_up_costs_the_others_nothing(
    pool: RpcPool, caller: Caller, origin: Origin, base: EventBase
) -> None:
    pool.add_endpoint("127.0.0.1", origin.port, max_connections=1)
    calls = [caller.start(arg=number) for number in range(3)]
    peer = origin.accept()
    assert names(peer) == ["/.rpc.Add"] * 3
    calls[0].cancel()
    caller.start(arg=3)
    assert names(peer) == [], "nothing is sent behind what may take long"
    assert pool.queued_calls == 1
    peer.send(response(status="500 A") + response(status="501 B"))
    assert [(result.arg, result.status.message) for result in caller.results] == [
        (1, "the server answered 501")
    ]
    peer.send(response(status="502 C"))
    assert [result.arg for result in caller.results] == [1, 2]
    assert names(peer) == ["/.rpc.Add"]


def test_a_call_in_time_is_not_hurt_by_one_that_is_late(
    make_pool: Callable[..., RpcPool],
    held: list[Any],
    port: int,
    loop: Any,
    clock: FakeClock,
    http_server: HttpServer,
) -> None:
    pool = make_pool(timeout=9.0)
    caller = Caller(pool, loop)
    pool.add_endpoint("127.0.0.1", port, max_connections=1)
    pool.make_request(Add, AddRequest(1, 2), caller.keep, "late", timeout_s=2.0)
    caller.start(arg="in time")
    loop.settle()
    clock.advance(2.0)
    caller.finish(1)
    assert caller.results[0].arg == "late"
    assert caller.results[0].status.error == EVRPC_STATUS_ERR_TIMEOUT
    assert isinstance(caller.results[0].status.cause, CallTimeout)
    held[0].done(AddReply(0))
    loop.until(lambda: len(held) == 2)
    held[1].done(AddReply(3))
    caller.finish(2)
    assert caller.results[1].reply == AddReply(3)
    assert http_server.connection_count == 1


def test_when_all_are_given_up_the_connection_is_made_anew(
    make_pool: Callable[..., RpcPool], origin: Origin, loop: Any, clock: FakeClock
) -> None:
    pool = make_pool(timeout=2.0)
    caller = Caller(pool, loop)
    pool.add_endpoint("127.0.0.1", origin.port, max_connections=1)
    for _ in range(3):
        caller.start()
    peer = origin.accept()
    assert names(peer) == ["/.rpc.Add"] * 3
    clock.advance(2.0)
    caller.finish(3)
    assert peer.read_to_end() == b""
    caller.start()
    assert names(origin.accept()) == ["/.rpc.Add"]


def test_those_that_may_be_done_fail_or_go_again_if_they_may(
    pool: RpcPool, caller: Caller, origin: Origin, base: EventBase, clock: FakeClock
) -> None:
    pool.add_endpoint("127.0.0.1", origin.port, max_connections=1)
    caller.start(arg="first")
    caller.start(arg="lost")
    pool.make_request(Ask, AddRequest(1, 2), caller.keep, "again")
    peer = origin.accept()
    assert names(peer) == ["/.rpc.Add", "/.rpc.Add", "/.rpc.Ask"]
    peer.send(response(status="503 Busy"))
    peer.close()
    caller.loop.until(lambda: len(caller.results) == 2)
    assert [result.arg for result in caller.results] == ["first", "lost"]
    assert "may be done" not in caller.results[0].status.message
    clock.advance(1.0)
    assert names(origin.accept()) == ["/.rpc.Ask"]


def test_none_is_lost_where_a_server_ends_its_connections(
    base: EventBase, pool: RpcPool, caller: Caller
) -> None:
    """A server that closes after three answers says so: what came behind goes over the next."""
    done: list[int] = []

    def handle(call: Any, arg: object) -> None:
        done.append(call.request.left)
        call.done(AddReply(call.request.left))

    with HttpServer(base, ServerOptions(max_requests=3)) as http_server:
        RpcServer(http_server).register_rpc(Add, handle)
        pool.add_endpoint(
            "127.0.0.1", http_server.bind_socket("127.0.0.1", 0).port, max_connections=2
        )
        for number in range(50):
            caller.start(number, 0, number)
        caller.finish()
    assert sorted(totals(caller)) == [(number, number) for number in range(50)]
    assert sorted(done) == list(range(50)), "each was done once"
    assert all(result.status.error == EVRPC_STATUS_ERR_NONE for result in caller.results)


def test_calls_that_fail_together_eject_a_server_once(
    pool: RpcPool, caller: Caller, origin: Origin
) -> None:
    origin.stop()
    endpoint = pool.add_endpoint("127.0.0.1", origin.port, max_connections=1)
    for _ in range(4):
        caller.start()
    caller.finish()
    assert endpoint.failures == 1


def test_a_removed_endpoint_completes_all_its_calls(
    pool: RpcPool, caller: Caller, origin: Origin
) -> None:
    endpoint = pool.add_endpoint("127.0.0.1", origin.port, max_connections=1)
    for _ in range(3):
        caller.start()
    peer = origin.accept()
    assert len(names(peer)) == 3
    pool.remove_endpoint(endpoint)
    peer.send(response(status="503 Busy") * 2)
    assert peer.is_open()
    peer.send(response(status="503 Busy"))
    assert len(caller.results) == 3
    assert not peer.is_open()
    assert endpoint.lanes == []


def test_the_pools_end_forgets_them_all(
    make_pool: Callable[..., RpcPool], origin: Origin, loop: Any
) -> None:
    pool = make_pool()
    caller = Caller(pool, loop)
    pool.add_endpoint("127.0.0.1", origin.port, max_connections=1)
    calls = [caller.start() for _ in range(3)]
    peer = origin.accept()
    assert len(names(peer)) == 3
    pool.close()
    assert peer.read_to_end() == b""
    assert caller.results == []
    assert all(call.finished and call.lane is None for call in calls)


class TestRoom:
    @pytest.fixture
    def endpoint(self, base: EventBase) -> Endpoint:
        made: Any = object
        return Endpoint(base.timer(lambda *args: None), made, 2, max_pipelined=3)

    def fill(self, endpoint: Endpoint, count: int) -> list[Any]:
        lanes = []
        for _ in range(count):
            lane: Any = endpoint.take()
            lane.calls[endpoint.calls] = None
            lanes.append(lane)
        return lanes

    def test_for_calls_and_for_streams(self, endpoint: Endpoint) -> None:
        for taken in range(6):
            assert choose([endpoint]) is endpoint
            assert (choose([endpoint], True) is endpoint) == (taken < 2)
            self.fill(endpoint, 1)
        assert choose([endpoint]) is None

    def test_it_comes_back_with_each_call(self, endpoint: Endpoint) -> None:
        lanes = self.fill(endpoint, 6)
        for number, lane in enumerate(lanes, 1):
            del lane.calls[number]
            endpoint.give_back(lane)
            assert choose([endpoint]) is endpoint
        assert len(endpoint.idle) == 2
        assert endpoint.shared == []
        assert endpoint.calls == 0

    def test_a_clogged_connection_gets_none_until_it_is_empty(self, endpoint: Endpoint) -> None:
        first, second, *_ = self.fill(endpoint, 4)
        first.calls.popitem()
        endpoint.give_back(first, is_given_up=True)
        assert endpoint.shared == [second]
        first.calls.popitem()
        endpoint.give_back(first)
        assert endpoint.idle == [first]
        assert self.fill(endpoint, 2) == [first, first], "as any other"
        first.calls.popitem()
        endpoint.give_back(first)
        assert endpoint.shared == [second, first]
