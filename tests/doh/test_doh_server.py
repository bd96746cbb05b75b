"""DNS over HTTPS: queries by GET and POST, answered by a DnsServer; what is none is refused."""

from __future__ import annotations

import socket
from base64 import urlsafe_b64encode

import dns.message
import dns.rrset
import pytest

from evsvc.core import ArgumentError
from evsvc.dns import DnsServer, DnsZone
from evsvc.dns.wire.lifetime import lifetime_of
from evsvc.doh import DohOptions, mount_doh
from evsvc.http import HttpServer, TrustedProxies
from tests.http.peers import Peer

ZONE = """\
$ORIGIN example.com.
@ 300 IN SOA ns admin 7 7200 900 604800 60
@ 300 IN NS ns
www 120 IN A 192.0.2.1
www 120 IN AAAA 2001:db8::1
alias 30 IN CNAME www
"""
FORM = "Content-Type: application/dns-message"


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, id=0, **kwargs).to_wire()


def encoded(packet: bytes) -> str:
    return urlsafe_b64encode(packet).decode().rstrip("=")


@pytest.fixture
def seen() -> list:
    return []


@pytest.fixture
def mount(base, seen):
    """Return `mount(**options)`: a client of a server that answers for the zone."""
    zone = DnsZone.from_text(ZONE)
    made = []

    def answer(request, arg) -> None:
        seen.append((request.transport, request.requesting_addr))
        if request.questions[0].name == "drop.test":
            request.drop()
        else:
            zone(request)

    def mount(options=None, proxies=None):
        http = HttpServer(base)
        if proxies is not None:
            http.set_trusted_proxies(proxies)
        server = DnsServer(base, answer)
        mount_doh(http, server, options=options)
        bound = http.bind_socket("127.0.0.1", 0)
        sock = socket.create_connection((bound.address, bound.port))
        made.extend((sock, http, server))
        return Peer(base, sock)

    yield mount
    for each in made:
        each.close()


def get(peer: Peer, target: str) -> tuple[str, dict[str, str], bytes]:
    peer.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return read(peer)


def post(peer: Peer, body: bytes, *lines: str) -> tuple[str, dict[str, str], bytes]:
    head = ["POST /dns-query HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    peer.send("\r\n".join([*head, "", ""]).encode() + body)
    return read(peer)


def read(peer: Peer) -> tuple[str, dict[str, str], bytes]:
    line, fields = peer.read_head()
    headers = dict(fields)
    return line.split()[1], headers, peer.read_bytes(int(headers["Content-Length"]))


def test_get_and_post_are_answered_alike(mount, seen) -> None:
    peer = mount()
    status, headers, body = get(peer, f"/dns-query?dns={encoded(query())}")
    assert (status, headers["Content-Type"]) == ("200", "application/dns-message")
    assert headers["Cache-Control"] == "max-age=120"
    assert str(dns.message.from_wire(body).answer[0]) == "www.example.com. 120 IN A 192.0.2.1"
    status, headers, again = post(peer, query(), FORM + "; charset=x")
    assert (status, again) == ("200", body)
    assert seen == [("https", peer.sock.getsockname())]  # the second was kept


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("192.0.2.99", ("192.0.2.99", 0)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("unknown", ("0.0.0.0", 0)),
        ("_hidden", ("0.0.0.0", 0)),
    ],
)
def test_a_client_of_a_trusted_proxy_is_known_by_its_own_address(
    mount, seen, told, address
) -> None:
    peer = mount(proxies=TrustedProxies(["127.0.0.1"], family="forwarded"))
    node = f'"[{told}]"' if ":" in told else told
    assert post(peer, query(), FORM, f"Forwarded: for={node}")[0] == "200"
    assert seen == [("https", address)]


