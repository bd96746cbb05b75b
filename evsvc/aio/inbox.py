"""Inbox: what callbacks bring, until a task takes it; and Room, for which a sender waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from ..core import ArgumentError, StateError
from ..core.checks import whole_number

T = TypeVar("T")

MAX_WAITING = 16
"""How many messages wait for a task, unless it says otherwise, before their sender is held back."""


class Inbox(Generic[T]):
    """Messages that wait for one task; from `max_waiting` on their sender is held back.

    hold, let_go: called when the sender is to be held back, and when half of the messages are
    taken.  ended: whether no more will come.  Raises ArgumentError for less than one message.
    """

    __slots__ = (
        "_error",
        "_hold",
        "_is_held",
        "_let_go",
        "_max_waiting",
        "_messages",
        "_waiter",
        "ended",
    )

    def __init__(
        self, max_waiting: int, hold: Callable[[], object], let_go: Callable[[], object]
    ) -> None:
        if whole_number(max_waiting, "the number of messages that may wait") < 1:
            raise ArgumentError(f"max_waiting is 1 or more: {max_waiting!r}")
        self._max_waiting = max_waiting
        self._hold = hold
        self._let_go = let_go
        self._messages: deque[T] = deque()
        self._is_held = False
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False
        self._error: BaseException | None = None  # what is raised behind the last message

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: T) -> None:
        """Have a message taken, now or later."""
        self._messages.append(message)
        if len(self._messages) >= self._max_waiting and not self._is_held:
            self._is_held = True
            self._hold()
        self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """Know that no more will come, and why; the first reason counts."""
        if not self.ended:
            self.ended = True
            self._error = error
            self._wake()

    async def take(self) -> T:
        """Return the next message, when there is one.

        Raises StopAsyncIteration, or the error of `end`, behind the last one, and StateError while
        another task waits.
        """
        while not self._messages:
            if self._error is not None:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise StateError("another task waits for the next message")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message = self._messages.popleft()
        if self._is_held and len(self._messages) <= self._max_waiting // 2:
            self._is_held = False
            self._let_go()
        return message

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Room:
    """Tasks that wait until there is room to send."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Return when there may be room."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def open(self) -> None:
        """Have all look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
