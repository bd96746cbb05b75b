"""The frames by which calls share a WebSocket, as bytes.  Does no I/O, and keeps no state.

Each binary message is one frame: a byte that says its kind, four bytes with the number of a call,
the highest first, and what the kind has behind that.

    kind        from     behind the number
    1 BEGIN     client   a head, and the begin of the request's body
    2 REPLY     server   a head, and the begin of the reply's body
    3 DATA      both     more of the body
    4 CREDIT    both     four bytes: so many bytes of body more may be sent
    5 CANCEL    client   nothing: nobody waits for the call any more
    6 LEAVE     server   nothing: the call of this number is the last one that it answers

A head is two bytes of length and as much text: a line with the method's name, or with the status,
and header fields as HTTP writes them (RFC 9112 5), each line with CR LF.  The highest bit of the
first byte says of BEGIN, REPLY and DATA that it is the sender's last frame of the call.
"""

from __future__ import annotations

import enum
import re
import struct
from typing import Final, NamedTuple

from ...core.errors import ArgumentError
from ...http.wire.headers import Headers, ReceivedHeaders
from ..errors import RpcError, one_line

SUBPROTOCOL: Final = "evsvc-rpc.1"
"""What both sides agree on in the handshake (Sec-WebSocket-Protocol)."""

MAX_BODY_BYTES: Final = 32 * 1024
"""How much of a body one frame has at the most, so that no call holds up the others for long."""

MAX_CALL_ID: Final = 2**32 - 1
MAX_CREDIT: Final = 2**31 - 1
"""The highest number of a call, and the most that may be open to be sent of one."""

LAST: Final = 0x80

_START: Final = struct.Struct(">BI")
_HEAD_LENGTH: Final = struct.Struct(">H")
_NUMBER: Final = struct.Struct(">I")

START_BYTES: Final = _START.size
HEAD_LENGTH_BYTES: Final = _HEAD_LENGTH.size
MAX_HEAD_BYTES: Final = 0xFFFF

# Whatever this takes, `Headers` takes, too: one look in place of one a field.
_is_head: Final = re.compile(
    rb"[!-~]{1,128}+\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+\r\n)*+"
).fullmatch


class FrameError(RpcError):
    """The peer has sent what is no frame, or not at this point."""


class Kind(enum.IntEnum):
    """What a frame is for."""

    BEGIN = 1
    REPLY = 2
    DATA = 3
    CREDIT = 4
    CANCEL = 5
    LEAVE = 6


FROM_CLIENT: Final = frozenset((Kind.BEGIN, Kind.DATA, Kind.CREDIT, Kind.CANCEL))
FROM_SERVER: Final = frozenset((Kind.REPLY, Kind.DATA, Kind.CREDIT, Kind.LEAVE))

_WITH_BODY: Final = frozenset((Kind.BEGIN, Kind.REPLY, Kind.DATA))
_KINDS: Final = {
    **{int(kind): (kind, False) for kind in Kind},
    **{kind | LAST: (kind, True) for kind in _WITH_BODY},
}


class Frame(NamedTuple):
    """A frame that has come; `payload` is what its kind has behind the number."""

    kind: Kind
    is_last: bool
    call_id: int
    payload: bytes


class Head(NamedTuple):
    """What a BEGIN or a REPLY says, and the body behind it."""

    first: str
    fields: Headers
    body: bytes


def encode_head(first: str, fields: Headers, max_bytes: int) -> bytes:
    """Return a head with its length.  Raises ArgumentError for one that is longer than may be."""
    text = f"{first}\r\n".encode("latin-1") + fields.to_block()
    if len(text) > max_bytes:
        raise ArgumentError(f"a head of {len(text)} bytes; the limit is {max_bytes}: {first}")
    return _HEAD_LENGTH.pack(len(text)) + text


def encode(kind: Kind, call_id: int, payload: bytes = b"", *, is_last: bool = False) -> bytes:
    """Return a frame."""
    return _START.pack(kind | LAST if is_last else kind, call_id) + payload


def encode_credit(call_id: int, count: int) -> bytes:
    """Return the frame that lets the peer send `count` bytes more of a body."""
    return _START.pack(Kind.CREDIT, call_id) + _NUMBER.pack(count)


def decode(data: bytes, wanted: frozenset[Kind]) -> Frame:
    """Return a frame that has come, where it is of the kinds that the other side sends.

    Raises FrameError for what is none.
    """
    if len(data) < START_BYTES:
        raise FrameError(f"a frame of {len(data)} bytes")
    first, call_id = _START.unpack_from(data)
    kind, is_last = _KINDS.get(first, (None, False))
    if kind is None or kind not in wanted:
        raise FrameError(f"a frame of kind {first}")
    payload = data[START_BYTES:]
    if not call_id and kind is not Kind.LEAVE:
        raise FrameError(f"a {kind.name} of call 0")
    if kind is Kind.DATA:
        if not payload and not is_last:
            raise FrameError(f"a DATA of call {call_id} without bytes")
    elif kind is Kind.CREDIT:
        if len(payload) != _NUMBER.size:
            raise FrameError(f"a CREDIT of {len(payload)} bytes")
    elif kind not in _WITH_BODY and payload:
        raise FrameError(f"a {kind.name} with {len(payload)} bytes")
    return Frame(kind, is_last, call_id, payload)


def credit_of(frame: Frame) -> int:
    """Return what a CREDIT gives."""
    count: int = _NUMBER.unpack(frame.payload)[0]
    return count


def head_of(frame: Frame, max_bytes: int) -> Head:
    """Return the head of a BEGIN or REPLY.  Raises FrameError for what is none, or too long."""
    payload = frame.payload
    if len(payload) < HEAD_LENGTH_BYTES:
        raise FrameError(f"a {frame.kind.name} without a head")
    size: int = _HEAD_LENGTH.unpack_from(payload)[0]
    if size > max_bytes:
        raise FrameError(f"a head of {size} bytes; the limit is {max_bytes}")
    start, end = HEAD_LENGTH_BYTES, HEAD_LENGTH_BYTES + size
    text = payload[start:end]
    if len(text) < size or _is_head(text) is None:
        raise FrameError(f"not a head: {one_line(text[:80].decode('latin-1'))}")
    first, _, block = text.partition(b"\r\n")
    return Head(first.decode("ascii"), ReceivedHeaders.from_block(block), payload[end:])
