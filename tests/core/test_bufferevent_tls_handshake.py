"""What client and server of TLS agree on, and whom they trust."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    BUFFEREVENT_SSL_OPEN,
    EV_READ,
    EVUTIL_EAI_NONAME,
    LEV_OPT_CLOSE_ON_FREE,
    ArgumentError,
    BufferEvent,
    ConnListener,
    EventBase,
    StateError,
    TlsBufferEvent,
    tls,
)
from tests.core.bevs import LOOPBACK, DictResolver, Log, Pair
from tests.core.tls_ends import (
    HOST,
    Over,
    client_context_for,
    contexts,
    issue,
    run_until,
    server_context_for,
    settle,
    shaken_engines,
    write_pem,
)

CONNECTING = BUFFEREVENT_SSL_CONNECTING
READ_ERROR = BEV_EVENT_READING | BEV_EVENT_ERROR
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=["socket", "filter"])
def over(request: pytest.FixtureRequest) -> Over:
    return Over(request.param)


@pytest.fixture
def log() -> Log:
    return Log()


def common_name(context: ssl.SSLContext, base: EventBase, pair: Pair) -> str:
    """Return the first name in the certificate that a new connection to the server is shown."""
    over = Over("socket")
    with over.client(base, pair[0]) as client, over.server(base, pair[1], context=context):
        settle(base)
        return name_shown_to(client)


def name_shown_to(bev: TlsBufferEvent) -> str:
    assert bev.ssl is not None
    names = (bev.ssl.getpeercert() or {})["subjectAltName"]
    return str(names[0][1])  # type: ignore[index]


def test_the_protocol_is_negotiated(base: EventBase, over: Over, pair: Pair) -> None:
    """ALPN (RFC 7301): the server's choice of what the client offers."""
    client = over.client(base, pair[0], context=client_context_for(alpn=["h2", "http/1.1"]))
    context = server_context_for(issue(HOST), alpn=["http/1.1", "http/1.0"])
    with client, over.server(base, pair[1], context=context) as server:
        settle(base)
        assert client.ssl is not None
        assert server.ssl is not None
        assert client.ssl.selected_alpn_protocol() == "http/1.1"
        assert server.ssl.selected_alpn_protocol() == "http/1.1"


