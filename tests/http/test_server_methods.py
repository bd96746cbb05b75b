"""Which methods are answered, by names of the program's own, too; and what answers before it."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.http import (
    EVHTTP_REQ_GET,
    EVHTTP_REQ_OPTIONS,
    LocalProtocolError,
    Method,
    ServerOptions,
)
from tests.http.conftest import echo
from tests.http.peers import request

EXTENDED = ["PROPFIND", "PROPPATCH", "MKCOL", "LOCK", "UNLOCK", "COPY", "MOVE", "PATCH", "DELETE"]


class TestAllowed:
    @pytest.mark.parametrize("name", [*EXTENDED, "PUT", "POST", "OPTIONS"])
    def test_every_method_of_libevents_is_answered_by_its_bit(self, serve, name) -> None:
        site = serve(echo, allowed_methods=Method[f"EVHTTP_REQ_{name}"])
        reply = site.connect().ask(request("/x", method=name, body=b"body"))
        assert reply.body == f"{name} /x 1 4 body".encode()

    @pytest.mark.parametrize("name", ["CUSTOM", "REPORT", "x", "a-b!c", "M-SEARCH"])
    def test_a_method_of_ones_own_is_answered_by_its_name(self, serve, name) -> None:
        site = serve(echo, allowed_methods=["GET", name])
        seen = []
        site.server.set_gencb(lambda got, arg: (seen.append(got.command), echo(got, arg)))
        peer = site.connect()
        assert peer.ask(request("/", method=name, body=b"b")).body == f"{name} / 1 1 b".encode()
        assert peer.ask(request("/", method=name)).status == 200
        assert peer.ask(request("/", method=name.swapcase())).status == 501
        assert peer.ask(request("/", method="POST")).status == 501
        assert seen == [None, None]

    def test_they_can_change_while_it_serves(self, serve) -> None:
        site = serve(echo)
        peer = site.connect()
        site.server.set_allowed_methods({"CUSTOM"})
        assert peer.ask(request("/", method="CUSTOM")).status == 200
        assert peer.ask(request("/")).status == 501
        site.server.set_allowed_methods(EVHTTP_REQ_GET)
        assert peer.ask(request("/", method="CUSTOM")).status == 501

    @pytest.mark.parametrize("wrong", [0, 1 << 30, [], ["GET", ""], ["a b"], ["é"], ["A\r\n"], [5]])
    def test_what_is_no_method_is_refused(self, serve, wrong) -> None:
        with pytest.raises(ArgumentError):
            ServerOptions(allowed_methods=wrong)
        with pytest.raises(ArgumentError):
            serve().server.set_allowed_methods(wrong)

    @pytest.mark.parametrize("wrong", ["GET", None, 5.0])
    def test_one_text_is_not_several(self, wrong) -> None:
        with pytest.raises(ArgumentTypeError):
            ServerOptions(allowed_methods=wrong)


class TestOptions:
    def test_a_path_with_methods_tells_them(self, serve) -> None:
        site = serve(allowed_methods=EVHTTP_REQ_GET | EVHTTP_REQ_OPTIONS)
        site.server.set_cb("/p", echo, methods=("GET", "PUT"))
        peer = site.connect()
        reply = peer.ask(request("/p", method="OPTIONS"), has_body=False)
        assert (reply.status, reply.field("Allow")) == (204, "GET, HEAD, OPTIONS, PUT")
        assert peer.ask(request("/p", method="DELETE")).status == 501
        assert peer.get("/p").status == 200

    def test_a_path_may_answer_it_itself(self, serve) -> None:
        site = serve(allowed_methods=EVHTTP_REQ_OPTIONS)
        site.server.set_cb("/p", echo, methods=("OPTIONS",))
        assert site.connect().ask(request("/p", method="OPTIONS")).body == b"OPTIONS /p 1 0 "

    def test_the_server_tells_its_own_where_nobody_answers(self, serve) -> None:
        site = serve(allowed_methods=EVHTTP_REQ_GET | EVHTTP_REQ_OPTIONS)
        site.server.set_gencb(None)
        peer = site.connect()
        reply = peer.ask(request("*", method="OPTIONS"), has_body=False)
        assert (reply.status, reply.field("Allow")) == (204, "GET, OPTIONS")
        assert peer.ask(request("/p", method="OPTIONS")).status == 404

    def test_where_it_is_not_allowed_it_is_unknown(self, serve) -> None:
        site = serve()
        site.server.set_cb("/p", echo, methods=("GET",))
        assert site.connect().ask(request("/p", method="OPTIONS")).status == 501


class TestInformation:
    def test_it_comes_before_the_reply(self, serve) -> None:
        sent = []

        def answer(got, arg):
            sent.append(got.send_information(103, ("Link", "</a.css>; rel=preload")))
            sent.append(got.send_information(102))
            sent.append(got.send_information(199, ("X", "y")))
            got.send_reply(200, None, b"body")

        peer = serve(answer).connect()
        for _ in range(2):
            peer.send(request("/"))
            line, fields = peer.read_head()
            assert line == "HTTP/1.1 103 Early Hints"
            assert fields == [("Link", "</a.css>; rel=preload")]
            assert peer.read_head() == ("HTTP/1.1 102 Processing", [])
            assert peer.read_head() == ("HTTP/1.1 199 Informational", [("X", "y")])
            assert peer.read_message().body == b"body"
        assert sent == [True] * 6

    def test_it_may_come_long_before_and_before_a_stream(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        (got,) = site.requests
        got.send_information(103)
        assert peer.read_head()[0] == "HTTP/1.1 103 Early Hints"
        got.send_reply_start(200)
        got.send_reply_chunk(b"x")
        with pytest.raises(LocalProtocolError):
            got.send_information(103)
        got.send_reply_end()
        assert peer.read_message().body == b"x"
        with pytest.raises(LocalProtocolError):
            got.send_information(103)

    def test_a_client_of_1_0_gets_none(self, serve) -> None:
        sent = []

        def answer(got, arg):
            sent.append(got.send_information(103))
            got.send_reply(200)

        reply = serve(answer).connect().get("/", version="1.0")
        assert (reply.status, sent) == (200, [False])

    def test_nor_does_one_that_has_gone(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        peer.reset()
        assert site.requests[0].send_information(103) is False

    @pytest.mark.parametrize("code", [99, 100, 101, 200])
    def test_only_102_to_199_are_the_programs(self, serve, code) -> None:
        site = serve()
        site.connect().send(request("/"))
        with pytest.raises(ArgumentError, match=str(code)):
            site.requests[0].send_information(code)

    @pytest.mark.parametrize(
        "field", [("Content-Length", "1"), ("Transfer-Encoding", "chunked"), ("A", "b\r\nC: d")]
    )
    def test_a_field_that_does_not_fit_is_refused(self, serve, field) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        with pytest.raises(ArgumentError):
            site.requests[0].send_information(103, field)
        site.requests[0].send_reply(200)
        assert peer.read_message().status == 200


class TestParsedUri:
    def test_the_target_in_its_parts(self, serve) -> None:
        site = serve(allowed_methods=["GET", "CONNECT"])
        peer = site.connect()
        for target, parts in {
            "/a/b?c=d": (None, None, -1, "/a/b", "c=d"),
            "http://host:8/p": ("http", "host", 8, "/p", None),
        }.items():
            peer.send(request(target))
            uri = site.requests[-1].parsed_uri
            assert (uri.scheme, uri.host, uri.port, uri.path, uri.query) == parts
            site.requests[-1].send_reply(204)
        peer.send(b"CONNECT host:443 HTTP/1.1\r\nHost: host:443\r\n\r\n")
        uri = site.requests[-1].parsed_uri
        assert (uri.host, uri.port) == ("host", 443)
