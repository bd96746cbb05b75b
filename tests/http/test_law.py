"""The law of the request fast path: what it accepts, the slow path accepts and reads alike.

Heads are generated from a grammar of ordinary ones and then mutated.  Whole pipelines, with bodies
and trailers, are read alike on both paths, in whatever pieces they come, and as h11 reads them.
CI sets the environment variable `CI` and gets ten times as many examples.
"""

import os
import re
from itertools import pairwise
from typing import NamedTuple
from unittest import mock

import h11
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from evsvc.http.errors import RemoteProtocolError
from evsvc.http.wire import request_reader
from evsvc.http.wire.headers import Headers
from evsvc.http.wire.request_head import Head, RequestHead, judge_request_head, parse_request_head
from evsvc.http.wire.request_reader import RequestReader

# Thousands of examples of what other tests go through, too.
pytestmark = pytest.mark.no_cover

LAW = settings(
    max_examples=5000 if os.environ.get("CI") else 500,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# A pipeline is several heads, each read three times.
LAW_OF_MESSAGES = settings(LAW, max_examples=1000 if os.environ.get("CI") else 300)

VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.10"]
STEERING = [
    [],
    [b"Connection: close"],
    [b"connection:keep-alive\t"],
    [b"Content-Length: 5"],
    [b"CONTENT-LENGTH:\t007 ", b"Connection: Keep-Alive"],
]
METHODS = [
    b"GET",
    b"HEAD",
    b"POST",
    b"DELETE",
    b"M-SEARCH",
    b"get",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
]
HOSTS = [
    b"a", b"example.com", b"127.0.0.1:8080", b"h:0", b"h:65535", b"..", b"h:65536",
    b"h:99999", b"h:",
    b"h:x", b"[::1]", b"[::1]:80", b"", b":80", b"a b", b"a,b", b"u@h", b"h/", b"a_b", b"h:080",
    b"%41", b"h:123456", b"h:60000", b"-",
]  # fmt: skip
ORDINARY = [
    b"Accept: */*", b"User-Agent: x/1.0 (y; z)", b"Cookie: a=b; c=d", b"Cache-Control: no-cache",
    b"Upgrade-Insecure-Requests: 1", b"Content-Type: text/plain", b"If-None-Match: \"x\"",
    b"X: ", b"x:", b"X-Obs: \xe9\xff", b"Tea: 1", b"Hosts: h", b"Connections: close", b"Te-x: 1",
    b"Content-Length-X: 5", b"Pragma:no-cache", b"Trailers: x", b"Keep-Alives: 1", b"X:\ty\t ",
]  # fmt: skip
SPECIAL = [
    b"Content-Length: 5", b"content-length:0", b"Content-Length: 007", b"Content-Length: +5",
    b"Content-Length: 5, 5", b"Content-Length: -1", b"Content-Length: ", b"Content-Length: 0x5",
    b"Content-Length: 1234567890123456789", b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"TRANSFER-ENCODING: x",
    b"Connection: close", b"Connection: keep-alive", b"connection: Keep-Alive, TE",
    b"Connection: CLOSE", b"Connection:", b"Connection: close, close", b"Connection: xclose",
    b"Expect: 100-continue", b"Expect: 100-CONTINUE", b"Expect: x", b"Upgrade: websocket",
    b"TE: trailers", b"Trailer: x", b"Keep-Alive: 5", b"Proxy-Connection: close",
    b"Host : a", b" folded", b"\tfolded", b"no colon", b": empty", b"X\x00: y", b"X: \x00",
    b"X: a\rb", b"X: a\nb", b"X: \x01", b"X: \x7f", b"X: \x0b", b"X(: y", b"\xe9: y",
]  # fmt: skip

ordinary_targets = st.one_of(
    st.sampled_from([b"/", b"/index.html?q=1&r=%20", b"//x", b"/%zz"]),
    st.binary(max_size=6).map(lambda noise: b"/" + bytes(0x24 + byte % 0x5B for byte in noise)),
)
targets = ordinary_targets | st.sampled_from([b"*", b"http://h/", b"h:443", b"/#f", b"", b"x"])
BLANKS = [b" ", b" ", b"", b"\t ", b"   "]


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head whose parts are all ordinary, or one whose parts may be anything."""
    ordinary = draw(st.booleans())
    fields = draw(
        st.lists(st.sampled_from(ORDINARY if ordinary else ORDINARY + SPECIAL), max_size=5)
    )
    if ordinary:
        fields += draw(st.sampled_from(STEERING))
    for _ in range(1 if ordinary else draw(st.sampled_from([0, 1, 1, 1, 2]))):
        name = draw(st.sampled_from([b"Host", b"host", b"HOST"]))
        value = draw(st.sampled_from(HOSTS[:6] if ordinary else HOSTS))
        host = name + b":" + draw(st.sampled_from(BLANKS)) + value + draw(st.sampled_from(BLANKS))
        fields.insert(draw(st.integers(0, len(fields))), host)
    method = draw(st.sampled_from(METHODS[:7] if ordinary else METHODS))
    target = draw(ordinary_targets if ordinary else targets)
    version = draw(st.sampled_from(VERSIONS[:2] if ordinary else VERSIONS))
    return b"\r\n".join([b"%b %b %b" % (method, target, version), *fields, b"", b""])


FRAGMENTS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\x80", b"#", b"a", b"0", b",", b"\r\n\r\n",
    b"\r\n ", b"\x0b", b"\x7f", b"/", b"%", b"Host: b\r\n", b"Content-Length: 3\r\n",
]  # fmt: skip
mutations = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "replace", "double"]),
        st.integers(0, 400),
        st.sampled_from(FRAGMENTS),
    ),
    max_size=2,
)


def mutated(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, where, fragment in changes:
        at = where % (len(data) + 1)
        if kind == "double":  # the whole line
            end = data.find(b"\r\n", at) + 2
            start = data.rfind(b"\r\n", 0, at) + 2 if b"\r\n" in data[:at] else 0
            data = data[:end] + data[start:end] + data[end:]
            continue
        removed = 0 if kind == "insert" else 1
        data = data[:at] + (b"" if kind == "delete" else fragment) + data[at + removed :]
    return data


def h11_fields(head: bytes) -> list[tuple[str, str]]:
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(head)
    request = judge.next_event()
    assert isinstance(request, h11.Request)
    return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers.raw_items()]


def uphold_law(data: bytes) -> RequestHead | None:
    found = parse_request_head(data, 0)
    if found is None:
        return None
    head, end = RequestHead(*found[0]), found[1]
    ending = re.search(rb"\r\n\r\n", data)
    assert ending is not None
    assert ending.end() == end
    assert judge_request_head(data[:end]) == head
    assert list(Headers.from_block(head.block)) == h11_fields(data[:end])
    return head


@LAW
@given(heads(), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"\0"]))
def test_grammatical_heads_are_read_alike_on_both_paths(head: bytes, behind: bytes) -> None:
    event("fast" if uphold_law(head + behind) else "slow")


@LAW
@given(heads(), mutations)
def test_mutated_heads_are_read_alike_on_both_paths(
    head: bytes, changes: list[tuple[str, int, bytes]]
) -> None:
    event("fast" if uphold_law(mutated(head, changes)) else "slow")


@LAW
@given(st.binary(max_size=40), st.integers(0, 60))
def test_random_bytes_in_a_good_head_are_read_alike_on_both_paths(noise: bytes, at: int) -> None:
    good = b"POST /x HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\nA: b\r\n\r\n"
    event("fast" if uphold_law(good[:at] + noise + good[at:]) else "slow")


class Read(NamedTuple):
    """A message as a reader saw it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]


