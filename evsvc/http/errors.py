"""What can go wrong in HTTP: one family of exceptions under `evsvc.Error`.

Two questions are answered by the class alone: whose fault it was (`RemoteProtocolError` the
peer's, `LocalProtocolError` the program's, the rest the network's), and which of libevent's
`EVREQ_HTTP_*` codes a program ported from C would have seen (`code`).
"""

from enum import IntEnum
from typing import ClassVar

from ..core.errors import Error


class RequestError(IntEnum):
    """libevent's `enum evhttp_request_error`, in its order."""

    EVREQ_HTTP_TIMEOUT = 0
    EVREQ_HTTP_EOF = 1
    EVREQ_HTTP_INVALID_HEADER = 2
    EVREQ_HTTP_BUFFER_ERROR = 3
    EVREQ_HTTP_REQUEST_CANCEL = 4
    EVREQ_HTTP_DATA_TOO_LONG = 5


EVREQ_HTTP_TIMEOUT = RequestError.EVREQ_HTTP_TIMEOUT
EVREQ_HTTP_EOF = RequestError.EVREQ_HTTP_EOF
EVREQ_HTTP_INVALID_HEADER = RequestError.EVREQ_HTTP_INVALID_HEADER
EVREQ_HTTP_BUFFER_ERROR = RequestError.EVREQ_HTTP_BUFFER_ERROR
EVREQ_HTTP_REQUEST_CANCEL = RequestError.EVREQ_HTTP_REQUEST_CANCEL
EVREQ_HTTP_DATA_TOO_LONG = RequestError.EVREQ_HTTP_DATA_TOO_LONG


class HttpError(Error):
    """The root of the HTTP errors; `code` is libevent's name for the failure."""

    code: ClassVar[RequestError] = EVREQ_HTTP_BUFFER_ERROR


class RemoteProtocolError(HttpError):
    """The peer broke the protocol or a limit; `status` is the HTTP status that answers it."""

    code = EVREQ_HTTP_INVALID_HEADER
    __slots__ = ("status",)

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class InvalidResponse(RemoteProtocolError):
    """The server's answer is not HTTP/1 as RFC 9112 has it, or its head breaks a limit."""

    def __init__(self, text: str, status: int = 502) -> None:
        super().__init__(text, status)


class BodyTooLong(RemoteProtocolError):
    """The body is longer than `max_body_bytes`, or its announced length is.

    `announced_bytes` is that length where a Content-Length told it, for a server that reads such
    a body to its end before it answers (EVHTTP_SERVER_LINGERING_CLOSE); else None.
    """

    code = EVREQ_HTTP_DATA_TOO_LONG
    __slots__ = ("announced_bytes",)

    def __init__(self, text: str, status: int = 413, announced_bytes: int | None = None) -> None:
        super().__init__(text, status)
        self.announced_bytes = announced_bytes


class InvalidCoding(RemoteProtocolError):
    """The body is not what its Content-Encoding says, or its stream ends too early."""


class LocalProtocolError(HttpError, RuntimeError):
    """The program asked for a step that HTTP/1 does not allow at this point."""


class RequestTimeout(HttpError, TimeoutError):
    """The connection was silent for longer than the read or write timeout."""

    code = EVREQ_HTTP_TIMEOUT


class ConnectionClosed(HttpError, ConnectionError):
    """The peer closed before, or inside, the message that was being read."""

    code = EVREQ_HTTP_EOF


class RequestCancelled(HttpError):
    """The program cancelled the request before it was complete."""

    code = EVREQ_HTTP_REQUEST_CANCEL


class ConnectFailed(HttpError, ConnectionError):
    """No connection could be made, and the retries are used up."""

    code = EVREQ_HTTP_EOF


class TlsFailed(ConnectFailed):
    """The TLS handshake failed: the server could not be verified, or speaks no such TLS."""


class ResolveFailed(HttpError, OSError):
    """The host name could not be turned into an address."""

    code = EVREQ_HTTP_EOF


class ClientGone(HttpError, ConnectionAbortedError):
    """The client of a hosted application has gone, or sends no good body: nobody waits for a reply.

    Where the application reads or sends, it raises this.  It is an OSError, as frameworks expect.
    """

    code = EVREQ_HTTP_EOF


def comes_of_gone_client(exc: BaseException) -> bool:
    """Whether an exception is a ClientGone, or was made of one, as frameworks do."""
    seen: set[int] = set()
    cause: BaseException | None = exc
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, ClientGone):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False
