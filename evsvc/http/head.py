"""The fast path: recognise a complete, entirely ordinary request head in one regexp match.

Ordinary is: a token method other than CONNECT and TRACE, a target in origin-form, HTTP/1.0 or
1.1, well-formed field lines ended by CRLF, exactly one plain Host (HTTP/1.0 may do without), at
most one Content-Length of plain digits, at most one Connection that is `keep-alive` or `close`,
and none of the other fields that steer a connection.  Any other head is no error here: the
answer is None, and h11 and the checks of `slow` judge it.

The law: a head that is accepted here is accepted by `slow.judge_request_head` with an equal
`RequestHead` and the same end.  tests/http/test_law.py holds it.

Time is linear in the head.  Every repetition of characters is possessive, and of the alternatives
for a line at most one can match; so lines are given back one by one, and each fails at once.
(The lines are not possessive because CPython before 3.11.5 mishandles possessive groups whose
inside can fail half-way, and it would gain less than 0.1 us.)

Measured with CPython 3.11 on one core, per head: 1.0 us for `GET /` with a Host, 2.7 us for a
browser's eleven lines (512 bytes); h11 needs 12 and 28 us for them.
"""

import re
from typing import Final, NamedTuple

from .grammar import TOKEN, VALUE, any_case

CHUNKED: Final = -1
UNTIL_EOF: Final = -2


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


# Fields that the generic alternative must not take: they are either read below or left to `slow`.
_STEERING: Final = any_case(
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
    "expect",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
)
# A token character that begins none of these, so that most lines need no look-ahead.
# The starts of the two generic alternatives exclude each other: a line that both could take would
# be tried both ways, and n such lines 2**n ways.
_FREE_START: Final = rb"[!#$%&'*+\-.^_`|~0-9ABDFGIJL-OQRSV-Zabdfgijl-oqrsv-z]"
_PORT: Final = (
    rb":(?![7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])[0-9]{1,5}+"
)

# Groups: 1 method, 2 target, 3 minor, 4 block, 5 host, 6 connection, 7 length.  `(?(5)(?!)|...)`
# refuses a second Host: the alternative fails once group 5 is set, and no other takes the line.
_REQUEST_HEAD: Final = re.compile(
    rb"(%(token)b++) (/[!\"$-~]*+) HTTP/1\.([01])\r\n"
    rb"((?:"
    rb"%(free_start)b%(token)b*+:%(value)b*+\r\n"
    rb"|(?(5)(?!)|%(host)b:[ \t]*+([0-9A-Za-z._\-]++(?:%(port)b)?)[ \t]*+\r\n)"
    rb"|(?!(?:%(steering)b):)[CEHKPTUcehkptu]%(token)b*+:%(value)b*+\r\n"
    rb"|(?(6)(?!)|%(connection)b:[ \t]*+((?i:keep-alive|close))[ \t]*+\r\n)"
    rb"|(?(7)(?!)|%(length)b:[ \t]*+([0-9]{1,15}+)[ \t]*+\r\n)"
    rb")*)\r\n"
    % {
        b"token": TOKEN,
        b"value": VALUE,
        b"free_start": _FREE_START,
        b"steering": _STEERING,
        b"host": any_case("host"),
        b"port": _PORT,
        b"connection": any_case("connection"),
        b"length": any_case("content-length"),
    }
)

_match: Final = _REQUEST_HEAD.match
_new: Final = tuple.__new__
_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
_method_name: Final = {name.encode(): name for name in _METHODS}.get
_KEEP_ALIVE_LENGTH: Final = len(b"keep-alive")


def parse_request_head(data: bytes | bytearray, pos: int = 0) -> tuple[RequestHead, int] | None:
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
    head: RequestHead = _new(
        RequestHead,
        (
            method,
            target.decode(),
            1 if later else 0,
            block,
            0 if length is None else int(length),
            later if connection is None else len(connection) == _KEEP_ALIVE_LENGTH,
            host,
            False,
        ),
    )
    return head, found.end()
