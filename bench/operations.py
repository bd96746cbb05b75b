"""What single operations of evsvc cost: the rows that two checkouts are compared by.

Usage: operations.py CERTIFICATE [REPEATS]

Prints the folder that evsvc was imported from, then a line `microseconds name` for each row: CPU
time of this process for one operation, user and kernel, the best of REPEATS measurements.  Clients
are plain sockets in the same process and run while the clock stands still.  CERTIFICATE is a PEM
file with a certificate for localhost and its key.

But for the inspector only names are used that every version of evsvc has, so that an older checkout
can run this, too.
"""

from __future__ import annotations

import gc
import os
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from time import process_time
from typing import TypeVar

import evsvc
from evsvc import (
    EV_PERSIST,
    EV_READ,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    BufferEvent,
    ConnListener,
    Event,
    EventBase,
    HttpServer,
)
from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    TlsBufferEvent,
    tls,
)

try:
    from evsvc.inspector import Inspector
except ImportError:  # an older checkout, which has not the rows that want it
    Inspector = None  # type: ignore[assignment, misc]

CONNECTIONS = 64
MESSAGE = b"0123456789abcdef" * 4
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
REPLY_END = b"Thanks for the request!"
PATIENCE_S = 20.0

T = TypeVar("T")


class Watch:
    """CPU time, as long as it runs."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of this block."""
        start = process_time()
        yield
        self.passed_s += process_time() - start


def pipes(watch: Watch) -> int:
    """A byte through each of 100 pipes, read and passed on by the callback."""
    base = EventBase()
    ends = [os.pipe() for _ in range(100)]
    left = 20_000

    def pass_on(fd: int, what: int, index: int) -> None:
        nonlocal left
        os.read(fd, 1)
        left -= 1
        if left >= len(ends):
            os.write(ends[(index + 1) % len(ends)][1], b"e")
        elif left == 0:
            base.loopbreak()

    events = []
    for index, (reader, writer) in enumerate(ends):
        os.set_blocking(reader, False)
        events.append(Event(base, reader, EV_READ | EV_PERSIST, pass_on, index))
        events[-1].add()
        os.write(writer, b"e")
    with watch.running():
        base.dispatch()
    base.close()
    for end in (end for pair in ends for end in pair):
        os.close(end)
    return 20_000


def timers_added(watch: Watch) -> int:
    """Make a timer and add it."""
    base = EventBase()
    with watch.running():
        for number in range(10_000):
            base.timer(_nothing).add(1000 + number % 7)
    base.close()
    return 10_000


def timers_deleted(watch: Watch) -> int:
    """Delete a timer that is not due."""
    base = EventBase()
    timers = [base.timer(_nothing) for _ in range(10_000)]
    for number, timer in enumerate(timers):
        timer.add(1000 + number % 7)
    with watch.running():
        for timer in timers:
            timer.delete()
    base.close()
    return 10_000


def timers_fired(watch: Watch) -> int:
    """Make a timer, add it, and have it fire."""
    base = EventBase()
    with watch.running():
        for _ in range(10_000):
            base.timer(_nothing).add(0)
        base.dispatch()
    base.close()
    return 10_000


def _nothing(fd: int, what: int, arg: object) -> None:
    pass


