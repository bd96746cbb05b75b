"""HttpConnection against servers that others wrote: in C, nginx, lighttpd, node, in Python."""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trustme

from evsvc.core import EVLOOP_ONCE, EventBase
from evsvc.core.resolver import AddrInfo
from evsvc.core.tls import client_context
from evsvc.http import (
    ClientOptions,
    ClientResponse,
    ConnectionClosed,
    HttpClient,
    HttpClientOptions,
    HttpConnection,
    HttpRequest,
    PoolOptions,
)

pytestmark = pytest.mark.interop

PATIENCE_S = 20.0
LARGE = bytes(range(256)) * 4096  # 1 MiB
HOST = "server.test"

NODE = """
const http = require("http");
http.createServer((request, response) => {
  if (request.url == "/echo") request.pipe(response);
  else if (request.url == "/pieces") {
    for (let i = 0; i < 3; i++) response.write(`piece ${i}\\n`);
    response.end();
  } else response.end("hello");
}).listen({fd: FD});
"""

WSGI = """
def app(environ, start):
    start("200 OK", [("Content-Type", "text/plain")])
    path = environ["PATH_INFO"]
    if path == "/echo":
        left = environ.get("CONTENT_LENGTH")
        return [environ["wsgi.input"].read(*([int(left)] if left else []))]
    if path == "/pieces":
        return (b"piece %d\\n" % i for i in range(3))
    return [b"hello"]
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})

    async def give(body, more):
        await send({"type": "http.response.body", "body": body, "more_body": more})

    if scope["path"] == "/echo":
        while message.get("more_body"):
            await give(message["body"], True)
            message = await receive()
        await give(message["body"], False)
    elif scope["path"] == "/pieces":
        for i in range(3):
            await give(b"piece %d\\n" % i, True)
        await give(b"", False)
    else:
        await give(b"hello", False)
"""

AIOHTTP = """
import socket
from aiohttp import web

async def handle(request):
    if request.path not in ("/echo", "/pieces"):
        return web.Response(body=b"hello")
    response = web.StreamResponse()
    await response.prepare(request)
    if request.path == "/echo":
        async for piece in request.content.iter_any():
            await response.write(piece)
    else:
        for i in range(3):
            await response.write(b"piece %d\\n" % i)
    return response

app = web.Application(client_max_size=2**40)
app.router.add_route("*", "/{any:.*}", handle)
web.run_app(app, sock=socket.socket(fileno=FD), print=None)
"""

NGINX = """
daemon off; user {user}; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 64; }}
http {{
  access_log off; keepalive_requests 3; client_max_body_size 100k; lingering_close always;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  gzip on; gzip_types text/plain; gzip_min_length 1;
  server {{
    listen 127.0.0.1:{port} {tls};
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;
    root {folder}/root; default_type text/plain;
    location /sink {{ client_max_body_size 0; proxy_pass http://unix:{folder}/sink; }}
    location /refuse {{ proxy_pass http://unix:{folder}/sink; }}
    location /none {{ return 204; }}
  }}
}}
"""

LIGHTTPD = """
server.systemd-socket-activation = "enable"
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{folder}/root"
server.max-keep-alive-requests = 3
mimetype.assign = ( "" => "text/plain" )
"""


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


class Client:
    """A connection that asks, and waits in real time."""

    def __init__(self, base: EventBase, port: int, **how: object) -> None:
        self.base = base
        self.port = port
        self.tls: Any = how.get("tls")
        resolver = Loopback() if "tls" in how else None
        address = HOST if resolver else "127.0.0.1"
        options = ClientOptions(exchange_s=PATIENCE_S)
        self.connection = HttpConnection(base, resolver, address, port, options, **how)  # type: ignore[arg-type]
        self.ends = 0
        self.connection.set_closecb(self._on_close)

    def _on_close(self, connection: HttpConnection, arg: object) -> None:
        self.ends += 1

    def ask(
        self,
        uri: str,
        method: str = "GET",
        *fields: tuple[str, str],
        body: bytes = b"",
        prepare: Callable[[HttpRequest], object] | None = None,
    ) -> HttpRequest:
        """Make a request, and return it when it is over."""
        over: list[object] = []
        request = HttpRequest(lambda got, arg: over.append(got))
        for field in fields:
            request.output_headers.add(*field)
        if body:
            request.output_buffer.add(body)
        if prepare is not None:
            prepare(request)
        self.connection.make_request(request, method, uri)
        while not over:
            self.base.loop(EVLOOP_ONCE)
        return request

    def close(self) -> None:
        self.connection.close()


