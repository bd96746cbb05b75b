"""The life of lookups: the line, the search list, cancelling, closing, suspending."""

from __future__ import annotations

import dns.message
import pytest

from evsvc.dns import (
    DNS_ERR_CANCEL,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_SHUTDOWN,
    DNS_QUERY_NO_SEARCH,
    DNS_QUERY_USEVC,
    DNS_IPv4_A,
    DNS_IPv6_AAAA,
    DnsArgumentError,
    DnsStateError,
)
from tests.dns.ports import bind_udp_and_tcp


@pytest.mark.parametrize("inflight", [3, 20])
def test_lookups_beyond_max_inflight_wait_their_turn(
    nameserver, make_resolver, answer_a, results, inflight
) -> None:
    server = nameserver(answer_a())
    resolver = make_resolver(server, max_inflight=inflight, randomize_case=False)
    for index in range(20):
        resolver.resolve_ipv4(f"host{index}.example.com", 0, results)
    results.wait(20)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 20
    assert server.names == [f"host{index}.example.com" for index in range(20)]


def test_no_more_than_max_inflight_are_on_the_wire(nameserver, make_resolver, base) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, max_inflight=3, max_waiting=2)
    for index in range(5):
        resolver.resolve_ipv4(f"host{index}.example.com", 0, lambda *args: None)
    with pytest.raises(DnsStateError, match="2 look-ups are waiting"):
        resolver.resolve_ipv4("host.example.com", 0, lambda *args: None)
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 1)
    base.dispatch()
    assert len(server.packets) == 3


def test_a_freed_place_goes_to_the_next_in_line(
    nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a())
    resolver = make_resolver(server, max_inflight=1)
    first = resolver.resolve_ipv4("first.example.com", 0, results)
    resolver.resolve_ipv4("second.example.com", 0, results)
    first.cancel()
    results.wait(2)
    assert [result[0] for result in results] == [DNS_ERR_CANCEL, DNS_ERR_NONE]


def test_cancel_is_answered_from_the_loop_and_once(nameserver, make_resolver, results) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, max_inflight=1)
    on_wire = resolver.resolve_ipv4("host.example.com", 0, results)
    waiting = resolver.resolve_ipv6("host.example.com", 0, results)
    for lookup in (on_wire, waiting, on_wire):
        resolver.cancel_request(lookup)
    assert results == []
    results.wait(3)
    assert sorted(results) == [
        (DNS_ERR_CANCEL, DNS_IPv4_A, 0, 0, None),
        (DNS_ERR_CANCEL, DNS_IPv6_AAAA, 0, 0, None),
    ]


def test_cancel_ends_a_search(nameserver, make_resolver, make_reply, results) -> None:
    """Reference: cancelled after the third of four suffixes, once."""

    def script(packet: bytes) -> bytes | None:
        if len(server.packets) == 3:
            lookup.cancel()
            return None
        return make_reply(packet, rcode=3).to_wire()

    server = nameserver(script)
    resolver = make_resolver(server)
    for suffix in "abcd":
        resolver.search_add(f"{suffix}.example.com")
    lookup = resolver.resolve_ipv4("host", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_CANCEL
    assert len(server.packets) == 3


def found_only(make_reply, *names: str):
    """Return a script that knows these names and no others."""

    def script(packet: bytes) -> bytes:
        name = dns.message.from_wire(packet).question[0].name.to_text()
        if name.lower().rstrip(".") in names:
            return make_reply(packet, f"{name} 1 A 11.22.33.44").to_wire()
        return make_reply(packet, rcode=3).to_wire()

    return script


@pytest.mark.parametrize(
    ("name", "flags", "asked", "result"),
    [
        ("host", 0, ["host.a.example.com", "host.b.example.com"], DNS_ERR_NONE),
        ("host", DNS_QUERY_NO_SEARCH, ["host"], DNS_ERR_NOTEXIST),
        ("host.", 0, ["host"], DNS_ERR_NOTEXIST),
        (
            "host3",
            0,
            ["host3.a.example.com", "host3.b.example.com", "host3"],
            DNS_ERR_NOTEXIST,
        ),
        ("host.b.example.com", 0, ["host.b.example.com"], DNS_ERR_NONE),
        ("x.y", 0, ["x.y", "x.y.a.example.com", "x.y.b.example.com"], DNS_ERR_NOTEXIST),
    ],
)
def test_the_search_list_is_tried_in_order(
    nameserver, make_resolver, make_reply, results, name, flags, asked, result
) -> None:
    server = nameserver(found_only(make_reply, "host.b.example.com"))
    resolver = make_resolver(server)
    resolver.search_add(".a.example.com")
    resolver.search_add("b.example.com")
    resolver.resolve_ipv4(name, flags, results)
    results.wait()
    assert server.names == asked
    assert results[0][0] == result


def test_close_fails_what_is_on_the_wire_and_what_waits(nameserver, make_resolver, results) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, max_inflight=11)
    for _ in range(20):
        resolver.resolve_ipv4("host.example.com", 0, results)
    resolver.close()
    resolver.close()
    assert results == []
    results.wait(20)
    assert [result[0] for result in results] == [DNS_ERR_SHUTDOWN] * 20
    with pytest.raises(DnsStateError):
        resolver.resolve_ipv4("host.example.com", 0, results)


