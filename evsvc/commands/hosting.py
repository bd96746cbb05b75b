"""What `evsvc serve` can serve, each on an HttpServer of a worker."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

from ..aio import EventLoop
from ..asgi import AsgiHandler
from ..core import ArgumentError
from ..http import HttpServer
from ..workers import Graceful, Worker
from ..wsgi import WsgiHandler, WsgiOptions

AFTERWARDS_S: Final = 2.0
"""What an application has for its own end at the least, when the last client has gone."""


class Hosted:
    """A server with an application behind it, which ends when the last client has gone.

    end: called as `end(done, deadline_s)`; calls `done()`, now or later.
    """

    __slots__ = ("_end", "_server")

    def __init__(
        self, server: HttpServer, end: Callable[[Callable[[], object], float], object]
    ) -> None:
        self._server = server
        self._end = end

    def shutdown(
        self,
        cb: Callable[[Any], object] | None = None,
        *,
        deadline_s: float | None = None,
        idle_s: float = 0.0,
    ) -> None:
        """Answer what is in flight, then have the application end; see Graceful."""
        base = self._server.base
        until = base.gettime_monotonic() + (deadline_s or 0)

        def done() -> None:
            if cb is not None:
                cb(self)

        def drained(server: HttpServer) -> None:
            self._end(done, max(until - base.gettime_monotonic(), AFTERWARDS_S))

        self._server.shutdown(drained, deadline_s=deadline_s, idle_s=idle_s)


def host_setup(
    worker: Worker, server: HttpServer, setup: Callable[[HttpServer], object]
) -> Graceful:
    """Have `setup(server)` give a server its callbacks."""
    setup(server)
    return server


def host_wsgi(worker: Worker, server: HttpServer, application: Any) -> Graceful:
    """Have a WSGI application answer all requests."""
    handler = WsgiHandler(worker.base, application, WsgiOptions(multiprocess=True))
    handler.mount(server)

    def end(done: Callable[[], object], deadline_s: float) -> None:
        handler.shutdown(lambda handler: done(), deadline_s=deadline_s)

    return Hosted(server, end)


def host_asgi(worker: Worker, server: HttpServer, application: Any) -> Graceful:
    """Have an ASGI application start, and answer all requests, in asyncio's loop."""
    loop = EventLoop(worker.base)
    handler = AsgiHandler(loop, application)
    loop.run_until_complete(handler.startup())
    worker.set_runner(loop.run_forever)
    handler.mount(server)

    def end(done: Callable[[], object], deadline_s: float) -> None:
        task = loop.create_task(handler.shutdown(deadline_s=deadline_s))
        task.add_done_callback(lambda task: done())

    return Hosted(server, end)


HOSTS: Final[dict[str, Callable[[Worker, HttpServer, Any], Graceful]]] = {
    "setup": host_setup,
    "wsgi": host_wsgi,
    "asgi": host_asgi,
}

# How many arguments each is called with.
_BY_ARGUMENTS: Final = {1: "setup", 2: "wsgi", 3: "asgi"}


def load_application(target: str) -> object:
    """Import what "module:name" names; modules are found from the working directory, too.

    Raises ArgumentError for what names nothing; what the import raises, it raises.
    """
    module_name, _, name = target.partition(":")
    if not (module_name and name):
        raise ArgumentError(f"neither a folder nor module:name: {target!r}")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module(module_name)
    try:
        return reduce(getattr, name.split("."), module)
    except AttributeError as exc:
        raise ArgumentError(f"the module has no such name: {target!r}") from exc


def kind_of(application: object) -> str:
    """Return which of HOSTS an application is, by how many arguments it has to be called with.

    Raises ArgumentError when that does not tell.
    """
    try:
        parameters = inspect.signature(application).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError) as exc:
        raise ArgumentError(f"not to be called, or not known how: {application!r}") from exc
    needed = sum(
        each.default is each.empty
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        for each in parameters
    )
    try:
        return _BY_ARGUMENTS[needed]
    except KeyError:
        raise ArgumentError(
            f"whether it is setup(server), WSGI or ASGI is not to be seen; say so by --as: "
            f"{application!r}"
        ) from None
