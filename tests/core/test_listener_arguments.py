"""What a listener refuses: bases, sockets, backlogs and paths; nothing is bound by it."""

from __future__ import annotations

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
