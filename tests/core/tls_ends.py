"""What the tests of TLS share: certificates, contexts, engines that have shaken hands, ends."""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    BUFFEREVENT_SSL_OPEN,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    AbstractBufferEvent,
    BufferEvent,
    EventBase,
    PairBufferEvent,
    TlsBufferEvent,
    TlsEngine,
    tls,
)

HOST = "server.example"

TlsEnds = tuple[TlsBufferEvent, TlsBufferEvent]


@functools.cache
def authority() -> trustme.CA:
    """Return the authority that both sides trust; elliptic curves are fast."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


def issue(*names: str) -> trustme.LeafCert:
    return authority().issue_cert(*names, key_type=trustme.KeyType.ECDSA)


def write_pem(cert: trustme.LeafCert, path: Path) -> Path:
    """Write a certificate chain and its key to one file."""
    cert.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def server_context_for(
    cert: trustme.LeafCert, *, asks_clients: bool = False, alpn: Sequence[str] = ()
) -> ssl.SSLContext:
    """Return a server's context, which may ask clients for certificates of the authority."""
    with TemporaryDirectory() as folder:
        cafile = Path(folder, "ca.pem")
        authority().cert_pem.write_to_path(cafile)
        return tls.server_context(
            write_pem(cert, Path(folder, "server.pem")),
            client_cafile=cafile if asks_clients else None,
            alpn=alpn,
        )


def client_context_for(
    cert: trustme.LeafCert | None = None, *, alpn: Sequence[str] = ()
) -> ssl.SSLContext:
    """Return a client's context that trusts the authority, and may have a certificate itself."""
    with TemporaryDirectory() as folder:
        return tls.client_context(
            cadata=authority().cert_pem.bytes().decode(),
            cert=None if cert is None else write_pem(cert, Path(folder, "client.pem")),
            alpn=alpn,
        )


@functools.cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a client's and a server's context that fit; not to be changed."""
    return client_context_for(), server_context_for(issue(HOST, "127.0.0.1"))


def exchange(one: TlsEngine, other: TlsEngine) -> None:
    """Carry what each has said to the other."""
    other.incoming.write(one.outgoing.read())
    one.incoming.write(other.outgoing.read())


def shaken_engines() -> tuple[TlsEngine, TlsEngine]:
    """Return the engines of a client and a server after their handshake in memory."""
    client_context, server_context = contexts()
    client = TlsEngine(client_context, server_side=False, server_hostname=HOST)
    server = TlsEngine(server_context, server_side=True)
    waiting = [client, server]
    while waiting:
        for engine in list(waiting):
            try:
                engine.ssl.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                waiting.remove(engine)
            exchange(client, server)
    return client, server


def settle(base: EventBase) -> None:
    """Run until nothing is ready, without time going by."""
    base.loop(EVLOOP_NONBLOCK)


def run_until(base: EventBase, done: Callable[[], object]) -> None:
    """Run until `done()`; fail when nothing is left that could happen."""
    while not done():
        assert base.loop(EVLOOP_ONCE) == 0 or done()


class Over:
    """Makes the two kinds of TLS bufferevents alike, from a socket and the side."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def new(
        self,
        base: EventBase,
        sock: socket.socket,
        context: ssl.SSLContext | TlsEngine,
        state: int,
        options: int = 0,
        **terms: Any,
    ) -> TlsBufferEvent:
        """Return one that closes the socket with it."""
        options |= BEV_OPT_CLOSE_ON_FREE
        if self.kind == "socket":
            return TlsBufferEvent.socket_new(base, sock, context, state, options, **terms)
        below = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        return TlsBufferEvent.filter_new(below, context, state, options, **terms)

    def client(self, base: EventBase, sock: socket.socket, **terms: Any) -> TlsBufferEvent:
        terms = {"context": contexts()[0], "server_hostname": HOST, **terms}
        return self.new(base, sock, state=BUFFEREVENT_SSL_CONNECTING, **terms)

    def server(self, base: EventBase, sock: socket.socket, **terms: Any) -> TlsBufferEvent:
        terms = {"context": contexts()[1], **terms}
        return self.new(base, sock, state=BUFFEREVENT_SSL_ACCEPTING, **terms)

    def ends(self, base: EventBase, options: int = 0) -> TlsEnds:
        """Return a client and a server before their handshake."""
        one, other = socket.socketpair()
        return (
            self.client(base, one, options=options),
            self.server(base, other, options=options),
        )


def open_ends_over_sockets(base: EventBase, options: int) -> TlsEnds:
    """Return two directly over sockets, whose handshake is done."""
    one, other = (
        TlsBufferEvent.socket_new(
            base, sock, engine, BUFFEREVENT_SSL_OPEN, options | BEV_OPT_CLOSE_ON_FREE
        )
        for sock, engine in zip(socket.socketpair(), shaken_engines(), strict=True)
    )
    return one, other


def open_ends_over(below: tuple[AbstractBufferEvent, AbstractBufferEvent], options: int) -> TlsEnds:
    """Return two over other bufferevents, whose handshake is done."""
    one, other = (
        TlsBufferEvent.filter_new(
            bev, engine, BUFFEREVENT_SSL_OPEN, options | BEV_OPT_CLOSE_ON_FREE
        )
        for bev, engine in zip(below, shaken_engines(), strict=True)
    )
    return one, other


def open_ends_over_a_pair(base: EventBase, options: int) -> TlsEnds:
    return open_ends_over(PairBufferEvent.new(base), options)
