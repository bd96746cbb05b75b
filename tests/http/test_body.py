"""Bodies: length-delimited, chunked, until EOF; and chunked against h11."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.http.errors import BodyTooLong, ConnectionClosed, RemoteProtocolError
from evsvc.http.wire.body import (
    ChunkedBody,
    EofBody,
    Intake,
    LengthBody,
)
from evsvc.http.wire.limits import ReaderLimits


def decode(
    data: bytes, limits: ReaderLimits | None = None, step: int | None = None, padded: bool = False
) -> tuple[ChunkedBody, bytes, bytes]:
    """Feed `data` whole or in pieces of `step`: the body, what it gave, and what is left."""
    body = ChunkedBody(limits or ReaderLimits(), padded=padded)
    intake = Intake()
    given_out = b""
    step = step or max(1, len(data))
    for start in range(0, len(data), step):
        intake.receive(data[start : start + step])
        while piece := body.read(intake):
            given_out += piece
    return body, given_out, intake.take(intake.buffered)


def status_of(data: bytes, limits: ReaderLimits | None = None, step: int | None = None) -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(data, limits, step)
    return caught.value.status


def test_an_intake_gives_out_what_it_received_in_order() -> None:
    intake = Intake()
    first = b"abcdef"
    intake.receive(first)
    assert intake.data is first
    assert intake.take(2) == b"ab"
    intake.receive(b"gh")
    assert intake.take(3) == b"cde"
    intake.receive(b"ij")
    assert intake.buffered == 5
    piece = intake.take(99)
    assert piece == b"fghij"
    assert type(piece) is bytes
    assert intake.take(1) == b""


def test_a_length_body_takes_its_bytes_and_no_more() -> None:
    body, intake = LengthBody(5), Intake()
    assert body.read(intake) == b""
    intake.receive(b"abc")
    assert body.read(intake) == b"abc"
    assert not body.done
    with pytest.raises(ConnectionClosed, match="2 bytes"):
        body.receive_eof()
    intake.receive(b"defg")
    assert body.read(intake) == b"de"
    assert body.done
    assert intake.buffered == 2
    assert not body.trailers


def test_an_eof_body_lasts_until_the_close_and_holds_its_limit() -> None:
    body, intake = EofBody(4), Intake()
    intake.receive(b"ab")
    assert body.read(intake) == b"ab"
    intake.receive(b"cd")
    assert body.read(intake) == b"cd"
    assert not body.done
    body.receive_eof()
    assert body.done
    intake.receive(b"e")
    with pytest.raises(BodyTooLong):
        body.read(intake)


@pytest.mark.parametrize("step", [None, 1, 2, 3])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"A\r\n0123456789\r\n1\r\nx\r\n00\r\n\r\n", b"0123456789x"),
        (b"a\r\n0123456789\r\n0;x\r\n\r\n", b"0123456789"),
        (b'1;a=b;c="d;e"\r\nx\r\n0\r\n\r\n', b"x"),
        (b"1 \t; a = b\r\nx\r\n0 ;c\r\n\r\n", b"x"),
        (b"0000000000000001\r\nx\r\n0\r\n\r\n", b"x"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    ],
)
def test_a_chunked_body_is_decoded_however_it_is_split(
    data: bytes, expected: bytes, step: int | None
) -> None:
    body, given_out, rest = decode(data + b"NEXT", step=step)
    assert body.done
    assert given_out == expected
    assert rest == b"NEXT"


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize(
    "data",
    [
        b"0x1f\r\n", b"+5\r\n", b"-5\r\n", b" 5\r\n", b"5 \r\n", b"5\t\r\n", b"\r\n", b";x\r\n",
        b"5_0\r\n", b"g\r\n", b"\xb5\r\n", b"5\n", b"5\rx\r\n", b"5;a\rb\r\n", b"5;a\nb\r\n",
        b"5;\x00\r\n", b"5;\x01\r\n", b"5,\r\n", b"5 5\r\n", b"\n", b"00000000000000001\r\n",
        b"1\r\nxy", b"1\r\nx\n", b"1\r\nx\rZ", b"1\r\nx0\r\n\r\n", b"5.0\r\n", b"1\r\r\n",
    ],
)  # fmt: skip
def test_bad_chunk_framing_is_400(data: bytes, step: int | None) -> None:
    assert status_of(data, step=step) == 400


def test_a_client_bears_blanks_behind_a_chunk_size() -> None:
    body, given_out, _ = decode(b"1  \r\nx\r\n0\t \r\n\r\n", padded=True)
    assert body.done
    assert given_out == b"x"


def test_data_before_a_fault_is_given_out_first() -> None:
    body, intake = ChunkedBody(ReaderLimits()), Intake()
    intake.receive(b"3\r\nabc\r\nzz\r\n")
    assert body.read(intake) == b"abc"
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="zz"):
            body.read(intake)


def test_a_close_inside_a_chunked_body_is_noticed() -> None:
    with pytest.raises(ConnectionClosed):
        ChunkedBody(ReaderLimits()).receive_eof()


@pytest.mark.parametrize("step", [None, 1])
def test_trailers_are_kept_apart(step: int | None) -> None:
    body, given_out, rest = decode(b"1\r\nx\r\n0\r\nA: b\r\nc:\td \r\n\r\nNEXT", step=step)
    assert (given_out, rest) == (b"x", b"NEXT")
    assert list(body.trailers) == [("A", "b"), ("c", "d")]


@pytest.mark.parametrize(
    "trailer",
    [
        b"Content-Length: 5", b"transfer-encoding: chunked", b"Host: a", b"X : y", b" folded",
        b"X: \x00", b"X: a\rb", b"X: a\nb", b"no colon", b"X: y\r\n folded", b": x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [None, 1])
def test_a_bad_trailer_is_400(trailer: bytes, step: int | None) -> None:
    assert status_of(b"0\r\n" + trailer + b"\r\n\r\n", step=step) == 400


@pytest.mark.parametrize("step", [None, 1])
def test_the_body_limit_is_inclusive_and_decided_from_the_size(step: int | None) -> None:
    limits = ReaderLimits(max_body_bytes=4)
    assert decode(b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", limits, step)[1] == b"abcd"
    assert status_of(b"5\r\n", limits, step) == 413
    assert status_of(b"3\r\nabc\r\n2\r\n", limits, step) == 413
    assert status_of(b"ffffffffffffffff\r\n", limits, step) == 413
    assert not decode(b"ffffffffffffffff\r\n", ReaderLimits(max_body_bytes=None), step)[0].done


@pytest.mark.parametrize(
    "extension",
    [b";a", b" ;\ta", b";a=b", b";a = b", b';a="b c;\\"d"', b';a=""', b";a;b=1;c",
     b";!#$%&'*+-.^_`|~=1"],
)  # fmt: skip
def test_an_extension_is_a_token_with_an_optional_value(extension: bytes) -> None:
    assert decode(b"1" + extension + b"\r\nx\r\n0\r\n\r\n")[0].done


@pytest.mark.parametrize(
    "extension",
    [b";", b";;a", b";a=", b";a=b c", b';a="b', b';a="b"c', b";a b", b";=b", b';"a"',
     b";a;", b";a\0"],
)  # fmt: skip
def test_what_is_no_extension_is_400(extension: bytes) -> None:
    assert status_of(b"1" + extension + b"\r\nx\r\n") == 400


@pytest.mark.parametrize("step", [None, 1])
def test_extensions_are_counted_over_the_whole_body(step: int | None) -> None:
    limits = ReaderLimits(max_chunk_extension_bytes=4)
    assert decode(b"1;a\r\nx\r\n0;b\r\n\r\n", limits, step)[0].done
    assert status_of(b"1;a\r\nx\r\n0;bc\r\n\r\n", limits, step) == 400
    assert status_of(b"1;" + b"a" * 100, limits, step) == 400


@pytest.mark.parametrize("step", [None, 1])
def test_the_trailer_limits_are_inclusive(step: int | None) -> None:
    section = b"A: b\r\nC: d\r\n\r\n"
    limits = ReaderLimits(max_trailers_bytes=len(section), max_headers=2)
    assert decode(b"0\r\n" + section, limits, step)[0].done
    tight = ReaderLimits(max_trailers_bytes=len(section) - 1)
    assert status_of(b"0\r\n" + section, tight, step) == 431
    assert status_of(b"0\r\n" + section, ReaderLimits(max_headers=1), step) == 431
    assert status_of(b"0\r\n" + b"A" * 100, tight, step) == 431


@pytest.mark.parametrize("step", [None, 1])
@pytest.mark.parametrize("most", [0, 1, 2, 5])
def test_a_body_without_trailers_is_within_every_limit(step: int | None, most: int) -> None:
    limits = ReaderLimits(max_trailers_bytes=most, max_headers=0)
    assert decode(b"1\r\nx\r\n0\r\n\r\n", limits, step)[0].done
    assert status_of(b"0\r\nA:\r\n\r\n", limits, step) == 431


PIECES = st.sampled_from(
    [b"0", b"1", b"a", b"\r\n", b"\r", b"\n", b";", b";x=y", b" ", b"x", b"5\r\nhello\r\n",
     b"1\r\nz\r\n", b"0\r\n\r\n", b"A: b\r\n", b"0\r\nA: b\r\n\r\n", b"\0", b"0x", b"\xff"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=8).map(b"".join), st.integers(1, 9))
def test_what_is_accepted_h11_accepts_with_the_same_data_and_end(data: bytes, step: int) -> None:
    data += b"0\r\n\r\n"
    try:
        body, given_out, rest = decode(data, step=step)
    except RemoteProtocolError:
        return
    if not body.done or b" " in data:  # h11 refuses the blanks that RFC 9112 7.1.1 allows
        return
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    events = []
    while not events or type(events[-1]) in (h11.Request, h11.Data):
        events.append(judge.next_event())
    end = events.pop()
    assert isinstance(end, h11.EndOfMessage)
    assert b"".join(e.data for e in events if isinstance(e, h11.Data)) == given_out
    assert [(n.encode(), v.encode()) for n, v in body.trailers] == end.headers.raw_items()
    assert judge.trailing_data[0] == rest
