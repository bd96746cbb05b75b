"""A pool that follows a name: what is new gets calls, what is gone drains, a failure is nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from evsvc.core import ArgumentError, Error, EventBase, FakeClock
from evsvc.dns import DnsServer, Resolver
from evsvc.http import HttpServer
from evsvc.rpc import NameOptions, RpcPool, RpcServer, ServerCall
from tests.rpc.adding import Add, AddReply, Caller, handle_add


class Srv(NamedTuple):
    priority: int
    weight: int
    port: int
    target: str


class Record(NamedTuple):
    data: Any


class Answer(NamedTuple):
    records: tuple[Record, ...]
    ttl_s: int = 10


class Script:
    """A source of names that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: list[tuple[Callable[[Any, Any], object], Any]] = []
        self.cancelled = 0
        self.failure: Error | None = None

    def query(
        self, name: str, rdtype: str, cb: Callable[[Any, Any], object], arg: object = None
    ) -> Script:
        if self.failure is not None:
            raise self.failure
        self.asked.append(f"{name} {rdtype}")
        self.waiting.append((cb, arg))
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def answer(self, *values: Any, ttl_s: int = 10) -> None:
        cb, arg = self.waiting.pop(0)
        cb(Answer(tuple(Record(each) for each in values), ttl_s), arg)


@pytest.fixture
def script() -> Script:
    return Script()


def servers_of(pool: RpcPool) -> list[tuple[str, int]]:
    return [each.lanes[0].connection.peer for each in pool.endpoints]


def test_servers_come_and_go_with_the_record(
    base: EventBase, script: Script, clock: FakeClock, loop: Any
) -> None:
    with RpcPool(base) as pool:
        followed = pool.follow_srv("_rpc._tcp.example", script)
        assert script.asked == ["_rpc._tcp.example SRV"]
        script.answer(Srv(1, 5, 81, "127.0.0.1"), Srv(2, 0, 82, "127.0.0.2"), ttl_s=10)
        assert servers_of(pool) == [("127.0.0.1", 81), ("127.0.0.2", 82)]
        assert [(each.priority, each.weight) for each in followed.endpoints] == [(1, 5), (2, 1)]
        clock.advance(9.9)
        loop.settle()
        assert len(script.asked) == 1
        clock.advance(0.2)
        loop.settle()
        assert len(script.asked) == 2
        script.answer(Srv(2, 0, 82, "127.0.0.2"), Srv(1, 1, 83, "127.0.0.3"))
        assert servers_of(pool) == [("127.0.0.2", 82), ("127.0.0.3", 83)]
        followed.close()
        assert pool.endpoints == ()


