"""RFC 9112 MUST by MUST: what a request must not be, and the status that answers it."""

import pytest

from evsvc.http.errors import RemoteProtocolError
from evsvc.http.wire import request_head
from evsvc.http.wire.request_head import CHUNKED, RequestHead, judge_request_head
from evsvc.http.wire.request_reader import RequestReader


def read(line: bytes, *fields: bytes, host: bool = True) -> RequestHead:
    """Read one head through the reader, whichever path takes it."""
    reader = RequestReader()
    fields = (b"Host: a", *fields) if host else fields
    reader.receive(b"\r\n".join([line, *fields, b"", b""]))
    head = reader.next_head()
    assert head is not None
    return RequestHead(*head)


def status_of(line: bytes, *fields: bytes, host: bool = True) -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        read(line, *fields, host=host)
    return caught.value.status


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"illegal request", 400),
        (b"GET /", 400),
        (b"GET", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET /  HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET / HTTP/1.1\t", 400),
        (b"GET / HTTP/1.10", 400),
        (b"GET / HTTP/11", 400),
        (b"GET / HTTP/1", 400),
        (b"GET / HTTP/1.", 400),
        (b"GET / HTTP/.1", 400),
        (b"GET / HTTP/01.1", 400),
        (b"GET / HTTP/-1.1", 400),
        (b"GET / HTTP/ 1.1", 400),
        (b"GET / HTTP/1,1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTQ/1.1", 400),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"GET / HTTP/9.9", 505),
        (b"G@T / HTTP/1.1", 400),
        (b"G\xc9T / HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET /\xe9 HTTP/1.1", 400),
        (b"GET /\x01 HTTP/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /#f HTTP/1.1", 400),
        (b"GET x HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET ?q HTTP/1.1", 400),
        (b"GET a:80 HTTP/1.1", 400),
        (b"GET http:///x HTTP/1.1", 400),
        (b"GET http://:80/ HTTP/1.1", 400),
        (b"GET http://u@h/ HTTP/1.1", 400),
        (b"GET http://h:x/ HTTP/1.1", 400),
        (b"GET http://h:65536/ HTTP/1.1", 400),
        (b"GET http://[::1/ HTTP/1.1", 400),
        (b"GET http://h\\x/ HTTP/1.1", 400),
        (b"GET http://h/#f HTTP/1.1", 400),
        (b"GET http:h HTTP/1.1", 400),
        (b"GET ftp://h/ HTTP/1.1", 400),
        (b"CONNECT / HTTP/1.1", 400),
        (b"CONNECT h HTTP/1.1", 400),
        (b"CONNECT h: HTTP/1.1", 400),
        (b"CONNECT h:0 HTTP/1.1", 400),
        (b"CONNECT :80 HTTP/1.1", 400),
        (b"CONNECT h:80/ HTTP/1.1", 400),
        (b"CONNECT http://h:80 HTTP/1.1", 400),
        (b"CONNECT h:99999 HTTP/1.1", 400),
    ],
)
def test_a_bad_request_line_is_refused(line: bytes, status: int) -> None:
    assert status_of(line) == status


@pytest.mark.parametrize(
    ("line", "host"),
    [
        (b"GET http://b.example:8080/x?y HTTP/1.1", "b.example:8080"),
        (b"GET HTTPS://b HTTP/1.1", "b"),
        (b"GET http://b?q HTTP/1.1", "b"),
        (b"GET http://[::1]:80/ HTTP/1.1", "[::1]:80"),
        (b"OPTIONS http://b:1 HTTP/1.1", "b:1"),
        (b"OPTIONS * HTTP/1.1", "a"),
        (b"OPTIONS / HTTP/1.1", "a"),
        (b"CONNECT h:443 HTTP/1.1", "a"),
        (b"CONNECT [::1]:443 HTTP/1.1", "a"),
        (b"GET //x HTTP/1.1", "a"),
        (b"get / HTTP/1.1", "a"),
    ],
)
def test_each_form_of_target_names_its_host(line: bytes, host: str) -> None:
    head = read(line)
    method, target, _ = line.decode().split(" ")
    assert (head.method, head.target, head.host, head.minor) == (method, target, host, 1)


