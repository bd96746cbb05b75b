"""The servers of bench/http_server.py on other servers for Python.

Usage: http_peers.py bjoern|uvicorn|aiohttp [hello|look|echo|routes|file FILE|tls CERTIFICATE].
Binds 127.0.0.1 on any free port, prints it on one line, and serves until it is killed.  uvicorn is
asked by a plain ASGI callable and runs on uvloop with httptools, aiohttp runs on uvloop: each the
fastest way that it offers, without an access log.  bjoern has no TLS.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"Thanks for the request!"
ROUTES = 1000
PIECE_BYTES = 64 * 1024


def listen() -> socket.socket:
    """Return a listening socket, and print its port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock.setblocking(False)
    print(sock.getsockname()[1], flush=True)
    return sock


def bjoern(kind: str, file: str) -> None:
    """Serve by WSGI on bjoern."""
    import bjoern

    routes = {f"/route/{number}" for number in range(ROUTES)}

    def plain(start: Any, body: bytes) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    def hello(environ: Any, start: Any) -> Any:
        return plain(start, BODY)

    def look(environ: Any, start: Any) -> Any:
        assert environ["HTTP_USER_AGENT"]
        assert environ["HTTP_ACCEPT_LANGUAGE"]
        return plain(start, BODY)

    def echo(environ: Any, start: Any) -> Any:
        return plain(start, environ["wsgi.input"].read())

    def by_route(environ: Any, start: Any) -> Any:
        assert environ["PATH_INFO"] in routes
        return plain(start, BODY)

    def send_file(environ: Any, start: Any) -> Any:
        opened = open(file, "rb")  # noqa: SIM115  (bjoern closes it)
        size = str(os.fstat(opened.fileno()).st_size)
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", size)])
        return environ["wsgi.file_wrapper"](opened, PIECE_BYTES)

    apps = {"look": look, "echo": echo, "routes": by_route, "file": send_file}
    bjoern.server_run(listen(), apps.get(kind, hello))


def uvicorn(kind: str, file: str) -> None:
    """Serve by ASGI on uvicorn."""
    from uvicorn import Config, Server

    routes = {f"/route/{number}" for number in range(ROUTES)}

    async def plain(send: Any, body: bytes) -> None:
        fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        await plain(send, BODY)

    async def look(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        assert headers[b"user-agent"]
        assert headers[b"accept-language"]
        await plain(send, BODY)

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        pieces = []
        more = True
        while more:
            message = await receive()
            pieces.append(message["body"])
            more = message["more_body"]
        await plain(send, b"".join(pieces))

    async def by_route(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"] in routes
        await plain(send, BODY)

    async def send_file(scope: Any, receive: Any, send: Any) -> None:
        with open(file, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % size)]
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            while piece := opened.read(PIECE_BYTES):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    apps = {"look": look, "echo": echo, "routes": by_route, "file": send_file}
    certificate = file if kind == "tls" else None
    config = Config(
        apps.get(kind, hello),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="error",
        ssl_certfile=certificate,
        ssl_keyfile=certificate,
    )
    Server(config).run([listen()])


def aiohttp(kind: str, file: str) -> None:
    """Serve on aiohttp's own server."""
    import uvloop
    from aiohttp import web

    def plain(body: bytes) -> web.Response:
        return web.Response(body=body, content_type="text/plain")

    async def hello(request: web.Request) -> web.Response:
        return plain(BODY)

    async def look(request: web.Request) -> web.Response:
        assert request.headers["User-Agent"]
        assert request.headers["Accept-Language"]
        return plain(BODY)

    async def echo(request: web.Request) -> web.Response:
        return plain(await request.read())

    async def send_file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(file)

    handlers: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]
    handlers = {"look": look, "echo": echo, "file": send_file}
    app = web.Application()
    if kind == "routes":
        for number in range(ROUTES):
            app.router.add_get(f"/route/{number}", hello)
    else:
        app.router.add_route("*", "/{path:.*}", handlers.get(kind, hello))
    context = None
    if kind == "tls":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
    web.run_app(
        app,
        sock=listen(),
        access_log=None,
        print=None,
        ssl_context=context,
        loop=uvloop.new_event_loop(),
    )


def main(peer: str, kind: str = "hello", file: str = "") -> None:
    """Serve until killed."""
    {"bjoern": bjoern, "uvicorn": uvicorn, "aiohttp": aiohttp}[peer](kind, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
