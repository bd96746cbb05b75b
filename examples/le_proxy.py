"""A TCP proxy that can speak TLS on either side, or take it off, as libevent's le-proxy does.

Usage: le_proxy.py [-a cert.pem] [-s] [-c ca.pem] listen-ip[:port] server-host:port

Without a port to listen on, it gets a free one.
-a: accept TLS from clients, with the certificate and key in this file.
-s: speak TLS to the server, whose certificate must be for its host.
-c: and of this authority, instead of those that the system trusts.
"""

import getopt
import socket
import sys

from evsvc import (
    EV_READ,
    BufferEvent,
    ConnListener,
    EventBase,
    Resolver,
)
from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_REUSEABLE,
    TlsBufferEvent,
    gai_strerror,
    tls,
)
from evsvc.core.util import check_port, parse_sockaddr_port

MOST_WAITING_BYTES = 512 * 1024


def on_read(bev, partner):
    """Pass it on; read no more from here while the other side is behind."""
    partner.write_buffer(bev.input)
    if len(partner.output) > MOST_WAITING_BYTES:
        bev.disable(EV_READ)


def on_write(bev, partner):
    """It has taken all that there was."""
    partner.enable(EV_READ)


def on_event(bev, what, partner):
    """One side has ended, or failed: so does the other, when it has all that came before."""
    if what & BEV_EVENT_CONNECTED:
        return
    if not what & BEV_EVENT_EOF:
        error = gai_strerror(bev.dns_error) if bev.dns_error else bev.error or "time-out"
        print(f"le_proxy.py: {error}", file=sys.stderr, flush=True)
    on_read(bev, partner)
    bev.close()
    partner.setcb(None, lambda bev, ctx: bev.close(), lambda bev, what, ctx: bev.close())
    partner.disable(EV_READ)
    if isinstance(partner, TlsBufferEvent):
        partner.shutdown()  # the write callback comes after it, too
    elif not len(partner.output):
        partner.close()


def new_side(sock, context, state):
    """Return the bufferevent of one side; with TLS where it has a context."""
    if context is None:
        return BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
    return TlsBufferEvent.socket_new(base, sock, context, state, BEV_OPT_CLOSE_ON_FREE)


def on_accept(listener, sock, address, arg):
    """Join each client to a connection of its own to the server."""
    client = new_side(sock, client_side, BUFFEREVENT_SSL_ACCEPTING)
    server = new_side(None, server_side, BUFFEREVENT_SSL_CONNECTING)
    for bev, partner in ((client, server), (server, client)):
        bev.setcb(on_read, on_write, on_event, partner)
        bev.enable(EV_READ)
    server.connect_hostname(resolver, socket.AF_UNSPEC, host, port)


try:
    options, addresses = getopt.getopt(sys.argv[1:], "a:sc:")
except getopt.GetoptError as error:
    sys.exit(f"le_proxy.py: {error}")
if len(addresses) != 2:
    sys.exit("le_proxy.py: an address to listen on and one to connect to are wanted")
options = dict(options)
listen_on, connect_to = addresses
host, _, port = connect_to.rpartition(":")
with EventBase() as base:
    try:
        port = check_port(int(port), lowest=1)
        client_side = tls.server_context(options["-a"]) if "-a" in options else None
        server_side = tls.client_context(cafile=options.get("-c")) if "-s" in options else None
        listener = ConnListener.new_bind(
            base,
            on_accept,
            None,
            LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_FREE,
            -1,
            parse_sockaddr_port(listen_on),
        )
    except (ValueError, OSError) as error:
        sys.exit(f"le_proxy.py: {error}")
    with listener, Resolver(base) as resolver:
        print(f"listening on port {listener.address[1]}", flush=True)
        base.dispatch()
