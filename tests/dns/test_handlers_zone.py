"""A zone as a handler: what it says to each kind of question, transfers, reloads."""

from __future__ import annotations

import os
import socket

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest

from evsvc.core import EVLOOP_ONCE
from evsvc.dns import DnsArgumentError, DnsFileError, DnsZone, ZoneOptions

ZONE = """\
$ORIGIN example.com.
$TTL 300
@ IN SOA ns1 admin 7 7200 900 604800 60
@ IN NS ns1
@ IN NS ns.elsewhere.net.
@ IN MX 10 mail
@ IN TXT "the top"
ns1 IN A 192.0.2.53
ns1 IN AAAA 2001:db8::53
mail IN A 192.0.2.25
www IN A 192.0.2.1
www IN A 192.0.2.2
www IN TXT "web"
alias IN CNAME www
chain IN CNAME alias
away IN CNAME www.example.net.
lost IN CNAME nowhere
loop1 IN CNAME loop2
loop2 IN CNAME loop1
_http._tcp IN SRV 0 5 80 www
*.wild IN A 192.0.2.7
*.wild IN MX 5 mail
kept.wild IN TXT "no wildcard here"
*.aliases IN CNAME www
deep.er.down IN A 192.0.2.8
sub IN NS ns.sub
sub IN NS ns1
sub IN DS 12345 8 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.sub IN A 192.0.2.54
hidden.sub IN A 192.0.2.99
old IN DNAME new
host.new IN A 192.0.2.9
old IN TXT "beside it"
signed IN A 192.0.2.10
signed IN RRSIG A 8 3 300 20300101000000 20200101000000 1 example.com. AAAA
"""
PEERS = ZoneOptions(transfers_to=("127.0.0.1",))


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


@pytest.fixture
def zone() -> DnsZone:
    return DnsZone.from_text(ZONE)


@pytest.fixture
def ask(make_server, zone):
    """Return `ask(name, type)`: the reply of the zone, as dnspython's."""
    server = make_server(zone)

    def ask(name: str, rdtype: str = "A", **kwargs) -> dns.message.Message:
        replies = []
        packet = query(name, rdtype, **kwargs)
        server.handle_message(packet, ("192.0.2.99", 5353), replies.append)
        return dns.message.from_wire(replies[0])

    return ask


def lines(section) -> list[str]:
    return [line for rrset in section for line in rrset.to_text().splitlines()]


SOA = "example.com. 60 IN SOA ns1.example.com. admin.example.com. 7 7200 900 604800 60"
WWW = ["www.example.com. 300 IN A 192.0.2.1", "www.example.com. 300 IN A 192.0.2.2"]
ALIAS = "alias.example.com. 300 IN CNAME www.example.com."


