"""HttpClient on a server of our own: what it sends, follows, keeps, bounds and tells."""

from __future__ import annotations

import gc
import gzip
import http.cookiejar
import json
import logging
import ssl
import zlib
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import (
    EVLOOP_NONBLOCK,
    ArgumentError,
    ArgumentTypeError,
    EvBuffer,
    EventBase,
    FakeClock,
    StateError,
)
from evsvc.http import (
    BasicAuth,
    BearerAuth,
    BodyTooLong,
    ClientExchange,
    ClientResponse,
    ConnectFailed,
    ConnectionClosed,
    HttpClient,
    HttpClientOptions,
    HttpServer,
    InvalidCoding,
    Multipart,
    PoolOptions,
    Proxies,
    RedirectPolicy,
    RedirectRefused,
    RequestTimeout,
    ServerRequest,
    StatusError,
)
from evsvc.http.client import client as client_module
from evsvc.http.client.client import MAX_KNOWN_URLS
from evsvc.http.client.target import Target, parse_target
from tests.core.tls_ends import authority, issue

PASSES = 3000


class World:
    """A client, a server with routes, and the loop of both."""

    def __init__(self, base: EventBase) -> None:
        self.base = base
        self.server = HttpServer(base)
        self.port = self.server.bind_socket("127.0.0.1", 0).port
        self.url = f"http://127.0.0.1:{self.port}"
        self.clients: list[HttpClient] = []
        self.held: list[ServerRequest] = []
        self.server.set_gencb(_show)
        self.server.set_cb("/hold", lambda request, arg: self.held.append(request))

    def client(self, options: HttpClientOptions | None = None, **more: Any) -> HttpClient:
        self.clients.append(HttpClient(self.base, None, options, **more))
        return self.clients[-1]

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(PASSES):
            if condition():
                return
            self.base.loop(EVLOOP_NONBLOCK)
        raise AssertionError("it never came true")

    def settle(self) -> None:
        for _ in range(50):
            self.base.loop(EVLOOP_NONBLOCK)

    def ask(self, client: HttpClient, method: str, path: str, **more: Any) -> ClientResponse:
        """Make one request, and return what came of it."""
        found: list[ClientResponse] = []
        url = path if "://" in path else self.url + path
        client.request(method, url, lambda response, arg: found.append(response), **more)
        self.until(lambda: found)
        return found[0]

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        def send(request: ServerRequest, arg: object) -> None:
            request.output_headers.add("Location", location)
            request.send_reply(status, None, b"x" * 3000)

        self.server.set_cb(path, send)


def _show(request: ServerRequest, arg: object) -> None:
    """Answer with what came."""
    told = {
        "method": request.method,
        "uri": request.uri,
        "fields": {name.lower(): value for name, value in request.input_headers},
        "body": bytes(request.input_buffer).decode("latin-1"),
    }
    request.output_headers.add("Content-Type", "application/json")
    request.send_reply(200, None, json.dumps(told).encode())


@pytest.fixture
def world(base: EventBase) -> Iterator[World]:
    world = World(base)
    yield world
    for client in world.clients:
        client.close()
    world.server.close()


def test_a_url_is_got(world: World) -> None:
    response = world.ask(world.client(), "GET", "/a?b=c")
    assert (response.status, response.ok, response.error) == (200, True, None)
    seen = response.json()
    assert (seen["method"], seen["uri"]) == ("GET", "/a?b=c")
    assert seen["fields"]["host"] == f"127.0.0.1:{world.port}"
    assert seen["fields"]["user-agent"] == "evsvc"
    assert response.headers.find("Content-Type") == "application/json"
    response.raise_for_error()
    assert repr(response) == f"<ClientResponse GET {world.url}/a?b=c 200>"


def test_a_status_is_an_answer_and_an_error_when_asked_for(world: World) -> None:
    world.server.set_cb("/no", lambda request, arg: request.send_error(404))
    response = world.ask(world.client(), "GET", "/no")
    assert (response.status, response.ok, response.error) == (404, False, None)
    with pytest.raises(StatusError, match="404 Not Found") as caught:
        response.raise_for_error()
    assert caught.value.response is response


