"""An HTTPS server.  SIGHUP has its certificate read again, SIGTERM and Ctrl-C stop it gracefully.

Usage: https_server.py port cert.pem [key.pem]

A certificate of your own for trying it out:

    openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=localhost \\
        -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem
    python https_server.py 8443 cert.pem key.pem
    curl --cacert cert.pem https://localhost:8443/
"""

import signal
import sys

from evsvc import EventBase, HttpServer
from evsvc.core import tls

STOP_S = 10  # for what is in hand when it is told to stop


def hello(request, arg):
    """Tell the client what was agreed on."""
    agreed = request.connection.tls
    request.output_headers.add("Content-Type", "text/plain")
    request.output_headers.add("Strict-Transport-Security", "max-age=86400")
    request.send_reply(200, None, f"hello over {agreed.protocol}\n".encode())


def on_hangup(signum, what, context):
    """Read the files again; where they are no good, the old certificate stays."""
    try:
        tls.reload_certificate(context, *files)
    except (ValueError, OSError) as error:
        print(f"https_server.py: {error}", file=sys.stderr, flush=True)
    else:
        print("the certificate is renewed", flush=True)


def on_stop(signum, what, server):
    """Answer what has arrived, then end."""
    server.shutdown(lambda server: base.loopexit(), deadline_s=STOP_S)


if not 3 <= len(sys.argv) <= 4:
    sys.exit("https_server.py: a port and a certificate are wanted")
files = sys.argv[2:]
with EventBase() as base, HttpServer(base) as server:
    server.set_gencb(hello)
    try:
        context = tls.server_context(*files)
        bound = server.bind_socket("127.0.0.1", int(sys.argv[1]), tls=context)
    except (ValueError, OSError) as error:
        sys.exit(f"https_server.py: {error}")
    base.signal(signal.SIGHUP, on_hangup, context).add()
    for signum in (signal.SIGTERM, signal.SIGINT):
        base.signal(signum, on_stop, server).add()
    print(f"https://localhost:{bound.port}/", flush=True)
    base.dispatch()
