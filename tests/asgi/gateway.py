"""An ASGI application on a server, on an asyncio loop that waits in the server's base."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any

from evsvc.aio import EventLoop
from evsvc.asgi import AsgiHandler, AsgiOptions
from evsvc.core import EventBase
from evsvc.http import HttpServer, ServerOptions
from tests.hosted import PATIENCE_S, Hosted


class Gateway(Hosted):
    """An application on a server, in a thread of its own.

    starts: whether it gets a lifespan.  how: options of AsgiOptions and ServerOptions alike.
    """

    def __init__(
        self, application: Any, *, prefix: str = "/", starts: bool = True, **how: Any
    ) -> None:
        names = {field.name for field in fields(AsgiOptions)}
        options = AsgiOptions(**{name: how.pop(name) for name in names & set(how)})
        base = EventBase()
        self.loop = EventLoop(base)
        self.errors: list[Any] = []  # what asyncio has to say
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        server = HttpServer(base, ServerOptions(**how))
        self.handler = AsgiHandler(self.loop, application, options)
        self.handler.mount(server, prefix)
        if starts:
            self.loop.run_until_complete(self.handler.startup())
        self._stopping: asyncio.Task[None] | None = None
        super().__init__(base, server, self.loop.run_forever)

    def ask_to_stop(self) -> None:
        self.server.shutdown(deadline_s=PATIENCE_S)
        self._stopping = self.loop.create_task(self.handler.shutdown(deadline_s=1))
        self._stopping.add_done_callback(lambda task: self.loop.stop())

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine in the loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def close(self) -> None:
        super().close()
        self.server.close()
        self.loop.close()
        assert self.errors == []
