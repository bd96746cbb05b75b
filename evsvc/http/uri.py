"""URIs as libevent's `evhttp_uri_*` sees them: RFC 3986 references, neither decoded nor normalised.

Names are those of libevent, `evhttp_uri_get_x` and `evhttp_uri_set_x` being the property `x`.
A part that is absent differs from an empty one: `http://h/?` has the query "", `http://h/` None.
"""

import re
from enum import IntFlag
from typing import Final, Self

from ..core.errors import ArgumentError
from .query import parse_query_str
from .wire.grammar import is_uri_host
from .wire.headers import KeyValues


class UriFlag(IntFlag):
    """How `HttpUri` reads and keeps a URI.

    NONCONFORMANT:       path, query and fragment may hold any character but NUL.
    HOST_STRIP_BRACKETS: `host` of an IP literal is without its brackets; `join` restores them.
    UNIX_SOCKET:         the authority may be `unix:PATH:`.
    """

    EVHTTP_URI_NONCONFORMANT = 1
    EVHTTP_URI_HOST_STRIP_BRACKETS = 4
    EVHTTP_URI_UNIX_SOCKET = 8


EVHTTP_URI_NONCONFORMANT = UriFlag.EVHTTP_URI_NONCONFORMANT
EVHTTP_URI_HOST_STRIP_BRACKETS = UriFlag.EVHTTP_URI_HOST_STRIP_BRACKETS
EVHTTP_URI_UNIX_SOCKET = UriFlag.EVHTTP_URI_UNIX_SOCKET

_CHARACTER: Final = r"[A-Za-z0-9\-._~!$&'()*+,;=:]"
_ESCAPED: Final = r"%[0-9A-Fa-f]{2}"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*+").fullmatch
_USERINFO: Final = re.compile(rf"(?:{_CHARACTER}|{_ESCAPED})*").fullmatch
_PATH: Final = re.compile(rf"(?:{_CHARACTER}|[@/]|{_ESCAPED})*").fullmatch
_QUERY: Final = re.compile(rf"(?:{_CHARACTER}|[@/?]|{_ESCAPED})*").fullmatch
_LOOSE_PATH: Final = re.compile(r"[^?#\0]*+").fullmatch
_LOOSE_QUERY: Final = re.compile(r"[^#\0]*+").fullmatch
_LOOSE_FRAGMENT: Final = re.compile(r"[^\0]*+", re.DOTALL).fullmatch
# RFC 3986 appendix B, without the scheme, which is judged first.
_PARTS: Final = re.compile(
    r"(?://([^/?#]*+))?([^?#]*+)(?:\?([^#]*+))?(?:#(.*+))?", re.DOTALL
).fullmatch
_UNIX: Final = re.compile(r"//(?:([^@/?#]*+)@)?unix:([^:]*+):(?=[/?#]|\Z)").match
_HOST_AND_PORT: Final = re.compile(r"(.*?)(?::([0-9]*+))?", re.DOTALL).fullmatch
_MAX_PORT_DIGITS: Final = 5
_MAX_PORT: Final = 65535