def echo(watch: Watch) -> int:
    """A message of 64 bytes, echoed on each of 64 connections."""

    def accept(listener: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        bev = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
        bev.setcb(_echo, None, _end)
        bev.enable(EV_READ)

    with _clients(accept) as (base, clients):
        return _exchange(watch, base, clients, MESSAGE, MESSAGE, 30)


def _echo(bev: BufferEvent, ctx: object) -> None:
    bev.write_buffer(bev.input)


def _end(bev: BufferEvent, what: int, ctx: object) -> None:
    if not what & BEV_EVENT_CONNECTED:
        bev.close()


def tls_echo(watch: Watch) -> int:
    """The same through TLS."""
    context = tls.server_context(CERTIFICATE)

    def accept(listener: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        bev = TlsBufferEvent.socket_new(
            listener.base, sock, context, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE
        )
        bev.setcb(_echo, None, _end)
        bev.enable(EV_READ)

    with _clients(accept) as (base, plain):
        client_context = ssl.create_default_context(cafile=CERTIFICATE)
        with ExitStack() as stack:
            clients: list[socket.socket] = []
            for sock in plain:
                wrapped = client_context.wrap_socket(
                    sock, server_hostname="localhost", do_handshake_on_connect=False
                )
                clients.append(stack.enter_context(wrapped))
                _until_done(wrapped.do_handshake, lambda: base.loop(EVLOOP_NONBLOCK))
            return _exchange(watch, base, clients, MESSAGE, MESSAGE, 20)


def http_hello(watch: Watch, prepare: Callable[[HttpServer], object] | None = None) -> int:
    """A small page on each of 64 kept-alive connections, with all default limits.

    prepare: given the server before its clients come.
    """

    def hello(request: object, arg: object) -> None:
        request.output_headers.add("Content-Type", "text/plain")  # type: ignore[attr-defined]
        request.send_reply(200, "OK", REPLY_END)  # type: ignore[attr-defined]

    with ExitStack() as stack:
        base = stack.enter_context(EventBase())
        server = stack.enter_context(HttpServer(base))
        server.set_gencb(hello, None)
        if prepare is not None:
            prepare(server)
        port = server.bind_socket("127.0.0.1", 0).port
        clients = [_connected(stack, port) for _ in range(CONNECTIONS)]
        base.loop(EVLOOP_NONBLOCK)
        return _exchange(watch, base, clients, HEAD, REPLY_END, 30)


def inspector_mounted(watch: Watch) -> int:
    """The same, with an inspector at which nobody looks."""
    return http_hello(watch, lambda server: Inspector(server.base).mount(server))


def inspector_looked_at(watch: Watch) -> int:
    """The same, while the inspector measures the loop."""

    def look(server: HttpServer) -> None:
        inspector = Inspector(server.base)
        inspector.mount(server)
        inspector.state()

    return http_hello(watch, look)


def accept_and_close(watch: Watch) -> int:
    """Accept a connection, give it a bufferevent, and close it at the peer's end."""
    closed = 0

    def accept(listener: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        bev = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
        bev.setcb(_echo, None, end)
        bev.set_timeouts(60, 60)
        bev.enable(EV_READ)

    def end(bev: BufferEvent, what: int, ctx: object) -> None:
        nonlocal closed
        closed += 1
        bev.close()

    with ExitStack() as stack:
        base = stack.enter_context(EventBase())
        listener = stack.enter_context(
            ConnListener.new_bind(base, accept, None, 0, -1, ("127.0.0.1", 0))
        )
        port = listener.address[1]
        for count in range(CONNECTIONS, CONNECTIONS * 11, CONNECTIONS):
            clients = [
                socket.create_connection(("127.0.0.1", port), PATIENCE_S)
                for _ in range(CONNECTIONS)
            ]
            with watch.running():
                base.loop(EVLOOP_NONBLOCK)
            for client in clients:
                client.close()
            while closed < count:
                with watch.running():
                    base.loop(EVLOOP_ONCE)
    return CONNECTIONS * 10


def make_and_close(watch: Watch) -> int:
    """Make a bufferevent over a connected socket, with callbacks and time-outs, and close it."""
    with EventBase() as base:
        for _ in range(20):
            pairs = [socket.socketpair() for _ in range(CONNECTIONS)]
            with watch.running():
                for sock, _ in pairs:
                    bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
                    bev.setcb(_echo, None, _end)
                    bev.set_timeouts(60, 60)
                    bev.enable(EV_READ)
                    bev.close()
            for _, other in pairs:
                other.close()
    return CONNECTIONS * 20


Accept = Callable[[ConnListener, socket.socket, object, object], None]


@contextmanager
def _clients(accept: Accept) -> Iterator[tuple[EventBase, list[socket.socket]]]:
    """Listen, and give connections that have been accepted."""
    with ExitStack() as stack:
        base = stack.enter_context(EventBase())
        listener = stack.enter_context(
            ConnListener.new_bind(base, accept, None, 0, -1, ("127.0.0.1", 0))
        )
        clients = [_connected(stack, listener.address[1]) for _ in range(CONNECTIONS)]
        base.loop(EVLOOP_NONBLOCK)
        yield base, clients
        for client in clients:
            client.close()
        base.loop(EVLOOP_NONBLOCK)


def _connected(stack: ExitStack, port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setblocking(False)
    return stack.enter_context(client)


def _exchange(
    watch: Watch, base: EventBase, clients: list[socket.socket], sent: bytes, end: bytes, turns: int
) -> int:
    """Let each client send, the loop answer, and each client take an answer that ends so."""

    def run_loop() -> None:
        with clock.running():
            base.loop(EVLOOP_NONBLOCK)

    for turn in range(turns + 2):  # the first two find nothing warm
        clock = watch if turn >= 2 else Watch()
        for client in clients:
            client.sendall(sent)
        run_loop()
        for client in clients:
            came = b""
            while not came.endswith(end):
                data = _until_done(partial(client.recv, 65536), run_loop)
                if not data:
                    raise SystemExit(f"a connection has ended after {came!r}")
                came += data
    return turns * len(clients)


def _until_done(action: Callable[[], T], run_loop: Callable[[], object]) -> T:
    """Do something on a socket that does not block, with the loop's help."""
    while True:
        try:
            return action()
        except (BlockingIOError, ssl.SSLWantReadError):
            run_loop()


ROWS: dict[str, Callable[[Watch], int]] = {
    "event on a pipe": pipes,
    "timer: add": timers_added,
    "timer: delete": timers_deleted,
    "timer: add and fire": timers_fired,
    "echo": echo,
    "HTTP hello": http_hello,
    "TLS echo": tls_echo,
    "connection: accept and close": accept_and_close,
    "bufferevent: make and close": make_and_close,
}
if Inspector is not None:
    ROWS["HTTP hello, inspector mounted"] = inspector_mounted
    ROWS["HTTP hello, inspector looked at"] = inspector_looked_at


def measure(row: Callable[[Watch], int]) -> float:
    """Return the microseconds of one operation of a row."""
    gc.collect()
    watch = Watch()
    operations = row(watch)
    return watch.passed_s / operations * 1e6


def main() -> None:
    """Measure every row, and print them."""
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print(os.path.dirname(os.path.dirname(os.path.abspath(evsvc.__file__))))
    for name, row in ROWS.items():
        print(f"{min(measure(row) for _ in range(repeats)):.4f} {name}", flush=True)


CERTIFICATE = sys.argv[1] if len(sys.argv) > 1 else ""

if __name__ == "__main__":
    main()
