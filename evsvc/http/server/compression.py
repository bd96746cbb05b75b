"""Compression of replies, as the client and the server agree on it (RFC 9110 sections 8.4, 12.5.3).

Off by default: it costs time in the loop, and it lets who can read the length of a reply, and put
text of his own into it, guess the secrets beside it (BREACH).  What is compressed already, or must
not be changed, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from ...core import EvBuffer
from ...core.errors import ArgumentError
from ..wire.codings import available, encoder, negotiate
from ..wire.headers import Headers

if TYPE_CHECKING:
    from ..wire.codings import Encoder
    from .request import ServerRequest

# Of statuses: those without a body, and parts of what has a length of its own.
_NEVER: Final = frozenset((204, 205, 206, 304))

# Fields that say of the very bytes what would not be true of others.
_FIXING: Final = ("content-encoding", "content-range", "content-digest", "repr-digest", "digest")

_WEAK: Final = "W/"

IDENTITY: Final = "identity"

DEFAULT_TYPES: Final = (
    "text/*",
    "application/json",
    "application/*+json",
    "application/javascript",
    "application/xml",
    "application/*+xml",
    "application/wasm",
    "image/svg+xml",
)
"""What is worth it, as a rule.  `text/*` has no `text/event-stream` in it: an encoder for each
stream that is open is hundreds of kilobytes, and has to be asked for."""

_EVENT_STREAM: Final = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionOptions:
    """How replies are compressed.

    Raises ArgumentError for a coding that is not available here, a level that the coding has not,
    a bad pattern, or a number that is not positive.

    codings:       the best first, of equal ones; None is what there is of zstd, br and gzip.
    levels:        of codings for which the usual level is not wanted.
    content_types: types, or patterns such as "text/*", whose replies are compressed.
    min_bytes:     a shorter body stays as it is.
    max_bytes:     so does a longer one that is sent at once, as it would hold the loop: 1 MiB does
                   for 3 ms (zstd) to 30 (br); a reply in pieces may be of any length.
    """

    codings: Sequence[str] | None = None
    levels: Mapping[str, int] = field(default_factory=dict)
    content_types: Sequence[str] = DEFAULT_TYPES
    min_bytes: int = 1024
    max_bytes: int = 512 * 1024

    def __post_init__(self) -> None:
        if isinstance(self.codings, str) or isinstance(self.content_types, str):
            raise ArgumentError("codings and content_types are several texts, not one")
        for name in (*(self.codings or ()), *self.levels):
            if name not in available():
                raise ArgumentError(f"a coding is one of {', '.join(available())} here: {name!r}")
            encoder(name, self.levels.get(name))
        for pattern in self.content_types:
            if re.fullmatch(r"[!#-.0-9A-Za-z^_`|~]+/[!#-.0-9A-Za-z^_`|~]+", pattern) is None:
                raise ArgumentError(f"not a type, or a pattern of types: {pattern!r}")
        for name in ("min_bytes", "max_bytes"):
            if not getattr(self, name) > 0:
                raise ArgumentError(f"{name} must be positive: {getattr(self, name)!r}")


class Packed(NamedTuple):
    """A reply's body and fields, compressed or as they were; length: None where it is not known."""

    body: bytes | EvBuffer
    headers: Headers | None
    length: int | None


class _Rule:
    """Options, ready for use."""

    __slots__ = ("_is_type", "codings", "options")

    def __init__(self, options: CompressionOptions) -> None:
        self.options = options
        names = available() if options.codings is None else options.codings
        self.codings = tuple(name for name in names if options.codings or name != "deflate")
        patterns = [re.escape(each.lower()).replace(r"\*", ".*") for each in options.content_types]
        self._is_type = re.compile("|".join(patterns) or "(?!)").fullmatch

    def takes_type(self, content_type: str) -> bool:
        name = content_type.partition(";")[0].strip(" \t").lower()
        if name == _EVENT_STREAM:
            return name in self.options.content_types
        return self._is_type(name) is not None

    def may_change(self, headers: Headers | None, default_type: str | None) -> bool:
        """Whether the fields of a reply allow that its body is compressed, and make it worth it."""
        if headers is None:
            return default_type is not None and self.takes_type(default_type)
        content_type = headers.find("Content-Type") or default_type
        if content_type is None or not self.takes_type(content_type):
            return False
        return not any(
            name in headers.names for name in _FIXING
        ) and "no-transform" not in headers.tokens("Cache-Control")


