"""libevent's tagged records, as in its tag.h: TAG LENGTH PAYLOAD, one behind another.

A tag is a number of 32 bits, seven of them a byte, the least first.  An integer is a row of
nibbles: how many follow, less one, then the nibbles, the least first, and a zero to fill the last
byte.  A length is such an integer.

The functions that read take from the front of an EvBuffer and raise PayloadError for what is no
such record, or not whole; nothing is taken then, where libevent has taken the header already.
"""

from __future__ import annotations

from ..core import ArgumentError, EvBuffer
from .annotations import MAX_TAG
from .errors import PayloadError

NIBBLES_32 = 8
NIBBLES_64 = 16

_LONGEST_TAG_BYTES = 5
_LONGEST_INT_BYTES = 9
_LONGEST_HEADER_BYTES = _LONGEST_TAG_BYTES + NIBBLES_32 // 2 + 1


def tag_bytes(tag: int) -> bytes:
    """Return a tag's bytes.  Raises ArgumentError beyond 32 bits."""
    if not 0 <= tag <= MAX_TAG:
        raise ArgumentError(f"a tag is from 0 to {MAX_TAG}: {tag!r}")
    if tag < 0x80:
        return bytes((tag,))
    encoded = bytearray()
    while tag >= 0x80:
        encoded.append(tag & 0x7F | 0x80)
        tag >>= 7
    encoded.append(tag)
    return bytes(encoded)


def int_bytes(number: int, nibbles: int = NIBBLES_64) -> bytes:
    """Return an integer's bytes.  Raises ArgumentError when it needs more than `nibbles`."""
    digits = f"{number:x}"
    if number < 0 or len(digits) > nibbles:
        raise ArgumentError(f"not an integer of {nibbles * 4} bits: {number!r}")
    row = f"{len(digits) - 1:x}{digits[::-1]}"
    return bytes.fromhex(row if len(row) % 2 == 0 else row + "0")


def record_bytes(tag: int, payload: bytes) -> bytes:
    """Return a whole record.  Raises ArgumentError for a bad tag or more than 32 bits of length."""
    return tag_bytes(tag) + int_bytes(len(payload), NIBBLES_32) + payload


def read_tag(data: bytes, start: int) -> tuple[int, int]:
    """Return the tag at `start`, and where it ends.  Raises PayloadError when there is none."""
    tag = 0
    for position in range(start, min(len(data), start + _LONGEST_TAG_BYTES)):
        byte = data[position]
        tag |= (byte & 0x7F) << (7 * (position - start))
        if byte < 0x80:
            if tag > MAX_TAG:
                break
            return tag, position + 1
    else:
        if len(data) < start + _LONGEST_TAG_BYTES:
            raise PayloadError("the data ends inside a tag")
    raise PayloadError("a tag has more than 32 bits")


def read_int(data: bytes, start: int, nibbles: int = NIBBLES_64) -> tuple[int, int]:
    """Return the integer at `start`, and where it ends.

    Raises PayloadError when it is not whole, or has more than `nibbles`.
    """
    if start >= len(data):
        raise PayloadError("the data ends before an integer")
    count = (data[start] >> 4) + 1
    end = start + count // 2 + 1
    if count > nibbles:
        raise PayloadError(f"an integer has more than {nibbles * 4} bits")
    if end > len(data):
        raise PayloadError("the data ends inside an integer")
    return int(data[start:end].hex()[count:0:-1], 16), end


def read_header(data: bytes, start: int) -> tuple[int, int, int]:
    """Return a record's tag, and where its payload begins and ends, which may be past the data.

    Raises PayloadError when the header is not whole.
    """
    tag, position = read_tag(data, start)
    length, position = read_int(data, position, NIBBLES_32)
    return tag, position, position + length


def encode_tag(buf: EvBuffer, tag: int) -> None:
    """Append a bare tag; raises as `tag_bytes` (evtag_encode_tag)."""
    buf.add(tag_bytes(tag))


def encode_int(buf: EvBuffer, number: int) -> None:
    """Append a bare integer.  Raises ArgumentError beyond 32 bits (evtag_encode_int)."""
    buf.add(int_bytes(number, NIBBLES_32))


def encode_int64(buf: EvBuffer, number: int) -> None:
    """Append a bare integer.  Raises ArgumentError beyond 64 bits (evtag_encode_int64)."""
    buf.add(int_bytes(number))


def decode_tag(buf: EvBuffer) -> int:
    """Take a bare tag (evtag_decode_tag)."""
    tag, end = read_tag(_front(buf, _LONGEST_TAG_BYTES), 0)
    buf.drain(end)
    return tag


def decode_int(buf: EvBuffer) -> int:
    """Take a bare integer of 32 bits (evtag_decode_int)."""
    return _decode(buf, NIBBLES_32)


def decode_int64(buf: EvBuffer) -> int:
    """Take a bare integer of 64 bits (evtag_decode_int64)."""
    return _decode(buf, NIBBLES_64)


def marshal(buf: EvBuffer, tag: int, data: bytes | bytearray | memoryview) -> None:
    """Append a record of bytes; raises as `record_bytes` (evtag_marshal)."""
    buf.add(record_bytes(tag, bytes(data)))


def marshal_buffer(buf: EvBuffer, tag: int, data: EvBuffer) -> None:
    """Append a record whose payload is moved out of another buffer (evtag_marshal_buffer)."""
    buf.add(tag_bytes(tag) + int_bytes(len(data), NIBBLES_32))
    buf.add_buffer(data)


def marshal_int(buf: EvBuffer, tag: int, number: int) -> None:
    """Append a record of one integer of 32 bits (evtag_marshal_int)."""
    buf.add(record_bytes(tag, int_bytes(number, NIBBLES_32)))


