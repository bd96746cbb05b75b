"""Whether a server, or one of its services, takes calls: for balancers, and for other programs.

Asked by the RPC `Health`, or by GET of its path, which is answered 200 or 503: enough for HAProxy
or Kubernetes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .definition import Rpc
from .errors import CallFailed, RpcErrorCode

if TYPE_CHECKING:
    from ..http import ServerRequest
    from .server.call import ServerCall

HEALTH_PATH = "/.rpc/health"


class Serving(enum.Enum):
    """What is said of a service."""

    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"


@dataclass
class HealthRequest:
    """Whose health is asked: a service's name, or "" for the server as a whole."""

    service: str = ""


@dataclass
class HealthReply:
    """How it is."""

    status: Serving


Health = Rpc("Health", HealthRequest, HealthReply, idempotent=True)


class HealthBoard:
    """What a server says of itself; made by `RpcServer.serve_health`.

    The server as a whole, "", is there from the start, and serving.
    """

    __slots__ = ("_services",)

    def __init__(self) -> None:
        self._services = {"": Serving.SERVING}

    def set(self, service: str, is_serving: bool) -> None:
        """Say how a service is, or with "" the server as a whole."""
        self._services[service] = Serving.SERVING if is_serving else Serving.NOT_SERVING

    def answer_call(self, call: ServerCall[HealthRequest, HealthReply], arg: object) -> None:
        """Answer the RPC; a service that nobody has spoken of is NOT_FOUND."""
        status = self._services.get(call.request.service)
        if status is None:
            text = f"there is no service {call.request.service!r}"
            raise CallFailed(text, RpcErrorCode.NOT_FOUND)
        call.done(HealthReply(status))

    def answer_request(self, request: ServerRequest, arg: Any) -> None:
        """Answer a plain GET for the server as a whole."""
        status = self._services[""]
        request.output_headers.add("Content-Type", "text/plain; charset=utf-8")
        code = 200 if status is Serving.SERVING else 503
        request.send_reply(code, None, f"{status.value}\n".encode())
