"""A resolver over HTTPS: what is asked, what is believed, and how connections are shared."""

from __future__ import annotations

import pytest
import trustme

from evsvc.core import ArgumentError
from evsvc.core.tls import client_context, server_context
from evsvc.dns import (
    DNS_ERR_NONE,
    DNS_ERR_TIMEOUT,
    DnsServer,
    Resolver,
    ResolverOptions,
)
from evsvc.doh import DohClientOptions, add_doh_nameserver, mount_doh
from evsvc.http import HttpServer


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def trust(authority):
    return client_context(cadata=authority.cert_pem.bytes().decode())


@pytest.fixture
def served(base, authority, tmp_path):
    """A DNS server behind HTTPS; `served.bodies` has the queries, `served.clients` who asked."""
    path = tmp_path / "server.pem"
    authority.issue_cert("dns.test").private_key_and_cert_chain_pem.write_to_path(path)

    def answer(request, arg) -> None:
        clients.append(request.requesting_addr)
        request.add_a_reply(request.questions[0].name, ["192.0.2.1"], 60)
        request.respond(0)

    clients: list = []
    dns_server, http_server = DnsServer(base, answer), HttpServer(base)
    mount_doh(http_server, dns_server)
    socket = http_server.bind_socket("127.0.0.1", 0, tls=server_context(path))
    yield http_server, socket.port, clients
    http_server.close()
    dns_server.close()


@pytest.fixture
def resolver(base):
    options = ResolverOptions(attempts=1, timeout_s=5)
    with Resolver(base, 0, options=options) as made:
        yield made


def ask(base, resolver, *names: str) -> list:
    found: list = []

    def take(answer, arg) -> None:
        found.append(answer)
        if len(found) == len(names):
            base.loopbreak()

    for name in names:
        resolver.query(name, "A", take)
    base.dispatch()
    return found


@pytest.mark.parametrize("connections", [1, 4])
def test_questions_share_connections(base, served, resolver, trust, connections) -> None:
    _, port, clients = served
    url = f"https://dns.test:{port}/dns-query"
    options = DohClientOptions(connections=connections)
    add_doh_nameserver(resolver, url, address="127.0.0.1", tls=trust, options=options)
    found = ask(base, resolver, *[f"host{index}.example.com" for index in range(12)])
    assert [answer.result for answer in found] == [DNS_ERR_NONE] * 12
    assert found[0].records[0].data == "192.0.2.1"
    assert len(set(clients)) == connections


def test_a_connection_serves_again_and_is_closed_when_idle(base, served, resolver, trust) -> None:
    _, port, clients = served
    url = f"https://dns.test:{port}/dns-query"
    add_doh_nameserver(resolver, url, address="127.0.0.1", tls=trust)
    for name in ("a.example.com", "b.example.com"):
        assert ask(base, resolver, name)[0].result == DNS_ERR_NONE
    assert len(set(clients)) == 1
    with base.timer(lambda *args: base.loopbreak()) as later:
        later.add(6)  # after tcp_idle_s
        base.dispatch()
    assert ask(base, resolver, "c.example.com")[0].result == DNS_ERR_NONE
    assert len(set(clients)) == 2


def test_a_server_with_another_name_is_not_believed(base, served, resolver, trust) -> None:
    _, port, clients = served
    url = f"https://else.test:{port}/dns-query"
    add_doh_nameserver(resolver, url, address="127.0.0.1", tls=trust)
    assert ask(base, resolver, "host.example.com")[0].result == DNS_ERR_TIMEOUT
    assert clients == []


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (404, "application/dns-message", b"x" * 12),
        (200, "text/html", b"x" * 12),
        (200, "application/dns-message", b"x" * 11),
        (200, "application/dns-message", b"x" * 12),
        (200, "application/dns-message", b"x" * 65536),
    ],
)
def test_what_is_no_answer_counts_as_none(base, served, resolver, trust, status, kind, body):
    http_server, port, _ = served

    def answer(request, arg) -> None:
        request.output_headers.add("Content-Type", kind)
        request.send_reply(status, None, body)

    http_server.set_cb("/other", answer)
    add_doh_nameserver(resolver, f"https://dns.test:{port}/other", address="127.0.0.1", tls=trust)
    assert ask(base, resolver, "host.example.com")[0].result == DNS_ERR_TIMEOUT


def test_a_connection_that_ends_without_an_answer_is_noticed_at_once(
    base, served, resolver, trust
) -> None:
    http_server, port, _ = served
    begun = base.now
    http_server.set_cb("/gone", lambda request, arg: request.connection.close())
    add_doh_nameserver(resolver, f"https://dns.test:{port}/gone", address="127.0.0.1", tls=trust)
    assert ask(base, resolver, "host.example.com")[0].result == DNS_ERR_TIMEOUT
    assert base.now - begun < 4.0  # and not after the 5 s for which an answer is waited for


def test_the_query_has_no_id_of_its_own_and_plain_letters(base, served, resolver, trust) -> None:
    http_server, port, _ = served
    seen = []

    def answer(request, arg) -> None:
        seen.append((request.input_headers.find("Host"), bytes(request.input_buffer)))
        request.send_error(503)

    http_server.set_cb("/other", answer)
    add_doh_nameserver(resolver, f"https://dns.test:{port}/other", address="127.0.0.1", tls=trust)
    ask(base, resolver, "host.example.com")
    ((host, packet),) = seen
    assert host == f"dns.test:{port}"
    assert packet[:2] == b"\0\0"
    assert b"\4host\7example\3com\0" in packet


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("ftp://127.0.0.1/", {}),
        ("https:///dns-query", {}),
        ("https://me@127.0.0.1/", {}),
        ("https://127.0.0.1/#x", {}),
        ("https://dns.test/", {}),
        ("https://dns.test/", {"address": "dns.test"}),
        ("https://127.0.0.1:0/", {}),
    ],
)
def test_bad_urls_are_refused(resolver, url, more) -> None:
    with pytest.raises(ArgumentError):
        add_doh_nameserver(resolver, url, **more)


def test_a_resolver_cannot_look_up_its_own_nameserver(resolver) -> None:
    with pytest.raises(ArgumentError, match="its own"):
        add_doh_nameserver(resolver, "https://dns.test/", names=resolver)


@pytest.mark.parametrize("connections", [0, 1025])
def test_the_number_of_connections_has_its_range(connections) -> None:
    with pytest.raises(ArgumentError, match="connections"):
        DohClientOptions(connections=connections)


@pytest.mark.parametrize("connections", [1, 1024])
def test_the_number_of_connections_reaches_its_limits(connections) -> None:
    assert DohClientOptions(connections=connections).connections == connections
