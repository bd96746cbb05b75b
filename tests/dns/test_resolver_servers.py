"""Nameservers that are silent, unwilling, closed, dead or back again."""

from __future__ import annotations

import errno

import pytest

from evsvc.core import SocketError
from evsvc.dns import (
    DNS_ERR_NONE,
    DNS_ERR_TIMEOUT,
    DNS_QUERY_USEVC,
    EVDNS_BASE_DISABLE_WHEN_INACTIVE,
    DNS_IPv4_A,
    ResolverOptions,
)
from evsvc.dns.resolver.transport import local_address, open_udp_socket
from tests.dns.ports import bind_udp_and_tcp


def test_a_lost_query_is_sent_again(nameserver, make_resolver, answer_a, results, clock) -> None:
    def script(packet: bytes) -> bytes | None:
        return answer_a()(packet) if len(server.packets) == 3 else None

    server = nameserver(script)
    begin = clock.monotonic()
    resolver = make_resolver(server, timeout_s=0.2, max_timeouts=10)
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert clock.monotonic() - begin == pytest.approx(0.4)


def test_a_late_answer_to_the_first_transmission_counts(
    nameserver, make_resolver, answer_a, results
) -> None:
    held: list[bytes] = []

    def silent(packet: bytes) -> None:
        held.append(packet)

    def second(packet: bytes) -> None:
        first.sock.sendto(answer_a()(held[0]), first.sources[0])

    first, other = nameserver(silent), nameserver(second)
    make_resolver(first, other).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert (len(first.packets), len(other.packets)) == (1, 1)


def test_attempts_are_all_the_transmissions(nameserver, make_resolver, results, clock) -> None:
    server = nameserver(lambda packet: None)
    begin = clock.monotonic()
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results == [(DNS_ERR_TIMEOUT, DNS_IPv4_A, 0, 0, None)]
    assert len(server.packets) == 3
    assert clock.monotonic() - begin == pytest.approx(15)


def test_another_nameserver_is_asked_after_a_timeout(
    nameserver, make_resolver, answer_a, results
) -> None:
    dead, alive = nameserver(lambda packet: None), nameserver(answer_a())
    make_resolver(dead, alive).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert (len(dead.packets), len(alive.packets)) == (1, 1)


@pytest.mark.parametrize(("rotate", "asked"), [(False, [6, 0, 0]), (True, [2, 2, 2])])
def test_nameservers_are_asked_in_order_and_take_turns_only_on_request(
    nameserver, make_resolver, answer_a, results, rotate, asked
) -> None:
    servers = [nameserver(answer_a()) for _ in range(3)]
    resolver = make_resolver(*servers, rotate=rotate)
    for index in range(6):
        resolver.resolve_ipv4(f"host{index}.example.com", 0, results)
    results.wait(6)
    assert [len(server.packets) for server in servers] == asked


@pytest.mark.parametrize("rcode", [4, 5])
def test_an_unwilling_nameserver_sends_the_question_to_the_next_and_stays_up(
    nameserver, make_resolver, make_reply, answer_a, results, rcode
) -> None:
    unwilling = nameserver(lambda packet: make_reply(packet, rcode=rcode).to_wire())
    willing = nameserver(answer_a())
    resolver = make_resolver(unwilling, willing)
    for _ in range(3):
        resolver.resolve_ipv4("host.example.com", 0, results)
        results.wait(len(results) + 1)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 3
    # NOTIMPL may mean EDNS, which is tried without once; no answer about a name marks a server.
    assert (len(unwilling.packets), len(willing.packets)) == (4 if rcode == 4 else 3, 3)


def test_a_closed_port_is_noticed_without_waiting(
    nameserver, make_resolver, answer_a, results, clock
) -> None:
    closed = nameserver(lambda packet: None)
    alive = nameserver(answer_a())
    resolver = make_resolver(closed, alive)
    closed.close()
    begin = clock.monotonic()
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert clock.monotonic() == begin


def test_nameservers_that_are_all_closed_are_a_timeout(nameserver, make_resolver, results) -> None:
    closed = nameserver(lambda packet: None)
    resolver = make_resolver(closed)
    closed.close()
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT


