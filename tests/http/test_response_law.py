"""The law of the response fast path: what it accepts, the slow path accepts and reads alike.

Whole responses, with bodies and trailers, are read alike on both paths, in whatever pieces they
come, and as h11 reads them.
"""

import os
import re
from itertools import pairwise
from unittest import mock

import h11
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from evsvc.http.errors import HttpError
from evsvc.http.wire import response_reader
from evsvc.http.wire.response_head import ResponseHead, judge_response_head, parse_response_head
from evsvc.http.wire.response_reader import ResponseReader

# Thousands of examples of what other tests go through, too.
pytestmark = pytest.mark.no_cover

LAW = settings(
    max_examples=5000 if os.environ.get("CI") else 500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# A response is read three times, and once by h11.
LAW_OF_MESSAGES = settings(LAW, max_examples=1500 if os.environ.get("CI") else 300)

STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 204 ",
    b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 999 \xe9t\xe9", b"HTTP/1.1 200", b"HTTP/1.1 099 x",
    b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 x", b"HTTP/2.0 200 OK", b"HTTP/1.2 200 OK",
    b"HTTP/1.1  200 OK", b"HTTP/1.1 200 a\0b", b"HTTP/1.1 2000 OK", b"HTTP/1.1 200 \t ",
]  # fmt: skip
FIELDS = [
    b"Content-Length: 5", b"content-length:0", b"Content-Length: 5, 5", b"Content-Length: +5",
    b"Content-Length: -100", b"Content-Length:", b"Transfer-Encoding: chunked",
    b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade", b"Connection:",
    b"Keep-Alive: timeout=5", b"Upgrade: h2c", b"Trailer: x", b"Server: x", b"Date: now",
    b"Content-Type: text/html", b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"X:\ty\t", b"X: \xe9",
    b" folded", b"X: \x01", b"no colon", b"X : y", b"Content-Length-X: 5", b"Transfer: x", b"T: 1",
]  # fmt: skip
ORDINARY = [b"Keep-Alive: timeout=5", b"Server: x", b"X:\ty\t", b"T: 1", b"X: \xe9", b"C: d"]
FRAGMENTS = [b"\r\n", b"\n", b"\r", b" ", b":", b"\0", b"\x80", b"0", b"Content-Length: 5\r\n"]
METHODS = ["GET", "HEAD", "CONNECT", "POST"]


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head whose parts are all ordinary, or one whose parts may be anything."""
    ordinary = draw(st.booleans())
    line = draw(st.sampled_from(STATUS_LINES[:6] if ordinary else STATUS_LINES))
    fields = draw(st.lists(st.sampled_from(ORDINARY if ordinary else FIELDS), max_size=5))
    if ordinary:
        framing = [*FIELDS[:2], b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked"]
        fields.insert(draw(st.integers(0, len(fields))), draw(st.sampled_from(framing)))
        fields += draw(st.sampled_from([[], [b"Connection: close"], [b"connection:Keep-Alive\t"]]))
    data = b"\r\n".join([line, *fields, b"", b""])
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(FRAGMENTS)) + data[at + draw(st.integers(0, 1)) :]
    return data


def uphold_law(data: bytes, method: str) -> ResponseHead | None:
    found = parse_response_head(data, 0, method)
    if found is None:
        return None
    head, end = found
    ending = re.search(rb"\n\r?\n", data)
    assert ending is not None
    assert ending.end() == end
    assert judge_response_head(data[:end], method) == head
    return head


@LAW
@given(heads(), st.sampled_from(METHODS))
def test_response_heads_are_read_alike_on_both_paths(data: bytes, method: str) -> None:
    event("fast" if uphold_law(data, method) else "slow")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(
            b"HTTP/1.1 200 OK\r\nServer: nginx/1.24.0\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
            b"Content-Type: text/html\r\nContent-Length: 615\r\nLast-Modified: x\r\n"
            b'Connection: keep-alive\r\nETag: "x"\r\nAccept-Ranges: bytes\r\n\r\n',
            id="nginx",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nDate: x\r\nServer: Apache\r\nContent-Length: 2\r\n"
            b"Keep-Alive: timeout=5, max=100\r\nConnection: Keep-Alive\r\n\r\n",
            id="apache",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: x\r\nConnection: keep-alive\r\n"
            b"Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n",
            id="node",
        ),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nServer: nginx\r\nETag: x\r\n\r\n", id="304"),
        pytest.param(b"HTTP/1.0 404 File not found\r\nContent-Length: 9\r\n\r\n", id="http.server"),
    ],
)
def test_what_common_servers_send_takes_the_fast_path(data: bytes) -> None:
    assert uphold_law(data, "GET") is not None


Read = tuple[int, bytes, list[tuple[str, str]]]


def read_by_ours(data: bytes, method: str, cuts: list[int]) -> Read | None:
    """Status, body and trailers of a response on a connection that ends behind it."""
    reader = ResponseReader()
    reader.expect(method)
    head, body = None, b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for start, end in pairwise(edges):
            reader.receive(data[start:end])
            if end == len(data):
                reader.receive_eof()
            while head is not None or (head := reader.next_head()) is not None:
                piece = reader.read_body()
                if piece is None:
                    return head[0], body, list(reader.trailers or ())
                if not piece:
                    break
                body += piece
    except HttpError:
        return None
    return None


def read_by_h11(data: bytes, method: str) -> Read | None:
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    reader.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        reader.receive_data(data)
        while type(event := reader.next_event()) is not h11.EndOfMessage:
            if event is h11.NEED_DATA:
                reader.receive_data(b"")
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError:
        return None
    trailers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in event.headers.raw_items()]
    return status, bytes(body), trailers


SOME_DATA = [b"x", b"\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\0\xff\n", b"y" * 40]
TRAILERS = [b"A: b", b"X-Sum:\t1 ", b"x:", b"E: \xe9"]


# h11 refuses them, and a recipient MUST accept them (RFC 9112 7.1.1), or may well (padded sizes).
_BLANKS_AT_SIZE = re.compile(rb"[ \t][;=\r]|[;=][ \t]").search


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """A good response with a body of any framing."""
    fields = draw(st.lists(st.sampled_from(ORDINARY), max_size=3))
    pieces = draw(st.lists(st.sampled_from(SOME_DATA), max_size=4))
    framing = draw(st.sampled_from(["length", "chunked", "end"]))
    body = b"".join(pieces)
    if framing == "length":
        fields.append(b"Content-Length: %d" % len(body))
    elif framing == "chunked":
        fields.append(
            draw(st.sampled_from([b"Transfer-Encoding: chunked", b"TRANSFER-ENCODING:chunked"]))
        )
        body = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        body += b"\r\n".join(
            [b"0", *draw(st.lists(st.sampled_from(TRAILERS), max_size=3)), b"", b""]
        )
    line = draw(st.sampled_from(STATUS_LINES[:3]))
    if framing == "chunked":
        line = line.replace(b"1.0", b"1.1")
    return b"\r\n".join([line, *fields, b"", b""]) + body


@LAW_OF_MESSAGES
@given(responses(), st.sampled_from(["GET", "POST"]), st.lists(st.integers(0, 500), max_size=4))
def test_bodies_and_trailers_are_read_alike_on_both_paths_and_by_h11(
    data: bytes, method: str, cuts: list[int]
) -> None:
    found = read_by_ours(data, method, cuts)
    assert found is not None
    assert read_by_ours(data, method, []) == found
    with mock.patch.object(response_reader, "parse_response_head", return_value=None):
        assert read_by_ours(data, method, cuts) == found
    assert found == read_by_h11(data, method)


@LAW_OF_MESSAGES
@given(responses(), st.integers(0, 500), st.sampled_from(FRAGMENTS), st.lists(st.integers(0, 500)))
def test_broken_bodies_and_trailers_are_read_as_h11_reads_them_or_not_at_all(
    data: bytes, at: int, fragment: bytes, cuts: list[int]
) -> None:
    at %= len(data) + 1
    data = data[:at] + fragment + data[at:]
    found = read_by_ours(data, "GET", cuts)
    assert read_by_ours(data, "GET", []) == found
    if found is not None and found != read_by_h11(data, "GET"):
        assert _BLANKS_AT_SIZE(data)
        assert read_by_h11(data, "GET") is None
