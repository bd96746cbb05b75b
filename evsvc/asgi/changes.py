"""How a coroutine waits until callbacks of the loop have changed something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Wakes who waits for a condition, to look at it again.

    asyncio.Event would do; most requests wait for nothing, and this costs them a slot.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] | None = None

    def tell(self) -> None:
        """Something has changed."""
        waiting, self._waiting = self._waiting, None
        for future in waiting or ():
            if not future.done():  # its task may be cancelled
                future.set_result(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()` is true; several may wait, each for its own."""
        while not condition():
            future = asyncio.get_running_loop().create_future()
            if self._waiting is None:
                self._waiting = []
            self._waiting.append(future)
            await future
