"""How a pool shares calls out: order, connections, timeouts, limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evsvc.core import (
    ArgumentError,
    EventBase,
    FakeClock,
    StateError,
)
from evsvc.http import ClientOptions, HttpConnection
from evsvc.rpc import (
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    EVRPC_STATUS_ERR_UNSTARTED,
    CallNotStarted,
    CallTimeout,
    RpcPool,
    RpcServer,
)
from tests.rpc.adding import (
    Add,
    AddCall,
    AddReply,
    Caller,
    assert_serves_on,
    handle_add,
)

pytestmark = pytest.mark.every_carrier

Connect = Callable[[], HttpConnection]


def test_sequential_calls_share_one_connection(server: RpcServer, caller: Caller) -> None:
    ports = set()

    def handler(call: AddCall, arg: object) -> None:
        ports.add(call.http_request.remote_port)
        handle_add(call, arg)

    server.register_rpc(Add, handler)
    for _ in range(3):
        assert_serves_on(caller)
    assert len(ports) == 1


@pytest.mark.http_alone
def test_calls_made_at_once_on_one_connection_complete_in_order(
    server: RpcServer, caller: Caller, pool: RpcPool
) -> None:
    server.register_rpc(Add, handle_add)
    for number in range(5):
        caller.start(number, 0)
    assert pool.queued_calls == 4
    caller.finish()
    assert [result.reply for result in caller.results] == [AddReply(n) for n in range(5)]
    assert pool.queued_calls == 0


@pytest.mark.http_alone
def test_k_connections_are_k_calls_at_once(
    server: RpcServer, caller: Caller, pool: RpcPool, connect: Connect, loop: Any
) -> None:
    held: list[AddCall] = []
    server.register_rpc(Add, lambda call, arg: held.append(call))
    pool.add_connection(connect())
    pool.add_connection(connect())
    for number in range(7):
        caller.start(number, 0)
    loop.settle()
    assert (len(held), pool.queued_calls) == (3, 4)
    handle_add(held[1], None)
    loop.settle()
    assert (len(held), pool.queued_calls) == (4, 3)
    assert [result.request.left for result in caller.results] == [held[1].request.left]
    for _ in range(2):
        for call in [call for call in held if not call.finished]:
            handle_add(call, None)
        loop.settle()
    assert [call.request.left for call in held[3:]] == [3, 4, 5, 6]
    caller.finish()
    assert all(result.reply == AddReply(result.request.left) for result in caller.results)


@pytest.mark.http_alone
def test_a_new_connection_serves_a_waiting_call_at_once(
    server: RpcServer, caller: Caller, pool: RpcPool, connect: Connect, loop: Any
) -> None:
    held: list[AddCall] = []
    server.register_rpc(Add, lambda call, arg: held.append(call))
    caller.start()
    caller.start()
    loop.settle()
    assert len(held) == 1
    pool.add_connection(connect())
    assert pool.queued_calls == 0
    loop.settle()
    assert len(held) == 2


def test_a_call_without_answer_times_out_and_the_connection_is_of_use_again(
    server: RpcServer, caller: Caller, clock: FakeClock
) -> None:
    """A handler that never replies, then done on the orphaned call: harmless."""
    held: list[AddCall] = []
    server.register_rpc(Add, lambda call, arg: held.append(call))
    begun_s = clock.monotonic()
    result = caller.call()
    assert clock.monotonic() - begun_s == pytest.approx(5.0)
    assert (result.status.error, result.reply) == (EVRPC_STATUS_ERR_TIMEOUT, None)
    assert result.status.message == "Add: no reply within 5.0 s"
    assert isinstance(result.status.cause, CallTimeout)
    assert isinstance(result.status.cause, TimeoutError)
    assert result.status.http_request is None
    caller.loop.settle()
    handle_add(held[0], None)
    server.unregister_rpc(Add)
    server.register_rpc(Add, handle_add)
    assert_serves_on(caller)
    assert len(caller.results) == 2


@pytest.mark.http_alone
def test_the_clock_starts_with_make_request_and_counts_the_wait_in_line(
    base: EventBase, server: RpcServer, caller: Caller, clock: FakeClock
) -> None:
    timers = []

    def handler(call: AddCall, arg: object) -> None:
        timer = base.timer(lambda fd, what, call: handle_add(call, None), call)
        timer.add(4.0)
        timers.append(timer)

    server.register_rpc(Add, handler)
    begun_s = clock.monotonic()
    for _ in range(3):
        caller.start()
    caller.finish()
    assert clock.monotonic() - begun_s == pytest.approx(5.0)
    assert [result.reply for result in caller.results] == [AddReply(3), None, None]
    assert {result.status.error for result in caller.results[1:]} == {EVRPC_STATUS_ERR_TIMEOUT}


@pytest.mark.http_alone
def test_a_waiting_call_follows_one_that_timed_out(
    base: EventBase, server: RpcServer, caller: Caller, loop: Any
) -> None:
    def handler(call: AddCall, arg: object) -> None:
        if call.request.left:
            handle_add(call, arg)

    server.register_rpc(Add, handler)
    caller.start(0, 0)
    later = base.timer(lambda fd, what, arg: caller.start(1, 2))
    later.add(1.0)
    loop.until(lambda: len(caller.results) == 2)
    assert [result.status.error for result in caller.results] == [
        EVRPC_STATUS_ERR_TIMEOUT,
        EVRPC_STATUS_ERR_NONE,
    ]


def test_a_changed_timeout_counts_for_later_calls(
    server: RpcServer, caller: Caller, pool: RpcPool, clock: FakeClock
) -> None:
    server.register_rpc(Add, lambda call, arg: None)
    begun_s = clock.monotonic()
    caller.start()
    pool.timeout = 0.5
    assert pool.timeout == 0.5
    caller.finish()
    assert clock.monotonic() - begun_s == pytest.approx(5.0)
    caller.call()
    assert clock.monotonic() - begun_s == pytest.approx(5.5)


@pytest.mark.parametrize(
    ("options", "ends_after_s"), [(None, 300.0), (ClientOptions(read_s=49.0), 49.0)]
)
def test_a_long_timeout_is_not_cut_short_by_the_connections_default(
    base: EventBase,
    server: RpcServer,
    port: int,
    loop: Any,
    clock: FakeClock,
    options: ClientOptions | None,
    ends_after_s: float,
) -> None:
    """A connection without a timeout of its own takes the pool's (evrpc_pool_add_connection)."""
    server.register_rpc(Add, lambda call, arg: None)
    with RpcPool(base, timeout=300.0) as pool:
        pool.add_connection(HttpConnection(base, None, "127.0.0.1", port, options))
        begun_s = clock.monotonic()
        result = Caller(pool, loop).call()
    assert isinstance(result.status.cause, TimeoutError)
    assert clock.monotonic() - begun_s == pytest.approx(ends_after_s)