class Loopback:
    """Every name is the loopback."""

    def getaddrinfo(self, host, port, hints, cb, arg=None):  # type: ignore[no-untyped-def]
        cb(0, [AddrInfo(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))], arg)


def ends_of(body: bytes, size: int) -> Callable[[HttpRequest, object], bytes | None]:
    """A producer that gives a body in pieces of a size."""
    view = memoryview(body)

    def produce(request: HttpRequest, arg: object) -> bytes | None:
        nonlocal view
        piece, view = bytes(view[:size]), view[size:]
        return piece or None

    return produce


@contextlib.contextmanager
def running(command: list[str], fd: int, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on a socket that listens already; it is ended by its pid."""
    with subprocess.Popen(
        command,
        pass_fds=(fd,),
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as sock:
        yield sock


@pytest.fixture
def c_peer(tmp_path: Path, program: Callable[[str], str]) -> Iterator[int]:
    """libevent's server in C; its port."""
    source = Path(__file__).with_name("evhttp_peer.c")
    target = tmp_path / "evhttp_peer"
    subprocess.run(
        [program("cc"), "-Wall", "-O1", "-o", str(target), str(source), "-levent"], check=True
    )
    with subprocess.Popen([str(target), "4194304"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def command_for(kind: str, fd: int, folder: Path, program: Callable[[str], str]) -> list[str]:
    (folder / "wsgi_app.py").write_text(WSGI)
    (folder / "asgi_app.py").write_text(ASGI)
    python = sys.executable
    if kind == "node":
        return [program("node"), "-e", NODE.replace("FD", str(fd))]
    if kind == "aiohttp":
        return [python, "-c", AIOHTTP.replace("FD", str(fd))]
    if kind == "uvicorn":
        return [python, "-m", "uvicorn", "--fd", str(fd), "--app-dir", str(folder), "asgi_app:app"]
    if kind == "gunicorn":
        gunicorn = [python, "-m", "gunicorn", "--bind", f"fd://{fd}", "--chdir", str(folder)]
        return [*gunicorn, "--worker-class", "gthread", "--threads", "2", "wsgi_app:app"]
    serve = (
        "import sys; sys.path.insert(0, sys.argv[1]); from wsgi_app import app\n"
        "from werkzeug.serving import make_server, WSGIRequestHandler\n"
        "WSGIRequestHandler.protocol_version = 'HTTP/1.1'\n"
        f"make_server('127.0.0.1', 0, app, threaded=True, fd={fd}).serve_forever()"
    )
    return [python, "-c", serve, str(folder)]


@pytest.fixture(params=["libevent", "node", "aiohttp", "uvicorn", "gunicorn", "werkzeug"])
def port(
    request: pytest.FixtureRequest,
    listening: socket.socket,
    tmp_path: Path,
    program: Callable[[str], str],
    missing: Callable[[str], NoReturn],
) -> Iterator[int]:
    """A server that says hello, sends back what came, and replies in pieces."""
    if request.param == "libevent":
        yield request.getfixturevalue("c_peer")
        return
    if request.param != "node" and importlib.util.find_spec(request.param) is None:
        missing(f"{request.param} is not installed")
    fd = listening.fileno()
    with running(command_for(request.param, fd, tmp_path, program), fd):
        yield listening.getsockname()[1]


def test_what_every_server_does(base: EventBase, port: int) -> None:
    with contextlib.closing(Client(base, port)) as client:
        for _ in range(2):
            got = client.ask("/")
            assert (got.response_code, got.take_body()) == (200, b"hello")
        got = client.ask("/", "HEAD")
        assert (got.response_code, got.take_body()) == (200, b"")
        got = client.ask("/echo", "POST", body=LARGE)
        assert (got.response_code, got.take_body()) == (200, LARGE)
        got = client.ask("/echo", "POST", ("Expect", "100-continue"), body=b"held")
        assert (got.response_code, got.take_body()) == (200, b"held")
        got = client.ask("/pieces")
        assert got.take_body() == b"piece 0\npiece 1\npiece 2\n"
        pieces: list[bytes] = []
        client.ask(
            "/pieces",
            prepare=lambda request: request.set_chunked_cb(
                lambda got, arg: pieces.append(bytes(got.input_buffer))
            ),
        )
        assert b"".join(pieces) == b"piece 0\npiece 1\npiece 2\n"
        got = client.ask(
            "/echo",
            "PUT",
            prepare=lambda request: request.stream_body(ends_of(LARGE, 50_000), len(LARGE)),
        )
        assert (got.response_code, got.take_body()) == (200, LARGE)


def test_a_chunked_upload(base: EventBase, port: int) -> None:
    with contextlib.closing(Client(base, port)) as client:
        got = client.ask(
            "/echo", "POST", prepare=lambda request: request.stream_body(ends_of(LARGE, 50_000))
        )
        assert (got.response_code, got.take_body()) == (200, LARGE)
        assert client.ask("/").take_body() == b"hello"


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def nginx(
    request: pytest.FixtureRequest,
    base: EventBase,
    listening: socket.socket,
    tmp_path: Path,
    program: Callable[[str], str],
) -> Iterator[Client]:
    """A client of an nginx with a folder, a limit of 100 KiB, and 3 requests a connection."""
    path = program("nginx")
    root = tmp_path / "root"
    root.mkdir()
    (root / "small.txt").write_bytes(b"hello")
    (root / "large.txt").write_bytes(LARGE)
    port, fd = listening.getsockname()[1], listening.fileno()
    authority = trustme.CA()
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "server.pem")
    )
    config = tmp_path / "nginx.conf"
    user = pwd.getpwuid(os.getuid()).pw_name
    tls = "ssl" if request.param else ""
    config.write_text(NGINX.format(folder=tmp_path, port=port, user=user, tls=tls))
    for each in (tmp_path, *tmp_path.parents):
        if each.owner() == user and each != Path("/tmp"):
            with contextlib.suppress(PermissionError):
                each.chmod(0o755)
    command = [path, "-p", str(tmp_path), "-e", str(tmp_path / "errors"), "-c", str(config)]
    how: dict[str, object] = {}
    if request.param:
        pem = authority.cert_pem.bytes().decode()
        how["tls"] = client_context(cadata=pem, alpn=["http/1.1"])
    with running(command, fd, NGINX=f"{fd};"):
        client = Client(base, port, **how)
        yield client
        client.close()


class TestNginx:
    def test_files_over_connections_that_it_ends(self, nginx: Client) -> None:
        for _ in range(7):
            got = nginx.ask("/small.txt")
            assert (got.response_code, got.take_body()) == (200, b"hello")
        assert nginx.ends == 2, "three requests each"
        assert nginx.ask("/none").response_code == 204
        got = nginx.ask("/large.txt", "HEAD")
        assert got.input_headers.find("Content-Length") == str(len(LARGE))
        etag = got.input_headers.find("ETag")
        assert etag is not None
        assert nginx.ask("/small.txt", "GET", ("If-None-Match", "*")).response_code in (200, 304)
        assert nginx.ask("/large.txt", "GET", ("If-None-Match", etag)).response_code == 304
        assert nginx.ask("/nothing").response_code == 404
        assert nginx.ask("/large.txt").take_body() == LARGE

    def test_gzip_as_it_is_served(self, nginx: Client) -> None:
        got = nginx.ask("/large.txt", "GET", ("Accept-Encoding", "gzip"))
        assert got.input_headers.find("Content-Encoding") == "gzip"
        assert gzip.decompress(got.take_body()) == LARGE

    @pytest.mark.parametrize("how", ["whole", "stream", "held"])
    def test_413_in_the_middle_of_an_upload(self, nginx: Client, how: str) -> None:
        body = LARGE * 8
        if how == "stream":
            got = nginx.ask(
                "/refuse",
                "PUT",
                prepare=lambda request: request.stream_body(ends_of(body, 50_000), len(body)),
            )
        else:
            fields = [("Expect", "100-continue")] if how == "held" else []
            got = nginx.ask("/refuse", "PUT", *fields, body=body)
        assert (got.response_code, got.error) == (413, None)
        assert nginx.ask("/small.txt").take_body() == b"hello"

    def test_many_by_url_over_few_connections(self, nginx: Client) -> None:
        """Each connection is ended by the server after three requests, under the pool's hands."""
        options = HttpClientOptions(
            timeout_s=PATIENCE_S, pool=PoolOptions(max_connections_per_origin=4)
        )
        scheme = "http" if nginx.tls is None else "https"
        url = f"{scheme}://{HOST}:{nginx.port}"
        over: list[ClientResponse] = []
        with HttpClient(nginx.base, Loopback(), options, tls=nginx.tls) as client:

            def ask(count: int, method: str, path: str, **more: Any) -> list[ClientResponse]:
                over.clear()
                for _ in range(count):
                    client.request(
                        method, url + path, lambda response, arg: over.append(response), **more
                    )
                    assert client.connection_count <= 4
                while len(over) < count:
                    nginx.base.loop(EVLOOP_ONCE)
                return over

            for response in ask(40, "GET", "/small.txt"):
                assert (response.error, response.status, response.body) == (None, 200, b"hello")
            for response in ask(10, "GET", "/large.txt"):
                assert response.headers.find("Content-Encoding") == "gzip"
                assert (response.error, response.body) == (None, LARGE)
            for response in ask(5, "PUT", "/refuse", body=LARGE * 8):
                assert (response.error, response.status) == (None, 413)
            assert ask(1, "GET", "/none")[0].status == 204


def test_lighttpd(
    base: EventBase, listening: socket.socket, tmp_path: Path, program: Callable[[str], str]
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "small.txt").write_bytes(b"hello")
    (root / "large.txt").write_bytes(LARGE)
    port, fd = listening.getsockname()[1], listening.fileno()
    config = tmp_path / "lighttpd.conf"
    config.write_text(LIGHTTPD.format(folder=tmp_path, port=port))
    start = (
        "import os, sys; "
        f"os.dup2({fd}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    server = [program("lighttpd"), "-D", "-f", str(config)]
    command = [sys.executable, "-c", start, *server]
    with (
        running(command, fd, LISTEN_FDS="1"),
        contextlib.closing(Client(base, port)) as client,
    ):
        for _ in range(7):
            got = client.ask("/small.txt")
            assert (got.response_code, got.take_body()) == (200, b"hello")
        assert client.ends >= 1
        assert client.ask("/large.txt").take_body() == LARGE
        assert client.ask("/none").response_code == 404
        assert client.ask("/large.txt", "GET", ("Range", "bytes=1-3")).take_body() == LARGE[1:4]


def test_libevents_413_and_a_connection_that_goes(base: EventBase, c_peer: int) -> None:
    """It refuses and closes; what is still on its way to it may reset the connection."""
    with contextlib.closing(Client(base, c_peer)) as client:
        got = client.ask("/echo", "POST", ("Expect", "100-continue"), body=b"x" * 5_000_000)
        assert got.response_code == 413
        got = client.ask("/echo", "POST", body=b"x" * 5_000_000)
        assert got.response_code == 413 or type(got.error) is ConnectionClosed
        assert client.ask("/").take_body() == b"hello"
