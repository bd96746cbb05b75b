"""How a coroutine waits until callbacks of the loop have changed something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Wakes who waits for a condition, to look at it again."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Something has changed."""
        self._event.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()` is true; several may wait, each for its own."""
        while not condition():
            self._event.clear()
            await self._event.wait()