@pytest.mark.parametrize(
    ("more", "content_type", "body"),
    [
        ({"body": b"\x00\x01"}, None, "\x00\x01"),
        ({"body": "zoë"}, "text/plain; charset=utf-8", "zoÃ«"),
        ({"json": {"a": [1, None]}}, "application/json", '{"a":[1,null]}'),
        ({"form": {"a b": "c&d"}}, "application/x-www-form-urlencoded", "a+b=c%26d"),
        ({"form": [("a", "1"), ("a", "2")]}, "application/x-www-form-urlencoded", "a=1&a=2"),
        ({"body": b"x", "headers": {"Content-Type": "a/b"}}, "a/b", "x"),
    ],
)
def test_bodies_go_with_their_type(
    world: World, more: dict[str, Any], content_type: str | None, body: str
) -> None:
    seen = world.ask(world.client(), "POST", "/", **more).json()
    assert (seen["fields"].get("content-type"), seen["body"]) == (content_type, body)
    assert seen["fields"]["content-length"] == str(len(body))


def test_a_buffer_is_drained_and_a_producer_asked(world: World) -> None:
    client = world.client()
    buffer = EvBuffer()
    buffer.add(b"from a buffer")
    assert world.ask(client, "PUT", "/", body=buffer).json()["body"] == "from a buffer"
    assert len(buffer) == 0
    for length, framing in ((None, "transfer-encoding"), (6, "content-length")):
        pieces = [None, b"def", b"abc"]
        seen = world.ask(
            client, "PUT", "/", body=lambda request, arg, pieces=pieces: pieces.pop(), length=length
        ).json()
        assert seen["body"] == "abcdef"
        assert framing in seen["fields"]


def test_several_parts_are_read_by_others(world: World, tmp_path: Path) -> None:
    file = tmp_path / 'odd "name".txt'
    file.write_bytes(b"from the disk" * 10_000)
    empty = tmp_path / "empty.bin"
    empty.touch()
    parts = Multipart()
    parts.add_field("text", "zoë")
    parts.add_field("bytes", b"\x00\xff")
    parts.add_file("file", file)
    parts.add_file("none", empty)
    parts.add_file("made", b"in memory", "x.png")
    response = world.ask(world.client(), "POST", "/", multipart=parts)
    seen = response.json()
    message = BytesParser().parsebytes(
        f"Content-Type: {seen['fields']['content-type']}\r\n\r\n".encode()
        + seen["body"].encode("latin-1")
    )
    found = [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type() if "Content-Type" in part else None,
            part.get_payload(decode=True),
        )
        for part in message.get_payload()  # type: ignore[union-attr]
    ]
    assert found == [
        ("text", None, None, "zoë".encode()),
        ("bytes", None, None, b"\x00\xff"),
        ("file", "odd %22name%22.txt", "text/plain", b"from the disk" * 10_000),
        ("none", "empty.bin", "application/octet-stream", b""),
        ("made", "x.png", "image/png", b"in memory"),
    ]


def test_redirects_are_followed_and_told(world: World) -> None:
    world.redirect("/1", "/2")
    world.redirect("/2", f"{world.url}/end#x", 307)
    response = world.ask(world.client(), "POST", "/1", body=b"data")
    assert (response.status, response.url) == (200, f"{world.url}/end")
    assert [each.status for each in response.history] == [302, 307]
    assert response.json()["method"] == "GET"
    assert "content-length" not in response.json()["fields"]
    again = world.ask(world.client(), "POST", "/2", json=[1])
    assert (again.json()["method"], again.json()["body"]) == ("POST", "[1]")


def test_secrets_do_not_go_to_another_origin(world: World, base: EventBase) -> None:
    with HttpServer(base) as other:
        other.set_gencb(_show)
        port = other.bind_socket("127.0.0.1", 0).port
        world.redirect("/out", f"http://127.0.0.1:{port}/")
        world.redirect("/in", "/end")
        headers = {"Cookie": "a=b", "X-Own": "1"}
        for path, keeps in (("/in", True), ("/out", False)):
            client = world.client()
            for auth in (BasicAuth("u", "p"), BearerAuth("t")):
                response = world.ask(client, "GET", path, headers=headers, auth=auth)
                fields = response.json()["fields"]
                assert ("authorization" in fields, "cookie" in fields) == (keeps, keeps)
                assert fields["x-own"] == "1"


def test_redirects_end(world: World) -> None:
    world.redirect("/loop", "/loop")
    world.redirect("/bad", "ftp://a.example/")
    options = HttpClientOptions(redirects=RedirectPolicy(max_redirects=3))
    response = world.ask(world.client(options), "GET", "/loop")
    assert isinstance(response.error, RedirectRefused)
    assert len(response.history) == 3
    assert isinstance(world.ask(world.client(), "GET", "/bad").error, RedirectRefused)
    none = HttpClientOptions(redirects=RedirectPolicy(max_redirects=0))
    response = world.ask(world.client(none), "GET", "/loop")
    assert (response.status, response.error, len(response.body)) == (302, None, 3000)


