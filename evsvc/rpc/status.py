"""How a call ended: libevent's codes, and what a client's callback is given."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..http import Headers, HttpRequest


class RpcStatusCode(enum.IntEnum):
    """How a call ended (EVRPC_STATUS_ERR_*); zero is success.

    TIMEOUT:     no answer: the timeout passed, or HTTP failed in any way, as in libevent;
                 `RpcStatus.cause` tells them apart.
    BADPAYLOAD:  an answer came, but not a reply: another HTTP status than 200, or a payload that
                 does not fit the reply type.
    UNSTARTED:   nothing was sent.
    HOOKABORTED: a hook of the client stopped the reply.
    """

    EVRPC_STATUS_ERR_NONE = 0
    EVRPC_STATUS_ERR_TIMEOUT = 1
    EVRPC_STATUS_ERR_BADPAYLOAD = 2
    EVRPC_STATUS_ERR_UNSTARTED = 3
    EVRPC_STATUS_ERR_HOOKABORTED = 4


EVRPC_STATUS_ERR_NONE = RpcStatusCode.EVRPC_STATUS_ERR_NONE
EVRPC_STATUS_ERR_TIMEOUT = RpcStatusCode.EVRPC_STATUS_ERR_TIMEOUT
EVRPC_STATUS_ERR_BADPAYLOAD = RpcStatusCode.EVRPC_STATUS_ERR_BADPAYLOAD
EVRPC_STATUS_ERR_UNSTARTED = RpcStatusCode.EVRPC_STATUS_ERR_UNSTARTED
EVRPC_STATUS_ERR_HOOKABORTED = RpcStatusCode.EVRPC_STATUS_ERR_HOOKABORTED


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """How one call ended (struct evrpc_status).

    error:         libevent's code; zero, and so false, on success.
    cause:         the exception that says why; None on success.
    http_request:  the HTTP request with its response, or None when no response came.
    unknown_fields: what the reply held beside its fields, by "Class.field".
    """

    error: RpcStatusCode
    cause: Exception | None = None
    http_request: HttpRequest | None = None
    unknown_fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def metadata(self) -> Headers | None:
        """What the server sent beside the reply: the header of the HTTP response; None without."""
        return None if self.http_request is None else self.http_request.input_headers

    @property
    def message(self) -> str:
        """The cause as text; empty on success."""
        return "" if self.cause is None else str(self.cause) or type(self.cause).__name__
