"""The request reader: pieces, pipelines, early refusals, limits, and staying dead."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsvc.core.errors import ArgumentError
from evsvc.http.errors import (
    BodyTooLong,
    HttpError,
    LocalProtocolError,
    RemoteProtocolError,
)
from evsvc.http.wire.request_head import RequestHead
from evsvc.http.wire.request_reader import ReaderLimits, RequestReader

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SLOW_GET = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2\r\nab\r\n1;x\r\nc\r\n0\r\nT: u\r\n\r\n"
)


class Log:
    """Reads all that can be read and writes down what came out; bodies are joined."""

    def __init__(self, limits: ReaderLimits | None = None) -> None:
        self.reader = RequestReader(limits)
        self.seen: list[object] = []
        self.in_body = False

    def receive(self, data: bytes) -> None:
        if self.seen and isinstance(self.seen[-1], HttpError):
            return
        self.reader.receive(data)
        try:
            while self.step():
                pass
        except RemoteProtocolError as fault:
            self.seen.append(fault)

    def step(self) -> bool:
        if not self.in_body:
            head = self.reader.next_head()
            if head is None:
                return False
            self.seen.append([head, b""])
            self.in_body = True
        piece = self.reader.read_body()
        if piece is None:
            self.in_body = False
            self.seen.append(list(self.reader.trailers or ()))
            return True
        entry = self.seen[-1]
        assert isinstance(entry, list)
        entry[1] += piece
        return bool(piece)

    def summary(self) -> list[object]:
        return [
            (type(entry), getattr(entry, "status", None)) if isinstance(entry, HttpError) else entry
            for entry in self.seen
        ]


def log_of(data: bytes, sizes: list[int], limits: ReaderLimits | None = None) -> Log:
    log = Log(limits)
    for size in sizes:
        if data:
            log.receive(data[:size])
            data = data[size:]
    if data:
        log.receive(data)
    return log


def status_of(data: bytes, limits: ReaderLimits | None = None) -> int | None:
    last = log_of(data, [], limits).seen[-1:]
    return last[0].status if last and isinstance(last[0], RemoteProtocolError) else None


MESSAGES = [
    GET,
    SLOW_GET,
    POST,
    CHUNKED,
    b"\r\n" + GET,
    b"GET http://h/x HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"\x16\x03\x01\x00",
    b"illegal request\r\n",
    CHUNKED.replace(b"1;x", b"zz"),
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(MESSAGES), max_size=4).map(b"".join), st.lists(st.integers(1, 60)))
def test_a_stream_reads_the_same_however_it_is_split(data: bytes, sizes: list[int]) -> None:
    assert log_of(data, sizes).summary() == log_of(data, []).summary()


@pytest.mark.parametrize("data", MESSAGES)
def test_a_stream_reads_the_same_byte_by_byte(data: bytes) -> None:
    assert log_of(data + GET, [1] * 300).summary() == log_of(data + GET, []).summary()


def test_sixteen_pipelined_requests_come_in_order() -> None:
    reader = RequestReader()
    reader.receive(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(16)))
    targets = []
    while head := reader.next_head():
        targets.append(head[1])
        assert reader.read_body() is None
    assert targets == [f"/{n}" for n in range(16)]
    assert reader.buffered == 0


@pytest.mark.parametrize("bad", [b"\0", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03", b" "])
@pytest.mark.parametrize("good", [GET, SLOW_GET, POST, CHUNKED])
def test_a_good_request_is_given_out_before_bad_bytes_behind_it(good: bytes, bad: bytes) -> None:
    reader = RequestReader()
    reader.receive(good + bad)
    assert reader.next_head() is not None
    while reader.read_body():
        pass
    assert reader.read_body() is None
    with pytest.raises(RemoteProtocolError):
        reader.next_head()


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        (b"illegal request\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"\0", 400),
        (b" ", 400),
        (b"\n", 400),
        (b"\rG", 400),
        (b"{", 400),
        (b"GET /\x80", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rb", 400),
        (b"GET / HTTP/1.1\r\nX: \0", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET x HTTP/1.1\r\n", 400),
    ],
)
def test_a_head_that_cannot_become_good_is_refused_at_once(beginning: bytes, status: int) -> None:
    assert status_of(beginning) == status


@pytest.mark.parametrize("size", range(1, len(SLOW_GET)))
def test_the_beginning_of_a_good_head_is_no_fault(size: int) -> None:
    reader = RequestReader()
    reader.receive(SLOW_GET[:size])
    assert reader.next_head() is None
    assert reader.next_head() is None
    reader.receive(SLOW_GET[size:])
    assert reader.next_head() is not None


def test_nothing_received_is_no_head() -> None:
    reader = RequestReader()
    assert reader.next_head() is None
    reader.receive(b"")
    assert reader.next_head() is None
    assert reader.read_body() is None


def test_blank_lines_before_a_request_are_skipped_up_to_the_limit() -> None:
    limits = ReaderLimits(max_blank_lines=2)
    assert status_of(b"\r\n\r\n" + GET, limits) is None
    assert status_of(b"\r\n\r\n\r\n" + GET, limits) == 400
    assert status_of(b"\r\n\r\n" + GET + b"\r\n\r\n" + GET, limits) is None


def head_of_line(size: int, *, slow: bool) -> bytes:
    line = b"GET /" + b"x" * (size - 14) + b" HTTP/1.1"
    assert len(line) == size
    return line + b"\r\nHost: a\r\n" + (b"TE: x\r\n" if slow else b"") + b"\r\n"


@pytest.mark.parametrize("slow", [False, True])
def test_the_line_limit_is_inclusive_on_both_paths(slow: bool) -> None:
    limits = ReaderLimits(max_line_bytes=100)
    assert status_of(head_of_line(100, slow=slow), limits) is None
    assert status_of(head_of_line(101, slow=slow), limits) == 414
    assert log_of(head_of_line(100, slow=slow), [1] * 200, limits).summary()[-1] == []
    assert status_of(head_of_line(101, slow=slow)[:102], limits) == 414
    assert status_of(head_of_line(100, slow=slow)[:101], limits) is None


@pytest.mark.parametrize("slow", [False, True])
def test_the_head_limit_is_inclusive_on_both_paths(slow: bool) -> None:
    head = head_of_line(100, slow=slow)
    assert status_of(head, ReaderLimits(max_headers_bytes=len(head))) is None
    assert status_of(head, ReaderLimits(max_headers_bytes=len(head) - 1)) == 431
    assert status_of(head[:-1], ReaderLimits(max_headers_bytes=len(head) - 1)) is None
    assert status_of(head[:-1], ReaderLimits(max_headers_bytes=len(head) - 2)) == 431
    assert status_of(b"G" * 60, ReaderLimits(max_headers_bytes=50)) == 431


@pytest.mark.parametrize("extra", [b"X: y\r\n", b"TE: x\r\n"])
def test_the_field_count_is_inclusive_on_both_paths(extra: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + extra + b"A: b\r\n\r\n"
    assert status_of(head, ReaderLimits(max_headers=3)) is None
    assert status_of(head, ReaderLimits(max_headers=2)) == 431


def test_a_content_length_beyond_the_limit_is_413_at_the_head() -> None:
    limits = ReaderLimits(max_body_bytes=5)
    assert status_of(POST, limits) is None
    reader = RequestReader(ReaderLimits(max_body_bytes=4))
    reader.receive(POST)
    with pytest.raises(BodyTooLong) as caught:
        reader.next_head()
    assert (caught.value.status, caught.value.announced_bytes) == (413, 5)
    assert reader.rest() == b"hello"
    assert status_of(POST, ReaderLimits(max_body_bytes=None)) is None


def test_a_chunk_beyond_the_limit_is_413_before_its_data() -> None:
    assert status_of(CHUNKED, ReaderLimits(max_body_bytes=3)) is None
    assert status_of(CHUNKED, ReaderLimits(max_body_bytes=2)) == 413


def test_a_dead_reader_raises_an_equal_error_again() -> None:
    reader = RequestReader(ReaderLimits(max_body_bytes=2))
    reader.receive(CHUNKED)
    assert reader.next_head() is not None
    assert reader.read_body() == b"ab"
    for call in (reader.read_body, reader.read_body, reader.next_head):
        with pytest.raises(BodyTooLong) as caught:
            call()
        assert caught.value.status == 413
    reader.receive(GET)
    with pytest.raises(BodyTooLong):
        reader.next_head()


def test_the_next_head_needs_the_body_to_be_read() -> None:
    reader = RequestReader()
    reader.receive(POST + GET)
    assert reader.next_head() is not None
    with pytest.raises(LocalProtocolError):
        reader.next_head()
    assert reader.read_body() == b"hello"
    assert reader.next_head() is not None


def test_trailers_belong_to_their_message() -> None:
    reader = RequestReader()
    reader.receive(CHUNKED + GET)
    head = reader.next_head()
    assert head is not None
    assert b"T: u" not in RequestHead(*head).block
    assert list(reader.trailers or ()) == []
    assert reader.read_body() == b"abc"
    assert reader.read_body() is None
    assert list(reader.trailers or ()) == [("T", "u")]
    assert reader.next_head() is not None
    assert reader.trailers is None


def test_a_body_that_has_come_with_its_head_is_taken_at_once() -> None:
    reader = RequestReader()
    reader.receive(POST + GET)
    assert reader.next_head() is not None
    with pytest.raises(LocalProtocolError):
        reader.next_head()
    assert reader.whole_body() == b"hello"
    assert reader.whole_body() == b""
    assert reader.read_body() is None
    assert reader.next_head() is not None
    assert reader.whole_body() == b""


def test_a_whole_body_may_be_read_as_any_other() -> None:
    reader = RequestReader()
    reader.receive(POST[:20])
    assert reader.next_head() is None
    assert reader.next_head(POST[20:]) is not None  # the intake is no bytes object then
    body = reader.read_body()
    assert (type(body), body) == (bytes, b"hello")
    assert reader.read_body() is None


@pytest.mark.parametrize("data", [POST[:-1], CHUNKED])
def test_a_body_that_is_not_whole_is_not_taken(data: bytes) -> None:
    reader = RequestReader()
    assert reader.next_head(data) is not None
    assert reader.whole_body() is None
    assert reader.read_body()


@pytest.mark.parametrize(("most", "asked"), [(5, 0), (4, 1)])
def test_a_longer_body_than_any_may_be_is_judged_by_its_own_limits(most: int, asked: int) -> None:
    limits = []
    reader = RequestReader()
    reader.max_whole_bytes = most
    reader.limits_for = lambda head: limits.append(head) or ReaderLimits()
    assert reader.next_head(POST) is not None
    assert len(limits) == asked
    assert (reader.whole_body() is None) == bool(asked)


def test_rest_gives_the_bytes_of_the_next_protocol_away() -> None:
    reader = RequestReader()
    reader.receive(GET.replace(b"\r\n\r\n", b"\r\nUpgrade: x\r\n\r\n") + b"\0raw")
    assert reader.next_head() is not None
    assert reader.buffered == 4
    assert reader.rest() == b"\0raw"
    assert reader.buffered == 0


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"max_headers.*-1"):
        ReaderLimits(max_headers=-1)


def test_next_head_may_receive_its_bytes_itself() -> None:
    reader = RequestReader()
    assert reader.next_head(GET[:9]) is None
    assert reader.next_head(GET[9:] + POST[:9]) is not None
    assert not reader.exhausted
    head = reader.next_head(POST[9:])
    assert head is not None
    assert RequestHead(*head).content_length == 5
    assert reader.read_body() == b"hello"
    assert reader.exhausted
    assert reader.next_head(GET) is not None
    assert reader.next_head() is None


@pytest.mark.parametrize("size", range(1, len(GET)))
@pytest.mark.parametrize("short", [b"GET / HTTP/1.0\r\n\r\n", b"OPTIONS * HTTP/1.0\r\n\r\n"])
def test_a_repeated_head_in_two_pieces_leaves_the_next_one_alone(short: bytes, size: int) -> None:
    data = GET + GET + short + short
    log = log_of(data, [len(GET), size, len(GET) - size])
    assert log.summary() == log_of(data, []).summary()
    assert len(log.seen) == 8


def test_blank_lines_are_counted_anew_for_each_repeated_head() -> None:
    log = Log(ReaderLimits(max_blank_lines=1))
    for _ in range(4):
        log.receive(b"\r\n")
        log.receive(GET)
    assert len(log.seen) == 8