@pytest.mark.parametrize(("links", "ends"), [(3, True), (4, False)])
def test_so_many_redirects_are_followed(world: World, links: int, ends: bool) -> None:
    for number in range(links):
        world.redirect(f"/{number}", f"/{number + 1}" if number < links - 1 else "/end")
    client = world.client(HttpClientOptions(redirects=RedirectPolicy(max_redirects=3)))
    response = world.ask(client, "GET", "/0")
    assert len(response.history) == 3
    assert response.ok is ends
    assert isinstance(response.error, RedirectRefused) is not ends


def test_a_body_that_came_in_pieces_is_not_sent_again(world: World) -> None:
    world.redirect("/again", "/end", 307)
    pieces = [None, b"abc"]
    response = world.ask(
        world.client(), "PUT", "/again", body=lambda request, arg: pieces.pop(), length=3
    )
    assert isinstance(response.error, RedirectRefused)
    assert "cannot be sent again" in str(response.error)


def test_a_connection_is_used_again_also_for_what_a_redirect_leads_to(world: World) -> None:
    world.redirect("/1", "/2")
    client = world.client()
    for _ in range(5):
        world.ask(client, "GET", "/1")
    assert (client.connection_count, client.idle_count) == (1, 1)
    assert world.server.connection_count == 1


def test_requests_wait_within_the_bounds(world: World) -> None:
    options = HttpClientOptions(pool=PoolOptions(max_connections_per_origin=2, max_queued=3))
    client = world.client(options)
    done: list[Any] = []
    for number in range(5):
        client.get(f"{world.url}/hold", lambda response, arg: done.append(arg), number)
    with pytest.raises(StateError, match="3 requests wait already"):
        client.get(f"{world.url}/hold", None)
    world.until(lambda: len(world.held) == 2)
    assert (client.connection_count, client.queued_count) == (2, 3)
    for _ in range(5):
        world.until(lambda: world.held)
        world.held.pop(0).send_reply(200)
    world.until(lambda: len(done) == 5)
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert (client.idle_count, client.queued_count) == (2, 0)


def test_one_server_does_not_take_the_room_of_all(world: World, base: EventBase) -> None:
    with HttpServer(base) as other:
        other.set_gencb(_show)
        port = other.bind_socket("127.0.0.1", 0).port
        client = world.client(HttpClientOptions(pool=PoolOptions(max_connections=1)))
        world.ask(client, "GET", "/")
        assert world.ask(client, "GET", f"http://127.0.0.1:{port}/").ok
        world.until(lambda: world.server.connection_count == 0)
        assert client.connection_count == 1


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip"])
def test_a_packed_body_is_unpacked(world: World, coding: str) -> None:
    plain = b"hello " * 10_000
    packed = zlib.compress(plain) if coding == "deflate" else gzip.compress(plain)

    def send(request: ServerRequest, arg: object) -> None:
        assert "gzip" in (request.input_headers.find("Accept-Encoding") or "")
        request.output_headers.add("Content-Encoding", coding)
        request.send_reply(200, None, packed[arg] if isinstance(arg, slice) else packed)

    world.server.set_cb("/packed", send)
    world.server.set_cb("/cut", send, slice(0, -10))
    client = world.client()
    assert world.ask(client, "GET", "/packed").body == plain
    assert world.ask(client, "HEAD", "/packed").body == b""
    cut = world.ask(client, "GET", "/cut")
    assert isinstance(cut.error, InvalidCoding)
    raw = world.client(HttpClientOptions(decode=False))
    assert "accept-encoding" not in world.ask(raw, "GET", "/").json()["fields"]