def test_a_dead_nameserver_is_probed_and_comes_back(
    nameserver, make_resolver, answer_a, results, base, clock
) -> None:
    """Reference: four drops with three attempts are TIMEOUT, then a probe; ours is for the root."""

    def script(packet: bytes) -> bytes | None:
        times.append(clock.monotonic())
        return answer_a()(packet) if len(server.packets) > 4 else None

    times: list[float] = []
    server = nameserver(script)
    resolver = make_resolver(server, timeout_s=1, initial_probe_timeout_s=10)
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 1000)
    base.dispatch()
    assert server.names[3:] == [".", "."]
    assert times == pytest.approx([1000, 1001, 1002, 1013, 1044])  # 10 s after, then 3 times more
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait(2)
    assert results[1][0] == DNS_ERR_NONE


def test_an_idle_resolver_does_not_keep_the_loop_alive(
    nameserver, make_resolver, answer_a, results, base
) -> None:
    server = nameserver(answer_a())
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    server.close()
    assert base.dispatch() == 1


def test_an_idle_resolver_does_not_probe_when_it_shall_be_inactive(
    nameserver, make_resolver, results, base
) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, flags=EVDNS_BASE_DISABLE_WHEN_INACTIVE)
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    server.event.delete()
    assert base.dispatch() == 1


def test_a_repeated_failure_of_one_nameserver_counts_once(
    nameserver, make_resolver, make_reply, answer_a, results
) -> None:
    failing = nameserver(lambda packet: [make_reply(packet, rcode=2).to_wire()] * 3)
    working = nameserver(answer_a())
    make_resolver(failing, working).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert (len(failing.packets), len(working.packets)) == (1, 1)


UNREACHABLE = ("255.255.255.255", 53)  # connecting to it is refused by the system


def test_a_nameserver_that_cannot_be_sent_to_is_passed_over(
    nameserver, make_resolver, answer_a, results
) -> None:
    resolver = make_resolver()
    resolver.nameserver_sockaddr_add(UNREACHABLE)
    resolver.nameserver_sockaddr_add(nameserver(answer_a()).address)
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE


def test_thousands_of_lookups_may_fail_at_once(nameserver, make_resolver, results) -> None:
    """Each failure makes room for the next in line; that must not be a recursion."""
    silent = nameserver(lambda packet: None)
    resolver = make_resolver(silent, max_inflight=1)
    resolver.clear_nameservers_and_suspend()
    for index in range(3000):
        resolver.resolve_ipv4(f"host{index}.example.com", 0, results)
    resolver.nameserver_sockaddr_add(UNREACHABLE)
    resolver.resume()
    assert results == []
    results.wait(3000)
    assert [result[0] for result in results] == [DNS_ERR_TIMEOUT] * 3000


def test_a_nameserver_may_have_an_ipv6_address(make_server, make_resolver, results) -> None:
    def answer(request, arg) -> None:
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 1)
        request.respond(0)

    server = make_server(answer)
    try:
        tcp, _ = bind_udp_and_tcp(server, "::1")
    except SocketError:
        pytest.skip("the machine has no IPv6 loopback")
    resolver = make_resolver()
    resolver.nameserver_ip_add(f"[::1]:{tcp.port}")
    resolver.resolve_ipv4("host.example.com", 0, results)
    resolver.resolve_ipv4("host.example.com", DNS_QUERY_USEVC, results)
    results.wait(2)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 2


@pytest.mark.parametrize(
    ("nameserver_address", "bind_to", "local"),
    [
        (("192.0.2.1", 53), None, ("0.0.0.0", 0)),
        (("192.0.2.1", 53), ("192.0.2.9", 80), ("192.0.2.9", 0)),
        (("127.0.0.1", 53), ("192.0.2.9", 80), ("0.0.0.0", 0)),
        (("2001:db8::1", 53, 0, 0), ("192.0.2.9", 80), ("::", 0, 0, 0)),
        (("2001:db8::1", 53, 0, 0), ("fe80::9", 80, 0, 3), ("fe80::9", 0, 0, 3)),
        (("::1", 53, 0, 0), ("fe80::9", 80, 0, 3), ("::", 0, 0, 0)),
    ],
)
def test_bind_to_is_the_source_except_to_loopback(nameserver_address, bind_to, local) -> None:
    assert local_address(nameserver_address, ResolverOptions(bind_to=bind_to)) == local


