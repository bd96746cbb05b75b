"""HttpTestClient: handlers are asked without a socket."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from evsvc.core import EV_TIMEOUT, EventBase, FakeClock, StateError
from evsvc.http import (
    HttpServer,
    LocalProtocolError,
    ServerOptions,
    ServerRequest,
)
from evsvc.http.errors import ConnectFailed, ConnectionClosed
from evsvc.testing import HttpTestClient, NothingHappened, run_until
from evsvc.testing.http import PEER


def echo(request: ServerRequest, arg: object) -> None:
    request.output_headers.add("X-Said", request.input_headers.find("X-Say") or "-")
    text = f"{request.method} {request.uri} {request.host} {request.remote_host} "
    request.send_reply(200, None, text.encode() + bytes(request.input_buffer))


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch, event_base: EventBase) -> None:
    """From here on nobody gets a new one."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(socket.socket, "__init__", refuse)


def test_an_answer_has_all_of_its_parts(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    http_server.set_gencb(echo)
    response = http_client.get("/a?b=c", headers={"X-Say": "hello"})
    assert (response.status, response.reason, response.ok) == (200, "OK", True)
    assert response.headers.find("X-Said") == "hello"
    assert response.text() == f"GET /a?b=c testserver {PEER[0]} "
    assert response.error is None


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_a_body_is_sent(http_server: HttpServer, http_client: HttpTestClient, method: str) -> None:
    http_server.set_gencb(echo)
    response = getattr(http_client, method)("/", body="text \N{SNOWMAN}")
    assert response.body.decode().endswith("text \N{SNOWMAN}")
    assert http_client.request(method.upper(), "/", body=b"\0").body.endswith(b"\0")


def test_json_goes_both_ways(http_server: HttpServer, http_client: HttpTestClient) -> None:
    def give_back(request: ServerRequest, arg: object) -> None:
        assert request.input_headers.find("Content-Type") == "application/json"
        request.send_reply(200, None, request.input_buffer)

    http_server.set_gencb(give_back)
    assert http_client.post("/", json={"a": [1, None]}).json() == {"a": [1, None]}


def test_head_has_no_body(http_server: HttpServer, http_client: HttpTestClient) -> None:
    http_server.set_gencb(echo)
    response = http_client.head("/")
    assert response.body == b""
    assert int(response.headers.find("Content-Length") or 0) > 0


def test_a_later_answer_takes_no_time(
    http_server: HttpServer,
    http_client: HttpTestClient,
    event_base: EventBase,
    fake_clock: FakeClock,
) -> None:
    def later(request: ServerRequest, arg: object) -> None:
        event_base.once(-1, EV_TIMEOUT, lambda fd, what, arg: request.send_reply(200), timeout=30.0)

    http_server.set_gencb(later)
    started = fake_clock.monotonic()
    assert http_client.get("/").status == 200
    assert fake_clock.monotonic() - started == 30.0


def test_a_handler_that_never_answers_is_told(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    http_server.set_gencb(lambda request, arg: None)
    with pytest.raises(NothingHappened, match="an answer to GET /never has not come within 60 s"):
        http_client.get("/never")
    http_server.set_gencb(echo)
    assert http_client.get("/").status == 200  # on another connection


def test_a_handler_that_raises_is_answered_500(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    http_server.set_gencb(lambda request, arg: 1 / 0)
    assert http_client.get("/").status == 500


def test_a_connection_that_is_ended_raises(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    def cut(request: ServerRequest, arg: object) -> None:
        assert request.connection is not None
        request.connection.close()

    http_server.set_gencb(cut)
    with pytest.raises(ConnectionClosed):
        http_client.post("/", body=b"x")


def test_the_connection_is_kept_and_made_anew_when_it_has_ended(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    seen: list[Any] = []

    def note(request: ServerRequest, arg: object) -> None:
        seen.append(request.connection)
        if request.path == "/last":
            request.output_headers.add("Connection", "close")
        request.send_reply(204)

    http_server.set_gencb(note)
    for target in ("/", "/", "/last", "/"):
        assert http_client.get(target).status == 204
    assert seen[0] is seen[1] is seen[2]
    assert seen[3] is not seen[2]


def test_the_server_s_limits_are_real(event_base: EventBase) -> None:
    with HttpServer(event_base, ServerOptions(max_connections=1)) as server:
        server.set_gencb(echo)
        server.set_max_body_size(10)
        with HttpTestClient(server) as client:
            assert client.post("/", body=b"x" * 10).status == 200
            assert client.post("/", body=b"x" * 11).status == 413


def test_host_and_peer_are_what_the_test_says(http_server: HttpServer) -> None:
    http_server.set_gencb(echo)
    with HttpTestClient(http_server, host="www.test", peer=("2001:db8::1", 1)) as client:
        assert client.get("/").text() == "GET / www.test 2001:db8::1 "


def test_a_request_is_sent_once_though_its_kept_connection_is_cut(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    asked: list[str] = []

    def cut_the_second(request: ServerRequest, arg: object) -> None:
        asked.append(request.path)
        if len(asked) == 2:
            assert request.connection is not None
            request.connection.close()
        else:
            request.send_reply(200)

    http_server.set_gencb(cut_the_second)
    assert http_client.get("/a").status == 200
    with pytest.raises(ConnectionClosed):
        http_client.get("/b")
    assert http_client.get("/c").status == 200
    assert asked == ["/a", "/b", "/c"]


@pytest.mark.parametrize("away_s", [4.5, 5.0, 5.5, 5000.0])
def test_a_connection_that_was_idle_too_long_is_another_one(
    event_base: EventBase, fake_clock: FakeClock, away_s: float
) -> None:
    seen: list[object] = []

    def note(request: ServerRequest, arg: object) -> None:
        seen.append(request.connection)
        request.send_reply(204)

    with (
        HttpServer(event_base, ServerOptions(idle_s=5.0)) as server,
        HttpTestClient(server) as client,
    ):
        server.set_gencb(note)
        assert client.get("/").status == 204
        fake_clock.advance(away_s)
        assert client.post("/").status == 204
    assert (seen[0] is seen[1]) == (away_s < 5.0)


def test_asking_inside_a_callback_is_refused_and_nothing_is_sent(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    asked: list[str] = []

    def ask_again(request: ServerRequest, arg: object) -> None:
        asked.append(request.path)
        with pytest.raises(StateError, match="running already"):
            http_client.get("/inner")
        request.send_reply(200)

    http_server.set_gencb(ask_again)
    assert http_client.get("/outer").status == 200
    assert asked == ["/outer"]


def test_a_server_that_is_closed_cannot_be_reached(
    event_base: EventBase, http_server: HttpServer, http_client: HttpTestClient
) -> None:
    http_server.close()
    with pytest.raises(ConnectFailed, match="the server or the bufferevent is closed"):
        http_client.get("/")


def test_what_is_no_request_raises(http_client: HttpTestClient) -> None:
    with pytest.raises((ValueError, LocalProtocolError)):
        http_client.get("no slash and a blank")


def test_a_stream_is_read_as_it_comes(
    http_server: HttpServer, http_client: HttpTestClient, event_base: EventBase
) -> None:
    held: list[ServerRequest] = []

    def begin(request: ServerRequest, arg: object) -> None:
        held.append(request)
        request.send_reply_start(200)
        request.send_reply_chunk(b"one")

    http_server.set_gencb(begin)
    with http_client.stream("/") as stream:
        assert stream.status == 200
        assert stream.headers.find("Transfer-Encoding") == "chunked"
        assert stream.read() == b"one"
        with pytest.raises(NothingHappened, match="another piece to GET /"):
            stream.read()
        held[0].send_reply_chunk(b"two")
        assert stream.read() == b"two"
        held[0].send_reply_chunk(b"three")
        held[0].send_reply_chunk(b"four")
        held[0].send_reply_end()
        assert stream.read_all() == b"threefour"
        assert stream.is_over
        assert stream.read() == b""


def test_a_stream_that_never_begins_is_told_and_its_client_goes(
    http_server: HttpServer, http_client: HttpTestClient, event_base: EventBase
) -> None:
    gone: list[bool] = []
    http_server.set_gencb(
        lambda request, arg: request.set_on_gone_cb(lambda request, arg: gone.append(True))
    )
    with pytest.raises(NothingHappened, match="an answer to GET /never"):
        http_client.stream("/never")
    run_until(event_base, lambda: gone)


def test_a_stream_whose_connection_ends_before_it_begins_raises(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    def cut(request: ServerRequest, arg: object) -> None:
        assert request.connection is not None
        request.connection.close()

    http_server.set_gencb(cut)
    with pytest.raises(ConnectionClosed):
        http_client.stream("/")


def test_a_stream_that_is_broken_off_gives_what_has_come_before_it_raises(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    held: list[ServerRequest] = []

    def begin(request: ServerRequest, arg: object) -> None:
        held.append(request)
        request.send_reply_start(200)
        request.send_reply_chunk(b"some")

    http_server.set_gencb(begin)
    with http_client.stream("/") as stream:
        assert held[0].connection is not None
        held[0].connection.close()
        assert stream.read() == b"some"
        with pytest.raises(ConnectionClosed):
            stream.read()


def test_events_are_a_stream(http_server: HttpServer, http_client: HttpTestClient) -> None:
    http_server.set_gencb(lambda request, arg: request.start_event_stream().send("hello"))
    with http_client.stream("/") as stream:
        assert stream.headers.find("Content-Type") == "text/event-stream"
        assert stream.read() == b"data: hello\n\n"


def test_a_stream_that_is_closed_is_a_client_that_has_gone(
    http_server: HttpServer, http_client: HttpTestClient, event_base: EventBase
) -> None:
    gone: list[bool] = []

    def begin(request: ServerRequest, arg: object) -> None:
        request.set_on_gone_cb(lambda request, arg: gone.append(True))
        request.send_reply_start(200)

    http_server.set_gencb(begin)
    http_client.stream("/").close()
    run_until(event_base, lambda: gone)


def test_a_stream_that_is_broken_off_raises(
    http_server: HttpServer, http_client: HttpTestClient
) -> None:
    def begin(request: ServerRequest, arg: object) -> None:
        request.send_reply_start(200)
        request.send_reply_chunk(b"some")
        assert request.connection is not None
        request.connection.base.post(request.connection.close)

    http_server.set_gencb(begin)
    with http_client.stream("/") as stream, pytest.raises(ConnectionClosed):
        stream.read_all()


def test_closing_ends_all_connections(http_server: HttpServer, event_base: EventBase) -> None:
    http_server.set_gencb(lambda request, arg: request.send_reply_start(200))
    client = HttpTestClient(http_server)
    client.stream("/")
    assert http_server.connection_count == 1
    client.close()
    client.close()
    run_until(event_base, lambda: not http_server.connection_count)
