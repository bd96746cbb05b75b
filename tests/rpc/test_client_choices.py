"""What a pool chooses by: the server with the least to do, hooks, retries, deadlines, stubs."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evsvc.core import (
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    EventBase,
    FakeClock,
    StateError,
)
from evsvc.http import HttpConnection, HttpServer, ServerRequest
from evsvc.rpc import (
    EVRPC_CONTINUE,
    EVRPC_INPUT,
    EVRPC_OUTPUT,
    EVRPC_PAUSE,
    EVRPC_STATUS_ERR_HOOKABORTED,
    EVRPC_STATUS_ERR_NONE,
    EVRPC_STATUS_ERR_TIMEOUT,
    EVRPC_STATUS_ERR_UNSTARTED,
    EVRPC_TERMINATE,
    CallTimeout,
    Endpoint,
    JsonCodec,
    RemoteError,
    RetryPolicy,
    Rpc,
    RpcCall,
    RpcErrorCode,
    RpcPool,
    RpcServer,
    RpcStatus,
    ServerCall,
    Service,
)
from evsvc.rpc.client.endpoints import Lane, choose
from evsvc.rpc.client.retries import BUDGET_BURST, RetryBudget
from tests.rpc.adding import Add, AddReply, AddRequest, Caller, handle_add
from tests.rpc.conftest import freed_by_themselves

Ask = Rpc("Ask", AddRequest, AddReply, idempotent=True)

pytestmark = pytest.mark.every_carrier


class Results:
    """Keeps what callbacks are given."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.seen: list[tuple[RpcStatus, Any]] = []

    def keep(self, status: RpcStatus, request: Any, reply: Any, arg: object) -> None:
        self.seen.append((status, reply))

    def wait(self, count: int = 1) -> list[tuple[RpcStatus, Any]]:
        self.loop.until(lambda: len(self.seen) >= count)
        seen, self.seen = self.seen, []
        return seen


@pytest.fixture
def results(loop: Any) -> Results:
    return Results(loop)


@pytest.fixture
def other_http(base: EventBase) -> Iterator[HttpServer]:
    with HttpServer(base) as http_server:
        http_server.bind_socket("127.0.0.1", 0)
        yield http_server


@pytest.fixture
def empty(base: EventBase) -> Iterator[RpcPool]:
    with RpcPool(base, timeout=60.0) as pool:
        yield pool


def port_of(server: HttpServer) -> int:
    return server.bound_sockets[0].port


def make_endpoint(base: EventBase, calls: int, **changes: Any) -> Endpoint:
    made: Any = object
    endpoint = Endpoint(base.timer(lambda *args: None), made, 4, **changes)
    set_load(endpoint, calls)
    return endpoint


def set_load(endpoint: Endpoint, calls: int) -> None:
    """Have so many calls on their way, each on a connection of its own."""
    while endpoint.calls < calls:
        endpoint.take()
    while endpoint.calls > calls:
        endpoint.give_back(next(lane for lane in endpoint.lanes if lane not in endpoint.idle))


def test_a_call_goes_where_the_load_is_least_for_the_weight(base: EventBase) -> None:
    light, heavy = make_endpoint(base, 2), make_endpoint(base, 3, weight=2)
    assert choose([light, heavy]) is heavy
    set_load(heavy, 4)
    assert choose([light, heavy]) is light
    set_load(light, 4)
    assert choose([light, heavy]) is None
    set_load(light, 0)
    set_load(heavy, 0)
    assert choose([light, heavy]) is light


def test_a_lower_priority_waits_until_the_higher_cannot_be_had(base: EventBase) -> None:
    first, second = make_endpoint(base, 4, priority=1), make_endpoint(base, 0, priority=2)
    assert choose([second, first]) is None  # busy, but there
    first.eject()
    assert choose([second, first]) is second
    second.eject()
    set_load(first, 0)
    assert choose([second, first]) is second  # any: to fail fast


