"""FastAPI, Starlette and Django's ASGI, unchanged, on an HttpServer; curl and others ask."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import pytest
from fastapi import BackgroundTasks, Body, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import InvalidStatus
from websockets.sync import client as websocket_client

from evsvc.commands.hosting import kind_of
from tests.asgi.gateway import Gateway
from tests.hosted import PATIENCE_S, served
from tests.wsgi import django_site

pytestmark = pytest.mark.interop

Curl = Callable[..., bytes]


@pytest.fixture
def serve() -> Iterator[Callable[..., Gateway]]:
    yield from served(Gateway)


class Site:
    """The hello of FastAPI's own tutorial, and what else a small application does."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.left = threading.Event()
        self.app = app = FastAPI(lifespan=self._lifespan)
        app.get("/")(self.root)
        app.get("/items/{item_id}")(self.item)
        app.get("/state")(self.state)
        app.post("/echo")(self.echo)
        app.post("/sum")(self.sum)
        app.get("/stream")(self.stream)
        app.get("/forever")(self.forever)
        app.get("/later")(self.later)
        app.get("/fails")(self.fails)
        app.get("/blocks")(self.blocks)
        app.websocket("/ws")(self.ws)
        app.websocket("/denied")(self.denied)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[dict[str, str]]:
        self.events.append("started")
        yield {"pool": "of the lifespan"}
        self.events.append("stopped")

    async def root(self) -> dict[str, str]:
        return {"message": "Hello World"}

    async def item(self, item_id: int, q: str | None = None) -> dict[str, Any]:
        return {"item_id": item_id, "q": q}

    async def state(self, request: Request) -> str:
        return request.state.pool

    async def echo(self, request: Request) -> StreamingResponse:
        async def upper() -> AsyncIterator[bytes]:
            async for data in request.stream():
                yield data.upper()

        return StreamingResponse(upper())

    async def sum(self, numbers: Annotated[list[int], Body()]) -> int:
        return sum(numbers)

    async def stream(self) -> StreamingResponse:
        async def numbers() -> AsyncIterator[str]:
            for number in range(1000):
                yield f"{number}\n"
                await asyncio.sleep(0)

        return StreamingResponse(numbers(), media_type="text/plain")

    async def forever(self) -> StreamingResponse:
        async def numbers() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65536
            finally:
                self.left.set()

        return StreamingResponse(numbers())

    async def later(self, tasks: BackgroundTasks) -> str:
        tasks.add_task(self.events.append, "later")
        return "soon"

    async def fails(self) -> str:
        raise KeyError("a route's own fault")

    def blocks(self) -> str:
        return threading.current_thread().name

    async def ws(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(f"got {await websocket.receive_text()}")
        except WebSocketDisconnect as exc:
            self.events.append(f"left with {exc.code}")

    async def denied(self, websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("not you", 401))


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def gateway(serve: Callable[..., Gateway], site: Site) -> Gateway:
    return serve(site.app)


def url(gateway: Gateway, path: str = "/") -> str:
    return f"http://127.0.0.1:{gateway.port}{path}"


def test_fastapi_says_hello(gateway: Gateway, curl: Curl) -> None:
    assert curl(url(gateway)) == b'{"message":"Hello World"}'
    assert json.loads(curl(url(gateway, "/items/5?q=a"))) == {"item_id": 5, "q": "a"}
    assert curl("-o", "/dev/null", "-w", "%{http_code}", url(gateway, "/items/x")) == b"422"
    assert "/items/{item_id}" in json.loads(curl(url(gateway, "/openapi.json")))["paths"]
    assert b"swagger" in curl(url(gateway, "/docs"))


def test_fastapi_has_its_lifespan(gateway: Gateway, site: Site, curl: Curl) -> None:
    assert curl(url(gateway, "/state")) == b'"of the lifespan"'
    assert site.events == ["started"]
    gateway.stop()
    assert site.events == ["started", "stopped"]


def test_fastapi_streams_both_ways(gateway: Gateway, curl: Curl) -> None:
    lines = curl("--no-buffer", url(gateway, "/stream"))
    assert lines.split() == [b"%d" % number for number in range(1000)]
    text = b"some text " * 100_000
    assert curl("--data-binary", "@-", url(gateway, "/echo"), data=text) == text.upper()
    chunked = ("-H", "Transfer-Encoding: chunked", "-T", "-", "-X", "POST")
    assert curl(*chunked, url(gateway, "/echo"), data=text) == text.upper()


def test_fastapi_takes_json(gateway: Gateway, curl: Curl) -> None:
    numbers = json.dumps(list(range(100_000))).encode()
    post = ("-H", "Content-Type: application/json", "--data-binary", "@-")
    assert curl(*post, url(gateway, "/sum"), data=numbers) == b"%d" % sum(range(100_000))


def test_fastapi_ends_a_stream_whose_client_has_gone(gateway: Gateway, site: Site) -> None:
    sock = gateway.connect()
    sock.sendall(b"GET /forever HTTP/1.1\r\nHost: h\r\n\r\n")
    assert sock.recv(100)
    sock.close()
    assert site.left.wait(PATIENCE_S)


def test_fastapi_works_behind_its_response(gateway: Gateway, site: Site, curl: Curl) -> None:
    assert curl(url(gateway, "/later")) == b'"soon"'
    gateway.stop()
    assert "later" in site.events


def test_fastapi_answers_for_a_route_that_fails(gateway: Gateway, curl: Curl) -> None:
    assert curl("-w", "%{http_code}", url(gateway, "/fails")) == b"Internal Server Error500"
    assert isinstance(gateway.take_faults()[0], KeyError)


def test_fastapi_runs_what_blocks_in_threads(gateway: Gateway, curl: Curl) -> None:
    assert b"worker thread" in curl(url(gateway, "/blocks"))


def test_fastapi_has_websockets(gateway: Gateway, site: Site) -> None:
    place = f"ws://127.0.0.1:{gateway.port}/ws"
    with websocket_client.connect(place, proxy=None) as session:
        for text in ("one", "two"):
            session.send(text)
            assert session.recv(PATIENCE_S) == f"got {text}"
        session.close(4001)
    gateway.stop()
    assert "left with 4001" in site.events


def test_fastapi_denies_websockets(gateway: Gateway) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        websocket_client.connect(f"ws://127.0.0.1:{gateway.port}/denied", proxy=None),
    ):
        raise AssertionError("it was accepted")
    assert (refused.value.response.status_code, refused.value.response.body) == (401, b"not you")