def test_the_server_is_told_the_name(base: EventBase, over: Over, pair: Pair) -> None:
    """SNI (RFC 6066 section 3): it may choose another context by it."""
    context = server_context_for(issue("default.example"))
    named = server_context_for(issue(HOST))
    asked: list[str | None] = []

    def choose(engine: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        asked.append(name)
        engine.context = named

    context.sni_callback = choose  # type: ignore[assignment]
    client = over.client(base, pair[0])
    with client, over.server(base, pair[1], context=context):
        settle(base)
        assert asked == [HOST]
        assert name_shown_to(client) == HOST


def test_another_host_name_is_refused(base: EventBase, over: Over, pair: Pair, log: Log) -> None:
    client = log.attach(over.client(base, pair[0], server_hostname="other.example"))
    theirs = Log()
    with client, theirs.attach(over.server(base, pair[1])) as server:
        settle(base)
        assert log.events == [READ_ERROR]
        assert isinstance(client.error, ssl.SSLCertVerificationError)
        assert "other.example" in client.error.verify_message
        assert theirs.events[-1] == READ_ERROR
        assert isinstance(server.error, ssl.SSLError)
        assert str(server.error.reason).endswith("ALERT_BAD_CERTIFICATE")


def test_an_unknown_authority_is_refused(base: EventBase, over: Over, pair: Pair, log: Log) -> None:
    """No program has to ask for it: clients verify as they are made."""
    stranger = trustme.CA().issue_cert(HOST)
    context = server_context_for(stranger)
    with (
        log.attach(over.client(base, pair[0])) as client,
        over.server(base, pair[1], context=context),
    ):
        settle(base)
        assert log.events == [READ_ERROR]
        assert isinstance(client.error, ssl.SSLCertVerificationError)
        assert client.get_openssl_error() is client.error


def test_a_client_shows_its_certificate(base: EventBase, over: Over, pair: Pair) -> None:
    context = client_context_for(issue("someone@client.example"))
    asking = server_context_for(issue(HOST), asks_clients=True)
    with (
        over.client(base, pair[0], context=context) as client,
        over.server(base, pair[1], context=asking) as server,
    ):
        settle(base)
        assert client.state is server.state is BUFFEREVENT_SSL_OPEN
        assert name_shown_to(server) == "someone@client.example"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_certificate_is_refused(
    base: EventBase, over: Over, pair: Pair, log: Log, version: ssl.TLSVersion
) -> None:
    """With TLS 1.3 the client hears it after its own handshake (RFC 8446 section 4.4.2.4)."""
    asking = server_context_for(issue(HOST), asks_clients=True)
    asking.maximum_version = version
    theirs = Log()
    with (
        log.attach(over.client(base, pair[0])) as client,
        theirs.attach(over.server(base, pair[1], context=asking)) as server,
    ):
        client.enable(EV_READ)
        settle(base)
        assert theirs.events == [READ_ERROR]
        assert isinstance(server.error, ssl.SSLError)
        assert server.error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        connected = [BEV_EVENT_CONNECTED] if version is ssl.TLSVersion.TLSv1_3 else []
        assert log.events == [*connected, READ_ERROR]
        assert "ALERT" in str(getattr(client.error, "reason", ""))


def test_nothing_before_tls_1_2_is_spoken(base: EventBase, over: Over, pair: Pair) -> None:
    """RFC 8996: TLS 1.0 and 1.1 are not to be used."""
    old = client_context_for()
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    log = Log()
    with (
        over.client(base, pair[0], context=old),
        log.attach(over.server(base, pair[1])) as server,
    ):
        settle(base)
        assert log.events == [READ_ERROR]
        assert isinstance(server.error, ssl.SSLError)
        assert server.error.reason == "UNSUPPORTED_PROTOCOL"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed(base: EventBase, over: Over, version: ssl.TLSVersion) -> None:
    """With a TLS 1.2 ticket, and with a TLS 1.3 one, which comes after the handshake."""
    client, server = client_context_for(), server_context_for(issue(HOST))
    client.maximum_version = version

    def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession, bool]:
        one, other = socket.socketpair()
        with (
            over.client(base, one, context=client, session=session) as bev,
            over.server(base, other, context=server),
        ):
            bev.enable(EV_READ)
            settle(base)
            assert bev.ssl is not None
            assert bev.session is not None
            return bev.session, bool(bev.ssl.session_reused)

    session, reused = connect(None)
    assert session.has_ticket
    assert not reused
    assert connect(session)[1]


def test_a_session_of_another_context_is_an_error(base: EventBase, over: Over) -> None:
    one, other = over.ends(base)
    with one, other:
        settle(base)
        sock = socket.socket()
        with sock, pytest.raises(ArgumentError, match="SSLContext"):
            over.client(base, sock, context=client_context_for(), session=one.session)


def test_a_certificate_is_exchanged_without_dropping_connections(
    base: EventBase, over: Over, pair: Pair, tmp_path: Path
) -> None:
    """The next handshake shows the new one; connections that are there go on."""
    context = server_context_for(issue(HOST, "first.example"))
    client = over.client(base, pair[0])
    with client, over.server(base, pair[1], context=context) as server:
        settle(base)
        renewed = issue("second.example", HOST)
        tls.reload_certificate(context, write_pem(renewed, tmp_path / "renewed.pem"))
        assert common_name(context, base, socket.socketpair()) == "second.example"
        server.enable(EV_READ)
        client.write(b"still here")
        settle(base)
        assert server.read() == b"still here"


def test_a_certificate_that_does_not_fit_is_not_exchanged(base: EventBase, tmp_path: Path) -> None:
    context = server_context_for(issue(HOST))
    other = issue(HOST)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issue("second.example").cert_chain_pems[0].write_to_path(cert)
    other.private_key_pem.write_to_path(key)
    with pytest.raises(OSError, match=r"cert\.pem"):
        tls.reload_certificate(context, cert, key)
    assert common_name(context, base, socket.socketpair()) == HOST


