"""Response heads: the fast path, and the checks and h11 behind it, as in request_head.py.

The law is the same: a head that `parse_response_head` accepts, `judge_response_head` accepts
with an equal `ResponseHead` and the same end.  tests/http/test_response_law.py holds it.

A client has to live with the servers that exist, so it is more liberal than our server where
RFC 9112 permits it
    * a line may end in a bare LF (2.2), the reason may be missing with its space (4);
    * obs-fold is unfolded to a space (5.2 demands it of a user agent);
    * Content-Length may be repeated or be a list, as long as all its values agree (6.3);
    * control characters in a value, bare CR above all, are refused nevertheless.
Transfer-Encoding beside Content-Length, in HTTP/1.0, or other than one `chunked` is refused where
there can be a body: such a message "ought to be handled as an error" (6.3), and no client of a
server that means well sees one.

Measured with CPython 3.11 on one core, per head: 1.5 us for a status line and four fields, where
h11 and the checks need 60.
"""

import re
from typing import Final, NamedTuple

import h11

from ..errors import InvalidResponse
from .grammar import (
    TOKEN,
    VALUE,
    any_case,
    are_field_lines,
    first_bad_line,
    list_members,
    parse_length,
)
from .headers import Headers, wants_keep_alive
from .request_head import CHUNKED, UNTIL_EOF


class ResponseHead(NamedTuple):
    """A judged status line with its fields still unsplit.

    status:         100..999; 1xx other than 101 is not the answer yet.
    reason:         the phrase as sent, maybe "".
    minor:          1 for HTTP/1.1 (and any later 1.x), 0 for HTTP/1.0.
    block:          the field lines, each ended by CRLF, for `Headers.from_block`.
    content_length: bytes of body that will follow, CHUNKED, or UNTIL_EOF.
    keep_alive:     whether the server lets the connection stay open.
    """

    status: int
    reason: str
    minor: int
    block: bytes
    content_length: int
    keep_alive: bool


_FREE_START: Final = rb"[!#$%&'*+\-.^_`|~0-9ABD-SU-Zabd-su-z]"
# Groups: 1 minor, 2 status, 3 reason, 4 block, 5 length, 6 connection; see request_head.py.
_RESPONSE_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([2-9][0-9][0-9]) (%(value)b*+)\r\n"
    rb"((?:"
    rb"%(free_start)b%(token)b*+:%(value)b*+\r\n"
    rb"|(?(5)(?!)|%(length)b:[ \t]*+([0-9]{1,15}+)[ \t]*+\r\n)"
    rb"|(?!(?:%(steering)b):)[CTct]%(token)b*+:%(value)b*+\r\n"
    rb"|(?(6)(?!)|%(connection)b:[ \t]*+((?i:keep-alive|close))[ \t]*+\r\n)"
    rb")*)\r\n"
    % {
        b"token": TOKEN,
        b"value": VALUE,
        b"free_start": _FREE_START,
        b"steering": any_case("content-length", "connection", "transfer-encoding"),
        b"length": any_case("content-length"),
        b"connection": any_case("connection"),
    }
)
_match: Final = _RESPONSE_HEAD.match
_new: Final = tuple.__new__
_KEEP_ALIVE_LENGTH: Final = len(b"keep-alive")

_STATUS_LINE: Final = re.compile(
    rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9][0-9])(?: (%b*+))?" % VALUE  # RFC 9112 4
).fullmatch
_LINE_END: Final = re.compile(rb"\r?\n")
_FOLD: Final = re.compile(rb"\r\n[ \t]+")
_MAX_SHOWN: Final = 80


def has_no_body(method: str, status: int) -> bool:
    """Whether a response ends with its head, whatever its fields say (RFC 9112 6.3, 1 and 2)."""
    return (
        method == "HEAD"
        or status < 200
        or status in (204, 304)
        or (method == "CONNECT" and status < 300)
    )


def parse_response_head(
    data: bytes | bytearray, pos: int, method: str
) -> tuple[ResponseHead, int] | None:
    """Recognise an ordinary head with one Content-Length; the head and its end offset, or None."""
    found = _match(data, pos)
    if found is None:
        return None
    minor, raw_status, reason, block, length, connection = found.groups()
    if length is None:
        return None
    later = minor == b"1"
    status = int(raw_status)
    head: ResponseHead = _new(
        ResponseHead,
        (
            status,
            reason.decode("latin-1"),
            1 if later else 0,
            block,
            0 if has_no_body(method, status) else int(length),
            later if connection is None else len(connection) == _KEEP_ALIVE_LENGTH,
        ),
    )
    return head, found.end()


def judge_status_line(line: bytes) -> tuple[int, int, str]:
    """Judge a status line without its line end: minor, status, reason.  Raises InvalidResponse."""
    found = _STATUS_LINE(line)
    if found is None or found[1] != b"1":
        raise InvalidResponse(f"not a status line of HTTP/1: {line[:_MAX_SHOWN]!r}")
    return min(int(found[2]), 1), int(found[3]), (found[4] or b"").decode("latin-1")


def judge_response_head(head: bytes, method: str) -> ResponseHead:
    """Judge one complete head, from its status line to its empty line, both included.

    `method` is that of the request.  Raises InvalidResponse.
    """
    line, _, rest = _LINE_END.sub(b"\r\n", head).partition(b"\r\n")
    minor, status, reason = judge_status_line(line)
    block = rest[:-2]
    if not block.startswith((b" ", b"\t")):
        block = _FOLD.sub(b" ", block)
    if not are_field_lines(block):
        raise InvalidResponse(f"not a header line: {first_bad_line(block)[:_MAX_SHOWN]!r}")
    _ask_h11(b"%b\r\n%b\r\n" % (line, block), method)
    headers = Headers.from_block(block)
    content_length = 0 if has_no_body(method, status) else _judge_framing(headers, minor)
    keep_alive = content_length != UNTIL_EOF and wants_keep_alive(headers, minor)
    return ResponseHead(status, reason, minor, block, content_length, keep_alive)


def _judge_framing(headers: Headers, minor: int) -> int:
    codings = headers.get_all("transfer-encoding")
    lengths = headers.get_all("content-length")
    if codings:
        if lengths or not minor or list_members(codings) != ["chunked"]:
            raise InvalidResponse(f"not a framing that can be trusted: {codings}, {lengths}")
        return CHUNKED
    if not lengths:
        return UNTIL_EOF
    values = {parse_length(member) for member in list_members(lengths)}
    length = values.pop()
    if values or length is None:
        raise InvalidResponse(f"not a Content-Length: {', '.join(lengths)[:_MAX_SHOWN]!r}")
    return length


def _ask_h11(head: bytes, method: str) -> None:
    judge = h11.Connection(h11.CLIENT)
    # h11 reads a response only to a request it has seen; Upgrade lets 101 be an answer.
    judge.send(h11.Request(method=method, target="/", headers=[("Host", "h"), ("Upgrade", "any")]))
    judge.send(h11.EndOfMessage())
    judge.receive_data(head)
    try:
        event = judge.next_event()
    except h11.RemoteProtocolError as exc:
        raise InvalidResponse(str(exc)) from exc
    if type(event) not in (h11.Response, h11.InformationalResponse):
        raise InvalidResponse(f"not a response head: {head[:_MAX_SHOWN]!r}")
