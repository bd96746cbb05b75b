"""In which order addresses are tried (RFC 6724), and services (RFC 2782)."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import AddrInfoHints
from evsvc.dns import Record, Srv, order_services
from evsvc.dns.resolver.ordering import route_source, sort_addresses


def address(text: str) -> tuple:
    return (text, 80, 0, 0) if ":" in text else (text, 80)


def order(targets: dict[str, str | None]) -> list[str]:
    """Sort targets, given with the source from which each is reached."""
    addresses = [address(text) for text in targets]
    return [found[0] for found in sort_addresses(addresses, lambda each: targets[each[0]])]


@pytest.mark.parametrize(
    "targets",
    [
        # RFC 6724 section 10.2, where the rules that count here decide; the best is first
        {"2001:db8:1::1": "2001:db8:1::2", "198.51.100.121": "169.254.13.78"},
        {"198.51.100.121": "198.51.100.117", "2001:db8:1::1": "fe80::1"},
        {"2001:db8:1::1": "2001:db8:1::2", "10.1.2.3": "10.1.2.4"},
        {"fe80::1": "fe80::2", "2001:db8:1::1": "2001:db8:1::2"},
        {"2001:db8:3ffe::1": "2001:db8:3f44::2", "2001:db8:1::1": "2001:db8:3f44::2"},
        {"2001:db8:1::1": "2001:db8:1::2", "2002:c633:6401::1": "2002:c633:6401::2"},
        {"192.0.2.1": "10.0.0.1", "2001:db8:1::1": None},
        {"2002:c633:6401::1": "2002:c633:6401::2", "2001:db8:1::1": "fd00::2"},
        {"::1": "::1", "127.0.0.1": "127.0.0.1"},
    ],
)
def test_the_rules_of_rfc_6724_decide(targets: dict[str, str | None]) -> None:
    expected = list(targets)
    assert order(targets) == expected
    assert order(dict(reversed(targets.items()))) == expected


def test_what_the_rules_say_nothing_of_stays_in_order() -> None:
    targets: dict[str, str | None] = dict.fromkeys(["10.0.0.9", "10.0.0.1", "10.9.0.1"], "10.0.0.2")
    assert order(targets) == list(targets)
    nowhere: dict[str, str | None] = dict.fromkeys(["10.0.0.9", "10.0.0.1"])
    assert order(nowhere) == list(nowhere)


def test_a_zone_does_not_count() -> None:
    assert order({"fe80::1%lo": "fe80::2%lo", "fe80::1": None}) == ["fe80::1%lo", "fe80::1"]


def test_the_routing_table_is_asked() -> None:
    assert route_source(("127.0.0.1", 0)) == "127.0.0.1"
    assert route_source(("255.255.255.255", 80)) is None


def test_getaddrinfo_sorts_unless_told_otherwise(
    monkeypatch, nameserver, make_resolver, make_reply, results
) -> None:
    monkeypatch.setattr(
        "evsvc.dns.resolver.addrinfo.sort_addresses", lambda found: list(reversed(found))
    )

    def script(packet: bytes) -> bytes:
        return make_reply(packet, "a.test. 60 A 10.0.0.1", "a.test. 60 A 10.0.0.2").to_wire()

    server = nameserver(script)
    hints = AddrInfoHints(socket.AF_INET, socket.SOCK_STREAM)
    for sort_addresses_ in (True, False):
        resolver = make_resolver(server, sort_addresses=sort_addresses_, randomize_case=False)
        resolver.getaddrinfo("a.test.", 80, hints, results)
    results.wait(2)
    found = [[entry.sockaddr[0] for entry in entries] for _, entries in results]
    assert found == [["10.0.0.2", "10.0.0.1"], ["10.0.0.1", "10.0.0.2"]]


def services(*given: tuple[int, int, str]) -> list[Record]:
    return [
        Record("_x._tcp.test", 33, 60, Srv(priority, weight, 80, target))
        for priority, weight, target in given
    ]


@pytest.mark.parametrize(
    ("point", "expected"),
    [(0, ["a", "b", "c"]), (1, ["b", "a", "c"]), (2, ["b", "a", "c"]), (3, ["c", "b", "a"])],
)
def test_weights_decide_among_equals(point: int, expected: list[str]) -> None:
    """The first choice is by `point`, of 0 to 6; the later ones are of the least."""
    records = services((1, 0, "a"), (1, 2, "b"), (1, 4, "c"))
    points = iter([point, 1 if point == 3 else 0, 0])
    highs = []

    def choose(low: int, high: int) -> int:
        highs.append((low, high))
        return next(points)

    assert [srv.target for srv in order_services(records, choose)] == expected
    assert highs[0] == (0, 6)


def test_the_lowest_priority_is_first_and_other_types_are_left_out() -> None:
    records = services((2, 9, "b"), (1, 0, "a"), (3, 0, "c"))
    records.append(Record("_x._tcp.test", 16, 60, (b"text",)))
    assert [srv.target for srv in order_services(records)] == ["a", "b", "c"]


def test_a_service_that_is_not_offered_has_no_targets() -> None:
    assert order_services(services((0, 0, "."))) == []
