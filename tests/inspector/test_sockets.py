"""What is seen of sockets."""

from __future__ import annotations

import os
import socket

import pytest

from evsvc.inspector.sockets import look_at


def test_each_kind_is_told(tmp_path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        accepted, _ = listening.accept()
        with accepted:
            udp.bind(("::1", 0))
            unix.bind(str(tmp_path / "socket"))
            client.sendall(b"x" * 1000)
            accepted.recv(1000, socket.MSG_WAITALL)
            of_client, of_server, of_listening, of_udp, of_unix = look_at(
                each.fileno() for each in (client, accepted, listening, udp, unix)
            )
    assert (of_client.kind, of_client.local, of_client.peer) == (
        "tcp",
        of_server.peer,
        of_server.local,
    )
    assert of_server.received_bytes == 1000
    assert of_listening[1:] == ("listening", of_server.local, "", None, None)
    assert of_udp.kind == "udp"
    assert of_udp.local.startswith("[::1]:")
    assert (of_unix.kind, of_unix.local) == ("unix", str(tmp_path / "socket"))


@pytest.mark.skipif(not hasattr(socket, "AF_NETLINK"), reason="Linux has it")
def test_a_socket_of_another_family_has_no_host_and_port() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock:
        (found,) = look_at([sock.fileno()])
    assert (found.kind, found.sent_bytes) == ("other", None)


def test_what_is_no_socket_is_left_out() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    assert look_at([reading, writing, 10_000]) == []
    os.close(reading)
