"""A Flask application on an HttpServer, and beside it what a thread would be too dear for.

Usage: flask_app.py [port]
Needs Flask: pip install flask
"""

import argparse
import signal
import sys
import time

import flask

from evsvc import EventBase, HttpServer
from evsvc.wsgi import WsgiHandler, WsgiOptions

app = flask.Flask(__name__)


@app.route("/")
def hello():
    """Answer as any Flask application does; it may block, as it has a thread for itself."""
    return f"Hello, {flask.request.args.get('name', 'World')}!\n"


@app.route("/count")
def count():
    """Answer piece by piece: the client has each line when it is made."""

    def lines():
        for number in range(1, 4):
            yield f"{number}\n"
            time.sleep(0.1)

    return flask.Response(lines(), mimetype="text/plain")


@app.route("/upload", methods=["POST"])
def upload():
    """Read a body of any length without keeping it."""
    size = 0
    while piece := flask.request.stream.read(65536):
        size += len(piece)
    return f"{size} bytes\n"


def send_events(request, streams):
    """Answer with a stream that lasts: of these there may be thousands, without a thread."""
    stream = request.start_event_stream()
    streams.add(stream)
    stream.set_closecb(lambda stream, arg: streams.discard(stream))
    stream.send(f"{len(streams)} are listening")


def stop(signum, what, arg):
    """End gracefully: replies in hand are whole, and threads have done their work."""
    server.shutdown(
        lambda server: handler.shutdown(lambda handler: base.loopexit(), deadline_s=10),
        deadline_s=10,
    )


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8080)
port = parser.parse_args().port

with EventBase() as base, HttpServer(base) as server:
    handler = WsgiHandler(base, app, WsgiOptions(threads=4, max_queued=64))
    handler.mount(server)
    server.set_cb("/events", send_events, set())
    try:
        bound = server.bind_socket("127.0.0.1", port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"flask_app.py: {error}")
    for signum in (signal.SIGINT, signal.SIGTERM):
        base.signal(signum, stop).add()
    print(f"http://127.0.0.1:{bound.port}/", flush=True)
    base.dispatch()