def test_close_without_fail_requests_calls_nobody(nameserver, make_resolver, results, base) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server)
    resolver.resolve_ipv4("host.example.com", 0, results)
    resolver.getaddrinfo("host.example.com", 80, None, results)
    resolver.close(fail_requests=False)
    server.close()
    assert base.dispatch() == 1
    assert results == []


def test_a_callback_may_close_the_resolver_and_start_lookups(
    nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a())
    resolver = make_resolver(server)

    def first(*args: object) -> None:
        resolver.resolve_ipv4("second.example.com", 0, second)

    def second(*args: object) -> None:
        resolver.resolve_ipv4("third.example.com", 0, results)
        resolver.close()

    resolver.resolve_ipv4("first.example.com", 0, first)
    results.wait()
    assert results[0][0] == DNS_ERR_SHUTDOWN


def test_a_callback_that_raises_loses_no_other_answer(
    nameserver, make_resolver, answer_a, results, base, caplog
) -> None:
    server = nameserver(answer_a())
    resolver = make_resolver(server)

    def fail(*args: object) -> None:
        raise LookupError("from the program")

    resolver.resolve_ipv4("one.example.com", 0, fail)
    resolver.resolve_ipv4("two.example.com", 0, results)
    told: list[BaseException] = []
    base.exception_handler = told.append
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert [type(error) for error in told] == [LookupError]
    assert "the callback of a look-up raised" in caplog.text


def test_without_nameservers_a_lookup_fails_from_the_loop(make_resolver, results) -> None:
    make_resolver().resolve_ipv4("host.example.com", 0, results)
    assert results == []
    results.wait()
    assert results[0][0] == DNS_ERR_SERVERFAILED


def test_suspended_lookups_start_anew_with_the_nameservers_that_come(
    nameserver, make_resolver, answer_a, results, base, clock
) -> None:
    dead = nameserver(lambda packet: None)
    alive = nameserver(answer_a())
    resolver = make_resolver(dead, max_inflight=2, randomize_case=False)
    for name in "abc":
        resolver.resolve_ipv4(f"{name}.example.com", 0, results)
    resolver.clear_nameservers_and_suspend()
    assert resolver.count_nameservers() == 0
    resolver.resume()  # without a nameserver, nothing
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 60)
    base.dispatch()
    assert results == []
    resolver.nameserver_sockaddr_add(alive.address)
    resolver.resume()
    results.wait(3)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 3
    assert alive.names == ["a.example.com", "b.example.com", "c.example.com"]


@pytest.mark.parametrize(
    "name",
    ["", "@", "a..b", ".example.com", "x" * 64, ".".join(["x" * 63] * 5), "\udc80", "x" * 5000],
)
def test_what_is_no_name_is_refused_at_the_call(make_resolver, results, name) -> None:
    resolver = make_resolver()
    resolver.search_add("example.com")
    with pytest.raises(DnsArgumentError):
        resolver.resolve_ipv4(name, 0, results)


