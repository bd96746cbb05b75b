"""ConnListener: accepts connections and hands each to a callback.

Invariants
    * The socket is watched exactly while the listener is enabled, has a callback and does not
      pause after a failure.
    * No callback runs with the listener's lock held, and nobody waits for a callback: a thread may
      disable or close the listener that another one has just called back for.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Self

from .checks import whole_number
from .closing import Closing
from .errors import (
    ArgumentError,
    ArgumentTypeError,
    SocketError,
    StateError,
)
from .flags import FINALIZE, PERSIST, READ, ListenerOption
from .reactor.base import EventBase
from .reactor.event import Event
from .thread import new_lock
from .util import (
    checked_family,
    make_listen_socket_ipv6only,
    make_listen_socket_not_ipv6only,
    make_listen_socket_reuseable,
    make_listen_socket_reuseable_port,
    make_tcp_listen_socket_deferred,
    set_tcp_keepalive,
)

if TYPE_CHECKING:
    from .resolver import SocketAddress

logger = logging.getLogger("evsvc.core")

DEFAULT_BACKLOG = 128
MAX_BACKLOG = 2**31 - 1  # listen(2) takes an int
KEEPALIVE_IDLE_S = 300

# So many connections are accepted at one readiness; the rest wait for the next pass, so that a
# flood of connections does not starve those that are there.
MAX_ACCEPTS_PER_PASS = 64

# After a failure, such as no free descriptor, trying again at once would spin: the connection stays
# queued, and the socket readable.
FAILURE_PAUSE_S = 0.1

# The connection went away before it was taken.
_HARMLESS = frozenset({errno.ECONNABORTED, errno.EPROTO})

_OPTIONS = 0x3FF

AcceptCallback = Callable[["ConnListener", socket.socket, Any, Any], object]
"""Called as `cb(listener, sock, address, arg)`; the socket is non-blocking and the callback's."""
AcceptErrorCallback = Callable[["ConnListener", Any], object]


