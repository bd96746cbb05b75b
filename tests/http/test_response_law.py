"""The law of the response fast path: what it accepts, the slow path accepts and reads alike."""

import os
import re

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from evsvc.http.wire.response_head import ResponseHead, judge_response_head, parse_response_head

# Thousands of examples of what other tests go through, too.
pytestmark = pytest.mark.no_cover

LAW = settings(
    max_examples=5000 if os.environ.get("CI") else 500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

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