def test_two_servers_share_the_calls(
    server: RpcServer, port: int, other_http: HttpServer, empty: RpcPool, results: Any
) -> None:
    held: list[tuple[int, ServerCall[Any, Any]]] = []
    server.register_rpc(Add, lambda call, arg: held.append((1, call)))
    other = RpcServer(other_http)
    other.register_rpc(Add, lambda call, arg: held.append((2, call)))
    for each in (port, port_of(other_http)):
        empty.add_endpoint("127.0.0.1", each, max_connections=3)
    for _ in range(8):
        empty.make_request(Add, AddRequest(1, 2), results.keep)
    results.loop.until(lambda: len(held) == 6)
    assert sorted(number for number, _ in held) == [1, 1, 1, 2, 2, 2]
    assert empty.queued_calls == 2
    for _ in range(8):
        results.loop.until(lambda: held)
        held.pop()[1].done(AddReply(3))
    assert all(not status.error for status, _ in results.wait(8))


def test_connections_are_made_as_they_are_needed_and_used_again(
    server: RpcServer, http_server: HttpServer, port: int, empty: RpcPool, results: Any
) -> None:
    server.register_rpc(Add, handle_add)
    endpoint = empty.add_endpoint("127.0.0.1", port)
    for _ in range(3):
        empty.make_request(Add, AddRequest(1, 2), results.keep)
        results.wait()
    assert len(endpoint.lanes) == 1
    assert http_server.connection_count == 1
    for _ in range(30):
        empty.make_request(Add, AddRequest(1, 2), results.keep)
    results.wait(30)
    assert len(endpoint.lanes) == 8


def test_a_removed_endpoint_completes_its_calls_and_closes(
    server: RpcServer, http_server: HttpServer, port: int, empty: RpcPool, results: Any
) -> None:
    held: list[ServerCall[Any, Any]] = []
    server.register_rpc(Add, lambda call, arg: held.append(call))
    endpoint = empty.add_endpoint("127.0.0.1", port)
    empty.make_request(Add, AddRequest(1, 2), results.keep)
    results.loop.until(lambda: held)
    empty.remove_endpoint(endpoint)
    with pytest.raises(StateError, match="no connection"):
        empty.make_request(Add, AddRequest(1, 2), results.keep)
    held[0].done(AddReply(3))
    assert results.wait()[0][1] == AddReply(3)
    results.loop.until(lambda: http_server.connection_count == 0)
    assert endpoint.lanes == []
    with pytest.raises(ArgumentError, match="not in the pool"):
        empty.remove_endpoint(endpoint)


@pytest.mark.parametrize("bad", [{"max_connections": 0}, {"weight": 0}])
def test_an_endpoints_numbers_are_positive(empty: RpcPool, bad: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match="positive"):
        empty.add_endpoint("127.0.0.1", 1, **bad)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="resolver"):
        empty.add_endpoint("name.example", 80)
    assert empty.endpoints == ()


def flaky(failures: int, end: Callable[[ServerCall[Any, Any]], object]) -> Callable[..., None]:
    """A handler that fails so many times."""
    left = [failures]

    def handler(call: ServerCall[Any, Any], arg: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            end(call)
        else:
            handle_add(call, arg)

    return handler


def reset(call: ServerCall[Any, Any]) -> None:
    connection = call.http_request.connection
    assert connection is not None
    carrier = connection.bufferevent
    assert isinstance(carrier, BufferEvent)
    assert carrier.socket is not None
    carrier.socket.shutdown(socket.SHUT_RDWR)


def unavailable(call: ServerCall[Any, Any]) -> None:
    call.fail("later", RpcErrorCode.UNAVAILABLE)


@pytest.mark.parametrize("end", [reset, unavailable])
def test_an_idempotent_call_goes_again_up_to_the_policys_attempts(
    server: RpcServer, pool: RpcPool, results: Any, end: Any
) -> None:
    server.register_rpc(Ask, flaky(2, end))
    pool.make_request(Ask, AddRequest(1, 2), results.keep)
    assert results.wait() == [(results_of_sum(), AddReply(3))]
    server.unregister_rpc(Ask)
    server.register_rpc(Ask, flaky(3, end))
    call = pool.make_request(Ask, AddRequest(1, 2), results.keep)
    ((status, _),) = results.wait()
    assert status.error
    assert call.attempts == RetryPolicy().max_attempts == 3


class _AnySuccess:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, RpcStatus) and other.error is EVRPC_STATUS_ERR_NONE

    __hash__ = None  # type: ignore[assignment]