def test_a_failed_look_up_changes_nothing_and_is_tried_again(
    base: EventBase, script: Script, clock: FakeClock, loop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with RpcPool(base) as pool:
        pool.follow_srv("a.example", script, follow=NameOptions(retry_s=3.0))
        script.answer(Srv(1, 1, 81, "127.0.0.1"), ttl_s=1)
        clock.advance(1.1)
        loop.settle()
        script.answer()
        assert servers_of(pool) == [("127.0.0.1", 81)]
        script.failure = Error("closed")
        asked = len(script.asked)
        clock.advance(2.9)
        loop.settle()
        assert len(script.asked) == asked
        assert "cannot be looked up: closed" not in caplog.text
        clock.advance(0.2)
        loop.settle()
        assert "a.example cannot be looked up: closed" in caplog.text
        script.failure = None
        asked = len(script.asked)
        clock.advance(2.9)
        loop.settle()
        assert len(script.asked) == asked
        clock.advance(0.2)
        loop.settle()
        assert len(script.asked) == asked + 1
        script.answer(Srv(1, 1, 84, "127.0.0.4"))
        assert servers_of(pool) == [("127.0.0.4", 84)]


def test_a_name_gives_all_its_addresses_of_both_families(base: EventBase, script: Script) -> None:
    with RpcPool(base) as pool:
        followed = pool.follow_name("host.example", 80, script)
        assert script.asked == ["host.example A", "host.example AAAA"]
        followed.refresh()
        assert len(script.asked) == 2
        script.answer("127.0.0.1")
        assert pool.endpoints == ()
        script.answer("::1")
        assert servers_of(pool) == [("127.0.0.1", 80), ("::1", 80)]


def test_the_ttl_is_bounded(base: EventBase, script: Script, clock: FakeClock, loop: Any) -> None:
    bounds = NameOptions(min_refresh_s=2.0, max_refresh_s=4.0)
    with RpcPool(base) as pool:
        pool.follow_srv("a.example", script, follow=bounds)
        for ttl_s, wait_s in ((0, 2.0), (3600, 4.0), (3, 3.0)):
            asked = len(script.asked)
            script.answer(Srv(1, 1, 81, "127.0.0.1"), ttl_s=ttl_s)
            clock.advance(wait_s - 0.1)
            loop.settle()
            assert len(script.asked) == asked
            clock.advance(0.2)
            loop.settle()
            assert len(script.asked) == asked + 1


def test_servers_are_bounded_and_the_best_are_taken(base: EventBase, script: Script) -> None:
    with RpcPool(base) as pool:
        pool.follow_srv("a.example", script, follow=NameOptions(max_servers=2))
        script.answer(
            Srv(2, 9, 81, "127.0.0.1"),
            Srv(1, 1, 82, "127.0.0.1"),
            Srv(1, 7, 83, "127.0.0.1"),
            Srv(1, 2, 84, "."),
        )
        assert [port for _, port in servers_of(pool)] == [83, 82]


def test_calls_wait_for_the_first_answer(
    base: EventBase, server: RpcServer, port: int, script: Script, loop: Any
) -> None:
    server.register_rpc(Add, handle_add)
    with RpcPool(base, timeout=5.0) as pool:
        pool.follow_srv("a.example", script)
        caller = Caller(pool, loop)
        caller.start()
        loop.settle()
        assert pool.queued_calls == 1
        script.answer(Srv(1, 1, port, "127.0.0.1"))
        assert caller.finish()[0].reply == AddReply(3)


def test_closing_cancels_what_is_asked(base: EventBase, script: Script) -> None:
    pool = RpcPool(base)
    pool.follow_name("a.example", 80, script)
    pool.close()
    assert script.cancelled == 2
    script.answer("127.0.0.1")
    script.answer("::1")
    assert pool.endpoints == ()


@pytest.mark.parametrize(
    "bad",
    [
        {"min_refresh_s": 0},
        {"min_refresh_s": 5, "max_refresh_s": 4},
        {"retry_s": 0},
        {"max_servers": 0},
    ],
)
def test_the_options_are_in_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        NameOptions(**bad)


def test_a_server_that_leaves_the_name_finishes_its_calls_and_none_is_lost(
    base: EventBase, server: RpcServer, http_server: HttpServer, port: int, loop: Any
) -> None:
    """With our own DNS server, as a program has it."""
    held: list[ServerCall[Any, Any]] = []
    server.register_rpc(Add, lambda call, arg: held.append(call))
    with HttpServer(base) as second_http, RpcServer(second_http) as second:
        second.register_rpc(Add, handle_add)
        ports = [port, second_http.bind_socket("127.0.0.1", 0).port]

        def answer(request: Any, arg: object) -> None:
            for each in ports:
                request.add_text(request.questions[0].name, 1, "SRV", f"1 1 {each} localhost.")
            request.respond(0)

        with (
            DnsServer(base, answer) as dns,
            Resolver(base, 0) as resolver,
            RpcPool(base, timeout=600.0) as pool,
        ):
            resolver.nameserver_ip_add(f"127.0.0.1:{dns.bind_udp('127.0.0.1', 0).port}")
            pool.follow_srv("_add._tcp.example.", resolver, resolver=resolver)
            caller = Caller(pool, loop)
            for _ in range(2):
                caller.start()
            loop.until(lambda: held and caller.results)
            del ports[0]
            loop.until(lambda: len(pool.endpoints) == 1)
            for _ in range(5):
                caller.start()
            loop.until(lambda: len(caller.results) == 6)
            held[0].done(AddReply(3))
            assert all(each.reply == AddReply(3) for each in caller.finish())
            loop.until(lambda: http_server.connection_count == 0)
