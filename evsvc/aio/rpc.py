"""Calls and streams as coroutines, on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..core import StateError
from ..rpc import (
    CallFailed,
    ClientStream,
    Rpc,
    RpcError,
    RpcErrorCode,
    RpcKind,
    RpcPool,
    RpcStatus,
    ServerStream,
)
from .inbox import MAX_WAITING, Inbox, Room
from .outcome import Outcome

if TYPE_CHECKING:
    from ..rpc import StreamOptions

Request = TypeVar("Request")
Reply = TypeVar("Reply")


async def call(
    pool: RpcPool,
    rpc: Rpc[Request, Reply],
    request: Request,
    *,
    timeout_s: float | None = None,
    metadata: Sequence[tuple[str, str]] = (),
) -> Reply:
    """Make a call, and return its reply.

    timeout_s, metadata: as of `RpcPool.make_request`.  Cancelled, it gives the call up.  Raises why
    there is no reply (RemoteError, CallTimeout, PayloadError, or what HTTP says), StateError when
    the pool is closed meanwhile, and as `make_request`.
    """
    outcome: Outcome[Reply] = Outcome()

    def on_reply(status: RpcStatus, request: Request, reply: Reply | None, arg: object) -> None:
        if reply is None:
            outcome.fail(_cause_of(status))
        else:
            outcome.succeed(reply)

    made = pool.make_request(rpc, request, on_reply, timeout_s=timeout_s, metadata=metadata)
    made.set_abandoned_cb(outcome.abandoned)
    try:
        return await outcome
    finally:
        made.cancel()


class ClientMessages(Generic[Request, Reply]):
    """A stream to a server: `await send(...)`, and `async for` what comes; `open_stream` makes it.

    stream: the stream itself.
    """

    __slots__ = ("_inbox", "_outcome", "_room", "stream")

    def __init__(
        self,
        stream: ClientStream[Request, Reply],
        inbox: Inbox[Reply],
        room: Room,
        outcome: Outcome[Reply | None],
    ) -> None:
        self.stream = stream
        self._inbox = inbox
        self._room = room
        self._outcome = outcome

    async def send(self, message: Request) -> None:
        """Send a message; while `max_backlog_bytes` wait to be sent it waits.

        Raises why the stream has failed, where it has, and as `ClientStream.send`.
        """
        while not self._outcome.done:
            if self.stream.send(message):
                return
            await self._room.wait()
        await self._outcome
        raise StateError(f"the stream is over: {self.stream.rpc!r}")

    def end(self) -> None:
        """Send no more; what the server sends still comes.  Raises as `ClientStream.end`."""
        self.stream.end()

    async def result(self) -> Reply | None:
        """Wait until the stream is over; return the reply of a CLIENT_STREAM, else None.

        Messages that nobody takes hold the server back, so take them first.  Raises why the stream
        has failed, as `call` does.
        """
        return await self._outcome

    def __aiter__(self) -> AsyncIterator[Reply]:
        return self

    async def __anext__(self) -> Reply:
        """Return the next message; behind the last one, raises why the stream has failed."""
        return await self._inbox.take()


@asynccontextmanager
async def open_stream(
    pool: RpcPool,
    rpc: Rpc[Request, Reply],
    request: Request | None = None,
    *,
    max_waiting: int = MAX_WAITING,
    timeout_s: float | None = None,
    metadata: Sequence[tuple[str, str]] = (),
    options: StreamOptions | None = None,
) -> AsyncIterator[ClientMessages[Request, Reply]]:
    """Open a stream for the time of a block; at its end a stream that is not over is broken off.

    request: the one of a SERVER_STREAM.  max_waiting: how many messages wait for the task before
    the server is held back.  The others: as of `RpcPool.open_stream`, whose errors it raises.
    """
    outcome: Outcome[Reply | None] = Outcome()
    room = Room()
    inbox: Inbox[Reply] = Inbox(
        max_waiting, lambda: stream.pause_messages(), lambda: stream.resume_messages()
    )

    def on_over(status: RpcStatus, request: Any, reply: Reply | None, arg: object) -> None:
        if status.error:
            fail(_cause_of(status))
        else:
            outcome.succeed(reply)
            inbox.end()
            room.open()

    def on_abandoned() -> None:
        fail(StateError(f"the pool was closed before the stream was over: {rpc!r}"))

    def fail(error: Exception) -> None:
        outcome.fail(error)
        inbox.end(error)
        room.open()

    def on_message(stream: Any, message: Reply, arg: object) -> None:
        inbox.put(message)

    stream: ClientStream[Request, Reply] = pool.open_stream(
        rpc,
        on_over,
        request=request,
        on_message=None if rpc.kind is RpcKind.CLIENT_STREAM else on_message,
        timeout_s=timeout_s,
        metadata=metadata,
        options=options,
    )
    stream.set_abandoned_cb(on_abandoned)
    stream.set_drained_cb(lambda stream, arg: room.open())
    try:
        yield ClientMessages(stream, inbox, room, outcome)
    finally:
        stream.cancel()
        outcome.drop()


class ServerMessages(Generic[Request, Reply]):
    """A stream that arrived: `async for` what comes, and `await send(...)`; `messages` makes it.

    stream: the stream itself, which `end` and `fail` end.
    """

    __slots__ = ("_inbox", "_room", "stream")

    def __init__(
        self, stream: ServerStream[Request, Reply], inbox: Inbox[Request], room: Room
    ) -> None:
        self.stream = stream
        self._inbox = inbox
        self._room = room

    async def send(self, message: Reply) -> None:
        """Send a message; while `max_backlog_bytes` wait to be sent it waits.

        Raises CallFailed where the caller has gone, and as `ServerStream.send`.
        """
        while not self.stream.send(message):
            if self.stream.cancelled:
                raise CallFailed("the caller has gone", RpcErrorCode.CANCELLED)
            await self._room.wait()

    def __aiter__(self) -> AsyncIterator[Request]:
        return self

    async def __anext__(self) -> Request:
        """Return the next message, until the caller says that there is no more."""
        return await self._inbox.take()


def messages(
    stream: ServerStream[Request, Reply], *, max_waiting: int = MAX_WAITING
) -> ServerMessages[Request, Reply]:
    """Take the messages of a stream that arrived, in the coroutine that handles it.

    max_waiting: how many messages wait for the task before the caller is held back.  Of a
    SERVER_STREAM none comes; its one request is `stream.request`.  Raises StateError when the
    stream is taken already, or finished.
    """
    room = Room()
    inbox: Inbox[Request] = Inbox(max_waiting, stream.pause_messages, stream.resume_messages)
    stream.set_drained_cb(lambda stream, arg: room.open())
    if stream.rpc.kind is RpcKind.SERVER_STREAM:
        inbox.end()
    else:
        stream.set_message_cbs(
            lambda stream, message, arg: inbox.put(message), lambda stream, arg: inbox.end()
        )
    return ServerMessages(stream, inbox, room)


def _cause_of(status: RpcStatus) -> Exception:
    return status.cause or RpcError(f"the call ended with {status.error!r}")
