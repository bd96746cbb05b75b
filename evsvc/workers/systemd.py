"""What systemd and its services tell each other: sockets that are passed, and how the service is.

Sources: sd_listen_fds(3) and sd_notify(3), whose protocols are a few variables of the environment
and datagrams of text, so that no library is needed.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final, NamedTuple

from ..core.closing import Closing
from ..core.errors import ArgumentError, SocketError

logger = logging.getLogger("evsvc.workers")

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START: passed descriptors are numbered from here on."""

MAX_SOCKETS: Final = 4096
"""More than any unit passes; it guards against a number that is none."""

UNNAMED: Final = "unknown"
"""What systemd calls a socket to which nobody has given a name (FileDescriptorName=)."""


class PassedSocket(NamedTuple):
    """A socket that systemd has passed on, and its name."""

    name: str
    socket: socket.socket


def systemd_sockets(environ: MutableMapping[str, str] = os.environ) -> list[PassedSocket]:
    """Return the sockets that systemd has passed to this process; often there are none.

    They are closed in programs that are started, and the variables are removed, so that nobody
    takes them for their own: a second call returns none.  Raises ArgumentError for variables that
    systemd does not set so, SocketError for a descriptor that is no socket.
    Source: sd_listen_fds_with_names(3).
    """
    pid, count = environ.get("LISTEN_PID"), environ.get("LISTEN_FDS")
    names = environ.get("LISTEN_FDNAMES")
    if pid is None or count is None or pid != str(os.getpid()):
        return []
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"):
        environ.pop(variable, None)
    if not (count.isascii() and count.isdigit() and int(count) <= MAX_SOCKETS):
        raise ArgumentError(f"LISTEN_FDS is a number up to {MAX_SOCKETS}: {count!r}")
    titles = names.split(":") if names is not None else [UNNAMED] * int(count)
    if len(titles) != int(count):
        raise ArgumentError(f"LISTEN_FDNAMES has not {count} names: {names!r}")
    passed: list[PassedSocket] = []
    for fd, title in enumerate(titles, FIRST_FD):
        try:
            sock = socket.socket(fileno=fd)
        except OSError as exc:
            for other in passed:
                other.socket.close()
            text = f"the descriptor {fd} ({title}) is no socket: {exc.strerror or exc}"
            raise SocketError(exc.errno, text) from exc
        sock.set_inheritable(False)
        passed.append(PassedSocket(title, sock))
    return passed


class Notifier(Closing):
    """Tells systemd how the service is; without systemd, nobody.

    environ: whose NOTIFY_SOCKET names the socket, "@" in front for an abstract one, and whose
    WATCHDOG_USEC asks for a sign of life.  The variables are removed.  A message that cannot be
    sent is logged.  Source: sd_notify(3).
    """

    __slots__ = ("_address", "_sock", "watchdog_s")

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._sock: socket.socket | None = None
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(
            environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        )
        if not self._address:
            return
        if self._address[0] not in "/@":
            logger.warning("NOTIFY_SOCKET is neither a path nor abstract: %r", self._address)
            return
        if self._address[0] == "@":
            self._address = "\0" + self._address[1:]
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)

    def ready(self, status: str) -> None:
        """The service is up, or its reload is done."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload has begun, which ends by `ready`."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", "STATUS=Restarting workers")

    def stopping(self) -> None:
        """The service is about to end."""
        self._send("STOPPING=1", "STATUS=Finishing what is in flight")

    def status(self, status: str) -> None:
        """Tell people what the service is at, in one line."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Give a sign of life, as WATCHDOG_USEC asks for."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Tell nothing more.  Safe to repeat."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, *lines: str) -> None:
        if self._sock is None:
            return
        try:
            self._sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as exc:
            logger.warning("cannot tell systemd %s: %s", lines[0], exc)


def _watchdog_s(usec: str, pid: str) -> float | None:
    """Return how often a sign of life is wanted; twice in the time that is given."""
    if not usec or (pid and pid != str(os.getpid())):
        return None
    if not (usec.isascii() and usec.isdigit() and int(usec) > 0):
        logger.warning("WATCHDOG_USEC is no number of microseconds: %r", usec)
        return None
    return int(usec) / 1e6 / 2
