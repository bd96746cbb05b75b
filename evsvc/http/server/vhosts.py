"""Virtual hosts: whose callbacks answer, by the host that a request names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...core.errors import ArgumentError

if TYPE_CHECKING:
    from .request import ServerRequest
    from .router import Route, Router

MAX_PATTERN_CHARACTERS = 255
"""A host name has no more (RFC 1035 section 2.3.4)."""


class HostTable:
    """The names that lead to one router, and the tables of the virtual hosts below it.

    An alias anywhere below wins over every pattern; of patterns the first that matches at each
    level, and then those inside it.  Names compare without case, and without the port unless an
    alias has one.  Source: evhttp_find_vhost, and patterns that end in `*` work.

    is_trivial: whether every name leads here.
    """

    __slots__ = ("_aliases", "_below", "is_trivial", "router")

    def __init__(self, router: Router) -> None:
        self.router = router
        self._aliases: set[str] = set()
        self._below: list[tuple[str, re.Pattern[str], HostTable]] = []
        self.is_trivial = True

    def add_alias(self, name: str) -> None:
        """Lead an exact name here.  Raises ArgumentError when it does already, or is empty."""
        if not name or name.lower() in self._aliases:
            raise ArgumentError(f"an alias that is new and not empty is wanted: {name!r}")
        self._aliases.add(name.lower())

    def remove_alias(self, name: str) -> None:
        """Take an alias back.  Raises ArgumentError when it is none."""
        if name.lower() not in self._aliases:
            raise ArgumentError(f"not an alias: {name!r}")
        self._aliases.remove(name.lower())

    def add(self, pattern: str, table: HostTable) -> None:
        """Lead the names that fit `pattern` to another table; `*` is any run of characters.

        Raises ArgumentError for a pattern that is empty or longer than a name can be.
        """
        if not 0 < len(pattern) <= MAX_PATTERN_CHARACTERS:
            raise ArgumentError(
                f"a pattern has 1 to {MAX_PATTERN_CHARACTERS} characters: {pattern!r}"
            )
        parts = re.sub(r"\*+", "*", pattern).split("*")
        glob = re.compile(".*".join(map(re.escape, parts)), re.IGNORECASE | re.DOTALL)
        self._below.append((pattern, glob, table))
        self.is_trivial = False

    def remove(self, table: HostTable) -> None:
        """Take a virtual host back.  Raises ArgumentError when it is none of these."""
        for entry in self._below:
            if entry[2] is table:
                self._below.remove(entry)
                self.is_trivial = not self._below
                return
        raise ArgumentError("not a virtual host of this server")

    @property
    def streams(self) -> bool:
        """Whether any route, here or below, takes bodies as they come."""
        return self.router.streams or any(table.streams for _, _, table in self._below)

    def find_route(self, request: ServerRequest) -> Route | None:
        """Return the route for a request, of the router that its authority leads to."""
        return self.find(request.host).find(request)

    def find(self, authority: str | None) -> Router:
        """Return the router for an authority, as a request has it: a host, and maybe a port."""
        if authority is None or not self._below:
            return self.router
        authority = authority.lower()
        host = re.sub(r":[0-9]*$", "", authority)
        by_alias = self._with_alias(authority, host)
        return self._matching(host).router if by_alias is None else by_alias.router

    def _with_alias(self, authority: str, host: str) -> HostTable | None:
        if host in self._aliases or authority in self._aliases:
            return self
        for _, _, table in self._below:
            found = table._with_alias(authority, host)
            if found is not None:
                return found
        return None

    def _matching(self, host: str) -> HostTable:
        for _, glob, table in self._below:
            if glob.fullmatch(host):
                return table._matching(host)
        return self
