"""Sends the time to browsers, as server-sent events; counts them, and compresses what it can.

Usage: event_clock.py [port]
Try also: curl -N http://127.0.0.1:8080/events, and /metrics.
"""

import argparse
import signal
import sys
import time

from evsvc import EventBase, HttpServer
from evsvc.core import EV_PERSIST, Event
from evsvc.http import CompressionOptions, EventStreamOptions

PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>Clock</title>
<h1>--:--:--</h1>
<script>
const source = new EventSource("/events");
source.onmessage = event => document.querySelector("h1").textContent = event.data;
source.addEventListener("stop", () => source.close());
</script>
"""

OPTIONS = EventStreamOptions(retry_ms=2000, heartbeat_s=30, stop_grace_s=0.5)

listeners = set()


def listen(request, arg):
    """Take a listener, and tell it how many ticks it has missed, if it was here before."""
    stream = request.start_event_stream(OPTIONS)
    if not stream.is_open:
        return
    listeners.add(stream)
    stream.set_closecb(lambda stream, arg: listeners.discard(stream))
    last = stream.last_event_id
    if last is not None and last.isdecimal():
        stream.comment(f"seconds missed: {int(time.time()) - int(last)}")


def tick(fd, what, arg):
    """Tell all listeners the time; who does not read it is dropped, and comes again."""
    now = time.time()
    text = time.strftime("%H:%M:%S", time.localtime(now))
    for stream in list(listeners):
        stream.send(text, id=str(int(now)))


def send_page(request, arg):
    """Answer with the page."""
    request.output_headers.add("Content-Type", "text/html; charset=utf-8")
    request.send_reply(200, None, PAGE.encode())


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8080)
args = parser.parse_args()

with EventBase() as base, HttpServer(base) as server:
    server.set_cb("/", send_page)
    server.set_cb("/events", listen, methods=("GET",))
    server.set_compression(CompressionOptions(min_bytes=200))
    server.metrics.mount(server)
    try:
        bound = server.bind_socket("127.0.0.1", args.port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"event_clock.py: {error}")

    def stop(signum, what, arg):
        """Let the listeners know, and end when they have gone, or five seconds later."""
        server.shutdown(lambda server: base.loopbreak(), deadline_s=5)

    with (
        base.signal(signal.SIGTERM, stop) as term,
        base.signal(signal.SIGINT, stop) as interrupt,
        Event(base, -1, EV_PERSIST, tick) as ticker,
    ):
        term.add()
        interrupt.add()
        ticker.add(1)
        print(f"http://127.0.0.1:{bound.port}/", flush=True)
        base.dispatch()
