"""Connecting a socket: one attempt, and a race of several (RFC 8305 section 5).

Knows no names and no bufferevents: an attempt reports its outcome, and a race the socket that
connected first, both through a callback from the loop.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING

from ..errors import ArgumentError, SocketError
from ..flags import WRITE
from ..util import checked_family

if TYPE_CHECKING:
    from ..resolver import AddrInfo, SocketAddress
    from .inactivity import NewEvent

CONNECTION_ATTEMPT_DELAY_S = 0.25
"""How long an attempt is alone before the next one joins it (RFC 8305 section 8)."""

MIN_CONNECTION_ATTEMPT_DELAY_S = 0.01
"""The least that RFC 8305 section 5 allows it to be."""

ATTEMPT_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 120.0
MAX_ADDRESSES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How a host's addresses are tried.  Raises ArgumentError when a value is out of range.

    attempt_delay_s: seconds until the next address is tried beside those under way, 0.01 or more.
    attempt_s:       seconds that one address has; `None` is as long as the kernel tries.
    total_s:         seconds that all of it has, the look-up with it; `None` is for ever.
    max_addresses:   how many of the host's addresses are tried at most.
    """

    attempt_delay_s: float = CONNECTION_ATTEMPT_DELAY_S
    attempt_s: float | None = ATTEMPT_TIMEOUT_S
    total_s: float | None = CONNECT_TIMEOUT_S
    max_addresses: int = MAX_ADDRESSES

    def __post_init__(self) -> None:
        if not self.attempt_delay_s >= MIN_CONNECTION_ATTEMPT_DELAY_S:
            raise ArgumentError(f"attempt_delay_s is 0.01 or more: {self.attempt_delay_s!r}")
        for name, limit in (("attempt_s", self.attempt_s), ("total_s", self.total_s)):
            if limit is not None and not limit > 0:
                raise ArgumentError(f"{name} is more than 0, or None: {limit!r}")
        if self.max_addresses < 1:
            raise ArgumentError(f"max_addresses is 1 or more: {self.max_addresses!r}")