class Compression:
    """What is compressed, by path; and for one request of a connection perhaps otherwise."""

    __slots__ = ("_own", "_rules")

    def __init__(self) -> None:
        self._rules: dict[str, _Rule | None] = {}
        self._own: tuple[ServerRequest, _Rule | None] | None = None

    def set(self, prefix: str, options: CompressionOptions | None) -> None:
        """Have options for a path, or for all below one that ends in "/"; None: no compression.

        Raises ArgumentError for a path that is none.
        """
        if not prefix.startswith("/"):
            raise ArgumentError(f"a path begins with '/': {prefix!r}")
        rules = {**self._rules, prefix: None if options is None else _Rule(options)}
        # The longest first, so that the first that fits is the one.
        self._rules = dict(sorted(rules.items(), key=lambda rule: -len(rule[0])))

    def but_for(self, request: ServerRequest, options: CompressionOptions | None) -> Compression:
        """Return the same, with other options for one request."""
        twin = Compression()
        twin._rules = self._rules
        twin._own = request, None if options is None else _Rule(options)
        return twin

    def pack(
        self,
        request: ServerRequest,
        code: int,
        headers: Headers | None,
        body: bytes | EvBuffer,
        default_type: str | None,
    ) -> Packed | None:
        """Return a reply as it is to be sent; None when the client takes it in no form (406).

        `headers` are not changed: where they must be others, they are a copy.
        """
        size = len(body)
        unchanged = Packed(body, headers, size)
        rule = self._rule_for(request)
        if rule is None:
            return unchanged
        if code == 304:
            return Packed(body, _of_304(request, rule, headers), size)
        is_head = request.method == "HEAD"
        if is_head and not size and headers is not None:
            size = _announced(headers)
        options = rule.options
        if (
            code in _NEVER
            or request.method == "CONNECT"
            or not options.min_bytes <= size <= options.max_bytes
            or not rule.may_change(headers, default_type)
        ):
            return unchanged
        if headers is not None and not is_head and _announced(headers, size) != size:
            return unchanged  # the program's mistake, which is told it
        coding = self._negotiate(request, rule)
        if coding is None and code == 200 and request.method in ("GET", "HEAD"):
            return None
        changed = _changed(headers, coding or IDENTITY)
        if coding is None or coding == IDENTITY:
            return Packed(body, changed, len(body))
        if is_head:  # the length would be known when it is compressed, and may be left out
            return Packed(body, changed, None)
        stream = encoder(coding, options.levels.get(coding))
        data = body if isinstance(body, bytes) else _drained(body)
        packed = stream.encode(data) + stream.finish()
        return Packed(packed, changed, len(packed))

    def start(
        self, request: ServerRequest, code: int, headers: Headers, default_type: str | None
    ) -> tuple[Headers, Encoder | None]:
        """Return the fields of a reply in pieces, and what packs these; None for nothing."""
        rule = self._rule_for(request)
        if (
            rule is None
            or code in _NEVER
            or request.method == "CONNECT"
            or not rule.may_change(headers, default_type)
            or _announced(headers, rule.options.min_bytes) < rule.options.min_bytes
        ):
            return headers, None
        coding = self._negotiate(request, rule) or IDENTITY
        changed = _changed(headers, coding)
        if coding == IDENTITY:
            return changed, None
        return changed, None if request.method == "HEAD" else encoder(
            coding, rule.options.levels.get(coding)
        )

    def _rule_for(self, request: ServerRequest) -> _Rule | None:
        if self._own is not None:
            (own_request, rule), self._own = self._own, None  # it knows the connection
            if own_request is request:
                return rule
        path = request.encoded_path
        for prefix, rule in self._rules.items():
            if path == prefix or (prefix.endswith("/") and path.startswith(prefix)):
                return rule
        return None

    @staticmethod
    def _negotiate(request: ServerRequest, rule: _Rule) -> str | None:
        return negotiate(request.input_headers.get_all("Accept-Encoding"), rule.codings)


def _announced(headers: Headers, otherwise: int = 0) -> int:
    """Return the Content-Length that the program has set, or `otherwise`."""
    value = headers.find("Content-Length")
    if value is None:
        return otherwise
    return int(value) if value.isascii() and value.isdigit() else -1


def _changed(headers: Headers | None, coding: str) -> Headers:
    """Return the fields of a reply whose coding depends on the client, in this one."""
    changed = Headers() if headers is None else headers.copy()
    _add_vary(changed)
    if coding != IDENTITY:
        changed.add("Content-Encoding", coding)
        _weaken_etag(changed)
        for name in ("Content-Length", "Accept-Ranges", "Content-MD5"):
            while changed.remove(name):
                pass
    return changed


def _of_304(request: ServerRequest, rule: _Rule, headers: Headers | None) -> Headers:
    """Return the fields of a 304 as the 200 would have them (RFC 9110 15.4.5).

    Whether that was compressed shows in the tag that the client has of it.
    """
    changed = Headers() if headers is None else headers.copy()
    content_type = changed.find("Content-Type")
    if content_type is None or rule.takes_type(content_type):
        _add_vary(changed)
        etag = changed.find("ETag")
        known = ",".join(request.input_headers.get_all("If-None-Match"))
        if etag is not None and _WEAK + etag in known:
            _weaken_etag(changed)
    return changed


def _add_vary(headers: Headers) -> None:
    listed = headers.tokens("Vary")
    if "*" not in listed and "accept-encoding" not in listed:
        headers.add("Vary", "Accept-Encoding")


def _weaken_etag(headers: Headers) -> None:
    """The tag tells the same text, and no more the same bytes (RFC 9110 8.8.1)."""
    etag = headers.find("ETag")
    if etag is not None and not etag.startswith(_WEAK):
        headers.replace("ETag", _WEAK + etag)


def _drained(body: EvBuffer) -> bytes:
    data = body.remove()
    body.close()
    return data
