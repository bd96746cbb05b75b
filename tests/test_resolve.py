"""`evsvc resolve`: what it asks, what it prints, and its exit codes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import trustme

from evsvc.cli import main
from evsvc.core import EventBase
from evsvc.core.tls import server_context
from evsvc.dns import DnsChain, DnsServer, DnsZone, Record, record_to_text, type_to_text
from evsvc.doh import mount_doh
from evsvc.http import HttpServer

ZONE = r"""
$ORIGIN example.com.
@ 300 IN SOA ns admin 7 7200 900 604800 60
@ 300 IN NS ns
@ 300 IN MX 10 mail
@ 300 IN TXT "say \"hello\"" "\007"
@ 300 IN CAA 0 issue "ca.test"
@ 300 IN HTTPS 1 . alpn=h2 port=8443
_sip._tcp 300 IN SRV 1 2 5060 sip
www 120 IN A 192.0.2.1
www 120 IN AAAA 2001:db8::1
alias 30 IN CNAME www
odd 30 IN TYPE65280 \# 2 abcd
4 60 IN PTR www
"""


REVERSE = """
$ORIGIN 2.0.192.in-addr.arpa.
@ 300 IN SOA ns.example.com. admin.example.com. 7 7200 900 604800 60
@ 300 IN NS ns.example.com.
1 60 IN PTR www.example.com.
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A zone served over UDP, TCP, TLS and HTTPS by a base in a thread of its own."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    folder = tmp_path_factory.mktemp("resolve")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    cert = authority.issue_cert("dns.test").private_key_and_cert_chain_pem
    cert.write_to_path(folder / "server.pem")
    context = server_context(folder / "server.pem")
    base = EventBase()
    zones = DnsChain()
    for text in (ZONE, REVERSE):
        zone = DnsZone.from_text(text)
        zones.add(zone.origin, zone)
    server, http_server = DnsServer(base, zones), HttpServer(base)
    mount_doh(http_server, server)
    tcp = server.bind_tcp("127.0.0.1", 0)
    udp = server.bind_udp("127.0.0.1", 0)
    ports = SimpleNamespace(
        udp=f"127.0.0.1:{udp.port}",
        tcp=f"127.0.0.1:{tcp.port}",
        tls=f"127.0.0.1:{server.bind_tcp('127.0.0.1', 0, tls=context).port}",
        https=http_server.bind_socket("127.0.0.1", 0, tls=context).port,
        cafile=str(folder / "ca.pem"),
    )
    thread = threading.Thread(target=base.dispatch)
    thread.start()
    yield ports
    base.post(base.loopbreak)
    thread.join(20)
    http_server.close()
    server.close()
    base.close()


def test_addresses_are_printed_as_dig_prints_them(served, capsys) -> None:
    assert main(["resolve", "www.example.com", "--nameserver", served.udp]) == 0
    assert capsys.readouterr().out == (
        "www.example.com.\t120\tIN\tA\t192.0.2.1\nwww.example.com.\t120\tIN\tAAAA\t2001:db8::1\n"
    )


@pytest.mark.parametrize(
    ("name", "rdtype", "expected"),
    [
        ("example.com", "SOA", "ns.example.com. admin.example.com. 7 7200 900 604800 60"),
        ("example.com", "NS", "ns.example.com."),
        ("example.com", "mx", "10 mail.example.com."),
        ("example.com", "TXT", r'"say \"hello\"" "\007"'),
        ("example.com", "CAA", '0 issue "ca.test"'),
        ("example.com", "HTTPS", r'1 . key1="\002h2" key3=" \251"'),
        ("_sip._tcp.example.com", "SRV", "1 2 5060 sip.example.com."),
        ("alias.example.com", "A", "192.0.2.1"),
        ("odd.example.com", "TYPE65280", r"\# 2 abcd"),
    ],
)
def test_each_type_is_printed_as_in_a_zone_file(served, capsys, name, rdtype, expected) -> None:
    assert main(["resolve", "--short", name, rdtype, "--nameserver", served.udp]) == 0
    assert capsys.readouterr().out == f"{expected}\n"


def test_the_ways_give_the_same(served, capsys) -> None:
    url = f"https://dns.test:{served.https}/dns-query"
    ways = [
        ["--tcp", "--nameserver", served.tcp],
        ["--tls", "dns.test", "--nameserver", served.tls, "--cafile", served.cafile],
        ["--https", url, "--address", "127.0.0.1", "--cafile", served.cafile],
    ]
    for way in ways:
        assert main(["resolve", "--short", "www.example.com", "A", *way]) == 0
        assert capsys.readouterr().out == "192.0.2.1\n"


def test_json_tells_all(served, capsys) -> None:
    args = ["resolve", "--json", "alias.example.com", "A", "MX", "--nameserver", served.udp]
    assert main(args) == 0
    found, absent = json.loads(capsys.readouterr().out)
    assert found == {
        "name": "alias.example.com",
        "type": "A",
        "result": "NONE",
        "canonical_name": "www.example.com",
        "ttl": 30,
        "records": [{"name": "www.example.com", "type": "A", "ttl": 120, "data": "192.0.2.1"}],
    }
    assert (absent["result"], absent["records"]) == ("NODATA", [])


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("none.example.com", 3, "name does not exist"),
        ("4.example.com", 3, "no records"),
        ("elsewhere.test", 1, "refused"),
    ],
)
def test_what_is_not_there_has_an_exit_code_of_its_own(served, capsys, name, code, text) -> None:
    assert main(["resolve", name, "--nameserver", served.udp]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert text in printed.err.lower()


def test_an_address_is_looked_up_in_reverse(served, capsys) -> None:
    assert main(["resolve", "192.0.2.1", "--nameserver", served.udp]) == 0
    assert capsys.readouterr().out == "1.2.0.192.in-addr.arpa.\t60\tIN\tPTR\twww.example.com.\n"
    assert main(["resolve", "198.51.100.1", "--nameserver", served.udp]) == 1  # not its zone
    assert "1.100.51.198.in-addr.arpa PTR" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [
        ["--cafile", "x"],
        ["--address", "127.0.0.1"],
        ["--tls", "dns.test"],
        ["--https", "gopher://dns.test/"],
    ],
)
def test_ways_that_do_not_fit_are_told(capsys, more) -> None:
    assert main(["resolve", "www.example.com", *more]) == 1
    assert "evsvc: " in capsys.readouterr().err


def test_a_type_is_named_and_bytes_are_written_in_hexadecimal() -> None:
    assert [type_to_text(1), type_to_text(65280)] == ["A", "TYPE65280"]
    assert record_to_text(Record("a", 65280, 1, b"")) == r"\# 0"
    with pytest.raises(ValueError, match="65536"):
        type_to_text(65536)
