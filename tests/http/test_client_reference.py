"""What libevent's own suite insists on of an HTTP client, against a server and a resolver of ours.

What it asks of single bytes on the wire is in the other tests of the client.
"""

from __future__ import annotations

import socket

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    EV_TIMEOUT,
    EVLOOP_NONBLOCK,
    ArgumentError,
    BufferEvent,
)
from evsvc.dns import DnsServer, Resolver, ResolverOptions
from evsvc.http import (
    EVREQ_HTTP_EOF,
    EVREQ_HTTP_REQUEST_CANCEL,
    ClientOptions,
    ConnectFailed,
    HttpConnection,
    HttpRequest,
    ResolveFailed,
)
from tests.core.tls_ends import contexts
from tests.http.conftest import echo
from tests.http.outcomes import Outcomes
from tests.http.peers import response

METHODS = ("GET", "POST", "CUSTOM")


class Names:
    """A DNS server that knows `four.test` and `six.test`, each with one kind of address."""

    def __init__(self, base) -> None:
        self.asked: list[tuple[str, int]] = []
        self.is_silent = False
        self._server = DnsServer(base, self._answer)
        port = self._server.bind_udp("127.0.0.1", 0).port
        options = ResolverOptions(timeout_s=1.0, attempts=1, cache_entries=0)
        self.resolver = Resolver(base, 0, options=options)
        self.resolver.nameserver_ip_add(f"127.0.0.1:{port}")

    def _answer(self, request, arg) -> None:
        question = request.questions[0]
        name = question.name.lower()
        self.asked.append((name, question.type))
        if self.is_silent:
            request.drop()
            return
        known = {("four.test", 1): ("A", "127.0.0.1"), ("six.test", 28): ("AAAA", "::1")}
        record = known.get((name, question.type))
        if record is not None:
            request.add_text(question.name, 60, *record)
        request.respond(0)

    def close(self) -> None:
        self.resolver.close()
        self._server.close()


@pytest.fixture
def names(base):
    made = Names(base)
    yield made
    made.close()


@pytest.fixture
def reach(base, serve, names):
    """Return `reach(way, cb=echo, options=None, **server)`: a client of a server of ours.

    way: how it comes there: "address", "name", or "name of IPv6" with the hint of its family.
    """
    made = []

    def start(way="address", cb=echo, options=None, **server) -> Outcomes:
        site = serve(cb, allowed_methods=METHODS, **server)
        host = {"address": "127.0.0.1", "name": "four.test", "name of IPv6": "six.test"}[way]
        if way == "name of IPv6":
            site.bound = site.server.bind_socket("::1", 0)
        resolver = None if way == "address" else names.resolver
        connection = HttpConnection(base, resolver, host, site.bound.port, options)
        if way == "name of IPv6":
            connection.set_family(socket.AF_INET6)
        made.append(connection)
        client = Outcomes(connection)
        client.site = site
        return client

    yield start
    for each in made:
        each.close()


def turn(base, times: int = 12) -> None:
    for _ in range(times):
        base.loop(EVLOOP_NONBLOCK)


def later(base, seconds: float, cb) -> None:
    base.once(-1, EV_TIMEOUT, lambda *args: cb(), None, seconds)


