"""HTTPS: a server that is verified, one that is not, and what is spoken inside."""

from __future__ import annotations

import socket
import ssl

import pytest
import trustme

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    EV_READ,
    LEV_OPT_CLOSE_ON_FREE,
    ArgumentError,
    ArgumentTypeError,
    ConnListener,
    TlsBufferEvent,
)
from evsvc.core.resolver import AddrInfo
from evsvc.http import ClientOptions, ConnectFailed, ConnectProxy, HttpConnection, TlsFailed
from tests.http.outcomes import Outcomes
from tests.http.peers import response

HOST = "origin.test"


class Hosts:
    """Every name is the loopback."""

    def getaddrinfo(self, host, port, hints, cb, arg=None):
        cb(0, [AddrInfo(2, 1, 6, "", ("127.0.0.1", port))], arg)


class TlsOrigin:
    """A server that answers each read with a response, over TLS."""

    def __init__(self, base, context) -> None:
        self.base, self.context = base, context
        self.carriers: list[TlsBufferEvent] = []
        self.names: list[str | None] = []
        self.heads: list[bytes] = []
        self.answer = response(body=b"hello")
        context.sni_callback = lambda obj, name, ctx: self.names.append(name)
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self.listener = ConnListener(base, self.accept, None, LEV_OPT_CLOSE_ON_FREE, -1, sock)

    def accept(self, listener, sock, address, arg) -> None:
        bev = TlsBufferEvent.socket_new(
            self.base, sock, self.context, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE
        )
        bev.setcb(self.read, None, lambda *args: None)
        bev.enable(EV_READ)
        self.carriers.append(bev)

    def read(self, bev, ctx) -> None:
        self.heads.append(bev.read())
        bev.write(self.answer)

    def close(self) -> None:
        self.listener.close()
        for each in self.carriers:
            each.close()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def make_tls_origin(base, authority):
    made = []

    def make(host=HOST, alpn=()):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(host).configure_cert(context)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        made.append(TlsOrigin(base, context))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def connect_to(base):
    made = []

    def connect(tls_origin, context, host=HOST, **more):
        made.append(HttpConnection(base, Hosts(), host, tls_origin.port, tls=context, **more))
        return Outcomes(made[-1])

    yield connect
    for each in made:
        each.close()


def test_a_request_over_tls_is_kept_alive(make_tls_origin, connect_to, trusting) -> None:
    origin = make_tls_origin()
    client = connect_to(origin, trusting)
    assert client.connection.is_secure
    for _ in range(2):
        client.make()
        client.wait(len(client) + 1)
        assert client.connection.is_idle
        assert not client.connection.has_expired
    assert client.given == [("/", 200)] * 2
    assert origin.names == [HOST]
    assert len(origin.carriers) == 1
    assert f"Host: {HOST}:{origin.port}".encode() in origin.heads[0]


def test_the_server_has_closed(make_tls_origin, connect_to, trusting) -> None:
    origin = make_tls_origin()
    client = connect_to(origin, trusting)
    client.make()
    client.wait(1)
    origin.carriers[0].close()
    assert client.connection.has_expired
    client.make("/again", "POST")
    client.wait(2)
    assert client.given == [("/", 200), ("/again", 200)]


@pytest.mark.parametrize("trusts", [True, False])
def test_a_server_that_cannot_be_verified(make_tls_origin, connect_to, trusting, trusts) -> None:
    origin = make_tls_origin(HOST if not trusts else "other.test")
    client = connect_to(origin, trusting if trusts else True)
    client.make()
    client.wait(1)
    assert type(client.made["/"].error) is TlsFailed
    assert client.given == [("/", 0)]
    assert origin.heads == []


def test_server_hostname_is_whom_it_means(make_tls_origin, connect_to, trusting) -> None:
    origin = make_tls_origin("other.test")
    client = connect_to(origin, trusting, server_hostname="other.test")
    client.make()
    client.wait(1)
    assert client.given == [("/", 200)]
    assert origin.names == ["other.test"]


@pytest.mark.parametrize(("alpn", "is_good"), [((), True), (("http/1.1",), True), (("h2",), False)])
def test_what_is_spoken_inside(make_tls_origin, connect_to, trusting, alpn, is_good) -> None:
    trusting.set_alpn_protocols(["h2", "http/1.1"])
    client = connect_to(make_tls_origin(alpn=alpn), trusting)
    client.make()
    client.wait(1)
    error = client.made["/"].error
    assert (error is None) if is_good else (type(error) is TlsFailed)


@pytest.mark.parametrize("tls_s", [None, 3.0, 20.0])
def test_the_handshake_has_a_limit(base, origin, trusting, clock, tls_s) -> None:
    options = ClientOptions() if tls_s is None else ClientOptions(tls_s=tls_s)
    limit_s = tls_s or 10.0
    with HttpConnection(base, Hosts(), HOST, origin.port, options, tls=trusting) as connection:
        client = Outcomes(connection)
        client.make()
        origin.accept().settle()
        clock.advance(limit_s - 0.1)
        client.settle()
        assert client == []
        clock.advance(0.1)
        client.wait(1)
        assert type(client.made["/"].error) is TlsFailed


@pytest.mark.parametrize(("seconds", "failed"), [(4.999, False), (5.0, True)])
def test_connect_s_is_for_the_handshake_too(base, origin, trusting, clock, seconds, failed) -> None:
    """All that comes before a request has it together."""
    options = ClientOptions(connect_s=5.0, tls_s=10.0)
    with HttpConnection(base, Hosts(), HOST, origin.port, options, tls=trusting) as connection:
        client = Outcomes(connection)
        client.make()
        origin.accept().settle()
        clock.advance(seconds)
        client.settle()
        assert client.given == ([("/", 0)] if failed else [])
        assert (type(client.made["/"].error) is ConnectFailed) == failed


def test_so_has_the_one_inside_a_tunnel(base, origin, trusting, clock) -> None:
    proxy = ConnectProxy(address="127.0.0.1", port=origin.port)
    options = ClientOptions(tls_s=3.0)
    with HttpConnection(base, Hosts(), HOST, 443, options, tls=trusting, proxy=proxy) as connection:
        client = Outcomes(connection)
        client.make()
        peer = origin.accept()
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        clock.advance(2.9)
        client.settle()
        assert client == []
        clock.advance(0.1)
        client.wait(1)
        assert type(client.made["/"].error) is TlsFailed


def test_a_body_until_close_that_is_cut_off_is_not_whole(
    make_tls_origin, connect_to, trusting
) -> None:
    origin = make_tls_origin()
    origin.answer = b"HTTP/1.1 200 OK\r\n\r\nsome"
    client = connect_to(origin, trusting)
    client.make()
    while not origin.heads:
        client.settle()
    client.settle()
    origin.carriers[0].close()
    client.wait(2)
    assert client.made["/"].error is not None


def test_the_port_of_https_is_not_in_host(base) -> None:
    for port, host in ((443, HOST), (80, f"{HOST}:80")):
        with HttpConnection(base, Hosts(), HOST, port, tls=True) as connection:
            client = Outcomes(connection)
            client.make()
            assert f"Host: {host}\r\n".encode() in client.made["/"].head


def test_bad_arguments(base) -> None:
    with pytest.raises(ArgumentTypeError, match="'yes'"):
        HttpConnection(base, None, "127.0.0.1", 443, tls="yes")
    with pytest.raises(ArgumentError, match=r"other\.test"):
        HttpConnection(base, None, "127.0.0.1", 443, server_hostname="other.test")
    with pytest.raises(ArgumentError):
        HttpConnection(base, None, "127.0.0.1", 443, tls=True, server_hostname="")