def interleaved(addresses: Iterable[AddrInfo]) -> list[AddrInfo]:
    """Return the addresses so that families alternate, beginning with the first one's.

    Within a family the order stays.  Source: RFC 8305 section 4, with a First Address Family
    Count of 1.
    """
    families: dict[int, list[AddrInfo]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    rounds = zip_longest(*families.values())
    return [address for address in chain.from_iterable(rounds) if address is not None]


def connectable_family(address: SocketAddress) -> socket.AddressFamily:
    """Return the family of an address that a socket can be told to connect to.

    Raises ArgumentError for one that it would refuse, and for a host that is a name: the socket
    would look it up, and block.
    """
    family = checked_family(address)
    most = {socket.AF_INET: 2, socket.AF_INET6: 4}.get(family)
    if most is not None and (
        len(address) > most or not all(isinstance(item, int) for item in address[2:])
    ):
        raise ArgumentError(f"not an address: {address!r}")
    return family


class Attempt:
    """One socket on its way to one address.

    `done(attempt, error)` is called once, from the loop; `error` is None when it is connected.
    Without an address, it is on its way already.
    Raises what the event base raises for the socket.
    """

    __slots__ = ("_done", "_error", "_event", "sock")

    state = "connecting"

    def __init__(
        self,
        new_event: NewEvent,
        sock: socket.socket,
        address: SocketAddress | None,
        done: Callable[[Attempt, OSError | None], object],
        timeout_s: float | None = None,
    ) -> None:
        self.sock = sock
        self._done = done
        self._event = new_event(sock, WRITE, self._on_event)
        try:
            self._error = None if address is None else _start_connecting(sock, address)
            if self._error is None:
                self._event.add(timeout_s)
            else:
                self._event.active(WRITE)
        except BaseException:
            self._event.close()
            raise

    def cancel(self) -> None:
        """Forget it: no outcome is told.  The socket stays open."""
        self._event.close()

    def _on_event(self, fd: int, what: int, arg: object) -> None:
        error = self._error
        if error is None and not what & WRITE:
            error = TimeoutError(errno.ETIMEDOUT, "no answer in time")
        elif error is None:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            error = OSError(code, os.strerror(code)) if code else None
        self._error = None
        self._event.close()
        self._done(self, error)


def _start_connecting(sock: socket.socket, address: SocketAddress) -> OSError | None:
    try:
        try:
            sock.connect(address)
        except ConnectionAbortedError:  # Linux's last word on an attempt that failed before
            sock.connect(address)
    except BlockingIOError as exc:
        # Else it is not under way: a Unix listener's queue is full (EAGAIN), or the socket is on
        # its way elsewhere already (EALREADY).
        if exc.errno != errno.EINPROGRESS:
            return exc.with_traceback(None)
    except OSError as exc:
        return exc.with_traceback(None)
    return None


class Race:
    """Tries addresses until one connects; a new one joins each `attempt_delay_s`, or on a failure.

    `done(sock, error)` is called once, from the loop or from inside `start`: with the connected
    socket, or with the error of the address that failed last.  `sock`, where given, makes all the
    attempts itself, one after the other, at the addresses of its family.
    """

    __slots__ = (
        "_addresses",
        "_attempts",
        "_done",
        "_error",
        "_new_event",
        "_options",
        "_sock",
        "_timer",
    )

    def __init__(
        self,
        new_event: NewEvent,
        addresses: list[AddrInfo],
        options: ConnectOptions,
        done: Callable[[socket.socket | None, OSError | None], object],
        sock: socket.socket | None = None,
    ) -> None:
        self._new_event = new_event
        if sock is not None:
            addresses = [address for address in addresses if address.family == sock.family]
        self._addresses = deque(islice(interleaved(addresses), options.max_addresses))
        self._options = options
        self._done = done
        self._sock = sock
        self._attempts: list[Attempt] = []
        self._error: OSError = SocketError(errno.EAFNOSUPPORT, "no address for this socket")
        self._timer = new_event(-1, 0, self._on_delay)

    def start(self) -> None:
        """Try the first address that a socket can be had for."""
        self._try_next()

    def cancel(self) -> None:
        """Give up, and close the sockets of the attempts under way."""
        self._addresses.clear()
        self._timer.close()
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            self._drop(attempt)

    def _try_next(self) -> None:
        while self._addresses:
            address = self._addresses.popleft()
            try:
                self._attempts.append(self._attempt(address))
            except OSError as exc:  # such as a family that this host does not have
                self._error = exc.with_traceback(None)
            except (TypeError, ValueError, OverflowError):
                # A resolver's mistake; one address of many may be good.
                self._error = SocketError(errno.EINVAL, f"not an address: {address.sockaddr!r}")
            else:
                break
        if not self._attempts:
            self._finish(None, self._error)
        elif self._addresses and self._sock is None:
            self._timer.add(self._options.attempt_delay_s)

    def _attempt(self, address: AddrInfo) -> Attempt:
        sock = self._sock or socket.socket(address.family, socket.SOCK_STREAM)
        try:
            if connectable_family(address.sockaddr) != address.family:
                raise ArgumentError(f"not of family {address.family!r}: {address.sockaddr!r}")
            sock.setblocking(False)
            attempt_s = self._options.attempt_s
            return Attempt(self._new_event, sock, address.sockaddr, self._on_outcome, attempt_s)
        except BaseException:
            if sock is not self._sock:
                sock.close()
            raise

    def _on_delay(self, fd: int, what: int, arg: object) -> None:
        self._try_next()

    def _on_outcome(self, attempt: Attempt, error: OSError | None) -> None:
        self._attempts.remove(attempt)
        if error is None:
            self._finish(attempt.sock, None)
            return
        self._error = error
        if attempt.sock is self._sock and isinstance(error, TimeoutError):
            self._addresses.clear()  # the kernel goes on, and there is no calling it back
        self._drop(attempt)
        self._timer.delete()
        self._try_next()

    def _drop(self, attempt: Attempt) -> None:
        attempt.cancel()
        if attempt.sock is not self._sock:
            attempt.sock.close()

    def _finish(self, sock: socket.socket | None, error: OSError | None) -> None:
        self.cancel()
        self._done(sock, error)
