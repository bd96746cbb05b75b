"""From which UDP ports questions come, and how long each may wait."""

from __future__ import annotations

import gc
import secrets
import socket
from collections import Counter

import pytest

from evsvc.dns import (
    DNS_ERR_NONE,
    DNS_ERR_TIMEOUT,
    Answer,
    DnsArgumentError,
    DnsStateError,
    ResolverOptions,
)
from evsvc.dns.resolver.flight import Flight, Sent
from evsvc.dns.resolver.waits import Waits


def ask_many(resolver, results, count: int) -> None:
    for index in range(count):
        resolver.query(f"host{index}.example.com", "A", results)
    results.wait(count)


@pytest.mark.parametrize(("uses", "ports"), [(1, 40), (2, 20), (16, 4)])
def test_a_port_is_used_again_while_others_wait_but_not_too_often(
    nameserver, make_resolver, answer_a, results, uses, ports, monkeypatch
) -> None:
    drawn: set[int] = set()

    def draw_once(limit: int, draw=secrets.randbelow) -> int:
        """Chance gives one port twice in a hundred runs, which looks like one used too often."""
        while (number := draw(limit)) in drawn:
            pass
        drawn.add(number)
        return number

    monkeypatch.setattr("evsvc.dns.resolver.transport.secrets.randbelow", draw_once)
    server = nameserver(answer_a())
    ask_many(make_resolver(server, udp_port_uses=uses, max_inflight=4), results, 40)
    asked_from = [port for _, port in server.sources]
    assert max(asked_from.count(port) for port in asked_from) <= uses
    assert len(set(asked_from)) >= ports
    assert uses == 1 or len(set(asked_from)) < 40


def test_questions_one_by_one_have_new_ports_and_leave_nothing_open(
    base, nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a())
    resolver = make_resolver(server)
    for index in range(1, 9):
        resolver.query(f"host{index}.example.com", "A", results)
        results.wait(index)
    assert len(set(server.sources)) == 8
    server.event.close()
    assert base.dispatch() == 1  # nothing is pending


def test_a_port_to_which_somebody_guessed_is_not_used_again(
    nameserver, make_resolver, answer_a, results
) -> None:
    def script(packet: bytes) -> list[bytes]:
        return [b"\0\0" + packet[2:], answer_a()(packet)]

    server = nameserver(script)
    ask_many(make_resolver(server, max_inflight=4), results, 20)
    assert [answer.result for (answer,) in results] == [DNS_ERR_NONE] * 20
    assert len(set(server.sources)) == 20


def count_alive(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


def test_ten_thousand_at_once_are_answered_once_each_and_leave_nothing(
    base, nameserver, make_resolver, answer_a
) -> None:
    """The named limits bound what is held: max_inflight queries, each on a socket, and a line."""

    def script(packet: bytes) -> bytes:
        nonlocal asked
        asked += 1
        if asked % 500 == 0:
            on_wire.append(count_alive(Sent))
            sockets.append(count_alive(socket.socket))
        return answer_a()(packet)

    def take(answer: Answer, number: int) -> None:
        told[number] += 1
        assert [record.data for record in answer.records] == ["192.168.11.11"]
        if told.total() == 10_000:
            base.loopbreak()

    asked = 0
    told: Counter[int] = Counter()
    on_wire: list[int] = []
    sockets: list[int] = []
    server = nameserver(script)
    resolver = make_resolver(server, max_inflight=64, max_waiting=9936, cache_entries=100)
    gc.collect()
    before = count_alive(Flight), count_alive(Sent), count_alive(socket.socket)
    for number in range(10_000):
        resolver.query(f"host{number}.example.com", "A", take, number)
    with pytest.raises(DnsStateError, match="9936 look-ups are waiting"):
        resolver.query("one-more.example.com", "A", take, 10_000)
    base.dispatch()
    assert told == Counter(range(10_000))
    assert len(server.packets) == 10_000
    assert max(on_wire) <= before[1] + 64
    assert max(sockets) <= before[2] + 64
    assert len(resolver.cached_answers()) == 100
    gc.collect()
    assert (count_alive(Flight), count_alive(Sent), count_alive(socket.socket)) == before


@pytest.mark.parametrize("uses", [0, 65536, "x"])
def test_the_number_of_uses_has_its_range(uses) -> None:
    with pytest.raises(DnsArgumentError, match="udp_port_uses"):
        ResolverOptions(udp_port_uses=uses)


def test_a_wait_that_is_made_shorter_ends_first(
    base, clock, nameserver, make_resolver, results
) -> None:
    resolver = make_resolver(nameserver(lambda packet: None), timeout_s=100, attempts=1)
    resolver.query("slow.example.com", "A", results, "slow")
    resolver.set_option("timeout", "1")
    began = clock.monotonic()
    resolver.query("fast.example.com", "A", results)
    results.wait(1)
    assert clock.monotonic() - began < 2
    results.wait(2)
    assert clock.monotonic() - began == pytest.approx(100, abs=1)
    assert [answer.result for (answer,) in results] == [DNS_ERR_TIMEOUT] * 2


def test_waits_end_in_the_order_of_their_moments() -> None:
    waits = Waits()
    for name, due_at in (("a", 5.0), ("b", 3.0), ("c", 4.0), ("a", 6.0), ("d", 6.0)):
        waits.start(name, due_at)
    assert waits.next_due() == 3.0
    assert waits.pop_due(2.9) is None
    assert not waits.stop("c")
    assert not waits.stop("nobody")
    assert [waits.pop_due(6.0) for _ in range(4)] == ["b", "a", "d", None]
    assert waits.next_due() is None
    waits.start("e", 7.0)
    assert waits.stop("e")
