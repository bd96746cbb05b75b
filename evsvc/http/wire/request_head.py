"""A request's head, judged: a fast path for the ordinary ones, and a judge for all.

The fast path recognises a complete, entirely ordinary head in one regexp match.

Ordinary is: a token method other than CONNECT and TRACE, a target in origin-form, HTTP/1.0 or
1.1, well-formed field lines ended by CRLF, exactly one plain Host (HTTP/1.0 may do without), at
most one Content-Length of plain digits, at most one Connection that is `keep-alive` or `close`,
and none of the other fields that steer a connection.  Any other head is no error here: the
answer is None, and `judge_request_head` reads it.

The law: a head that is accepted here is accepted by `judge_request_head` with equal fields and the
same end.  tests/http/test_law.py holds it.

Time is linear in the head.  Every repetition of characters is possessive, and of the alternatives
for a line at most one can match; so lines are given back one by one, and each fails at once.
(The lines are not possessive because CPython before 3.11.5 mishandles possessive groups whose
inside can fail half-way, and it would gain less than 0.1 us.)

Measured with CPython 3.11 on one core, per head: 1.0 us for `GET /` with a Host, 2.7 us for a
browser's eleven lines (512 bytes); h11 needs 12 and 28 us for them.

The judge reads any complete head, by our own checks and by h11.

The checks go first, because they know which status answers a fault; they follow RFC 9112 MUST by
MUST and only ever refuse.  h11 then reads the same bytes, and nothing that it refuses passes.

Decisions where RFC 9112 leaves a choice
    * A line ends in CRLF only (2.2 permits a bare LF): two readings of one message are the raw
      material of request smuggling.
    * obs-fold is refused with 400 (5.2 permits unfolding).
    * Exactly one space on either side of the target, nothing behind the version (3).
    * An empty `Host:` is legal (3.2), one that has a port without a host is not.
    * HTTP/1.2 to 1.9 are read as 1.1 (2.3: same major, higher minor); another major is 505.
    * A list in Content-Length, or two of these lines, is refused even when the values agree
      (RFC 9110 8.6 permits to take one).
    * A userinfo in an absolute-form target is refused (RFC 9110 4.2.4).
"""

import re
from typing import Final, NamedTuple

import h11

from ..errors import RemoteProtocolError
from .grammar import (
    TOKEN,
    VALUE,
    any_case,
    are_field_lines,
    first_bad_line,
    list_members,
    parse_length,
    split_authority,
)
from .headers import Headers, wants_keep_alive

CHUNKED: Final = -1
UNTIL_EOF: Final = -2


Head = tuple[str, str, int, bytes, int, bool, str | None, bool]
"""A RequestHead, or a plain tuple of its fields: to make and to unpack that is 0.13 us cheaper."""


class RequestHead(NamedTuple):
    """A judged request line with its fields still unsplit.

    target:          as sent; origin-form, absolute-form, authority-form (CONNECT) or `*`.
    minor:           1 for HTTP/1.1 (and any later 1.x), 0 for HTTP/1.0.
    block:           the field lines, each ended by CRLF, for `Headers.from_block`.
    content_length:  body length in bytes, 0 when there is none, CHUNKED when it is chunked.
    keep_alive:      whether the client lets the connection stay open.
    host:            the authority of an absolute-form target, else the Host field, else None.
    expect_continue: whether the client waits for 100 Continue.
    """

    method: str
    target: str
    minor: int
    block: bytes
    content_length: int
    keep_alive: bool
    host: str | None
    expect_continue: bool


# A token character that begins no field that steers the connection, so that most lines need no
# look-ahead.  The others go by their first letter, so that a line is tried in one way only: the
# alternatives of a letter exclude each other, or n such lines would be tried 2**n ways.
_FREE_START: Final = rb"[!#$%&'*+\-.^_`|~0-9ABDFGIJL-OQRSV-Zabdfgijl-oqrsv-z]"
# The ends of fields that are left to the judge, whatever their first letter is of these: expect,
# keep-alive, proxy-connection, transfer-encoding, te, trailer, upgrade.
_JUDGED_ENDS: Final = any_case(
    "xpect", "eep-alive", "roxy-connection", "ransfer-encoding", "e", "railer", "pgrade"
)
_PORT: Final = (
    rb":(?![7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])[0-9]{1,5}+"
)