def test_aiohttp_asks_fastapi_many_things_at_once(gateway: Gateway) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session:

            async def item(number: int) -> Any:
                async with session.get(url(gateway, f"/items/{number}")) as response:
                    return (await response.json())["item_id"]

            assert await asyncio.gather(*map(item, range(200))) == list(range(200))
            async with session.ws_connect(url(gateway, "/ws")) as ws:
                await ws.send_str("hello")
                assert await ws.receive_str() == "got hello"

    asyncio.run(main())


def test_starlette_serves_files_and_hears_of_clients_that_leave(
    serve: Callable[..., Gateway], curl: Curl
) -> None:
    heard: list[BaseException] = []
    over = threading.Event()

    async def file(request: Request) -> FileResponse:
        return FileResponse(__file__)

    async def upload(request: Request) -> PlainTextResponse:
        try:
            await request.body()
        except ClientDisconnect as exc:
            heard.append(exc)
            over.set()
            raise
        return PlainTextResponse("whole")

    routes = [Route("/file", file), Route("/upload", upload, methods=["POST"])]
    gateway = serve(Starlette(routes=routes))
    data = Path(__file__).read_bytes()
    assert curl(url(gateway, "/file")) == data
    assert curl("-r", "10-99", url(gateway, "/file")) == data[10:100]
    sock = gateway.connect()
    sock.sendall(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234")
    sock.close()
    assert over.wait(PATIENCE_S)
    gateway.stop()
    gateway.faults.clear()  # Starlette's own, which does not say what it comes of


@pytest.mark.parametrize("prefix", ["/", "/shop/"])
def test_django_says_hello(serve: Callable[..., Gateway], curl: Curl, prefix: str) -> None:
    gateway = serve(django_site.asgi_application, prefix=prefix)
    root = url(gateway, prefix)
    assert curl(root) == b"Hello, World!"
    assert curl(f"{root}?name=J%C3%BCrgen") == "Hello, Jürgen!".encode()
    assert curl(f"{root}where/") == f"{root}where/x".encode()
    assert curl(f"{root}async/") == b"from a coroutine"
    form = ("-F", "a=b", "-F", "file=@-;filename=f")
    assert curl(*form, f"{root}form/", data=b"abc") == b"a=b file=3"
    assert curl("-w", "%{http_code}", f"{root}fails/")[-3:] == b"500"


@pytest.mark.parametrize("app", [FastAPI(), Starlette(), django_site.asgi_application])
def test_evsvc_serve_sees_what_they_are(app: Any) -> None:
    assert kind_of(app) == "asgi"
