"""Where a server listens, whom it lets in, and on whose word it believes who they are."""

from __future__ import annotations

import logging
import os
import socket
import stat

import pytest

from evsvc.core import (
    EVLOOP_NONBLOCK,
    ArgumentError,
    ArgumentTypeError,
    ConnListener,
    SocketError,
)
from evsvc.http.server.listening.admission import Admission, peer_key
from tests.core.tls_ends import contexts
from tests.http.conftest import echo
from tests.http.peers import Peer, request
from tests.http.test_proxy_protocol import V4, tlv, v2
from tests.http.tls_peers import TlsSocket

LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n"


def turn(base, times: int = 12) -> None:
    for _ in range(times):
        base.loop(EVLOOP_NONBLOCK)


class TestUnix:
    def connect(self, base, path) -> Peer:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(path))
        return Peer(base, sock)

    def test_requests_are_answered(self, base, serve, tmp_path, monkeypatch) -> None:
        """By a path as text or not, also without a slash."""
        monkeypatch.chdir(tmp_path)
        site = serve(echo)
        for path in ("plain", tmp_path / "path", os.fspath(tmp_path / "text")):
            bound = site.server.bind_unix(path)
            assert bound.port == 0
            assert os.path.samefile(bound.address, path)
            peer = self.connect(base, path)
            assert peer.get("/x").body == b"GET /x 1 0 "
            peer.close()

    def test_a_stale_file_is_replaced_and_ours_is_removed(self, base, serve, tmp_path) -> None:
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
            stale.bind(str(path))
        site = serve(echo)
        bound = site.server.bind_unix(path)
        with pytest.raises(SocketError):
            site.server.bind_unix(path)
        bound.close()
        assert not path.exists()

    @pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0])
    def test_its_file_has_the_permissions_that_were_asked_for(self, serve, tmp_path, mode) -> None:
        """Whatever the umask is."""
        path = tmp_path / "s"
        before = os.umask(0o027)
        try:
            serve().server.bind_unix(path, mode=mode)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode

    def test_without_any_the_umask_decides(self, serve, tmp_path) -> None:
        path = tmp_path / "s"
        before = os.umask(0o027)
        try:
            serve().server.bind_unix(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o750

    @pytest.mark.parametrize("mode", [-1, 0o1000])
    def test_what_are_no_permissions_is_refused(self, serve, tmp_path, mode) -> None:
        with pytest.raises(ArgumentError, match=str(mode)):
            serve().server.bind_unix(tmp_path / "s", mode=mode)
        assert not (tmp_path / "s").exists()

    def test_a_path_that_is_too_long_is_refused(self, serve, tmp_path) -> None:
        with pytest.raises(ArgumentError):
            serve().server.bind_unix(tmp_path / ("s" * 200))

    def test_tls_and_the_proxy_protocol_go_there_too(self, base, serve, tmp_path) -> None:
        seen = []
        site = serve(lambda got, arg: (seen.append(got.remote_host), echo(got, arg)))
        path = tmp_path / "s"
        site.server.bind_unix(path, tls=contexts()[1], proxy_protocol=["unix"])
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(path))
        sock.send(LINE)
        secure = UnixTlsSocket(sock, contexts()[0])
        secure.shake_hands(base)
        assert Peer(base, secure).get().status == 200
        secure.close()
        assert seen == ["192.0.2.1"]


class UnixTlsSocket(TlsSocket):
    """Over a socket that has no small segments."""

    def __init__(self, sock, context) -> None:
        self.ssl = context.wrap_socket(
            sock, do_handshake_on_connect=False, server_hostname="server.example"
        )
        self.ssl.setblocking(False)


def test_only_a_unix_sockets_file_has_permissions(base) -> None:
    with pytest.raises(ArgumentError, match="127"):
        ConnListener.new_bind(base, None, address=("127.0.0.1", 0), mode=0o600)
    with pytest.raises(ArgumentError, match="permissions"):
        ConnListener.new_bind(base, None, address="\0abstract", mode=0o600)


