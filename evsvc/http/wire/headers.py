"""Header fields: an ordered, case-insensitive multimap, and the same with validation.

Invariants
    * Order of arrival is kept, and so are duplicates; look-up gives the first.
    * `keys[i]` is the lower-case name of `items[i]`.  Two plain lists make `in` and `find` one
      scan in C; a dict would cost more than it saves at the usual ten fields.
    * Everything in a `Headers` may be written to the wire as it stands.
    * A block that was received is not split before somebody asks for more than a field's first
      value: look-up finds that in the bytes.  The law is that the answer is the one of the split
      fields; tests/http/test_headers.py holds it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, Self

from ...core.errors import ArgumentError

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*").fullmatch
_BLANKS: Final = " \t"
_BLANK_BYTES: Final = b" \t"

# Names that need no judging, with their lower-case form: one look-up replaces a regexp match and
# a lower() for nearly every field that a program adds (0.25 us instead of 0.6 us).
_WELL_KNOWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        spelling: name.lower()
        for name in (
            "Accept",
            "Accept-Encoding",
            "Accept-Language",
            "Accept-Ranges",
            "Access-Control-Allow-Origin",
            "Age",
            "Allow",
            "Authorization",
            "Cache-Control",
            "Connection",
            "Content-Disposition",
            "Content-Encoding",
            "Content-Language",
            "Content-Length",
            "Content-Range",
            "Content-Security-Policy",
            "Content-Type",
            "Cookie",
            "Date",
            "ETag",
            "Expect",
            "Expires",
            "Host",
            "If-Modified-Since",
            "If-None-Match",
            "Keep-Alive",
            "Last-Modified",
            "Link",
            "Location",
            "Origin",
            "Pragma",
            "Range",
            "Referer",
            "Retry-After",
            "Server",
            "Set-Cookie",
            "Strict-Transport-Security",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "User-Agent",
            "Vary",
            "Via",
            "WWW-Authenticate",
            "X-Request-Id",
        )
        for spelling in (name, name.lower())
    }
)


_well_known: Final = dict(_WELL_KNOWN).get  # the proxy's own get() costs 0.1 us more
_line_start: Final = {name: b"\r\n%b:" % key.encode() for name, key in _WELL_KNOWN.items()}.get


class KeyValues:
    """An ordered multimap of texts, keys compared without case: libevent's `evkeyvalq`.

    Takes any text.  `Headers` is the one that judges what is added.  `names` (in lower case) and
    `pairs` are for reading.  `dict()` of one has the first value of each name.
    """

    __slots__ = ("names", "pairs")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self.names: list[str] = []
        self.pairs: list[tuple[str, str]] = []
        if items:
            for name, value in items:
                self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """Append a pair; earlier ones of the same name stay."""
        self.names.append(name.lower())
        self.pairs.append((name, value))

    def find(self, name: str) -> str | None:
        """The first value of that name, or None."""
        key = name.lower()
        if key not in self.names:
            return None
        return self.pairs[self.names.index(key)][1]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of that name, or `default`."""
        value = self.find(name)
        return default if value is None else value

    def __getitem__(self, name: str) -> str:
        """The first value of that name.  Raises KeyError when there is none."""
        value = self.find(name)
        if value is None:
            raise KeyError(name)
        return value

    def keys(self) -> list[str]:
        """The names as they were written first, each once whatever its case."""
        first: dict[str, str] = {}
        for name, _ in self.pairs:
            first.setdefault(name.lower(), name)
        return list(first.values())

    def values(self) -> list[str]:
        """All values, in order."""
        return [value for _, value in self.pairs]

    def items(self) -> list[tuple[str, str]]:
        """All pairs, in order."""
        return list(self.pairs)

    def get_all(self, name: str) -> list[str]:
        """All values of that name, in order."""
        wanted = name.lower()
        return [item[1] for key, item in zip(self.names, self.pairs, strict=True) if key == wanted]

    def remove(self, name: str) -> bool:
        """Take out the first pair of that name, as libevent does; False when there is none."""
        key = name.lower()
        if key not in self.names:
            return False
        index = self.names.index(key)
        del self.names[index], self.pairs[index]
        return True

    def replace(self, name: str, value: str) -> None:
        """Take out every pair of that name and append one.

        Raises ArgumentError as `add` does, and then nothing has changed.
        """
        count = self.names.count(name.lower())
        self.add(name, value)
        for _ in range(count):
            self.remove(name)

    def clear(self) -> None:
        """Take out everything."""
        self.names.clear()
        self.pairs.clear()

    def copy(self) -> Self:
        """A new, independent multimap with the same pairs."""
        twin = type(self)()
        twin.names = self.names.copy()
        twin.pairs = self.pairs.copy()
        return twin

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self.names

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __eq__(self, other: object) -> bool:
        """Equal pairs in the same order; names compare without case."""
        if not isinstance(other, KeyValues):
            return NotImplemented
        return self.names == other.names and [v for _, v in self] == [v for _, v in other]

    __hash__ = None  # type: ignore[assignment]  # mutable, as list and dict are

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pairs!r})"