@pytest.mark.parametrize(
    ("name", "rdtype", "answer"),
    [
        ("www.example.com", "A", WWW),
        (
            "WWW.Example.COM",
            "A",
            [line.replace("www.example.com", "WWW.Example.COM") for line in WWW],
        ),
        ("alias.example.com", "A", [ALIAS, *WWW]),
        ("alias.example.com", "CNAME", [ALIAS]),
        (
            "chain.example.com",
            "A",
            ["chain.example.com. 300 IN CNAME alias.example.com.", ALIAS, *WWW],
        ),
        ("away.example.com", "A", ["away.example.com. 300 IN CNAME www.example.net."]),
        ("x.wild.example.com", "A", ["x.wild.example.com. 300 IN A 192.0.2.7"]),
        ("a.b.wild.example.com", "A", ["a.b.wild.example.com. 300 IN A 192.0.2.7"]),
        ("*.wild.example.com", "A", ["*.wild.example.com. 300 IN A 192.0.2.7"]),
        (
            "x.aliases.example.com",
            "A",
            ["x.aliases.example.com. 300 IN CNAME www.example.com.", *WWW],
        ),
        ("signed.example.com", "RRSIG", None),
        (
            "host.old.example.com",
            "A",
            [
                "old.example.com. 300 IN DNAME new.example.com.",
                "host.old.example.com. 300 IN CNAME host.new.example.com.",
                "host.new.example.com. 300 IN A 192.0.2.9",
            ],
        ),
        (
            "none.old.example.com",
            "CNAME",
            [
                "old.example.com. 300 IN DNAME new.example.com.",
                "none.old.example.com. 300 IN CNAME none.new.example.com.",
            ],
        ),
        ("old.example.com", "TXT", ['old.example.com. 300 IN TXT "beside it"']),
        ("sub.example.com", "DS", None),
    ],
)
def test_what_exists_is_answered_with_authority(ask, name, rdtype, answer) -> None:
    reply = ask(name, rdtype)
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.flags & dns.flags.AA
    assert reply.answer
    if answer is not None:
        assert lines(reply.answer) == answer
    assert reply.authority == []


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "answers"),
    [
        ("none.example.com", "A", "NXDOMAIN", 0),
        ("a.none.example.com", "A", "NXDOMAIN", 0),
        ("x.www.example.com", "A", "NXDOMAIN", 0),
        ("lost.example.com", "A", "NXDOMAIN", 1),
        ("www.example.com", "AAAA", "NOERROR", 0),
        ("alias.example.com", "AAAA", "NOERROR", 1),
        ("x.wild.example.com", "AAAA", "NOERROR", 0),
        ("wild.example.com", "A", "NOERROR", 0),
        ("kept.wild.example.com", "A", "NOERROR", 0),
        ("x.kept.wild.example.com", "A", "NXDOMAIN", 0),
        ("er.down.example.com", "A", "NOERROR", 0),
        ("down.example.com", "A", "NOERROR", 0),
        ("x.down.example.com", "A", "NXDOMAIN", 0),
        ("nowhere.old.example.com", "A", "NXDOMAIN", 2),
        ("example.com", "A", "NOERROR", 0),
    ],
)
def test_what_does_not_exist_is_answered_with_the_soa(ask, name, rdtype, rcode, answers) -> None:
    reply = ask(name, rdtype)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert reply.flags & dns.flags.AA
    assert len(lines(reply.answer)) == answers
    assert lines(reply.authority) == [SOA]


@pytest.mark.parametrize(
    "name", ["sub.example.com", "hidden.sub.example.com", "a.b.sub.example.com"]
)
def test_what_is_delegated_is_referred_with_glue(ask, name) -> None:
    reply = ask(name)
    assert not reply.flags & dns.flags.AA
    assert (reply.rcode(), reply.answer) == (0, [])
    assert lines(reply.authority) == [
        "sub.example.com. 300 IN NS ns.sub.example.com.",
        "sub.example.com. 300 IN NS ns1.example.com.",
    ]
    assert lines(reply.additional) == [
        "ns.sub.example.com. 300 IN A 192.0.2.54",
        "ns1.example.com. 300 IN A 192.0.2.53",
        "ns1.example.com. 300 IN AAAA 2001:db8::53",
    ]


@pytest.mark.parametrize(
    ("name", "rdtype", "hosts"),
    [
        ("example.com", "NS", {"ns1.example.com. 300 IN A 192.0.2.53"}),
        ("example.com", "MX", {"mail.example.com. 300 IN A 192.0.2.25"}),
        ("x.wild.example.com", "MX", {"mail.example.com. 300 IN A 192.0.2.25"}),
        ("_http._tcp.example.com", "SRV", set(WWW)),
    ],
)
def test_addresses_of_hosts_that_are_named_come_along(ask, name, rdtype, hosts) -> None:
    assert hosts <= set(lines(ask(name, rdtype).additional))


def test_a_loop_of_aliases_is_an_error(ask) -> None:
    reply = ask("loop1.example.com")
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert len(lines(reply.answer)) == 2


