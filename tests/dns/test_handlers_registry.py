"""A registry: endpoints come, go, fall ill and recover, and the next answer knows it."""

from __future__ import annotations

import socket

import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import EVLOOP_ONCE
from evsvc.dns import DnsArgumentError, DnsRegistry, DnsStateError, RegistryOptions
from evsvc.dns.handlers.zone_data import ZoneData


@pytest.fixture
def registry() -> DnsRegistry:
    return DnsRegistry("svc.test", options=RegistryOptions(ttl_s=7))


@pytest.fixture
def server(make_server, registry):
    return make_server(registry)


@pytest.fixture
def ask(server, connect):
    """Return `ask(name, type)`: the reply, as dnspython's."""
    client = connect(server.bind_udp("127.0.0.1", 0))

    def ask(name: str, rdtype: str = "A") -> dns.message.Message:
        return dns.message.from_wire(client.ask(dns.message.make_query(name, rdtype).to_wire()))

    return ask


def data(section) -> list[str]:
    return [str(rdata) for rrset in section for rdata in rrset]


def test_a_service_is_answered_by_its_addresses_and_srv(registry, ask) -> None:
    registry.register("web", ("192.0.2.1", 8080), weight=3)
    registry.register("web", ("192.0.2.2", 8081), priority=1, name="second")
    registry.register("web", ("2001:db8::1", 8082))
    reply = ask("WEB.svc.test")
    assert reply.flags & dns.flags.AA
    assert (reply.answer[0].ttl, data(reply.answer)) == (7, ["192.0.2.1", "192.0.2.2"])
    assert data(ask("web.svc.test", "AAAA").answer) == ["2001:db8::1"]
    reply = ask("_web._tcp.svc.test", "SRV")
    assert data(reply.answer) == [
        "0 3 8080 e1.web.svc.test.",
        "1 1 8081 second.web.svc.test.",
        "0 1 8082 e3.web.svc.test.",
    ]
    assert data(reply.additional) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    assert data(ask("second.web.svc.test").answer) == ["192.0.2.2"]


def test_every_change_counts_for_the_next_query(registry, server, ask) -> None:
    first = registry.register("web", ("192.0.2.1", 80))
    second = registry.register("web", ("192.0.2.2", 80))
    serials = [registry.serial]

    def answers() -> tuple[list[str], list[str]]:
        ask("web.svc.test")
        finished = server.counters.finished
        reply = ask("web.svc.test"), ask("_web._tcp.svc.test", "SRV")
        assert server.counters.finished == finished + 1  # the first is repeated by the server
        serials.append(registry.serial)
        return data(reply[0].answer), [line.split()[1] for line in data(reply[1].answer)]

    assert answers() == (["192.0.2.1", "192.0.2.2"], ["1", "1"])
    first.healthy = False
    assert answers() == (["192.0.2.2"], ["1"])
    first.healthy = True
    first.weight = 9
    assert answers() == (["192.0.2.1", "192.0.2.2"], ["9", "1"])
    second.weight = 0
    assert answers() == (["192.0.2.1"], ["9", "0"])
    second.close()
    second.close()
    assert answers() == (["192.0.2.1"], ["9"])
    assert serials == sorted(serials)
    assert len(set(serials[1:])) == 5


def test_what_changes_nothing_flushes_nothing(registry, ask) -> None:
    endpoint = registry.register("web", ("192.0.2.1", 80))
    serial = registry.serial
    endpoint.healthy = True
    endpoint.weight = 1
    assert registry.serial == serial
    endpoint.close()
    serial = registry.serial
    endpoint.healthy = False
    assert registry.serial == serial


def test_a_service_that_is_ill_exists_and_one_that_is_gone_does_not(registry, ask) -> None:
    names = [("web.svc.test", "A"), ("_web._tcp.svc.test", "SRV")]
    endpoint = registry.register("web", ("192.0.2.1", 80))
    endpoint.healthy = False
    for name in names:
        reply = ask(*name)
        assert (reply.rcode(), reply.answer) == (0, [])
        assert reply.authority[0].ttl == 7
    endpoint.close()
    for name in [*names, ("e1.web.svc.test", "A"), ("_tcp.svc.test", "A")]:
        assert ask(*name).rcode() == dns.rcode.NXDOMAIN
    assert ask("svc.test", "SOA").answer


def test_services_do_not_hide_each_other(registry, ask) -> None:
    web = registry.register("web", ("192.0.2.1", 80))
    registry.register("web", ("192.0.2.3", 53), protocol="udp")
    other = registry.register("other", ("192.0.2.2", 80))
    other.close()
    assert data(ask("_web._tcp.svc.test", "SRV").answer) == ["0 1 80 e1.web.svc.test."]
    assert data(ask("_web._udp.svc.test", "SRV").answer) == ["0 1 53 e2.web.svc.test."]
    assert data(ask("web.svc.test").answer) == ["192.0.2.1", "192.0.2.3"]
    web.close()
    assert data(ask("web.svc.test").answer) == ["192.0.2.3"]
    assert registry.endpoints("web") == []
    assert len(registry.endpoints("WEB", "udp")) == len(registry) == 1


def test_what_is_not_in_the_zone_is_refused_and_transfers_are(server, connect, ask) -> None:
    assert ask("example.com").rcode() == dns.rcode.REFUSED
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(dns.message.make_query("svc.test", "AXFR").to_wire())
    assert dns.message.from_wire(client.frames()[0]).rcode() == dns.rcode.REFUSED


