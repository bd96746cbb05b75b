"""Looking names up, connecting, and failing to."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import (
    EV_TIMEOUT,
    ArgumentError,
    EventBase,
    StateError,
)
from evsvc.core.resolver import EVUTIL_EAI_NONAME, AddrInfo
from evsvc.http import ClientOptions, HttpRequest
from evsvc.http.errors import (
    EVREQ_HTTP_EOF,
    EVREQ_HTTP_REQUEST_CANCEL,
    ConnectFailed,
    ResolveFailed,
)
from tests.http.outcomes import Outcomes
from tests.http.peers import Peer, response


class TestConnecting:
    def test_refused_gives_every_request_with_code_0_and_no_error_callback(
        self, client, origin
    ) -> None:
        origin.stop()
        for name in ("/a", "/b"):
            client.make(name)
        assert client == [], "never before the return"
        client.wait(2)
        for name in ("/a", "/b"):
            got = client.made[name]
            assert (name, got) in client
            assert (got.response_code, len(got.input_headers), len(got.input_buffer)) == (0, 0, 0)
            assert type(got.error) is ConnectFailed
            assert got.connection is None
        assert client.made["/a"].error is not client.made["/b"].error

    def test_no_connection_in_time_is_the_same(self, connect, clock) -> None:
        client = Outcomes(connect("name", Silent(), ClientOptions(connect_s=5.0)))
        client.make("/a")
        clock.advance(4.9)
        client.settle()
        assert client == []
        clock.advance(0.1)
        client.wait(1)
        assert client == [("/a", client.made["/a"])]
        assert client.made["/a"].response_code == 0
        assert type(client.made["/a"].error) is ConnectFailed

    def test_a_callback_may_make_requests_again(self, client, origin) -> None:
        origin.stop()

        def again(got, arg):
            client.append((arg, got.response_code))
            if arg:
                client.connection.make_request(HttpRequest(again, arg - 1), "GET", "/")

        client.connection.make_request(HttpRequest(again, 2), "GET", "/")
        client.wait(3)
        assert client == [(2, 0), (1, 0), (0, 0)]

    @pytest.mark.parametrize("how", ["close", "cancel"])
    def test_a_callback_may_close_or_cancel_the_others(self, client, origin, how) -> None:
        origin.stop()
        requests = []

        def end(got, arg):
            client.append(arg)
            if how == "close":
                client.connection.close()
            else:
                requests[1].cancel()

        requests += [HttpRequest(end, number) for number in range(3)]
        for request in requests:
            client.connection.make_request(request, "GET", "/")
        client.wait()
        client.settle()
        assert client == ([0] if how == "close" else [0, 2])
        assert all(request.connection is None for request in requests)

    def test_one_that_raises_does_not_keep_the_others(self, base, client, origin) -> None:
        caught = []
        base.exception_handler = caught.append

        def fail(got, arg):
            client.append(arg)
            raise ValueError(arg)

        origin.stop()
        for number in range(3):
            client.connection.make_request(HttpRequest(fail, number), "GET", "/")
        client.wait(3)
        assert client == [0, 1, 2]
        assert [exc.args for exc in caught] == [(0,), (1,), (2,)]

    def test_after_a_failure_the_next_request_connects_anew(self, client, origin, base) -> None:
        origin.stop()
        client.make("/a")
        client.wait(1)
        assert client[0][1].response_code == 0
        with socket.create_server(("127.0.0.1", origin.port)) as again:
            client.make("/b")
            sock, _ = again.accept()
            with sock:
                Peer(base, sock).send(response())
        assert client[1] == ("/b", client.made["/b"])
        assert client[1][1].response_code == 200


class Silent:
    """A resolver that does not answer."""

    def __init__(self) -> None:
        self.cancelled = 0

    def getaddrinfo(self, host, port, hints, cb, arg=None):
        self.cb = cb
        self.asked = (host, port, hints.family)
        return self

    def cancel(self) -> None:
        self.cancelled += 1


class Dictionary:
    """A resolver around a dictionary; answers at once, or from the loop."""

    def __init__(self, base: EventBase, names: dict[str, str], later: bool) -> None:
        self.base = base
        self.names = names
        self.later = later

    def getaddrinfo(self, host, port, hints, cb, arg=None):
        def answer(*ignored) -> None:
            if host not in self.names:
                cb(EVUTIL_EAI_NONAME, [], arg)
                return
            address = (self.names[host], port)
            family = socket.AF_INET6 if ":" in self.names[host] else socket.AF_INET
            cb(0, [AddrInfo(family, socket.SOCK_STREAM, 0, "", address)], arg)

        if self.later:
            self.base.once(-1, EV_TIMEOUT, answer, None, 1.0)
            return self
        answer()
        return None

    def cancel(self) -> None:
        raise AssertionError("nothing is cancelled here")


class TestResolving:
    @pytest.mark.parametrize("later", [False, True])
    def test_a_name_is_looked_up(self, base, connect, origin, clock, later) -> None:
        resolver = Dictionary(base, {"example.com": "127.0.0.1"}, later)
        client = Outcomes(connect("example.com", resolver))
        client.make()
        clock.advance(1)
        peer = origin.accept()
        assert peer.read_message().field("Host") == f"example.com:{origin.port}"
        peer.send(response())
        assert client == [("/", client.made["/"])]

    def test_ipv6(self, base, connect, make_origin) -> None:
        origin = make_origin("::1")
        resolver = Dictionary(base, {"example.com": "::1"}, later=False)
        client = Outcomes(connect("example.com", resolver, port=origin.port))
        client.make()
        origin.accept().send(response())
        assert client == [("/", client.made["/"])]

    @pytest.mark.parametrize("later", [False, True])
    def test_an_unknown_name_fails_every_request(self, base, connect, clock, later) -> None:
        client = Outcomes(connect("example.net", Dictionary(base, {}, later)))
        client.make("/a")
        client.make("/b")
        assert client == [], "never before the return"
        clock.advance(1)
        client.wait(4)
        assert client == [
            ("/a", EVREQ_HTTP_EOF),
            ("/a", None),
            ("/b", EVREQ_HTTP_EOF),
            ("/b", None),
        ]
        assert type(client.made["/a"].error) is ResolveFailed

    @pytest.mark.parametrize("kind", [StateError, ArgumentError, OSError])
    def test_a_resolver_that_raises_fails_the_request_from_the_loop(self, connect, kind) -> None:
        class Raising:
            def getaddrinfo(self, *args):
                raise kind("no, thanks")

        client = Outcomes(connect("example.net", Raising()))
        client.make()
        assert client == []
        client.wait(2)
        assert client == [("/", EVREQ_HTTP_EOF), ("/", None)]
        assert "no, thanks" in str(client.made["/"].error)

    def test_the_family_is_handed_on(self, connect) -> None:
        resolver = Silent()
        client = Outcomes(connect("example.net", resolver))
        client.connection.set_family(socket.AF_INET6)
        client.make()
        assert resolver.asked[2] == socket.AF_INET6

    @pytest.mark.parametrize("how", ["cancel", "close"])
    def test_giving_up_cancels_the_look_up(self, connect, how) -> None:
        resolver = Silent()
        client = Outcomes(connect("example.net", resolver))
        request = client.make()
        if how == "cancel":
            request.cancel()
        else:
            client.connection.close()
        assert resolver.cancelled == 1
        assert client == ([("/", EVREQ_HTTP_REQUEST_CANCEL)] if how == "cancel" else [])
