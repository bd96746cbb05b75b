"""Connecting a socket: one attempt, a race of several (RFC 8305), and a host's name.

Knows no bufferevent.  An attempt, a race and a host are each given what makes their events, and a
callback for what becomes of them: the socket that is connected, or why there is none.

    HostnameConnect   asks the resolver, and has a limit on all of it
      Race            tries the addresses, each a little after the one before; the first wins
        Attempt       one socket, one address
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, NamedTuple

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError, SocketError
from ..flags import WRITE
from ..resolver import AddrInfo, AddrInfoHints, EaiError, gai_strerror
from ..thread import call_unlocked
from ..util import Endpoint, check_port, endpoint_of, ip_version, set_tcp_nodelay

if TYPE_CHECKING:
    from ..descriptors import HasFileno
    from ..reactor.event import Event, EventCallback
    from ..resolver import Cancellable, Resolver

CONNECTION_ATTEMPT_DELAY_S = 0.25
"""How long an attempt is alone before the next one joins it (RFC 8305 section 8)."""

MIN_CONNECTION_ATTEMPT_DELAY_S = 0.01
"""The least that RFC 8305 section 5 allows it to be."""

ATTEMPT_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 120.0
MAX_ADDRESSES = 32

UNIX_QUEUE_RETRY_S = 0.05
"""How long until a Unix listener whose queue was full is tried again.

The kernel, which lets a TCP client wait its turn, answers EAGAIN there, and does not tell when
there is room.
"""

# Which of a race's errors tells most: what the other end said, then its silence, and last what this
# host refused before anything left it.
_ANSWERS = frozenset({errno.ECONNREFUSED, errno.ECONNRESET})
_NEVER_LEFT = frozenset({errno.EAFNOSUPPORT, errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL})

_FAMILIES = (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)

NewEvent = Callable[["int | HasFileno", int, "EventCallback"], "Event"]
"""Makes an event for a descriptor (or -1), flags and a callback, as the owner wants it."""

Guard = Callable[[Callable[..., object]], Callable[..., object]]
"""Returns a function as others may call it: with the owner's lock held, and not after its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How a host's addresses are tried.

    attempt_delay_s: seconds until the next address is tried beside those under way, from the start
                     of the last one on; 0.01 or more.
    attempt_s:       seconds that one address has, from the start of its attempt on; `None` is as
                     long as the kernel tries.
    total_s:         seconds that all of it has, from the call on, the look-up with it; `None` is
                     for ever.
    max_addresses:   how many of the host's addresses are tried at most.
    nodelay:         small writes are sent at once (TCP_NODELAY); False leaves the socket as it is.

    A Unix listener whose queue is full is tried again within attempt_s, for 120 s at most, and
    without it for 30 s.
    Raises ArgumentError when a value is out of range, ArgumentTypeError when it is no number.
    """

    attempt_delay_s: float = CONNECTION_ATTEMPT_DELAY_S
    attempt_s: float | None = ATTEMPT_TIMEOUT_S
    total_s: float | None = CONNECT_TIMEOUT_S
    max_addresses: int = MAX_ADDRESSES
    nodelay: bool = True

    def __post_init__(self) -> None:
        for name in ("attempt_delay_s", "attempt_s", "total_s"):
            limit = getattr(self, name)
            if name == "attempt_delay_s" or limit is not None:
                if not isinstance(limit, (int, float)):
                    raise ArgumentTypeError(f"{name} is a number of seconds, not {limit!r}")
                if not limit > 0:
                    raise ArgumentError(f"{name} is more than 0: {limit!r}")
        if self.attempt_delay_s < MIN_CONNECTION_ATTEMPT_DELAY_S:
            raise ArgumentError(f"attempt_delay_s is 0.01 or more: {self.attempt_delay_s!r}")
        if whole_number(self.max_addresses, "max_addresses") < 1:
            raise ArgumentError(f"max_addresses is 1 or more: {self.max_addresses!r}")


def connect_options(options: ConnectOptions | None) -> ConnectOptions:
    """Return the options, or the defaults for None.  Raises ArgumentTypeError for others."""
    if options is None:
        return ConnectOptions()
    if not isinstance(options, ConnectOptions):
        raise ArgumentTypeError(f"ConnectOptions are wanted, not {type(options).__name__}")
    return options


def new_socket(family: int) -> socket.socket:
    """Return a stream socket.  Raises SocketError when there is none to be had."""
    try:
        return socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise SocketError(exc.errno, f"no socket is to be had: {exc.strerror}") from exc


def has_no_peer(stream: object) -> bool:
    """Tell whether a stream that the program gave us is a socket that it wants connected."""
    if not isinstance(stream, socket.socket):
        return False
    try:
        stream.getpeername()
    except OSError as exc:
        return exc.errno == errno.ENOTCONN
    return False


class Attempt:
    """One socket on its way to one address.

    `done(attempt, error)` is called once, from the loop; `error` is None when it is connected.
    Without an endpoint, it is on its way already.  timeout_s: counts from here on; None is as long
    as the kernel tries.  Raises what the event base raises for the socket.
    """

    __slots__ = (
        "_done",
        "_endpoint",
        "_error",
        "_event",
        "_retries",
        "_retry",
        "_timeout_s",
        "sock",
    )

    state = "connecting"

    def __init__(
        self,
        new_event: NewEvent,
        sock: socket.socket,
        endpoint: Endpoint | None,
        done: Callable[[Attempt, OSError | None], object],
        timeout_s: float | None = None,
        *,
        nodelay: bool = False,
    ) -> None:
        self.sock = sock
        self._endpoint = endpoint
        self._done = done
        self._timeout_s = timeout_s
        self._error: OSError | None = None
        self._event = new_event(sock, WRITE, self._on_event)
        self._retry: Event | None = None
        self._retries = 0
        if endpoint is not None and endpoint.family == socket.AF_UNIX:
            self._retry = new_event(-1, 0, self._on_retry)
            self._retries = _retries_within(timeout_s)
        try:
            if nodelay:
                set_tcp_nodelay(sock)
            self._start()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Forget it: no outcome is told.  The socket stays open."""
        self._event.close()
        if self._retry is not None:
            self._retry.close()

    def failure(self, code: int, text: str) -> OSError:
        """Return the error that names our address."""
        return OSError(code, f"{self._endpoint.text}: {text}" if self._endpoint else text)

    def give_up(self) -> OSError:
        """Forget it for its silence, and return the error for that."""
        self.cancel()
        return self.failure(errno.ETIMEDOUT, "no answer in time")

    def _start(self) -> None:
        code = 0 if self._endpoint is None else _start_connecting(self.sock, self._endpoint)
        if not code:
            self._event.add(self._timeout_s)
        elif code == errno.EAGAIN and self._retry is not None and self._retries:
            self._retries -= 1
            self._retry.add(UNIX_QUEUE_RETRY_S)
        else:
            self._error = self.failure(code, os.strerror(code))
            self._event.active(WRITE)

    def _on_retry(self, fd: int, what: int, arg: object) -> None:
        self._start()

    def _on_event(self, fd: int, what: int, arg: object) -> None:
        error, self._error = self._error, None
        if error is None and not what & WRITE:
            error = self.give_up()
        elif error is None:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            error = self.failure(code, os.strerror(code)) if code else None
        self.cancel()
        self._done(self, error)


