"""Requests as coroutines: whole answers, answers as they come, and giving up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from evsvc.aio import body_pieces, fetch, handler, open_response, run, send_piece
from evsvc.core import EventBase, StateError
from evsvc.http import HttpClient, HttpError, HttpServer, ServerRequest
from evsvc.http.errors import ClientGone

LARGE = bytes(range(256)) * 40_000


@contextmanager
def site(
    base: EventBase, on_request: Callable[[ServerRequest, Any], object]
) -> Iterator[tuple[HttpClient, str]]:
    """Give a client, and the URL of a server with one handler."""
    with HttpServer(base) as server, HttpClient(base) as client:
        server.set_gencb(on_request, None)
        yield client, f"http://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}/"


def echo(request: ServerRequest, arg: object) -> None:
    request.send_reply(200, "OK", f"{request.method} ".encode() + request.take_body())


def silent(request: ServerRequest, arg: object) -> None:
    """Never answer."""


def test_an_answer_comes_whole(base: EventBase) -> None:
    async def main() -> list[bytes]:
        with site(base, echo) as (client, url):
            answers = await asyncio.gather(
                *(fetch(client, "POST", url, body=f"{number}") for number in range(20))
            )
            return [answer.body for answer in answers]

    assert run(main(), base=base) == [f"POST {number}".encode() for number in range(20)]


def test_no_answer_is_an_error(base: EventBase) -> None:
    def on_request(request: ServerRequest, arg: object) -> None:
        assert request.connection is not None
        request.connection.close()

    async def main() -> None:
        with site(base, on_request) as (client, url):
            with pytest.raises(HttpError):
                await fetch(client, "POST", url, body=b"x")
            with pytest.raises(ValueError, match="no scheme"):
                await fetch(client, "GET", "no scheme")

    run(main(), base=base)


def test_a_status_of_failure_is_an_answer(base: EventBase) -> None:
    def on_request(request: ServerRequest, arg: object) -> None:
        request.send_error(404)

    async def main() -> int:
        with site(base, on_request) as (client, url):
            return (await fetch(client, "GET", url)).status

    assert run(main(), base=base) == 404


def test_a_cancelled_request_is_given_up(base: EventBase) -> None:
    log: list[str] = []
    begun = asyncio.Event()

    async def on_request(request: ServerRequest, arg: object) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            log.append("the client has gone")

    async def main() -> None:
        slow = handler(on_request)
        with site(base, slow) as (client, url):
            task = asyncio.create_task(fetch(client, "GET", url))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await slow.join()

    run(main(), base=base)
    assert log == ["the client has gone"]


def test_a_timeout_of_asyncio_ends_it(base: EventBase) -> None:
    async def main() -> None:
        with site(base, silent) as (client, url):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await fetch(client, "GET", url)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), open_response(client, "GET", url):
                    pass

    run(main(), base=base)


def test_a_client_that_is_closed_meanwhile_is_an_error(base: EventBase) -> None:
    async def streamed(client: HttpClient, url: str) -> None:
        async with open_response(client, "GET", url):
            pass

    async def main() -> None:
        with site(base, silent) as (client, url):
            tasks = [
                asyncio.create_task(fetch(client, "GET", url)),
                asyncio.create_task(streamed(client, url)),
            ]
            await asyncio.sleep(0.01)
            client.close()
            for task in tasks:
                with pytest.raises(StateError, match="closed before"):
                    await task
            with pytest.raises(StateError, match="closed"):
                await fetch(client, "GET", url)

    run(main(), base=base)


def test_an_answer_is_taken_as_it_comes(base: EventBase) -> None:
    first_is_taken = asyncio.Event()

    async def on_request(request: ServerRequest, arg: object) -> None:
        request.output_headers.add("X-Kind", "stream")
        request.send_reply_start(200)
        request.send_reply_chunk(b"one")
        await first_is_taken.wait()
        request.send_reply_chunk(b"two")
        request.send_reply_end()

    async def main() -> list[bytes]:
        pieces = []
        with site(base, handler(on_request)) as (client, url):
            async with open_response(client, "GET", url) as answer:
                assert answer.response.status == 200
                assert answer.response.headers.find("X-Kind") == "stream"
                async for piece in answer:
                    pieces.append(piece)
                    first_is_taken.set()
        return pieces

    assert run(main(), base=base) == [b"one", b"two"]


def test_a_body_that_nobody_takes_holds_the_server_back(base: EventBase) -> None:
    def on_request(request: ServerRequest, arg: object) -> None:
        request.send_reply(200, "OK", LARGE)

    async def main() -> bytes:
        with site(base, on_request) as (client, url):
            async with open_response(client, "GET", url, max_waiting=2) as answer:
                while len(answer._pieces) < 2:
                    await asyncio.sleep(0)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(answer._pieces) == 2
                return b"".join([piece async for piece in answer])

    assert run(main(), base=base) == LARGE


def test_a_body_that_breaks_off_raises_behind_what_came(base: EventBase) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        request.send_reply_start(200)
        request.send_reply_chunk(b"half")
        await asyncio.sleep(0.01)
        assert request.connection is not None
        request.connection.close()

    async def main() -> bytes:
        with site(base, handler(on_request)) as (client, url):
            async with open_response(client, "GET", url) as answer:
                first = await anext(answer)
                with pytest.raises(HttpError):
                    await anext(answer)
                return first

    assert run(main(), base=base) == b"half"


def test_what_is_left_of_a_body_is_given_up(base: EventBase) -> None:
    def on_request(request: ServerRequest, arg: object) -> None:
        request.send_reply(200, "OK", LARGE if request.path == "/" else b"small")

    async def main() -> bytes:
        with site(base, on_request) as (client, url):
            async with open_response(client, "GET", url) as answer:
                await anext(answer)
            return (await fetch(client, "GET", f"{url}small")).body

    assert run(main(), base=base) == b"small"


# Bodies that are sent.


async def numbers(count: int, size: int, given: list[int]) -> AsyncIterator[bytes]:
    """Give `count` pieces, with an empty one between, and note which were asked for."""
    for number in range(count):
        given.append(number)
        yield b"%d" % (number % 10) * size
        yield b""
        await asyncio.sleep(0)


@pytest.mark.parametrize("how", [fetch, "open_response"])
def test_a_body_is_sent_as_it_comes_to_be(base: EventBase, how: object) -> None:
    async def main() -> bytes:
        with site(base, echo) as (client, url):
            body = numbers(200, 5000, [])
            if how is fetch:
                return (await fetch(client, "PUT", url, body=body)).body
            async with open_response(client, "PUT", url, body=body) as answer:
                return b"".join([piece async for piece in answer])

    whole = b"".join(b"%d" % (number % 10) * 5000 for number in range(200))
    assert run(main(), base=base) == b"PUT " + whole


def test_a_body_is_asked_for_no_more_than_the_server_takes(base: EventBase) -> None:
    given: list[int] = []
    begun = asyncio.Event()

    async def takes_little(request: ServerRequest, arg: object) -> None:
        pieces = body_pieces(request, max_waiting=1)
        await anext(pieces)
        begun.set()
        await asyncio.sleep(3600)

    async def main() -> None:
        taking = handler(takes_little)
        with streaming(base, taking) as (client, url, _):
            task = asyncio.create_task(
                fetch(client, "PUT", url, body=numbers(1000, 1024 * 1024, given))
            )
            await begun.wait()
            before = -1
            while len(given) != before:  # the kernel has buffers of its own
                before = len(given)
                for _ in range(50):
                    await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            taking.cancel()  # it cannot know: the end of the client is behind what is not read
            await taking.join()

    run(main(), base=base)
    assert len(given) < 100


def test_a_body_that_raises_fails_its_request(base: EventBase) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("no second piece")

    async def main() -> None:
        with site(base, echo) as (client, url):
            with pytest.raises(LookupError, match="second"):
                await fetch(client, "PUT", url, body=body())
            with pytest.raises(LookupError, match="second"):
                async with open_response(client, "PUT", url, body=body()):
                    pass
            assert (await fetch(client, "PUT", url, body=b"whole")).body == b"PUT whole"

    run(main(), base=base)


def test_an_answer_before_the_end_of_the_body_ends_the_body(base: EventBase) -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    async def refuses(request: ServerRequest, arg: object) -> None:
        request.send_error(413)

    async def main() -> int:
        with streaming(base, handler(refuses)) as (client, url, _):
            status = (await fetch(client, "PUT", url, body=endless())).status
            await ended.wait()
            return status

    assert run(main(), base=base) == 413


# Bodies, in a handler.


@contextmanager
def streaming(
    base: EventBase, on_request: Callable[[ServerRequest, Any], object]
) -> Iterator[tuple[HttpClient, str, int]]:
    """Give a client, the URL and the port of a server whose handler takes bodies as they come."""
    with HttpServer(base) as server, HttpClient(base) as client:
        server.set_cb("/", on_request, None, streams=True)
        port = server.bind_socket("127.0.0.1", 0).port
        yield client, f"http://127.0.0.1:{port}/", port


def test_a_handler_takes_a_body_as_it_comes_and_sends_it_so(base: EventBase) -> None:
    most = 0

    async def on_request(request: ServerRequest, arg: object) -> None:
        nonlocal most
        pieces = body_pieces(request, max_waiting=2)
        request.send_reply_start(200)
        async for piece in pieces:
            most = max(most, len(pieces._pieces))
            await send_piece(request, piece)
        request.send_reply_end()

    async def main() -> bytes:
        with streaming(base, handler(on_request)) as (client, url, _):
            return (await fetch(client, "POST", url, body=LARGE)).body

    assert run(main(), base=base) == LARGE
    assert most <= 2


@pytest.mark.parametrize("body", [None, b"whole"])
def test_a_body_that_is_none_or_whole_is_taken_as_well(base: EventBase, body: bytes | None) -> None:
    async def on_request(request: ServerRequest, arg: object) -> None:
        request.send_reply(200, None, b"".join([piece async for piece in body_pieces(request)]))

    async def main() -> bytes:
        with site(base, handler(on_request)) as (client, url):
            return (await fetch(client, "POST", url, body=body)).body

    assert run(main(), base=base) == (body or b"")


def test_a_client_that_goes_ends_the_body_and_what_is_sent(base: EventBase) -> None:
    log: list[type[BaseException]] = []
    begun = asyncio.Event()

    async def takes(request: ServerRequest, arg: object) -> None:
        try:
            async for _ in body_pieces(request):
                begun.set()
        except ClientGone as exc:
            log.append(type(exc))
        request.send_reply_start(200)
        while True:
            try:
                await send_piece(request, LARGE)
            except ClientGone as exc:
                log.append(type(exc))
                return

    async def main() -> None:
        taking = handler(takes, cancels=False)
        with streaming(base, taking) as (_, _url, port):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhello")
            await begun.wait()
            writer.transport.abort()
            await taking.join()

    run(main(), base=base)
    assert log == [ClientGone, ClientGone]
