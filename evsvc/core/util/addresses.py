"""Addresses as text, as packed bytes, and as the tuples of the `socket` module.  Asks no one.

The texts are the strict ones of inet_pton(3): "1.2.3" and "01.2.3.4" are no addresses.  The text
that comes out is one and the same for equal addresses on every platform.

`endpoint_of` is the one way from what a program gave to what a socket is told: it judges all that a
socket would judge later, or misread, so that a bad address is refused at the call.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import NamedTuple

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError
from ..resolver import SocketAddress

MAX_BRACKETED_CHARACTERS = 127
"""Most characters between the brackets of "[ip6]:port", as in libevent."""

MAX_UNIX_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""Most bytes of a Unix socket's path; the kernel wants one more, for the NUL behind it.

An abstract name of Linux has none there, and may have one byte more, its leading NUL counted.
"""

MAX_PORT = 65535
_MAX_FLOWINFO = 2**20 - 1
_MAX_SCOPE_ID = 2**32 - 1
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

# What libevent holds for useless to reach other hosts from; 10/8 and its like are not among them,
# as they do reach other hosts, through address translation.
_LOCAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/32",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "::/64",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)


class Endpoint(NamedTuple):
    """An address as a socket takes it.

    sockaddr: `(host, port)`, `(host, port, flowinfo, scope_id)`, or the bytes of a Unix path; a
    host is numeric, without a zone, and as `inet_ntop` writes it.  text: what messages call it.
    """

    family: socket.AddressFamily
    sockaddr: SocketAddress
    text: str


def endpoint_of(address: SocketAddress) -> Endpoint:
    """Return what a socket is to be bound or connected to.

    address: `(host, port)` with a numeric host, where IPv6 may have a zone ("fe80::1%eth0"), and
    flowinfo and scope id behind the port; or a Unix path: bytes, a path object, or a text with a
    slash in it (so that a host without its port is none), or with a NUL in front for one of
    Linux's abstract names.

    Raises ArgumentTypeError for what is neither, for a host that is no text, and for a port that is
    no whole number.  Raises ArgumentError for a host that is a name (only a resolver looks names
    up), a zone that does not exist or is not that of the scope id, a number out of range, and a
    path that is empty, too long, or has a NUL inside.
    """
    if isinstance(address, tuple):
        family, _, sockaddr = _judged(address)
        return Endpoint(family, sockaddr, _ip_text(sockaddr))
    path = _path_bytes(address)
    abstract = path.startswith(b"\0") and sys.platform == "linux"
    # Of a path, the kernel would take what is before a NUL; of an empty one, invent a name.
    if not path or b"\0" in (path[1:] if abstract else path):
        raise ArgumentError(f"a path is not empty, and has no NUL inside: {address!r}")
    if b"/" not in path and not abstract:
        if isinstance(address, str):
            raise ArgumentError(f"a host wants a port, and a Unix path has a slash: {address!r}")
        path = b"./" + path  # so that what getsockname() returns is a path, too
    most = MAX_UNIX_PATH_BYTES + abstract
    if len(path) > most:
        raise ArgumentError(f"a Unix path of {len(path)} bytes is too long: {address!r}")
    text = ("@" if abstract else "") + path[abstract:].decode(errors="backslashreplace")
    return Endpoint(socket.AF_UNIX, path, text)


def _path_bytes(address: object) -> bytes:
    """Return a path's bytes, whatever the kernel or the program has put there."""
    try:
        return os.fsencode(address)  # type: ignore[arg-type]  # what is no path is a TypeError
    except UnicodeEncodeError as exc:
        raise ArgumentError(f"the file system cannot have the path {address!r}") from exc
    except TypeError as exc:
        raise _no_address(address) from exc


def _no_address(address: object) -> ArgumentTypeError:
    kind = type(address).__name__
    return ArgumentTypeError(f"an address is (host, port) or a Unix path, not {address!r} ({kind})")


_IpSockaddr = tuple[str, int] | tuple[str, int, int, int]


def _judged(address: SocketAddress) -> tuple[socket.AddressFamily, bytes, _IpSockaddr]:
    """Return the family, the address's bytes and the canonical form of a tuple."""
    if not isinstance(address, tuple):
        raise _no_address(address)
    if len(address) < 2:
        raise ArgumentError(f"an address is (host, port): {address!r}")
    host, port, *more = address
    if not isinstance(host, str):
        raise ArgumentTypeError(f"a host is text, not {host!r} ({type(host).__name__})")
    check_port(port)
    if ":" not in host:
        packed = inet_pton(socket.AF_INET, host)
        if more:
            raise ArgumentError(f"an IPv4 address is (host, port): {address!r}")
        return socket.AF_INET, packed, (host, port)  # there is one text only
    packed, zone_id = inet_pton_scope(socket.AF_INET6, host)
    if len(more) > 2:
        raise ArgumentError(f"an address is (host, port, flowinfo, scope id): {address!r}")
    flowinfo, scope_id = (*more, 0, 0)[:2]
    if not 0 <= whole_number(flowinfo, "a flowinfo") <= _MAX_FLOWINFO:
        raise ArgumentError(f"a flowinfo is 0..{_MAX_FLOWINFO}: {flowinfo!r}")
    if not 0 <= whole_number(scope_id, "a scope id") <= _MAX_SCOPE_ID:
        raise ArgumentError(f"a scope id is 0..{_MAX_SCOPE_ID}: {scope_id!r}")
    if zone_id and scope_id and zone_id != scope_id:
        raise ArgumentError(f"the zone and the scope id differ: {address!r}")
    text = inet_ntop(socket.AF_INET6, packed)
    return socket.AF_INET6, packed, (text, port, flowinfo, zone_id or scope_id)