def results_of_sum() -> _AnySuccess:
    return _AnySuccess()


@pytest.mark.parametrize("end", [reset, unavailable])
def test_a_call_that_is_not_idempotent_is_sent_once(
    server: RpcServer, pool: RpcPool, results: Any, end: Any
) -> None:
    server.register_rpc(Add, flaky(1, end))
    call = pool.make_request(Add, AddRequest(1, 2), results.keep)
    assert results.wait()[0][0].error
    assert call.attempts == 1


def test_other_failures_are_told_at_once(server: RpcServer, pool: RpcPool, results: Any) -> None:
    server.register_rpc(Ask, flaky(1, lambda call: call.fail("no", RpcErrorCode.NOT_FOUND, [1])))
    call = pool.make_request(Ask, AddRequest(1, 2), results.keep)
    ((status, _),) = results.wait()
    cause = status.cause
    assert isinstance(cause, RemoteError)
    assert (cause.code, cause.details, cause.text) == (RpcErrorCode.NOT_FOUND, [1], "no")
    assert call.attempts == 1


@pytest.mark.http_alone
def test_a_page_of_a_proxy_without_servers_is_unavailable(
    http_server: HttpServer, pool: RpcPool, results: Any
) -> None:
    seen: list[str] = []

    def proxy(request: ServerRequest, arg: object) -> None:
        seen.append(request.uri)
        request.send_error(503)

    http_server.set_gencb(proxy)
    pool.make_request(Ask, AddRequest(1, 2), results.keep)
    ((status, _),) = results.wait()
    assert isinstance(status.cause, RemoteError)
    assert status.cause.code is RpcErrorCode.UNAVAILABLE
    assert len(seen) == 3


def test_a_retry_that_would_come_too_late_is_not_made(
    base: EventBase, server: RpcServer, http_server: HttpServer, port: int, results: Any
) -> None:
    server.register_rpc(Ask, flaky(9, unavailable))
    policy = RetryPolicy(backoff_s=1e6, max_backoff_s=1e6)
    with RpcPool(base, timeout=5.0, retry=policy) as pool:
        pool.add_endpoint("127.0.0.1", port)
        call = pool.make_request(Ask, AddRequest(1, 2), results.keep)
        assert isinstance(results.wait()[0][0].cause, RemoteError)
        assert call.attempts == 1