class TlsServer:
    """Accepts connections and says hello."""

    def __init__(self, base: EventBase, context: ssl.SSLContext) -> None:
        self.accepted: list[TlsBufferEvent] = []
        self.context = context
        self.listener = ConnListener.new_bind(
            base, self.on_accept, None, LEV_OPT_CLOSE_ON_FREE, -1, (LOOPBACK, 0)
        )

    def on_accept(
        self, listener: ConnListener, sock: socket.socket, address: object, arg: object
    ) -> None:
        bev = TlsBufferEvent.socket_new(
            listener.base, sock, self.context, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE
        )
        self.accepted.append(bev)
        bev.write(b"hello")
        bev.shutdown()

    def close(self) -> None:
        self.listener.close()
        for bev in self.accepted:
            bev.close()


@pytest.fixture
def server(base: EventBase) -> Iterator[TlsServer]:
    server = TlsServer(base, contexts()[1])
    yield server
    server.close()


@pytest.mark.parametrize("how", ["connect", "hostname", "numeric"])
def test_connect_then_shake_hands(base: EventBase, server: TlsServer, log: Log, how: str) -> None:
    """One CONNECTED, after the handshake; whom the client is told to connect to is checked."""
    port = server.listener.address[1]
    with TlsBufferEvent.socket_new(base, None, contexts()[0], CONNECTING) as bev:
        assert bev.ssl is None
        assert bev.session is None
        log.attach(bev).enable(EV_READ)
        if how == "connect":
            bev.connect((LOOPBACK, port))
        elif how == "numeric":
            bev.connect_hostname(None, socket.AF_UNSPEC, LOOPBACK, port)
        else:
            resolver = DictResolver(base, {HOST: [(socket.AF_INET, (LOOPBACK, port))]}, False)
            bev.connect_hostname(resolver, socket.AF_INET, HOST, port)
        run_until(base, lambda: len(log.events) == 2)
        assert log.events[0] == BEV_EVENT_CONNECTED
        assert log.data == b"hello"
        assert bev.ssl is not None
        assert bev.ssl.server_hostname == (HOST if how == "hostname" else LOOPBACK)


def test_the_host_that_was_connected_to_is_not_another(
    base: EventBase, server: TlsServer, log: Log
) -> None:
    port = server.listener.address[1]
    resolver = DictResolver(base, {"evil.example": [(socket.AF_INET, (LOOPBACK, port))]})
    with log.attach(TlsBufferEvent.socket_new(base, None, contexts()[0], CONNECTING)) as bev:
        bev.connect_hostname(resolver, socket.AF_INET, "evil.example", port)
        run_until(base, lambda: log.events)
        assert log.events == [READ_ERROR]
        assert isinstance(bev.error, ssl.SSLCertVerificationError)


def test_a_failed_connect_is_a_bare_error_and_can_be_tried_again(
    base: EventBase, server: TlsServer, closed_address: tuple[str, int], log: Log
) -> None:
    with log.attach(TlsBufferEvent.socket_new(base, None, contexts()[0], CONNECTING)) as bev:
        bev.enable(EV_READ)
        bev.connect(closed_address)
        run_until(base, lambda: log.events)
        assert log.events == [BEV_EVENT_ERROR]
        assert isinstance(bev.error, ConnectionRefusedError)
        bev.connect_hostname(
            DictResolver(base, {"no.example": EVUTIL_EAI_NONAME}), socket.AF_INET, "no.example", 1
        )
        run_until(base, lambda: len(log.events) == 2)
        assert log.events[1] == BEV_EVENT_ERROR
        assert bev.dns_error == EVUTIL_EAI_NONAME
        bev.connect(server.listener.address)
        run_until(base, lambda: len(log.events) == 4)
        assert log.events[2] == BEV_EVENT_CONNECTED
        assert log.data == b"hello"


