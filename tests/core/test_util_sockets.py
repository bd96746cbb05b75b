"""Socket options, pairs and errors (evutil)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from evsvc.core import (
    ArgumentError,
    ConnListener,
    EventBase,
    SocketError,
)
from evsvc.core.flags import ListenerOption
from evsvc.core.util import (
    closesocket,
    make_listen_socket_ipv6only,
    make_listen_socket_not_ipv6only,
    make_listen_socket_reuseable,
    make_listen_socket_reuseable_port,
    make_socket_closeonexec,
    make_socket_nonblocking,
    make_tcp_listen_socket_deferred,
    set_tcp_keepalive,
    socket_error_to_string,
    socket_geterror,
    socketpair,
)

ON_LINUX = sys.platform.startswith("linux")


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        yield sock


@pytest.fixture
def closed_sock() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.close()
    return sock


def keepalive_of(sock: socket.socket) -> tuple[bool, int, int, int]:
    """Return whether keep-alive is on, and idle time, interval and number of probes."""
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    idle, interval, probes = (sock.getsockopt(socket.IPPROTO_TCP, each) for each in options)
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)), idle, interval, probes


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this host has no IPv6")


def test_nonblocking_leaves_the_other_flags_alone() -> None:
    """evutil_make_socket_nonblocking preserves other flags."""
    read_fd, write_fd = os.pipe()
    try:
        fcntl.fcntl(write_fd, fcntl.F_SETFL, fcntl.fcntl(write_fd, fcntl.F_GETFL) | os.O_APPEND)
        before = fcntl.fcntl(write_fd, fcntl.F_GETFL)
        make_socket_nonblocking(write_fd)
        make_socket_nonblocking(write_fd)
        assert fcntl.fcntl(write_fd, fcntl.F_GETFL) == before | os.O_NONBLOCK
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_nonblocking_tells_the_socket_object(sock: socket.socket) -> None:
    make_socket_nonblocking(sock)
    assert sock.getblocking() is False
    assert os.get_blocking(sock.fileno()) is False


def test_closeonexec(sock: socket.socket) -> None:
    for each in (sock, sock.fileno()):
        sock.set_inheritable(True)
        make_socket_closeonexec(each)
        assert sock.get_inheritable() is False


def test_reuseable_address(sock: socket.socket) -> None:
    make_listen_socket_reuseable(sock)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_reuseable_address_is_left_alone_on_windows(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SO_REUSEADDR (not on Windows)."""
    monkeypatch.setattr(os, "name", "nt")
    make_listen_socket_reuseable(sock)
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


@pytest.mark.skipif(not ON_LINUX, reason="only Linux balances by SO_REUSEPORT")
def test_two_sockets_can_share_a_port(sock: socket.socket) -> None:
    make_listen_socket_reuseable_port(sock)
    sock.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        make_listen_socket_reuseable_port(other)
        other.bind(sock.getsockname())
        assert other.getsockname() == sock.getsockname()


def test_a_plain_reuseport_is_not_taken_for_balancing(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SO_REUSEPORT with load balancing; an error where the system lacks balancing."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SocketError, match="darwin") as caught:
        make_listen_socket_reuseable_port(sock)
    assert caught.value.errno == errno.EOPNOTSUPP


@needs_ipv6
def test_ipv6_alone_or_with_ipv4() -> None:
    """IPV6_V6ONLY 1 / 0."""
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
        make_listen_socket_ipv6only(sock)
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        make_listen_socket_not_ipv6only(sock)
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="Linux has it alone")
def test_deferred_accept(sock: socket.socket) -> None:
    make_tcp_listen_socket_deferred(sock)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="Linux has it alone")
