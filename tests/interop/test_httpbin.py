"""HttpClient on httpbin, and through tinyproxy."""

from __future__ import annotations

import http.cookiejar
import importlib.util
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from evsvc.core import EVLOOP_ONCE, EventBase
from evsvc.core.tls import client_context
from evsvc.http import (
    BasicAuth,
    BearerAuth,
    ClientResponse,
    ConnectFailed,
    HttpClient,
    HttpClientOptions,
    HttpServer,
    Multipart,
    Proxies,
    RedirectPolicy,
    RedirectRefused,
    RequestTimeout,
)
from tests.core.tls_ends import authority, issue, server_context_for
from tests.interop.dns_daemons import Daemon, start_daemon
from tests.interop.test_client_servers import PATIENCE_S, running

pytestmark = pytest.mark.interop

SERVE = """
from httpbin import app
from werkzeug.serving import WSGIRequestHandler, make_server
WSGIRequestHandler.protocol_version = "HTTP/1.1"
make_server("127.0.0.1", 0, app, threaded=True, fd=FD).serve_forever()
"""

TINYPROXY = """
Port {port}
Listen 127.0.0.1
Timeout 30
MaxClients 20
Allow 127.0.0.1
ViaProxyName "tiny"
{more}
"""


class World:
    """A client on a server that others wrote."""

    def __init__(self, base: EventBase, url: str) -> None:
        self.base = base
        self.url = url
        self.clients: list[HttpClient] = []

    def client(self, **how: Any) -> HttpClient:
        self.clients.append(HttpClient(self.base, None, **how))
        return self.clients[-1]

    def ask(self, path: str, method: str = "GET", client: Any = None, **more: Any) -> Any:
        """Make one request, and return the response when it is over."""
        over: list[ClientResponse] = []
        url = path if "://" in path else self.url + path
        more = {"timeout_s": PATIENCE_S, **more}
        made = client or self.client()
        made.request(method, url, lambda response, arg: over.append(response), **more)
        while not over:
            self.base.loop(EVLOOP_ONCE)
        return over[0]

    def close(self) -> None:
        for client in self.clients:
            client.close()


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture(scope="module")
def httpbin(missing: Callable[[str], NoReturn]) -> Iterator[str]:
    """Its URL; one for all, as it starts slowly."""
    if importlib.util.find_spec("httpbin") is None:
        missing("httpbin is not installed")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        fd = listening.fileno()
        with running([sys.executable, "-c", SERVE.replace("FD", str(fd))], fd):
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def world(base: EventBase, httpbin: str) -> Iterator[World]:
    made = World(base, httpbin)
    yield made
    made.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_methods_with_bodies_of_every_kind(world: World, method: str, tmp_path: Path) -> None:
    client = world.client()
    path = f"/{method.lower()}"
    told = world.ask(path, method, client, json={"a": [1, "é"]}).json()
    assert told["json"] == {"a": [1, "é"]}
    told = world.ask(path, method, client, form={"a": "1 & 2", "b": "é"}).json()
    assert told["form"] == {"a": "1 & 2", "b": "é"}
    file = tmp_path / "a.txt"
    file.write_text("of a file")
    parts = Multipart()
    parts.add_field("name", "value")
    parts.add_file("file", file)
    told = world.ask(path, method, client, multipart=parts).json()
    assert (told["form"], told["files"]) == ({"name": "value"}, {"file": "of a file"})
    assert world.ask(path, method, client, body=b"bytes").json()["data"] == "bytes"
    pieces = [b"one ", b"two"]
    told = world.ask(
        path, method, client, body=lambda *args: pieces.pop(0) if pieces else None, length=7
    ).json()
    assert told["data"] == "one two"


def test_queries_and_fields_arrive(world: World) -> None:
    told = world.ask("/get?a=1&b=é", headers={"X-Own": "yes"}).json()
    assert told["args"] == {"a": "1", "b": "é"}
    assert told["headers"]["X-Own"] == "yes"
    assert world.ask("/get", "HEAD").body == b""
    assert "GET" in world.ask("/get", "OPTIONS").headers.find("Allow")


@pytest.mark.parametrize("path", ["/redirect/3", "/relative-redirect/3", "/absolute-redirect/3"])
def test_redirects(world: World, path: str) -> None:
    response = world.ask(path)
    assert (response.status, response.url) == (200, world.url + "/get")
    assert [each.status for each in response.history] == [302] * 3
    few = HttpClientOptions(redirects=RedirectPolicy(max_redirects=2))
    response = world.ask(path, client=world.client(options=few))
    assert isinstance(response.error, RedirectRefused)


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_a_redirected_post(world: World, status: int, method: str) -> None:
    path = f"/redirect-to?url=/anything&status_code={status}"
    told = world.ask(path, "POST", body=b"data").json()
    assert (told["method"], told["data"]) == (method, "data" if method == "POST" else "")