@pytest.mark.parametrize(("links", "answers"), [(16, 17), (17, 17)])
def test_a_chain_of_aliases_is_followed_so_far(make_server, links, answers) -> None:
    chain = "".join(f"c{n} IN CNAME c{n + 1}\n" for n in range(links))
    replies = []
    server = make_server(DnsZone.from_text(f"{ZONE}{chain}c{links} IN A 192.0.2.1\n"))
    server.handle_message(query("c0.example.com"), ("192.0.2.1", 1), replies.append)
    reply = dns.message.from_wire(replies[0])
    assert (reply.rcode(), len(lines(reply.answer))) == (0, answers)
    assert ("192.0.2.1" in str(reply.answer[-1])) is (links == 16)


def test_any_gets_one_set(ask) -> None:
    assert lines(ask("www.example.com", "ANY").answer) == WWW
    assert lines(ask("alias.example.com", "ANY").answer) == [ALIAS]
    assert len(ask("down.example.com", "ANY").authority) == 1


def test_a_name_that_dname_makes_too_long_is_yxdomain(make_server) -> None:
    text = "$ORIGIN a.\n@ 60 SOA n h 1 2 3 4 5\n@ 60 NS n\nx 60 DNAME " + ".".join(["l" * 60] * 3)
    replies = []
    long_name = ".".join(["m" * 60, "n" * 60, "x.a"])
    server = make_server(DnsZone.from_text(text))
    server.handle_message(query(long_name), ("192.0.2.1", 1), replies.append)
    assert dns.message.from_wire(replies[0]).rcode() == dns.rcode.YXDOMAIN


@pytest.mark.parametrize("name", ["example.net", "com", ".", "notexample.com"])
def test_what_is_not_in_the_zone_is_refused(ask, name) -> None:
    reply = ask(name, use_edns=0)
    assert (reply.rcode(), reply.flags & dns.flags.AA) == (dns.rcode.REFUSED, 0)
    assert [(int(option.otype), option.code) for option in reply.options] == [(15, 20)]


def test_replies_are_kept_until_the_zone_is_replaced(make_server, connect, zone) -> None:
    server = make_server(zone)
    client = connect(server.bind_udp("127.0.0.1", 0))
    packets = [query(), query("none.example.com"), query("sub.example.com")]
    first = [client.ask(packet) for packet in packets]
    assert [client.ask(packet) for packet in packets] == first
    assert (server.counters.asked, server.counters.finished) == (3, 3)
    changed = ZONE.replace("192.0.2.1\n", "192.0.2.11\n").replace(" 7 7200", " 8 7200")
    zone.replace(dns.zone.from_text(changed))  # relative names, as dnspython's default is
    assert zone.serial == 8
    assert "192.0.2.11" in str(dns.message.from_wire(client.ask(query())))


def test_with_keep_s_0_nothing_is_kept(make_server, connect) -> None:
    server = make_server(DnsZone.from_text(ZONE, options=ZoneOptions(keep_s=0)))
    client = connect(server.bind_udp("127.0.0.1", 0))
    client.ask(query())
    client.ask(query())
    assert server.counters.finished == 0


def transfer(client, packet: bytes) -> list[dns.message.Message]:
    client.ask_all(packet)
    return [dns.message.from_wire(frame, one_rr_per_rrset=True) for frame in client.frames()]


@pytest.mark.parametrize("rdtype", ["AXFR", "IXFR"])
def test_the_whole_zone_goes_to_an_allowed_peer(make_server, connect, rdtype) -> None:
    options = ZoneOptions(transfers_to=("127.0.0.1",), message_bytes=200)
    server = make_server(DnsZone.from_text(ZONE, options=options))
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    messages = transfer(client, query("example.com", rdtype, use_edns=0))
    assert len(messages) > 3
    assert all(message.flags & dns.flags.AA for message in messages)
    records = [line for message in messages for line in lines(message.answer)]
    assert records[0] == records[-1] == SOA.replace(" 60 IN", " 300 IN")
    known = dns.zone.from_text(ZONE, relativize=False)
    wanted = [
        line
        for name, rdataset in known.iterate_rdatasets()
        for line in rdataset.to_text(name).splitlines()
    ]
    assert sorted(records[:-1]) == sorted(wanted)


