"""The other end of an echo server: many connections, first idle, then each with messages.

Usage: echo_client.py PORT PID CONNECTIONS TRIPS

Opens so many connections to the server on the port, and lets TRIPS messages go to and fro on each,
IN_FLIGHT of them at a time.  Prints how many bytes the server's memory has grown by each idle
connection, how many microseconds of its processor's time a round trip took, and how many round
trips there were in a second.  PID is the server's.  Linux alone tells the first two.
"""

from __future__ import annotations

import select
import socket
import struct
import sys
from pathlib import Path
from time import perf_counter

IN_FLIGHT = 64
MESSAGE = b"0123456789abcdef" * 4

# So many wait to be accepted: a longer queue than a server has would cost a second now and then.
BATCH = 50

# No answer for so long: the server is stuck.
PATIENCE_S = 20.0

# Closing sends a reset, and leaves no port behind that lingers.
_NO_LINGER = struct.pack("ii", 1, 0)


class Server:
    """What the system tells of the server's process."""

    def __init__(self, pid: int) -> None:
        self._directory = Path("/proc") / str(pid)

    def memory_bytes(self) -> int:
        """Return the resident set's size."""
        for line in (self._directory / "status").read_text("ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise SystemExit(f"{self._directory} tells no memory: has the server ended?")

    def processor_s(self) -> float:
        """Return how long it has run on a processor, in user and kernel mode."""
        return int((self._directory / "schedstat").read_text("ascii").split()[0]) / 1e9


def connect(port: int) -> socket.socket:
    """Return a new connection; reads and writes wait no longer than PATIENCE_S."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    return sock


def make_trip(sock: socket.socket) -> None:
    """Send a message and wait for it to come back."""
    sock.sendall(MESSAGE)
    came = b""
    while len(came) < len(MESSAGE):
        data = sock.recv(len(MESSAGE))
        if not data:
            break
        came += data
    check(came)


def check(came: bytes) -> None:
    """End the program unless the message has come back as it was."""
    if came != MESSAGE:
        raise SystemExit(f"the server echoed {came!r}")


def connect_all(port: int, count: int) -> list[socket.socket]:
    """Return `count` connections that the server has accepted, all of them idle."""
    socks: list[socket.socket] = []
    for number in range(1, count + 1):
        socks.append(connect(port))
        if number % BATCH == 0 or number == count:
            make_trip(socks[-1])  # they are accepted in their order
    return socks


def make_trips(socks: list[socket.socket], trips: int) -> None:
    """Let `trips` messages go to and fro on each connection."""
    poller = select.epoll()
    by_fd = {sock.fileno(): sock for sock in socks}
    for fd in by_fd:
        poller.register(fd, select.EPOLLIN)
    waiting = [sock for _ in range(trips) for sock in reversed(socks)]
    left = len(waiting)
    for _ in range(min(IN_FLIGHT, len(socks))):
        waiting.pop().send(MESSAGE)
    while left:
        ready = poller.poll(PATIENCE_S)
        if not ready:
            raise SystemExit("the server has stopped to answer")
        for fd, _ in ready:
            check(by_fd[fd].recv(len(MESSAGE), socket.MSG_WAITALL))
            left -= 1
            if waiting:
                waiting.pop().send(MESSAGE)
    poller.close()


def main() -> None:
    """Measure, and print the three figures on one line."""
    port, pid, count, trips = (int(argument) for argument in sys.argv[1:5])
    server = Server(pid)
    first = connect(port)
    make_trip(first)
    empty_bytes = server.memory_bytes()
    socks = connect_all(port, count)
    idle_bytes = server.memory_bytes()
    busy_s = server.processor_s()
    start = perf_counter()
    make_trips(socks, trips)
    passed_s = perf_counter() - start
    busy_s = server.processor_s() - busy_s
    total = count * trips
    grown_bytes = (idle_bytes - empty_bytes) / count
    print(f"{grown_bytes:.0f} {busy_s / total * 1e6:.3f} {total / passed_s:.0f}")
    for sock in (first, *socks):
        sock.close()


if __name__ == "__main__":
    main()