def test_a_higher_minor_version_is_read_as_1_1() -> None:
    assert read(b"GET / HTTP/1.9").minor == 1
    assert status_of(b"GET / HTTP/1.2", host=False) == 400


@pytest.mark.parametrize(
    "value",
    [
        b"a b", b"u@h", b"h/", b"h?", b"h#", b"h:x", b"h:-1", b"h:65536", b"h:1:2", b":80", b"[::1",
        b"::1", b"[::1]x", b"[]", b"[::g]", b"[::1%25lo]", b"%zz", b"%4", b"a\\b", b'"a"', b"\xe9",
        b"a<b", b"http://a", b"h:123456", b"a\tb",
    ],
)  # fmt: skip
@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"GET http://b/ HTTP/1.1"])
def test_an_invalid_host_is_refused(line: bytes, value: bytes) -> None:
    assert status_of(line, b"Host: " + value, host=False) == 400


@pytest.mark.parametrize(
    "value",
    [b"", b"h:", b"[::1]", b"[::1]:80", b"[v1.x]", b"%41", b"a,b", b"1.2.3", b"a_b", b"h:065"],
)
def test_a_valid_host_is_taken_as_sent(value: bytes) -> None:
    assert read(b"GET / HTTP/1.1", b"Host: " + value, host=False).host == value.decode()


