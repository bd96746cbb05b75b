"""The Python clients of bench/http_client_bench.py, each of which keeps some connections busy.

Usage: http_clients.py NAME PORT CONNECTIONS SECONDS.  Asks 127.0.0.1 for /, one request at a time
on each connection; prints how many were answered with 200, and the seconds of CPU time in user and
kernel mode.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Callable
from time import monotonic

usage: list[resource.struct_rusage] = []


def begin() -> None:
    """Note what was used of the processor so far: to start is not what is measured."""
    usage.append(resource.getrusage(resource.RUSAGE_SELF))


def run_evsvc(port: int, connections: int, seconds: int) -> int:
    """Ask with evsvc's HttpConnection."""
    from evsvc import EventBase
    from evsvc.http import HttpConnection, HttpRequest

    answered = 0

    def done(request: HttpRequest | None, connection: HttpConnection) -> None:
        nonlocal answered
        if request is None or request.response_code != 200:
            raise SystemExit("a request failed")
        answered += 1
        connection.make_request(HttpRequest(done, connection), "GET", "/")

    begin()
    with EventBase() as base:
        for _ in range(connections):
            connection = HttpConnection(base, None, "127.0.0.1", port)
            connection.make_request(HttpRequest(done, connection), "GET", "/")
        base.loopexit(seconds)
        base.dispatch()
    return answered


async def run_aiohttp(port: int, connections: int, seconds: int) -> int:
    """Ask with aiohttp's ClientSession."""
    import aiohttp

    answered = 0
    end = 0.0

    async def ask(session: aiohttp.ClientSession) -> None:
        nonlocal answered
        while monotonic() < end:
            async with session.get(f"http://127.0.0.1:{port}/") as response:
                await response.read()
                assert response.status == 200
                answered += 1

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        begin()
        end = monotonic() + seconds
        await asyncio.gather(*(ask(session) for _ in range(connections)))
    return answered


async def run_httpx(port: int, connections: int, seconds: int) -> int:
    """Ask with httpx's AsyncClient."""
    import httpx

    answered = 0
    end = 0.0

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal answered
        while monotonic() < end:
            response = await client.get(f"http://127.0.0.1:{port}/")
            assert response.status_code == 200
            answered += 1

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits) as client:
        begin()
        end = monotonic() + seconds
        await asyncio.gather(*(ask(client) for _ in range(connections)))
    return answered


def run_with_uvloop(port: int, connections: int, seconds: int) -> int:
    """Ask with aiohttp on uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run_aiohttp(port, connections, seconds))


CLIENTS: dict[str, Callable[[int, int, int], int]] = {
    "evsvc": run_evsvc,
    "aiohttp": lambda *how: asyncio.run(run_aiohttp(*how)),
    "aiohttp-uvloop": run_with_uvloop,
    "httpx": lambda *how: asyncio.run(run_httpx(*how)),
}


def main() -> None:
    """Run the client of the command line."""
    name, *numbers = sys.argv[1:]
    port, connections, seconds = map(int, numbers)
    answered = CLIENTS[name](port, connections, seconds)
    begin()
    before, after = usage
    print(answered, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)


if __name__ == "__main__":
    main()
