"""ConnListener: accepts connections and hands each to a callback.

Invariants
    * The socket is watched exactly while the listener is enabled, has a callback and does not
      pause after a failure.
    * No callback runs with the listener's lock held, and nobody waits for a callback: a thread may
      disable or close the listener that another one has just called back for.
    * The file of a Unix socket is removed only by who bound it, and only while it is still that
      socket's: not one that another has put in its place, and not by a forked child.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Self

from .checks import require_callable, whole_number
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
    Endpoint,
    endpoint_of,
    make_listen_socket_ipv6only,
    make_listen_socket_not_ipv6only,
    make_listen_socket_reuseable,
    make_listen_socket_reuseable_port,
    make_tcp_listen_socket_deferred,
    set_tcp_keepalive,
    set_tcp_nodelay,
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
AcceptErrorCallback = Callable[["ConnListener", OSError, Any], object]
"""Called as `errorcb(listener, error, arg)`; `error` is why no connection could be accepted."""


class _SocketFile:
    """The file that binding a Unix socket has made."""

    __slots__ = ("_identity", "_path", "_pid")

    def __init__(self, path: bytes) -> None:
        self._path = os.path.abspath(path)  # the program may go to another directory
        self._identity = self._look()
        self._pid = os.getpid()

    def remove(self) -> None:
        """Remove it, if it is still the one, and this is no forked child.

        Wants the socket open: so long no other file gets the number of its inode.
        """
        if self._pid == os.getpid() and self._identity and self._look() == self._identity:
            with suppress(OSError):  # it is left for the next listener to replace
                os.unlink(self._path)

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.lstat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _remove_stale(path: bytes) -> bool:
    """Remove a socket's file that its process has left behind; return True when it is gone.

    A datagram socket's connect(2) is refused with ECONNREFUSED where nobody has the file bound,
    and with EPROTOTYPE by a stream socket, which hears nothing of it and need not listen yet.
    """
    try:
        found = os.lstat(path)
        if not stat.S_ISSOCK(found.st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            if probe.connect_ex(path) != errno.ECONNREFUSED:
                return False
        again = os.lstat(path)  # another may have replaced it in the meantime
        if (again.st_ino, again.st_ctime_ns) != (found.st_ino, found.st_ctime_ns):
            return False
        os.unlink(path)
    except OSError:
        return False
    return True


class ConnListener(Closing):
    """Listens on a bound socket and calls `cb(listener, sock, address, arg)` per connection.

    flags: LEV_OPT_*.  backlog: more than 0 to listen with that queue, negative for 128, 0 when
    `sock` listens already.  nodelay: connections of TCP send small writes at once (TCP_NODELAY);
    False leaves the socket, and what it accepts, as it is.  With LEV_OPT_THREADSAFE, and
    `thread.use_pthreads`, any thread may enable, disable, set callbacks and close; a callback that
    runs meanwhile is not waited for.

    Raises SocketError when the socket cannot listen, ArgumentError for unknown flags or a backlog
    beyond a C int, ArgumentTypeError for what is no base, callback, whole number or socket.
    Source: evconnlistener_new.
    """

    __slots__ = (
        "_arg",
        "_base",
        "_cb",
        "_enabled",
        "_errorcb",
        "_event",
        "_file",
        "_flags",
        "_guard",
        "_pause",
        "socket",
    )

    def __init__(
        self,
        base: EventBase,
        cb: AcceptCallback | None,
        arg: object = None,
        flags: int = 0,
        backlog: int = -1,
        sock: socket.socket | None = None,
        *,
        nodelay: bool = True,
    ) -> None:
        self._flags = _checked(base, cb, flags, backlog)
        if not isinstance(sock, socket.socket):
            raise ArgumentTypeError(f"a listener takes a socket, not {type(sock).__name__}")
        base.reactor.require_open()
        try:
            if nodelay:
                set_tcp_nodelay(sock)
            if backlog:
                sock.listen(backlog if backlog > 0 else DEFAULT_BACKLOG)
            sock.setblocking(False)
        except OSError as exc:
            raise SocketError(exc.errno, f"cannot listen: {exc.strerror or exc}") from exc
        self._base = base
        self._cb = cb
        self._arg: Any = arg
        self._errorcb: AcceptErrorCallback | None = None
        self._file: _SocketFile | None = None
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
        arg: object = None,
        flags: int = 0,
        backlog: int = -1,
        address: SocketAddress = None,
        *,
        nodelay: bool = True,
        mode: int | None = None,
    ) -> Self:
        """Make a socket, bind it to `(host, port)` or a Unix path, and listen on it.

        The address is wanted; the rest has defaults, as for a listener.  Port 0 gets a free one;
        see `address`.  The file of a Unix socket that nobody has bound any more is replaced, and
        ours is removed by `close`, unless it is another's by then, or this is a forked child.

        mode: the permissions of a Unix socket's file, such as 0o660; None leaves them to the
        process's umask.  They are set before it listens.

        Raises SocketError, with the address, when it is busy or not ours; what `util.endpoint_of`
        raises for a bad address; ArgumentError for backlog 0 and for LEV_OPT_REUSEABLE on a Unix
        path.  Source: evconnlistener_new_bind.
        """
        flags = _checked(base, cb, flags, backlog)
        if backlog == 0:
            raise ArgumentError("new_bind() always listens: the backlog cannot be 0")
        endpoint = endpoint_of(address)
        reuse = ListenerOption.LEV_OPT_REUSEABLE | ListenerOption.LEV_OPT_REUSEABLE_PORT
        if endpoint.family == socket.AF_UNIX and flags & reuse:
            raise ArgumentError(f"an address of a Unix socket cannot be reused: {address!r}")
        if mode is not None:
            _check_mode(mode, endpoint)
        base.reactor.require_open()
        file = sock = None
        try:
            sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
            _set_options(sock, endpoint.family, flags)
            file = _bind(sock, endpoint, mode)
            flags |= ListenerOption.LEV_OPT_CLOSE_ON_FREE
            listener = cls(base, cb, arg, flags, backlog, sock, nodelay=nodelay)
        except BaseException as exc:
            if file is not None:
                file.remove()
            if sock is not None:
                sock.close()
            if not isinstance(exc, OSError):
                raise
            text = f"cannot bind {endpoint.text}: {exc.strerror or exc}"
            raise SocketError(exc.errno, text) from exc
        listener._file = file
        return listener

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

    def accept_waiting(self) -> None:
        """Call back for the connections that are complete already: a `close` would reset them.

        For at most 128 of them, and for none while it is disabled.  Raises StateError when closed.
        """
        with self._guard:
            self._require_open()
        for _ in range(0, DEFAULT_BACKLOG, MAX_ACCEPTS_PER_PASS):
            if self._event.initialized:  # no callback has closed it
                self._on_readable(self.fd, 0, None)

    def set_cb(self, cb: AcceptCallback | None, arg: object = None) -> None:
        """Replace the callback; with None no connection is accepted (evconnlistener_set_cb).

        Raises ArgumentTypeError for what cannot be called, StateError when closed.
        """
        if cb is not None:
            require_callable(cb)
        with self._guard:
            self._require_open()
            self._cb = cb
            self._arg = arg
            self._update()

    def set_error_cb(self, errorcb: AcceptErrorCallback | None) -> None:
        """Call `errorcb(listener, error, arg)` when accepting fails, instead of logging a warning.

        error: the OSError, with its errno.  arg: the accept callback's.  Accepting pauses for
        FAILURE_PAUSE_S from the failure on, or until `enable`d after a `disable`.  Raises
        ArgumentTypeError for what cannot be called, StateError when closed.
        Source: evconnlistener_set_error_cb.
        """
        if errorcb is not None:
            require_callable(errorcb)
        with self._guard:
            self._require_open()
            self._errorcb = errorcb

    def close(self) -> None:
        """Stop listening; the socket is closed with LEV_OPT_CLOSE_ON_FREE.  Safe to repeat, and
        from inside the callbacks (evconnlistener_free)."""
        with self._guard:
            self._enabled = False
            self._event.close()
            self._pause.close()
            self._cb = self._errorcb = self._arg = None
            file, self._file = self._file, None
            if file is not None:
                file.remove()
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
                self._accept_failed(exc.with_traceback(None))
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
            errorcb(self, exc, ctx)
        else:
            logger.warning("cannot accept a connection: %s", exc)

    def _on_pause_over(self, fd: int, what: int, arg: object) -> None:
        with self._guard:
            self._update()


def _checked(base: object, cb: object, flags: object, backlog: object) -> int:
    """Judge what every listener is made with, and return the flags."""
    if not isinstance(base, EventBase):
        raise ArgumentTypeError(f"an EventBase is wanted, not {type(base).__name__}")
    if cb is not None:
        require_callable(cb)
    options = int(whole_number(flags, "listener options"))
    if options & ~_OPTIONS:
        raise ArgumentError(f"unknown listener options: {options & ~_OPTIONS:#x}")
    if not -MAX_BACKLOG - 1 <= whole_number(backlog, "a backlog") <= MAX_BACKLOG:
        raise ArgumentError(f"a backlog is {MAX_BACKLOG} at most, or negative: {backlog!r}")
    return options


def _check_mode(mode: int, endpoint: Endpoint) -> None:
    if endpoint.family != socket.AF_UNIX or endpoint.sockaddr.startswith(b"\0"):
        raise ArgumentError(f"only the file of a Unix socket has permissions: {endpoint.text}")
    if not 0 <= whole_number(mode, "permissions") <= 0o777:
        raise ArgumentError(f"permissions are 0 to 0o777: {mode!r}")


def _bind(sock: socket.socket, endpoint: Endpoint, mode: int | None) -> _SocketFile | None:
    """Bind the socket; return the file that this has made, if any."""
    address = endpoint.sockaddr
    if endpoint.family != socket.AF_UNIX or address.startswith(b"\0"):
        sock.bind(address)
        return None
    try:
        sock.bind(address)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE or not _remove_stale(address):
            raise
        sock.bind(address)
    file = _SocketFile(address)
    if mode is not None:
        try:
            os.chmod(address, mode)
        except OSError:
            file.remove()
            raise
    return file


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
