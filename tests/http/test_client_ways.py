"""Ways to a server: Unix sockets, the program's bufferevent, a proxy, our own address; retries."""

from __future__ import annotations

import socket
import ssl

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    EV_READ,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    PairBufferEvent,
    StateError,
    TlsBufferEvent,
)
from evsvc.core.resolver import AddrInfo
from evsvc.http import (
    EVHTTP_CON_READ_ON_WRITE_ERROR,
    EVHTTP_CON_REUSE_CONNECTED_ADDR,
    ClientOptions,
    ConnectFailed,
    ConnectProxy,
    HttpConnection,
    HttpRequest,
    HttpServer,
    TlsFailed,
)
from evsvc.http.client.connection import MAX_RETRY_DELAY_S
from evsvc.http.client.deadline import Deadline
from tests.http.outcomes import Outcomes
from tests.http.peers import MOST_PASSES, Peer, response
from tests.http.test_client_tls import HOST, TlsOrigin, authority, trusting  # noqa: F401
from tests.ports import held_port


@pytest.fixture
def over(base):
    """Return `over(connection)`: its outcomes; it is closed after the test."""
    made = []

    def outcomes(connection):
        made.append(connection)
        return Outcomes(connection)

    yield outcomes
    for each in made:
        each.close()


class Names:
    """Every name is the loopback; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = []

    def getaddrinfo(self, host, port, hints, cb, arg=None):
        self.asked.append(host)
        cb(0, [AddrInfo(2, 1, 6, "", ("127.0.0.1", port))], arg)


class TestUnix:
    def test_a_request(self, base, over, tmp_path) -> None:
        path = str(tmp_path / "socket")
        with HttpServer(base) as server, socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            sock.listen()
            server.accept_socket(sock)
            server.set_gencb(lambda got, arg: got.send_reply(200, None, got.host.encode()))
            client = over(HttpConnection.unix_new(base, path))
            for _ in range(2):
                client.make()
                client.wait(len(client) + 1)
            assert [got.take_body() for _, got in client] == [b"localhost"] * 2

    def test_nobody_there(self, base, over, tmp_path) -> None:
        client = over(HttpConnection.unix_new(base, str(tmp_path / "none")))
        client.make()
        client.wait(1)
        assert type(client.made["/"].error) is ConnectFailed

    def test_a_path_that_is_too_long(self, base, over) -> None:
        client = over(HttpConnection.unix_new(base, "/" + "x" * 200))
        client.make()
        client.wait(1)
        assert client.given == [("/", 0)]


class TestBufferevent:
    def test_it_connects_the_programs_again_and_again(self, base, origin, over) -> None:
        bev = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
        client = over(HttpConnection.bufferevent_new(bev, None, "127.0.0.1", origin.port))
        for _ in range(3):
            client.make()
            peer = origin.accept()
            assert client.connection.bufferevent is bev
            peer.send(response("Connection: close", body=b"x"))
            assert not peer.is_open()
        assert client.given == [("/", 200)] * 3
        client.connection.close()
        assert bev.closed

    def test_also_after_a_failure_with_output_left(self, base, origin, over) -> None:
        bev = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
        client = over(HttpConnection.bufferevent_new(bev, None, "127.0.0.1", origin.port))
        client.make("/a", "POST", body=b"x" * 10_000_000)
        client.make("/b")
        origin.accept().send(b"nonsense")
        client.wait(2)
        peer = origin.accept()
        assert peer.read_head()[0] == "GET /b HTTP/1.1"
        peer.send(response())
        client.wait(3)
        assert client.given[2:] == [("/b", 200)]

    def test_one_that_the_program_has_connected(self, base, over) -> None:
        ours, theirs = socket.socketpair()
        peer = Peer(base, theirs)
        fd = ours.fileno()
        bev = BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE)
        client = over(HttpConnection.bufferevent_reuse_new(bev, address="h", port=8080))
        client.make("/a")
        client.make("/b")
        for _ in range(2):
            peer.settle()
            assert ("Host", "h:8080") in peer.read_head()[1]
            peer.send(response())
        assert client.given == [("/a", 200), ("/b", 200)]
        assert client.connection.bufferevent.fd == fd
        peer.close()
        client.settle()
        client.make("/c")
        client.wait(3)
        assert client.given[2:] == [("/c", 0)]
        assert type(client.made["/c"].error) is ConnectFailed

    def test_one_that_the_program_is_connecting(self, base, origin, over) -> None:
        bev = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
        bev.connect(("127.0.0.1", origin.port))
        client = over(HttpConnection.bufferevent_reuse_new(bev))
        client.make()
        origin.accept().send(response())
        client.wait(1)
        assert client.given == [("/", 200)]

    def test_a_pair(self, base, over) -> None:
        ours, theirs = PairBufferEvent.new(base)
        got = []
        theirs.setcb(lambda bev, ctx: got.append(bev.read()), None, None)
        theirs.enable(EV_READ)
        client = over(HttpConnection.bufferevent_reuse_new(ours))
        for _ in range(2):
            client.make()
            client.settle()
            theirs.write(response(body=b"in memory"))
            client.wait(len(client) + 1)
        assert [got.take_body() for _, got in client] == [b"in memory"] * 2
        assert got[0].startswith(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        theirs.close()

    def test_one_is_made_for_each_connection(self, base, over) -> None:
        made = []

        def make():
            ours, theirs = PairBufferEvent.new(base)
            theirs.setcb(lambda bev, ctx: bev.write(response()), None, None)
            theirs.enable(EV_READ)
            made.append((ours, theirs))
            return ours

        client = over(HttpConnection.bufferevent_maker_new(base, make, address="h", port=8080))
        assert made == []
        for name in ("/a", "/b"):
            client.make(name)
            client.wait(len(client) + 1)
        assert len(made) == 1
        made[0][1].close()
        client.settle()
        assert made[0][0].closed
        client.make("/c")
        client.wait(3)
        assert client.given == [("/a", 200), ("/b", 200), ("/c", 200)]
        assert len(made) == 2
        client.connection.close()
        assert made[1][0].closed
        made[1][1].close()

    def test_one_that_was_made_and_is_still_connecting(self, base, origin, over) -> None:
        def make():
            bev = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
            bev.connect(("127.0.0.1", origin.port))
            return bev

        client = over(HttpConnection.bufferevent_maker_new(base, make))
        client.make()
        origin.accept().send(response())
        client.wait(1)
        assert client.given == [("/", 200)]

    @pytest.mark.parametrize("outcome", [OSError("no way"), StateError("no way"), None, "no way"])
    def test_none_is_made(self, base, over, outcome) -> None:
        def make():
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        client = over(HttpConnection.bufferevent_maker_new(base, make))
        client.make()
        client.wait(1)
        assert client.given == [("/", 0)]
        error = client.made["/"].error
        assert type(error) is ConnectFailed
        assert ("None" if outcome is None else "no way") in str(error)

    @pytest.mark.parametrize("over_another", [False, True])
    def test_tls_of_the_programs(self, base, over, authority, trusting, over_another) -> None:  # noqa: F811
        tls_origin = make_tls_origin(base, authority)
        if over_another:
            below = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
            below.connect(("127.0.0.1", tls_origin.port))
            bev = TlsBufferEvent.filter_new(
                below,
                trusting,
                BUFFEREVENT_SSL_CONNECTING,
                BEV_OPT_CLOSE_ON_FREE,
                server_hostname=HOST,
            )
            client = over(HttpConnection.bufferevent_reuse_new(bev))
        else:
            bev = TlsBufferEvent.socket_new(
                base, None, trusting, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE
            )
            connection = HttpConnection.bufferevent_new(bev, Names(), HOST, tls_origin.port)
            client = over(connection)
        for _ in range(2):
            client.make()
            client.wait(len(client) + 1)
        if not over_another:
            client.make("/close", "GET", ("Connection", "close"))
            client.make("/again")
            client.wait(4)
        assert {status for _, status in client.given} == {200}
        tls_origin.close()

    def test_bad_arguments(self, base) -> None:
        with pytest.raises(ArgumentTypeError, match="None"):
            HttpConnection.bufferevent_reuse_new(None)
        with pytest.raises(ArgumentTypeError, match="'made'"):
            HttpConnection.bufferevent_maker_new(base, "made")
        with pytest.raises(ArgumentTypeError, match="'x'"):
            HttpConnection.bufferevent_new("x", None, "127.0.0.1", 80)
        bev = BufferEvent(base)
        with pytest.raises(ArgumentError, match="way"):
            HttpConnection(base, None, "127.0.0.1", 80, tls=True, bufferevent=bev)
        bev.close()


def make_tls_origin(base, authority, host=HOST):  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return TlsOrigin(base, context)


class TestProxy:
    def tunnel(self, base, origin, over, **more):
        proxy = ConnectProxy(
            address="127.0.0.1", port=origin.port, headers=(("Proxy-Authorization", "Basic x"),)
        )
        return over(HttpConnection(base, None, "server.test", 81, proxy=proxy, **more))

    def test_it_asks_for_a_tunnel_and_speaks_in_it(self, base, origin, over) -> None:
        client = self.tunnel(base, origin, over)
        client.make("/a")
        client.make("/b")
        peer = origin.accept()
        line, fields = peer.read_head()
        assert line == "CONNECT server.test:81 HTTP/1.1"
        assert fields == [("Host", "server.test:81"), ("Proxy-Authorization", "Basic x")]
        client.settle()
        assert not peer.received
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Tunnel\r\n\r\n")
        for _ in range(2):
            assert ("Host", "server.test:81") in peer.read_head()[1]
            peer.send(response())
        assert client.given == [("/a", 200), ("/b", 200)]

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (response(status="407 Who are you"), "407 Who are you"),
            (b"nonsense\r\n\r\n", "nonsense"),
            (b"HTTP/1.1 200 OK\r\n\r\nx", "before it is asked"),
            (None, "closed"),
        ],
    )
    def test_a_proxy_that_refuses(self, base, origin, over, answer, text) -> None:
        client = self.tunnel(base, origin, over)
        client.make()
        peer = origin.accept()
        peer.read_head()
        if answer is None:
            peer.close()
        else:
            peer.send(answer)
        client.wait(1)
        error = client.made["/"].error
        assert type(error) is ConnectFailed
        assert text in str(error)

    def test_a_silent_proxy(self, base, origin, over, clock) -> None:
        client = self.tunnel(base, origin, over)
        client.make()
        origin.accept().settle()
        clock.advance(45.0)
        client.wait(1)
        assert type(client.made["/"].error) is ConnectFailed

    @pytest.mark.parametrize("host", [HOST, "other.test"])
    def test_tls_inside(self, base, origin, over, authority, trusting, host) -> None:  # noqa: F811
        proxy = ConnectProxy(address="127.0.0.1", port=origin.port)
        client = over(HttpConnection(base, None, host, 443, tls=trusting, proxy=proxy))
        client.make()
        peer = origin.accept()
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(context)
        # Else the kernel keeps small pieces back until what was sent before is acknowledged.
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        served = TlsBufferEvent.socket_new(base, peer.sock, context, BUFFEREVENT_SSL_ACCEPTING)
        heads = []
        served.setcb(lambda bev, ctx: heads.append(bev.read()), None, lambda *args: None)
        served.enable(EV_READ)
        if host != HOST:
            client.wait(1)
            assert type(client.made["/"].error) is TlsFailed
        else:
            for _ in range(MOST_PASSES):
                if heads:
                    break
                client.settle()
            served.write(response())
            client.wait(1)
            assert client.given == [("/", 200)]
            assert f"Host: {HOST}\r\n".encode() in heads[0]
            assert client.connection.is_idle
            assert not client.connection.has_expired
        served.close()

    @pytest.mark.parametrize("inside", [False, True], ids=["plain", "tls"])
    def test_a_proxy_that_is_spoken_to_in_tls(
        self,
        base,
        over,
        authority,  # noqa: F811
        trusting,  # noqa: F811
        inside,
    ) -> None:
        """And TLS with the server inside of that."""
        proxied = make_tls_origin(base, authority, "proxy.test")
        got, behind = [], []

        def grant(outer, ctx):
            got.append(outer.read())
            outer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            served = outer
            if inside:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                authority.issue_cert(HOST).configure_cert(context)
                served = TlsBufferEvent.filter_new(outer, context, BUFFEREVENT_SSL_ACCEPTING)
            served.setcb(lambda bev, ctx: got.append(bev.read()), None, lambda *args: None)
            served.enable(EV_READ)
            behind.append(served)

        proxied.read = grant
        proxy = ConnectProxy(address="proxy.test", port=proxied.port, tls=trusting)
        tls = trusting if inside else False
        client = over(HttpConnection(base, Names(), HOST, 443, tls=tls, proxy=proxy))
        client.make()
        for _ in range(MOST_PASSES):
            if len(got) > 1:
                break
            client.settle()
        assert got[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n".encode())
        assert got[1].startswith(b"GET / HTTP/1.1\r\n")
        served = behind[0]
        served.write(response())
        client.wait(1)
        assert client.given == [("/", 200)]
        client.connection.close()
        served.close()
        proxied.close()

    def test_bad_arguments(self, base) -> None:
        with pytest.raises(ArgumentError, match="0"):
            ConnectProxy(address="127.0.0.1", port=0)
        with pytest.raises(ArgumentError, match="no host"):
            ConnectProxy(address="no host", port=1)
        with pytest.raises(ArgumentError, match="X Y"):
            ConnectProxy(address="h", port=1, headers=(("X Y", "z"),))
        with pytest.raises(ArgumentTypeError, match="'t'"):
            ConnectProxy(address="h", port=1, tls="t")
        with pytest.raises(ArgumentTypeError, match="'p'"):
            HttpConnection(base, None, "127.0.0.1", 80, proxy="p")
        with pytest.raises(ArgumentError, match="'h'"):
            HttpConnection(base, None, "x", 80, proxy=ConnectProxy(address="h", port=1))


class TestLocal:
    def test_address_and_port(self, client, origin) -> None:
        connection = client.connection
        with held_port() as port:
            connection.set_local_address("127.0.0.1")
            connection.set_local_port(port)
            client.make()
            peer = origin.accept()
            assert peer.sock.getpeername() == ("127.0.0.1", port)
        for setter, value in (("set_local_address", ""), ("set_local_port", 0)):
            with pytest.raises(StateError, match="WAITING"):
                getattr(connection, setter)(value)

    def test_one_that_is_not_ours(self, client) -> None:
        client.connection.set_local_address("192.0.2.1")
        client.make()
        client.wait(1)
        assert type(client.made["/"].error) is ConnectFailed

    def test_bad_arguments(self, client) -> None:
        with pytest.raises(ArgumentError, match="localhost"):
            client.connection.set_local_address("localhost")
        with pytest.raises(ArgumentError, match="65536"):
            client.connection.set_local_port(65536)


class TestFlags:
    @pytest.mark.parametrize("flag", [0, EVHTTP_CON_REUSE_CONNECTED_ADDR])
    def test_reuse_connected_addr(self, base, origin, over, flag) -> None:
        names = Names()
        client = over(HttpConnection(base, names, "name.test", origin.port))
        client.connection.set_flags(flag | EVHTTP_CON_READ_ON_WRITE_ERROR)
        assert client.connection.peer_address is None
        for _ in range(2):
            client.make()
            origin.accept().send(response("Connection: close"))
        assert client.given == [("/", 200)] * 2
        assert client.connection.peer_address == ("127.0.0.1", origin.port)
        assert len(names.asked) == (1 if flag else 2)

    @pytest.mark.parametrize("flags", [1, 0x20, -1])
    def test_others_are_unknown(self, client, flags) -> None:
        with pytest.raises(ArgumentError):
            client.connection.set_flags(flags)


class TestRetries:
    def test_each_waits_twice_as_long(self, connect, origin, clock) -> None:
        origin.stop()
        client = Outcomes(connect())
        client.connection.set_retries(3)
        client.connection.set_initial_retry(0.5)
        client.make()
        for delay in (0.5, 1.0, 2.0):
            client.settle()
            assert client == []
            clock.advance(delay - 0.1)
            client.settle()
            assert client == []
            clock.advance(0.1)
        client.wait(1)
        assert client.given == [("/", 0)]
        assert type(client.made["/"].error) is ConnectFailed

    @pytest.mark.parametrize("retries", [0, 1, 2])
    def test_so_many_as_the_options_say(self, connect, origin, clock, retries) -> None:
        origin.stop()
        options = ClientOptions(connect_retries=retries, connect_retry_s=0.5)
        client = Outcomes(connect(options=options))
        client.make()
        client.settle()
        for number in range(retries):
            assert client == []
            clock.advance(0.5 * 2**number)
            client.settle()
        assert client.given == [("/", 0)]

    def test_the_wait_ends_growing_at_an_hour(self, connect, origin, clock) -> None:
        origin.stop()
        options = ClientOptions(connect_retries=3, connect_retry_s=0.6 * MAX_RETRY_DELAY_S)
        client = Outcomes(connect(options=options))
        client.make()
        client.settle()
        for delay_s in (0.6 * MAX_RETRY_DELAY_S, MAX_RETRY_DELAY_S, MAX_RETRY_DELAY_S):
            clock.advance(delay_s - 1.0)
            client.settle()
            assert client == []
            clock.advance(1.0)
            client.settle()
        assert client.given == [("/", 0)]

    def test_a_server_that_comes_late(self, connect, origin, clock) -> None:
        origin.stop()
        client = Outcomes(connect(options=ClientOptions(connect_retries=-1)))
        client.make("/a")
        client.make("/b")
        for _ in range(5):
            client.settle()
            clock.advance(2.0)
        late = socket.create_server(("127.0.0.1", origin.port))
        late.setblocking(False)
        origin.sock = late
        clock.advance(3600.0)
        peer = origin.accept()
        peer.send(response())
        peer.send(response())
        assert client.given == [("/a", 200), ("/b", 200)]

    def test_a_connection_that_was_had_begins_the_count_anew(
        self, connect, make_origin, clock
    ) -> None:
        origin = make_origin("127.0.0.1")
        options = ClientOptions(connect_retries=2, connect_retry_s=1.0)
        client = Outcomes(connect(options=options, port=origin.port))
        for name in ("/a", "/b"):
            origin.stop()
            client.make(name)
            client.settle()
            clock.advance(1.0)
            client.settle()
            client.make(f"{name}/behind")
            clock.advance(1.9)
            client.settle()
            assert len(client) % 2 == 0, "it waits twice as long before the last attempt"
            origin.sock = socket.create_server(("127.0.0.1", origin.port))
            origin.sock.setblocking(False)
            clock.advance(0.1)
            peer = origin.accept()
            peer.send(response())
            peer.send(response("Connection: close"))
        names = ["/a", "/a/behind", "/b", "/b/behind"]
        assert client.given == [(name, 200) for name in names]

    def test_a_waiting_request_can_be_cancelled(self, connect, origin, clock) -> None:
        origin.stop()
        client = Outcomes(connect(options=ClientOptions(connect_retries=5)))
        request = client.make()
        client.settle()
        request.cancel()
        assert client.connection.is_available
        assert client.connection.base.dispatch() == 1, "nothing is left to wait for"

    def test_bad_arguments(self, client) -> None:
        with pytest.raises(ArgumentError, match="-2"):
            client.connection.set_retries(-2)
        with pytest.raises(ArgumentError, match="0"):
            client.connection.set_initial_retry(0)


class TestFreeOnCompletion:
    def test_after_the_last_answer(self, client, origin) -> None:
        for name in ("/a", "/b"):
            client.make(name, "GET", ("Connection", "close"))
        client.connection.free_on_completion()
        for _ in range(2):
            assert not client.connection.is_closed
            origin.accept().send(response())
        client.wait(2)
        assert client.given == [("/a", 200), ("/b", 200)]
        assert client.connection.is_closed

    def test_a_kept_connection_when_the_server_ends_it(self, client, origin) -> None:
        client.connection.set_idle_cb(lambda connection, arg: None)
        client.make()
        client.connection.free_on_completion()
        peer = origin.accept()
        peer.send(response())
        assert not client.connection.is_closed
        peer.close()
        client.settle()
        assert client.connection.is_closed

    def test_at_once_without_a_request(self, client) -> None:
        client.connection.free_on_completion()
        assert client.connection.is_closed

    def test_a_request_that_fails(self, client, origin) -> None:
        origin.stop()
        client.make()
        client.connection.free_on_completion()
        client.wait(1)
        assert client.connection.is_closed


class TestExchange:
    def test_each_request_may_have_its_own_time(self, client, origin, clock) -> None:
        for name, exchange_s in (("/a", 5.0), ("/b", None), ("/c", 3.0)):
            request = (
                client.make(name) if exchange_s is None else self.make(client, name, exchange_s)
            )
            assert request.connection is client.connection
        origin.accept().settle()
        clock.advance(3.0)
        client.settle()
        assert [name for name, _ in client] == ["/c", "/c"]
        clock.advance(2.0)
        client.settle()
        assert [name for name, _ in client[2:]] == ["/a", "/a"]
        origin.accept().send(response())
        assert client.given[4:] == [("/b", 200)]

    def make(self, client, name, exchange_s):
        request = HttpRequest(lambda got, arg: client.append((arg, got)), name)
        request.set_error_cb(lambda code, arg: client.append((arg, code)))
        client.connection.make_request(request, "GET", name, exchange_s=exchange_s)
        return request

    def test_it_must_be_positive(self, client) -> None:
        with pytest.raises(ArgumentError, match="0"):
            self.make(client, "/", 0)

    def test_requests_need_no_timer_operation(self, connect, origin, monkeypatch) -> None:
        client = Outcomes(connect(options=ClientOptions(exchange_s=100.0)))
        client.make()
        peer = origin.accept()
        peer.send(response())
        moves = []
        monkeypatch.setattr(Deadline, "_arm", lambda *args: moves.append(args))
        for _ in range(5):
            client.make("/x", "POST", body=b"y")
            client.settle()
            peer.send(response())
        assert len(client) == 6
        assert moves == []
