"""Who a client behind proxies is: X-Forwarded-* and Forwarded (RFC 7239), from trusted peers only.

Each proxy appends what it saw, so that the list is read from its right end: from the peer that is
connected, as far as the hops are trusted.  What stands further left a client may have made up.  A
hop that cannot be read ends the walk: the client is the last one that was told well.

Only one of the two families is looked at.  A proxy replaces or extends the one that it knows, and
lets the other pass as its client sent it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from ...core.errors import ArgumentError
from ...core.networks import Networks, parse_ip
from ..wire.grammar import split_authority

if TYPE_CHECKING:
    from .request import ServerRequest

MAX_HOPS: Final = 16
"""How many hops are looked at; the last of them is taken for the client."""

UNIX: Final = "unix"
"""Stands among the trusted networks for all peers on a Unix socket."""

_FAMILIES: Final = ("x-forwarded", "forwarded")
_TAKES: Final = ("for", "proto", "host")

# One pair of an element, and what separates it from the next.  Blanks are legal around the comma
# alone; some proxies write them behind the semicolon, too.
_PAIR: Final = re.compile(
    r"[ \t]*+([!#$%&'*+\-.^_`|~0-9A-Za-z]++)="
    r"(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]++)"
    r'|"((?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+)")[ \t]*+(?:([;,])|$)'
)
_EMPTY: Final = re.compile(r"[ \t]*+(?:([;,])|$)")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_OBFUSCATED: Final = re.compile(r"_[0-9A-Za-z._\-]+")
_PORT: Final = re.compile(r"[0-9]{1,5}|_[0-9A-Za-z._\-]+")
_NODE: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::([^:]*))?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*")
_LONGEST_NODE: Final = 256


class Client(NamedTuple):
    """Where a request came from, as far as it can be believed.

    address: an IP address; "" on a Unix socket; or what a trusted proxy calls one that it hides:
    "unknown", or a name that begins with "_".  port: 0 where it is not known.  scheme: "http" or
    "https", as the client used it.  host: the authority that it addressed, or None.
    """

    address: str
    port: int
    scheme: str
    host: str | None


class Hop(NamedTuple):
    """What one proxy said of the request that it got; None where it said nothing."""

    node: str | None
    proto: str | None
    host: str | None


class TrustedProxies:
    """The peers whose word on their clients is taken.

    networks: addresses and networks ("10.0.0.0/8", "::1"), and "unix" for Unix sockets.  family:
    "x-forwarded" for X-Forwarded-For, -Proto and -Host, or "forwarded" for RFC 7239's field: the
    one that the proxies write.  takes: which parts are taken, of "for", "proto" and "host".  A part
    that a proxy does not write must not be taken, as the client's own would be.  Raises
    ArgumentError for a network that is none, no network at all, or an unknown word.
    """

    __slots__ = ("_has_unix", "_networks", "_read", "_takes")

    def __init__(
        self,
        networks: Iterable[str],
        *,
        family: str = "x-forwarded",
        takes: Iterable[str] = ("for", "proto"),
    ) -> None:
        if isinstance(networks, str):
            raise ArgumentError(f"networks are several texts: {networks!r}")
        names = list(networks)
        if not names:
            raise ArgumentError("no proxy is trusted")
        self._has_unix = UNIX in names
        self._networks = Networks(name for name in names if name != UNIX)
        if family not in _FAMILIES:
            raise ArgumentError(f"a family is one of {', '.join(_FAMILIES)}: {family!r}")
        self._read = read_x_forwarded if family == "x-forwarded" else read_forwarded
        self._takes = frozenset(takes)
        if not self._takes <= set(_TAKES):
            raise ArgumentError(f"what is taken is of {', '.join(_TAKES)}: {takes!r}")

    def trusts(self, address: str) -> bool:
        """Whether an address is one of a trusted proxy; "" is a Unix socket's."""
        return address in self._networks if address else self._has_unix

    def client_of(self, request: ServerRequest, seen: Client) -> Client:
        """Return who sent a request; `seen` is what the connection itself shows."""
        if not self.trusts(seen.address):
            return seen
        address, port, scheme, host = seen
        takes = self._takes
        for count, hop in enumerate(self._read(request)):
            if hop is None or count == MAX_HOPS:
                break
            node = None if hop.node is None else parse_node(hop.node)
            if node is None and hop.node is not None:
                break
            if node is not None and "for" in takes:
                address, port = node
            if "proto" in takes and hop.proto is not None and _SCHEME.fullmatch(hop.proto):
                scheme = hop.proto.lower()
            if "host" in takes and hop.host and split_authority(hop.host) is not None:
                host = hop.host
            if node is None or not self.trusts(node[0]):
                break
        return Client(address, port, scheme, host)