def test_bad_arguments_name_the_value(make_resolver, results) -> None:
    resolver = make_resolver()
    with pytest.raises(DnsArgumentError, match="0x100"):
        resolver.resolve_ipv4("example.com", 0x100, results)
    with pytest.raises(DnsArgumentError, match=r"1\.2\.3"):
        resolver.resolve_reverse("1.2.3", 0, results)
    with pytest.raises(DnsArgumentError, match=r"1\.2\.3\.4"):
        resolver.resolve_reverse_ipv6("1.2.3.4", 0, results)


def test_a_thousand_lookups_half_cancelled_have_one_answer_each(
    nameserver, make_resolver, answer_a, base
) -> None:
    server = nameserver(answer_a())
    resolver = make_resolver(server)
    answers: list[list[int]] = [[] for _ in range(1000)]

    def done(result: int, *args: object) -> None:
        mine = args[-1]
        assert isinstance(mine, list)
        mine.append(result)

    lookups = [resolver.resolve_ipv4("host.example.com", 0, done, mine) for mine in answers]
    for lookup in lookups[::2]:
        base.once(-1, 1, lambda fd, what, target: target.cancel(), lookup, 1e-6)
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 3600)
    base.dispatch()
    assert [len(mine) for mine in answers] == [1] * 1000
    assert all(mine == [DNS_ERR_NONE] for mine in answers[1::2])


def test_an_answer_on_its_way_is_not_delivered_after_a_silent_close(
    make_resolver, results, base
) -> None:
    resolver = make_resolver()
    resolver.resolve_ipv4("host.example.com", 0, results)  # answered, with no nameserver
    resolver.close(fail_requests=False)
    assert base.dispatch() == 1
    assert results == []


def test_a_base_may_be_closed_before_the_resolver(nameserver, make_resolver, results, base) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server)
    resolver.resolve_ipv4("host.example.com", 0, results)
    resolver.resolve_ipv4("host.example.com", DNS_QUERY_USEVC, results)
    resolver.getaddrinfo("host.example.com", 80, None, results)
    base.close()
    resolver.close()
    assert results == []


SOA = "example.com. 60 SOA ns.example.com. admin.example.com. 1 2 3 4 5"


@pytest.mark.parametrize(
    ("rcode", "records", "authority"),
    [
        (0, ["host.example.com. 7 A 10.0.0.1"], []),
        (0, ["host.example.com. 7 CNAME b.example.com.", "b.example.com. 5 A 10.0.0.1"], []),
        (0, ["host.example.com. 7 CNAME host.example.org."], []),
        (0, [], [SOA]),
        (3, [], [SOA]),
        (3, [], []),
        (2, [], []),
        (5, [], []),
        (None, [], []),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_one_question_without_a_search_is_told_what_a_search_tells(
    nameserver, make_resolver, make_reply, results, rcode, records, authority, known
) -> None:
    """A deadline makes a search of it."""

    def script(packet: bytes) -> bytes | None:
        if rcode is None:
            return None
        return make_reply(packet, *records, rcode=rcode, authority=tuple(authority)).to_wire()

    resolver = make_resolver(nameserver(script), cache_entries=9 if known else 0)
    for count in (1, 2):
        resolver.query("host.example.com", "A", results, timeout_s=None if count == 1 else 1e6)
        results.wait(count)
        if known and count == 1:
            resolver.query("host.example.com", "A", results)
            results.wait(2)
            assert results.pop() == results[0]
    assert results[0] == results[1]


def test_a_known_answer_may_be_cancelled_before_it_is_told(
    nameserver, make_resolver, answer_a, results, base
) -> None:
    resolver = make_resolver(nameserver(answer_a()))
    resolver.query("host.example.com", "A", results)
    results.wait()
    lookup = resolver.query("host.example.com", "A", results)
    lookup.cancel()
    lookup.cancel()
    assert len(results) == 1
    results.wait(2)
    lookup.cancel()
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 1)
    base.dispatch()
    assert [answer.result for (answer,) in results] == [DNS_ERR_NONE, DNS_ERR_CANCEL]


@pytest.mark.parametrize("over_tcp", [0, DNS_QUERY_USEVC])
def test_the_callback_of_a_packet_may_close_the_resolver_and_all_that_wait_are_told(
    make_server, make_resolver, base, over_tcp
) -> None:
    def answer(request, arg) -> None:
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 1)
        request.respond(0)

    def take(answer, number) -> None:
        told.append((number, answer.result))
        resolver.close()
        if len(told) == 6:
            base.loopbreak()

    told: list[tuple[int, int]] = []
    tcp, _ = bind_udp_and_tcp(make_server(answer), "127.0.0.1")
    resolver = make_resolver()
    resolver.nameserver_ip_add(f"127.0.0.1:{tcp.port}")
    for number in range(6):
        name = "same.example.com" if number < 3 else f"host{number}.example.com"
        resolver.query(name, "A", take, number, flags=over_tcp)
    base.dispatch()
    assert sorted(number for number, _ in told) == list(range(6))
    assert told[:3] == [(0, DNS_ERR_NONE), (1, DNS_ERR_NONE), (2, DNS_ERR_NONE)]
    assert {result for _, result in told[3:]} == {DNS_ERR_SHUTDOWN}


