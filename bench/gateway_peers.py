"""The same small applications, hosted by evsvc and by other servers for Python.

Usage: gateway_peers.py wsgi|asgi evsvc|waitress|uvicorn|uvicorn-h11 [hello|echo].  Binds 127.0.0.1
on any free port, prints it on one line, and serves until it is killed.  uvicorn runs on uvloop with
httptools, the fastest way that it offers; uvicorn-h11 is all Python, on asyncio's own loop.  Nobody
writes an access log; threads are eight everywhere.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

BODY = b"Thanks for the request!"
THREADS = 8


def wsgi_hello(environ: Any, start_response: Any) -> list[bytes]:
    """Answer any request with the one small page."""
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
    start_response("200 OK", fields)
    return [BODY]


def wsgi_echo(environ: Any, start_response: Any) -> list[bytes]:
    """Answer with the body of the request."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", fields)
    return [body]


async def asgi_hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer any request with the one small page."""
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": BODY})


async def asgi_echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body of the request."""
    pieces = []
    more = True
    while more:
        message = await receive()
        pieces.append(message["body"])
        more = message["more_body"]
    body = b"".join(pieces)
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


APPLICATIONS: dict[str, dict[str, Any]] = {
    "wsgi": {"hello": wsgi_hello, "echo": wsgi_echo},
    "asgi": {"hello": asgi_hello, "echo": asgi_echo},
}


def listen() -> socket.socket:
    """Return a listening socket, and print its port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock.setblocking(False)
    print(sock.getsockname()[1], flush=True)
    return sock


def evsvc_wsgi(application: Any) -> None:
    """Serve on evsvc, with every default limit and time-out on."""
    from evsvc import EventBase, HttpServer
    from evsvc.wsgi import WsgiHandler, WsgiOptions

    base = EventBase()
    server = HttpServer(base)
    WsgiHandler(base, application, WsgiOptions(threads=THREADS)).mount(server)
    server.accept_socket(listen())
    base.dispatch()


def evsvc_asgi(application: Any) -> None:
    """Serve on evsvc, with every default limit and time-out on."""
    from evsvc import HttpServer
    from evsvc.aio import EventLoop
    from evsvc.asgi import AsgiHandler

    loop = EventLoop()
    server = HttpServer(loop.base)
    AsgiHandler(loop, application).mount(server)
    server.accept_socket(listen())
    loop.run_forever()


def waitress(application: Any) -> None:
    """Serve on waitress."""
    import logging

    import waitress

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it tells of each that waits
    waitress.serve(application, sockets=[listen()], threads=THREADS)


def uvicorn(application: Any, http: Any = "httptools", loop: Any = "uvloop") -> None:
    """Serve on uvicorn."""
    from uvicorn import Config, Server

    config = Config(
        application, http=http, loop=loop, lifespan="off", access_log=False, log_level="error"
    )
    Server(config).run([listen()])


def main(interface: str, name: str, kind: str = "hello") -> None:
    """Serve until killed."""
    application = APPLICATIONS[interface][kind]
    if name == "evsvc":
        {"wsgi": evsvc_wsgi, "asgi": evsvc_asgi}[interface](application)
    elif name == "waitress":
        waitress(application)
    elif name == "uvicorn":
        uvicorn(application)
    else:
        uvicorn(application, "h11", "asyncio")


if __name__ == "__main__":
    main(*sys.argv[1:])