def test_a_bomb_and_a_body_too_long_are_given_up(world: World) -> None:
    packed = gzip.compress(bytes(1 << 24))

    def send(request: ServerRequest, arg: object) -> None:
        request.output_headers.add("Content-Encoding", "gzip")
        request.send_reply(200, None, packed)

    world.server.set_cb("/bomb", send)
    world.server.set_cb("/long", lambda request, arg: request.send_reply(200, None, b"x" * 1001))
    bound = world.client(HttpClientOptions(max_body_bytes=1000))
    for path in ("/bomb", "/long"):
        assert isinstance(world.ask(bound, "GET", path).error, BodyTooLong)
    exact = world.client(HttpClientOptions(max_body_bytes=1001))
    assert len(world.ask(exact, "GET", "/long").body) == 1001
    ratio = world.client(HttpClientOptions(max_body_bytes=None, max_ratio=2.0))
    assert isinstance(world.ask(ratio, "GET", "/bomb").error, BodyTooLong)
    assert world.ask(bound, "GET", "/nothing", headers={"X": "y"}).ok


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
@pytest.mark.parametrize("way", ["length", "chunks", "packed"])
def test_a_gathered_body_has_one_limit_however_it_comes(
    world: World, way: str, size: int, fits: bool
) -> None:
    """What counts is what it is unpacked."""

    def send(request: ServerRequest, arg: object) -> None:
        if way == "packed":
            request.output_headers.add("Content-Encoding", "gzip")
            request.send_reply(200, None, gzip.compress(b"x" * size))
        elif way == "length":
            request.send_reply(200, None, b"x" * size)
        else:
            request.send_reply_start(200)
            for _ in range(size):
                request.send_reply_chunk(b"x")
            request.send_reply_end()

    world.server.set_cb("/body", send)
    client = world.client(HttpClientOptions(max_body_bytes=1000))
    response = world.ask(client, "GET", "/body")
    assert isinstance(response.error, BodyTooLong) is not fits
    assert (response.body == b"x" * size) is fits
    assert len(response.body) <= 1000, "what is gathered until then"


def test_a_body_is_taken_as_it_comes_and_held_back(world: World) -> None:
    size = 8 << 20

    def send(request: ServerRequest, arg: object) -> None:
        request.output_headers.add("Content-Length", str(size))
        request.send_reply(200, None, bytes(size))

    world.server.set_cb("/big", send)
    seen: list[Any] = []

    def take(exchange: ClientExchange, data: bytes, arg: object) -> None:
        seen.append(len(data))
        if len(seen) == 1:
            exchange.pause()
            exchanges.append(exchange)

    exchanges: list[ClientExchange] = []
    heads: list[int] = []
    progress: list[tuple[int, int | None]] = []
    done: list[ClientResponse] = []
    client = world.client(HttpClientOptions(max_body_bytes=10))
    client.get(
        f"{world.url}/big",
        lambda response, arg: done.append(response),
        datacb=take,
        headcb=lambda exchange, response, arg: heads.append(response.status),
        progresscb=lambda exchange, got, of, arg: progress.append((got, of)),
    )
    world.until(lambda: exchanges)
    world.settle()
    assert len(seen) == 1
    exchanges[0].resume()
    world.until(lambda: done)
    assert (sum(seen), done[0].body, done[0].error, heads) == (size, b"", None, [200])
    assert progress[-1] == (size, size)


def test_a_deadline_counts_from_the_call_through_line_and_redirects(
    world: World, clock: FakeClock
) -> None:
    world.redirect("/late", "/hold")
    options = HttpClientOptions(pool=PoolOptions(max_connections_per_origin=1), timeout_s=10.0)
    client = world.client(options)
    done: list[ClientResponse] = []
    client.get(f"{world.url}/late", lambda response, arg: done.append(response))
    world.until(lambda: world.held)
    client.get(f"{world.url}/", lambda response, arg: done.append(response), timeout_s=4.0)
    clock.advance(4.1)
    world.until(lambda: done)
    assert isinstance(done[0].error, RequestTimeout)
    assert client.queued_count == 0
    clock.advance(5.8)
    world.settle()
    assert len(done) == 1
    clock.advance(0.2)
    world.until(lambda: len(done) == 2)
    assert isinstance(done[1].error, RequestTimeout)
    assert [each.status for each in done[1].history] == [302]
    assert round(done[1].elapsed_s, 1) == 10.1
    assert world.ask(client, "GET", "/").ok


def test_cancelling_ends_it_wherever_it_is(world: World) -> None:
    options = HttpClientOptions(pool=PoolOptions(max_connections_per_origin=1), timeout_s=9.0)
    client = world.client(options)
    under_way = client.get(f"{world.url}/hold", lambda *args: pytest.fail("cancelled"))
    waiting = client.get(f"{world.url}/hold", lambda *args: pytest.fail("cancelled"))
    world.until(lambda: world.held)
    waiting.cancel()
    under_way.cancel()
    under_way.cancel()
    assert (under_way.done, waiting.done, client.queued_count) == (True, True, 0)
    assert world.ask(client, "GET", "/").ok