def read_by_ours(data: bytes, cuts: list[int]) -> tuple[list[Read], int | None]:
    """All whole messages in `data`, which comes cut at `cuts`, and the status of a fault."""
    reader = RequestReader()
    found: list[Read] = []
    head: Head | None = None
    body = b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    try:
        for start, end in pairwise(edges):
            arrived = data[start:end]
            if head is not None:
                reader.receive(arrived)
                arrived = b""
            while head is not None or (head := reader.next_head(arrived)) is not None:
                arrived = b""
                piece = reader.read_body()
                if piece:
                    body += piece
                elif piece is None:
                    method, target, _, block, *_ = head
                    fields = list(Headers.from_block(block))
                    trailers = list(reader.trailers or ())
                    found.append(Read(method, target, fields, body, trailers))
                    head, body = None, b""
                else:
                    break
    except RemoteProtocolError as fault:
        return found, fault.status
    return found, None


def read_by_h11(data: bytes) -> list[Read]:
    """All whole messages in `data`, up to a fault."""
    found: list[Read] = []
    while data := data.lstrip(b"\r\n"):  # empty lines are skipped before a request
        judge = h11.Connection(h11.SERVER)
        judge.receive_data(data)
        head, body = None, b""
        try:
            while type(event := judge.next_event()) is not h11.EndOfMessage:
                if type(event) is h11.Request:
                    head = event
                elif type(event) is h11.Data:
                    body += event.data
                else:
                    return found
        except h11.RemoteProtocolError:
            return found
        assert head is not None
        method, target = head.method.decode(), head.target.decode()
        found.append(Read(method, target, texts(head.headers), bytes(body), texts(event.headers)))
        data = judge.trailing_data[0]
    return found


def texts(headers: h11._headers.Headers) -> list[tuple[str, str]]:
    return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers.raw_items()]