def test_head_is_get_without_the_message(mount) -> None:
    peer = mount()
    peer.send(f"HEAD /dns-query?dns={encoded(query())} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    line, _ = peer.read_head()
    assert line.split()[1] == "200"
    assert peer.received == b""


@pytest.mark.parametrize(
    ("name", "rdtype", "max_age"),
    [
        ("alias.example.com", "A", 30),
        ("none.example.com", "A", 60),
        ("www.example.com", "TXT", 60),
        ("example.net", "A", 0),
    ],
)
def test_caches_may_keep_it_as_long_as_its_shortest_ttl(mount, name, rdtype, max_age) -> None:
    _, headers, _ = post(mount(), query(name, rdtype), FORM)
    assert headers["Cache-Control"] == f"max-age={max_age}"


def test_max_age_has_a_limit_of_its_own(mount) -> None:
    _, headers, _ = post(mount(DohOptions(max_age_s=10)), query(), FORM)
    assert headers["Cache-Control"] == "max-age=10"


def test_padding_is_answered_with_padding(mount) -> None:
    padding = dns.edns.GenericOption(12, b"")
    _, headers, body = post(mount(), query(use_edns=0, options=[padding]), FORM)
    assert len(body) == int(headers["Content-Length"]) == 468


@pytest.mark.parametrize(
    "target",
    [
        "/dns-query",
        "/dns-query?dns=",
        "/dns-query?other=AAAA",
        "/dns-query?dns=A",
        "/dns-query?dns=" + urlsafe_b64encode(query("w.example.com")).decode().rstrip("=") + "=",
        "/dns-query?dns=AAA%2FAAAAAAAAAAAAAAAAAAAA",
        "/dns-query?dns=%C3%A4",
        "/dns-query?dns=!" + encoded(query()),
        "/dns-query?dns=" + encoded(query()) + "%0A",
        "/dns-query?dns=" + encoded(query()[:11]),
        "/dns-query?dns=" + encoded(query()[:2] + b"\x81\x80" + query()[4:]),
    ],
)
def test_what_is_no_query_is_a_bad_request(mount, seen, target) -> None:
    assert get(mount(), target)[0] == "400"
    assert seen == []


def test_what_dns_refuses_it_refuses_itself(mount) -> None:
    status, _, body = post(mount(), query()[:20], FORM)
    assert (status, dns.message.from_wire(body, ignore_trailing=True).rcode()) == ("200", 1)


@pytest.mark.parametrize("line", ["Content-Type: text/plain", "Accept: application/dns-message"])
def test_a_post_of_another_type_is_not_taken(mount, line) -> None:
    status, headers, _ = post(mount(), query(), line)
    assert (status, headers["Accept-Post"]) == ("415", "application/dns-message")


def test_a_query_has_a_longest_length(mount) -> None:
    peer = mount(DohOptions(query_bytes=len(query())))
    assert post(peer, query(), FORM)[0] == "200"
    assert post(peer, query() + b"x", FORM)[0] == "413"
    assert get(peer, f"/dns-query?dns={encoded(query() + b'xyz')}")[0] == "413"


def test_a_query_that_the_program_drops_is_unavailable(mount) -> None:
    assert post(mount(), query("drop.test"), FORM)[0] == "503"


def test_other_methods_are_not_allowed(mount) -> None:
    peer = mount()
    peer.send(b"DELETE /dns-query HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read(peer)[0] == "405"


def test_a_late_answer_finds_its_client_or_nobody(base) -> None:
    waiting = []
    with (
        HttpServer(base) as http,
        DnsServer(base, lambda request, arg: waiting.append(request)) as server,
    ):
        mount_doh(http, server, "/dns")
        bound = http.bind_socket("127.0.0.1", 0)
        peers = [Peer(base, socket.create_connection((bound.address, bound.port))) for _ in "ab"]
        for peer in peers:
            peer.send(f"GET /dns?dns={encoded(query())} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert len(waiting) == 2
        peers[1].sock.close()
        peers[0].settle()
        for request in waiting:
            request.respond(0)
        assert read(peers[0])[0] == "200"
        peers[0].sock.close()


def test_a_path_that_is_taken_is_refused(base) -> None:
    with HttpServer(base) as http, DnsServer(base, print) as server:
        mount_doh(http, server)
        with pytest.raises(ArgumentError):
            mount_doh(http, server)
        http.del_cb("/dns-query")
        mount_doh(http, server)


@pytest.mark.parametrize("wrong", [{"query_bytes": 11}, {"query_bytes": 65536}, {"max_age_s": -1}])
def test_options_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(ArgumentError):
        DohOptions(**wrong)


@pytest.mark.parametrize("cut", [0, 5, 11, 13, 30, 40, 46])
def test_a_reply_that_is_not_whole_lives_no_time(cut) -> None:
    reply = dns.message.make_response(dns.message.make_query("www.example.com", "A"))
    reply.answer.append(dns.rrset.from_text("www.example.com.", 60, "IN", "A", "192.0.2.1"))
    packet = reply.to_wire()
    assert lifetime_of(packet) == 60
    assert lifetime_of(packet[:cut]) == 0


@pytest.mark.parametrize("right", [{"query_bytes": 12}, {"query_bytes": 65535}, {"max_age_s": 0}])
def test_options_are_taken_up_to_their_limit(right) -> None:
    DohOptions(**right)