def test_what_fails_is_told(world: World, base: EventBase) -> None:
    client = world.client()
    world.server.set_cb(
        "/reset",
        lambda request, arg: request.connection.close(),  # type: ignore[union-attr]
    )
    assert isinstance(world.ask(client, "POST", "/reset").error, ConnectionClosed)
    with HttpServer(base) as gone:
        port = gone.bind_socket("127.0.0.1", 0).port
    response = world.ask(client, "GET", f"http://127.0.0.1:{port}/")
    assert isinstance(response.error, ConnectFailed)
    assert (response.status, response.ok) == (0, False)
    with pytest.raises(ConnectFailed):
        response.raise_for_error()


def test_what_cannot_be_sent_raises_at_the_call(world: World) -> None:
    client = world.client()
    for bad in ("", "ftp://a/", "//a/b"):
        with pytest.raises(ArgumentError):
            client.get(bad, None)
    with pytest.raises(ArgumentError, match="resolver"):
        client.get("http://name.example/", None)
    with pytest.raises(ArgumentError, match="B AD"):
        client.request("B AD", world.url, None)
    with pytest.raises(ArgumentError):
        client.get(world.url, None, headers={"A": "b\r\nc"})
    with pytest.raises(ArgumentError, match="one of"):
        client.post(world.url, None, body=b"", json=1)
    with pytest.raises(ArgumentError, match="-1"):
        client.get(world.url, None, timeout_s=-1)
    for more in ({"body": 5}, {"json": object()}, {"auth": "x"}, {"datacb": 1}, {"multipart": 1}):
        with pytest.raises(ArgumentTypeError):
            client.post(world.url, None, **more)
    with pytest.raises(ArgumentTypeError):
        HttpClient(world.base, cookies={})  # type: ignore[arg-type]
    for name in ("timeout_s", "max_body_bytes", "max_ratio"):
        with pytest.raises(ArgumentError, match=name):
            HttpClientOptions(**{name: 0})
    assert (client.connection_count - client.idle_count, client.queued_count) == (0, 0)
    assert world.ask(client, "GET", "/").ok


def test_cookies_are_kept_by_opt_in(world: World) -> None:
    def give(request: ServerRequest, arg: object) -> None:
        request.output_headers.add("Set-Cookie", "a=1; Path=/")
        request.output_headers.add("Set-Cookie", "b=2; Path=/only")
        request.output_headers.add("Set-Cookie", "c=3; Secure")
        request.output_headers.add("Set-Cookie", "d=4; Domain=other.example")
        request.output_headers.add("Location", "/end")
        request.send_reply(302)

    world.server.set_cb("/give", give)
    client = world.client(cookies=http.cookiejar.CookieJar())
    assert world.ask(client, "GET", "/give").json()["fields"]["cookie"] == "a=1"
    assert world.ask(client, "GET", "/only/x").json()["fields"]["cookie"] == "b=2; a=1"
    own = world.ask(client, "GET", "/", headers={"Cookie": "own=1"}).json()
    assert own["fields"]["cookie"] == "own=1"
    without = world.client()
    assert "cookie" not in world.ask(without, "GET", "/give").json()["fields"]


def test_a_jar_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evsvc.http.client.cookies.MAX_COOKIES", 2)

    def give(request: ServerRequest, arg: object) -> None:
        for number in range(5):
            request.output_headers.add("Set-Cookie", f"c{number}=1")
        request.send_reply(200)

    world.server.set_cb("/give", give)
    jar = http.cookiejar.CookieJar()
    world.ask(world.client(cookies=jar), "GET", "/give")
    assert [cookie.name for cookie in jar] == ["c3", "c4"]


def test_a_proxy_is_asked_by_the_whole_url(world: World) -> None:
    """Our own server plays the proxy."""
    proxies = Proxies(http=f"http://u:p@127.0.0.1:{world.port}", no_proxy="127.0.0.1")
    client = world.client(proxies=proxies)
    seen = world.ask(client, "GET", "http://far.example/x?y").json()
    assert seen["uri"] == "http://far.example/x?y"
    assert seen["fields"]["host"] == "far.example"
    assert seen["fields"]["proxy-authorization"] == "Basic dTpw"
    assert "proxy-authorization" not in world.ask(client, "GET", "/straight").json()["fields"]


