"""What can go wrong with a remote call: by the definition, the payload, the peer or the clock.

In a callback these arrive as `status.cause`; only misuse by the program raises at the call.
"""

from __future__ import annotations

import enum

from ..core.errors import Error

MAX_QUOTED_CHARACTERS = 1024
"""How much of a text that another wrote goes into a message of ours."""


def one_line(text: str) -> str:
    """Return foreign text fit for a message or a log: one line, printable, shortened."""
    words = " ".join(text[:MAX_QUOTED_CHARACTERS].split())
    return "".join(char if char.isprintable() else "\ufffd" for char in words)


class RpcError(Error):
    """The root of the exceptions of evsvc.rpc."""


class DefinitionError(RpcError, TypeError):
    """A request or reply type holds something that no codec carries; the message has its path."""


class PayloadError(RpcError, ValueError):
    """A payload, or a value that should become one, does not fit its message type or a limit.

    path:   where, as `AddRequest.items[3].price`; empty when it is the payload as a whole.
    reason: what is wrong there.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def prefix(self, segment: str) -> None:
        """Put `segment` before the path: each level adds its own while the error unwinds."""
        self.path = segment + self.path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class RpcErrorCode(enum.StrEnum):
    """What kind of failure a call met, under the names that gRPC has made common.

    UNKNOWN is also what a peer's word is taken for that is none of these.
    """

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


class CallFailed(RpcError):
    """A call failed for a reason that its caller is told; a handler may raise it.

    message: for people, one line.  code: what kind of failure.  details: what a program may want
    to know, of plain JSON data; None is nothing.  Raises ArgumentTypeError when they are not.
    """

    def __init__(
        self,
        message: str,
        code: RpcErrorCode = RpcErrorCode.UNKNOWN,
        details: object = None,
    ) -> None:
        super().__init__(message, code, details)
        self.message = message
        self.code = code
        self.details = details

    def __str__(self) -> str:
        return self.message


class RemoteError(CallFailed):
    """The peer answered with another HTTP status than 200.

    response_code: the HTTP status;  text: the peer's explanation, shortened; may be empty.
    code, details: as the server's handler gave them; UNKNOWN and None for what is no RPC server.
    """

    def __init__(
        self,
        response_code: int,
        text: str,
        code: RpcErrorCode = RpcErrorCode.UNKNOWN,
        details: object = None,
    ) -> None:
        super().__init__(text, code, details)
        self.args = (response_code, text, code, details)
        self.response_code = response_code
        self.text = text

    def __str__(self) -> str:
        explanation = f": {self.text}" if self.text else ""
        return f"the server answered {self.response_code}{explanation}"


class CallTimeout(RpcError, TimeoutError):
    """The pool's timeout passed before the reply was complete."""


class CallNotStarted(RpcError, RuntimeError):
    """The call was never sent: the queue was full, or the connection refused to take it."""
