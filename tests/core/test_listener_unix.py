"""A listener on a Unix path replaces a stale file and removes its own; it touches no other."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import EVLOOP_NONBLOCK, ConnListener, EventBase, SocketError


def close_accepted(listener: ConnListener, sock: socket.socket, address: object, arg: Any) -> None:
    sock.close()


def bind(base: EventBase, address: Any) -> ConnListener:
    return ConnListener.new_bind(base, close_accepted, address=address)


def leave_stale(path: Path, kind: int = socket.SOCK_STREAM) -> None:
    """Leave the file of a socket that is no more, as a process that was killed does."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("form", [str, os.fsencode, Path])
def test_a_stale_file_is_replaced(base: EventBase, tmp_path: Path, kind: int, form: Any) -> None:
    path = tmp_path / "s"
    leave_stale(path, kind)
    with bind(base, form(path)) as listener, socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        assert listener.address == str(path)
    assert not path.exists()


def test_what_a_killed_process_has_left_is_replaced(base: EventBase, tmp_path: Path) -> None:
    path = tmp_path / "s"
    program = (
        "import os, sys; from evsvc.core import ConnListener, EventBase; base = EventBase();"
        "listener = ConnListener.new_bind(base, None, address=sys.argv[1]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
    assert path.is_socket()
    bind(base, str(path)).close()
    assert not path.exists()


@pytest.mark.parametrize("kind", ["listening", "bound", "full", "datagram"])
def test_a_live_socket_is_left_alone(base: EventBase, tmp_path: Path, kind: str) -> None:
    """One that is bound and does not listen yet lives, too; none of them notices."""
    path = tmp_path / "s"
    dgram = kind == "datagram"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if dgram else socket.SOCK_STREAM) as live:
        live.bind(str(path))
        live.setblocking(False)
        if kind in ("listening", "full"):
            live.listen(0)
        peers = [socket.socket(socket.AF_UNIX) for _ in range(3)] if kind == "full" else []
        for peer in peers:
            peer.setblocking(False)
            peer.connect_ex(str(path))
        with pytest.raises(SocketError, match=str(path)) as caught:
            bind(base, str(path))
        assert caught.value.errno == errno.EADDRINUSE
        assert path.is_socket()
        if kind == "listening":
            with pytest.raises(BlockingIOError):
                live.accept()
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("what", ["file", "directory", "link to a stale socket", "dangling link"])
def test_what_is_no_socket_is_left_alone(base: EventBase, tmp_path: Path, what: str) -> None:
    path = tmp_path / "s"
    if what == "file":
        path.write_bytes(b"precious")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "target")
        if what == "link to a stale socket":
            leave_stale(tmp_path / "target")
    before = os.lstat(path)
    with pytest.raises(SocketError) as caught:
        bind(base, str(path))
    assert caught.value.errno == errno.EADDRINUSE
    assert os.lstat(path) == before


def test_a_stale_file_that_cannot_be_removed_is_busy(
    base: EventBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    leave_stale(path)

    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        with pytest.raises(SocketError) as caught:
            bind(base, str(path))
    assert caught.value.errno == errno.EADDRINUSE


def test_a_file_that_another_has_just_put_there_is_left_alone(
    base: EventBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two programs that start at once: the slower one sees the other's in time."""
    path = tmp_path / "s"
    leave_stale(path)
    probe = socket.socket.connect_ex
    other = socket.socket(socket.AF_UNIX)

    def overtaken(sock: socket.socket, address: Any) -> int:
        code = probe(sock, address)
        path.unlink()
        other.bind(str(path))
        return code

    with other, monkeypatch.context() as patched:
        patched.setattr(socket.socket, "connect_ex", overtaken)
        with pytest.raises(SocketError) as caught:
            bind(base, str(path))
        assert caught.value.errno == errno.EADDRINUSE
        assert path.is_socket()


def test_a_directory_that_is_not_there_is_an_error(base: EventBase, tmp_path: Path) -> None:
    with pytest.raises(SocketError) as caught:
        bind(base, str(tmp_path / "no" / "s"))
    assert caught.value.errno == errno.ENOENT


def test_closing_removes_the_file_wherever_the_program_is_by_then(
    base: EventBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = bind(base, "./s")
    assert (tmp_path / "s").is_socket()
    monkeypatch.chdir("/")
    listener.close()
    listener.close()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("other", ["file", "socket", "nothing"])
def test_closing_leaves_what_has_taken_the_files_place(
    base: EventBase, tmp_path: Path, other: str
) -> None:
    path = tmp_path / "s"
    listener = bind(base, str(path))
    path.unlink()
    if other == "file":
        path.write_bytes(b"precious")
    elif other == "socket":
        leave_stale(path)
    listener.close()
    assert path.exists() == (other != "nothing")


def test_a_renamed_file_is_left_alone(base: EventBase, tmp_path: Path) -> None:
    listener = bind(base, str(tmp_path / "s"))
    (tmp_path / "s").rename(tmp_path / "t")
    listener.close()
    assert (tmp_path / "t").is_socket()


def test_a_forked_child_that_closes_leaves_the_file(base: EventBase, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bind(base, str(path)) as listener:
        child = os.fork()
        if not child:
            try:
                listener.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
    assert not path.exists()


def test_a_listener_that_is_refused_leaves_no_file(
    base: EventBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sock: socket.socket, backlog: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    path = tmp_path / "s"
    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "listen", refuse)
        with pytest.raises(SocketError, match="cannot listen"):
            bind(base, str(path))
    assert not path.exists()


def test_the_file_of_an_adopted_socket_is_the_programs(base: EventBase, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        ConnListener(base, close_accepted, sock=sock).close()
        assert path.is_socket()


def test_an_accepted_unix_connection_is_served(base: EventBase, tmp_path: Path) -> None:
    """TCP_NODELAY is nothing to it."""
    with bind(base, tmp_path / "s") as listener, socket.socket(socket.AF_UNIX) as peer:
        peer.connect(listener.address)
        base.loop(EVLOOP_NONBLOCK)
        assert peer.recv(1) == b""
