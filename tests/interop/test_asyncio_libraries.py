"""Libraries of asyncio on `EventLoop`: aiohttp's client and server, httpx, websockets, uvicorn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from evsvc.aio import run
from evsvc.core import EventBase
from evsvc.http import HttpServer, ServerRequest

aiohttp = pytest.importorskip("aiohttp")
aiohttp_web = pytest.importorskip("aiohttp.web")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
websockets_client = pytest.importorskip("websockets.asyncio.client")
websockets_server = pytest.importorskip("websockets.asyncio.server")

pytestmark = pytest.mark.interop

LARGE = bytes(range(256)) * 4000


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


@pytest.fixture
def url(base: EventBase) -> Iterator[str]:
    """Return the address of an HttpServer of ours that says what it was sent."""

    def echo(request: ServerRequest, arg: object) -> None:
        request.send_reply(200, "OK", request.take_body() or request.path.encode())

    with HttpServer(base) as server:
        server.set_gencb(echo, None)
        yield f"http://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}"


def test_aiohttps_client_asks_a_server_on_the_same_base(base: EventBase, url: str) -> None:
    async def main() -> list[bytes]:
        async with aiohttp.ClientSession() as session:

            async def ask(number: int) -> bytes:
                async with session.post(f"{url}/{number}", data=LARGE) as response:
                    body: bytes = await response.read()
                    return body

            return await asyncio.gather(*(ask(number) for number in range(20)))

    assert run(main(), base=base) == [LARGE] * 20


def test_httpx_asks_a_server_on_the_same_base(base: EventBase, url: str) -> None:
    async def main() -> list[bytes]:
        async with httpx.AsyncClient(trust_env=False) as client:
            answers = await asyncio.gather(*(client.get(f"{url}/{n}") for n in range(20)))
            return [answer.content for answer in answers]

    assert run(main(), base=base) == [f"/{number}".encode() for number in range(20)]


def test_aiohttps_server_answers_its_client() -> None:
    async def echo(request: Any) -> Any:
        return aiohttp_web.Response(body=await request.read())

    async def main() -> bytes:
        app = aiohttp_web.Application(client_max_size=2 * len(LARGE))
        app.router.add_post("/", echo)
        runner = aiohttp_web.AppRunner(app)
        await runner.setup()
        site = aiohttp_web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{host}:{port}/", data=LARGE) as response,
        ):
            body: bytes = await response.read()
        await runner.cleanup()
        return body

    assert run(main()) == LARGE


def test_websockets_talk_to_each_other() -> None:
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> list[str]:
        async with websockets_server.serve(echo, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            async with websockets_client.connect(f"ws://{host}:{port}/", proxy=None) as client:
                await client.send("one")
                await client.send("two")
                return [await client.recv(), await client.recv()]

    assert run(main()) == ["one", "two"]


def test_uvicorn_serves_on_the_loop() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    async def main() -> str:
        config = uvicorn.Config(app, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            host, port = listening.getsockname()
            serving = asyncio.create_task(server.serve([listening]))
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"http://{host}:{port}/hello")
            server.should_exit = True
            await serving
            return str(answer.text)

    assert run(main()) == "/hello"
