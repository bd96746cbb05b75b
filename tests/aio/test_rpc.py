"""Calls and streams as coroutines, on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from evsvc.aio import attach, call, handler, messages, open_stream, run
from evsvc.core import EventBase, StateError
from evsvc.http import HttpConnection, HttpServer
from evsvc.rpc import (
    CallFailed,
    CallTimeout,
    RemoteError,
    Rpc,
    RpcErrorCode,
    RpcKind,
    RpcPool,
    RpcServer,
    ServerStream,
    StreamOptions,
    websocket,
)
from tests.aio.conftest import Start
from tests.rpc.adding import Add, AddCall, AddReply, AddRequest


@dataclass
class Word:
    text: str


Upper = Rpc("Upper", Word, Word, kind=RpcKind.BOTH_WAYS)
Count = Rpc("Count", Word, AddReply, kind=RpcKind.CLIENT_STREAM)
Letters = Rpc("Letters", Word, Word, kind=RpcKind.SERVER_STREAM)
WordStream = ServerStream[Word, Word]


@contextmanager
def serving(
    base: EventBase, rpc: Rpc[Any, Any], on_call: Callable[[Any, Any], object], **options: Any
) -> Iterator[RpcPool]:
    """Give a pool with a server of one method."""
    with HttpServer(base) as http, RpcPool(base) as pool:
        server = RpcServer(http)
        if rpc.kind.is_stream:
            server.register_stream(rpc, on_call, None, **options)
        else:
            server.register_rpc(rpc, on_call, None)
        port = http.bind_socket("127.0.0.1", 0).port
        pool.add_connection(HttpConnection(base, None, "127.0.0.1", port))
        yield pool


def silent(call: Any, arg: object) -> None:
    """Never answer."""


async def add(request: AddCall, arg: object) -> AddReply:
    return AddReply(request.request.left + request.request.right)


async def upper(stream: WordStream, arg: object) -> None:
    words = messages(stream)
    async for word in words:
        await words.send(Word(word.text.upper()))


def test_calls_have_their_replies(start: Start, base: EventBase) -> None:
    async def main() -> list[int]:
        with serving(base, Add, handler(add)) as pool, attach(base):
            replies = await asyncio.gather(
                *(call(pool, Add, AddRequest(number, 1)) for number in range(10))
            )
            return [reply.total for reply in replies]

    assert start(main()) == list(range(1, 11))


def test_what_is_sent_along_reaches_the_handler(base: EventBase) -> None:
    async def on_call(request: AddCall, arg: object) -> AddReply:
        return AddReply(int(request.metadata.find("X-Number") or 0))

    async def main() -> int:
        with serving(base, Add, handler(on_call)) as pool:
            reply = await call(pool, Add, AddRequest(1, 2), metadata=[("X-Number", "7")])
            return reply.total

    assert run(main(), base=base) == 7


@pytest.mark.parametrize("way", ["http", "websocket"])
def test_a_cancelled_call_ends_in_the_handler_and_no_other_does(
    start: Start, base: EventBase, way: str
) -> None:
    ended: asyncio.Queue[int] = asyncio.Queue()

    async def on_call(request: AddCall, arg: object) -> AddReply:
        begun[request.request.left].set()
        try:
            await may_answer.wait()
        finally:
            ended.put_nowait(request.request.left)
        return AddReply(request.request.left)

    begun = [asyncio.Event() for _ in range(2)]
    may_answer = asyncio.Event()

    async def main() -> tuple[int, int]:
        with HttpServer(base) as http, RpcPool(base) as pool, attach(base):
            server = RpcServer(http)
            server.register_rpc(Add, handler(on_call))
            port = http.bind_socket("127.0.0.1", 0).port
            if way == "http":
                pool.add_endpoint("127.0.0.1", port, max_connections=2)
            else:
                websocket.serve(server)
                websocket.add_endpoint(pool, f"ws://127.0.0.1:{port}{websocket.WEBSOCKET_PATH}")
            given_up, kept = (
                asyncio.create_task(call(pool, Add, AddRequest(number, 0))) for number in range(2)
            )
            for each in begun:
                await each.wait()
            given_up.cancel()
            first = await ended.get()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            may_answer.set()
            return first, (await kept).total

    assert start(main()) == (0, 1)


def test_a_call_without_an_answer_times_out_either_way(base: EventBase) -> None:
    async def main() -> None:
        with serving(base, Add, silent) as pool:
            with pytest.raises(CallTimeout):
                await call(pool, Add, AddRequest(1, 2), timeout_s=0.01)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await call(pool, Add, AddRequest(1, 2))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await call(pool, Add, AddRequest(1, 2))

    run(main(), base=base)


def test_what_cannot_be_sent_is_raised_at_once(base: EventBase) -> None:
    async def main() -> None:
        with serving(base, Add, silent) as pool:
            with pytest.raises(ValueError, match="AddRequest"):
                await call(pool, Add, AddRequest("one", 2))  # type: ignore[arg-type]
            pool.close()
            with pytest.raises(StateError, match="closed"):
                await call(pool, Add, AddRequest(1, 2))

    run(main(), base=base)


def test_a_pool_that_is_closed_meanwhile_is_an_error(base: EventBase) -> None:
    async def stream(pool: RpcPool) -> None:
        async with open_stream(pool, Upper) as words:
            async for _ in words:
                pass

    async def main() -> None:
        with serving(base, Add, silent) as pool:
            tasks = [
                asyncio.create_task(call(pool, Add, AddRequest(1, 2))),
                asyncio.create_task(stream(pool)),  # waits for the connection
            ]
            await asyncio.sleep(0.01)
            pool.close()
            for task in tasks:
                with pytest.raises(StateError, match="closed before"):
                    await task

    run(main(), base=base)


def test_both_sides_stream(start: Start, base: EventBase) -> None:
    async def main() -> list[str]:
        with serving(base, Upper, handler(upper)) as pool, attach(base):
            async with open_stream(pool, Upper) as words:
                heard = []
                for text in ("one", "two"):
                    await words.send(Word(text))
                    heard.append((await anext(words)).text)
                await words.send(Word("three"))
                words.end()
                heard += [word.text async for word in words]
                assert await words.result() is None
                return heard

    assert start(main()) == ["ONE", "TWO", "THREE"]


def test_the_one_reply_of_a_client_stream_is_its_result(base: EventBase) -> None:
    async def count(stream: ServerStream[Word, AddReply], arg: object) -> AddReply:
        return AddReply(sum([len(word.text) async for word in messages(stream)]))

    async def main() -> AddReply | None:
        with serving(base, Count, handler(count)) as pool:
            async with open_stream(pool, Count) as words:
                for text in ("one", "two", "three"):
                    await words.send(Word(text))
                words.end()
                return await words.result()

    assert run(main(), base=base) == AddReply(11)


def test_a_server_stream_has_its_request(base: EventBase) -> None:
    async def letters(stream: WordStream, arg: object) -> None:
        out = messages(stream)
        assert [each async for each in out] == []
        for letter in stream.request.text:
            await out.send(Word(letter))

    async def main() -> list[str]:
        with serving(base, Letters, handler(letters)) as pool:
            async with open_stream(pool, Letters, Word("abc")) as words:
                return [word.text async for word in words]

    assert run(main(), base=base) == ["a", "b", "c"]


def test_both_sides_wait_for_room_and_for_those_who_take(base: EventBase) -> None:
    """Far more than any limit goes through, and no limit is passed."""
    words_sent, size = 2000, 4000
    most = 0
    options = StreamOptions(max_backlog_bytes=16 * 1024)

    async def main() -> int:
        async with open_stream(pool, Upper, options=options, max_waiting=2) as words:

            async def send() -> None:
                nonlocal most
                for _ in range(words_sent):
                    await words.send(Word("x" * size))
                    most = max(most, words.stream.backlog)
                words.end()

            sending = asyncio.create_task(send())
            heard = 0
            async for word in words:
                heard += len(word.text)
                if heard % (100 * size) == 0:
                    await asyncio.sleep(0.001)
            await sending
            return heard

    with serving(base, Upper, handler(upper), stream_options=options) as pool:
        assert run(main(), base=base) == words_sent * size
    assert most <= 16 * 1024 + 2 * size


def test_a_failure_comes_behind_the_messages(base: EventBase) -> None:
    async def fails(stream: WordStream, arg: object) -> None:
        words = messages(stream)
        await words.send(Word("first"))
        raise CallFailed("enough", RpcErrorCode.ABORTED)

    async def main() -> None:
        with serving(base, Upper, handler(fails)) as pool:
            async with open_stream(pool, Upper) as words:
                assert await anext(words) == Word("first")
                with pytest.raises(RemoteError, match="enough"):
                    await anext(words)
                with pytest.raises(RemoteError, match="enough"):
                    await words.result()
                with pytest.raises(RemoteError, match="enough"):
                    await words.send(Word("more"))

    run(main(), base=base)


def test_a_stream_that_is_left_is_broken_off_and_its_task_cancelled(base: EventBase) -> None:
    log: list[str] = []

    async def on_stream(stream: WordStream, arg: object) -> None:
        try:
            words = messages(stream)
            log.append((await anext(words)).text)
            await anext(words)
        finally:
            log.append("cancelled" if stream.cancelled else "over")

    async def main() -> None:
        taking = handler(on_stream, cancels=False)
        with serving(base, Upper, taking) as pool:
            async with open_stream(pool, Upper) as words:
                await words.send(Word("one"))
                while not log:
                    await asyncio.sleep(0.001)
            await taking.join()

    run(main(), base=base)
    assert log == ["one", "cancelled"]


def test_a_cancelled_task_breaks_its_stream_off(base: EventBase) -> None:
    async def ask(pool: RpcPool) -> None:
        async with open_stream(pool, Upper) as words:
            begun.set()
            await anext(words)

    begun = asyncio.Event()

    async def main() -> None:
        answering = handler(upper)
        with serving(base, Upper, answering) as pool:
            task = asyncio.create_task(ask(pool))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await answering.join()

    run(main(), base=base)


def test_nothing_is_sent_into_a_stream_that_is_over(base: EventBase) -> None:
    async def ends(stream: WordStream, arg: object) -> None:
        """Be over at once, whatever the caller still sends."""

    async def main() -> None:
        with serving(base, Upper, handler(ends)) as pool:
            async with open_stream(pool, Upper) as words:
                assert [word async for word in words] == []
                assert await words.result() is None
                with pytest.raises(StateError, match="over"):
                    await words.send(Word("too late"))

    run(main(), base=base)


def test_a_handler_that_sends_on_is_told_that_the_caller_has_gone(base: EventBase) -> None:
    told: list[CallFailed] = []

    async def sends(stream: WordStream, arg: object) -> None:
        words = messages(stream)
        while True:
            try:
                await words.send(Word("more"))
            except asyncio.CancelledError:
                with pytest.raises(CallFailed, match="gone") as caught:
                    await words.send(Word("more"))
                told.append(caught.value)
                raise

    async def main() -> None:
        sending = handler(sends)
        with serving(base, Upper, sending) as pool:
            async with open_stream(pool, Upper) as words:
                await anext(words)
            await sending.join()

    run(main(), base=base)
    assert [exc.code for exc in told] == [RpcErrorCode.CANCELLED]


def test_messages_are_taken_once(base: EventBase) -> None:
    async def twice(stream: WordStream, arg: object) -> None:
        messages(stream)
        with pytest.raises(StateError, match="taken already"):
            messages(stream)

    async def main() -> None:
        with serving(base, Upper, handler(twice)) as pool:
            async with open_stream(pool, Upper) as words:
                words.end()
                assert [word async for word in words] == []

    run(main(), base=base)


def test_no_stream_is_called_and_no_call_is_streamed(base: EventBase) -> None:
    async def main() -> None:
        with serving(base, Add, handler(add)) as pool:
            with pytest.raises(ValueError, match="opened"):
                await call(pool, Upper, Word("x"))
            with pytest.raises(ValueError, match="not a stream"):
                async with open_stream(pool, Add):
                    pass

    run(main(), base=base)


def test_calls_and_streams_share_a_websocket(base: EventBase) -> None:
    rpc_websocket = pytest.importorskip("evsvc.rpc.websocket")

    async def main() -> tuple[list[int], list[str]]:
        with HttpServer(base) as http, RpcPool(base) as pool:
            server = RpcServer(http)
            server.register_rpc(Add, handler(add))
            server.register_stream(Upper, handler(upper))
            rpc_websocket.serve(server)
            port = http.bind_socket("127.0.0.1", 0).port
            url = f"ws://127.0.0.1:{port}{rpc_websocket.WEBSOCKET_PATH}"
            rpc_websocket.add_endpoint(pool, url)
            async with open_stream(pool, Upper) as words:
                await words.send(Word("one"))
                replies = await asyncio.gather(
                    *(call(pool, Add, AddRequest(number, 1)) for number in range(10))
                )
                words.end()
                return [reply.total for reply in replies], [word.text async for word in words]

    assert run(main(), base=base) == (list(range(1, 11)), ["ONE"])
