"""What a listener refuses: bases, sockets, backlogs and paths; nothing is bound by it."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import (
    ArgumentError,
    ArgumentTypeError,
    ConnListener,
    EventBase,
    StateError,
)
from evsvc.core.listener import MAX_BACKLOG

LOOPBACK = ("127.0.0.1", 0)


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


@pytest.mark.parametrize("backlog", [None, float("nan"), 1.5, "x"])
def test_a_backlog_is_a_whole_number(base: EventBase, tmp_path: Path, backlog: Any) -> None:
    path = tmp_path / "s"
    with pytest.raises(ArgumentTypeError, match=f"backlog.*{backlog!r}"):
        ConnListener.new_bind(base, never, None, 0, backlog, str(path))
    assert not path.exists()
    with socket.socket() as sock, pytest.raises(ArgumentTypeError, match="backlog"):
        ConnListener(base, never, None, 0, backlog, sock)


@pytest.mark.parametrize("backlog", [MAX_BACKLOG + 1, -MAX_BACKLOG - 2])
def test_a_backlog_beyond_a_c_int_is_refused(base: EventBase, backlog: int) -> None:
    with pytest.raises(ArgumentError, match=str(backlog)):
        ConnListener.new_bind(base, never, None, 0, backlog, LOOPBACK)
    with socket.socket() as sock, pytest.raises(ArgumentError, match=str(backlog)):
        ConnListener(base, never, None, 0, backlog, sock)


@pytest.mark.parametrize("backlog", [MAX_BACKLOG, -MAX_BACKLOG - 1, True])
def test_a_backlog_at_the_ends_of_a_c_int_is_taken(base: EventBase, backlog: int) -> None:
    with ConnListener.new_bind(base, never, None, 0, backlog, LOOPBACK) as listener:
        assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_what_is_no_socket_is_refused_by_its_type(base: EventBase) -> None:
    with socket.socket() as sock:
        wrong: Any
        for wrong, name in ((sock.fileno(), "int"), (None, "NoneType")):
            with pytest.raises(ArgumentTypeError, match=name):
                ConnListener(base, never, None, 0, 0, wrong)


def test_what_is_no_base_is_refused_by_its_type(tmp_path: Path) -> None:
    wrong: Any = None
    path = tmp_path / "s"
    with pytest.raises(ArgumentTypeError, match="NoneType"):
        ConnListener.new_bind(wrong, never, None, 0, -1, str(path))
    assert not path.exists()
    with socket.socket() as sock, pytest.raises(ArgumentTypeError, match="NoneType"):
        ConnListener(wrong, never, None, 0, -1, sock)


@pytest.mark.parametrize("flags", ["2", 2.0, None, b"2"])
def test_flags_are_whole_numbers(base: EventBase, flags: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="options"):
        ConnListener.new_bind(base, never, None, flags, -1, LOOPBACK)
    with socket.socket() as sock, pytest.raises(ArgumentTypeError, match="options"):
        ConnListener(base, never, None, flags, 0, sock)


@pytest.mark.parametrize("wrong", ["nope", 42, b"x"])
def test_callbacks_can_be_called(base: EventBase, wrong: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="callback"):
        ConnListener.new_bind(base, wrong, address=LOOPBACK)
    with socket.socket() as sock, pytest.raises(ArgumentTypeError, match="callback"):
        ConnListener(base, wrong, sock=sock)
    with ConnListener.new_bind(base, never, address=LOOPBACK) as listener:
        with pytest.raises(ArgumentTypeError, match="callback"):
            listener.set_cb(wrong)
        with pytest.raises(ArgumentTypeError, match="callback"):
            listener.set_error_cb(wrong)
        listener.set_cb(None)
        listener.set_error_cb(None)


def test_a_closed_listener_takes_no_callbacks(base: EventBase) -> None:
    listener = ConnListener.new_bind(base, never, address=LOOPBACK)
    listener.close()
    with pytest.raises(StateError, match="closed"):
        listener.set_cb(never)
    with pytest.raises(StateError, match="closed"):
        listener.set_error_cb(never)


@pytest.mark.parametrize(
    ("address", "error", "text"),
    [
        ("localhost", ArgumentError, "port"),
        ("127.0.0.1", ArgumentError, "port"),
        ("127.0.0.1:80", ArgumentError, "port"),
        ("::1", ArgumentError, "port"),
        ("[::1]:80", ArgumentError, "port"),
        (("127.0.0.1",), ArgumentError, "port"),
        (("127.0.0.1", "8080"), ArgumentTypeError, "'8080'"),
        (("127.0.0.1", 8080.0), ArgumentTypeError, "8080.0"),
        (("127.0.0.1", None), ArgumentTypeError, "None"),
        (("127.0.0.1", 65536), ArgumentError, "65536"),
        ((b"127.0.0.1", 0), ArgumentTypeError, "host"),
        ((None, 0), ArgumentTypeError, "host"),
        (("", 0), ArgumentError, "numeric"),
        (("127.0.0.1", 0, 0, 0), ArgumentError, "address"),
        (("::1", 0, 2**20, 0), ArgumentError, "flowinfo"),
        (("::1", 0, 0, 2**32), ArgumentError, "scope"),
        (("::1", 0, 0, "lo"), ArgumentTypeError, "scope"),
        (("::1%nowhere", 0), ArgumentError, "zone"),
        (["127.0.0.1", 0], ArgumentTypeError, "list"),
        (None, ArgumentTypeError, "NoneType"),
        (80, ArgumentTypeError, "80"),
    ],
)
def test_what_is_no_address_is_refused_and_makes_no_file(
    base: EventBase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    address: Any,
    error: type[Exception],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(text)):
        ConnListener.new_bind(base, never, address=address)
    assert list(tmp_path.iterdir()) == []


def test_new_bind_wants_an_address(base: EventBase) -> None:
    with pytest.raises(ArgumentTypeError, match="address"):
        ConnListener.new_bind(base, never)


def test_all_but_base_callback_and_address_has_a_default(base: EventBase) -> None:
    """The order is libevent's."""
    told: list[object] = []

    def on_accept(listener: ConnListener, sock: socket.socket, address: object, arg: Any) -> None:
        sock.close()
        told.append(arg)
        listener.disable()

    def make_one(sock: socket.socket, way: int) -> ConnListener:
        if way == 0:
            return ConnListener.new_bind(base, on_accept, address=LOOPBACK)
        if way == 1:
            return ConnListener.new_bind(base, on_accept, "arg", 0, -1, LOOPBACK)
        return ConnListener(base, on_accept, sock=sock)

    with socket.socket() as sock:
        sock.bind(LOOPBACK)
        for way in range(3):
            with make_one(sock, way) as listener, socket.create_connection(listener.address):
                assert base.dispatch() == 1
    assert told == [None, "arg", None]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("address", [("::1", 0), ("0:0::1", 0), ("::1", 0, 0, 0), ("::1", 0, 5)])