def test_a_callback_that_is_told_by_a_packet_may_ask_again_and_again(
    nameserver, make_resolver, answer_a, base
) -> None:
    """It is not called from inside of the call that asks, however soon the answer comes."""

    def take(answer, arg) -> None:
        nonlocal count, depth
        assert depth == 0
        depth += 1
        count += 1
        if count < 500:
            resolver.query(f"host{count % 3}.example.com", "A", take)
        else:
            base.loopbreak()
        depth -= 1

    count = depth = 0
    resolver = make_resolver(nameserver(answer_a(ttl=2)))
    resolver.query("host.example.com", "A", take)
    base.dispatch()
    assert count == 500


def test_a_closed_resolver_looks_nothing_up(make_resolver, results) -> None:
    resolver = make_resolver()
    resolver.close()
    for ask in (
        lambda: resolver.query("host.example.com", "A", results),
        lambda: resolver.resolve_ipv4("host.example.com", 0, results),
        lambda: resolver.resolve_ipv6("host.example.com", 0, results),
        lambda: resolver.resolve_reverse("10.0.0.1", 0, results),
        lambda: resolver.resolve_reverse_ipv6("::1", 0, results),
        lambda: resolver.getaddrinfo("host.example.com", 80, None, results),
    ):
        with pytest.raises(DnsStateError, match="closed"):
            ask()
    assert results == []


class HastyTransport:
    """Has the reply at hand when the question is sent; the first is SERVFAIL."""

    def __init__(self, base, server, options, on_packet, on_lost, *, make_reply) -> None:
        self.on_packet = on_packet
        self.make_reply = make_reply
        self.asked = 0

    def send(self, sent) -> None:
        self.asked += 1
        if self.asked == 1:
            reply = self.make_reply(sent.packet, rcode=2)
        else:
            name = dns.message.from_wire(sent.packet).question[0].name
            reply = self.make_reply(sent.packet, f"{name} 5 A 10.0.0.1")
        assert self.on_packet(sent, reply.to_wire())

    def forget(self, sent) -> None:
        pass

    def give_up(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_reply_that_comes_while_the_question_is_sent_is_told_from_the_loop(
    make_resolver, make_reply, results, base
) -> None:
    made: list[HastyTransport] = []

    def make(*args) -> HastyTransport:
        made.append(HastyTransport(*args, make_reply=make_reply))
        return made[-1]

    resolver = make_resolver()
    resolver.nameserver_transport_add(("192.0.2.1", 53), "hasty", make)
    for index in range(3):
        resolver.query(f"host{index}.example.com", "A", results)
        resolver.query(f"host{index}.example.com", "A", results)
    assert results == []
    results.wait(6)
    assert [answer.result for (answer,) in results] == [DNS_ERR_NONE] * 6
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 60)
    base.dispatch()
    assert [transport.asked for transport in made] == [4]  # nobody waits for more