def test_deferred_accept_is_nothing_where_the_system_has_none(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCP_DEFER_ACCEPT=1 on Linux, else success no-op."""
    option = socket.TCP_DEFER_ACCEPT
    monkeypatch.delattr(socket, "TCP_DEFER_ACCEPT")
    make_tcp_listen_socket_deferred(sock)
    assert not sock.getsockopt(socket.IPPROTO_TCP, option)


@pytest.mark.parametrize(("timeout", "interval"), [(300, 100), (2, 1), (1, 1)])
def test_keepalive_probes_thrice(sock: socket.socket, timeout: int, interval: int) -> None:
    """Interval = timeout/3 (min 1), 3 probes."""
    set_tcp_keepalive(sock, True, timeout)
    assert keepalive_of(sock) == (True, timeout, interval, 3)


@pytest.mark.parametrize("timeout", [0, -1])
@pytest.mark.parametrize("on", [True, False])
def test_keepalive_without_timeout_changes_nothing(
    sock: socket.socket, timeout: int, on: bool
) -> None:
    """timeout <= 0: nothing is done, success."""
    set_tcp_keepalive(sock, not on, 60)
    before = keepalive_of(sock)
    set_tcp_keepalive(sock, on, timeout)
    assert keepalive_of(sock) == before


def test_keepalive_off_skips_the_tuning(sock: socket.socket) -> None:
    """off skips the tuning."""
    set_tcp_keepalive(sock, True, 60)
    set_tcp_keepalive(sock, False, 300)
    assert keepalive_of(sock) == (False, 60, 20, 3)


def test_a_listener_probes_after_300_seconds() -> None:
    """Non-unix sockets of evconnlistener_new_bind get keep-alive 300 s, and the options asked."""
    flags = ListenerOption.LEV_OPT_REUSEABLE
    with (
        EventBase() as base,
        ConnListener.new_bind(base, None, None, flags, -1, ("127.0.0.1", 0)) as listener,
    ):
        assert keepalive_of(listener.socket) == (True, 300, 100, 3)
        assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


@pytest.mark.parametrize(
    "call",
    [
        make_socket_nonblocking,
        make_socket_closeonexec,
        make_listen_socket_reuseable,
        make_listen_socket_ipv6only,
        make_listen_socket_not_ipv6only,
        lambda sock: set_tcp_keepalive(sock, True, 60),
        socket_geterror,
    ],
)
def test_a_closed_socket_is_refused_by_the_system(call: object, closed_sock: socket.socket) -> None:
    assert callable(call)
    with pytest.raises(SocketError) as caught:
        call(closed_sock)
    assert caught.value.errno == errno.EBADF


FAMILIES = [
    socket.AF_UNIX,
    socket.AF_INET,
    pytest.param(socket.AF_INET6, marks=needs_ipv6),
]


@pytest.mark.parametrize("family", FAMILIES)
def test_both_ends_of_a_pair_are_usable(family: int) -> None:
    """socketpair: unix or loopback pair, both ends usable."""
    one, other = socketpair(family, socket.SOCK_STREAM)
    with one, other:
        assert one.family == other.family == family
        one.sendall(b"there")
        assert other.recv(16) == b"there"
        other.sendall(b"back")
        assert one.recv(16) == b"back"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", ["", "SOCK_NONBLOCK", "SOCK_CLOEXEC"])
def test_a_pair_honours_the_bits_of_its_kind(family: int, bits: str) -> None:
    """socketpair: non-blocking/cloexec bits honoured."""
    kind = socket.SOCK_STREAM | (getattr(socket, bits) if bits else 0)
    for sock in socketpair(family, kind):
        with sock:
            assert sock.type == socket.SOCK_STREAM
            assert sock.getblocking() is (bits != "SOCK_NONBLOCK")
            assert os.get_blocking(sock.fileno()) is (bits != "SOCK_NONBLOCK")
            assert sock.get_inheritable() is False


def test_a_unix_pair_may_be_of_datagrams() -> None:
    one, other = socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.send(b"1")
        one.send(b"2")
        assert (other.recv(16), other.recv(16)) == (b"1", b"2")


def test_what_cannot_be_a_pair_is_refused() -> None:
    with pytest.raises(ArgumentError, match="SOCK_STREAM"):
        socketpair(socket.AF_INET, socket.SOCK_DGRAM)
    with pytest.raises(SocketError):
        socketpair(12345, socket.SOCK_STREAM)


def test_a_stranger_on_the_loopback_port_is_no_end_of_a_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Emulate with loopback TCP (and verify the peer address)."""
    strangers: list[socket.socket] = []
    connect = socket.socket.connect

    def connect_second(sock: socket.socket, address: tuple[str, int]) -> None:
        stranger = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        strangers.append(stranger)
        connect(stranger, address)
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", connect_second)
    try:
        with pytest.raises(SocketError, match="stranger") as caught:
            socketpair(socket.AF_INET, socket.SOCK_STREAM)
    finally:
        for stranger in strangers:
            stranger.close()
    assert caught.value.errno == errno.ECONNABORTED


def test_closing_takes_sockets_and_descriptors() -> None:
    one, other = socketpair(socket.AF_UNIX)
    closesocket(one)
    assert one.fileno() == -1
    fd = other.detach()
    closesocket(fd)
    with pytest.raises(SocketError) as caught:
        closesocket(fd)
    assert caught.value.errno == errno.EBADF


def test_the_error_that_waits_on_a_socket_is_told_once() -> None:
    with socket.socket() as refusing, socket.socket() as sock:
        refusing.bind(("127.0.0.1", 0))  # and does not listen
        sock.setblocking(False)
        assert socket_geterror(sock) == 0
        sock.connect_ex(refusing.getsockname())
        assert socket_geterror(sock) == errno.ECONNREFUSED
        assert socket_geterror(sock) == 0


def test_an_error_has_the_systems_text() -> None:
    assert socket_error_to_string(errno.ECONNREFUSED) == os.strerror(errno.ECONNREFUSED)
