"""The resolver over TLS: who is asked, who is believed, and that one connection does."""

from __future__ import annotations

import ssl

import pytest
import trustme

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.core.tls import client_context, server_context
from evsvc.dns import DNS_ERR_NONE, DNS_ERR_TIMEOUT


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def trust(authority) -> ssl.SSLContext:
    return client_context(cadata=authority.cert_pem.bytes().decode(), alpn=["dot"])


@pytest.fixture
def port(make_server, authority, tmp_path):
    """A server over TLS whose certificate is for dns.test and 127.0.0.1; it notes who asks."""
    path = tmp_path / "server.pem"
    authority.issue_cert("dns.test", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)

    def answer(request, arg) -> None:
        seen.append((request.transport, request.requesting_addr, request.questions[0].name))
        request.add_a_reply(request.questions[0].name, ["192.0.2.1"], 60)
        request.respond(0)

    seen = []
    made = make_server(answer)
    bound = made.bind_tcp("127.0.0.1", 0, tls=server_context(path, alpn=["dot"]))
    return bound, seen


@pytest.mark.parametrize("name", ["dns.test", None])
def test_questions_go_over_one_verified_connection(port, make_resolver, trust, results, name):
    bound, seen = port
    resolver = make_resolver()
    resolver.nameserver_ip_add(f"127.0.0.1:{bound.port}", tls=trust, server_hostname=name)
    for index in range(4):
        resolver.query(f"host{index}.example.com", "A", results)
    results.wait(4)
    resolver.query("Later.example.com", "A", results)
    results.wait(5)
    assert [answer.result for (answer,) in results] == [DNS_ERR_NONE] * 5
    assert len({client for _, client, _ in seen}) == 1
    assert seen[-1][2] == "Later.example.com"  # nobody forges there: the letters are ours


def test_a_server_with_another_name_is_not_believed(port, make_resolver, trust, results, caplog):
    bound, seen = port
    resolver = make_resolver(attempts=1, timeout_s=1)
    resolver.nameserver_ip_add(f"127.0.0.1:{bound.port}", tls=trust, server_hostname="else.test")
    resolver.query("host.example.com", "A", results)
    results.wait()
    assert results[0][0].result == DNS_ERR_TIMEOUT
    assert seen == []
    assert "else.test" in caplog.text


def test_a_connection_that_was_closed_is_made_again(base, port, make_resolver, trust, results):
    bound, seen = port
    resolver = make_resolver(tcp_idle_s=0.5)
    resolver.nameserver_ip_add(f"127.0.0.1:{bound.port}", tls=trust, server_hostname="dns.test")
    for expected in (1, 2):
        resolver.query(f"host{expected}.example.com", "A", results)
        results.wait(expected)
        with base.timer(lambda *args: base.loopbreak()) as later:
            later.add(2)
            base.dispatch()
    assert [answer.result for (answer,) in results] == [DNS_ERR_NONE] * 2
    assert len({client for _, client, _ in seen}) == 2


def test_the_port_is_853_by_default(make_resolver, trust) -> None:
    resolver = make_resolver()
    resolver.nameserver_ip_add("127.0.0.1", tls=trust)
    resolver.nameserver_ip_add("127.0.0.1")
    assert [resolver.nameserver_addr(index)[1] for index in range(2)] == [853, 53]


def test_bad_arguments_are_refused(make_resolver, trust) -> None:
    resolver = make_resolver()
    with pytest.raises(ArgumentError, match="without TLS"):
        resolver.nameserver_ip_add("127.0.0.1", server_hostname="dns.test")
    with pytest.raises(ArgumentTypeError, match="SSLContext"):
        resolver.nameserver_ip_add("127.0.0.1", tls="yes")
    resolver.nameserver_ip_add("127.0.0.1", tls=trust)
    with pytest.raises(ArgumentError, match="there already"):
        resolver.nameserver_ip_add("127.0.0.1", tls=trust)
