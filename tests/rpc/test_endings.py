"""How calls, connections and pools end before their time, also from inside a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from evsvc.core import EventBase, StateError
from evsvc.http import (
    HttpConnection,
    HttpRequest,
    HttpServer,
    ServerRequest,
)
from evsvc.rpc import (
    EVRPC_STATUS_ERR_UNSTARTED,
    CallNotStarted,
    CallTimeout,
    RpcCall,
    RpcPool,
    RpcServer,
    RpcStatus,
    ServerCall,
)
from evsvc.rpc.client.endpoints import Lane
from tests.rpc.adding import (
    Add,
    AddCall,
    AddReply,
    AddRequest,
    Caller,
    assert_serves_on,
    handle_add,
)
from tests.rpc.conftest import freed_by_themselves

pytestmark = pytest.mark.every_carrier

Connect = Callable[[], HttpConnection]


def test_a_refused_call_may_still_be_cancelled(
    base: EventBase, server: RpcServer, connect: Connect, loop: Any
) -> None:
    server.register_rpc(Add, handle_add)
    with RpcPool(base, max_queued_calls=0) as pool:
        pool.add_connection(connect())
        caller = Caller(pool, loop)
        caller.start(0, 0)
        caller.start(1, 0).cancel()
        loop.settle()
        assert [result.request.left for result in caller.results] == [0]


@pytest.mark.http_alone
def test_a_waiting_call_is_cancelled(server: RpcServer, caller: Caller, pool: RpcPool) -> None:
    server.register_rpc(Add, handle_add)
    caller.start(0, 0)
    call = caller.start(1, 0)
    caller.start(2, 0)
    call.cancel()
    call.cancel()
    assert pool.queued_calls == 1
    caller.loop.settle()
    assert [result.request.left for result in caller.results] == [0, 2]


def test_a_call_on_its_way_is_cancelled_and_the_next_is_served(
    server: RpcServer, caller: Caller, loop: Any
) -> None:
    held: list[AddCall] = []
    server.register_rpc(Add, lambda call, arg: held.append(call))
    call = caller.start(0, 0)
    caller.start(1, 0)
    loop.until(lambda: held)
    call.cancel()
    loop.until(lambda: len(held) == 2)
    handle_add(held[0], None)
    handle_add(held[1], None)
    loop.until(lambda: caller.results)
    loop.settle()
    assert [(result.request.left, result.reply) for result in caller.results] == [(1, AddReply(1))]
    call.cancel()


@pytest.mark.http_alone
def test_a_connection_closed_under_its_pool_leaves_it(
    server: RpcServer, caller: Caller, pool: RpcPool, connect: Connect
) -> None:
    server.register_rpc(Add, handle_add)
    pool.connections[0].close()
    pool.add_connection(connect())
    result = caller.call()
    assert (result.status.error, result.reply) == (EVRPC_STATUS_ERR_UNSTARTED, None)
    assert isinstance(result.status.cause, CallNotStarted)
    assert "closed" in result.status.message
    assert len(pool.connections) == 1
    assert_serves_on(caller)


@pytest.mark.http_alone
def test_a_call_whose_connection_is_closed_ends_by_its_timeout(
    server: RpcServer, caller: Caller, pool: RpcPool
) -> None:
    server.register_rpc(Add, handle_add)
    caller.start()
    pool.connections[0].close()
    assert isinstance(caller.finish()[0].status.cause, CallTimeout)


@pytest.mark.http_alone
@pytest.mark.parametrize(
    "action", [lambda caller, call: caller.pool.close(), lambda caller, call: call.cancel()]
)
def test_what_ends_a_call_while_it_times_out_keeps_its_callback_from_running(
    server: RpcServer,
    caller: Caller,
    pool: RpcPool,
    loop: Any,
    action: Callable[[Caller, Any], None],
) -> None:
    """The connection's close callback runs when the timed-out call is broken off."""
    ended = []

    def closed(connection: HttpConnection, call: Any) -> None:
        action(caller, call)
        ended.append(call)

    server.register_rpc(Add, lambda call, arg: None)
    pool.connections[0].set_closecb(closed, caller.start())
    loop.until(lambda: ended)
    loop.settle()
    assert caller.results == []


def test_close_forgets_every_call_without_callback(
    server: RpcServer, caller: Caller, pool: RpcPool, loop: Any
) -> None:
    server.register_rpc(Add, handle_add)
    first = caller.start()
    second = caller.start()
    pool.close()
    pool.close()
    first.cancel()
    second.cancel()
    loop.settle()
    assert caller.results == []
    assert (pool.connections, pool.queued_calls) == ((), 0)
    with pytest.raises(StateError, match="closed"):
        caller.start()