def _retries_within(timeout_s: float | None) -> int:
    """Return how often a full queue is tried again."""
    seconds = ATTEMPT_TIMEOUT_S if timeout_s is None else min(timeout_s, CONNECT_TIMEOUT_S)
    return max(1, round(seconds / UNIX_QUEUE_RETRY_S))


def _start_connecting(sock: socket.socket, endpoint: Endpoint) -> int:
    """Return 0 when the socket is on its way or there, else the errno.

    EAGAIN is a Unix listener's full queue; EALREADY is a socket on its way elsewhere.
    """
    code = sock.connect_ex(endpoint.sockaddr)
    if code == errno.ECONNABORTED:  # Linux's last word on an attempt that failed before
        code = sock.connect_ex(endpoint.sockaddr)
    return 0 if code == errno.EINPROGRESS else code


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


def all_failed(errors: Sequence[OSError], code: int = 0, text: str = "") -> OSError:
    """Return one error for those of all attempts, which are its cause, in their order.

    Its errno is that of the attempt that tells most, unless `code` is given, and its text has them
    all, each with its address, behind `text`.
    """
    if not code:
        code = max(errors, key=_telling).errno or errno.EIO
    error = OSError(code, "; ".join([text] * bool(text) + [str(each.strerror) for each in errors]))
    if errors:
        error.__cause__ = ExceptionGroup("the addresses that were tried", errors)
    return error


def _telling(error: OSError) -> int:
    return (error.errno not in _NEVER_LEFT) + (error.errno in _ANSWERS)


def _no_address() -> OSError:
    return OSError(errno.EAFNOSUPPORT, "no address for this socket")


