"""What stands around the server, seen by programs of others: curl reads compressed replies, nginx
tells whom it asks for, and lets events pass."""

from __future__ import annotations

import os
import pwd
import re
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from evsvc.core import EventBase
from evsvc.http import (
    CompressionOptions,
    EventStream,
    HttpServer,
    ServerRequest,
    StreamEnd,
    TrustedProxies,
)
from tests.http.peers import Peer, request

pytestmark = pytest.mark.interop

PATIENCE_S = 20
TEXT = b"".join(b"line %d of a page\n" % number for number in range(5000))

Curl = Callable[..., bytes]

CONFIGURATION = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream ours {{ server 127.0.0.1:{upstream}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://ours;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Forwarded
        '$http_forwarded, for="$remote_addr:$remote_port";proto=$scheme;host="$http_host"';
    }}
  }}
}}
"""


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture
def server(base: EventBase) -> Iterator[HttpServer]:
    with HttpServer(base) as made:
        yield made


@pytest.fixture
def curl(base: EventBase, program: Callable[[str], str]) -> Curl:
    """Return `curl(*arguments)`: what it writes, while the base loops."""
    command = [program("curl"), "--disable", "--silent", "--show-error", "--noproxy", "*"]
    command += ["--max-time", str(PATIENCE_S)]

    def run(*arguments: str) -> bytes:
        done: list[subprocess.CompletedProcess[bytes]] = []

        def wait() -> None:
            try:
                done.append(
                    subprocess.run(
                        [*command, *arguments],
                        capture_output=True,
                        timeout=2 * PATIENCE_S,
                        check=False,
                    )
                )
            finally:
                base.post(base.loopbreak)

        thread = threading.Thread(target=wait)
        thread.start()
        base.dispatch()
        thread.join()
        assert (done[0].returncode, done[0].stderr) == (0, b"")
        return done[0].stdout

    return run


@pytest.fixture
def nginx(server: HttpServer, program: Callable[[str], str], tmp_path: Path) -> Iterator[str]:
    """An nginx in front of the server, on a socket that it inherits; its URL."""
    path = program("nginx")
    upstream = server.bind_socket("127.0.0.1", 0).port
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        port = listening.getsockname()[1]
        configuration = tmp_path / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=tmp_path,
                user=pwd.getpwuid(os.getuid()).pw_name,
                upstream=upstream,
                port=port,
            )
        )
        fd = listening.fileno()
        with subprocess.Popen(
            [
                path,
                "-p",
                str(tmp_path),
                "-e",
                str(tmp_path / "error.log"),
                "-c",
                str(configuration),
            ],
            env={**os.environ, "NGINX": f"{fd};"},
            pass_fds=(fd,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)


def url_of(server: HttpServer) -> str:
    return f"http://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}"


def send_whole(request: ServerRequest, arg: object) -> None:
    request.send_reply(200, None, TEXT)


def send_pieces(request: ServerRequest, arg: object) -> None:
    request.send_reply_start(200)
    for start in range(0, len(TEXT), 10_000):
        request.send_reply_chunk(TEXT[start : start + 10_000])
    request.send_reply_end()


@pytest.mark.parametrize("answer", [send_whole, send_pieces])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_curl_unpacks_what_is_compressed(
    server: HttpServer,
    curl: Curl,
    coding: str,
    answer: Callable[[ServerRequest, object], None],
    missing: Callable[[str], NoReturn],
) -> None:
    server.set_compression(CompressionOptions(codings=(coding,)))
    server.set_gencb(answer)
    url = url_of(server)
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True)
    speaks = {"br": "brotli", "zstd": "zstd"}.get(coding, "zlib")
    if not re.search(rf"\b(?:lib)?{speaks}", version.stdout):
        missing(f"this curl was built without {speaks}")
    accept = ("--header", f"Accept-Encoding: {coding}")
    assert curl("--compressed", *accept, url) == TEXT
    packed = curl(*accept, "--write-out", "%{size_download}", "--output", os.devnull, url)
    assert int(packed) < len(TEXT) / 5
    assert curl(url) == TEXT


@pytest.mark.parametrize("family", ["x-forwarded", "forwarded"])
@pytest.mark.parametrize(
    "lie",
    [
        (),
        ("X-Forwarded-For: 192.0.2.66", "Forwarded: for=192.0.2.66"),
        ("X-Forwarded-For: 192.0.2.66, 127.0.0.1", "Forwarded: for=192.0.2.66, for=127.0.0.1"),
        ("X-Forwarded-Proto: https", "Forwarded: proto=https;for=unknown"),
    ],
)
def test_the_client_behind_nginx_is_known_whatever_it_says_itself(
    server: HttpServer, curl: Curl, nginx: str, family: str, lie: tuple[str, ...]
) -> None:
    """The client has another of the loopback's addresses than the proxy, and is not trusted."""
    seen = []

    def answer(got: ServerRequest, arg: object) -> None:
        seen.append(got.client)
        got.send_reply(200, None, got.client.address.encode())

    server.set_gencb(answer)
    server.set_trusted_proxies(
        TrustedProxies(["127.0.0.1"], family=family, takes=("for", "proto", "host"))
    )
    lies = [argument for line in lie for argument in ("--header", line)]
    told = curl("--interface", "127.0.0.9", "--header", "Host: shop:81", *lies, f"{nginx}/")
    assert told == b"127.0.0.9"
    (client,) = seen
    assert client.scheme == "http"
    assert client.host == ("shop:81" if family == "forwarded" else "shop")
    assert (client.port > 0) == (family == "forwarded")