class HttpUri:
    """One URI in its parts.  Every setter raises ArgumentError for a value its part cannot have.

    A fresh one is empty: all parts None, the path "", the port -1.
    """

    __slots__ = (
        "_bracketed",
        "_fragment",
        "_host",
        "_path",
        "_port",
        "_query",
        "_scheme",
        "_unixsocket",
        "_userinfo",
        "flags",
    )

    def __init__(self, flags: int = 0) -> None:
        self.flags = UriFlag(flags)
        self._scheme: str | None = None
        self._userinfo: str | None = None
        self._host: str | None = None
        self._bracketed = False
        self._unixsocket: str | None = None
        self._port = -1
        self._path = ""
        self._query: str | None = None
        self._fragment: str | None = None

    @classmethod
    def parse(cls, text: str, flags: int = 0) -> Self:
        """Parse a URI or a relative reference (`evhttp_uri_parse_with_flags`).

        Raises ArgumentError when the text is none.
        """
        uri = cls(flags)
        scheme, colon, rest = text.partition(":")
        if colon and _SCHEME(scheme):
            uri._scheme = scheme
        else:
            rest = text
        unix = _UNIX(rest) if uri.flags & EVHTTP_URI_UNIX_SOCKET else None
        if unix:
            uri.userinfo, uri._unixsocket = unix[1], unix[2]
            uri._host = ""
            rest = rest[unix.end() :]
        parts = _PARTS(rest)
        if parts is None or (unix and parts[1] is not None):
            raise ArgumentError(f"not a URI: {text!r}")
        authority, path, query, fragment = parts.groups()
        if authority is not None:
            uri._set_authority(authority)
        elif uri._scheme is None and not unix and ":" in path.partition("/")[0]:
            raise ArgumentError(f"not a URI, nor a relative path: {text!r}")
        uri.path, uri.query, uri.fragment = path, query, fragment
        return uri

    def _set_authority(self, authority: str) -> None:
        userinfo, at, host = authority.partition("@")
        if at:
            self.userinfo = userinfo
        else:
            host = authority
        if self.flags & EVHTTP_URI_UNIX_SOCKET and host.startswith("unix:"):
            raise ArgumentError(f"no closing colon behind the path of a socket: {authority!r}")
        found = _HOST_AND_PORT(host)
        host, digits = found.groups() if found else (host, None)
        if digits:
            number = digits.lstrip("0") or "0"
            if len(number) > _MAX_PORT_DIGITS or int(number) > _MAX_PORT:
                raise ArgumentError(f"not a port: {digits!r}")
            self._port = int(number)
        self.host = host

    def join(self, max_bytes: int | None = None) -> str:
        """Put the parts together again (`evhttp_uri_join`).

        Raises ArgumentError when there is a host, and a path that does not begin with `/`; or when
        the result and a NUL behind it take more than `max_bytes`.
        """
        parts = []
        if self._scheme is not None:
            parts.append(f"{self._scheme}:")
        if self._unixsocket is not None or self._host is not None:
            if self._path and not self._path.startswith("/"):
                raise ArgumentError(f"a path behind a host must begin with '/': {self._path!r}")
            parts.append(f"//{self.authority}")
        parts.append(self._path)
        if self._query is not None:
            parts.append(f"?{self._query}")
        if self._fragment is not None:
            parts.append(f"#{self._fragment}")
        joined = "".join(parts)
        if max_bytes is not None and len(joined.encode()) >= max_bytes:
            raise ArgumentError(f"{joined!r} does not fit into {max_bytes} bytes with its NUL")
        return joined

    __str__ = join

    def __repr__(self) -> str:
        return (
            f"<HttpUri scheme={self._scheme!r} host={self._host!r} port={self._port}"
            f" path={self._path!r} query={self._query!r}>"
        )

    @property
    def authority(self) -> str | None:
        """Userinfo, host and port as they stand between `//` and the path; None without a host."""
        userinfo = "" if self._userinfo is None else f"{self._userinfo}@"
        if self._unixsocket is not None:
            return f"{userinfo}unix:{self._unixsocket}:"
        if self._host is None:
            return None
        host = f"[{self._host}]" if self._bracketed else self._host
        return f"{userinfo}{host}" if self._port < 0 else f"{userinfo}{host}:{self._port}"

    @property
    def scheme(self) -> str | None:
        """The scheme without its colon, in its own case."""
        return self._scheme

    @scheme.setter
    def scheme(self, value: str | None) -> None:
        self._scheme = self._judged("scheme", value, value is None or bool(_SCHEME(value)))

    @property
    def userinfo(self) -> str | None:
        """What stands before `@`."""
        return self._userinfo

    @userinfo.setter
    def userinfo(self, value: str | None) -> None:
        self._userinfo = self._judged("userinfo", value, value is None or bool(_USERINFO(value)))

    @property
    def host(self) -> str | None:
        """Name or address; None without an authority, "" when the authority names none."""
        return self._host

    @host.setter
    def host(self, value: str | None) -> None:
        self._judged("host", value, value is None or is_uri_host(value))
        literal = value is not None and value.startswith("[")
        self._bracketed = literal and bool(self.flags & EVHTTP_URI_HOST_STRIP_BRACKETS)
        self._host = value[1:-1] if self._bracketed and value is not None else value

    @property
    def unixsocket(self) -> str | None:
        """The path of a Unix socket, where the authority is one."""
        return self._unixsocket

    @unixsocket.setter
    def unixsocket(self, value: str | None) -> None:
        self._unixsocket = value

    @property
    def port(self) -> int:
        """The port, or -1 when there is none."""
        return self._port

    @port.setter
    def port(self, value: int) -> None:
        if value < -1:
            raise ArgumentError(f"not a port: {value!r}")
        self._port = value

    @property
    def path(self) -> str:
        """The path, "" when it is empty; a leading `/` is only asked for by `join`."""
        return self._path

    @path.setter
    def path(self, value: str) -> None:
        good = _LOOSE_PATH if self.flags & EVHTTP_URI_NONCONFORMANT else _PATH
        if good(value) is None:
            raise ArgumentError(f"not the path of a URI: {value!r}")
        self._path = value

    @property
    def query(self) -> str | None:
        """What stands behind `?`, undecoded."""
        return self._query

    @query.setter
    def query(self, value: str | None) -> None:
        good = _LOOSE_QUERY if self.flags & EVHTTP_URI_NONCONFORMANT else _QUERY
        self._query = self._judged("query", value, value is None or bool(good(value)))

    @property
    def fragment(self) -> str | None:
        """What stands behind `#`."""
        return self._fragment

    @fragment.setter
    def fragment(self, value: str | None) -> None:
        good = _LOOSE_FRAGMENT if self.flags & EVHTTP_URI_NONCONFORMANT else _QUERY
        self._fragment = self._judged("fragment", value, value is None or bool(good(value)))

    @staticmethod
    def _judged(part: str, value: str | None, good: bool) -> str | None:
        if not good:
            raise ArgumentError(f"not the {part} of a URI: {value!r}")
        return value


def parse_query(uri: str, flags: int = 0) -> KeyValues:
    """The query of a whole URI as keys and decoded values (`evhttp_parse_query`).

    Raises ArgumentError when the URI is not RFC 3986's, or its query not as `parse_query_str`
    wants it.
    """
    return parse_query_str(HttpUri.parse(uri).query or "", flags)
