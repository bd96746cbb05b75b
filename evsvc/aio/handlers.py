"""Coroutines as handlers of HttpServer, DnsServer and RpcServer.

Each request gets a task of its own, in the loop that runs the server's base.  Whatever becomes of
the task, the exchange comes to an end: `_http`, `_dns` and `_rpc` say how, for each protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..core import ArgumentTypeError, Error, StateError
from ..core.checks import require_callable
from ..dns import DnsServer, DnsServerRequest
from ..http import HttpServer, ServerRequest
from ..http.server.request import ReplyState
from ..rpc import CallFailed, RpcErrorCode, ServerCall, ServerStream

if TYPE_CHECKING:
    from ..rpc.server.arrived import ArrivedCall

AsyncHandler = Callable[[Any, Any], Coroutine[Any, Any, Any]]
"""Called as `await function(request, arg)`, with what the server's callback gets."""


class NoAnswer(Error, RuntimeError):
    """A coroutine has returned, and its request is not answered."""


class Handler:
    """A callback for servers that runs a coroutine for each request; `handler` makes it."""

    __slots__ = ("_cancels", "_function", "_tasks")

    def __init__(self, function: AsyncHandler, *, cancels: bool) -> None:
        self._function = function
        self._cancels = cancels
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself holds a task only weakly

    def __call__(self, request: Any, arg: object) -> None:
        """Start a task for a request; servers call this.

        Raises ArgumentTypeError for what is no request of a server, StateError where no loop of
        asyncio runs.
        """
        exchange = _exchange_of(request)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            text = "no loop of asyncio runs: run the base by evsvc.aio.run, or attach it to one"
            raise StateError(f"{text}, for {self._function!r}") from None
        task = loop.create_task(
            self._run(exchange, arg), name=getattr(self._function, "__qualname__", None)
        )
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_done, exchange))
        if self._cancels or isinstance(request, ServerStream):
            exchange.when_gone(task.cancel)

    @property
    def running(self) -> int:
        """How many tasks are running."""
        return len(self._tasks)

    def cancel(self) -> None:
        """Cancel all tasks: each request that is not answered yet is told of a failure."""
        for task in self._tasks:
            task.cancel()

    async def join(self) -> None:
        """Wait until no task is left."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, exchange: _Exchange, arg: object) -> None:
        exchange.finish(await self._function(exchange.request, arg))

    def _on_done(self, exchange: _Exchange, task: asyncio.Task[None]) -> None:
        """A task is over; one may be cancelled before its first step, so only here is it known."""
        self._tasks.discard(task)
        if task.cancelled():
            exchange.fail(asyncio.CancelledError())
            return
        exc = task.exception()
        if exc is None:
            return
        exchange.fail(exc)
        if isinstance(exc, Exception) and not exchange.is_an_answer(exc):
            task.get_loop().call_exception_handler(
                {
                    "message": f"Exception in the handler {self._function!r}",
                    "exception": exc,
                    "task": task,
                }
            )


def handler(function: AsyncHandler, *, cancels: bool = True) -> Handler:
    """Return a callback for HttpServer, DnsServer or RpcServer of a coroutine function.

    It is called as `function(request, arg)`, in a task, while the base of the server is that of an
    `EventLoop`, or attached to a loop.  It answers as a callback does, before it returns; of an
    RPC it may return the reply.  What it raises ends the one exchange (500, SERVFAIL, a failure of
    the call), and goes to the loop's `call_exception_handler`; a CallFailed of an RPC is what the
    caller is told, and nothing more.

    cancels: whether the task is cancelled when the caller ends its side of an HTTP request or a
    call.  False is for callers that close their sending side, and wait for the answer; that of a
    stream is cancelled in any case.
    Raises ArgumentTypeError for what cannot be called.
    """
    require_callable(function, "a handler")
    return Handler(function, cancels=cancels)


async def shutdown(
    server: HttpServer | DnsServer, *, deadline_s: float | None = None, idle_s: float = 0.0
) -> None:
    """Stop a server gracefully, and return when its last client is answered.

    deadline_s, idle_s: as of the server's `shutdown`, which raises for bad ones.  Cancelled, it
    waits no more, and the server goes on stopping.
    """
    done = asyncio.get_running_loop().create_future()

    def on_drained(server: object) -> None:
        if not done.done():
            done.set_result(None)

    server.shutdown(on_drained, deadline_s=deadline_s, idle_s=idle_s)
    await done


class _Exchange(Protocol):
    """A request, and how it ends."""

    @property
    def request(self) -> Any:
        """What the coroutine is given."""

    def when_gone(self, cb: Callable[[], object]) -> None:
        """Call `cb` once, when the caller ends its side."""

    def finish(self, result: object) -> None:
        """The coroutine has returned.  Raises NoAnswer where that is no end."""

    def fail(self, exc: BaseException) -> None:
        """The coroutine has raised, or was cancelled; nothing happens where it has answered."""

    def is_an_answer(self, exc: Exception) -> bool:
        """Whether the coroutine raises such a thing to answer with, so that nobody is told."""


class _Http:
    """A request of HTTP."""

    __slots__ = ("request",)

    def __init__(self, request: ServerRequest) -> None:
        self.request = request

    def when_gone(self, cb: Callable[[], object]) -> None:
        """Call it when the client ends its side."""
        self.request.set_on_gone_cb(lambda request, arg: cb())

    def finish(self, result: object) -> None:
        """A reply was sent, or begun: an event stream goes on by itself."""
        request = self.request
        if request.state is ReplyState.PENDING and request.connection is not None:
            raise NoAnswer(f"no reply was sent: {self.request!r}")

    def fail(self, exc: BaseException) -> None:
        """Answer 500, or 503 where the task was cancelled; the missing end of a reply that has
        begun tells the client that it is not whole."""
        request = self.request
        if request.state is ReplyState.PENDING:
            request.send_error(503 if isinstance(exc, asyncio.CancelledError) else 500)
        elif request.state is ReplyState.STREAMING and request.connection is not None:
            request.connection.close()

    def is_an_answer(self, exc: Exception) -> bool:
        """Nothing is."""
        return False


class _Dns:
    """A query of DNS, whose asker is never known to have gone."""

    __slots__ = ("request",)

    def __init__(self, request: DnsServerRequest) -> None:
        self.request = request

    def when_gone(self, cb: Callable[[], object]) -> None:
        """Never call it."""

    def finish(self, result: object) -> None:
        """It was answered, or dropped."""
        if not self.request.answered:
            raise NoAnswer(f"no reply was sent to {self.request.questions}")

    def fail(self, exc: BaseException) -> None:
        """Answer SERVFAIL."""
        self.request.give_up()

    def is_an_answer(self, exc: Exception) -> bool:
        """Nothing is."""
        return False


class _Rpc:
    """A call or a stream."""

    __slots__ = ("request",)

    def __init__(self, request: ArrivedCall[Any, Any]) -> None:
        self.request = request

    def when_gone(self, cb: Callable[[], object]) -> None:
        """Call it when the caller ends its side."""
        self.request.on_cancel(lambda call, arg: cb())

    def finish(self, result: object) -> None:
        """Send the reply that was returned, where none was sent."""
        call = self.request
        if call.answered:
            return
        if isinstance(call, ServerStream):
            call.end(result)
        elif isinstance(call, ServerCall):
            call.done(result)

    def fail(self, exc: BaseException) -> None:
        """Answer with a failure; what is none of the caller's business it is not told."""
        call = self.request
        if call.answered:
            return
        if isinstance(exc, CallFailed):
            call.fail(str(exc), exc.code, exc.details)
        elif isinstance(exc, asyncio.CancelledError):
            call.fail("the call was cancelled", RpcErrorCode.CANCELLED)
        else:
            call.fail("the handler failed", RpcErrorCode.INTERNAL)

    def is_an_answer(self, exc: Exception) -> bool:
        """What the caller is told."""
        return isinstance(exc, CallFailed)


def _exchange_of(request: object) -> _Exchange:
    """Return how a request ends.  Raises ArgumentTypeError for what is none."""
    if isinstance(request, ServerRequest):
        return _Http(request)
    if isinstance(request, DnsServerRequest):
        return _Dns(request)
    if isinstance(request, (ServerCall, ServerStream)):
        return _Rpc(request)
    raise ArgumentTypeError(f"a handler is for HttpServer, DnsServer and RpcServer: {request!r}")