def family_of(address: SocketAddress) -> socket.AddressFamily:
    """Return the family of a socket address: a path, or a tuple with a numeric host.

    Any path will do, also an empty one, which is what the kernel calls an unnamed peer.  Raises as
    `endpoint_of` does for a tuple.
    """
    if isinstance(address, (str, bytes, os.PathLike)):
        return socket.AF_UNIX
    return _judged(address)[0]


def ip_version(host: str) -> int | None:
    """Return 4 or 6 for a numeric IP address (with or without a zone), else None.

    Raises ArgumentTypeError for what is no text.
    """
    if not isinstance(host, str):  # ipaddress takes integers for addresses, too
        raise ArgumentTypeError(f"a host is text, not {host!r} ({type(host).__name__})")
    host, percent, zone = host.partition("%")
    if ":" not in host:
        return None if percent or not _packed(socket.AF_INET, host) else 4
    if bool(percent) != bool(zone) or "%" in zone:
        return None
    return 6 if _packed(socket.AF_INET6, host) else None


def check_port(port: int, lowest: int = 0) -> int:
    """Return `port`.

    Raises ArgumentTypeError for what is no int, ArgumentError for one outside `lowest`..65535.
    """
    if not whole_number(lowest, "a port") <= whole_number(port, "a port") <= MAX_PORT:
        raise ArgumentError(f"a port is {lowest}..65535: {port!r}")
    return port


def inet_pton(family: int, text: str) -> bytes:
    """Return the 4 or 16 bytes of an address in network order (evutil_inet_pton).

    Raises ArgumentError for a text that is no address of the family, or another family than
    AF_INET and AF_INET6, ArgumentTypeError for what is no text.
    """
    _require_text(text)
    _require_ip_family(family)
    packed = _packed(family, text)
    if not packed:
        version = 4 if family == socket.AF_INET else 6
        raise ArgumentError(f"not a numeric IPv{version} address: {text!r}")
    return packed


def _packed(family: int, text: str) -> bytes:
    """Return the bytes of an address, or b"" for what is none."""
    try:
        return socket.inet_pton(family, text)
    except (OSError, ValueError):  # ValueError: a NUL in it, or what is no character
        return b""


def _require_text(text: object) -> None:
    if not isinstance(text, str):
        raise ArgumentTypeError(f"an address as text is wanted, not {type(text).__name__}")


def _require_ip_family(family: object) -> None:
    if whole_number(family, "a family") not in _FAMILIES:
        raise ArgumentError(f"the family is AF_INET or AF_INET6: {family!r}")


def inet_pton_scope(family: int, text: str) -> tuple[bytes, int]:
    """Return the bytes and the scope id of an address; only an IPv6 address may have a zone.

    The zone behind "%" is an interface's name or a decimal number; without one the scope id is 0.
    Raises as `inet_pton`, and ArgumentError for a zone that does not exist.
    Source: evutil_inet_pton_scope, RFC 4007 section 11.
    """
    if family != socket.AF_INET6 or not isinstance(text, str):
        return inet_pton(family, text), 0
    host, percent, zone = text.partition("%")
    packed = inet_pton(family, host)
    return packed, _scope_id(zone, text) if percent else 0


def _scope_id(zone: str, text: str) -> int:
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError):  # ValueError: an embedded NUL
        number = int(zone) if zone.isascii() and zone.isdigit() and len(zone) <= 10 else -1
    if not 0 <= number <= _MAX_SCOPE_ID:
        raise ArgumentError(f"no such zone: {text!r}")
    return number


def inet_ntop(family: int, packed: bytes) -> str:
    """Return the text of a packed address (evutil_inet_ntop, RFC 5952 section 4).

    IPv6 is in lower case with its longest run of zeros, if longer than one group, as "::"; an
    IPv4-mapped or IPv4-compatible address ends in dotted form.  Raises ArgumentError for another
    number of bytes than the family has, or another family, ArgumentTypeError for what is no bytes.
    """
    _require_ip_family(family)
    if not isinstance(packed, (bytes, bytearray, memoryview)):
        raise ArgumentTypeError(f"an address is packed as bytes, not {type(packed).__name__}")
    wanted = 4 if family == socket.AF_INET else 16
    if len(packed) != wanted:
        raise ArgumentError(f"an address of {wanted} bytes is wanted: {packed!r}")
    return _dotted(packed) if wanted == 4 else _ipv6_text(packed)


def _dotted(packed: bytes) -> str:
    return ".".join(map(str, packed))