class ConnListener(Closing):
    """Listens on a bound socket and calls `cb(listener, sock, address, arg)` per connection.

    flags: LEV_OPT_*.  backlog: more than 0 to listen with that queue, negative for 128, 0 when
    `sock` listens already.  With LEV_OPT_THREADSAFE, and `thread.use_pthreads`, any thread may
    enable, disable, set callbacks and close; a callback that runs meanwhile is not waited for.
    Raises SocketError when the socket cannot listen, ArgumentError for unknown flags or a backlog
    beyond a C int, ArgumentTypeError for what is no base, no whole number or no socket.
    Source: evconnlistener_new.
    """

    __slots__ = (
        "_arg",
        "_base",
        "_cb",
        "_enabled",
        "_errorcb",
        "_event",
        "_flags",
        "_guard",
        "_pause",
        "socket",
    )

    def __init__(
        self,
        base: EventBase,
        cb: AcceptCallback | None,
        arg: object,
        flags: int,
        backlog: int,
        sock: socket.socket,
    ) -> None:
        self._flags = int(flags)
        if self._flags & ~_OPTIONS:
            raise ArgumentError(f"unknown listener options: {self._flags & ~_OPTIONS:#x}")
        _check_base_and_backlog(base, backlog)
        if not isinstance(sock, socket.socket):
            raise ArgumentTypeError(f"a listener takes a socket, not {type(sock).__name__}")
        base.reactor.require_open()
        try:
            if backlog:
                sock.listen(backlog if backlog > 0 else DEFAULT_BACKLOG)
            sock.setblocking(False)
        except OSError as exc:
            raise SocketError(exc.errno, f"cannot listen: {exc.strerror or exc}") from exc
        self._base = base
        self._cb = cb
        self._arg: Any = arg
        self._errorcb: AcceptErrorCallback | None = None
        self.socket = sock
        threadsafe = self._flags & ListenerOption.LEV_OPT_THREADSAFE
        self._guard: AbstractContextManager[object] = new_lock() if threadsafe else nullcontext()
        # With FINALIZE, to delete them waits for no callback, in which a thread may wait for us.
        self._event = Event(base, sock, READ | PERSIST | FINALIZE, self._on_readable)
        self._pause = Event(base, -1, FINALIZE, self._on_pause_over)
        self._enabled = not self._flags & ListenerOption.LEV_OPT_DISABLED
        self._update()

    @classmethod
    def new_bind(
        cls,
        base: EventBase,
        cb: AcceptCallback | None,
        arg: object,
        flags: int,
        backlog: int,
        address: SocketAddress,
    ) -> Self:
        """Make a socket, bind it to `(host, port)` or a Unix path, and listen on it.

        Port 0 gets a free one; see `address`.  Raises SocketError, with the address, when it is
        busy or not ours, ArgumentError for backlog 0, for a host that is not numeric, for a Unix
        path that is empty or has a NUL inside, or for LEV_OPT_REUSEABLE on a Unix path.
        Source: evconnlistener_new_bind.
        """
        flags = int(flags)
        _check_base_and_backlog(base, backlog)
        if backlog == 0:
            raise ArgumentError("new_bind() always listens: the backlog cannot be 0")
        family = checked_family(address)
        reuse = ListenerOption.LEV_OPT_REUSEABLE | ListenerOption.LEV_OPT_REUSEABLE_PORT
        if family == socket.AF_UNIX and flags & reuse:
            raise ArgumentError(f"an address of a Unix socket cannot be reused: {address!r}")
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            _set_options(sock, family, flags)
            sock.bind(address)
            return cls(base, cb, arg, flags | ListenerOption.LEV_OPT_CLOSE_ON_FREE, backlog, sock)
        except OSError as exc:
            sock.close()
            raise SocketError(exc.errno, f"cannot bind {address!r}: {exc.strerror or exc}") from exc
        except BaseException:
            sock.close()
            raise

    @property
    def fd(self) -> int:
        """The listening descriptor (evconnlistener_get_fd)."""
        return self.socket.fileno()

    @property
    def base(self) -> EventBase:
        """The event base (evconnlistener_get_base)."""
        return self._base

    @property
    def address(self) -> SocketAddress:
        """The address that the socket is bound to, with the real port."""
        return self.socket.getsockname()

    def enable(self) -> None:
        """Accept connections (evconnlistener_enable).  Raises StateError when closed."""
        with self._guard:
            self._require_open()
            self._enabled = True
            self._update()

    def disable(self) -> None:
        """Accept none; the kernel goes on queueing them (evconnlistener_disable)."""
        with self._guard:
            self._enabled = False
            self._pause.delete()
            self._update()

    def set_cb(self, cb: AcceptCallback | None, arg: object) -> None:
        """Replace the callback; with None no connection is accepted (evconnlistener_set_cb).

        Raises StateError when closed.
        """
        with self._guard:
            self._require_open()
            self._cb = cb
            self._arg = arg
            self._update()

    def set_error_cb(self, errorcb: AcceptErrorCallback | None) -> None:
        """Call `errorcb(listener, arg)` when accepting fails, instead of logging a warning.

        Then accepting pauses for FAILURE_PAUSE_S, or until `enable`d after a `disable`.
        Source: evconnlistener_set_error_cb.
        """
        self._errorcb = errorcb

    def close(self) -> None:
        """Stop listening; the socket is closed with LEV_OPT_CLOSE_ON_FREE.  Safe to repeat, and
        from inside the callbacks (evconnlistener_free)."""
        with self._guard:
            self._enabled = False
            self._event.close()
            self._pause.close()
            self._cb = self._errorcb = None
            if self._flags & ListenerOption.LEV_OPT_CLOSE_ON_FREE:
                self.socket.close()

    def _require_open(self) -> None:
        if not self._event.initialized:
            raise StateError("the listener is closed")

    def _update(self) -> None:
        if self._enabled and self._cb is not None and not self._pause.pending():
            self._event.add()
        else:
            self._event.delete()

    def _on_readable(self, fd: int, what: int, arg: object) -> None:
        for _ in range(MAX_ACCEPTS_PER_PASS):
            try:
                with self._guard:
                    cb, ctx = self._cb, self._arg
                    if cb is None or not self._enabled:
                        return
                    sock, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in _HARMLESS:
                    continue
                self._accept_failed(exc)
                return
            if address is None:  # old kernels report the likes of nmap so
                sock.close()
                continue
            sock.setblocking(bool(self._flags & ListenerOption.LEV_OPT_LEAVE_SOCKETS_BLOCKING))
            cb(self, sock, address, ctx)

    def _accept_failed(self, exc: OSError) -> None:
        with self._guard:
            if not self._enabled:
                return
            self._pause.add(FAILURE_PAUSE_S)
            self._event.delete()
            errorcb, ctx = self._errorcb, self._arg
        if errorcb is not None:
            errorcb(self, ctx)
        else:
            logger.warning("cannot accept a connection: %s", exc)

    def _on_pause_over(self, fd: int, what: int, arg: object) -> None:
        with self._guard:
            self._update()


def _check_base_and_backlog(base: object, backlog: object) -> None:
    if not isinstance(base, EventBase):
        raise ArgumentTypeError(f"an EventBase is wanted, not {type(base).__name__}")
    if not -MAX_BACKLOG - 1 <= whole_number(backlog, "a backlog") <= MAX_BACKLOG:
        raise ArgumentError(f"a backlog is {MAX_BACKLOG} at most, or negative: {backlog!r}")


def _set_options(sock: socket.socket, family: int, flags: int) -> None:
    if family == socket.AF_UNIX:
        return
    set_tcp_keepalive(sock, True, KEEPALIVE_IDLE_S)
    if flags & ListenerOption.LEV_OPT_REUSEABLE:
        make_listen_socket_reuseable(sock)
    if flags & ListenerOption.LEV_OPT_REUSEABLE_PORT:
        make_listen_socket_reuseable_port(sock)
    if flags & ListenerOption.LEV_OPT_DEFERRED_ACCEPT:
        make_tcp_listen_socket_deferred(sock)
    if family != socket.AF_INET6:
        return
    if flags & ListenerOption.LEV_OPT_BIND_IPV6ONLY:
        make_listen_socket_ipv6only(sock)
    elif flags & ListenerOption.LEV_OPT_BIND_IPV4_AND_IPV6:
        make_listen_socket_not_ipv6only(sock)
