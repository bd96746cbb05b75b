"""CallConnection: what a pool needs of what carries its calls to a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ...http import ClientOptions, HttpRequest


class CallConnection(Protocol):
    """A connection of an endpoint: an `HttpConnection`, or a share of a WebSocket.

    options: of which `read_s` is how long the server may be silent.
    """

    options: ClientOptions

    def set_timeout(self, seconds: float, /) -> None:
        """Have another limit of silence."""

    def make_request(self, request: HttpRequest, method: str, uri: str, /) -> None:
        """Send a call.  Raises an Error of evsvc when it is of no more use."""

    def close(self) -> None:
        """End it."""