class TestTwoRequests:
    @pytest.mark.parametrize("way", ["address", "name", "name of IPv6"])
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("stays", [True, False])
    def test_on_one_connection_object(self, reach, names, way, method, stays) -> None:
        client = reach(way)
        served = []
        client.site.server.set_newreqcb(lambda got, arg: served.append(got.connection) or 0)
        fields = [] if stays else [("Connection", "close")]
        for name in ("/a", "/b"):
            client.make(name, method, *fields, body=b"" if method == "GET" else b"body")
        client.wait(2)
        assert client.given == [("/a", 200), ("/b", 200)]
        body = bytes(client.made["/b"].input_buffer)
        assert body == (b"GET /b 1 0 " if method == "GET" else b"%b /b 1 4 body" % method.encode())
        assert len(set(served)) == (1 if stays else 2)
        if way == "name of IPv6":
            assert {rdtype for _, rdtype in names.asked} == {28}

    def test_the_second_is_not_sent_before_the_first_is_answered(self, reach) -> None:
        client = reach(cb=None)
        client.make("/a")
        client.make("/b")
        client.settle()
        assert [got.uri for got in client.site.requests] == ["/a"]
        client.site.requests[0].send_reply(200)
        client.wait(1)
        client.settle()
        assert [got.uri for got in client.site.requests] == ["/a", "/b"]

    def test_free_on_completion_leaves_nobody_on_the_server(self, base, reach) -> None:
        client = reach()
        for name in ("/a", "/b"):
            client.make(name, "GET", ("Connection", "close"))
        client.connection.free_on_completion()
        client.wait(2)
        turn(base)
        assert client.given == [("/a", 200), ("/b", 200)]
        assert client.connection.is_closed
        assert client.site.server.connection_count == 0

    def test_a_server_that_ends_a_kept_connection_is_connected_to_again(
        self, base, reach, clock
    ) -> None:
        client = reach(idle_s=0.1)
        ends = []
        client.connection.set_closecb(lambda *args: ends.append(len(client)))
        client.make("/a")
        client.wait(1)
        later(base, 0.6, lambda: client.make("/b"))
        clock.advance(0.1)
        turn(base)
        assert ends == [1]
        assert client.connection.bufferevent is None
        clock.advance(0.5)
        client.wait(2)
        assert client.given == [("/a", 200), ("/b", 200)]


class TestCancel:
    """At 100 ms, in each stage: only the error callback hears of it, and the next request goes."""

    @pytest.mark.parametrize("way", ["address", "name"])
    def test_while_the_server_is_slow(self, base, reach, clock, way) -> None:
        client = reach(way, cb=None)
        request = client.make("/a")
        client.make("/queued")
        later(base, 0.1, request.cancel)
        client.settle()
        assert [got.uri for got in client.site.requests] == ["/a"]
        client.site.server.set_gencb(echo)
        clock.advance(0.1)
        client.wait(1)
        assert client[0] == ("/a", EVREQ_HTTP_REQUEST_CANCEL)
        client.make("/b")
        client.wait(3)
        assert client.given[1:] == [("/queued", 200), ("/b", 200)]

    @pytest.mark.parametrize("is_dead", [True, False])
    def test_while_the_name_is_looked_up(self, base, reach, names, clock, is_dead) -> None:
        client = reach("name")
        names.is_silent = True
        request = client.make("/a")
        later(base, 0.1, request.cancel)
        client.settle()
        assert names.asked
        clock.advance(0.1)
        client.wait(1)
        assert client == [("/a", EVREQ_HTTP_REQUEST_CANCEL)]
        names.is_silent = is_dead
        client.make("/b")
        if is_dead:
            client.settle()
            clock.advance(30.0)
            client.wait(3)
            assert client[1:] == [("/b", EVREQ_HTTP_EOF), ("/b", None)]
            assert type(client.made["/b"].error) is ResolveFailed
        else:
            client.wait(2)
            assert client.given[1:] == [("/b", 200)]

    @pytest.mark.parametrize("comes_back", [True, False])
    def test_while_it_connects(self, base, origin, clock, comes_back) -> None:
        """To a server that takes the connection, and does not shake hands."""
        context, _ = contexts()
        with HttpConnection(base, None, "127.0.0.1", origin.port, tls=context) as connection:
            client = Outcomes(connection)
            request = client.make("/a")
            later(base, 0.1, request.cancel)
            first = origin.accept()
            clock.advance(0.1)
            client.wait(1)
            assert client == [("/a", EVREQ_HTTP_REQUEST_CANCEL)]
            assert not first.is_open()
            if comes_back:
                client.make("/b")
                origin.accept()
                assert client.given[1:] == []
            else:
                origin.stop()
                client.make("/b")
                client.wait(2)
                assert client.given[1:] == [("/b", 0)]


