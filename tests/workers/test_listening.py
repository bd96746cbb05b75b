"""The sockets of slots: a group for each port, and what all have in common."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from evsvc import EventBase
from evsvc.core import ArgumentError, ArgumentTypeError, SocketError
from evsvc.workers import listening
from evsvc.workers.listening import Binds, Listening, can_share_out
from tests.ports import held_port

HERE = ("127.0.0.1", 0)

shares_out = pytest.mark.skipif(not can_share_out(), reason="the system shares nothing out")


def listen(base: EventBase, slots: int, **binds: object) -> Listening:
    return Listening(base, slots, Binds(**binds), 128, None)  # type: ignore[arg-type]  # the test's


def count_waiting(sock: socket.socket) -> int:
    """Take what waits: connections, or datagrams."""
    count = 0
    while True:
        try:
            if sock.type == socket.SOCK_STREAM:
                sock.accept()[0].close()
            else:
                sock.recv(16)
        except BlockingIOError:
            return count
        count += 1


@shares_out
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_each_slot_has_a_socket_of_one_port_and_its_share(base, kind) -> None:
    with listen(base, 3, **{kind: [HERE]}) as made, ExitStack() as clients:
        sockets = [getattr(made.slot(number), kind)[0] for number in range(3)]
        (address,) = {sock.getsockname() for sock in sockets}
        for _ in range(60):
            client = clients.enter_context(socket.socket(type=sockets[0].type))
            client.connect(address)
            if kind == "udp":
                client.send(b"x")
        counts = [count_waiting(sock) for sock in sockets]
    assert sum(counts) == 60
    assert all(counts)  # none gets nothing: once in (3/2)**60


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("slots", [1, 2])
def test_nobody_joins_a_group_by_mistake(base, kind, slots) -> None:
    with listen(base, slots, **{kind: [HERE]}) as made:
        (sock,) = getattr(made.slot(0), kind)
        for others in (1, 2):
            with pytest.raises(SocketError, match=f"{kind.upper()}.*:{sock.getsockname()[1]}"):
                listen(base, others, **{kind: [sock.getsockname()]})


def test_where_the_system_shares_nothing_out_all_have_one_socket(base, monkeypatch) -> None:
    def refuse(sock: socket.socket) -> None:
        raise SocketError(95, "cannot balance")

    monkeypatch.setattr(listening, "make_listen_socket_reuseable_port", refuse)
    with listen(base, 2, tcp=[HERE], udp=[HERE]) as made:
        assert made.slot(0).all() == made.slot(1).all()


def test_several_binds_keep_their_order(base, tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    with (
        socket.create_server(HERE) as passed,
        listen(base, 2, tcp=[HERE, ("::1", 0)], unix=paths, sockets=[passed]) as made,
    ):
        for number in range(2):
            slot = made.slot(number)
            families = [sock.family for sock in slot.tcp]
            assert families == [socket.AF_INET, socket.AF_INET6]
            assert [sock.getsockname() for sock in slot.unix] == [str(path) for path in paths]
            assert slot.sockets == [passed]
            assert slot.udp == []


def test_closing_removes_files_and_closes_what_was_passed(base, tmp_path: Path) -> None:
    passed = socket.create_server(HERE)
    made = listen(base, 2, tcp=[HERE], unix=[tmp_path / "a"], sockets=[passed])
    made.close()
    made.close()
    assert [sock.fileno() for number in range(2) for sock in made.slot(number).all()] == [-1] * 6
    assert not (tmp_path / "a").exists()


def test_a_worker_keeps_its_own_and_what_all_have(base, tmp_path: Path) -> None:
    with listen(base, 2, tcp=[HERE], udp=[HERE], unix=[os.fsencode(tmp_path / "a")]) as made:
        kept = made.keep_only(1)
        assert kept is made.slot(1)
        assert all(sock.fileno() >= 0 for sock in kept.all())
        gone = [sock for sock in made.slot(0).all() if sock not in kept.all()]
        assert [sock.fileno() for sock in gone] == [-1] * len(gone)
        assert made.slot(0).unix[0].fileno() >= 0


def test_after_a_failure_nothing_is_open_but_what_was_passed(base, tmp_path: Path) -> None:
    with socket.create_server(HERE) as passed, held_port() as port:
        with socket.create_server(("127.0.0.1", port)), pytest.raises(SocketError):
            listen(
                base, 2, unix=[tmp_path / "a"], tcp=[HERE, ("127.0.0.1", port)], sockets=[passed]
            )
        assert passed.fileno() >= 0


@pytest.mark.parametrize(
    ("binds", "error"),
    [
        ({"tcp": ["127.0.0.1"]}, ArgumentError),
        ({"tcp": ["/socket"]}, ArgumentError),
        ({"tcp": [("localhost", 0)]}, ArgumentError),
        ({"udp": [("127.0.0.1", 65536)]}, ArgumentError),
        ({"sockets": [3]}, ArgumentTypeError),
    ],
)
def test_what_is_no_address_is_refused(base, binds, error) -> None:
    with pytest.raises(error):
        listen(base, 1, **binds)
