"""Where the server listens, which callbacks it takes, and its access log."""

from __future__ import annotations

import logging
import os
import socket

import pytest

from evsvc.core import (
    ArgumentError,
    ArgumentTypeError,
    ConnListener,
    SocketError,
    StateError,
)
from evsvc.http import HttpServer
from tests.http.peers import Peer, request
from tests.ports import held_port


class TestSockets:
    def test_several_share_the_callbacks(self, base, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, b"same"))
        other = site.server.bind_socket("127.0.0.1", 0)
        assert {bound.port for bound in site.server.bound_sockets} == {site.bound.port, other.port}
        assert site.bound.port != other.port
        assert site.connect().get().body == b"same"
        site.bound = other
        assert site.connect().get().body == b"same"

    def test_a_closed_one_listens_no_more_and_its_connections_stay(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200))
        site.bound.close()
        with held_port() as port:
            site.bound = site.server.bind_socket("127.0.0.1", port)
            peer = site.connect()
            site.bound.close()
            assert site.server.bound_sockets == []
            with pytest.raises(ConnectionRefusedError):
                site.connect()
        assert peer.get().status == 200

    def test_a_busy_port_raises_with_its_address(self, serve) -> None:
        site = serve()
        with pytest.raises(SocketError, match=str(site.bound.port)) as caught:
            site.server.bind_socket("127.0.0.1", site.bound.port)
        assert isinstance(caught.value, OSError)

    @pytest.mark.parametrize("address", ["localhost", "", "1.2.3.4.5"])
    def test_only_numeric_addresses_are_bound(self, serve, address) -> None:
        with pytest.raises(ArgumentError):
            serve().server.bind_socket(address, 0)

    def test_ipv6(self, base, serve) -> None:
        site = serve()
        bound = site.server.bind_socket("::1", 0)
        assert bound.address == "::1"
        with socket.create_connection(("::1", bound.port)) as sock:
            peer = Peer(base, sock)
            peer.send(request("/"))
            (got,) = site.requests
            assert (got.remote_host, got.remote_port) == sock.getsockname()[:2]
            got.send_reply(200, None, b"six")
            assert peer.read_message().body == b"six"

    def test_a_unix_socket(self, base, serve, tmp_path, caplog) -> None:
        site = serve()
        path = os.path.relpath(tmp_path / "server")
        if len(path) > 100:
            path = str(tmp_path / "server")
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(path)
        listening.listen()
        bound = site.server.accept_socket(listening)
        assert (bound.address, bound.port) == (path, 0)
        assert bound.fd == listening.fileno()
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock,
            caplog.at_level(logging.INFO, logger="evsvc.http.access"),
        ):
            sock.connect(path)
            peer = Peer(base, sock)
            peer.send(request("/"))
            (got,) = site.requests
            assert (got.remote_host, got.remote_port) == ("", 0)
            got.send_reply(204)
            assert peer.read_message(has_body=False).status == 204
            peer.send(b"illegal request\r\n")
            assert peer.read_message().status == 400
        assert [record.getMessage() for record in caplog.records] == [
            '- "GET / HTTP/1.1" 204 0',
            '- "-" 400 93',
        ]
        site.server.close()
        assert listening.fileno() == -1, "the server owns it"

    def test_a_listener_of_the_programs_is_adopted(self, base, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200))
        listener = ConnListener.new_bind(base, None, None, 0, 8, ("127.0.0.1", 0))
        site.bound = site.server.bind_listener(listener)
        assert site.bound.listener is listener
        assert site.connect().get().status == 200

    def test_a_closed_server_listens_no_more(self, base) -> None:
        server = HttpServer(base)
        server.close()
        server.close()
        with pytest.raises(StateError):
            server.bind_socket("127.0.0.1", 0)


class TestRoutes:
    def test_a_path_is_registered_once(self, serve) -> None:
        server = serve().server
        server.set_cb("/a", print)
        with pytest.raises(ArgumentError, match="/a"):
            server.set_cb("/a", print)
        server.del_cb("/a")
        server.set_cb("/a", print)

    def test_an_unknown_path_cannot_be_removed(self, serve) -> None:
        with pytest.raises(ArgumentError, match="/a"):
            serve().server.del_cb("/a")

    @pytest.mark.parametrize("path", ["", "a", "http://h/a"])
    def test_a_path_begins_with_a_slash(self, serve, path) -> None:
        with pytest.raises(ArgumentError):
            serve().server.set_cb(path, print)

    def test_methods_are_several_texts(self, serve) -> None:
        with pytest.raises(ArgumentTypeError, match="POST"):
            serve().server.set_cb("/a", print, methods="POST")
        with pytest.raises(ArgumentError):
            serve().server.set_cb("/a", print, methods=())


def test_the_access_log_has_a_line_per_reply(serve, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="evsvc.http.access"):
        site = serve()
        peer = site.connect()
        peer.send(request("/a?b=c", "Content-Length: 2", method="POST") + b"xy")
        site.requests[-1].send_reply(201, None, b"12345")
        peer.send(request("/s", method="HEAD", version="1.0"))
        got = site.requests[-1]
        got.send_reply_start(200)
        got.send_reply_chunk(b"abc")
        got.send_reply_end()
    assert [record.getMessage() for record in caplog.records] == [
        '127.0.0.1 "POST /a?b=c HTTP/1.1" 201 5',
        '127.0.0.1 "HEAD /s HTTP/1.0" 200 0',
    ]


def test_the_accepted_connections_do_not_wait_to_fill_a_segment(serve) -> None:
    site = serve()
    site.connect()
    (connection,) = site.server._connections
    sock = connection.carrier.socket
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