class TestNobodyThere:
    @pytest.mark.parametrize("closes", [True, False])
    def test_an_address_that_nobody_can_have(self, base, closes) -> None:
        """A multicast group: the kernel refuses it, and nothing leaves the machine.

        It is told as any refusal is; libevent calls back with NULL.
        """
        connection = HttpConnection(base, None, "239.10.20.30", 8)
        told = []

        def done(got, arg) -> None:
            told.append(got)
            if closes:
                connection.close()

        connection.make_request(HttpRequest(done), "GET", "/")
        turn(base)
        assert len(told) == 1
        assert told[0].response_code == 0
        assert connection.is_closed is closes
        connection.close()

    @pytest.mark.parametrize(("retries", "seconds"), [(0, 0.0), (1, 0.5), (3, 3.5)])
    def test_a_refusal_is_told_when_the_retries_are_used_up(
        self, base, connect, origin, clock, retries, seconds
    ) -> None:
        origin.stop()
        client = Outcomes(connect())
        client.connection.set_retries(retries)
        client.connection.set_initial_retry(0.5)
        client.connection.set_closecb(lambda *args: pytest.fail("it never was connected"))
        begun_at = clock.monotonic()
        for name in ("/a", "/b"):
            client.make(name)
        base.dispatch()
        assert clock.monotonic() - begun_at == pytest.approx(seconds, abs=0.01)
        assert client.given == [("/a", 0), ("/b", 0)]
        got = client.made["/a"]
        assert type(got.error) is ConnectFailed
        assert got.input_headers.find("Content-Type") is None
        assert (len(got.input_headers), len(got.input_buffer)) == (0, 0)

    def test_a_server_that_appears_between_two_attempts_is_found(
        self, base, connect, origin, clock
    ) -> None:
        origin.stop()
        client = Outcomes(connect(options=ClientOptions(connect_retries=3, connect_retry_s=0.5)))
        begun_at = clock.monotonic()

        def appear() -> None:
            origin.sock = socket.create_server(("127.0.0.1", origin.port))
            origin.sock.setblocking(False)

        client.make("/a")
        later(base, 0.2, appear)
        later(base, 0.3, lambda: client.make("/b"))
        later(base, 0.6, base.loopbreak)
        base.dispatch()
        peer = origin.accept()
        for _ in range(2):
            peer.send(response())
        assert client.given == [("/a", 200), ("/b", 200)]
        times = client.connection.connect_times
        assert times.began_at - begun_at == pytest.approx(0.5, abs=0.01)

    def test_a_request_is_the_programs_when_its_connection_was_refused(
        self, connect, origin
    ) -> None:
        origin.stop()
        client = Outcomes(connect())
        request = client.make("/a", "PUT", ("X-A", "b"), body=b"kept")
        client.wait(1)
        client.connection.close()
        assert client == [("/a", request)]
        assert request.connection is None
        assert request.output_headers.find("x-a") == "b"
        request.cancel()
        assert len(client) == 1


class TestTimes:
    def test_they_are_libevents(self) -> None:
        options = ClientOptions()
        assert (options.connect_s, options.read_s, options.write_s) == (45.0, 50.0, 50.0)
        assert (options.connect_retries, options.connect_retry_s) == (0, 2.0)

    def test_each_phase_has_its_own(self, base, reach, clock) -> None:
        """An answer that takes longer than connecting, or sending, may take."""

        def answer(got, arg) -> None:
            later(base, 0.2, lambda: got.send_reply(200))

        client = reach(cb=answer, options=ClientOptions(connect_s=0.1, write_s=0.1, read_s=0.5))
        client.make("/a")
        client.settle()
        clock.advance(0.2)
        client.settle()
        assert client.given == [("/a", 200)]

    def test_set_timeout_is_not_for_connecting(self, connect) -> None:
        connection = connect()
        connection.set_timeout(7.0)
        options = connection.options
        assert (options.connect_s, options.read_s, options.write_s) == (45.0, 7.0, 7.0)
        for wrong in (0, -1):
            with pytest.raises(ArgumentError, match=str(wrong)):
                connection.set_timeout(wrong)
        assert connection.options == options