def read_x_forwarded(request: ServerRequest) -> Iterator[Hop | None]:
    """Yield the hops of X-Forwarded-For, the nearest first.

    X-Forwarded-Proto and -Host belong to the hops one by one where there are as many of them, and
    else the last of them, which the peer has written, to all.
    """
    headers = request.input_headers
    nodes = _members(headers.get_all("X-Forwarded-For")) or [None]
    columns = []
    for name in ("X-Forwarded-Proto", "X-Forwarded-Host"):
        values = _members(headers.get_all(name))
        if len(values) != len(nodes):
            values = values[-1:] * len(nodes)
        columns.append(values or [None] * len(nodes))
    for node, proto, host in zip(*map(reversed, (nodes, *columns)), strict=True):
        yield Hop(node, proto, host)


def read_forwarded(request: ServerRequest) -> Iterator[Hop | None]:
    """Yield the hops of Forwarded, the nearest first; None for a line that cannot be read."""
    for line in reversed(request.input_headers.get_all("Forwarded")):
        elements = parse_forwarded(line)
        if elements is None:
            yield None
            return
        for element in reversed(elements):
            yield Hop(element.get("for"), element.get("proto"), element.get("host"))


def parse_forwarded(value: str) -> list[dict[str, str]] | None:
    """Return the elements of a Forwarded field, parameters by lower-case name, in their order.

    Quotes are taken off, empty elements are passed over.  None when it is malformed anywhere, or
    has a parameter twice in one element: as a quote that is left open swallows what follows, no
    part of it is to be believed.  RFC 7239 section 4.
    """
    elements: list[dict[str, str]] = []
    element: dict[str, str] = {}
    pos = 0
    while True:
        found = _PAIR.match(value, pos)
        if found is not None:
            name = found[1].lower()
            if name in element:
                return None
            quoted = found[3]
            element[name] = found[2] if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
            separator = found[4]
        else:
            found = _EMPTY.match(value, pos)
            if found is None:
                return None
            separator = found[1]
        if separator != ";":
            if element:
                elements.append(element)
            element = {}
        if separator is None:
            return elements
        pos = found.end()


def parse_node(node: str) -> tuple[str, int] | None:
    """Return the address and port of a node (RFC 7239 section 6); None for what is none.

    The address may be "unknown", or a name that begins with "_".  IPv6 stands in brackets, or, as
    in X-Forwarded-For, without, and then without a port.  A port that is hidden is 0.
    """
    if len(node) > _LONGEST_NODE:
        return None
    bare = parse_ip(node)
    if bare is not None:
        return str(bare), 0
    found = _NODE.fullmatch(node)
    if found is None:
        return None
    name, port = found[1], found[2]
    if port is not None and _PORT.fullmatch(port) is None:
        return None
    number = int(port) if port is not None and port.isdigit() else 0
    if number > 65535:
        return None
    if name.startswith("["):
        address = parse_ip(name[1:-1]) if ":" in name else None
        return None if address is None else (str(address), number)
    if name.lower() == "unknown" or _OBFUSCATED.fullmatch(name):
        return name.lower() if name.lower() == "unknown" else name, number
    address = parse_ip(name)
    return None if address is None else (str(address), number)


def _members(values: Iterable[str]) -> list[str | None]:
    """Return the members of a list over several lines, without those that are empty."""
    return [
        text for value in values for member in value.split(",") if (text := member.strip(" \t"))
    ]