def test_a_message_of_a_transfer_is_no_longer_than_dns_allows(make_server, connect) -> None:
    chunk = " ".join(["y" * 255] * 220)  # 56 KiB in one record
    text = ZONE + "".join(f"h{n} IN TXT {chunk}\n" for n in range(4))
    options = ZoneOptions(transfers_to=("127.0.0.1",), message_bytes=32768)
    server = make_server(DnsZone.from_text(text, options=options))
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(query("example.com", "AXFR", use_edns=0))
    frames = client.frames()
    while more := client.frames():
        frames += more
    assert max(map(len, frames)) <= 65535
    assert len(frames) == 6
    assert "SOA" in str(dns.message.from_wire(frames[-1]).answer[-1])


def test_a_secondary_that_is_up_to_date_gets_the_soa_alone(make_server, connect) -> None:
    server = make_server(DnsZone.from_text(ZONE, options=PEERS))
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    for serial, records in ((7, 1), (8, 1), (6, 40), (7 + 2**31, 40)):
        packet = dns.message.make_query("example.com", "IXFR")
        soa = SOA.partition("SOA ")[2].replace(" 7 ", f" {serial % 2**32} ")
        packet.authority.append(dns.rrset.from_text("example.com.", 0, "IN", "SOA", soa))
        messages = transfer(client, packet.to_wire())
        assert (len(messages[0].answer) == 1) is (records == 1)


@pytest.mark.parametrize(
    ("peers", "name"),
    [
        ((), "example.com"),
        (("192.0.2.0/24", "::1"), "example.com"),
        (("127.0.0.1",), "sub.example.com"),
    ],
)
def test_nobody_else_gets_it_and_nothing_but_the_whole(make_server, connect, peers, name) -> None:
    zone = DnsZone.from_text(ZONE, options=ZoneOptions(transfers_to=peers))
    server = make_server(zone)
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    (reply,) = transfer(client, query(name, "AXFR"))
    assert (reply.rcode(), reply.answer) == (dns.rcode.REFUSED, [])


