"""The fast path alone: what it takes, what it leaves, and that hostile input costs nothing odd."""

import pytest

from evsvc.http.wire.request_head import RequestHead, parse_request_head

LINE = b"GET / HTTP/1.1\r\n"
HOST = b"Host: a\r\n"


def test_a_head_is_taken_apart() -> None:
    data = (
        b"xxPOST /a?b HTTP/1.1\r\nHOST:\t h.example:80 \r\ncontent-length: 007\t\r\n"
        b"Connection: CLOSE\r\nX: \xe9\r\n\r\nrest"
    )
    found = parse_request_head(data, 2)
    assert found is not None
    head, end = found
    assert data[end:] == b"rest"
    assert head == RequestHead(
        method="POST",
        target="/a?b",
        minor=1,
        block=data[data.index(b"HOST") : end - 2],
        content_length=7,
        keep_alive=False,
        host="h.example:80",
        expect_continue=False,
    )
    assert parse_request_head(bytearray(data), 2) == found


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: Keep-Alive\r\n", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
        (b"1.0", b"Connection: close\r\n", False),
    ],
)
def test_keep_alive_is_read(version: bytes, connection: bytes, keep_alive: bool) -> None:
    found = parse_request_head(b"GET / HTTP/%b\r\n%bHost: a\r\n\r\n" % (version, connection))
    assert found is not None
    assert RequestHead(*found[0]).keep_alive is keep_alive


def test_http_1_0_may_lack_a_host() -> None:
    found = parse_request_head(b"GET / HTTP/1.0\r\n\r\n")
    assert found is not None
    head = RequestHead(*found[0])
    assert (head.host, head.minor) == (None, 0)


@pytest.mark.parametrize("port", [b"0", b"80", b"9999", b"60000", b"65535", b"00001"])
def test_a_port_up_to_65535_is_ordinary(port: bytes) -> None:
    assert parse_request_head(LINE + b"Host: a:" + port + b"\r\n\r\n") is not None


@pytest.mark.parametrize("port", [b"65536", b"65540", b"65600", b"66000", b"70000", b"123456", b""])
def test_another_port_is_not(port: bytes) -> None:
    assert parse_request_head(LINE + b"Host: a:" + port + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Upgrade: x",
        b"TE: trailers",
        b"Trailer: x",
        b"Keep-Alive: 5",
        b"Proxy-Connection: close",
        b"Connection: Upgrade",
        b"Connection: close, TE",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length:",
        b"Content-Length: 1234567890123456",
        b"Host: b",
        b"hOsT:",
        b" folded",
        b"X : y",
        b"X: \x01",
        b"X: a\rb",
        b"X: a\nb",
        b"no colon",
        b": y",
        b"",
    ],
)
def test_a_head_with_anything_unusual_is_left_to_the_slow_path(line: bytes) -> None:
    data = LINE + HOST + line + b"\r\nAccept: */*\r\n\r\n"
    found = parse_request_head(data)
    assert found is None or found[1] < len(data)
    assert (found is not None) == (line == b"")


@pytest.mark.parametrize("twice", [b"Host: a", b"Content-Length: 0", b"Connection: close"])
def test_a_steering_field_may_come_once(twice: bytes) -> None:
    host = b"" if twice == b"Host: a" else HOST
    once = LINE + host + twice + b"\r\n"
    assert parse_request_head(once + b"X: y\r\n\r\n") is not None
    assert parse_request_head(once + twice + b"\r\n\r\n") is None
    assert parse_request_head(once + b"X: y\r\n" + twice.upper() + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT /x HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET http://a/ HTTP/1.1",
        b"GET /#f HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\xe9 HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.2",
        b"GET / HTTP/2.0",
        b"GET / http/1.1",
        b"G@T / HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET /",
    ],
)
def test_an_unusual_request_line_is_left_to_the_slow_path(line: bytes) -> None:
    assert parse_request_head(line + b"\r\n" + HOST + b"\r\n") is None


def test_http_1_1_without_host_is_left_to_the_slow_path() -> None:
    assert parse_request_head(LINE + b"X: y\r\n\r\n") is None


def test_every_beginning_of_a_head_is_incomplete() -> None:
    data = LINE + HOST + b"Content-Length: 3\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    assert all(parse_request_head(data[:size]) is None for size in range(len(data)))


@pytest.mark.parametrize(
    "hostile",
    [
        b"G" * 200_000,
        b"GET /" + b"/" * 200_000,
        LINE + b"a:" + b" \t" * 100_000,
        LINE + b"a: \r\n" * 40_000 + b"\r",
        LINE + b"Host: a\r\n" + b"Connection: keep-alive\r\n" * 10_000,
        LINE + b"Host: " + b"a" * 200_000 + b":",
        LINE + b"Content-Length: " + b"1" * 200_000,
        LINE + b"Connection: " + b"\t" * 200_000 + b"x",
        LINE + b"Transfer-Encodin" * 12_000 + b"\r\n\r\n",
        LINE + b"C" * 200_000 + b":",
    ],
)
def test_hostile_heads_are_left_in_linear_time(hostile: bytes) -> None:
    """Quadratic matching of any of these would take minutes."""
    assert parse_request_head(hostile) is None
    assert parse_request_head(hostile + b"\0\r\n\r\n") is None