def test_a_filter_waits_for_the_one_below_to_connect(
    base: EventBase, server: TlsServer, log: Log
) -> None:
    """The underlying's CONNECTED is swallowed."""
    below = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
    with log.attach(
        TlsBufferEvent.filter_new(
            below, contexts()[0], CONNECTING, BEV_OPT_CLOSE_ON_FREE, server_hostname=HOST
        )
    ) as bev:
        with pytest.raises(StateError, match="below"):
            bev.connect(server.listener.address)
        bev.enable(EV_READ)
        below.connect(server.listener.address)
        run_until(base, lambda: len(log.events) == 2)
        assert log.events[0] == BEV_EVENT_CONNECTED
        assert log.data == b"hello"


def test_tls_goes_through_tls(base: EventBase, pair: Pair, log: Log) -> None:
    """As to a server behind a proxy that is talked to over TLS itself."""
    outer = Over("socket")
    logs = Log(), Log()
    ends = [
        TlsBufferEvent.filter_new(
            below, context, state, BEV_OPT_CLOSE_ON_FREE, server_hostname=HOST
        )
        for below, context, state in zip(
            (outer.client(base, pair[0]), outer.server(base, pair[1])),
            contexts(),
            (CONNECTING, BUFFEREVENT_SSL_ACCEPTING),
            strict=True,
        )
    ]
    with ends[0], ends[1]:
        for bev, each in zip(ends, logs, strict=True):
            each.attach(bev).enable(EV_READ)
        ends[0].write(b"inside")
        settle(base)
        assert [each.events for each in logs] == [[BEV_EVENT_CONNECTED]] * 2
        assert logs[1].data == b"inside"


def test_starttls_takes_over_a_connection(base: EventBase, pair: Pair) -> None:
    """What the one below has still to send in the clear goes first."""
    plain = BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)
    plain.write(b"220 go ahead\r\n")
    server = TlsBufferEvent.filter_new(
        plain, contexts()[1], BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE
    )
    with server:
        server.write(b"secret")
        settle(base)
        assert pair[1].recv(99) == b"220 go ahead\r\n"
        with Over("socket").client(base, pair[1]) as client:
            client.enable(EV_READ)
            settle(base)
            assert client.read() == b"secret"


@pytest.mark.parametrize("state", [-1, 3, "open"])
def test_a_state_is_one_of_three(base: EventBase, state: int) -> None:
    with pytest.raises(ArgumentError, match=repr(state)):
        TlsBufferEvent.socket_new(base, None, contexts()[0], state)


def test_an_argument_that_does_not_fit_leaves_the_socket_alone(base: EventBase, pair: Pair) -> None:
    client, server = contexts()
    options = BEV_OPT_CLOSE_ON_FREE
    below = BufferEvent(base, pair[1])

    def check(message: str, *args: object, **terms: object) -> None:
        with pytest.raises(ArgumentError, match=message):
            TlsBufferEvent.socket_new(base, pair[0], *args, **terms)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=message):
            TlsBufferEvent.filter_new(below, *args, **terms)  # type: ignore[arg-type]

    with below:
        below.setcb(None, None, None, "mine")
        check("server_hostname", client, CONNECTING, options)
        check("PROTOCOL_TLS_SERVER", server, CONNECTING, options)
        check("PROTOCOL_TLS_CLIENT", client, BUFFEREVENT_SSL_ACCEPTING, options)
        check("TlsEngine", client, BUFFEREVENT_SSL_OPEN, options)
        check("TlsEngine", shaken_engines()[0], CONNECTING, options)
        check("bufferevent options: 0x10", server, BUFFEREVENT_SSL_ACCEPTING, 0x10)
        check("'nul", client, CONNECTING, options, server_hostname="nul\0.example")
        check("0 s: -1", server, BUFFEREVENT_SSL_ACCEPTING, options, handshake_timeout_s=-1)
        assert below.getcb()[3] == "mine"
        assert pair[0].fileno() != -1
    with pytest.raises(StateError, match="closed"):
        TlsBufferEvent.filter_new(below, server, BUFFEREVENT_SSL_ACCEPTING)