def test_a_transfer_goes_on_with_the_zone_that_it_began(make_server, connect) -> None:
    big = ZONE + "".join(f"h{n} IN TXT {'x' * 250}\n" for n in range(6000))
    zone = DnsZone.from_text(big, options=PEERS)
    client = connect(make_server(zone).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(query("example.com", "AXFR"))
    client.turn()
    zone.replace(dns.zone.from_text(ZONE.replace(" 7 7200", " 8 7200")))
    frames = client.frames()
    while more := client.frames():
        frames += more
    records = sum(
        len(dns.message.from_wire(frame, one_rr_per_rrset=True).answer) for frame in frames
    )
    assert records > 6000
    assert " 7 7200" in str(dns.message.from_wire(frames[-1]).answer[-1])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "zone"
    path.write_text(ZONE)
    return path


def rewrite(path, text: str) -> None:
    """Write a file anew so that it looks changed, whatever the clock says."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


BAD = [
    "$ORIGIN example.com.\nwww IN A not-an-address\n",
    "nonsense",
    "$ORIGIN example.com.\n@ 60 IN NS ns1\n",
    ZONE.replace("$ORIGIN example.com.", "$ORIGIN example.org."),
    "$ORIGIN example.com.\n$INCLUDE /etc/passwd\n",
]


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_leaves_the_zone_as_it_was(file, text, caplog) -> None:
    zone = DnsZone.from_file(str(file))
    rewrite(file, text)
    assert not zone.reload()
    assert "kept as it was" in caplog.text
    assert zone.serial == 7
    file.unlink()
    assert not zone.reload()
    rewrite(file, ZONE.replace(" 7 7200", " 8 7200"))
    assert zone.reload()
    assert (zone.serial, zone.origin) == (8, "example.com")


@pytest.mark.parametrize("text", [*BAD[:3], BAD[4], "", ZONE.partition("@ IN NS")[0], b"\xff\xff"])
def test_a_bad_file_is_no_zone_to_begin_with(file, text) -> None:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DnsArgumentError, match="not a zone"):
        DnsZone.from_file(str(file))


def test_a_file_has_a_longest_length(file) -> None:
    size = len(ZONE)
    DnsZone.from_file(str(file), options=ZoneOptions(file_bytes=size))
    with pytest.raises(DnsFileError, match="longer than"):
        DnsZone.from_file(str(file), options=ZoneOptions(file_bytes=size - 1))
    with pytest.raises(DnsFileError):
        DnsZone.from_file(str(file) + ".none")


def test_a_file_that_changes_is_followed(file, base, clock) -> None:
    zone = DnsZone.from_file(str(file))
    zone.follow(base, 1.0)
    rewrite(file, ZONE.replace(" 7 7200", " 8 7200"))
    while zone.serial == 7:
        clock.advance(1.0)
        base.loop(EVLOOP_ONCE)
    zone.follow(base, 1.0)
    zone.close()
    rewrite(file, ZONE)
    clock.advance(5.0)
    base.loop(EVLOOP_ONCE)
    assert zone.serial == 8


def test_a_file_is_reloaded_aside_once_more_when_asked_meanwhile(file, base) -> None:
    zone = DnsZone.from_file(str(file))
    with base.timer(lambda *args: base.loopbreak()) as patience:
        patience.add(60)
        rewrite(file, ZONE.replace(" 7 7200", " 8 7200"))
        zone.reload_aside(base)
        rewrite(file, ZONE.replace(" 7 7200", " 9 7200"))
        zone.reload_aside(base)
        while zone.serial != 9:
            base.loop(EVLOOP_ONCE)


def test_only_a_zone_of_a_file_is_reloaded(zone, base) -> None:
    for call in (zone.reload, lambda: zone.reload_aside(base), lambda: zone.follow(base)):
        with pytest.raises(DnsArgumentError, match="not from a file"):
            call()


@pytest.mark.parametrize(
    "wrong",
    [
        {"transfers_to": ("300.0.0.0/8",)},
        {"transfers_to": "127.0.0.1"},
        {"keep_s": -1},
        {"keep_s": float("nan")},
        {"file_bytes": -1},
        {"message_bytes": 0},
        {"message_bytes": 32769},
    ],
)
def test_options_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(DnsArgumentError):
        ZoneOptions(**wrong)


def test_a_zone_needs_an_origin_and_a_soa() -> None:
    with pytest.raises(DnsArgumentError, match="origin"):
        DnsZone(dns.zone.Zone(None))
    zone = dns.zone.Zone("example.com.")
    with pytest.raises(DnsArgumentError, match="NS"):
        DnsZone(zone)
    zone.find_rdataset("@", "NS", create=True).add(dns.rdata.from_text("IN", "NS", "ns."))
    with pytest.raises(DnsArgumentError, match="SOA"):
        DnsZone(zone)


@pytest.mark.parametrize("name", ["www", "none", "mail", "x.wild", "text", "a.b.c", "er.down"])
@pytest.mark.parametrize("rdtype", ["A", "AAAA", "TXT"])
def test_what_is_written_by_hand_is_what_the_long_way_writes(
    make_server, zone, name, rdtype
) -> None:
    """An option in the query that is not aside sends it the long way."""
    server = make_server(zone)
    replies = []
    for options in ([], [dns.edns.GenericOption(65001, b"")]):
        packet = query(f"{name}.Example.com", rdtype, id=1, use_edns=0, options=options)
        server.handle_message(packet, ("192.0.2.1", 1), replies.append)
    assert replies[0] == replies[1]
