"""WebSockets as a task sees them, on both sides."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from evsvc.aio import attach, fetch, handler, run, shutdown
from evsvc.core import ArgumentTypeError, EventBase, StateError
from evsvc.http import HttpClient, HttpServer, ServerRequest
from tests.aio.conftest import Start

pytest.importorskip("wsproto")

from evsvc.aio.websocket import WebSocketClosed, accept, connect
from evsvc.http.websocket import HandshakeFailed, WebSocketOptions


@contextmanager
def serving(
    base: EventBase, on_request: Callable[[ServerRequest, Any], object]
) -> Iterator[tuple[HttpServer, str]]:
    """Give a server with one handler, and its URL."""
    with HttpServer(base) as server:
        server.set_gencb(on_request, None)
        yield server, f"ws://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}/"


async def echo(request: ServerRequest, arg: object) -> None:
    ws = accept(request)
    if ws is None:
        return
    async with ws:
        async for message in ws:
            await ws.send(message)


def test_messages_go_both_ways(start: Start, base: EventBase) -> None:
    async def main() -> list[str | bytes]:
        with serving(base, handler(echo)) as (_, url), attach(base):
            async with connect(base, url) as ws:
                await ws.send("text")
                await ws.send(b"bytes")
                return [await anext(ws), await anext(ws)]

    assert start(main()) == ["text", b"bytes"]


def test_both_sides_wait_for_room_and_for_those_who_take(base: EventBase) -> None:
    """Far more than any limit goes through: the sender waits, and so does the server."""
    count, size = 500, 20_000
    options = WebSocketOptions(max_output_bytes=64 * 1024)
    most = 0

    async def main() -> int:
        with serving(base, handler(echo)) as (_, url):
            async with connect(base, url, options, max_waiting=2) as ws:

                async def send() -> None:
                    nonlocal most
                    for _ in range(count):
                        await ws.send(b"x" * size)
                        most = max(most, ws.session.unsent_bytes)

                sending = asyncio.create_task(send())
                heard = 0
                for number in range(count):
                    heard += len(await anext(ws))
                    if number % 100 == 0:
                        await asyncio.sleep(0.001)
                await sending
                return heard

    assert run(main(), base=base) == count * size
    assert 32 * 1024 < most <= 32 * 1024 + size + 100


def test_the_end_of_one_side_is_the_end_of_the_others_loop(base: EventBase) -> None:
    async def says_two(request: ServerRequest, arg: object) -> None:
        ws = accept(request)
        assert ws is not None
        await ws.send("one")
        await ws.send("two")
        await ws.close(1001, "enough")

    async def main() -> list[str | bytes]:
        with serving(base, handler(says_two)) as (_, url):
            async with connect(base, url) as ws:
                heard = [message async for message in ws]
                assert (ws.session.close_code, ws.session.close_reason) == (1001, "enough")
                with pytest.raises(WebSocketClosed, match="1001 enough"):
                    await ws.send("too late")
                await ws.close()
                return heard

    assert run(main(), base=base) == ["one", "two"]


def test_a_session_that_fails_raises_behind_the_last_message(base: EventBase) -> None:
    async def cuts(request: ServerRequest, arg: object) -> None:
        ws = accept(request)
        assert ws is not None
        await ws.send("one")
        await asyncio.sleep(0.01)
        ws.session.close()

    async def main() -> None:
        with serving(base, handler(cuts)) as (_, url):
            async with connect(base, url) as ws:
                assert await anext(ws) == "one"
                with pytest.raises(WebSocketClosed) as caught:
                    await anext(ws)
                assert caught.value.code == 1006

    run(main(), base=base)


@pytest.mark.parametrize(("how", "code"), [("raises", 1011), ("is cancelled", 1001)])
def test_a_handler_that_ends_badly_says_so(base: EventBase, how: str, code: int) -> None:
    async def ends(request: ServerRequest, arg: object) -> None:
        ws = accept(request)
        assert ws is not None
        async with ws:
            await anext(ws)
            if how == "raises":
                raise LookupError("no such thing")
            await asyncio.sleep(3600)

    async def main() -> int | None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        ending = handler(ends)
        with serving(base, ending) as (_, url):
            async with connect(base, url) as ws:
                await ws.send("go")
                if how == "is cancelled":
                    await asyncio.sleep(0.01)
                    ending.cancel()
                await ws.wait_closed()
                return ws.session.close_code

    assert run(main(), base=base) == code


def test_a_servers_stop_ends_its_sessions(base: EventBase) -> None:
    async def main() -> int | None:
        echoing = handler(echo)
        with serving(base, echoing) as (server, url):
            async with connect(base, url) as ws:
                await ws.send("hello")
                assert await anext(ws) == "hello"
                await shutdown(server)
                await echoing.join()
                await ws.wait_closed()
                return ws.session.close_code

    assert run(main(), base=base) == 1001


def test_what_is_no_handshake_is_answered(base: EventBase) -> None:
    async def main() -> int:
        with serving(base, handler(echo)) as (_, url), HttpClient(base) as client:
            return (await fetch(client, "GET", url.replace("ws", "http", 1))).status

    assert run(main(), base=base) == 400


def test_a_server_that_says_no_is_an_error(base: EventBase) -> None:
    async def refuses(request: ServerRequest, arg: object) -> None:
        request.send_error(403)

    async def main() -> None:
        with serving(base, handler(refuses)) as (_, url), pytest.raises(HandshakeFailed):
            async with connect(base, url):
                pass

    run(main(), base=base)


def test_a_timeout_of_asyncio_ends_an_opening(base: EventBase) -> None:
    async def waits(request: ServerRequest, arg: object) -> None:
        begun.set()
        await asyncio.sleep(3600)

    begun = asyncio.Event()

    async def main() -> None:
        waiting = handler(waits)
        with serving(base, waiting) as (_, url):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), connect(base, url):
                    pass
            await begun.wait()
            await waiting.join()

    run(main(), base=base)


def test_only_messages_are_sent_and_one_task_takes(base: EventBase) -> None:
    async def main() -> None:
        with serving(base, handler(echo)) as (_, url):
            async with connect(base, url) as ws:
                with pytest.raises(ArgumentTypeError, match="int"):
                    await ws.send(7)  # type: ignore[arg-type]  # that is the test
                taking = asyncio.create_task(anext(ws))  # type: ignore[arg-type]  # it is a coroutine
                await asyncio.sleep(0)
                with pytest.raises(StateError, match="another task"):
                    await anext(ws)
                await ws.send("hello")
                assert await taking == "hello"

    run(main(), base=base)


def test_the_rest_of_aio_does_without_the_extra() -> None:
    program = "import sys; sys.modules['wsproto'] = None; import evsvc.aio"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
