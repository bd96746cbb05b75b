"""HTTP, RPC and DNS of a base that asyncio's own loop, uvloop or an EventLoop drives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from evsvc.aio import attach
from evsvc.core import EventBase
from evsvc.dns import DnsServer, DnsServerRequest, Resolver
from evsvc.http import HttpConnection, HttpServer, ServerRequest
from evsvc.rpc import RpcPool, RpcServer, RpcStatus
from tests.aio.conftest import Start
from tests.rpc.adding import Add, AddCall, AddReply, AddRequest

aiohttp = pytest.importorskip("aiohttp")

LARGE = bytes(range(256)) * 4000


@pytest.mark.interop
def test_aiohttps_client_is_answered(start: Start, base: EventBase) -> None:
    def echo(request: ServerRequest, arg: object) -> None:
        request.send_reply(200, "OK", request.take_body())

    async def main() -> list[bytes]:
        with HttpServer(base) as server, attach(base):
            server.set_gencb(echo, None)
            url = f"http://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}/"
            async with aiohttp.ClientSession() as session:

                async def ask() -> bytes:
                    async with session.post(url, data=LARGE) as response:
                        body: bytes = await response.read()
                        return body

                return await asyncio.gather(*(ask() for _ in range(20)))

    assert start(main()) == [LARGE] * 20


def test_a_request_is_answered_later_from_a_task(start: Start, base: EventBase) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def answer(request: ServerRequest) -> None:
        await asyncio.sleep(0.001)
        request.send_reply(200, "OK", b"later")

    def on_request(request: ServerRequest, arg: object) -> None:
        tasks.append(asyncio.create_task(answer(request)))

    async def main() -> bytes:
        with HttpServer(base) as server, attach(base):
            server.set_gencb(on_request, None)
            port = server.bind_socket("127.0.0.1", 0).port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answered = await reader.read()
            writer.close()
            return answered

    assert start(main()).endswith(b"\r\n\r\nlater")


def test_calls_are_made_and_answered(start: Start, base: EventBase) -> None:
    def add(call: AddCall, arg: object) -> None:
        call.done(AddReply(call.request.left + call.request.right))

    def on_reply(status: RpcStatus, request: Any, reply: AddReply, arg: Any) -> None:
        arg.set_result(reply.total)

    async def main() -> list[int]:
        with HttpServer(base) as http, RpcPool(base) as pool, attach(base):
            RpcServer(http).register_rpc(Add, add, None)
            port = http.bind_socket("127.0.0.1", 0).port
            pool.add_connection(HttpConnection(base, None, "127.0.0.1", port))
            futures = [asyncio.get_running_loop().create_future() for _ in range(10)]
            for number, future in enumerate(futures):
                pool.make_request(Add, AddRequest(number, 1), on_reply, future)
            return await asyncio.gather(*futures)

    assert start(main()) == list(range(1, 11))


def test_a_name_is_resolved(start: Start, base: EventBase) -> None:
    def on_query(request: DnsServerRequest, arg: object) -> None:
        request.add_a_reply(request.questions[0].name, ["192.0.2.7"], 60)
        request.respond(0)

    def on_addresses(result: int, kind: int, count: int, ttl: int, found: Any, arg: Any) -> None:
        arg.set_result(found)

    async def main() -> list[str]:
        with DnsServer(base, on_query) as server, Resolver(base, 0) as resolver, attach(base):
            port = server.bind_udp("127.0.0.1", 0).port
            resolver.nameserver_ip_add(f"127.0.0.1:{port}")
            future = asyncio.get_running_loop().create_future()
            resolver.resolve_ipv4("host.example", 0, on_addresses, future)
            found: list[str] = await future
            return found

    assert start(main()) == ["192.0.2.7"]