class TestAdopted:
    def test_a_descriptor_is_served_and_owned(self, base, serve) -> None:
        site = serve(echo)
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        bound = site.server.accept_socket(listening.detach())
        assert bound.port == port
        site.bound = bound
        assert site.connect().get().status == 200
        fd = bound.fd
        bound.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    def test_what_does_not_listen_is_refused_and_stays(self, serve) -> None:
        server = serve().server
        with socket.socket() as sock:
            for wrong in (sock, sock.fileno()):
                with pytest.raises(ArgumentError, match="does not listen"):
                    server.accept_socket(wrong)
            os.fstat(sock.fileno())

    def test_what_is_no_socket_is_refused(self, serve) -> None:
        server = serve().server
        for wrong in ("5", None, True):
            with pytest.raises(ArgumentTypeError):
                server.accept_socket(wrong)
        read, write = os.pipe()
        with pytest.raises(SocketError, match=str(read)):
            server.accept_socket(read)
        os.close(read)
        os.close(write)


class TestOptions:
    @pytest.mark.parametrize("only", [True, False])
    def test_ipv6_with_or_without_ipv4(self, base, serve, only) -> None:
        seen = []
        site = serve(lambda got, arg: (seen.append(got.remote_host), echo(got, arg)))
        bound = site.server.bind_socket("::", 0, ipv6only=only)
        sock = socket.socket()
        failed = sock.connect_ex(("127.0.0.1", bound.port))
        assert bool(failed) is only
        if not only:
            peer = Peer(base, sock)
            assert peer.get().status == 200
            assert seen == ["::ffff:127.0.0.1"]
        sock.close()

    def test_two_that_say_so_share_a_port(self, serve) -> None:
        server = serve().server
        one = server.bind_socket("127.0.0.1", 0, reuse_port=True)
        other = server.bind_socket("127.0.0.1", one.port, reuse_port=True)
        assert other.port == one.port
        with pytest.raises(SocketError):
            server.bind_socket("127.0.0.1", one.port)


class TestLimits:
    def test_a_sockets_own_limit(self, serve) -> None:
        site = serve(echo)
        plain = site.bound
        bound = site.bound = site.server.bind_socket("127.0.0.1", 0, max_connections=2)
        first, second = site.connect(), site.connect()
        assert bound.connection_count == 2
        assert site.connect().read_message().status == 503
        assert bound.connection_count == 2
        site.bound = plain
        assert site.connect().get().status == 200
        first.close()
        second.settle()
        assert bound.connection_count == 1
        site.bound = bound
        assert site.connect().get().status == 200

    @pytest.mark.parametrize("wrong", [0, -1])
    def test_a_limit_is_positive(self, serve, wrong) -> None:
        with pytest.raises(ArgumentError, match=str(wrong)):
            serve().server.bind_socket("127.0.0.1", 0, max_connections=wrong)

    def test_one_address_has_no_more_than_its_share(self, serve) -> None:
        site = serve(echo, max_connections_per_peer=2)
        first, second = site.connect(), site.connect()
        assert site.connect().read_message().status == 503
        assert second.get().status == 200
        first.close()
        second.settle()
        assert site.connect().get().status == 200

    def test_a_64_of_ipv6_is_one_address(self, serve) -> None:
        site = serve(echo, max_connections_per_peer=1)
        site.bound = site.server.bind_socket("127.0.0.1", 0, proxy_protocol=True)
        peers = [site.connect() for _ in range(3)]
        for peer, address in zip(
            peers, ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"), strict=True
        ):
            peer.send(f"PROXY TCP6 {address} ::9 1 2\r\n".encode())
        assert peers[0].get().status == 200
        assert peers[1].read_message().status == 503
        assert peers[2].get().status == 200

    def test_a_unix_sockets_clients_are_no_one_peer(self, base, serve, tmp_path) -> None:
        site = serve(echo, max_connections_per_peer=1)
        site.server.bind_unix(tmp_path / "s")
        for _ in range(3):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(tmp_path / "s"))
            assert site.peer_over(sock).get().status == 200

    def test_behind_a_proxy_the_client_counts_and_not_the_proxy(self, serve) -> None:
        site = serve(echo, max_connections_per_peer=1)
        site.bound = site.server.bind_socket("127.0.0.1", 0, proxy_protocol=True)
        peers = [site.connect() for _ in range(3)]
        for peer, address in zip(peers, ("192.0.2.1", "192.0.2.2", "192.0.2.1"), strict=True):
            peer.send(f"PROXY TCP4 {address} 192.0.2.9 1 2\r\n".encode())
        assert peers[0].get().status == 200
        assert peers[1].get().status == 200
        assert peers[2].read_message().status == 503

    def test_what_takes_a_connection_over_goes_on_counting(self, serve) -> None:
        taken = []

        def take(got, arg):
            connection = got.connection
            bufferevent, _ = got.take_over()
            session = Session(bufferevent)
            site.server.adopt_session(session, connection)
            taken.append(session)

        site = serve(take, max_connections_per_peer=1)
        peer = site.connect()
        peer.send(request("/"))
        assert (site.server.connection_count, site.bound.connection_count) == (1, 1)
        assert site.connect().read_message().status == 503
        site.server.forget_session(taken[0])
        site.server.forget_session(taken[0])
        assert (site.server.connection_count, site.bound.connection_count) == (0, 0)
        taken[0].close()
        site.server.set_gencb(echo)
        assert site.connect().get().status == 200