class TestEnd:
    def test_the_close_callback_may_ask_who_the_peer_was(self, reach) -> None:
        client = reach("name")
        connection, seen = client.connection, []

        def ended(connection, arg) -> None:
            seen.append((connection.peer, connection.peer_address, arg))

        connection.set_closecb(ended, "arg")
        assert connection.peer_address is None
        client.make("/a")
        client.wait(1)
        port = client.site.bound.port
        connection.close()
        assert seen == [(("four.test", port), ("127.0.0.1", port), "arg")]
        assert connection.peer_address == ("127.0.0.1", port)

    def test_close_drops_all_requests_and_tells_of_itself_alone(self, base, reach) -> None:
        client = reach(cb=None)
        ends = []
        client.connection.set_closecb(lambda *args: ends.append(args))
        for name in ("/a", "/b"):
            client.make(name)
        client.settle()
        client.connection.close()
        turn(base)
        assert client == []
        assert len(ends) == 1
        assert client.site.server.connection_count == 1, "it hears of it when it answers"


class TestBody:
    def test_the_pieces_are_the_body_and_nothing_is_left(self, base, reach, clock) -> None:
        pieces = [b"This is funny", b"but not hilarious.", b"bwv 1052"]

        def answer(got, arg) -> None:
            got.send_reply_start(200)
            for number, piece in enumerate(pieces):
                later(base, 0.1 * (number + 1), lambda piece=piece: got.send_reply_chunk(piece))
            later(base, 0.4, got.send_reply_end)

        client = reach(cb=answer)
        request, taken, left = HttpRequest(), [], []
        request.callback = lambda got, arg: left.append(len(got.input_buffer))
        request.set_chunked_cb(lambda got, arg: taken.append(bytes(got.input_buffer)))
        client.connection.make_request(request, "GET", "/chunked")
        for _ in range(6):
            client.settle()
            clock.advance(0.1)
        client.settle()
        assert (taken, left) == (pieces, [0])
        assert request.response_code == 200

    def test_a_chunk_callback_that_cancels_ends_it(self, reach) -> None:
        def answer(got, arg) -> None:
            got.send_reply_start(200)
            got.send_reply_chunk(b"one")

        client = reach(cb=answer)
        request = HttpRequest(lambda got, arg: client.append("completed"))
        request.set_error_cb(lambda code, arg: client.append(code))
        request.set_chunked_cb(lambda got, arg: got.cancel())
        client.connection.make_request(request, "GET", "/")
        client.wait(1)
        client.settle()
        assert client == [EVREQ_HTTP_REQUEST_CANCEL]


class TestCarrier:
    def test_one_that_is_connected_keeps_its_descriptor_and_is_used_once(self, base, serve) -> None:
        site = serve(echo)
        sock = socket.create_connection((site.bound.address, site.bound.port))
        sock.setblocking(False)
        fd = sock.fileno()
        bufferevent = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        with HttpConnection.bufferevent_reuse_new(bufferevent) as connection:
            client = Outcomes(connection)
            client.make("/a")
            client.wait(1)
            assert connection.bufferevent is bufferevent
            assert bufferevent.fd == fd
            client.make("/b", "GET", ("Connection", "close"))
            client.wait(2)
            assert client.given == [("/a", 200), ("/b", 200)]
            client.make("/c")
            client.wait(3)
            assert client.given[2:] == [("/c", 0)]
            assert type(client.made["/c"].error) is ConnectFailed