def test_a_host_is_needed_in_http_1_1_and_never_twice() -> None:
    assert status_of(b"GET / HTTP/1.1", host=False) == 400
    assert status_of(b"GET http://h/ HTTP/1.1", host=False) == 400
    assert status_of(b"GET / HTTP/1.1", b"Host: a") == 400
    assert status_of(b"GET / HTTP/1.0", b"host: a") == 400
    assert read(b"GET / HTTP/1.0", host=False).host is None
    assert read(b"GET http://h/ HTTP/1.0", host=False).host == "h"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], 400),
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400),
        ([b"Content-Length: 5", b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: gzip"], 400),
        ([b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: xchunked"], 400),
        ([b"Transfer-Encoding: chunkedx"], 400),
        ([b"Transfer-Encoding: chunked, gzip"], 400),
        ([b"Transfer-Encoding: chunked, chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], 400),
        ([b"Transfer-Encoding: chunked;q=1"], 400),
        ([b'Transfer-Encoding: "chunked"'], 400),
        ([b"Transfer-Encoding: chunked,"], 400),
        ([b"Transfer-Encoding: ,chunked"], 400),
        ([b"Transfer-Encoding:"], 400),
        ([b"Transfer-Encoding: \x0bchunked"], 400),
        ([b"Transfer-Encoding : chunked"], 400),
        ([b"Transfer-Encoding: ch\xfcnked"], 400),
        ([b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], 501),
        ([b"Transfer-Encoding: identity, chunked"], 501),
        ([b"Content-Length: +5"], 400),
        ([b"Content-Length: -1"], 400),
        ([b"Content-Length: 5 5"], 400),
        ([b"Content-Length: 5,5"], 400),
        ([b"Content-Length: 5", b"Content-Length: 5"], 400),
        ([b"Content-Length: 5", b"Content-Length: 6"], 400),
        ([b"Content-Length:"], 400),
        ([b"Content-Length: 0x5"], 400),
        ([b"Content-Length: 5.0"], 400),
        ([b"Content-Length: 1e1"], 400),
        ([b"Content-Length: 1_0"], 400),
        ([b"Content-Length: \xb2"], 400),
        ([b"Content-Length: \xd9\xa5"], 400),
        ([b"Content-Length: 5;"], 400),
        ([b"Content-Length: " + b"9" * 20], 400),
        ([b"Content-Length: " + b"9" * 5000], 400),
        ([b"Content-Length : 5"], 400),
        ([b"Content-Length: 9999999999999999999"], 413),
    ],
)
def test_a_framing_that_two_readers_might_read_differently_is_refused(
    fields: list[bytes], status: int
) -> None:
    assert status_of(b"POST / HTTP/1.1", *fields) == status


def test_transfer_encoding_is_refused_in_http_1_0() -> None:
    assert status_of(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked") == 400


@pytest.mark.parametrize("value", [b"chunked", b"CHUNKED", b" \tchunked \t"])
def test_chunked_alone_is_read(value: bytes) -> None:
    assert read(b"POST / HTTP/1.1", b"Transfer-Encoding:" + value).content_length == CHUNKED


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"X-EXTENSION"])
def test_any_method_but_trace_may_have_a_body(method: bytes) -> None:
    assert read(method + b" / HTTP/1.1", b"Content-Length: 3").content_length == 3


def test_a_trace_request_has_no_body() -> None:
    assert status_of(b"TRACE / HTTP/1.1", b"Content-Length: 3") == 400
    assert status_of(b"TRACE / HTTP/1.1", b"Transfer-Encoding: chunked") == 400
    assert read(b"TRACE / HTTP/1.1", b"Content-Length: 0").content_length == 0


@pytest.mark.parametrize(
    "field",
    [
        b"X : y", b"X\t: y", b"no colon", b": y", b"X(: y", b"X\x00: y", b"X: a\x00b", b"X: a\rb",
        b"X: a\r", b"\rX: y", b"X: a\nb", b"X: \x01", b"X: \x0b", b"X: \x0c", b"X: \x1b",
        b"X: \x7f",
        b"\xe9: y", b"X y: z", b'"X": y', b" folded", b"\tfolded", b"\x0bX: y", b" ", b"{X}: y",
        b"X: y\r\n folded", b"X: y\r\n\tfolded", b"X/Y: z", b"X\r: z", b"[]: x", b"@: x",
    ],
)  # fmt: skip
def test_a_malformed_field_line_is_refused(field: bytes) -> None:
    assert status_of(b"GET / HTTP/1.1", field) == 400
    assert status_of(b"GET / HTTP/1.1", b"A: b", field, b"C: d") == 400


def test_white_space_before_the_first_field_is_refused() -> None:
    assert status_of(b"GET / HTTP/1.1", b" Host: a", host=False) == 400


@pytest.mark.parametrize("value", [b"\xe9\xff", b"a \t b", b"", b'"quoted, text"'])
def test_legal_values_pass(value: bytes) -> None:
    assert value in read(b"GET / HTTP/1.1", b"X: " + value, b"TE: trailers").block


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        (b"1.1", [b"Expect: 100-continue"], True),
        (b"1.1", [b"expect: 100-CONTINUE"], True),
        (b"1.1", [b"Expect:"], False),
        (b"1.0", [b"Expect: 100-continue"], False),
        (b"1.0", [b"Expect: magic"], False),
    ],
)
def test_an_expectation_is_read_in_http_1_1_only(
    version: bytes, fields: list[bytes], expected: bool
) -> None:
    assert read(b"PUT / HTTP/" + version, *fields).expect_continue is expected


@pytest.mark.parametrize("value", [b"101-continue", b"100-continue, x", b"100-continue=1"])
def test_an_unknown_expectation_is_417(value: bytes) -> None:
    assert status_of(b"PUT / HTTP/1.1", b"Expect: " + value) == 417


@pytest.mark.parametrize(
    ("version", "values", "expected"),
    [
        (b"1.1", [b"Upgrade, close"], False),
        (b"1.1", [b"keep-alive", b"close"], False),
        (b"1.1", [b"Upgrade"], True),
        (b"1.0", [b"Upgrade, Keep-Alive"], True),
        (b"1.0", [b"keep-alive", b"close"], False),
        (b"1.0", [b"TE"], False),
    ],
)
def test_connection_is_one_list_over_all_lines(
    version: bytes, values: list[bytes], expected: bool
) -> None:
    lines = [b"Connection: " + value for value in values]
    assert read(b"GET / HTTP/" + version, *lines).keep_alive is expected


def test_an_empty_head_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        judge_request_head(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n", 400),
    ],
)
def test_h11_judges_by_itself_should_our_checks_miss_a_fault(head: bytes, status: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        request_head._ask_h11(head)
    assert caught.value.status == status
