"""WebSockets as a task sees them, on both sides: install `evsvc[ws]`, and import this by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

from ..core import ArgumentTypeError, StateError
from ..http import HttpError, ServerRequest
from ..http import websocket as sessions
from ..http.websocket import FrameType, WebSocketOptions, WsConnection
from .inbox import MAX_WAITING, Inbox, Room
from .outcome import Outcome

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from ..core import EventBase
    from ..core.resolver import Resolver
    from ..http import ClientOptions


_GOING_AWAY, _INTERNAL_ERROR = 1001, 1011
_PEACEFUL_CODES = (1000, 1001, 1005)  # 1005: a close frame without a code


class WebSocketClosed(StateError):
    """Nothing can be sent any more: the session has ended, or is about to.

    code, reason: what the peer's close frame said, as `WsConnection` has it.
    """

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"the WebSocket is closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class WebSocket:
    """A session: `async for` takes messages, `await send(...)` sends one.

    `connect` opens one, `accept` makes one of a request.  At the end of `async with` it is closed:
    with 1000, with 1011 where the block raises, and with 1001, and without waiting, where its task
    is cancelled.  session: the WsConnection below.
    """

    __slots__ = ("_ended", "_high_bytes", "_inbox", "_room", "session")

    session: WsConnection

    def __init__(self, options: WebSocketOptions, max_waiting: int) -> None:
        self._inbox: Inbox[str | bytes] = Inbox(
            max_waiting, lambda: self.session.pause(), lambda: self.session.resume()
        )
        self._room = Room()
        self._ended: Outcome[None] = Outcome()
        self._high_bytes = options.max_output_bytes // 2

    def begin(self, session: WsConnection) -> None:
        """Have the session; `connect` and `accept` call this."""
        self.session = session
        session.set_drainedcb(lambda session, arg: self._room.open())
        session.set_closecb(self._on_closed)

    def on_message(
        self, session: WsConnection, kind: FrameType, data: str | bytes, arg: object
    ) -> None:
        """Take a message; the session calls this."""
        self._inbox.put(data)

    async def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a text or a binary message; with half of `max_output_bytes` waiting it waits.

        Raises WebSocketClosed where the session has ended, or ends meanwhile, ArgumentTypeError
        for what is neither text nor bytes, ArgumentError for text that is no Unicode.
        """
        session = self.session
        while session.is_open and session.unsent_bytes > self._high_bytes:
            await self._room.wait()
        if not session.is_open:
            raise WebSocketClosed(session.close_code, session.close_reason)
        if isinstance(message, str):
            session.send_text(message)
        elif isinstance(message, (bytes, bytearray, memoryview)):
            session.send_binary(message)
        else:
            raise ArgumentTypeError(f"a message is a str or bytes, not {type(message).__name__}")

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame, and wait until the session has ended; the rest is thrown away.

        Raises ArgumentError for what is not sent with a close.  Safe to repeat.
        """
        self.session.shutdown(code, reason)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the session has ended."""
        await self._ended

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        """Return the next message: a str or bytes.

        The loop ends with a session that is closed well (1000, 1001, or without a code); where it
        has failed, WebSocketClosed is raised behind the last message.
        """
        return await self._inbox.take()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            await self.close()
        elif isinstance(exc, Exception):
            self.session.shutdown(_INTERNAL_ERROR)
        else:
            self.session.shutdown(_GOING_AWAY)

    def _on_closed(self, session: WsConnection, arg: object) -> None:
        code, reason = session.close_code, session.close_reason
        self._inbox.end(None if code in _PEACEFUL_CODES else WebSocketClosed(code, reason))
        self._ended.succeed(None)
        self._room.open()


def accept(
    request: ServerRequest,
    options: WebSocketOptions | None = None,
    *,
    max_waiting: int = MAX_WAITING,
    subprotocols: Sequence[str] = (),
    origins: Sequence[str] | None = None,
) -> WebSocket | None:
    """Make a WebSocket of a request, in the coroutine that handles it.

    Returns None where there is none: the request is answered already, or its client has gone.
    max_waiting: how many messages wait for the task before the peer is held back.  The others are
    those of `evsvc.http.websocket.accept`, whose errors it raises.
    """
    options = options or WebSocketOptions()
    made = WebSocket(options, max_waiting)
    session = sessions.accept(
        request, made.on_message, None, options, subprotocols=subprotocols, origins=origins
    )
    if session is None:
        return None
    made.begin(session)
    return made


@asynccontextmanager
async def connect(
    base: EventBase,
    url: str,
    options: WebSocketOptions | None = None,
    *,
    max_waiting: int = MAX_WAITING,
    resolver: Resolver | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
    client_options: ClientOptions | None = None,
) -> AsyncIterator[WebSocket]:
    """Open a WebSocket for the time of a block, and close it at the end, as `WebSocket` says.

    max_waiting: how many messages wait for the task before the server is held back.  The others are
    those of `evsvc.http.websocket.connect`, whose errors it raises, and an HttpError where there is
    no session: HandshakeFailed where the server has said no.
    """
    options = options or WebSocketOptions()
    made = WebSocket(options, max_waiting)
    opened: Outcome[None] = Outcome()

    def on_open(session: WsConnection | None, error: HttpError | None, arg: object) -> None:
        if session is not None:
            made.begin(session)
            opened.succeed(None)
        elif error is not None:
            opened.fail(error)

    opening = sessions.connect(
        base,
        url,
        made.on_message,
        on_open,
        None,
        options,
        resolver=resolver,
        headers=headers,
        subprotocols=subprotocols,
        tls=tls,
        client_options=client_options,
    )
    try:
        await opened
    except BaseException:
        opening.close()
        if opening.session is not None:
            opening.session.close()
        raise
    async with made:
        yield made
