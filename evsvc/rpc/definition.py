"""What both sides share: an RPC with its name and types, and a service of several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ..core.errors import ArgumentError
from .schema import message_shape

if TYPE_CHECKING:
    from .client.call import ReplyCallback, RpcCall
    from .client.pool import RpcPool

Request = TypeVar("Request")
Reply = TypeVar("Reply")

PATH_PREFIX = "/.rpc."
"""What libevent puts before the name to form the path of the HTTP request."""

OCTET_STREAM = "application/octet-stream"
"""What libevent's peers send, and what says nothing of the codec."""

DEADLINE_FIELD = "Rpc-Timeout"
"""The field that says how many seconds the caller waits from now on."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_LONGEST_NAME = 128


class Rpc(Generic[Request, Reply]):
    """The definition of one call; never changes, so that any number of sides may share it.

    name:          identifiers joined by dots, at most 128 characters.
    request_type:  the dataclass that the client sends;  `request_shape` is its schema.
    reply_type:    the dataclass that the server answers with;  `reply_shape` is its schema.
    path:          what the call is posted to: `/.rpc.<name>`.

    idempotent:    whether asking twice is as asking once, so that a call may be repeated.

    As an attribute of a `Service` it is a method of the service's stub.

    Raises ArgumentError for another name, and DefinitionError with the field's path when one of
    the types holds what is not carried (see `schema`).  EVRPC_HEADER and EVRPC_GENERATE.
    """

    __slots__ = (
        "idempotent",
        "name",
        "path",
        "reply_shape",
        "reply_type",
        "request_shape",
        "request_type",
    )

    def __init__(
        self,
        name: str,
        request_type: type[Request],
        reply_type: type[Reply],
        *,
        idempotent: bool = False,
    ) -> None:
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise ArgumentError(f"an RPC name is identifiers joined by dots: {name!r}")
        self.name = name
        self.path = PATH_PREFIX + name
        self.idempotent = idempotent
        self.request_type = request_type
        self.reply_type = reply_type
        self.request_shape = message_shape(request_type)
        self.reply_shape = message_shape(reply_type)

    @overload
    def __get__(self, instance: None, owner: type) -> Rpc[Request, Reply]: ...

    @overload
    def __get__(self, instance: Service, owner: type) -> BoundRpc[Request, Reply]: ...

    def __get__(
        self, instance: Service | None, owner: type
    ) -> Rpc[Request, Reply] | BoundRpc[Request, Reply]:
        return self if instance is None else BoundRpc(self, instance.pool)

    def __repr__(self) -> str:
        return (
            f"Rpc({self.name!r}, {self.request_type.__qualname__}, {self.reply_type.__qualname__})"
        )


class BoundRpc(Generic[Request, Reply]):
    """A definition and the pool that calls it: what an attribute of a service's stub is."""

    __slots__ = ("pool", "rpc")

    def __init__(self, rpc: Rpc[Request, Reply], pool: RpcPool) -> None:
        self.rpc = rpc
        self.pool = pool

    def __call__(
        self,
        request: Request,
        cb: ReplyCallback[Request, Reply],
        arg: object = None,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> RpcCall[Request, Reply]:
        """Make the call; see `RpcPool.make_request`."""
        return self.pool.make_request(
            self.rpc, request, cb, arg, timeout_s=timeout_s, metadata=metadata
        )


class Service:
    """A group of RPCs: a class whose attributes are definitions, and the stub that calls them.

        class Calculator(Service):
            add = Rpc("Calculator.Add", AddRequest, AddReply)

        Calculator(pool).add(AddRequest(1, 2), show)
        server.register_service(Calculator, calculator)   # calculator.add(call, arg)

    pool: where the stub's calls go.
    """

    def __init__(self, pool: RpcPool) -> None:
        self.pool = pool

    @classmethod
    def rpcs(cls) -> dict[str, Rpc[Any, Any]]:
        """Return the definitions by attribute, those of classes above first."""
        found: dict[str, Rpc[Any, Any]] = {}
        for each in reversed(cls.__mro__):
            found |= {name: rpc for name, rpc in vars(each).items() if isinstance(rpc, Rpc)}
        return found