class Session:
    def __init__(self, bufferevent) -> None:
        self.bufferevent = bufferevent

    def shutdown(self, code) -> None:
        self.close()

    def close(self) -> None:
        self.bufferevent.close()


class TestAdmission:
    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("192.0.2.1", "192.0.2.1", True),
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
            ("fe80::1%eth0", "fe80::2", True),
            ("no:address", "no:address", True),
        ],
    )
    def test_a_peer_is_an_address_or_a_64(self, one, other, same) -> None:
        assert (peer_key(one) == peer_key(other)) is same

    def test_nothing_is_left_of_who_has_gone(self) -> None:
        admission = Admission()
        for address in ("192.0.2.1", "192.0.2.1", "2001:db8::1", ""):
            admission.enter(None, address)
        for address in ("2001:db8::2", "192.0.2.1", "", "192.0.2.1"):
            admission.leave(None, address)
        assert admission.count == 0
        assert not admission._by_peer


class TestProxyProtocol:
    @pytest.fixture
    def proxied(self, serve):
        """Return `proxied(proxy_protocol=True, **options)`, whose requests wait in a list."""

        def start(proxy_protocol=True, tls=None, **options):
            site = serve(**options)
            site.bound = site.server.bind_socket(
                "127.0.0.1", 0, proxy_protocol=proxy_protocol, tls=tls
            )
            return site

        return start

    @pytest.mark.parametrize("header", [LINE, v2()])
    def test_the_client_is_whom_it_tells(self, proxied, header, caplog) -> None:
        site = proxied()
        peer = site.connect()
        with caplog.at_level(logging.INFO, logger="evsvc.http.access"):
            peer.send(header + request("/"))
            (got,) = site.requests
            assert (got.remote_host, got.remote_port) == ("192.0.2.1", 1234)
            assert got.connection.peer == ("192.0.2.1", 1234)
            assert got.connection.proxy_header.destination == ("198.51.100.2", 443)
            got.send_reply(200, None, b"x")
        assert peer.read_message().body == b"x"
        assert "192.0.2.1" in caplog.text

    def test_it_may_come_in_single_bytes_and_the_request_too(self, proxied) -> None:
        site = proxied()
        peer = site.connect()
        peer.send_bytewise(LINE + request("/"))
        assert site.requests[0].remote_host == "192.0.2.1"

    @pytest.mark.parametrize(
        "header", [b"PROXY UNKNOWN\r\n", v2(command=0x20), v2(family=0, rest=b"")]
    )
    def test_without_an_address_the_connection_speaks_for_itself(self, proxied, header) -> None:
        site = proxied()
        peer = site.connect()
        peer.send(header + request("/"))
        assert site.requests[0].connection.peer == peer.sock.getsockname()
        assert site.requests[0].connection.proxy_header.source is None

    def test_a_handler_reads_what_else_it_says(self, proxied) -> None:
        site = proxied()
        site.connect().send(v2(rest=V4 + tlv(2, b"example.org")) + request("/"))
        assert site.requests[0].connection.proxy_header.tlv(2) == b"example.org"

    def test_before_tls(self, base, proxied) -> None:
        site = proxied(tls=contexts()[1])
        raw = socket.create_connection(("127.0.0.1", site.bound.port))
        raw.send(v2())
        sock = TlsSocket(raw, contexts()[0])
        sock.shake_hands(base)
        peer = Peer(base, sock)
        peer.send(request("/"))
        assert site.requests[0].remote_host == "192.0.2.1"
        assert site.requests[0].connection.tls.protocol == "TLSv1.3"
        peer.close()

    def test_before_what_the_program_makes(self, proxied) -> None:
        site = proxied()
        peeked = []
        site.bound.set_bevcb(lambda base, sock, arg: peeked.append(sock.recv(100, socket.MSG_PEEK)))
        site.connect().send(LINE + request("/"))
        assert peeked == [request("/")]
        assert len(site.requests) == 1

    @pytest.mark.parametrize("bad", [request("/"), LINE[:-2] + b"\n", v2(family=0x12)])
    def test_a_bad_one_is_logged_and_closed(self, proxied, bad, caplog) -> None:
        site = proxied()
        peer = site.connect()
        with caplog.at_level(logging.INFO, logger="evsvc.http"):
            peer.send(bad)
            assert peer.read_to_end() == b""
        assert [record.getMessage().split(":")[1] for record in caplog.records] == [
            " PROXY protocol"
        ]
        assert site.server.connection_count == site.bound.connection_count == 0

    def test_one_that_does_not_come_in_time_is_closed(self, proxied, clock) -> None:
        site = proxied(proxy_header_s=3.0)
        peer = site.connect()
        peer.send(LINE[:10])
        clock.advance(2.9)
        assert peer.is_open()
        assert site.server.connection_count == 1
        clock.advance(0.1)
        assert not peer.is_open()
        assert site.server.connection_count == 0

    def test_pieces_of_it_do_not_prolong_its_time(self, proxied, clock) -> None:
        site = proxied(proxy_header_s=3.0)
        peer = site.connect()
        for piece in (LINE[:10], LINE[10:20]):
            peer.send(piece)
            clock.advance(1.5)
        assert not peer.is_open()
        assert site.requests == []

    def test_one_in_time_is_followed_by_a_time_of_its_own(self, proxied, clock) -> None:
        site = proxied(proxy_header_s=3.0, idle_s=7.0)
        peer = site.connect()
        clock.advance(2.999)
        peer.send(LINE)
        clock.advance(6.9)
        assert peer.is_open()
        clock.advance(0.1)
        assert not peer.is_open()

    def test_one_that_breaks_off_is_forgotten(self, proxied) -> None:
        site = proxied()
        for end in ("half_close", "reset"):
            peer = site.connect()
            peer.send(LINE[:10])
            getattr(peer, end)()
            turn(site.base)
            assert site.server.connection_count == 0

    def test_only_proxies_on_the_list_send_it(self, proxied) -> None:
        site = proxied(["192.0.2.0/24"])
        peer = site.connect()
        peer.send(request("/"))
        assert site.requests[0].remote_host == "127.0.0.1"
        assert site.connect().ask(LINE).status == 400
        site = proxied(["127.0.0.0/8", "::1"])
        site.connect().send(LINE + request("/"))
        assert site.requests[0].remote_host == "192.0.2.1"

    @pytest.mark.parametrize("wrong", [[], ["nowhere"], "127.0.0.1"])
    def test_what_is_no_list_is_refused(self, serve, wrong) -> None:
        with pytest.raises(ArgumentError):
            serve().server.bind_socket("127.0.0.1", 0, proxy_protocol=wrong)

    def test_who_is_awaited_counts(self, proxied) -> None:
        site = proxied(max_connections=2, max_refused=1)
        peers = [site.connect() for _ in range(3)]
        assert site.server.connection_count == 2
        assert peers[2].read_to_end() == b""
        peers[0].send(LINE + request("/"))
        assert len(site.requests) == 1
        assert site.server.connection_count == 2

    def test_a_stop_waits_for_it_and_answers_the_request_behind(self, proxied) -> None:
        site = proxied()
        peer = site.connect()
        done = []
        site.server.shutdown(done.append)
        assert done == []
        peer.send(LINE + request("/"))
        site.requests[0].send_reply(200, None, b"last")
        assert peer.read_to_end().endswith(b"last")
        assert done == [site.server]

    def test_a_stop_ends_with_a_bad_one_and_with_close(self, proxied) -> None:
        for end in ("bad", "close"):
            site = proxied()
            peer = site.connect()
            done = []
            site.server.shutdown(done.append)
            if end == "bad":
                peer.send(b"bad")
            else:
                site.server.close()
            turn(site.base)
            assert done == [site.server]
            assert not peer.is_open()