def test_close_closes_the_connections(
    http_server: HttpServer, server: RpcServer, caller: Caller, pool: RpcPool, loop: Any
) -> None:
    server.register_rpc(Add, handle_add)
    caller.call()
    assert http_server.connection_count == 1
    pool.close()
    loop.settle()
    assert http_server.connection_count == 0


def test_a_call_that_has_ended_does_not_time_out(
    base: EventBase, server: RpcServer, caller: Caller, loop: Any
) -> None:
    late: list[object] = []
    server.register_rpc(Add, handle_add)
    assert_serves_on(caller)
    timer = base.timer(lambda fd, what, arg: late.append(arg))
    timer.add(30.0)
    loop.until(lambda: late)
    assert len(caller.results) == 1


def test_close_forgets_a_refused_call_too(
    base: EventBase, server: RpcServer, connect: Connect, loop: Any
) -> None:
    pool = RpcPool(base, max_queued_calls=0)
    pool.add_connection(connect())
    caller = Caller(pool, loop)
    caller.start()
    caller.start()
    pool.close()
    loop.settle()
    assert caller.results == []


def test_a_closed_pool_takes_no_connection(pool: RpcPool, connect: Connect) -> None:
    pool.close()
    with pytest.raises(StateError):
        pool.add_connection(connect())


def close_pool(caller: Caller) -> None:
    caller.pool.close()


def close_connection(caller: Caller) -> None:
    for connection in caller.pool.connections:
        caller.pool.remove_connection(connection)
        connection.close()


def make_two_calls(caller: Caller) -> None:
    if len(caller.results) == 1:
        caller.start(5, 0)
        caller.start(6, 0)


@pytest.mark.http_alone
@pytest.mark.parametrize(
    ("action", "lefts"),
    [(close_pool, [0]), (close_connection, [0]), (make_two_calls, [0, 1, 5, 6])],
)
@pytest.mark.parametrize("never_answered", [False, True])
def test_a_callback_may_do_anything_to_the_pool(
    server: RpcServer,
    pool: RpcPool,
    loop: Any,
    action: Callable[[Caller], None],
    lefts: list[int],
    never_answered: bool,
) -> None:
    """After success and after a timeout alike; the call that waited goes before later ones."""

    class ActingCaller(Caller):
        def keep(self, *args: Any) -> None:
            super().keep(*args)
            action(self)

    def handler(call: AddCall, arg: object) -> None:
        if call.request.left or not never_answered:
            handle_add(call, arg)

    server.register_rpc(Add, handler)
    caller = ActingCaller(pool, loop)
    caller.start(0, 0)
    caller.start(1, 0)
    if never_answered and action is close_connection:
        lefts = [0, 1]  # it waited as long, and its time is over, too
    loop.until(lambda: len(caller.results) == len(lefts))
    loop.settle()
    assert [result.request.left for result in caller.results] == lefts
    assert bool(caller.results[0].status.error) is never_answered


def call_in_every_way(caller: Caller, server: RpcServer) -> None:
    """Calls that succeed, are refused, time out, are cancelled, and are forgotten by close."""
    held: list[AddCall] = []

    def handler(call: AddCall, arg: object) -> None:
        if call.request.left == 0:
            handle_add(call, None)
        elif call.request.left == 1:
            call.fail("no")
        else:
            held.append(call)

    server.register_rpc(Add, handler)
    for left in range(3):
        caller.start(left)
    caller.start(0).cancel()
    caller.finish(4)
    caller.start(2)
    caller.start(2)
    caller.loop.settle()
    caller.pool.close()
    while held:
        handle_add(held.pop(), None)
    caller.results.clear()


def test_ended_calls_are_freed_without_the_cyclic_collector(
    base: EventBase, server: RpcServer, connect: Connect, loop: Any
) -> None:
    with freed_by_themselves(RpcCall, ServerCall, HttpRequest, ServerRequest, Lane):
        with RpcPool(base, timeout=5.0) as pool:
            for _ in range(5):
                pool.add_connection(connect())
            caller = Caller(pool, loop)
            idle, busy, *_ = pool.connections
            pool.remove_connection(idle)
            caller.start(0)
            pool.remove_connection(busy)
            call_in_every_way(caller, server)
        loop.settle()


def test_what_a_callback_raises_goes_on_and_the_pool_lives_on(
    base: EventBase, server: RpcServer, pool: RpcPool, caller: Caller
) -> None:
    raised: list[BaseException] = []
    base.exception_handler = raised.append

    def explode(status: RpcStatus, request: object, reply: object, arg: object) -> None:
        raise ZeroDivisionError

    server.register_rpc(Add, handle_add)
    pool.make_request(Add, AddRequest(0, 0), explode)
    assert_serves_on(caller)
    assert [type(exc) for exc in raised] == [ZeroDivisionError]