@pytest.mark.parametrize("timeout", [0, -1.0, float("inf"), float("nan")])
def test_a_timeout_is_positive_and_finite_or_none(base: EventBase, timeout: float) -> None:
    with pytest.raises(ArgumentError):
        RpcPool(base, timeout)
    pool = RpcPool(base)
    assert pool.timeout is None
    with pytest.raises(ArgumentError):
        pool.timeout = timeout
    assert pool.timeout is None


def test_a_pool_without_connection_makes_no_call(base: EventBase, loop: Any) -> None:
    with pytest.raises(StateError, match="no connection"):
        Caller(RpcPool(base), loop).start()


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_waiting_calls_are_bounded(
    base: EventBase, server: RpcServer, connect: Connect, loop: Any, limit: int
) -> None:
    server.register_rpc(Add, handle_add)
    with RpcPool(base, max_queued_calls=limit) as pool:
        pool.add_connection(connect())
        caller = Caller(pool, loop)
        for number in range(limit + 2):
            caller.start(number, 0)
        assert pool.queued_calls == limit
        assert caller.results == []
        caller.finish()
    failed = [result for result in caller.results if result.status.error]
    assert [result.request.left for result in failed] == [limit + 1]
    assert failed[0].status.error is EVRPC_STATUS_ERR_UNSTARTED
    assert isinstance(failed[0].status.cause, CallNotStarted)
    assert failed[0].status.message == f"Add: {limit} calls are waiting already"
    assert failed[0].reply is None


def test_the_number_of_waiting_calls_is_not_negative(base: EventBase) -> None:
    with pytest.raises(ArgumentError):
        RpcPool(base, max_queued_calls=-1)


@pytest.mark.http_alone
def test_a_connection_is_in_a_pool_once(pool: RpcPool, connect: Connect) -> None:
    connection = pool.connections[0]
    with pytest.raises(ArgumentError, match="already"):
        pool.add_connection(connection)
    pool.remove_connection(connection)
    assert pool.connections == ()
    with pytest.raises(ArgumentError, match="not in the pool"):
        pool.remove_connection(connection)


@pytest.mark.http_alone
def test_a_removed_connection_completes_its_call_and_stays_open(
    server: RpcServer, caller: Caller, pool: RpcPool, connect: Connect, loop: Any
) -> None:
    held: list[AddCall] = []
    server.register_rpc(Add, lambda call, arg: held.append(call))
    removed = pool.connections[0]
    caller.start(0, 0)
    caller.start(1, 0)
    loop.until(lambda: held)
    pool.remove_connection(removed)
    handle_add(held[0], None)
    loop.until(lambda: caller.results)
    loop.settle()
    assert (len(held), pool.queued_calls) == (1, 1)
    pool.add_connection(removed)
    loop.until(lambda: len(held) == 2)
    assert held[0].http_request.remote_port == held[1].http_request.remote_port


@pytest.mark.http_alone
def test_a_removed_connection_may_still_time_out(
    server: RpcServer, caller: Caller, pool: RpcPool
) -> None:
    server.register_rpc(Add, lambda call, arg: None)
    caller.start()
    pool.remove_connection(pool.connections[0])
    assert caller.finish()[0].status.error is EVRPC_STATUS_ERR_TIMEOUT