# Groups: 1 method, 2 target, 3 minor, 4 block, 5 host, 6 connection, 7 length.  `(?(5)(?!))`
# refuses a second Host: it fails once group 5 is set, and no other alternative takes the line.
_REQUEST_HEAD: Final = re.compile(
    rb"(%(token)b++) (/[!\"$-~]*+) HTTP/1\.([01])\r\n"
    rb"((?:"
    rb"%(free_start)b%(token)b*+:%(value)b*+\r\n"
    rb"|[Hh](?:%(ost)b:(?(5)(?!))[ \t]*+([0-9A-Za-z._\-]++(?:%(port)b)?)[ \t]*+\r\n"
    rb"|(?!%(ost)b:)%(token)b*+:%(value)b*+\r\n)"
    rb"|[Cc](?:(?!%(on)b)%(token)b*+:%(value)b*+\r\n"
    rb"|%(on)b(?:(?!%(nection)b:|%(tent_length)b:)%(token)b*+:%(value)b*+\r\n"
    rb"|%(nection)b:(?(6)(?!))[ \t]*+((?i:keep-alive|close))[ \t]*+\r\n"
    rb"|%(tent_length)b:(?(7)(?!))[ \t]*+([0-9]{1,15}+)[ \t]*+\r\n))"
    rb"|[EKPTUekptu](?!(?:%(judged_ends)b):)%(token)b*+:%(value)b*+\r\n"
    rb")*)\r\n"
    % {
        b"token": TOKEN,
        b"value": VALUE,
        b"free_start": _FREE_START,
        b"port": _PORT,
        b"ost": any_case("ost"),
        b"on": any_case("on"),
        b"nection": any_case("nection"),
        b"tent_length": any_case("tent-length"),
        b"judged_ends": _JUDGED_ENDS,
    }
)

_match: Final = _REQUEST_HEAD.match
_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
_method_name: Final = {name.encode(): name for name in _METHODS}.get
_KEEP_ALIVE_LENGTH: Final = len(b"keep-alive")


def parse_request_head(data: bytes | bytearray, pos: int = 0) -> tuple[Head, int] | None:
    """Recognise an ordinary head that begins at `pos`; the head and its end offset, or None.

    None says nothing about the head but that the fast path is not for it: it may be incomplete,
    unusual or malformed.
    """
    found = _match(data, pos)
    if found is None:
        return None
    raw_method, target, minor, block, host, connection, length = found.groups()
    method = _method_name(raw_method)
    if method is None:
        # CONNECT has another form of target, and TRACE must not have a body.
        if raw_method == b"CONNECT" or raw_method == b"TRACE":
            return None
        method = raw_method.decode()
    later = minor == b"1"
    if host is not None:
        host = host.decode()
    elif later:
        return None
    return (
        method,
        target.decode(),
        1 if later else 0,
        block,
        0 if length is None else int(length),
        later if connection is None else len(connection) == _KEEP_ALIVE_LENGTH,
        host,
        False,
    ), found.end()


_REQUEST_LINE: Final = re.compile(
    rb"(%b++) ([!-~]++) HTTP/([0-9])\.([0-9])" % TOKEN  # RFC 9112 3
).fullmatch
_ABSOLUTE: Final = re.compile(r"(?i:https?)://([^/?]*+)([/?].*)?").fullmatch
_MAX_SHOWN: Final = 80


def judge_request_line(line: bytes) -> tuple[str, str, int, str | None]:
    """Judge a request line without its CRLF: method, target, minor, authority of the target.

    The authority is None unless the target is in absolute-form.  Raises RemoteProtocolError.
    """
    found = _REQUEST_LINE(line)
    if found is None:
        raise RemoteProtocolError(f"not a request line: {line[:_MAX_SHOWN]!r}")
    method, target, major, minor = (part.decode() for part in found.groups())
    if major != "1":
        raise RemoteProtocolError(f"HTTP/{major}.{minor} is not supported", 505)
    return method, target, min(int(minor), 1), _judge_target(method, target)


