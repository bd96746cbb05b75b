"""Whole applications below a prefix: which requests they get, and how bodies come to them."""

from __future__ import annotations

from typing import Any

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.http import Headers, ServerRequest
from evsvc.http.errors import ClientGone, comes_of_gone_client
from evsvc.http.server.mounting import METHODS, mount
from tests.http.peers import request


class Application:
    """Keeps how bodies have come, and answers with the root that it was mounted at."""

    def __init__(self) -> None:
        self.ways: list[object] = []

    def __call__(self, got: ServerRequest, root: Any) -> None:
        if not got.streams_body:
            self.ways.append(got.take_body())
            self.answer(got, True, root)
        else:
            self.ways.append("streams")
            got.set_body_cbs(lambda *piece: None, self.answer, root)

    def answer(self, got: ServerRequest, is_whole: bool, root: Any) -> None:
        if is_whole:
            got.send_reply(200, None, f"root {root}".encode())


@pytest.fixture
def mounted(serve):
    """Return `mounted(prefix, **options)`: an application, and a client of its server."""

    def make(prefix: str, **options: Any) -> tuple[Application, Any]:
        site = serve(**options)
        application = Application()
        mount(site.server, prefix, application, METHODS)
        return application, site.connect()

    return make


def test_a_body_that_comes_with_its_head_is_given_whole(mounted) -> None:
    application, peer = mounted("/app/")
    assert peer.ask(request("/app/x", method="POST", body=b"abc")).body == b"root /app"
    assert peer.get("/app").body == b"root /app"
    assert application.ways == [b"abc", b""]


def test_any_other_streams(mounted) -> None:
    application, peer = mounted("/")
    data = request("/x", method="PUT", body=b"abc")
    peer.send(data[:-1])
    peer.send(data[-1:])
    assert peer.read_message().body == b"root "
    chunked = request("/x", "Transfer-Encoding: chunked", method="PATCH")
    assert peer.ask(chunked + b"1\r\na\r\n0\r\n\r\n").body == b"root "
    assert application.ways == ["streams", "streams"]


@pytest.mark.parametrize(("size", "status"), [(4, 200), (5, 413)])
def test_the_limit_of_streams_holds_for_whole_bodies(mounted, size: int, status: int) -> None:
    _, peer = mounted("/", max_stream_bytes=4)
    assert peer.ask(request("/", method="POST", body=b"x" * size)).status == status


def test_a_prefix_that_cannot_be_had_changes_nothing(serve) -> None:
    server = serve().server
    application = Application()
    server.set_cb("/taken", application)
    for prefix in ("/taken/", "bare/", "/bare"):
        with pytest.raises(ArgumentError, match=prefix.strip("/")):
            mount(server, prefix, application, METHODS)
    server.del_cb("/taken")
    mount(server, "/taken/", application, METHODS)
    with pytest.raises(ArgumentTypeError):
        mount(server, "/other/", 5, METHODS)  # type: ignore[arg-type]


def test_output_headers_may_be_set_whole(ask) -> None:
    def answer(got: ServerRequest) -> None:
        got.output_headers.add("X-First", "1")
        got.output_headers = Headers((("X-Second", "2"),))
        got.send_reply(200, None, b"")

    reply = ask(answer)
    assert (reply.field("X-First"), reply.field("X-Second")) == (None, "2")


def test_what_comes_of_a_client_that_has_gone() -> None:
    gone, other = ClientGone("gone"), KeyError("other")
    wrapped = ValueError("wrapped")
    wrapped.__context__ = RuntimeError("between")
    wrapped.__context__.__cause__ = gone
    assert comes_of_gone_client(gone)
    assert comes_of_gone_client(wrapped)
    assert not comes_of_gone_client(other)
    other.__context__ = other
    assert not comes_of_gone_client(other)
