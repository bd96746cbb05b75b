"""WsTestClient: talks to WebSocket handlers, over a pair of bufferevents; install `evsvc[ws]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..core.closing import Closing
from ..http.websocket import Opening, WebSocketOptions, WsConnection
from .waiting import run_until

if TYPE_CHECKING:
    from ..http import HttpError
    from .http import HttpTestClient

Message = str | bytes


class WsTestClient(Closing):
    """A WebSocket that is open: to `target` of the server that an HttpTestClient asks.

    messages: what has come, and was not received yet.  session: for `ping`, `shutdown` and the
    like.  Raises HandshakeFailed where the server has said no, NothingHappened when it says
    nothing, and what `connect` raises.
    """

    def __init__(
        self,
        client: HttpTestClient,
        target: str,
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        options: WebSocketOptions | None = None,
    ) -> None:
        self.messages: list[Message] = []
        self._client = client
        self._failed: list[HttpError] = []
        self._closed = False
        self._target = target
        self._opening = Opening(
            client.connect(),
            lambda ws, kind, data, arg: self.messages.append(data),
            self._on_open,
            None,
            options or WebSocketOptions(),
            tuple(subprotocols),
        )
        try:
            self._opening.ask(target, headers.items() if isinstance(headers, Mapping) else headers)
            self._wait(lambda: self._failed or self._opening.session, "an answer of")
            if self._failed:
                raise self._failed[0]
        except BaseException:
            self._opening.close()
            raise
        assert self._opening.session is not None
        self.session: WsConnection = self._opening.session
        self.session.set_closecb(self._on_closed)

    @property
    def closed(self) -> bool:
        """Whether the WebSocket has ended; `session.close_code` says how."""
        return self._closed

    def send(self, message: Message) -> None:
        """Send a text, or bytes as a binary message.  Raises StateError once it is closing."""
        if isinstance(message, str):
            self.session.send_text(message)
        else:
            self.session.send_binary(message)

    def receive(self) -> Message:
        """Return the next message.

        Raises NothingHappened when none comes, AssertionError where the WebSocket ends before.
        """
        self._wait(lambda: self.messages or self._closed, "a message of")
        if not self.messages:
            raise AssertionError(f"the WebSocket has ended with {self.session.close_code}")
        return self.messages.pop(0)

    def wait_closed(self) -> int:
        """Wait until the server has ended it, and return its code.  Raises NothingHappened."""
        self._wait(lambda: self._closed, "the end of")
        assert self.session.close_code is not None
        return self.session.close_code

    def close(self) -> None:
        """Go away at once, as a client that is cut off.  Safe to repeat."""
        self.session.close()
        self._opening.close()

    def _wait(self, is_done: Callable[[], object], what: str) -> None:
        client = self._client
        run_until(client.base, is_done, what=f"{what} {self._target}", wait_s=client.wait_s)

    def _on_open(self, ws: WsConnection | None, error: HttpError | None, arg: object) -> None:
        if error is not None:
            self._failed.append(error)

    def _on_closed(self, ws: WsConnection, arg: object) -> None:
        self._closed = True