def test_a_source_address_that_is_not_ours_is_an_os_error() -> None:
    with pytest.raises(OSError, match=r"assign|address"):
        open_udp_socket(("192.0.2.1", 53), ResolverOptions(bind_to=("192.0.2.9", 53)))


@pytest.mark.parametrize("fault", ["closed port", "unreachable", "silence"])
@pytest.mark.parametrize("over_tcp", [0, DNS_QUERY_USEVC])
def test_a_nameserver_that_cannot_be_had_is_marked_as_down(
    nameserver, make_resolver, results, caplog, fault, over_tcp
) -> None:
    silent = nameserver(lambda packet: None)
    address = UNREACHABLE if fault == "unreachable" else silent.address
    if fault == "closed port":
        silent.close()
    resolver = make_resolver(attempts=1, timeout_s=1, max_timeouts=1)
    resolver.nameserver_sockaddr_add(address)
    for count in (1, 2):
        resolver.resolve_ipv4("host.example.com", over_tcp, results)
        results.wait(count)
    assert [result[0] for result in results] == [DNS_ERR_TIMEOUT] * 2
    assert f"{address[0]}:{address[1]} is down" in caplog.text


@pytest.mark.parametrize("fault", ["closed port", "unreachable"])
def test_a_refusal_of_the_network_marks_a_nameserver_at_once(
    nameserver, make_resolver, answer_a, results, caplog, fault
) -> None:
    """Source: evdns.c's nameserver_failed, after sendto and after recvfrom."""
    closed, alive = nameserver(lambda packet: None), nameserver(answer_a())
    address = UNREACHABLE if fault == "unreachable" else closed.address
    closed.close()
    resolver = make_resolver(max_timeouts=255)
    resolver.nameserver_sockaddr_add(address)
    resolver.nameserver_sockaddr_add(alive.address)
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    reason = "its UDP port is closed" if fault == "closed port" else r"[Errno"
    assert f"{address[0]}:{address[1]} is down: {reason}" in caplog.text


def test_a_closed_tcp_port_marks_no_nameserver_before_the_last_round(
    nameserver, make_resolver, answer_a, results, caplog
) -> None:
    """Over UDP it may answer all the same."""
    resolver = make_resolver(nameserver(answer_a()), attempts=3, max_timeouts=255)
    resolver.resolve_ipv4("host.example.com", DNS_QUERY_USEVC, results)
    resolver.resolve_ipv4("other.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert "is down" not in caplog.text


def test_after_an_unreachable_network_the_first_question_is_answered_at_once(
    nameserver, make_resolver, answer_a, results, caplog, clock, monkeypatch
) -> None:
    """A machine that changes networks must not wait for a probe."""

    def refuse(*args: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    servers = nameserver(answer_a()), nameserver(answer_a())
    resolver = make_resolver(*servers)
    with monkeypatch.context() as away:
        away.setattr("evsvc.dns.resolver.transport.open_udp_socket", refuse)
        resolver.resolve_ipv4("host.example.com", 0, results)
        results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT
    assert caplog.text.count("is down") == 2
    begin = clock.monotonic()
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait(2)
    assert results[1][0] == DNS_ERR_NONE
    assert clock.monotonic() == begin


@pytest.mark.parametrize("rcode", [1, 2, 3, 4, 5, 9])
def test_an_answer_about_a_name_never_marks_its_nameserver(
    nameserver, make_resolver, make_reply, results, caplog, rcode
) -> None:
    server = nameserver(lambda packet: make_reply(packet, rcode=rcode).to_wire())
    resolver = make_resolver(server, max_timeouts=1)
    for count in (1, 2, 3):
        resolver.resolve_ipv4("host.example.com", 0, results)
        results.wait(count)
    assert "is down" not in caplog.text