def test_fields_of_every_request(world: World) -> None:
    client = world.client(headers={"X-All": "1", "X-Some": "2"})
    fields = world.ask(client, "GET", "/", headers={"X-Some": "3"}).json()["fields"]
    assert (fields["x-all"], fields["x-some"]) == ("1", "3")
    plain = world.client(HttpClientOptions(user_agent=None))
    assert "user-agent" not in world.ask(plain, "GET", "/").json()["fields"]


def test_https_is_verified(world: World, base: EventBase) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issue("127.0.0.1").configure_cert(context)
    with HttpServer(base) as secure:
        secure.set_gencb(_show)
        port = secure.bind_socket("127.0.0.1", 0, tls=context).port
        url = f"https://127.0.0.1:{port}/"
        trusted = ssl.create_default_context()
        authority().configure_trust(trusted)
        assert world.ask(world.client(tls=trusted), "GET", url).ok
        refused = world.ask(world.client(), "GET", url)
        assert isinstance(refused.error, ConnectFailed)


def test_a_callback_that_raises_ends_its_exchange_alone(
    world: World, base: EventBase, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []
    base.exception_handler = told.append
    client = world.client()
    with caplog.at_level(logging.CRITICAL):
        client.get(world.url, lambda response, arg: 1 / 0)
        world.until(lambda: told)
        found: list[ClientResponse] = []
        client.get(
            world.url,
            lambda response, arg: found.append(response),
            datacb=lambda exchange, data, arg: 1 / 0,
        )
        world.until(lambda: found)
    assert [type(each) for each in told] == [ZeroDivisionError] * 2
    assert isinstance(found[0].error, ConnectionClosed)
    assert world.ask(client, "GET", "/").ok


def test_a_callback_may_do_anything_to_the_client(world: World) -> None:
    client = world.client()
    done: list[str] = []

    def again(response: ClientResponse, arg: Any) -> None:
        done.append(response.url)
        if len(done) < 3:
            client.get(f"{world.url}/{len(done)}", again)
        else:
            client.close()

    client.get(f"{world.url}/0", again)
    world.until(lambda: len(done) == 3)
    assert client.connection_count == 0
    with pytest.raises(StateError, match="closed"):
        client.get(world.url, None)
    client.close()


def test_closing_forgets_what_is_under_way(world: World) -> None:
    client = world.client(HttpClientOptions(pool=PoolOptions(max_connections_per_origin=1)))
    exchanges = [
        client.get(f"{world.url}/hold", lambda *args: pytest.fail("closed")) for _ in range(2)
    ]
    world.until(lambda: world.held)
    client.close()
    world.settle()
    assert all(exchange.done for exchange in exchanges)
    exchanges[0].cancel()


def test_exchanges_are_freed_without_the_cyclic_collector(world: World) -> None:
    world.redirect("/1", "/2")
    gc.collect()
    gc.disable()
    try:
        client = world.client(HttpClientOptions(timeout_s=5.0))
        for path in ("/1", "/x", "/hold"):
            exchange = client.get(world.url + path, lambda response, arg: None)
            world.settle()
            exchange.cancel()
        del exchange
        world.settle()
        left = [
            each for each in gc.get_objects() if isinstance(each, (ClientExchange, ClientResponse))
        ]
    finally:
        gc.enable()
    assert left == []


def test_urls_are_taken_apart_once_and_a_bounded_number_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    def parse(url: str) -> Target:
        parsed.append(url)
        return parse_target(url)

    monkeypatch.setattr(client_module, "parse_target", parse)
    client = world.client()
    secret = world.url.replace("://", "://user:word@")
    for path in ("/a", "/a", f"{secret}/b", f"{secret}/b"):
        assert world.ask(client, "GET", path).ok
    assert parsed == [f"{world.url}/a", f"{secret}/b", f"{secret}/b"]
    parsed.clear()
    exchanges = [client.get(f"{world.url}/{n}", None) for n in range(MAX_KNOWN_URLS - 1)]
    exchanges.append(client.get(f"{world.url}/a", None))
    assert len(parsed) == MAX_KNOWN_URLS - 1  # with it they are as many as there may be
    exchanges.append(client.get(f"{world.url}/more", None))
    exchanges.append(client.get(f"{world.url}/a", None))
    assert parsed[-2:] == [f"{world.url}/more", f"{world.url}/a"]
    for exchange in exchanges:
        exchange.cancel()