def test_a_call_that_rests_is_cancelled_and_times_out_and_is_forgotten(
    base: EventBase,
    server: RpcServer,
    http_server: HttpServer,
    port: int,
    results: Any,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(RetryPolicy, "wait_s", lambda self, attempts: 4.0)
    asked: list[object] = []
    server.register_rpc(Ask, flaky(99, lambda call: (asked.append(call), unavailable(call))))
    with RpcPool(base, timeout=5.0) as pool:
        pool.add_endpoint("127.0.0.1", port)
        cancelled = pool.make_request(Ask, AddRequest(1, 2), results.keep)
        results.loop.until(lambda: cancelled.backoff is not None)
        cancelled.cancel()
        late = pool.make_request(Ask, AddRequest(1, 2), results.keep, timeout_s=4.5)
        assert isinstance(results.wait()[0][0].cause, RemoteError)  # twice, and no third time
        assert (late.attempts, len(asked)) == (2, 3)
        forgotten = pool.make_request(Ask, AddRequest(1, 2), results.keep)
        results.loop.until(lambda: forgotten.backoff is not None)
    results.loop.settle()
    assert results.seen == []


def test_the_budget_bounds_retries_on_the_long_run() -> None:
    budget = RetryBudget(RetryPolicy(budget=0.25))
    assert sum(budget.spend(1) for _ in range(100)) == BUDGET_BURST
    for _ in range(4):
        assert not budget.spend(1)
        budget.earn()
    assert budget.spend(1)
    assert not budget.spend(1)


def test_the_wait_doubles_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    policy = RetryPolicy(backoff_s=1.0, max_backoff_s=3.0)
    assert [policy.wait_s(attempts) for attempts in (1, 2, 3, 9)] == [1.0, 2.0, 3.0, 3.0]
    for name in ("max_attempts", "backoff_s", "max_backoff_s", "budget"):
        with pytest.raises(ArgumentError, match=name):
            RetryPolicy(**{name: -1})


def test_each_call_may_have_its_own_time(
    server: RpcServer, pool: RpcPool, results: Any, clock: FakeClock
) -> None:
    server.register_rpc(Add, lambda call, arg: None)
    begun = clock.monotonic()
    pool.make_request(Add, AddRequest(1, 2), results.keep, timeout_s=2.0)
    ((status, _),) = results.wait()
    assert isinstance(status.cause, CallTimeout)
    assert 2.0 <= clock.monotonic() - begun < 3.0
    with pytest.raises(ArgumentError, match="-1"):
        pool.make_request(Add, AddRequest(1, 2), results.keep, timeout_s=-1)


def test_calls_with_one_timeout_end_in_their_order_each_at_its_time(
    server: RpcServer, pool: RpcPool, results: Any, clock: FakeClock
) -> None:
    server.register_rpc(Add, lambda call, arg: None)
    pool.timeout = 5.0
    ends: list[tuple[int, float]] = []
    begun = clock.monotonic()

    def keep(status: RpcStatus, request: AddRequest, reply: object, arg: object) -> None:
        ends.append((request.left, clock.monotonic() - begun))

    for number in range(3):
        pool.make_request(Add, AddRequest(number, 0), keep)
        results.loop.settle()
        clock.advance(1.0)
    results.loop.until(lambda: len(ends) == 3)
    assert [number for number, _ in ends] == [0, 1, 2]
    assert [round(at) for _, at in ends] == [5, 6, 7]


def test_the_deadline_and_metadata_travel(server: RpcServer, pool: RpcPool, results: Any) -> None:
    seen = []

    def handler(call: ServerCall[Any, Any], arg: object) -> None:
        seen.append((call.deadline is not None, call.metadata.find("Colour")))
        call.reply_metadata.add("Mood", "good")
        handle_add(call, arg)

    server.register_rpc(Add, handler)
    pool.make_request(Add, AddRequest(1, 2), results.keep, metadata=[("Colour", "red")])
    ((status, _),) = results.wait()
    assert seen == [(True, "red")]
    assert status.metadata is not None
    assert status.metadata.find("Mood") == "good"


def test_a_call_is_made_by_hand_and_sent_once(
    server: RpcServer, pool: RpcPool, empty: RpcPool, results: Any
) -> None:
    server.register_rpc(Add, handle_add)
    call = RpcCall(empty, Add, AddRequest(1, 2), lambda *args: pytest.fail("not this one"))
    with pytest.raises(StateError, match="no connection"):
        call.start()
    call.pool = pool
    call.set_cb(results.keep)
    call.start()
    with pytest.raises(StateError, match="started already"):
        call.start()
    assert results.wait()[0][1] == AddReply(3)
    with pytest.raises(StateError, match="started already"):
        call.start()
    for bad in (lambda: call.set_cb(1), lambda: RpcCall(pool, Add, AddRequest(1, 2), None)):  # type: ignore[arg-type]
        with pytest.raises(ArgumentTypeError):
            bad()


def test_hooks_see_what_goes_out_and_what_comes_in(
    server: RpcServer, pool: RpcPool, results: Any
) -> None:
    order: list[object] = []

    def out(call: RpcCall[Any, Any], request: Any, body: Any, arg: object) -> int:
        order.append((arg, bytes(body)))
        assert call.connection is not None
        call.meta["key"] = b"12\0 5"
        request.output_headers.add("Seen", "yes")
        data = body.remove()
        body.add(data.replace(b"\x02", b"\x05"))
        return EVRPC_CONTINUE

    def back(call: RpcCall[Any, Any], response: Any, body: Any, arg: object) -> None:
        order.append((call.meta["key"], bytes(body), response.response_code))
        assert call.connection is not None

    server.register_rpc(Add, handle_add)
    hooks = [pool.add_hook(EVRPC_OUTPUT, out, 1), pool.add_hook(EVRPC_INPUT, back)]
    pool.make_request(Add, AddRequest(1, 2), results.keep)
    assert results.wait()[0][1] == AddReply(6)
    assert order == [(1, b"\x82\xa4left\x01\xa5right\x02"), (b"12\0 5", b"\x81\xa5total\x06", 200)]
    for hook in hooks:
        pool.remove_hook(hook)
    pool.make_request(Add, AddRequest(1, 2), results.keep)
    assert results.wait()[0][1] == AddReply(3)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (EVRPC_OUTPUT, EVRPC_STATUS_ERR_UNSTARTED),
        (EVRPC_INPUT, EVRPC_STATUS_ERR_HOOKABORTED),
    ],
)
def test_a_hook_that_terminates_or_raises_ends_its_call_alone(
    server: RpcServer,
    base: EventBase,
    pool: RpcPool,
    results: Any,
    kind: int,
    error: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[BaseException] = []
    base.exception_handler = told.append
    server.register_rpc(Add, handle_add)
    for hook in (lambda *args: EVRPC_TERMINATE, lambda *args: 1 / 0):
        added = pool.add_hook(kind, hook)  # type: ignore[arg-type]
        with caplog.at_level(logging.CRITICAL):
            pool.make_request(Add, AddRequest(1, 2), results.keep)
            ((status, reply),) = results.wait()
        assert (status.error, reply) == (error, None)
        pool.remove_hook(added)
    pool.make_request(Add, AddRequest(1, 2), results.keep)
    assert results.wait()[0][1] == AddReply(3)
    assert [type(each) for each in told] == [ZeroDivisionError]


def test_four_hooks_on_both_sides_pause_and_are_resumed(
    server: RpcServer, base: EventBase, pool: RpcPool, results: Any
) -> None:
    """As libevent's own test: exactly four pauses, and the call succeeds."""
    pauses: list[object] = []

    def pause(call: Any, request: Any, body: Any, arg: object) -> int:
        pauses.append(arg)
        base.once(-1, 0x01, lambda *args: call.resume(EVRPC_CONTINUE), timeout=1.0)
        return EVRPC_PAUSE

    server.register_rpc(Add, handle_add)
    for where in (server, pool):
        for kind in (EVRPC_INPUT, EVRPC_OUTPUT):
            where.add_hook(kind, pause, (type(where).__name__, int(kind)))  # type: ignore[attr-defined]
    pool.make_request(Add, AddRequest(1, 2), results.keep)
    assert results.wait()[0][1] == AddReply(3)
    assert pauses == [("RpcPool", 1), ("RpcServer", 0), ("RpcServer", 1), ("RpcPool", 0)]


@pytest.mark.parametrize("kind", [EVRPC_OUTPUT, EVRPC_INPUT])
def test_a_call_that_a_hook_holds_times_out_and_its_connection_serves_on(
    server: RpcServer, pool: RpcPool, results: Any, kind: int
) -> None:
    held: list[RpcCall[Any, Any]] = []

    def hold(call: Any, request: Any, body: Any, arg: object) -> int:
        held.append(call)
        return EVRPC_PAUSE

    server.register_rpc(Add, handle_add)
    hook = pool.add_hook(kind, hold)
    pool.make_request(Add, AddRequest(1, 2), results.keep, timeout_s=1.0)
    assert results.wait()[0][0].error is EVRPC_STATUS_ERR_TIMEOUT
    with pytest.raises(StateError, match="not paused"):
        held[0].resume(EVRPC_CONTINUE)
    pool.remove_hook(hook)
    pool.make_request(Add, AddRequest(1, 2), results.keep)
    assert results.wait()[0][1] == AddReply(3)


def test_hooked_calls_are_freed_without_the_cyclic_collector(
    base: EventBase, server: RpcServer, connect: Callable[[], HttpConnection], results: Any
) -> None:
    server.register_rpc(Add, handle_add)
    with freed_by_themselves(RpcCall, ServerCall, Lane, Endpoint):
        with RpcPool(base, timeout=5.0) as pool:
            pool.add_connection(connect())
            for where in (server, pool):
                for kind in (EVRPC_INPUT, EVRPC_OUTPUT):
                    where.add_hook(kind, lambda *args: None)  # type: ignore[attr-defined]
            pool.make_request(Add, AddRequest(1, 2), results.keep)
            results.wait()
        results.loop.settle()


class Calculator(Service):
    add = Rpc("Calculator.Add", AddRequest, AddReply)
    ask = Rpc("Calculator.Ask", AddRequest, AddReply, idempotent=True)


class CalculatorHandlers:
    def add(self, call: ServerCall[AddRequest, AddReply], arg: object) -> None:
        call.done(AddReply(call.request.left + call.request.right))

    def ask(self, call: ServerCall[AddRequest, AddReply], arg: object) -> None:
        call.done(AddReply(call.request.left - call.request.right))


def test_a_service_is_defined_once_and_has_its_server_and_its_stub(
    server: RpcServer, pool: RpcPool, results: Any
) -> None:
    server.register_service(Calculator, CalculatorHandlers())
    stub = Calculator(pool)
    stub.add(AddRequest(3, 2), results.keep)
    stub.ask(AddRequest(3, 2), results.keep)
    assert sorted(reply.total for _, reply in results.wait(2)) == [1, 5]
    assert list(Calculator.rpcs()) == ["add", "ask"]
    assert Calculator.add.path == "/.rpc.Calculator.Add"


def test_a_service_without_all_its_handlers_is_not_registered(server: RpcServer) -> None:
    class Half:
        def add(self, call: object, arg: object) -> None: ...

    with pytest.raises(ArgumentError, match="does not serve Calculator: ask"):
        server.register_service(Calculator, Half())
    with pytest.raises(ArgumentError, match="no RPC at all"):
        server.register_service(Service, Half())
    assert server.rpcs == []


def test_both_sides_may_speak_json(
    base: EventBase, server: RpcServer, http_server: HttpServer, port: int, results: Any
) -> None:
    server.register_rpc(Add, handle_add)
    with RpcPool(base, timeout=5.0, codec=JsonCodec()) as pool:
        pool.add_endpoint("127.0.0.1", port)
        pool.make_request(Add, AddRequest(1, 2), results.keep)
        assert results.wait()[0][1] == AddReply(3)


def test_an_endpoint_that_refuses_is_ejected_as_a_whole(
    server: RpcServer, http_server: HttpServer, port: int, empty: RpcPool, loop: Any
) -> None:
    server.register_rpc(Add, handle_add)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        refusing = empty.add_endpoint("127.0.0.1", sock.getsockname()[1])
        empty.add_endpoint("127.0.0.1", port)
        caller = Caller(empty, loop)
        for _ in range(20):
            caller.start()
        assert all(not result.status.error for result in caller.finish())
        assert refusing.is_ejected
        assert refusing.failures == 1, "several connections failed, at one time"