class Headers(KeyValues):
    """The header fields of one message; whatever is in it may be sent.

    libevent accepts a value with CR LF when white space follows (obs-fold); RFC 9112 5.2 forbids
    to generate that, and so does `add`.
    """

    __slots__ = ()

    def add(self, name: str, value: str) -> None:
        """Append a field; blanks around the value are dropped.

        Raises ArgumentError when the name is not a token (RFC 9110 5.6.2), or the value has a
        control character other than TAB (CR, LF and NUL above all) or one beyond Latin-1.
        """
        key = _well_known(name)
        if key is None:
            if not isinstance(name, str) or _TOKEN(name) is None:
                raise ArgumentError(f"not a header name: {name!r}")
            key = name.lower()
        if not isinstance(value, str):
            raise ArgumentError(f"the value of header {name!r} is not a str: {value!r}")
        if not (value.isascii() and value.isprintable()) and _VALUE(value) is None:
            raise ArgumentError(f"not a value for header {name!r}: {value!r}")
        self.names.append(key)
        self.pairs.append((name, value.strip(_BLANKS)))

    @classmethod
    def from_block(cls, block: bytes) -> Self:
        """Split a block of `name: value CRLF` lines that the readers have judged already."""
        headers = cls()
        keys = headers.names
        items = headers.pairs
        for line in block.decode("latin-1").split("\r\n")[:-1]:
            name, _, value = line.partition(":")
            keys.append(name.lower())
            items.append((name, value.strip(_BLANKS)))
        return headers

    def to_block(self) -> bytes:
        """The fields as they go on the wire: `name: value CRLF`, without the final empty line."""
        return "".join([f"{name}: {value}\r\n" for name, value in self.pairs]).encode("latin-1")

    def tokens(self, name: str) -> list[str]:
        """The comma-separated members over all lines of that name, lower-case, empty ones gone.

        For lists of plain tokens (RFC 9110 5.6.1): quoted strings are not looked into.
        """
        members = (
            member.strip(_BLANKS) for value in self.get_all(name) for member in value.split(",")
        )
        return [member.lower() for member in members if member]


class ReceivedHeaders(Headers):
    """The fields of a head that was received, still unsplit; made by `from_block`.

    To look for two of a browser's eleven fields costs 1.0 us so, and 2.7 us with splitting.
    """

    __slots__ = ("_block", "_lowered", "_names", "_pairs")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._block: bytes | None = None  # what is not split
        self._lowered: bytes | None = None  # CR LF and the block in lower case, once looked into
        super().__init__(items)

    @classmethod
    def from_block(cls, block: bytes) -> Self:
        """Take a block of `name: value CRLF` lines that the readers have judged already."""
        headers = cls.__new__(cls)
        headers._block = block
        headers._lowered = None
        return headers

    @property
    def names(self) -> list[str]:
        """The names in lower case."""
        if self._block is not None:
            self._split(self._block)
        return self._names

    @names.setter
    def names(self, names: list[str]) -> None:
        self._names = names

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs."""
        if self._block is not None:
            self._split(self._block)
        return self._pairs

    @pairs.setter
    def pairs(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def _split(self, block: bytes) -> None:
        fields = Headers.from_block(block)
        self._names, self._pairs = fields.names, fields.pairs
        self._block = self._lowered = None

    def find(self, name: str) -> str | None:
        """The first value of that name, or None."""
        block = self._block
        if block is None:
            return super().find(name)
        start = self._value_start(block, name)
        if start < 0:
            return None
        value = block[start : block.find(b"\r\n", start)]
        return value.strip(_BLANK_BYTES).decode("latin-1")

    def __contains__(self, name: object) -> bool:
        block = self._block
        if block is None or not isinstance(name, str):
            return super().__contains__(name)
        return self._value_start(block, name) >= 0

    def _value_start(self, block: bytes, name: str) -> int:
        """Where the value of a name's first line begins in the block; negative: there is none."""
        line_start = _line_start(name)
        if line_start is None:
            key = name.lower()
            if _TOKEN(key) is None:  # such as "a:b", which a line may begin with and is no name
                return -1
            line_start = b"\r\n%b:" % key.encode()
        lowered = self._lowered
        if lowered is None:
            lowered = self._lowered = b"\r\n" + block.lower()
        at = lowered.find(line_start)
        return at if at < 0 else at + len(line_start) - 2


def connection_options(headers: Headers) -> list[str]:
    """The options of all `Connection` lines as one list, lower-case (RFC 9110 7.6.1)."""
    return headers.tokens("connection")


def wants_keep_alive(headers: Headers, minor: int) -> bool:
    """Whether a message of HTTP/1.`minor` leaves its connection open (RFC 9112 9.3)."""
    options = connection_options(headers)
    return "close" not in options and (minor >= 1 or "keep-alive" in options)