SOME_DATA = [b"x", b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0\xff\n", b"y" * 40]
TRAILERS = [b"A: b", b"X-Sum:\t1 ", b"x:", b"A: c", b"E: \xe9"]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A good request with a body of either framing, or none."""
    fields = draw(
        st.lists(st.sampled_from([*ORDINARY, b"TE: trailers", b"Trailer: A"]), max_size=3)
    )
    fields.append(b"Host: h")
    pieces = draw(st.lists(st.sampled_from(SOME_DATA), max_size=4))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    body = b""
    if framing == "length":
        body = b"".join(pieces)
        fields.append(b"Content-Length: %d" % len(body))
    elif framing == "chunked":
        fields.append(
            draw(st.sampled_from([b"Transfer-Encoding: chunked", b"TRANSFER-ENCODING:\tchunked "]))
        )
        extension = draw(st.sampled_from([b"", b"", b";a", b";a=b", b';a="b;c"']))
        for piece in pieces:
            size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(piece)
            body += size + extension + b"\r\n" + piece + b"\r\n"
        trailers = draw(st.lists(st.sampled_from(TRAILERS), max_size=3))
        body += b"".join(line + b"\r\n" for line in [b"0" + extension, *trailers, b""])
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"M-SEARCH"]))
    target = draw(ordinary_targets)
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *fields, b"", b""]) + body


# h11 refuses them, and a recipient MUST accept them (RFC 9112 7.1.1).
_BLANKS_AT_EXTENSION = re.compile(rb"[ \t][;=]|[;=][ \t]").search

pipelines = st.lists(messages(), min_size=1, max_size=3)
cuts = st.lists(st.integers(0, 2000), max_size=4)


def uphold_law_of_messages(data: bytes, cuts: list[int]) -> tuple[list[Read], int | None]:
    read = read_by_ours(data, cuts)
    assert read_by_ours(data, []) == read
    with mock.patch.object(request_reader, "parse_request_head", return_value=None):
        assert read_by_ours(data, cuts) == read
    return read


@LAW_OF_MESSAGES
@given(pipelines, cuts)
def test_bodies_and_trailers_are_read_alike_on_both_paths_and_by_h11(
    requests: list[bytes], cuts: list[int]
) -> None:
    found, status = uphold_law_of_messages(b"".join(requests), cuts)
    assert status is None
    assert len(found) == len(requests)
    assert found == read_by_h11(b"".join(requests))


@LAW_OF_MESSAGES
@given(pipelines, mutations, cuts)
def test_mutated_bodies_and_trailers_are_read_alike_and_never_more_than_h11_reads(
    requests: list[bytes], changes: list[tuple[str, int, bytes]], cuts: list[int]
) -> None:
    data = mutated(b"".join(requests), changes)
    found, status = uphold_law_of_messages(data, cuts)
    event(f"{len(found)} of {len(requests)}, {status}")
    judged = read_by_h11(data)
    assert found[: len(judged)] == judged[: len(found)]
    assert len(found) <= len(judged) or _BLANKS_AT_EXTENSION(data)


CURL = (
    b"GET /a?b=c HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"
)
CHROMIUM = (
    b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n"
    b"Cache-Control: max-age=0\r\nUpgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    b"Chrome/120.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\n"
    b'sec-ch-ua: "Chromium";v="120"\r\nAccept-Encoding: gzip, deflate, br\r\n'
    b'Accept-Language: en-US,en;q=0.9\r\nCookie: a=b; c=d\r\nIf-None-Match: "x"\r\n\r\n'
)
FIREFOX = (
    b"POST /form HTTP/1.1\r\nHost: www.example.com:60443\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0\r\n"
    b"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 11\r\nOrigin: http://www.example.com\r\nConnection: keep-alive\r\n"
    b"Referer: http://www.example.com/form\r\nSec-GPC: 1\r\n\r\n"
)
WRK = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
AB = (
    b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: h\r\n"
    b"User-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n"
)
REQUESTS = (
    b"PUT /x HTTP/1.1\r\nHost: localhost:59999\r\nUser-Agent: python-requests/2.31.0\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n"
    b"Content-Length: 3\r\n\r\n"
)


@pytest.mark.parametrize(
    ("data", "length", "keep_alive"),
    [
        pytest.param(CURL, 0, True, id="curl"),
        pytest.param(CHROMIUM, 0, True, id="chromium"),
        pytest.param(FIREFOX, 11, True, id="firefox"),
        pytest.param(WRK, 0, True, id="wrk"),
        pytest.param(AB, 0, True, id="ab"),
        pytest.param(REQUESTS, 3, True, id="requests"),
    ],
)
def test_what_common_clients_send_takes_the_fast_path(
    data: bytes, length: int, keep_alive: bool
) -> None:
    head = uphold_law(data)
    assert head is not None
    assert (head.content_length, head.keep_alive) == (length, keep_alive)