def test_an_ipv6_address_may_have_two_to_four_fields(base: EventBase, address: Any) -> None:
    with ConnListener.new_bind(base, never, address=address) as listener:
        assert listener.address[0] == "::1"


def test_an_adopted_socket_of_a_closed_base_is_left_as_it_was() -> None:
    base = EventBase()
    base.close()
    with socket.socket() as sock:
        with pytest.raises(StateError):
            ConnListener(base, never, sock=sock)
        assert sock.getblocking()
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("nodelay", [True, False])
def test_an_adopted_socket_sends_at_once_unless_asked_otherwise(
    base: EventBase, nodelay: bool
) -> None:
    with socket.socket() as sock:
        sock.bind(LOOPBACK)
        ConnListener(base, never, sock=sock, nodelay=nodelay).close()
        assert bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == nodelay


def test_a_path_that_the_kernel_would_take_for_another_is_refused(
    base: EventBase, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    for wrong in ("", b"", f"{path}\0b"):
        with pytest.raises(ArgumentError, match="path"):
            ConnListener.new_bind(base, never, None, 0, -1, wrong)
    assert not path.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has abstract names")
def test_an_abstract_name_is_bound(base: EventBase, tmp_path: Path) -> None:
    name = f"\0{tmp_path}"
    with ConnListener.new_bind(base, never, None, 0, -1, name) as listener:
        assert listener.address == name.encode()
