"""ConnListener: accepting, pausing, being closed by its own callbacks."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import (
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    LEV_OPT_BIND_IPV4_AND_IPV6,
    LEV_OPT_BIND_IPV6ONLY,
    LEV_OPT_CLOSE_ON_EXEC,
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_DEFERRED_ACCEPT,
    LEV_OPT_DISABLED,
    LEV_OPT_LEAVE_SOCKETS_BLOCKING,
    LEV_OPT_REUSEABLE,
    LEV_OPT_REUSEABLE_PORT,
    ArgumentError,
    ConnListener,
    EventBase,
    FakeClock,
    SocketError,
    StateError,
)
from evsvc.core.listener import FAILURE_PAUSE_S, MAX_ACCEPTS_PER_PASS
from tests.ports import bind_both

pytestmark = pytest.mark.every_backend

LOOPBACK = ("127.0.0.1", 0)
Connect = Callable[[ConnListener], socket.socket]


class Boom(Exception):
    """What a callback of these tests raises."""


class Accepted:
    """An accept callback that keeps its sockets."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.addresses: list[Any] = []
        self.then: Callable[[ConnListener], object] | None = None

    def __call__(
        self, listener: ConnListener, sock: socket.socket, address: Any, arg: object
    ) -> None:
        self.sockets.append(sock)
        self.addresses.append(address)
        if self.then is not None:
            self.then(listener)


class OddKernel(socket.socket):
    """A socket whose first accept fails with an error, or else brings no address."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__()
        self._code = code
        self._first = True

    def accept(self) -> tuple[socket.socket, Any]:
        first, self._first = self._first, False
        if first and self._code is not None:
            raise OSError(self._code, os.strerror(self._code))
        sock, address = super().accept()
        return sock, None if first else address


@pytest.fixture
def accepted() -> Iterator[Accepted]:
    accepted = Accepted()
    yield accepted
    for sock in accepted.sockets:
        sock.close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[socket.socket] = []

    def make(listener: ConnListener) -> socket.socket:
        made.append(socket.create_connection(listener.address[:2]))
        return made[-1]

    yield make
    for sock in made:
        sock.close()


def bind(base: EventBase, cb: Any, flags: int = 0, address: Any = LOOPBACK) -> ConnListener:
    return ConnListener.new_bind(base, cb, "arg", flags, -1, address)


def test_port_0_gets_a_port_of_its_own(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    """Port 0 twice gives different real ports; both accept; when each has disabled itself the loop
    ends."""
    accepted.then = ConnListener.disable
    with bind(base, accepted) as first, bind(base, accepted) as second:
        assert 0 != first.address[1] != second.address[1] != 0
        peers = [connect(first), connect(second)]
        assert base.dispatch() == 1
        assert {peer.getsockname() for peer in peers} == set(accepted.addresses)
        assert all(sock.gettimeout() == 0 for sock in accepted.sockets)


def test_a_busy_port_is_an_error_with_the_address(base: EventBase, accepted: Accepted) -> None:
    with bind(base, accepted) as listener:
        host, port = listener.address
        with pytest.raises(SocketError, match=str(port)) as caught:
            bind(base, accepted, 0, (host, port))
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("address", "flags", "backlog"),
    [
        (LOOPBACK, 0, 0),
        (("localhost", 80), 0, -1),
        (("127.0.0.1", 70000), 0, -1),
        (LOOPBACK, 0x400, -1),
        ("/some/path", LEV_OPT_REUSEABLE, -1),
        ("/some/path", LEV_OPT_REUSEABLE_PORT, -1),
    ],
)
def test_bad_arguments_are_refused(
    base: EventBase, accepted: Accepted, address: Any, flags: int, backlog: int
) -> None:
    with pytest.raises(ArgumentError):
        ConnListener.new_bind(base, accepted, None, flags, backlog, address)
    assert base.dispatch() == 1


def test_unix_paths(base: EventBase, accepted: Accepted, tmp_path: Path) -> None:
    """A plain bind works, an over-long path is refused at the call."""
    accepted.then = ConnListener.disable
    with bind(base, accepted, 0, str(tmp_path / "s")) as listener:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(listener.address)
            assert base.dispatch() == 1
        assert len(accepted.sockets) == 1
    with pytest.raises(ArgumentError, match="too long"):
        bind(base, accepted, 0, f"{tmp_path}/" + "x" * 200)


@pytest.mark.parametrize(("flag", "blocking"), [(0, False), (LEV_OPT_LEAVE_SOCKETS_BLOCKING, True)])
def test_sockets_are_non_blocking_unless_asked(
    base: EventBase, accepted: Accepted, connect: Connect, flag: int, blocking: bool
) -> None:
    with bind(base, accepted, flag) as listener:
        connect(listener)
        base.loop(EVLOOP_NONBLOCK)
        assert accepted.sockets[0].getblocking() is blocking
        assert os.get_blocking(accepted.sockets[0].fileno()) is blocking
        assert not accepted.sockets[0].get_inheritable()


def test_two_sockets_on_one_port_share_the_connections(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    """REUSEABLE_PORT: without it the address is busy; with it, of many each takes some."""
    took: list[ConnListener] = []
    accepted.then = took.append
    flags = LEV_OPT_REUSEABLE_PORT
    with bind(base, accepted, flags) as one, bind(base, accepted, flags, one.address) as other:
        for _ in range(60):
            connect(one)
        while len(took) < 60:
            base.loop(EVLOOP_ONCE)
        assert set(took) == {one, other}
        with pytest.raises(SocketError, match="in use"):
            bind(base, accepted, 0, one.address)


def test_a_port_with_old_connections_can_be_bound_again(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    """REUSEABLE: the side that closes first leaves an address that lingers."""
    accepted.then = ConnListener.disable
    with bind(base, accepted, LEV_OPT_REUSEABLE) as listener:
        address = listener.address
        peer = connect(listener)
        base.dispatch()
    accepted.sockets[0].close()
    peer.close()
    with pytest.raises(SocketError, match="in use"):
        bind(base, accepted, 0, address)
    with bind(base, accepted, LEV_OPT_REUSEABLE, address) as again:
        assert again.address == address


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="Linux alone can defer")
def test_a_deferred_connection_comes_with_its_first_bytes(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    accepted.then = ConnListener.disable
    with bind(base, accepted, LEV_OPT_DEFERRED_ACCEPT) as listener:
        peer = connect(listener)
        base.loop(EVLOOP_NONBLOCK)
        assert accepted.sockets == []
        peer.send(b"first")
        assert base.dispatch() == 1
        assert accepted.sockets[0].recv(9) == b"first"


def test_accepted_descriptors_are_closed_in_programs_that_are_started(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    """CLOSE_ON_EXEC is a matter of course in Python (PEP 446), the listening socket's included."""
    with bind(base, accepted, LEV_OPT_CLOSE_ON_EXEC) as listener:
        connect(listener)
        base.loop(EVLOOP_NONBLOCK)
        assert not accepted.sockets[0].get_inheritable()
        assert not listener.socket.get_inheritable()