@pytest.mark.parametrize("first", ['for="', 'for=192.0.2.66;x="', 'for=192.0.2.66;x="\\'])
def test_a_quote_that_a_client_leaves_open_makes_nobody_of_it(
    server: HttpServer, curl: Curl, nginx: str, first: str
) -> None:
    server.set_gencb(lambda got, arg: got.send_reply(200, None, got.client.address.encode()))
    server.set_trusted_proxies(TrustedProxies(["127.0.0.1"], family="forwarded"))
    told = curl("--interface", "127.0.0.9", "--header", f"Forwarded: {first}", f"{nginx}/")
    assert told == b"127.0.0.1", "the proxy's own: what it has appended cannot be told apart"


def test_events_pass_through_nginx_as_they_are_sent(
    base: EventBase, server: HttpServer, nginx: str
) -> None:
    """Each is seen while the stream is open: a proxy that gathered them would have us wait."""
    streams: list[EventStream] = []
    server.set_cb("/events", lambda got, arg: streams.append(got.start_event_stream()))
    with socket.create_connection(("127.0.0.1", int(nginx.rpartition(":")[2]))) as sock:
        peer = Peer(base, sock)
        peer.send(request("/events"))
        peer.receive_until(lambda: b"event-stream" in peer.received)
        for number in range(3):
            assert streams[0].send(f"number {number}")
            expected = f"data: number {number}\n\n".encode()
            peer.receive_until(lambda expected=expected: expected in peer.received)
            assert expected in peer.received
        streams[0].close()
        peer.receive_until(lambda: peer.received.endswith(b"0\r\n\r\n"))
        assert streams[0].end is StreamEnd.CLOSED


def test_a_browser_that_leaves_nginx_leaves_us_too(
    base: EventBase, server: HttpServer, nginx: str
) -> None:
    streams: list[EventStream] = []
    server.set_cb("/events", lambda got, arg: streams.append(got.start_event_stream()))
    with socket.create_connection(("127.0.0.1", int(nginx.rpartition(":")[2]))) as sock:
        peer = Peer(base, sock)
        peer.send(request("/events"))
        peer.receive_until(lambda: b"event-stream" in peer.received)
    peer.until(lambda: select.select([], [], [], 0.001) and streams[0].end)
    assert streams[0].end is StreamEnd.GONE
