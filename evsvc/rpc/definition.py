"""What both sides share: an RPC with its name and types, and a service of several."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ..core.errors import ArgumentError
from .schema import message_shape

if TYPE_CHECKING:
    from .client.call import ReplyCallback, RpcCall
    from .client.pool import RpcPool
    from .client.stream import ClientStream
    from .frames import StreamOptions

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


class RpcKind(enum.Enum):
    """How many messages go each way.

    UNARY:         one, and one back.
    ONE_WAY:       one; the caller is answered before the handler runs: it learns that it came.
    SERVER_STREAM: one, and any number back.
    CLIENT_STREAM: any number, and one back.
    BOTH_WAYS:     any number either way, at the same time.
    """

    UNARY = "unary"
    ONE_WAY = "one-way"
    SERVER_STREAM = "server-stream"
    CLIENT_STREAM = "client-stream"
    BOTH_WAYS = "both-ways"

    @property
    def is_stream(self) -> bool:
        """Whether more than one message may go one way."""
        return self not in (RpcKind.UNARY, RpcKind.ONE_WAY)


@dataclass
class Nothing:
    """A message without fields: what a ONE_WAY call is answered with."""


class Rpc(Generic[Request, Reply]):
    """The definition of one call; never changes, so that any number of sides may share it.

    name:          identifiers joined by dots, at most 128 characters.
    request_type:  the dataclass that the client sends;  `request_shape` is its schema.
    reply_type:    the dataclass that the server answers with;  `reply_shape` is its schema.
    path:          what the call is posted to: `/.rpc.<name>`.

    idempotent:    whether asking twice is as asking once, so that a call may be repeated.
    kind:          how many messages go each way; of a stream the types are those of each message.

    As an attribute of a `Service` it is a method of the service's stub.

    Raises ArgumentError for another name, for a stream that should be idempotent, or a ONE_WAY call
    whose reply has a field without default; and DefinitionError with the field's path when one of
    the types holds what is not carried (see `schema`).  EVRPC_HEADER and EVRPC_GENERATE.
    """

    __slots__ = (
        "idempotent",
        "kind",
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
        kind: RpcKind = RpcKind.UNARY,
    ) -> None:
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise ArgumentError(f"an RPC name is identifiers joined by dots: {name!r}")
        self.name = name
        self.path = PATH_PREFIX + name
        self.idempotent = idempotent
        self.kind = RpcKind(kind)
        if idempotent and kind.is_stream:
            raise ArgumentError(f"a stream is not repeated, so not idempotent: {name!r}")
        self.request_type = request_type
        self.reply_type = reply_type
        self.request_shape = message_shape(request_type)
        self.reply_shape = message_shape(reply_type)
        if kind is RpcKind.ONE_WAY and any(field.required for field in self.reply_shape.fields):
            raise ArgumentError(f"a one-way call is answered with Nothing: {reply_type!r}")

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

    def open(
        self,
        cb: ReplyCallback[Any, Reply],
        arg: object = None,
        *,
        request: Request | None = None,
        on_message: Callable[[ClientStream[Request, Reply], Reply, Any], object] | None = None,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        options: StreamOptions | None = None,
    ) -> ClientStream[Request, Reply]:
        """Open a stream; see `RpcPool.open_stream`."""
        return self.pool.open_stream(
            self.rpc,
            cb,
            arg,
            request=request,
            on_message=on_message,
            timeout_s=timeout_s,
            metadata=metadata,
            options=options,
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
