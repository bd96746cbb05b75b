"""One RPC, defined once and used by both sides: its name, request type and reply type."""

from __future__ import annotations

import re
from typing import Generic, TypeVar

from ..core.errors import ArgumentError
from .schema import message_shape

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

    Raises ArgumentError for another name, and DefinitionError with the field's path when one of
    the types holds what is not carried (see `schema`).  EVRPC_HEADER and EVRPC_GENERATE.
    """

    __slots__ = ("name", "reply_shape", "reply_type", "request_shape", "request_type")

    def __init__(self, name: str, request_type: type[Request], reply_type: type[Reply]) -> None:
        if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise ArgumentError(f"an RPC name is identifiers joined by dots: {name!r}")
        self.name = name
        self.request_type = request_type
        self.reply_type = reply_type
        self.request_shape = message_shape(request_type)
        self.reply_shape = message_shape(reply_type)

    @property
    def path(self) -> str:
        """The path that the call is posted to: `/.rpc.<name>`."""
        return PATH_PREFIX + self.name

    def __repr__(self) -> str:
        return (
            f"Rpc({self.name!r}, {self.request_type.__qualname__}, {self.reply_type.__qualname__})"
        )