def test_a_connection_without_an_address_is_closed_silently(
    base: EventBase, accepted: Accepted, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """Zero-length peer address: as some kernels answer nmap."""
    with OddKernel() as sock:
        sock.bind(LOOPBACK)
        with ConnListener(base, accepted, None, 0, 5, sock) as listener:
            peers = [connect(listener), connect(listener)]
            base.loop(EVLOOP_NONBLOCK)
    assert [sock.getpeername() for sock in accepted.sockets] == [peers[1].getsockname()]
    assert peers[0].recv(9) == b""
    assert caplog.messages == []


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO])
def test_a_connection_that_went_away_is_nothing_to_tell(
    base: EventBase,
    accepted: Accepted,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    code: int,
) -> None:
    """ECONNABORTED is silent, and the next connection comes at once."""
    with OddKernel(code) as sock:
        sock.bind(LOOPBACK)
        with ConnListener(base, accepted, None, 0, 5, sock) as listener:
            connect(listener)
            base.loop(EVLOOP_NONBLOCK)
    assert len(accepted.sockets) == 1
    assert caplog.messages == []


def test_options_reach_the_socket(base: EventBase, accepted: Accepted) -> None:
    flags = LEV_OPT_REUSEABLE | LEV_OPT_REUSEABLE_PORT | LEV_OPT_DEFERRED_ACCEPT
    with bind(base, accepted, flags) as listener, bind(base, accepted, flags, listener.address):
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_KEEPALIVE):
            assert listener.socket.getsockopt(socket.SOL_SOCKET, option) == 1


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6_alone_leaves_the_port_to_ipv4(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    """Of one port each family has a listener of its own; one for both is refused beside it."""
    accepted.then = ConnListener.disable
    six, four = bind_both(
        lambda: bind(base, accepted, LEV_OPT_BIND_IPV6ONLY, ("::", 0)),
        lambda six: bind(base, accepted, 0, ("127.0.0.1", six.address[1])),
    )
    with six, four:
        port = six.address[1]
        with pytest.raises(SocketError, match="in use"):
            bind(base, accepted, LEV_OPT_BIND_IPV4_AND_IPV6, ("::", port))
        connect(four)
        assert base.loop(EVLOOP_ONCE) == 0
        assert [sock.family for sock in accepted.sockets] == [socket.AF_INET]
        peer = socket.create_connection(("::1", port))
        base.dispatch()
        assert accepted.sockets[1].getpeername() == peer.getsockname()
        peer.close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6_alone_or_both(base: EventBase, accepted: Accepted, connect: Connect) -> None:
    """An IPv4 address in IPv6's clothes can be bound by a socket for both only."""
    mapped = ("::ffff:127.0.0.1", 0)
    with pytest.raises(SocketError, match="ffff"):
        bind(base, accepted, LEV_OPT_BIND_IPV6ONLY, mapped)
    with bind(base, accepted, LEV_OPT_BIND_IPV4_AND_IPV6, mapped) as listener:
        connect(listener)
        base.loop(EVLOOP_NONBLOCK)
        assert len(accepted.sockets) == 1


def test_a_disabled_listener_lets_the_kernel_queue(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    """DISABLED at birth; the kernel keeps queueing while disabled."""
    with bind(base, accepted, LEV_OPT_DISABLED) as listener:
        connect(listener)
        assert base.dispatch() == 1
        assert accepted.sockets == []
        listener.enable()
        base.loop(EVLOOP_NONBLOCK)
        assert len(accepted.sockets) == 1


def test_without_a_callback_nothing_is_accepted_until_one_is_set(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    """Enable without a callback only remembers; setting one then starts."""
    with bind(base, None) as listener:
        connect(listener)
        listener.enable()
        assert base.dispatch() == 1
        listener.set_cb(accepted, None)
        base.loop(EVLOOP_NONBLOCK)
        assert len(accepted.sockets) == 1


@pytest.mark.parametrize("end", [ConnListener.disable, ConnListener.close])
def test_ending_it_in_the_callback_leaves_the_second_connection(
    base: EventBase, accepted: Accepted, connect: Connect, end: Callable[[ConnListener], object]
) -> None:
    """A callback that disables or frees after the first of two queued connections: the second is
    not delivered."""
    accepted.then = end
    with bind(base, accepted) as listener:
        connect(listener)
        connect(listener)
        assert base.dispatch() == 1
        assert len(accepted.sockets) == 1


def test_an_exception_in_the_callback_loses_no_connection(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    def fail_once(listener: ConnListener) -> None:
        accepted.then = None
        raise Boom

    accepted.then = fail_once
    with bind(base, accepted) as listener:
        connect(listener)
        connect(listener)
        with pytest.raises(Boom):
            base.dispatch()
        base.loop(EVLOOP_NONBLOCK)
        assert len(accepted.sockets) == 2


def test_one_that_always_raises_is_called_for_each_connection(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    """With an exception handler the loop goes on; the sockets are the callback's."""
    raised: list[BaseException] = []
    base.exception_handler = lambda *args: raised.append(args[-1])

    def fail(listener: ConnListener) -> None:
        if len(accepted.sockets) == 3:
            listener.disable()
        raise Boom

    accepted.then = fail
    with bind(base, accepted) as listener:
        for _ in range(3):
            connect(listener)
        base.dispatch()
    assert len(raised) == 3
    assert all(sock.fileno() >= 0 for sock in accepted.sockets)


def test_a_closed_listener_is_freed_at_once(base: EventBase) -> None:
    """Also one whose callbacks and argument refer to it."""

    class Owner:
        def __init__(self) -> None:
            self.listener = ConnListener.new_bind(base, self.on_accept, self, address=LOOPBACK)
            self.listener.set_error_cb(self.on_error)

        def on_accept(self, *args: object) -> None: ...

        def on_error(self, *args: object) -> None: ...

    gc.disable()
    try:
        owner = Owner()
        gone = weakref.ref(owner)
        owner.listener.close()
        del owner
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("extra", [0, 1])
def test_so_many_are_accepted_in_a_pass(
    base: EventBase, accepted: Accepted, connect: Connect, extra: int
) -> None:
    with bind(base, accepted) as listener:
        for _ in range(MAX_ACCEPTS_PER_PASS + extra):
            connect(listener)
        passes: list[int] = []
        accepted.then = lambda listener: passes.append(1)
        listener._on_readable(listener.fd, 0, None)
        assert len(passes) == MAX_ACCEPTS_PER_PASS
        base.loop(EVLOOP_NONBLOCK)
        assert len(passes) == MAX_ACCEPTS_PER_PASS + extra


def test_those_that_wait_can_be_taken_before_a_close(
    base: EventBase, accepted: Accepted, connect: Connect
) -> None:
    with bind(base, accepted) as listener:
        for _ in range(MAX_ACCEPTS_PER_PASS + 1):
            connect(listener)
        taken: list[int] = []
        accepted.then = lambda listener: taken.append(1)
        listener.disable()
        listener.accept_waiting()
        assert taken == []
        listener.enable()
        listener.accept_waiting()
        assert len(taken) == MAX_ACCEPTS_PER_PASS + 1
        connect(listener)
        accepted.then = ConnListener.close
        listener.accept_waiting()
    with pytest.raises(StateError, match="closed"):
        listener.accept_waiting()


@pytest.mark.parametrize("told", [True, False])
def test_out_of_descriptors_it_pauses_and_resumes(
    fake_base: EventBase,
    clock: FakeClock,
    accepted: Accepted,
    connect: Connect,
    told: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error callback, or else a warning, comes once a pause; then the connection comes."""
    failures: list[float] = []

    def on_error(listener: ConnListener, error: OSError, arg: object) -> None:
        assert error.errno == errno.EMFILE
        failures.append(clock.monotonic() - start)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    start = clock.monotonic()
    with bind(fake_base, accepted) as listener:
        if told:
            listener.set_error_cb(
                lambda lev, error, arg: failures.append(clock.monotonic() - start)
            )
        connect(listener)
        accepted.then = ConnListener.disable
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        fillers = [os.dup(0) for _ in range(highest)]  # leave no hole below the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1, hard))
        try:
            fake_base.loopexit(FAILURE_PAUSE_S * 1.5)
            assert fake_base.dispatch() == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
        assert accepted.sockets == []
        assert fake_base.dispatch() == 1
        assert len(accepted.sockets) == 1
    if told:
        assert failures == [pytest.approx(0), pytest.approx(FAILURE_PAUSE_S)]
        assert caplog.messages == []
    else:
        assert len(caplog.messages) == 2
        assert "Too many open files" in caplog.text


def bogus(base: EventBase, cb: Any, sock: socket.socket) -> ConnListener:
    """Adopt a socket that is connected, readable, and does not listen."""
    return ConnListener(base, cb, "arg", 0, 0, sock)


def test_a_bogus_socket_is_told_once_when_the_callback_disables(
    base: EventBase, accepted: Accepted, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The error callback comes once if it disables the listener, with the same arg."""
    told: list[object] = []
    pair[1].send(b"x")
    with bogus(base, accepted, pair[0]) as listener:
        listener.set_error_cb(
            lambda lev, error, arg: (told.append((error.errno, arg)), lev.disable())
        )
        assert base.dispatch() == 1
        assert told == [(errno.EINVAL, "arg")]


def test_a_bogus_socket_without_error_callback_is_one_warning(
    base: EventBase,
    accepted: Accepted,
    pair: tuple[socket.socket, socket.socket],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair[1].send(b"x")
    with bogus(base, accepted, pair[0]):
        base.loop(EVLOOP_NONBLOCK)
    assert len(caplog.messages) == 1


def test_the_error_callback_may_close_it(
    base: EventBase, accepted: Accepted, pair: tuple[socket.socket, socket.socket]
) -> None:
    pair[1].send(b"x")
    listener = bogus(base, accepted, pair[0])
    listener.set_error_cb(lambda lev, error, arg: lev.close())
    assert base.dispatch() == 1
    assert pair[0].fileno() != -1  # without CLOSE_ON_FREE it is the program's


@pytest.mark.parametrize("flag", [0, LEV_OPT_CLOSE_ON_FREE])
def test_an_adopted_socket_is_closed_when_asked(
    base: EventBase, accepted: Accepted, flag: int
) -> None:
    with socket.socket() as sock:
        sock.bind(LOOPBACK)
        listener = ConnListener(base, accepted, None, flag, 5, sock)
        assert listener.fd == sock.fileno()
        assert listener.base is base
        listener.close()
        listener.close()
        assert (sock.fileno() == -1) == bool(flag)
        listener.disable()
        for call in (listener.enable, lambda: listener.set_cb(accepted, None)):
            with pytest.raises(StateError, match="closed"):
                call()


def test_a_socket_that_cannot_listen_is_refused(base: EventBase, accepted: Accepted) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        pytest.raises(SocketError, match="cannot listen"),
    ):
        ConnListener(base, accepted, None, 0, 5, sock)
    assert base.dispatch() == 1