def marshal_int64(buf: EvBuffer, tag: int, number: int) -> None:
    """Append a record of one integer of 64 bits (evtag_marshal_int64)."""
    buf.add(record_bytes(tag, int_bytes(number)))


def marshal_string(buf: EvBuffer, tag: int, text: str) -> None:
    """Append a record of text, as UTF-8.  Raises ArgumentError for a NUL in it, which would end it
    in C (evtag_marshal_string)."""
    if "\0" in text:
        raise ArgumentError(f"a string holds no NUL: {text!r}")
    buf.add(record_bytes(tag, text.encode()))


def marshal_timeval(buf: EvBuffer, tag: int, seconds: float) -> None:
    """Append a record of seconds and microseconds.

    Raises ArgumentError below 0 and beyond 32 bits of seconds, which libevent cuts off.
    Source: evtag_marshal_timeval.
    """
    buf.add(record_bytes(tag, timeval_bytes(round(seconds * 1_000_000))))


def timeval_bytes(microseconds: int) -> bytes:
    """Return the payload of a timeval; raises as `marshal_timeval`."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return int_bytes(seconds, NIBBLES_32) + int_bytes(rest, NIBBLES_32)


def read_timeval(payload: bytes) -> int:
    """Return the microseconds in a timeval's payload.  Raises PayloadError when there are none."""
    seconds, position = read_int(payload, 0, NIBBLES_32)
    rest, _ = read_int(payload, position, NIBBLES_32)
    return seconds * 1_000_000 + rest


def peek(buf: EvBuffer) -> int:
    """Return the tag of the first record, and leave it there (evtag_peek)."""
    return read_tag(_front(buf, _LONGEST_TAG_BYTES), 0)[0]


def peek_length(buf: EvBuffer) -> int:
    """Return how many bytes the first record has with its header; they need not all be there.

    Source: evtag_peek_length.
    """
    return _header(buf)[2]


def payload_length(buf: EvBuffer) -> int:
    """Return how many bytes the first record's payload has (evtag_payload_length)."""
    _, begin, end = _header(buf)
    return end - begin


def consume(buf: EvBuffer) -> None:
    """Drop the first record (evtag_consume)."""
    buf.drain(_whole(buf)[2])


def unmarshal_header(buf: EvBuffer) -> tuple[int, int]:
    """Take the first record's header, and return its tag and its payload's length.

    The payload must be there (evtag_unmarshal_header).
    """
    tag, begin, end = _whole(buf)
    buf.drain(begin)
    return tag, end - begin


def unmarshal(src: EvBuffer, dst: EvBuffer) -> int:
    """Move the first record's payload to `dst`, and return its tag (evtag_unmarshal)."""
    tag, length = unmarshal_header(src)
    src.remove_buffer(dst, length)
    return tag


def unmarshal_int(buf: EvBuffer, need_tag: int) -> int:
    """Take a record of one integer of 32 bits, with this tag (evtag_unmarshal_int)."""
    return _unmarshal_int(buf, need_tag, NIBBLES_32)


def unmarshal_int64(buf: EvBuffer, need_tag: int) -> int:
    """Take a record of one integer of 64 bits, with this tag (evtag_unmarshal_int64)."""
    return _unmarshal_int(buf, need_tag, NIBBLES_64)


def unmarshal_fixed(buf: EvBuffer, need_tag: int, size: int) -> bytes:
    """Take a record of exactly `size` bytes, with this tag (evtag_unmarshal_fixed)."""
    payload, end = _payload(buf, need_tag)
    if len(payload) != size:
        raise PayloadError(f"expected {size} bytes, got {len(payload)}")
    buf.drain(end)
    return payload


def unmarshal_string(buf: EvBuffer, need_tag: int) -> str:
    """Take a record of text, with this tag (evtag_unmarshal_string)."""
    payload, end = _payload(buf, need_tag)
    try:
        text = payload.decode()
    except UnicodeDecodeError as exc:
        raise PayloadError(f"the text is not UTF-8: {exc.reason}") from None
    buf.drain(end)
    return text


def unmarshal_timeval(buf: EvBuffer, need_tag: int) -> float:
    """Take a record of a time, with this tag, and return its seconds (evtag_unmarshal_timeval)."""
    payload, end = _payload(buf, need_tag)
    microseconds = read_timeval(payload)
    buf.drain(end)
    return microseconds / 1_000_000


def _front(buf: EvBuffer, size: int) -> bytes:
    return buf.copyout(min(size, len(buf)))


def _decode(buf: EvBuffer, nibbles: int) -> int:
    number, end = read_int(_front(buf, _LONGEST_INT_BYTES), 0, nibbles)
    buf.drain(end)
    return number


def _header(buf: EvBuffer) -> tuple[int, int, int]:
    return read_header(_front(buf, _LONGEST_HEADER_BYTES), 0)


def _whole(buf: EvBuffer) -> tuple[int, int, int]:
    tag, begin, end = _header(buf)
    if end > len(buf):
        raise PayloadError(f"the data ends inside a record of {end} bytes")
    return tag, begin, end


def _payload(buf: EvBuffer, need_tag: int) -> tuple[bytes, int]:
    """Return the payload of the first record, and the record's length; nothing is taken yet."""
    tag, begin, end = _whole(buf)
    if tag != need_tag:
        raise PayloadError(f"expected the tag {need_tag}, got {tag}")
    return buf.copyout(end)[begin:], end


def _unmarshal_int(buf: EvBuffer, need_tag: int, nibbles: int) -> int:
    payload, end = _payload(buf, need_tag)
    number, _ = read_int(payload, 0, nibbles)  # what is behind it is passed over, as in libevent
    buf.drain(end)
    return number