def test_cookies_are_kept_and_sent(world: World) -> None:
    client = world.client(cookies=http.cookiejar.CookieJar())
    assert world.ask("/cookies/set?a=b&c=d", client=client).json() == {
        "cookies": {"a": "b", "c": "d"}
    }
    assert world.ask("/cookies/delete?a", client=client).json() == {"cookies": {"c": "d"}}
    assert world.ask("/cookies").json() == {"cookies": {}}


def test_authorization(world: World) -> None:
    assert world.ask("/basic-auth/me/pass").status == 401
    assert world.ask("/basic-auth/me/pass", auth=BasicAuth("me", "pass")).status == 200
    with_user = world.url.replace("://", "://me:p%40ss@")
    assert world.ask(with_user + "/basic-auth/me/p%40ss").json()["user"] == "me"
    assert world.ask("/bearer").status == 401
    assert world.ask("/bearer", auth=BearerAuth("token")).json()["token"] == "token"


@pytest.mark.parametrize(
    ("path", "mark"), [("/gzip", "gzipped"), ("/deflate", "deflated"), ("/brotli", "brotli")]
)
def test_packed_bodies(world: World, path: str, mark: str) -> None:
    assert world.ask(path).json()[mark] is True


def test_streams(world: World) -> None:
    assert len(world.ask("/stream/20").body.splitlines()) == 20
    pieces: list[bytes] = []
    response = world.ask(
        "/stream-bytes/100000?chunk_size=10000",
        datacb=lambda exchange, data, arg: pieces.append(data),
    )
    assert (response.body, sum(map(len, pieces))) == (b"", 100_000)
    assert world.ask("/drip?duration=0.2&numbytes=5&delay=0").body == b"*****"
    part = world.ask("/range/1000", headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, b"klmnopqrst")


def test_what_takes_too_long(world: World) -> None:
    assert isinstance(world.ask("/delay/5", timeout_s=0.2).error, RequestTimeout)
    assert world.ask("/delay/0.1").status == 200


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 418, 429, 500, 503])
def test_statuses(world: World, status: int) -> None:
    client = world.client()
    assert world.ask(f"/status/{status}", client=client).status == status
    assert world.ask("/get", client=client).status == 200


def test_the_connection_is_kept(world: World) -> None:
    client = world.client()
    for _ in range(5):
        assert world.ask("/bytes/1000", client=client).status == 200
    assert (client.connection_count, client.idle_count) == (1, 1)


@pytest.fixture
def tinyproxy(program: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts one, with further lines; returns its place."""
    path = program("tinyproxy")
    daemons: list[Daemon] = []

    def start(more: str = "") -> str:
        file = tmp_path / "tinyproxy.conf"

        def command(port: int) -> list[str]:
            file.write_text(TINYPROXY.format(port=port, more=more))
            return [path, "-d", "-c", str(file)]

        daemon, port = start_daemon(command, "Accepting connections")
        daemons.append(daemon)
        return f"127.0.0.1:{port}"

    yield start
    for daemon in daemons:
        daemon.close()


def test_http_goes_through_a_proxy_as_it_is(world: World, tinyproxy: Callable[..., str]) -> None:
    client = world.client(proxies=Proxies(http=f"http://{tinyproxy()}"))
    response = world.ask("/redirect/1", client=client)
    assert response.status == 200
    assert "tiny" in response.headers.find("Via")
    assert world.ask("/post", "POST", client, body=b"x" * 100_000).json()["data"] == "x" * 100_000


def test_a_proxy_wants_to_know_who_asks(world: World, tinyproxy: Callable[..., str]) -> None:
    proxy = tinyproxy("BasicAuth me secret")
    stranger = world.client(proxies=Proxies(http=f"http://{proxy}"))
    assert world.ask("/get", client=stranger).status in (401, 407)
    known = world.client(proxies=Proxies(http=f"http://me:secret@{proxy}"))
    response = world.ask("/get", client=known)
    assert response.status == 200
    assert "Proxy-Authorization" not in response.json()["headers"]


def test_https_goes_through_a_tunnel(
    base: EventBase, tinyproxy: Callable[..., str], tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(ca))
    server = HttpServer(base)
    server.set_gencb(lambda request, arg: request.send_reply(200, None, b"secret"))
    port = server.bind_socket("127.0.0.1", 0, tls=server_context_for(issue("127.0.0.1"))).port
    world = World(base, f"https://127.0.0.1:{port}")
    proxy = tinyproxy(f"ConnectPort {port}\nBasicAuth me secret")
    trust = client_context(cafile=str(ca))
    known = world.client(tls=trust, proxies=Proxies(https=f"http://me:secret@{proxy}"))
    for _ in range(2):
        assert world.ask("/", client=known).body == b"secret"
    assert known.connection_count == 1
    stranger = world.client(tls=trust, proxies=Proxies(https=f"http://{proxy}"))
    assert isinstance(world.ask("/", client=stranger).error, ConnectFailed)
    world.close()
    server.close()
