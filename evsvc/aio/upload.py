"""A request's body that a task brings, piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING, Any

from .inbox import Room

if TYPE_CHECKING:
    from ..http import ClientExchange


class Upload:
    """Has what an async iterable gives sent as the body of a request, as the server takes it.

    more: the arguments of `HttpClient.request`; a `body` among them that is an async iterable is
    replaced by a producer.  Without one there is nothing to do.  One piece waits at the most.
    """

    __slots__ = ("_is_over", "_piece", "_pieces", "_room", "_task")

    def __init__(self, more: dict[str, Any]) -> None:
        body = more.get("body")
        self._pieces: AsyncIterable[bytes] | None = None
        self._piece = b""
        self._is_over = False
        self._room = Room()
        self._task: asyncio.Task[None] | None = None
        if isinstance(body, AsyncIterable):
            self._pieces = body
            more["body"] = self._produce

    def start(self, exchange: ClientExchange, fail: Callable[[BaseException], object]) -> None:
        """Begin, and call `fail` with what the iterable raises."""
        if self._pieces is None:
            return

        def on_done(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                fail(error)

        self._task = asyncio.get_running_loop().create_task(self._feed(self._pieces, exchange))
        self._task.add_done_callback(on_done)

    def stop(self) -> None:
        """Ask for no more.  Safe to repeat."""
        if self._task is not None:
            self._task.cancel()

    def _produce(self, request: object, arg: object) -> bytes | None:
        """HTTP takes more."""
        piece, self._piece = self._piece, b""
        if piece:
            self._room.open()
        return None if self._is_over and not piece else piece

    async def _feed(self, pieces: AsyncIterable[bytes], exchange: ClientExchange) -> None:
        async for piece in pieces:
            self._piece = bytes(piece)
            exchange.resume_body()
            while self._piece:
                await self._room.wait()
        self._is_over = True
        exchange.resume_body()
