"""A WebSocket of an application: what `receive` and `send` do for it.  Needs `evsvc[ws]`.

Invariants
    * Before it is accepted there is no session; a refusal is an ordinary response, by HttpExchange.
    * `_end` is what `websocket.disconnect` tells; once it is there nothing can be sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from ..core.errors import ArgumentError, StateError
from ..http import websocket
from ..http.errors import ClientGone, comes_of_gone_client
from ..http.server.request import ReplyState
from .changes import Changes
from .http_exchange import HttpExchange
from .messages import Message, bytes_of, judge_headers

if TYPE_CHECKING:
    from ..http import ServerConnection, ServerRequest
    from .options import AsgiOptions

ABNORMAL = 1006
"""The close code of a connection that has ended without a close frame."""
INTERNAL_ERROR = 1011
NORMAL = 1000

_DENIAL = "websocket.http.response."


class WebSocketExchange:
    """One WebSocket (ASGI's WebSocket sub-specification)."""

    __slots__ = (
        "_changes",
        "_denial",
        "_end",
        "_is_held_up",
        "_is_told",
        "_messages",
        "_options",
        "_request",
        "_service",
        "_session",
        "_waiting_bytes",
    )

    def __init__(
        self, request: ServerRequest, connection: ServerConnection, options: AsgiOptions
    ) -> None:
        self._request = request
        self._service = connection.server.service
        self._options = options
        self._changes = Changes()
        self._session: websocket.WsConnection | None = None
        self._denial: HttpExchange | None = None
        self._messages: deque[str | bytes] = deque()
        self._waiting_bytes = 0
        self._is_held_up = False
        self._is_told = False  # that there is somebody to accept
        self._end: tuple[int, str] | None = None
        request.set_on_gone_cb(self._on_gone)

    async def receive(self) -> Message:
        """Return the question whether to accept, then each message, and at last the end."""
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        await self._changes.until(lambda: self._messages or self._end is not None)
        if self._messages:
            return self._take_message()
        assert self._end is not None
        await asyncio.sleep(0)  # who asks for it again and again holds up nobody else
        return {"type": "websocket.disconnect", "code": self._end[0], "reason": self._end[1]}

    async def send(self, message: Message) -> None:
        """Take a message, and wait while the client has too many to take.

        Raises ClientGone when nobody takes it, StateError for one that is not legal now,
        ArgumentError and ArgumentTypeError for what cannot be sent.
        """
        kind = message["type"]
        if kind.startswith(_DENIAL) and self._session is None:
            await self._deny(message)
            return
        if self._end is not None:
            raise ClientGone("the WebSocket has ended")
        if self._denial is not None:
            raise StateError(f"{kind!r} is not legal: the WebSocket is being refused")
        session = self._session
        if session is None and kind == "websocket.accept":
            self._accept(message)
        elif session is None and kind == "websocket.close":
            self._end = (ABNORMAL, "")
            self._request.send_error(403)
            self._changes.tell()
        elif session is not None and kind == "websocket.send":
            await self._send(session, message)
        elif session is not None and kind == "websocket.close":
            session.shutdown(message.get("code") or NORMAL, message.get("reason") or "")
        else:
            raise StateError(f"{kind!r} is not legal now")

    def finish(self, exc: BaseException | None) -> None:
        """The application has returned, or has raised: see that the client gets an end.

        One that is not accepted is answered 500; an open one is closed with 1000, or after a fault
        with 1011.  A fault is logged, but for what comes of a client that has gone.
        """
        if self._denial is not None:
            self._denial.finish(exc)
            return
        session = self._session
        if session is not None:
            session.shutdown(NORMAL if exc is None else INTERNAL_ERROR)
        elif self._end is None:
            self._end = (ABNORMAL, "")
            exc = exc or StateError("the application has returned, and has not answered")
            self._request.send_error(500)
        if isinstance(exc, Exception) and not comes_of_gone_client(exc):
            self._service.callback_failed(exc, self._request)

    async def _deny(self, message: Message) -> None:
        """Answer by a response of the application's own."""
        if self._end is not None:
            raise ClientGone("the client has gone")
        if self._denial is None:
            connection = self._request.connection
            if connection is None:
                raise ClientGone("the client has gone")
            self._denial = HttpExchange(self._request, connection, self._options)
        await self._denial.send({**message, "type": message["type"].removeprefix("websocket.")})

    def _accept(self, message: Message) -> None:
        self._request.output_headers = judge_headers(message.get("headers") or ())
        subprotocol = message.get("subprotocol")
        session = websocket.accept(
            self._request,
            self._on_message,
            None,
            self._options.websocket,
            subprotocols=() if subprotocol is None else (subprotocol,),
        )
        if session is None:
            self._end = (ABNORMAL, "")
            self._changes.tell()
            raise ClientGone("the handshake was none, or the client has gone")
        self._session = session
        session.set_closecb(self._on_close)

    async def _send(self, session: websocket.WsConnection, message: Message) -> None:
        data, text = message.get("bytes"), message.get("text")
        if (data is None) == (text is None):
            raise ArgumentError(f"either bytes or text are sent: {message!r:.200}")
        most = self._options.max_output_bytes
        if session.unsent_bytes > most:
            session.set_drainedcb(self._on_drained)
            await self._changes.until(lambda: session.unsent_bytes <= most or self._end is not None)
            session.set_drainedcb(None)
        if not session.is_open:
            raise ClientGone("the WebSocket has ended")
        if data is not None:
            session.send_binary(bytes_of(data))
        elif text is not None:
            session.send_text(text)

    def _take_message(self) -> Message:
        message = self._messages.popleft()
        self._waiting_bytes -= len(message)
        if self._is_held_up and not self._messages and self._session is not None:
            self._is_held_up = False
            self._session.resume()
        kind = "text" if isinstance(message, str) else "bytes"
        return {"type": "websocket.receive", kind: message}

    def _on_message(
        self,
        session: websocket.WsConnection,
        kind: websocket.FrameType,
        message: str | bytes,
        arg: object,
    ) -> None:
        self._messages.append(message)
        self._waiting_bytes += len(message)
        most, most_bytes = self._options.max_messages, self._options.max_input_bytes
        if len(self._messages) >= most or self._waiting_bytes >= most_bytes:
            self._is_held_up = True
            session.pause()
        self._changes.tell()

    def _on_drained(self, session: websocket.WsConnection, arg: object) -> None:
        self._changes.tell()

    def _on_close(self, session: websocket.WsConnection, arg: object) -> None:
        code = session.close_code
        self._end = (ABNORMAL if code is None else code, session.close_reason)
        self._changes.tell()

    def _on_gone(self, request: ServerRequest, arg: object) -> None:
        """The client has gone before it was answered: half a connection is no WebSocket.

        A session that takes the connection over is heard of, too, and is none of this.
        """
        if request.state is not ReplyState.DONE:
            self._end = (ABNORMAL, "")
            self._changes.tell()
