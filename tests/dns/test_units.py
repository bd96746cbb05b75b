"""The parts without sockets: addresses, hosts, cache, nameservers, framing, result texts."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import (
    ArgumentError,
    Error,
    EvBuffer,
    StateError,
)
from evsvc.dns import (
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_TIMEOUT,
    DnsArgumentError,
    DnsError,
    DnsFileError,
    DnsResult,
    DnsStateError,
    Record,
    ResolverOptions,
    err_to_string,
)
from evsvc.dns.options import parse_nameserver
from evsvc.dns.resolver.answer import Answer
from evsvc.dns.resolver.cache import AnswerCache
from evsvc.dns.resolver.hosts import HostsTable
from evsvc.dns.resolver.nameservers import Nameserver, NameserverPool, choose_id
from evsvc.dns.resolver.transport import same_endpoint
from evsvc.dns.wire.framing import add_length, take_message
from evsvc.dns.wire.names import domain_name
from evsvc.dns.wire.replies import Question, QuestionKey


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.2.3.4", ("1.2.3.4", 53)),
        ("8.8.8.8:80", ("8.8.8.8", 80)),
        ("3::4", ("3::4", 53, 0, 0)),
        ("::1:82", ("::0.1.0.130", 53, 0, 0)),
        ("[::1]", ("::1", 53, 0, 0)),
        ("[::1]:82", ("::1", 82, 0, 0)),
        ("fe80::1%7", ("fe80::1", 53, 0, 7)),
    ],
)
def test_an_address_may_have_a_port(text, address) -> None:
    assert parse_nameserver(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "foo", "3.14", "1.2.3.4.5", "010.1.2.3", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:65536"),
        *("[1.2.3.4]:53", "[::1", "[::1]x", "[::1]:", "1.2.3.4%1", "::1%no-such-if", "::1%", ":53"),
        *("1.2.3.4:-1", "1.2.3.4:٣", "::1%4294967296", "8.8.8.8:0"),
    ],
)
def test_what_is_no_address_is_refused_with_its_text(text) -> None:
    with pytest.raises(DnsArgumentError) as caught:
        parse_nameserver(text)
    assert repr(text) in str(caught.value)


def test_a_zone_may_be_the_name_of_an_interface() -> None:
    index, name = socket.if_nameindex()[0]
    assert parse_nameserver(f"fe80::1%{name}") == ("fe80::1", 53, 0, index)


@pytest.mark.parametrize(
    "address",
    [
        *(("x", 53), ("1.2.3.4", 0), ("1.2.3.4", 65536), ("1.2.3.4",), ("1.2.3.4", "53"), 5),
        *((5, 53), "/run/dns"),
    ],
)
def test_a_nameserver_needs_a_numeric_host_and_a_port(make_resolver, address) -> None:
    with pytest.raises((ArgumentError, TypeError)):
        make_resolver().nameserver_sockaddr_add(address)


def test_a_socket_address_is_brought_to_one_form(make_resolver) -> None:
    resolver = make_resolver()
    for address in (("2001:DB8::0:1", 53), ("fe80::1", 53, 9, 3)):
        resolver.nameserver_sockaddr_add(address)
    assert resolver.nameserver_addr(0) == ("2001:db8::1", 53, 0, 0)
    assert resolver.nameserver_addr(1) == ("fe80::1", 53, 9, 3)


def test_endpoints_are_the_same_by_host_port_and_scope() -> None:
    assert same_endpoint(("1.2.3.4", 53), ("1.2.3.4", 53))
    assert not same_endpoint(("1.2.3.4", 53), ("1.2.3.4", 54))
    assert not same_endpoint(("1.2.3.4", 53), ("1.2.3.5", 53))
    assert same_endpoint(("fe80::1", 53, 0, 0), ("fe80::1", 53, 0, 3))
    assert not same_endpoint(("fe80::1", 53, 0, 2), ("fe80::1", 53, 0, 3))


def test_hosts_lines_that_make_no_sense_are_skipped() -> None:
    hosts = HostsTable(100)
    assert hosts.add_text(
        "# comment\n\n10.0.0.1 one ONE two#three\n10.0.0.2:53 port\nbad name\n10.0.0.3\n::2 one\n"
    )
    assert hosts.lookup("One") == [("10.0.0.1", 0), ("::2", 0, 0, 0)]
    assert hosts.lookup("two") == [("10.0.0.1", 0)]
    assert len(hosts) == 3
    for name in ("three", "port", "name"):
        assert hosts.lookup(name) == []
    hosts.clear()
    assert hosts.lookup("one") == []
    assert len(hosts) == 0


def test_hosts_give_ipv4_before_ipv6_and_add_up() -> None:
    hosts = HostsTable(100)
    hosts.add_text("::1 host\n")
    hosts.add_text("10.0.0.2 host\n10.0.0.1 host\n")
    assert hosts.lookup("host") == [("10.0.0.2", 0), ("10.0.0.1", 0), ("::1", 0, 0, 0)]


@pytest.mark.parametrize(("limit", "complete"), [(3, True), (2, False)])
def test_hosts_have_a_limit(limit, complete) -> None:
    hosts = HostsTable(limit)
    assert hosts.add_text("10.0.0.1 a b c\n10.0.0.1 a\n") is complete
    assert len(hosts) == min(limit, 3)


def record(text: str, ttl_s: int = 60) -> Record:
    return Record("a", 1, ttl_s, text)


def good(ttl_s: int) -> Answer:
    return Answer(DNS_ERR_NONE, (record("10.0.0.1"),), ttl_s)


def key(name: str, rdtype: int = 1) -> QuestionKey:
    return Question(domain_name(name), rdtype).key


def make_cache(entries: int = 10) -> AnswerCache:
    return AnswerCache(entries, max_ttl_s=100, max_negative_ttl_s=50)


@pytest.mark.parametrize(
    ("result", "ttl_s", "stay_s"),
    [
        (DNS_ERR_NONE, 7, 7),
        (DNS_ERR_NONE, 1000, 100),
        (DNS_ERR_NODATA, 7, 7),
        (DNS_ERR_NODATA, 1000, 50),
        (DNS_ERR_NOTEXIST, 7, 7),
    ],
)
def test_an_answer_stays_for_its_ttl_up_to_the_limit(result, ttl_s, stay_s) -> None:
    cache = make_cache()
    cache.put(key("Name"), Answer(result, ttl_s=ttl_s), 0.0)
    found = cache.get(key("nAME"), stay_s - 1.0)
    assert found is not None
    assert (found.result, found.ttl_s) == (result, 1)
    assert cache.get(key("name", 28), 0.0) is None
    assert cache.get(key("name"), float(stay_s)) is None
    assert len(cache) == 0


@pytest.mark.parametrize("result", [DNS_ERR_TIMEOUT, DNS_ERR_REFUSED, DNS_ERR_SERVERFAILED])
def test_a_failure_is_not_kept_and_takes_nothing_away(result) -> None:
    cache = make_cache()
    cache.put(key("a"), good(9), 0.0)
    cache.put(key("a"), Answer(result, ttl_s=9), 1.0)
    assert cache.get(key("a"), 1.0) == good(8)


def test_the_entry_unused_for_longest_makes_room() -> None:
    cache = make_cache(2)
    for name in ("a", "b"):
        cache.put(key(name), good(9), 0.0)
    assert cache.get(key("a"), 0.0) == good(9)
    cache.put(key("c"), good(9), 0.0)
    assert [cache.get(key(name), 0.0) for name in "abc"] == [good(9), None, good(9)]
    assert len(cache) == 2


def test_a_ttl_of_zero_removes_and_a_cache_of_zero_keeps_nothing() -> None:
    cache = make_cache()
    cache.put(key("a"), good(9), 0.0)
    cache.put(key("a"), good(0), 1.0)
    assert cache.get(key("a"), 1.0) is None
    none = make_cache(0)
    none.put(key("a"), good(9), 0.0)
    assert len(none) == 0
    cache.put(key("a"), good(9), 0.0)
    cache.clear()
    assert len(cache) == 0


def make_pool(count: int, **options) -> NameserverPool:
    pool = NameserverPool(ResolverOptions(**options))
    for index in range(count):
        pool.add(Nameserver((f"10.0.0.{index}", 53)))
    return pool


def line(pool: NameserverPool, number: int = 0) -> list[int]:
    return [pool.servers.index(server) for server in pool.new_plan()(number)]


def test_nameservers_are_asked_in_order_and_dead_ones_last_and_once() -> None:
    pool = make_pool(3)
    assert [line(pool), line(pool, 1)] == [[0, 1, 2]] * 2
    pool.mark_down(pool.servers[0], 0.0)
    assert line(pool) == [1, 2, 0]
    assert line(pool, 1) == [1, 2]


def test_when_all_are_down_they_are_asked_in_every_round() -> None:
    pool = make_pool(2)
    for server in pool.servers:
        pool.mark_down(server, 0.0)
    assert [line(pool), line(pool, 1)] == [[0, 1]] * 2
    assert line(make_pool(0)) == []
    empty = make_pool(0, rotate=True)
    assert [line(empty), line(empty)] == [[], []]


def test_rotate_begins_each_question_at_another_nameserver() -> None:
    pool = make_pool(2, rotate=True)
    assert [line(pool) for _ in range(3)] == [[0, 1], [1, 0], [0, 1]]


def test_a_nameserver_is_down_when_timeouts_exceed_the_limit() -> None:
    pool = make_pool(1, max_timeouts=3)
    (server,) = pool.servers
    assert [pool.note_timeout(server, 0.0) for _ in range(3)] == [False] * 3
    pool.note_answer(server)
    assert [pool.note_timeout(server, 0.0) for _ in range(4)] == [False] * 3 + [True]
    assert not server.up
    pool.note_answer(server)
    assert server.up
    assert server.probe_at is None


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({}, [10, 40, 130, 400]),
        ({"initial_probe_timeout_s": 0.2, "probe_backoff_factor": 10}, [0.2, 2.2, 22.2]),
        ({"initial_probe_timeout_s": 10, "max_probe_timeout_s": 20}, [10, 30, 50]),
    ],
)
def test_probes_back_off_up_to_the_cap(options, times) -> None:
    pool = make_pool(1, **options)
    (server,) = pool.servers
    pool.mark_down(server, 0.0)
    for due in times:
        assert pool.next_probe_at() == pytest.approx(due)
        assert pool.take_due_probes(due - 0.1) == []
        assert pool.take_due_probes(due + 1e-9) == [server]
        assert pool.next_probe_at() is None
        pool.note_failed_probe(server, due)


def test_the_delay_of_probes_never_overflows() -> None:
    pool = make_pool(1, probe_backoff_factor=10)
    (server,) = pool.servers
    pool.mark_down(server, 0.0)
    for _ in range(2000):
        pool.note_failed_probe(server, 0.0)
    assert server.probe_at == 3600


def test_a_nameserver_is_added_once_and_up_to_the_limit() -> None:
    pool = make_pool(2, nameservers=2)
    with pytest.raises(DnsArgumentError, match="there already"):
        pool.add(Nameserver(("10.0.0.1", 53)))
    with pytest.raises(DnsArgumentError, match="more than 2"):
        pool.add(Nameserver(("10.0.0.1", 54)))


def test_ids_are_unused_and_never_ffff() -> None:
    taken = set(range(65536)) - {7, 0xFFFF}
    query_id, noise = choose_id(taken, 3)
    assert (query_id, len(noise)) == (7, 3)


def test_a_message_is_taken_when_it_is_complete() -> None:
    buffer = EvBuffer()
    for byte in add_length(b"abc")[:-1]:
        buffer.add(bytes([byte]))
        assert take_message(buffer) is None
    buffer.add(b"c" + add_length(b"") + b"\0")
    assert [take_message(buffer) for _ in range(3)] == [b"abc", b"", None]


def test_every_result_has_its_text() -> None:
    assert err_to_string(DNS_ERR_TIMEOUT) == "request timed out"
    assert err_to_string(70) == "no records in the reply"
    assert err_to_string(6) == "[Unknown error code]"
    assert len({err_to_string(code) for code in DnsResult}) == len(DnsResult)


def test_errors_are_of_the_family_and_of_the_built_in_that_fits() -> None:
    for kind, parents in {
        DnsArgumentError: (ArgumentError, ValueError),
        DnsStateError: (StateError, RuntimeError),
        DnsFileError: (OSError,),
    }.items():
        assert issubclass(kind, (DnsError, Error))
        assert all(issubclass(kind, parent) for parent in parents)
