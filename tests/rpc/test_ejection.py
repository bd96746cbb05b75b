"""Connections that cannot be had get no calls for a while, and what they failed goes elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evsvc.core import EVLOOP_NONBLOCK, EventBase, FakeClock
from evsvc.http import HttpConnection
from evsvc.rpc import EVRPC_STATUS_ERR_TIMEOUT, RpcPool, RpcServer
from evsvc.rpc.client.endpoints import EJECTION_S, MAX_EJECTION_S
from tests.rpc.adding import Add, AddCall, Caller, handle_add

Connect = Callable[[], HttpConnection]


@pytest.fixture
def refusing(base: EventBase) -> Iterator[HttpConnection]:
    """Return a connection to a port that is bound, and that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        connection = HttpConnection(base, None, "127.0.0.1", sock.getsockname()[1])
        yield connection
        connection.close()


@pytest.fixture
def caller(base: EventBase, connect: Connect, refusing: HttpConnection, loop: Any) -> Caller:
    pool = RpcPool(base, timeout=60.0)
    pool.add_connection(refusing)
    pool.add_connection(connect())
    return Caller(pool, loop)


class Noting(HttpConnection):
    """A connection that counts what it is given."""

    __slots__ = ("given",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.given = 0

    def make_request(self, *args: Any) -> None:
        self.given += 1
        super().make_request(*args)


def test_calls_that_were_never_sent_go_to_the_other(server: RpcServer, caller: Caller) -> None:
    server.register_rpc(Add, handle_add)
    for _ in range(20):
        caller.start()
    assert all(not result.status.error for result in caller.finish())


def test_it_is_tried_again_after_a_while_that_doubles(
    base: EventBase, server: RpcServer, connect: Connect, loop: Any, clock: FakeClock
) -> None:
    server.register_rpc(Add, handle_add)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        broken = Noting(base, None, "127.0.0.1", sock.getsockname()[1])
        pool = RpcPool(base, timeout=600.0)
        pool.add_connection(broken)
        pool.add_connection(connect())
        caller = Caller(pool, loop)
        caller.call()
        assert broken.given == 1
        wait = EJECTION_S
        for number in range(2, 8):
            clock.advance(wait * 0.9)
            loop.settle()
            caller.call()
            assert broken.given == number - 1
            clock.advance(wait * 0.2)
            loop.settle()
            caller.call()
            assert broken.given == number
            wait = min(wait * 2, MAX_EJECTION_S)
        assert wait == MAX_EJECTION_S
        pool.close()


def test_one_that_is_down_for_a_day_is_still_tried(
    base: EventBase, server: RpcServer, port: int, loop: Any, clock: FakeClock
) -> None:
    server.register_rpc(Add, handle_add)
    with RpcPool(base, timeout=600.0) as pool:
        connection = HttpConnection(base, None, "127.0.0.1", port)
        pool.add_connection(connection)
        endpoint = pool._added[connection].endpoint
        for _ in range(24 * 3600 // int(MAX_EJECTION_S)):
            endpoint.eject()
            clock.advance(MAX_EJECTION_S)
            base.loop(EVLOOP_NONBLOCK)
            assert not endpoint.is_ejected
        assert endpoint.failures > 1024
        caller = Caller(pool, loop)
        assert not caller.call().status.error
        assert endpoint.failures == 0


def test_one_that_has_come_back_counts_from_anew(
    base: EventBase, server: RpcServer, port: int, connect: Connect, loop: Any, clock: FakeClock
) -> None:
    server.register_rpc(Add, handle_add)
    back = Noting(base, None, "127.0.0.1", port)
    pool = RpcPool(base, timeout=600.0)
    pool.add_connection(back)
    pool.add_connection(connect())
    lane = pool._added[back].endpoint
    lane.eject()
    lane.eject()
    caller = Caller(pool, loop)
    caller.call()
    assert back.given == 0
    clock.advance(2 * EJECTION_S)
    loop.settle()
    caller.call()
    assert back.given == 1
    assert lane.failures == 0
    pool.close()


def test_where_all_are_ejected_the_call_fails_fast(
    base: EventBase, refusing: HttpConnection, loop: Any, clock: FakeClock
) -> None:
    pool = RpcPool(base, timeout=60.0)
    pool.add_connection(refusing)
    caller = Caller(pool, loop)
    begun_s = clock.monotonic()
    for _ in range(3):
        assert caller.call().status.error == EVRPC_STATUS_ERR_TIMEOUT
    assert clock.monotonic() - begun_s < EJECTION_S
    pool.close()


def test_a_call_that_was_sent_goes_nowhere_else(
    server: RpcServer, caller: Caller, http_server: Any
) -> None:
    def handler(call: AddCall, arg: object) -> None:
        seen.append(call)
        call.http_request.connection.close()

    seen: list[AddCall] = []
    server.register_rpc(Add, handler)
    assert caller.call().status.error == EVRPC_STATUS_ERR_TIMEOUT
    assert len(seen) == 1


def test_one_that_is_removed_while_it_is_ejected_is_the_programs(
    server: RpcServer, caller: Caller, refusing: HttpConnection, base: EventBase, loop: Any
) -> None:
    server.register_rpc(Add, handle_add)
    caller.call()
    caller.pool.remove_connection(refusing)
    assert not caller.call().status.error
    caller.pool.close()
