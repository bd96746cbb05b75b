"""CallCarrier: what brings a call to the server, and takes its answer back.

Over HTTP that is the request itself; over a WebSocket, one of the exchanges that share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ...core import EvBuffer
    from ...http import Client, Headers, ServerConnection


class CallCarrier(Protocol):
    """What calls, streams and hooks need of it; `evsvc.http.ServerRequest` says what each means."""

    @property
    def method(self) -> str:
        """POST for a call."""

    @property
    def input_headers(self) -> Headers:
        """The fields that the caller sent."""

    @property
    def output_headers(self) -> Headers:
        """The fields to answer with."""

    @property
    def input_buffer(self) -> EvBuffer:
        """The body that was received."""

    @property
    def gathered_bytes(self) -> int:
        """How many bytes `input_buffer` has, which is not made for that."""

    @property
    def connection(self) -> ServerConnection | None:
        """The caller's connection; None once it has gone."""

    @property
    def remote_host(self) -> str:
        """The caller's address; "" once it has gone."""

    @property
    def remote_port(self) -> int:
        """The caller's port; 0 once it has gone."""

    @property
    def client(self) -> Client:
        """Who asks, through the proxies that are trusted."""

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The caller's certificate, where TLS has one."""

    def take_body(self) -> bytes:
        """Take all of the body."""

    def set_on_gone_cb(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(carrier, arg)` once, if the caller ends its side before it is answered."""

    def set_body_cbs(
        self,
        datacb: Callable[[Any, bytes, Any], object],
        endcb: Callable[[Any, bool, Any], object] | None = None,
        arg: object = None,
        *,
        is_paced: bool = True,
    ) -> None:
        """Take a body as it comes.  Raises LocalProtocolError when there is none to be taken."""

    def pause_body(self) -> None:
        """Hold the caller back."""

    def resume_body(self) -> None:
        """Undo that, from the loop."""

    def send_reply(self, code: int, reason: str | None = None, body: Any = None) -> None:
        """Answer at once, by bytes or an EvBuffer."""

    def send_reply_start(self, code: int, reason: str | None = None) -> None:
        """Begin an answer whose body comes in pieces."""

    def send_reply_chunk(self, data: bytes, cb: Callable[[Any, Any], object] | None = None) -> None:
        """Send a piece; `cb(connection, arg)` is called when all output is sent."""

    def send_reply_end(self) -> None:
        """Finish an answer in pieces."""