def _judge_target(method: str, target: str) -> str | None:
    """Judge the form of a target (RFC 9112 3.2); the authority when it is in absolute-form."""
    if "#" in target:
        raise _bad_target(method, target)
    if method == "CONNECT":
        authority = split_authority(target)
        if authority is None or not authority[0] or not authority[1] or not int(authority[1]):
            raise _bad_target(method, target)
        return None
    if target.startswith("/") or (target == "*" and method == "OPTIONS"):
        return None
    absolute = _ABSOLUTE(target)
    authority = split_authority(absolute[1]) if absolute else None
    if absolute is None or authority is None or not authority[0]:
        raise _bad_target(method, target)
    return absolute[1]


def _bad_target(method: str, target: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"not a request target for {method}: {target[:_MAX_SHOWN]!r}")


def judge_request_head(head: bytes) -> RequestHead:
    """Judge one complete head, from its request line to its empty line, both included.

    Its limits are the business of the reader.  Raises RemoteProtocolError with the status that
    answers the fault.
    """
    line, _, rest = head.partition(b"\r\n")
    block = rest[:-2]
    method, target, minor, authority = judge_request_line(line)
    if not are_field_lines(block):
        bad = first_bad_line(block)[:_MAX_SHOWN]
        kind = "a folded header line" if bad[:1] in (b" ", b"\t") else "not a header line"
        raise RemoteProtocolError(f"{kind}: {bad!r}")
    headers = Headers.from_block(block)
    host = _judge_host(headers, minor)
    content_length = _judge_framing(headers, minor)
    if method == "TRACE" and content_length:
        raise RemoteProtocolError("a TRACE request must not have a body")
    expect_continue = _judge_expect(headers, minor)
    _ask_h11(head)
    return RequestHead(
        method=method,
        target=target,
        minor=minor,
        block=block,
        content_length=content_length,
        keep_alive=wants_keep_alive(headers, minor),
        host=host if authority is None else authority,
        expect_continue=expect_continue,
    )


def _ask_h11(head: bytes) -> None:
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(head)
    try:
        event = judge.next_event()
    except h11.RemoteProtocolError as exc:
        raise RemoteProtocolError(str(exc), exc.error_status_hint) from exc
    if type(event) is not h11.Request:
        raise RemoteProtocolError(f"not a request head: {head[:_MAX_SHOWN]!r}")


def _judge_host(headers: Headers, minor: int) -> str | None:
    """The Host field, judged by RFC 9112 3.2: one in HTTP/1.1, valid wherever it is present."""
    hosts = headers.get_all("host")
    if not hosts:
        if minor:
            raise RemoteProtocolError("the Host field is missing")
        return None
    if len(hosts) > 1:
        raise RemoteProtocolError("there is more than one Host field")
    authority = split_authority(hosts[0])
    if authority is None or (hosts[0] and not authority[0]):
        raise RemoteProtocolError(f"not a Host: {hosts[0][:_MAX_SHOWN]!r}")
    return hosts[0]


def _judge_framing(headers: Headers, minor: int) -> int:
    """The body's length, 0 without one, CHUNKED when chunked (RFC 9112 6.1 to 6.3)."""
    lengths = headers.get_all("content-length")
    codings = headers.get_all("transfer-encoding")
    if codings:
        if lengths:
            raise RemoteProtocolError("Transfer-Encoding and Content-Length in one message")
        if not minor:
            raise RemoteProtocolError("Transfer-Encoding in HTTP/1.0")
        _judge_codings(list_members(codings))
        return CHUNKED
    if not lengths:
        return 0
    length = parse_length(lengths[0])
    if len(lengths) > 1 or length is None:
        raise RemoteProtocolError(f"not a Content-Length: {', '.join(lengths)[:_MAX_SHOWN]!r}")
    return length


def _judge_codings(codings: list[str]) -> None:
    """Only `chunked`, once and alone, can be decoded here."""
    if codings[-1] != "chunked" or codings.count("chunked") > 1 or "" in codings:
        raise RemoteProtocolError(f"the transfer codings do not end in one chunked: {codings}")
    if len(codings) > 1:
        raise RemoteProtocolError(f"an unknown transfer coding: {codings[0]!r}", 501)


def _judge_expect(headers: Headers, minor: int) -> bool:
    """Whether 100 Continue is awaited; HTTP/1.0 may not ask for it (RFC 9110 10.1.1)."""
    expectations = headers.tokens("expect")
    if not minor or not expectations:
        return False
    for expectation in expectations:
        if expectation != "100-continue":
            raise RemoteProtocolError(f"an unknown expectation: {expectation[:_MAX_SHOWN]!r}", 417)
    return True