class Race:
    """Tries addresses until one connects; a new one joins each `attempt_delay_s`, or on a failure.

    `done(sock, error)` is called once, from the loop or from inside `start`: with the connected
    socket, or with the error of `all_failed`.  `sock`, where given, makes all the attempts itself,
    one after the other, at the addresses of its family.
    """

    __slots__ = (
        "_addresses",
        "_attempts",
        "_done",
        "_errors",
        "_more",
        "_new_event",
        "_options",
        "_room",
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
        *,
        more: bool = False,
    ) -> None:
        self._new_event = new_event
        self._options = options
        self._done = done
        self._sock = sock
        self._more = more
        self._room = options.max_addresses
        self._addresses = deque(self._admitted(addresses))
        self._attempts: list[Attempt] = []
        self._errors: list[OSError] = []
        self._timer = new_event(-1, 0, self._on_delay)

    def _admitted(self, addresses: list[AddrInfo]) -> list[AddrInfo]:
        """Return those of the addresses that are to be tried, and count them."""
        sock = self._sock
        if sock is not None:
            addresses = [address for address in addresses if address.family == sock.family]
        admitted = list(islice(interleaved(addresses), self._room))
        self._room -= len(admitted)
        return admitted

    def add(self, addresses: list[AddrInfo]) -> None:
        """Have addresses join that came late, the first of them next; there are no more then."""
        self._more = False
        self._addresses = deque(interleaved([*self._admitted(addresses), *self._addresses]))
        if not self._attempts:
            self._try_next()
        elif self._addresses and self._sock is None and not self._timer.pending():
            self._timer.add(self._options.attempt_delay_s)

    def start(self) -> None:
        """Try the first address that a socket can be had for."""
        if not self._addresses and not self._more:
            self._errors.append(_no_address())
        self._try_next()

    def cancel(self) -> None:
        """Give up, and close the sockets of the attempts under way."""
        self._addresses.clear()
        self._timer.close()
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            self._drop(attempt)

    def give_up(self) -> list[OSError]:
        """Do as `cancel`, and return the errors of all attempts, with those under way."""
        errors = self._errors + [attempt.give_up() for attempt in self._attempts]
        self.cancel()
        return errors

    def _try_next(self) -> None:
        while self._addresses:
            address = self._addresses.popleft()
            try:
                self._attempts.append(self._attempt(address))
            except OSError as exc:  # such as a family that this host does not have
                self._failed(address, exc.errno or errno.EIO, str(exc.strerror or exc))
            except (TypeError, ValueError, OverflowError):
                # A resolver's mistake; one address of many may be good.
                self._failed(address, errno.EINVAL, "not an address")
            else:
                break
        if not self._attempts:
            if not self._more:
                self._finish(None, all_failed(self._errors or [_no_address()]))
        elif self._addresses and self._sock is None:
            self._timer.add(self._options.attempt_delay_s)

    def _failed(self, address: AddrInfo, code: int, text: str) -> None:
        self._errors.append(OSError(code, f"{address.sockaddr!r}: {text}"))

    def _attempt(self, address: AddrInfo) -> Attempt:
        options = self._options
        sock = self._sock or new_socket(address.family)
        try:
            endpoint = endpoint_of(address.sockaddr)
            if endpoint.family != address.family:
                raise ArgumentError(f"not of family {address.family!r}: {address.sockaddr!r}")
            sock.setblocking(False)
            return Attempt(
                self._new_event,
                sock,
                endpoint,
                self._on_outcome,
                options.attempt_s,
                nodelay=options.nodelay,
            )
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
        self._errors.append(error)
        if attempt.sock is self._sock and isinstance(error, TimeoutError):
            self._addresses.clear()  # the kernel goes on, and there is no calling it back
            self._more = False
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


class Host(NamedTuple):
    """What is looked up: a family, or AF_UNSPEC for all that there are, a name, and a port."""

    family: int
    name: str
    port: int


def host_of(family: int, name: str, port: int) -> Host:
    """Return the host that a program wants to be connected to.

    Raises ArgumentError for a family that is no IP family, a port outside 1..65535 and an empty
    name, ArgumentTypeError for a name that is no text, and for numbers that are none.
    """
    if whole_number(family, "a family") not in _FAMILIES:
        raise ArgumentError(f"the family is AF_UNSPEC, AF_INET or AF_INET6: {family!r}")
    if not isinstance(name, str):
        raise ArgumentTypeError(f"a host name is text, not {name!r} ({type(name).__name__})")
    if not name:
        raise ArgumentError(f"a host name is wanted: {name!r}")
    return Host(family, name, check_port(port, lowest=1))


HostDone = Callable[["socket.socket | None", "OSError | None", int, bool], object]
"""Called as `done(sock, error, dns_error, at_once)`; `at_once` is inside `start`."""


