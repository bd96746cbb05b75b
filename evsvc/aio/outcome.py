"""Outcome: what a task waits for, and a callback brings."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Generic, TypeVar

from ..core import StateError

T = TypeVar("T")


class Outcome(Generic[T]):
    """A result or an exception that comes once; whatever comes behind it is dropped.

    So a task that was cancelled meanwhile is no trouble for the callback, nor for other tasks that
    wait.
    """

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def succeed(self, result: T) -> None:
        """It has come."""
        if not self._is_over():
            self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """It will not come."""
        if not self._is_over():
            self._future.set_exception(error)

    def abandoned(self) -> None:
        """It will not come, as what was asked is closed."""
        self.fail(StateError("what was asked was closed before it had answered"))

    def drop(self) -> None:
        """Nobody wants it any more: an error that nobody has seen is none."""
        self._future.cancel()
        if self._future.done() and not self._future.cancelled():
            self._future.exception()

    @property
    def done(self) -> bool:
        """Whether it is known, or nobody wants it any more."""
        return self._future.done()

    def _is_over(self) -> bool:
        return self._future.done() or self._future.get_loop().is_closed()

    def __await__(self) -> Generator[Any, None, T]:
        return asyncio.shield(self._future).__await__()
