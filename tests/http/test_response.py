"""The response reader: which body a response has, faults, limits, and the close."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsvc.http.errors import (
    BodyTooLong,
    ConnectionClosed,
    HttpError,
    InvalidResponse,
    LocalProtocolError,
)
from evsvc.http.wire import response_head, response_reader
from evsvc.http.wire.limits import ReaderLimits
from evsvc.http.wire.request_head import CHUNKED, UNTIL_EOF
from evsvc.http.wire.response_head import parse_response_head
from evsvc.http.wire.response_reader import Leniency, ResponseHead, ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
FULL = OK + b"Content-Length: 5\r\n\r\nhello"


def head_of(data: bytes, method: str = "GET", limits: ReaderLimits | None = None) -> ResponseHead:
    reader = ResponseReader(limits)
    reader.expect(method)
    reader.receive(data)
    head = reader.next_head()
    assert head is not None
    return head


def body_of(reader: ResponseReader) -> bytes:
    body = b""
    while piece := reader.read_body():
        body += piece
    assert piece is None
    return body


def exchange(data: bytes, step: int, method: str = "GET") -> tuple[object, ...]:
    """Read one response from pieces and then the close: head, body, trailers, or the error."""
    reader = ResponseReader()
    reader.expect(method)
    head: ResponseHead | None = None
    body = b""
    try:
        for start in [*range(0, len(data), step), None]:
            if start is None:
                reader.receive_eof()
            else:
                reader.receive(data[start : start + step])
            while head is None or head.status < 200:
                head = reader.next_head()
                if head is None:
                    break
            if head is not None:
                while piece := reader.read_body():
                    body += piece
    except HttpError as fault:
        return type(fault), body
    return head, body, list(reader.trailers or ())


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 5),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n", 5),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 05\r\n", None),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n", 5),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", CHUNKED),
        ("GET", b"HTTP/1.1 200 OK\r\n", UNTIL_EOF),
        ("GET", b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", UNTIL_EOF),
        ("GET", b"HTTP/1.0 200 OK\r\n", UNTIL_EOF),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 0),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", 0),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n", 0),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", 0),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n", 0),
        ("CONNECT", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 0),
        ("CONNECT", b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n", 5),
        ("GET", b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n", 0),
        ("GET", b"HTTP/1.1 100 Continue\r\n", 0),
        ("GET", b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n", 0),
    ],
)
def test_the_body_follows_from_method_status_and_fields(
    method: str, head: bytes, length: int | None
) -> None:
    if length is None:
        with pytest.raises(InvalidResponse):
            head_of(head + b"\r\n", method)
    else:
        assert head_of(head + b"\r\n", method).content_length == length


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2.0 200 OK\r\n\r\n", b"http/1.1 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 0 OK\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n", b"HTTP/1.1  200 OK\r\n\r\n", b"HTTP/1.1 200\tOK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n", b"HTTP/1.1 200 O\rK\r\n\r\n", b"HTTP/1.10 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n", b"<html>", b"\r\n\r\n", b"\0", b" HTTP/1.1 200 OK\r\n\r\n",
        OK + b"Content-Length: -100\r\n\r\n", OK + b"Content-Length: +5\r\n\r\n",
        OK + b"Content-Length: 5, 6\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK + b"Content-Length:\r\n\r\n", OK + b"Content-Length: 5,\r\n\r\n",
        OK + b"Content-Length: " + b"9" * 20 + b"\r\n\r\n", OK + b"Content-Length: \xb2\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", OK + b"Transfer-Encoding: gzip\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n", OK + b"Transfer-Encoding:\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"X : y\r\n\r\n", OK + b" folded\r\n\r\n", OK + b"no colon\r\n\r\n",
        OK + b"X: \0\r\n\r\n", OK + b"X: a\rb\r\n\r\n", OK + b": y\r\n\r\n",
        OK + b"X: \x01\r\n\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 1000])
def test_a_malformed_response_is_invalid(data: bytes, step: int) -> None:
    assert exchange(data, step) == (InvalidResponse, b"")


def test_what_is_unusual_and_good_is_read() -> None:
    assert head_of(b"HTTP/1.9 200 \r\n\r\n").minor == 1
    assert head_of(b"HTTP/1.1 799 caf\xe9\r\n\r\n").reason == "caf\u00e9"
    assert head_of(b"HTTP/1.1 200 \r\n\r\n").reason == ""


BOTH = OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"


@pytest.mark.parametrize(
    ("leniency", "data", "block", "length"),
    [
        (Leniency.BARE_LF, b"HTTP/1.1 200 OK\nX: a\n\n", b"X: a\r\n", UNTIL_EOF),
        (Leniency.BARE_LF, b"HTTP/1.1 200 OK\r\nX: a\r\n\n", b"X: a\r\n", UNTIL_EOF),
        (Leniency.OBS_FOLD, OK + b"X: a\r\n\t b\r\n\r\n", b"X: a b\r\n", UNTIL_EOF),
        (Leniency.NO_REASON, b"HTTP/1.1 200\r\nX: a\r\n\r\n", b"X: a\r\n", UNTIL_EOF),
        (Leniency.LENGTH_BESIDE_CHUNKED, BOTH, BOTH[len(OK) : -2], CHUNKED),
        (Leniency.ODD_NAMES, OK + b"X Y: a\r\nZ: b\r\n\r\n", b"Z: b\r\n", UNTIL_EOF),
        (Leniency.ODD_NAMES, OK + b"(x): a\r\nX : c\r\nZ: b\r\n\r\n", b"Z: b\r\n", UNTIL_EOF),
    ],
)
def test_each_leniency_bears_one_thing_and_the_others_do_not(
    leniency: Leniency, data: bytes, block: bytes, length: int
) -> None:
    for each in [Leniency.NONE, *Leniency]:
        for step in (1, 1000):
            reader = ResponseReader(leniency=each)
            reader.expect("GET")
            head = None
            try:
                for start in range(0, len(data), step):
                    head = reader.next_head(data[start : start + step])
            except InvalidResponse:
                assert each is not leniency
            else:
                assert each is leniency
                assert head is not None
                assert (head.block, head.content_length) == (block, length)
                assert not (head.keep_alive and length == CHUNKED), "RFC 9112 6.3 has it closed"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 20\r\n\r\n", OK + b"X: a\rb\r\n\r\n", OK + b"X: \0\r\n\r\n", OK + b" x\r\n\r\n",
        OK + b"no colon\r\n\r\n", OK + b": y\r\n\r\n", OK + b"Content-Length : 5\r\n\r\n",
        OK + b"Transfer-Encoding : chunked\r\n\r\n", OK + b"a\0b: c\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n\r\n",
    ],
)  # fmt: skip
def test_what_no_leniency_bears(data: bytes) -> None:
    reader = ResponseReader(leniency=~Leniency.NONE)
    reader.expect("GET")
    with pytest.raises(InvalidResponse):
        reader.next_head(data)


def test_a_head_that_is_equal_to_the_last_one_is_not_read_again(monkeypatch) -> None:
    reader = ResponseReader()
    for number, method in enumerate(["GET", "GET", "HEAD", "GET", "GET"]):
        data = FULL if method == "GET" else FULL[:-5]
        reader.expect(method)
        if number in (1, 4):
            monkeypatch.setattr(response_reader, "parse_response_head", None)
        head = reader.next_head(data)
        monkeypatch.undo()
        assert head == head_of(data, method)
        assert reader.whole_body() == data[len(FULL) - 5 :]
        assert reader.read_body() is None
        assert reader.exhausted


def test_a_body_that_is_whole_is_taken_at_once_or_in_pieces() -> None:
    reader = ResponseReader()
    reader.expect("GET")
    assert reader.next_head(FULL) is not None
    with pytest.raises(LocalProtocolError, match="body"):
        reader.expect("GET")
    assert body_of(reader) == b"hello"
    reader.expect("GET")
    assert reader.next_head(FULL[:-1]) is not None
    assert reader.whole_body() is None
    reader.receive(b"o")
    assert body_of(reader) == b"hello"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (FULL, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", True),
        (OK + b"Connection: x, close\r\nContent-Length: 5\r\n\r\n", False),
        (OK + b"Connection: close\r\nContent-Length: 5\r\n\r\n", False),
        (OK + b"Connection: keep-alive\r\n\r\n", False),
    ],
)
def test_keep_alive_needs_a_body_that_ends_by_itself(data: bytes, expected: bool) -> None:
    assert head_of(data).keep_alive is expected


RESPONSES = [
    FULL,
    FULL[:-1],
    OK + b"\r\nuntil the end",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\nT: u\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + FULL,
    b"HTTP/1.0 200\nContent-Length: 2\n\nab",
    b"HTTP/1.1 2",
    b"",
]


@settings(deadline=None)
@given(st.sampled_from(RESPONSES), st.integers(1, 80))
def test_a_response_reads_the_same_however_it_is_split(data: bytes, step: int) -> None:
    assert exchange(data, step) == exchange(data, 1000)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (FULL[:-1], (ConnectionClosed, b"hell")),
        (RESPONSES[4], (ConnectionClosed, b"abc")),
        (RESPONSES[5], (InvalidResponse, b"abc")),
        (b"", (ConnectionClosed, b"")),
        (b"HTTP/1.1 2", (ConnectionClosed, b"")),
        (b"HTTP/1.1 100 Continue\r\n\r\n", (ConnectionClosed, b"")),
    ],
)
def test_a_close_inside_a_response_is_noticed(data: bytes, expected: tuple[object, ...]) -> None:
    assert exchange(data, 7) == expected


def test_a_body_until_the_close_is_complete_with_it() -> None:
    head, body, _ = exchange(RESPONSES[2], 5)
    assert isinstance(head, ResponseHead)
    assert body == b"until the end"


def test_trailers_are_kept_apart() -> None:
    assert exchange(RESPONSES[3], 4)[1:] == (b"abc", [("T", "u")])


def test_interim_responses_come_before_the_final_one() -> None:
    reader = ResponseReader()
    reader.expect("POST")
    reader.receive(RESPONSES[6])
    heads = [reader.next_head() for _ in range(3)]
    assert [head.status for head in heads if head] == [100, 103, 200]
    assert body_of(reader) == b"hello"


def test_responses_come_one_for_each_expectation() -> None:
    reader = ResponseReader()
    with pytest.raises(LocalProtocolError):
        reader.next_head()
    reader.expect("HEAD")
    with pytest.raises(LocalProtocolError, match="HEAD"):
        reader.expect("GET")
    reader.receive(OK + b"Content-Length: 5\r\n\r\n" + FULL)
    assert reader.next_head() is not None
    assert reader.read_body() is None
    with pytest.raises(LocalProtocolError):
        reader.next_head()
    reader.expect("GET")
    assert reader.next_head() is not None
    with pytest.raises(LocalProtocolError, match="body"):
        reader.expect("GET")
    assert body_of(reader) == b"hello"
    reader.expect("GET")
    assert reader.next_head() is None


@pytest.mark.parametrize("status", [b"101", b"200"])
def test_rest_gives_the_bytes_of_the_next_protocol_away(status: bytes) -> None:
    reader = ResponseReader()
    reader.expect("CONNECT" if status == b"200" else "GET")
    reader.receive(b"HTTP/1.1 " + status + b" x\r\nUpgrade: x\r\n\r\n\0raw")
    assert reader.next_head() is not None
    assert reader.read_body() is None
    assert reader.rest() == b"\0raw"


@pytest.mark.parametrize("slow", [b"", b"Connection: x\r\n"])
def test_the_head_limits_are_inclusive_on_both_paths(slow: bytes) -> None:
    data = OK + slow + b"A: b\r\nContent-Length: 0\r\n\r\n"
    fields = data.count(b"\r\n") - 2
    assert head_of(data, limits=ReaderLimits(max_headers_bytes=len(data))).status == 200
    assert head_of(data, limits=ReaderLimits(max_line_bytes=15, max_headers=fields)).status == 200
    for limits in (
        ReaderLimits(max_headers_bytes=len(data) - 1),
        ReaderLimits(max_line_bytes=14),
        ReaderLimits(max_headers=fields - 1),
    ):
        with pytest.raises(InvalidResponse):
            head_of(data, limits=limits)


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 " + b"x" * 50, OK + b"X: " + b"y" * 50])
def test_an_endless_head_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidResponse):
        head_of(data, limits=ReaderLimits(max_line_bytes=40, max_headers_bytes=60))


@pytest.mark.parametrize(
    "data",
    [FULL, OK + b"\r\nhello", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
)
def test_the_body_limit_is_inclusive_for_every_framing(data: bytes) -> None:
    def read(most: int) -> bytes:
        reader = ResponseReader(ReaderLimits(max_body_bytes=most))
        reader.expect("GET")
        reader.receive(data)
        reader.receive_eof()
        assert reader.next_head() is not None
        return body_of(reader)

    assert read(5) == b"hello"
    with pytest.raises(BodyTooLong):
        read(4)


def test_a_dead_reader_raises_an_equal_error_again() -> None:
    reader = ResponseReader()
    reader.expect("GET")
    reader.receive(b"garbage")
    for _ in range(2):
        with pytest.raises(InvalidResponse):
            reader.next_head()
    with pytest.raises(InvalidResponse):
        reader.read_body()


@pytest.mark.parametrize(
    "hostile",
    [
        OK + b"a: \r\n" * 40_000 + b"\r",
        OK + b"c: \r\n" * 40_000 + b"\r",
        OK + b"a:" + b" \t" * 100_000,
        OK + b"Content-Length: 5\r\n" + b"Connection: close\r\n" * 10_000,
        b"HTTP/1.1 200 " + b" " * 200_000 + b"\0",
    ],
)
def test_hostile_heads_are_left_in_linear_time(hostile: bytes) -> None:
    """Quadratic matching of any of these would take minutes."""
    assert parse_response_head(hostile, 0, "GET") is None


@pytest.mark.parametrize("head", [OK + b"Content-Length: x\r\n\r\n", OK, b"HTTP/1.1 099 x\r\n\r\n"])
def test_h11_judges_by_itself_should_our_checks_miss_a_fault(head: bytes) -> None:
    with pytest.raises(InvalidResponse):
        response_head._ask_h11(head, "GET")
