"""A TLS server that sends back what it gets, and takes a renewed certificate when told to.

Usage: tls_echo.py port cert.pem [key.pem]

The certificate file may hold the key, too.  SIGHUP has both files read again: new connections see
the new certificate, and those that are there go on.
"""

import signal
import sys

from evsvc import EV_READ, ConnListener, EventBase
from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_REUSEABLE,
    TlsBufferEvent,
    tls,
)

MOST_WAITING_BYTES = 256 * 1024


def on_read(bev, ctx):
    """Send it back.  A client that does not take its answers is not read from."""
    bev.write_buffer(bev.input)
    if len(bev.output) > MOST_WAITING_BYTES:
        bev.disable(EV_READ)


def on_write(bev, ctx):
    """All answers are on their way."""
    bev.enable(EV_READ)


def on_event(bev, what, ctx):
    """Say who is there; end cleanly when the client does."""
    if what & BEV_EVENT_CONNECTED:
        print(f"connected: {bev.ssl.version()}, {bev.ssl.cipher()[0]}", flush=True)
    elif what & BEV_EVENT_EOF:
        bev.setcb(None, lambda bev, ctx: bev.close(), lambda bev, what, ctx: bev.close())
        bev.shutdown()
    else:
        print(f"tls_echo.py: {bev.error or 'time-out'}", file=sys.stderr, flush=True)
        bev.close()


def on_accept(listener, sock, address, context):
    """Give each connection a bufferevent of its own."""
    bev = TlsBufferEvent.socket_new(
        listener.base, sock, context, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE
    )
    bev.setcb(on_read, on_write, on_event)
    bev.enable(EV_READ)


def on_hangup(signum, what, context):
    """Read the files again; where they are no good, the old certificate stays."""
    try:
        tls.reload_certificate(context, *files)
    except (ValueError, OSError) as error:
        print(f"tls_echo.py: {error}", file=sys.stderr, flush=True)
    else:
        print("the certificate is renewed", flush=True)


if not 3 <= len(sys.argv) <= 4:
    sys.exit("tls_echo.py: a port and a certificate are wanted")
files = sys.argv[2:]
with EventBase() as base:
    try:
        context = tls.server_context(*files)
        listener = ConnListener.new_bind(
            base,
            on_accept,
            context,
            LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_FREE,
            -1,
            ("127.0.0.1", int(sys.argv[1])),
        )
    except (ValueError, OSError) as error:
        sys.exit(f"tls_echo.py: {error}")
    with listener, base.signal(signal.SIGHUP, on_hangup, context) as hangup:
        hangup.add()
        print(f"listening on port {listener.address[1]}", flush=True)
        base.dispatch()