def test_nameservers_are_told(make_server) -> None:
    registry = DnsRegistry("svc.test", options=RegistryOptions(nameservers=("ns.test",)))
    replies = []
    packet = dns.message.make_query("svc.test", "NS").to_wire()
    make_server(registry).handle_message(packet, ("::1", 1), replies.append)
    assert data(dns.message.from_wire(replies[0]).answer) == ["ns.test."]


def test_checks_say_who_is_well(registry, base, clock, caplog) -> None:
    well = {"a": True, "b": True}

    def broken() -> bool:
        raise ValueError("no idea")

    endpoints = [
        registry.register("web", ("192.0.2.1", 80), check=lambda: well["a"]),
        registry.register("web", ("192.0.2.2", 80), check=lambda: well["b"]),
        registry.register("web", ("192.0.2.3", 80), check=broken),
        registry.register("web", ("192.0.2.4", 80)),
    ]
    registry.watch(base, 2.0)

    def after(seconds: float) -> list[bool]:
        clock.advance(seconds)
        base.loop(EVLOOP_ONCE)
        return [endpoint.healthy for endpoint in endpoints]

    well["a"] = False
    assert after(2.0) == [False, True, False, True]
    well["a"] = True
    assert after(2.0) == [True, True, False, True]
    assert "no idea" in caplog.text
    registry.close()
    well["b"] = False
    assert after(2.0) == [True, True, False, True]


def test_what_many_changes_cost_grows_with_their_number_alone(
    registry, server, connect, monkeypatch
) -> None:
    """A thousand endpoints of one service come and go; the zone is told when somebody asks."""
    made = []
    make = dns.rrset.from_rdata_list

    def counted(owner, ttl, rdatas):
        made.append(len(rdatas))
        return make(owner, ttl, rdatas)

    monkeypatch.setattr(dns.rrset, "from_rdata_list", counted)
    addresses = [f"10.0.{n >> 8}.{n & 255}" for n in range(1000)]
    endpoints = [registry.register("web", (address, 80)) for address in addresses]
    endpoints[0].healthy = False
    for endpoint in endpoints[500:]:
        endpoint.close()
    assert registry.serial == 1 + 1000 + 1 + 500
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(dns.message.make_query("web.svc.test", "A").to_wire())
    (frame,) = client.frames()
    assert data(dns.message.from_wire(frame).answer) == addresses[1:500]
    assert sum(made) <= 1000 + 2 * 499 + 1


def test_endpoints_are_bounded() -> None:
    registry = DnsRegistry("svc.test", options=RegistryOptions(endpoints=2))
    first = registry.register("a", ("192.0.2.1", 1))
    registry.register("b", ("192.0.2.1", 1))
    with pytest.raises(DnsStateError, match="2"):
        registry.register("c", ("192.0.2.1", 1))
    first.close()
    registry.register("c", ("192.0.2.1", 1))


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("web", ("host.test", 80)), {}),
        (("web", ("0.0.0.0", 80)), {}),
        (("web", ("::", 80)), {}),
        (("web", ("224.0.0.1", 80)), {}),
        (("web", ("fe80::1%eth0", 80)), {}),
        (("web", (1, 80)), {}),
        (("web", "192.0.2.1"), {}),
        (("web", ("192.0.2.1", 0)), {}),
        (("web", ("192.0.2.1", 65536)), {}),
        (("a.b", ("192.0.2.1", 80)), {}),
        (("", ("192.0.2.1", 80)), {}),
        (("_web", ("192.0.2.1", 80)), {}),
        (("w" * 63, ("192.0.2.1", 80)), {}),
        (("web", ("192.0.2.1", 80)), {"protocol": "t.cp"}),
        (("web", ("192.0.2.1", 80)), {"name": "-"}),
        (("web", ("192.0.2.1", 80)), {"name": "taken"}),
        (("web", ("192.0.2.1", 80)), {"weight": 65536}),
        (("web", ("192.0.2.1", 80)), {"priority": -1}),
        (("web", ("192.0.2.1", 80)), {"check": 1}),
    ],
)
def test_endpoints_that_cannot_be_are_refused(registry, args, kwargs) -> None:
    registry.register("web", ("192.0.2.9", 80), name="taken")
    with pytest.raises(DnsArgumentError):
        registry.register(*args, **kwargs)
    assert len(registry) == 1


def test_a_longest_label_and_the_greatest_numbers_are_taken(registry) -> None:
    registry.register("w" * 62, ("192.0.2.9", 65535), weight=65535, priority=65535)


@pytest.mark.parametrize(
    "wrong", [{"ttl_s": -1}, {"keep_s": -1}, {"endpoints": 0}, {"nameservers": ("a..b",)}]
)
def test_options_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(DnsArgumentError):
        RegistryOptions(**wrong)


NAMES = ["a", "b.a", "c.b.a", "d.b.a", "e", "f.e", "h.g.e"]


@pytest.mark.no_cover
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), max_size=30))
def test_a_name_is_there_as_long_as_records_are_at_it_or_below(changes) -> None:
    origin = dns.name.from_text("svc.test.")
    soa = dns.rrset.from_text(origin, 5, "IN", "SOA", ". . 1 2 3 4 5")
    data = ZoneData(origin, [soa])
    present = set()
    for text, has_records in changes:
        name = dns.name.from_text(text, origin)
        rrsets = [dns.rrset.from_text(name, 5, "IN", "A", "10.0.0.1")] if has_records else []
        data.replace_node(name, rrsets)
        (present.add if has_records else present.discard)(name)
        for each in (dns.name.from_text(other, origin) for other in [*NAMES, "g.e"]):
            assert data.has(each) == any(name.is_subdomain(each) for name in present)
    assert data.has(origin)