class HostnameConnect:
    """A host on its way to a connected socket: looked up, and its addresses raced.

    on_addresses: called when there are addresses to try.  done: called once, with the socket, or
    with the error and the resolver's code, which is 0 when the look-up has not failed.  sock: where
    given, the one to be connected.
    """

    __slots__ = (
        "_done",
        "_guard",
        "_host",
        "_lookup",
        "_more",
        "_new_event",
        "_on_addresses",
        "_options",
        "_over",
        "_race",
        "_sock",
        "_starting",
        "_timer",
    )

    def __init__(
        self,
        new_event: NewEvent,
        guard: Guard,
        host: Host,
        options: ConnectOptions,
        on_addresses: Callable[[], object],
        done: HostDone,
        sock: socket.socket | None = None,
    ) -> None:
        self._new_event = new_event
        self._guard = guard
        self._host = host
        self._options = options
        self._on_addresses = on_addresses
        self._done = done
        self._sock = sock
        self._lookup: Cancellable | None = None
        self._more = False  # the resolver will tell of late addresses
        self._race: Race | None = None
        self._over = False
        self._starting = True
        self._timer = new_event(-1, 0, self._on_timeout)

    @property
    def state(self) -> str:
        """What it is at, in a word."""
        return "resolving" if self._race is None else "connecting"

    def start(self, resolver: Resolver | None) -> None:
        """Ask the resolver.

        Raises ArgumentError when a name meets no resolver, ArgumentTypeError for one without
        `getaddrinfo`, and what that raises.
        """
        self._ask(resolver)
        self._starting = False

    def _ask(self, resolver: Resolver | None) -> None:
        host = self._host
        if self._options.total_s is not None:
            self._timer.add(self._options.total_s)
        if resolver is None:
            self._take_numeric()
            return
        if not callable(getattr(resolver, "getaddrinfo", None)):
            raise ArgumentTypeError(f"a resolver is wanted, not {type(resolver).__name__}")
        hints = AddrInfoHints(host.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        answer = self._guard(self._on_answer)
        look_up_late = getattr(resolver, "getaddrinfo_late", None)
        if look_up_late is None:
            lookup = resolver.getaddrinfo(host.name, host.port, hints, answer)
        else:
            self._more = True
            late = self._guard(self._on_late)
            lookup = look_up_late(host.name, host.port, hints, answer, late)
        if not self._over and (self._race is None or self._more):
            self._lookup = lookup

    def _take_numeric(self) -> None:
        host = self._host
        if ip_version(host.name) is None:
            raise ArgumentError(
                f"a resolver, such as evsvc.Resolver(base), is wanted to look up {host.name!r}"
            )
        endpoint = endpoint_of((host.name, host.port))
        if host.family not in (endpoint.family, socket.AF_UNSPEC):
            self._on_answer(EaiError.EVUTIL_EAI_ADDRFAMILY, [], None)
            return
        found = AddrInfo(endpoint.family, socket.SOCK_STREAM, 0, "", endpoint.sockaddr)
        self._on_answer(0, [found], None)

    def cancel(self) -> None:
        """Give up: the look-up, or the sockets on their way."""
        self._over = True
        self._timer.close()
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            call_unlocked(lookup.cancel)
        race, self._race = self._race, None
        if race is not None:
            race.cancel()

    def _on_answer(self, result: int, addresses: list[AddrInfo], arg: object) -> None:
        if self._over or self._race is not None:
            return
        if result == 0 and addresses:
            if not self._more:
                self._lookup = None
            self._race = Race(
                self._new_event,
                addresses,
                self._options,
                self._on_raced,
                self._sock,
                more=self._more,
            )
            self._on_addresses()
            self._race.start()
            return
        self._lookup = None
        code = result or EaiError.EVUTIL_EAI_NODATA
        error = socket.gaierror(code, f"{self._host.name}: {gai_strerror(code)}")
        self._finish(None, error, int(code))

    def _on_late(self, addresses: list[AddrInfo], arg: object) -> None:
        self._more = False
        self._lookup = None
        if self._race is not None:
            self._race.add(addresses)

    def _on_raced(self, sock: socket.socket | None, error: OSError | None) -> None:
        self._finish(sock, error, 0)

    def _on_timeout(self, fd: int, what: int, arg: object) -> None:
        errors = [] if self._race is None else self._race.give_up()
        text = f"{self._host.name}: no connection in time"
        self._finish(None, all_failed(errors, errno.ETIMEDOUT, text), 0)

    def _finish(self, sock: socket.socket | None, error: OSError | None, dns_error: int) -> None:
        self.cancel()
        self._done(sock, error, dns_error, self._starting)
