"""Response heads: the fast path, and the checks and h11 behind it, as in request_head.py.

The law is the same: a head that `parse_response_head` accepts, `judge_response_head` accepts
with an equal `ResponseHead` and the same end.  tests/http/test_response_law.py holds it.

A client has to live with the servers that exist, and a program may tell it to (`Leniency`): by
itself it reads what RFC 9112 has senders send.  Content-Length may be repeated or be a list, as
long as all its values agree (6.3).  Control characters in a value, bare CR above all, are refused
whatever the leniency; so is Transfer-Encoding that is not one `chunked`, or in HTTP/1.0, where
there can be a body.

Measured with CPython 3.11 on one core, per head: 1.5 us for a status line and four fields, where
h11 and the checks need 60.
"""

import re
from enum import Flag, auto
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


class Leniency(Flag):
    """What a client bears of a server that does not keep to RFC 9112; each is off by itself.

    Each is a second way to read a message.  Where somebody between client and server reads it the
    first way, they see two different messages: turn on what a known server needs, and no more.
    """

    NONE = 0
    BARE_LF = auto()
    """A line may end in LF alone (RFC 9112 2.2)."""
    OBS_FOLD = auto()
    """A field may go on in a line that begins with white space; it becomes a space (5.2)."""
    NO_REASON = auto()
    """The space behind the status may be missing, where there is no reason phrase (4)."""
    LENGTH_BESIDE_CHUNKED = auto()
    """Content-Length may stand beside Transfer-Encoding, which overrides it; the connection ends
    with the response (6.3)."""
    ODD_NAMES = auto()
    """A field whose name is no token is left out, where RFC 9110 5.1 knows no such field."""


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
# Groups: 1 minor, 2 status, 3 reason, 4 block, 5 length, 6 connection, 7 chunked; see
# request_head.py.
_RESPONSE_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([2-9][0-9][0-9]) (%(value)b*+)\r\n"
    rb"((?:"
    rb"%(free_start)b%(token)b*+:%(value)b*+\r\n"
    rb"|(?(5)(?!)|%(length)b:[ \t]*+([0-9]{1,15}+)[ \t]*+\r\n)"
    rb"|(?!(?:%(steering)b):)[CTct]%(token)b*+:%(value)b*+\r\n"
    rb"|(?(6)(?!)|%(connection)b:[ \t]*+((?i:keep-alive|close))[ \t]*+\r\n)"
    rb"|(?(7)(?!)|%(coding)b:[ \t]*+((?i:chunked))[ \t]*+\r\n)"
    rb")*)\r\n"
    % {
        b"token": TOKEN,
        b"value": VALUE,
        b"free_start": _FREE_START,
        b"steering": any_case("content-length", "connection", "transfer-encoding"),
        b"length": any_case("content-length"),
        b"connection": any_case("connection"),
        b"coding": any_case("transfer-encoding"),
    }
)
_match: Final = _RESPONSE_HEAD.match
_new: Final = tuple.__new__
_KEEP_ALIVE_LENGTH: Final = len(b"keep-alive")

_STATUS_LINE: Final = re.compile(
    rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9][0-9])(?:( )(%b*+))?" % VALUE  # RFC 9112 4
).fullmatch
_LINE_END: Final = re.compile(rb"\r?\n")
_has_bare_lf: Final = re.compile(rb"(?<!\r)\n").search
_is_odd_line: Final = re.compile(
    rb"[!-9;-~\x80-\xff][ -9;-~\x80-\xff]*+:%b*+\r\n" % VALUE
).fullmatch
_FRAMING_NAMES: Final = (b"content-length", b"transfer-encoding", b"connection")
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
    """Recognise an ordinary head, whose body's length or coding it tells, if there is one.

    Returns the head and its end offset, or None.
    """
    found = _match(data, pos)
    if found is None:
        return None
    minor, raw_status, reason, block, length, connection, chunked = found.groups()
    later = minor == b"1"
    status = int(raw_status)
    if has_no_body(method, status):
        content_length = 0
    elif chunked is None:
        if length is None:
            return None
        content_length = int(length)
    elif length is None and later:
        content_length = CHUNKED
    else:
        return None
    head: ResponseHead = _new(
        ResponseHead,
        (
            status,
            reason.decode("latin-1"),
            1 if later else 0,
            block,
            content_length,
            later if connection is None else len(connection) == _KEEP_ALIVE_LENGTH,
        ),
    )
    return head, found.end()


def judge_status_line(line: bytes, leniency: Leniency = Leniency.NONE) -> tuple[int, int, str]:
    """Judge a status line without its line end: minor, status, reason.  Raises InvalidResponse."""
    found = _STATUS_LINE(line)
    if found is None or found[1] != b"1" or not (found[4] or leniency & Leniency.NO_REASON):
        raise InvalidResponse(f"not a status line of HTTP/1: {line[:_MAX_SHOWN]!r}")
    return min(int(found[2]), 1), int(found[3]), (found[5] or b"").decode("latin-1")


def judge_response_head(
    head: bytes, method: str, leniency: Leniency = Leniency.NONE
) -> ResponseHead:
    """Judge one complete head, from its status line to its empty line, both included.

    `method` is that of the request.  Raises InvalidResponse.
    """
    if leniency & Leniency.BARE_LF:
        head = _LINE_END.sub(b"\r\n", head)
    elif _has_bare_lf(head):
        raise InvalidResponse(f"a line ends in a bare LF: {head[:_MAX_SHOWN]!r}")
    line, _, rest = head.partition(b"\r\n")
    minor, status, reason = judge_status_line(line, leniency)
    block = rest[:-2]
    if leniency & Leniency.OBS_FOLD and not block.startswith((b" ", b"\t")):
        block = _FOLD.sub(b" ", block)
    if not are_field_lines(block) and leniency & Leniency.ODD_NAMES:
        block = _without_odd_names(block)
    if not are_field_lines(block):
        raise InvalidResponse(f"not a header line: {first_bad_line(block)[:_MAX_SHOWN]!r}")
    headers = Headers.from_block(block)
    ends = False
    if has_no_body(method, status):
        content_length = 0
    else:
        content_length = _judge_framing(headers, minor, leniency)
        ends = content_length == UNTIL_EOF or (
            content_length == CHUNKED and "content-length" in headers.names
        )
    _ask_h11(b"%b\r\n%b\r\n" % (line, block), method)
    keep_alive = not ends and wants_keep_alive(headers, minor)
    return ResponseHead(status, reason, minor, block, content_length, keep_alive)


def _without_odd_names(block: bytes) -> bytes:
    """Leave out the lines whose names are no tokens, but are nothing worse."""
    lines = (line + b"\r\n" for line in block.split(b"\r\n")[:-1])
    return b"".join(line for line in lines if are_field_lines(line) or not _is_odd(line))


def _is_odd(line: bytes) -> bool:
    """Whether a line can be left out: others may well read `Content-Length :` as a length."""
    name = line.partition(b":")[0].strip().lower()
    return _is_odd_line(line) is not None and name not in _FRAMING_NAMES


def _judge_framing(headers: Headers, minor: int, leniency: Leniency) -> int:
    codings = headers.get_all("transfer-encoding")
    lengths = headers.get_all("content-length")
    if codings:
        may_have_length = leniency & Leniency.LENGTH_BESIDE_CHUNKED
        is_double = lengths and not may_have_length
        if is_double or not minor or list_members(codings) != ["chunked"]:
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
