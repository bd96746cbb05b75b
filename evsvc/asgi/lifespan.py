"""The lifespan of an application: it is told to start before it serves, and to stop after it."""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import Any

from .errors import LifespanFailed
from .messages import ASGI, Application, Message

logger = logging.getLogger("evsvc.asgi")


class Phase(enum.Enum):
    """How far it has come."""

    NEW = enum.auto()
    STARTING = enum.auto()
    STARTED = enum.auto()
    STOPPING = enum.auto()
    OVER = enum.auto()  # stopped, failed, or not known to the application


# What the application may say, and where that leads.
_SAYS = {
    (Phase.STARTING, "lifespan.startup.complete"): Phase.STARTED,
    (Phase.STARTING, "lifespan.startup.failed"): Phase.OVER,
    (Phase.STOPPING, "lifespan.shutdown.complete"): Phase.OVER,
    (Phase.STOPPING, "lifespan.shutdown.failed"): Phase.OVER,
}


class Lifespan:
    """One run of an application, as ASGI's lifespan sub-specification has it.

    limit_s: how long it may take to start, and to stop.  is_required: whether one that raises has
    failed to start.

    state: what the application has put there while it started; requests get a copy.
    """

    __slots__ = (
        "_application",
        "_asked",
        "_fault",
        "_is_required",
        "_limit_s",
        "_phase",
        "_said",
        "_task",
        "state",
    )

    def __init__(self, application: Application, limit_s: float, is_required: bool) -> None:
        self._application = application
        self._limit_s = limit_s
        self._is_required = is_required
        self.state: dict[str, Any] = {}
        self._phase = Phase.NEW
        self._fault: str | None = None
        self._asked: asyncio.Queue[Message] = asyncio.Queue(2)
        self._said = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_starting(self) -> bool:
        """Whether it is not known yet whether the application can serve."""
        return self._phase is Phase.STARTING

    async def startup(self) -> None:
        """Have the application start, once.

        Raises LifespanFailed when it says that it cannot, or says nothing in time.
        """
        if self._phase is not Phase.NEW:
            return
        self._phase = Phase.STARTING
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._ask("lifespan.startup")
        if self._fault is not None:
            raise LifespanFailed(self._fault)

    async def shutdown(self) -> None:
        """Have the application stop, if it has started; what goes wrong is logged."""
        if self._phase is Phase.STARTED:
            self._phase = Phase.STOPPING
            await self._ask("lifespan.shutdown")
            if self._fault is not None:
                logger.error("the application has not stopped well: %s", self._fault)

    async def _ask(self, kind: str) -> None:
        """Tell the application what to do, and wait until it has said something, or has ended."""
        self._said.clear()
        self._asked.put_nowait({"type": kind})
        try:
            await asyncio.wait_for(self._said.wait(), self._limit_s)
        except TimeoutError:
            self._fault = f"nothing was said to {kind} within {self._limit_s} s"
            self._phase = Phase.OVER
        finally:
            if self._task is not None and self._phase is not Phase.STARTED:
                await self._end(self._task)

    async def _end(self, task: asyncio.Task[None]) -> None:
        """Let the application end by itself where it is about to, or else end it."""
        if self._fault is not None or self._phase is not Phase.OVER:
            task.cancel()
        await asyncio.wait((task,), timeout=self._limit_s)
        self._task = None

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": ASGI.copy(), "state": self.state}
        try:
            await self._application(scope, self._asked.get, self._hear)
        except Exception as exc:
            self._on_fault(exc)
        else:
            if self._phase is not Phase.OVER:
                logger.info("the application has no lifespan any more: it has returned")
        self._phase = Phase.OVER
        self._said.set()

    def _on_fault(self, exc: Exception) -> None:
        """The application has raised: it may just not know what a lifespan is."""
        if self._phase is Phase.STARTING and not self._is_required:
            logger.info("the application has no lifespan: %r", exc)
        elif self._phase is not Phase.OVER:
            self._fault = repr(exc)
            logger.error("the application has raised in its lifespan", exc_info=exc)

    async def _hear(self, message: Message) -> None:
        kind = message["type"]
        phase = _SAYS.get((self._phase, kind))
        if phase is None:
            raise LifespanFailed(f"{kind!r} is not legal now")
        self._phase = phase
        if kind.endswith(".failed"):
            self._fault = message.get("message") or "the application does not say why"
        self._said.set()