def _ipv6_text(packed: bytes) -> str:
    groups = [packed[at] << 8 | packed[at + 1] for at in range(0, 16, 2)]
    if not any(groups[:5]):
        if groups[5] == 0xFFFF:
            return f"::ffff:{_dotted(packed[12:])}"
        if not groups[5] and groups[6] and groups[7]:  # "::" and "::1" are none
            return f"::{_dotted(packed[12:])}"
    start, length = _longest_zeros(groups)
    if length < 2:
        return _hexadecimal(groups)
    return f"{_hexadecimal(groups[:start])}::{_hexadecimal(groups[start + length :])}"


def _hexadecimal(groups: list[int]) -> str:
    return ":".join(f"{group:x}" for group in groups)


def _longest_zeros(groups: list[int]) -> tuple[int, int]:
    """Return where the first of the longest runs of zeros starts, and its length."""
    best_start = best_length = length = 0
    for at, group in enumerate(groups):
        length = 0 if group else length + 1
        if length > best_length:
            best_start, best_length = at + 1 - length, length
    return best_start, best_length


def parse_sockaddr_port(text: str) -> SocketAddress:
    """Return the socket address of "ip4", "ip4:port", "ip6", "[ip6]" or "[ip6]:port".

    The host comes out as `inet_ntop` writes it, a missing port as 0; IPv6 has four fields, with
    the scope id of a zone in the last.  Raises ArgumentError for anything else, a host name, port
    0 and what follows the port included, ArgumentTypeError for what is no text.
    Source: evutil_parse_sockaddr_port.
    """
    _require_text(text)
    host, port_text = _split_port(text)
    port = 0 if port_text is None else _port_of(port_text, text)
    if ":" not in host:
        return inet_ntop(socket.AF_INET, inet_pton(socket.AF_INET, host)), port
    packed, scope_id = inet_pton_scope(socket.AF_INET6, host)
    return inet_ntop(socket.AF_INET6, packed), port, 0, scope_id


def _split_port(text: str) -> tuple[str, str | None]:
    """Return the host and the text of the port; a host in brackets has a colon."""
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        well_formed = closing and ":" in host and (not rest or rest.startswith(":"))
        if not well_formed or len(host) > MAX_BRACKETED_CHARACTERS:
            raise ArgumentError(f"not an IPv6 address in brackets with a port: {text!r}")
        return host, rest[1:] if rest else None
    if text.count(":") == 1:
        host, _, port_text = text.partition(":")
        return host, port_text
    return text, None


def _port_of(port_text: str, text: str) -> int:
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
        raise ArgumentError(f"not an address with a port: {text!r}")
    return check_port(int(port_text), lowest=1)


def format_sockaddr_port(address: SocketAddress) -> str:
    """Return the text that `parse_sockaddr_port` reads as `address`; port 0 is left out.

    A Unix socket's path is returned as it is.  Raises as `family_of` does.
    """
    if family_of(address) == socket.AF_UNIX:
        return os.fsdecode(_path_bytes(address))
    return _ip_text(_judged(address)[2])


def _ip_text(sockaddr: _IpSockaddr) -> str:
    host, number, *more = sockaddr
    port = f":{number}" if number else ""
    if not more:
        return f"{host}{port}"
    zone = f"%{more[1]}" if more[1] else ""
    return f"[{host}{zone}]{port}"


def sockaddr_cmp(one: SocketAddress, other: SocketAddress, include_port: bool = False) -> int:
    """Return a negative number, 0 or a positive one, as `one` sorts before `other`.

    By family, then by the address's bytes, then, if wanted, by port; paths by their bytes.  How
    a host is spelt and its scope do not count.  Raises as `family_of` does.
    Source: evutil_sockaddr_cmp.
    """
    first, second = _sort_key(one, include_port), _sort_key(other, include_port)
    return (first > second) - (first < second)


def _sort_key(address: SocketAddress, include_port: bool) -> tuple[int, bytes, int]:
    if family_of(address) == socket.AF_UNIX:
        return socket.AF_UNIX, _path_bytes(address), 0
    family, packed, sockaddr = _judged(address)
    return family, packed, sockaddr[1] if include_port else 0


def sockaddr_is_loopback(address: SocketAddress) -> bool:
    """Tell whether the address is in 127/8 or is ::1; a path is not.

    Raises as `family_of` does.  Source: evutil_sockaddr_is_loopback_.
    """
    if family_of(address) == socket.AF_UNIX:
        return False
    family, packed, sockaddr = _judged(address)
    return packed[0] == 127 if family == socket.AF_INET else sockaddr[0] == "::1"


def sockaddr_is_local(address: SocketAddress) -> bool:
    """Tell whether the address is of no use to reach hosts beyond the link; a path is not.

    These are the unspecified, loopback, link-local and multicast addresses, and IPv6's private
    (unique local) ones.  Raises as `family_of` does.
    Source: evutil_v4addr_is_local_, evutil_v6addr_is_local_.
    """
    if family_of(address) == socket.AF_UNIX:
        return False
    ip = ipaddress.ip_address(_judged(address)[1])
    return any(ip in network for network in _LOCAL)
