"""DnsChain: gives each question to the handler of the longest name above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.rdatatype

from ...core.checks import require_handler
from ..errors import DNS_ERR_REFUSED, DnsArgumentError
from ..server.finished import ReplyGroup
from ..wire.names import parse_name
from .zone import NOT_AUTHORITATIVE

if TYPE_CHECKING:
    from ..server.request import DnsServerRequest
    from ..server.server import ServerCallback

_ROOT = b"\0"


class DnsChain:
    """A handler of handlers: each answers for a name and all below it, but for nearer ones.

    What nobody answers for is REFUSED; a handler for "." takes all the rest.  A question for DS
    at the name of a handler goes to the one above it, if there is one (RFC 4035 section 3.1.4.1).
    """

    __slots__ = ("_handlers", "_kept")

    def __init__(self) -> None:
        self._handlers: dict[bytes, tuple[ServerCallback, Any]] = {}
        self._kept = ReplyGroup()

    def __len__(self) -> int:
        return len(self._handlers)

    def add(self, name: str, handler: ServerCallback, arg: object = None) -> None:
        """Have `handler(request, arg)` called for a name and what is below it.

        Raises DnsArgumentError for what is no name, for one that has a handler already, and for
        what cannot be called; ArgumentTypeError for a coroutine function: see evsvc.aio.handler.
        """
        key = parse_name(name).to_digestable()
        if not callable(handler):
            raise DnsArgumentError(f"the handler cannot be called: {handler!r}")
        require_handler(handler, "the handler")
        if key in self._handlers:
            raise DnsArgumentError(f"{name} has a handler already")
        self._handlers[key] = (handler, arg)
        self._kept.flush()

    def remove(self, name: str) -> None:
        """Take a handler away.  Raises DnsArgumentError for a name that has none."""
        key = parse_name(name).to_digestable()
        if key not in self._handlers:
            raise DnsArgumentError(f"{name} has no handler")
        del self._handlers[key]
        self._kept.flush()

    def __call__(self, request: DnsServerRequest, arg: object = None) -> None:
        """Hand a request on."""
        key = request.name_key
        found = self._find(key)
        if request.questions[0].type == dns.rdatatype.DS and key in self._handlers and key != _ROOT:
            found = self._find(key[1 + key[0] :]) or found
        request.keep_with(self._kept)
        if found is None:
            request.add_extended_error(NOT_AUTHORITATIVE)
            request.respond(DNS_ERR_REFUSED)
        else:
            handler, own = found
            handler(request, own)

    def _find(self, key: bytes) -> tuple[ServerCallback, Any] | None:
        while (found := self._handlers.get(key)) is None and key != _ROOT:
            key = key[1 + key[0] :]
        return found
