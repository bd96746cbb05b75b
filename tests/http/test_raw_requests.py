"""Raw bytes to a server, and what comes back: RFC 9112 and RFC 9110, MUST by MUST.

Each row names the section, sends its bytes, and says every reply in order, and whether the
connection is open afterwards.  It goes in one piece and byte by byte, with the same outcome.  The
tests of the wire say why something is refused; these say what a client sees of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from evsvc.http import ServerRequest
from evsvc.http.wire.status import Method
from tests.http.conftest import Site
from tests.http.peers import Peer

METHODS = (
    Method.EVHTTP_REQ_GET
    | Method.EVHTTP_REQ_HEAD
    | Method.EVHTTP_REQ_POST
    | Method.EVHTTP_REQ_PUT
    | Method.EVHTTP_REQ_DELETE
    | Method.EVHTTP_REQ_OPTIONS
    | Method.EVHTTP_REQ_TRACE
    | Method.EVHTTP_REQ_CONNECT
)
LIMITS = {
    "max_line_bytes": 60,
    "max_headers_bytes": 400,
    "max_headers": 8,
    "max_body_bytes": 32,
    "max_chunk_extension_bytes": 12,
    "max_trailers_bytes": 40,
    "max_blank_lines": 2,
}
MODIFIED_S = 1577836800  # Wed, 01 Jan 2020 00:00:00 GMT


class Row(NamedTuple):
    """What is sent, what comes back, and whether the connection stays open.

    replies: for each "status", or "status body" where the body counts; a "-" behind the status
    says that no body may follow, as for HEAD.
    """

    section: str
    what: str
    data: bytes
    replies: tuple[str, ...]
    stays: bool


ROWS: list[Row] = []


def stays(section: str, what: str, data: bytes, *replies: str) -> None:
    """Add a row whose connection is open afterwards."""
    ROWS.append(Row(section, what, data, replies, True))


def closes(section: str, what: str, data: bytes, *replies: str) -> None:
    """Add a row whose connection the server closes."""
    ROWS.append(Row(section, what, data, replies, False))


def head(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([line, *fields, b"", b""])


def get(*fields: bytes, target: bytes = b"/") -> bytes:
    return head(b"GET %b HTTP/1.1" % target, b"Host: h", *fields)


def post(*fields: bytes, target: bytes = b"/") -> bytes:
    return head(b"POST %b HTTP/1.1" % target, b"Host: h", *fields)


def sized(body: bytes, target: bytes = b"/") -> bytes:
    return post(b"Content-Length: %d" % len(body), target=target) + body


def chunked(*pieces: bytes, target: bytes = b"/") -> bytes:
    return post(b"Transfer-Encoding: chunked", target=target) + b"".join(pieces)


NEXT = get(target=b"/next")
GOT = "200 GET / "
GOT_NEXT = "200 GET /next "

# --- RFC 9112 2.1, 2.2: lines ---------------------------------------------------------------------
stays("9112 2.1", "a head and no body", get(), GOT)
stays("9112 2.1", "no fields but Host, twice", get() + NEXT, GOT, GOT_NEXT)
stays("9112 2.2", "one empty line before the request", b"\r\n" + get(), GOT)
stays("9112 2.2", "as many empty lines as are allowed", b"\r\n" * 2 + get(), GOT)
closes("9112 2.2", "one empty line more", b"\r\n" * 3 + get(), "400")
stays("9112 2.2", "an empty line between requests", get() + b"\r\n" + NEXT, GOT, GOT_NEXT)
stays(
    "9112 2.2",
    "an empty line behind a body",
    sized(b"x") + b"\r\n" + NEXT,
    "200 POST / x",
    GOT_NEXT,
)
closes("9112 2.2", "a bare LF before the request", b"\n" + get(), "400")
closes("9112 2.2", "a bare CR before the request", b"\r" + get(), "400")
closes("9112 2.2", "the request line ends in LF", b"GET / HTTP/1.1\nHost: h\r\n\r\n", "400")
closes("9112 2.2", "a field line ends in LF", b"GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n", "400")
closes("9112 2.2", "the last field line ends in LF", b"GET / HTTP/1.1\r\nHost: h\n\r\n", "400")
closes("9112 2.2", "the empty line is a LF", b"GET / HTTP/1.1\r\nHost: h\r\n\n", "400")
closes("9112 2.2", "LF all over", b"GET / HTTP/1.1\nHost: h\n\n", "400")
closes("9112 2.2", "a bare CR ends the request line", b"GET / HTTP/1.1\rHost: h\r\n\r\n", "400")
closes("9112 2.2", "a bare CR inside a value", get(b"A: b\rc"), "400")
closes("9112 2.2", "a bare CR inside a name", get(b"A\rB: c"), "400")
closes("9112 2.2", "CR CR LF", get(b"A: b\r"), "400")
closes("9112 2.2", "a blank before the first field", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", "400")
closes("9112 2.2", "a TAB before the first field", b"GET / HTTP/1.1\r\n\tHost: h\r\n\r\n", "400")
closes(
    "9112 2.2", "a line of a blank before Host", b"GET / HTTP/1.1\r\n \r\nHost: h\r\n\r\n", "400"
)
closes("9112 2.2", "a NUL before the request", b"\0" + get(), "400")
closes("9112 2.2", "no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400")
closes("9112 2.2", "HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505")
closes("9112 2.2", "HTTP/0.9", b"GET /\r\n", "400")
closes(
    "9112 2.2", "a good request is answered before a bad one", get() + b"bad\r\n\r\n", GOT, "400"
)
closes("9112 2.2", "a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "400")

# --- RFC 9112 2.3: versions -----------------------------------------------------------------------
closes("9112 2.3", "HTTP/1.0", head(b"GET / HTTP/1.0"), GOT)
stays("9112 2.3", "a later minor version", head(b"GET /minor HTTP/1.2", b"Host: h"), "200 1")
stays("9112 2.3", "the latest minor version", head(b"GET /minor HTTP/1.9", b"Host: h"), "200 1")
closes("9112 2.3", "a later minor version without Host", head(b"GET / HTTP/1.2"), "400")
for version, status in [
    (b"HTTP/2.0", "505"), (b"HTTP/0.9", "505"), (b"HTTP/3.1", "505"), (b"HTTP/9.9", "505"),
    (b"HTTP/1.10", "400"), (b"HTTP/01.1", "400"), (b"HTTP/11.1", "400"), (b"HTTP/1.", "400"),
    (b"HTTP/1", "400"), (b"HTTP/.1", "400"), (b"HTTP/1,1", "400"), (b"HTTP/1.1x", "400"),
    (b"HTTP/1.x", "400"), (b"http/1.1", "400"), (b"Http/1.1", "400"), (b"HTTPS/1.1", "400"),
    (b"HTTP 1.1", "400"), (b"HTTP/ 1.1", "400"), (b"HTTP/1 .1", "400"), (b"HTTP/-1.1", "400"),
    (b"HTTP/+1.1", "400"), (b"HTTP/1.\xb9", "400"), (b"FTP/1.1", "400"), (b"SIP/2.0", "400"),
]:  # fmt: skip
    closes("9112 2.3", version.decode("latin-1"), head(b"GET / " + version, b"Host: h"), status)

# --- RFC 9112 3, 3.1: request line and method -----------------------------------------------------
for line in [
    b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET\t/ HTTP/1.1", b"GET /\tHTTP/1.1",
    b"GET / HTTP/1.1 ", b"GET / HTTP/1.1\t", b" GET / HTTP/1.1", b"\tGET / HTTP/1.1",
    b"GET / x HTTP/1.1", b"GET HTTP/1.1", b"GET", b"/ HTTP/1.1", b"GET /HTTP/1.1",
    b"GET\x0b/ HTTP/1.1", b"GET\x0c/ HTTP/1.1", b"GET /\xa0HTTP/1.1", b"GET / HTTP/1.1 HTTP/1.1",
]:  # fmt: skip
    closes("9112 3", repr(line)[2:-1], head(line, b"Host: h"), "400")
for method in [
    b"G(T", b"G,T", b"G/T", b"G:T", b"G@T", b'"GET"', b"G\0T", b"G\xe9T", b"G\x7fT", b"{GET}",
]:  # fmt: skip
    closes("9110 9.1", f"{method!r} is no method", head(method + b" / HTTP/1.1", b"Host: h"), "400")
for method in [
    b"FLOOP", b"get", b"Get", b"GETS", b"GE", b"M-SEARCH", b"!#$%&'*+-.^_`|~", b"G" * 40,
]:  # fmt: skip
    stays(
        "9110 9.1",
        f"{method.decode()} is not known here",
        head(method + b" / HTTP/1.1", b"Host: h") + NEXT,
        "501",
        GOT_NEXT,
    )
closes(
    "9112 3",
    "a line of the longest length",
    get(target=b"/" + b"x" * 46) + b"bad\r\n",
    "200",
    "400",
)
closes("9112 3", "a line that is a byte longer", get(target=b"/" + b"x" * 47), "414")
closes("9112 3", "a method that never ends", b"G" * 61, "414")

# --- RFC 9112 3.2.1: origin-form ------------------------------------------------------------------
for target in [
    b"/a/b", b"/?", b"/?a=b&c", b"//", b"//h/p", b"/a;b=c", b"/%20", b"/%zz", b"/%", b"/..",
    b"/./a", b"/a?b?c", b"/a:b@c", b"/!$&'()*+,;=", b"/[x]", b"/{x}", b"/|", b"/^", b"/`", b'/"',
    b"/<>", b"/\\", b"/~", b"/http://x/",
]:  # fmt: skip
    stays("9112 3.2.1", target.decode(), get(target=target), f"200 GET {target.decode()} ")
for target in [
    b"/#f", b"/a#", b"a", b"", b"?a", b"../a", b"h/p", b"/\x7f", b"/\0", b"/\xe9", b"\\",
]:  # fmt: skip
    closes("9112 3.2", f"{target!r} is no target", get(target=target), "400")

# --- RFC 9112 3.2.2: absolute-form ----------------------------------------------------------------
for target in [b"http://o/host", b"HTTP://o/host", b"https://o/host", b"http://o:80/host"]:
    name = target.split(b"/")[2].decode()
    stays("9112 3.2.2", f"{target.decode()} wins over Host", get(target=target), f"200 {name}")
stays("9112 3.2.2", "a path may be missing", get(target=b"http://o"), "200 GET http://o ")
stays("9112 3.2.2", "a query without a path", get(target=b"http://o?q"), "200 GET http://o?q ")
stays("9112 3.2.2", "an address in brackets", get(target=b"http://[::1]:80/host"), "200 [::1]:80")
closes("9112 3.2.2", "it needs a Host as well", head(b"GET http://o/ HTTP/1.1"), "400")
closes("9112 3.2.2", "in HTTP/1.0, without a Host", head(b"GET http://o/host HTTP/1.0"), "200 o")
for target in [
    b"http:///p", b"http://", b"http:/p", b"http:p", b"http://u@o/", b"http://u:p@o/",
    b"http://o:x/", b"http://o:65536/", b"http://o:-1/", b"http://:80/", b"http://[::1/",
    b"http://o o/", b"ftp://o/", b"http//o/", b"http://o/#f", b"://o/", b"http://[x]/",
    b"http://o\\p/", b"javascript:x", b"http://o%/",
]:  # fmt: skip
    closes("9110 4.2", f"{target!r} is no URI of ours", get(target=target), "400")

# --- RFC 9112 3.2.3, 3.2.4: CONNECT, OPTIONS * ----------------------------------------------------
stays("9112 3.2.3", "CONNECT host:port", head(b"CONNECT o:443 HTTP/1.1", b"Host: o:443"), "405")
stays("9112 3.2.3", "CONNECT [::1]:443", head(b"CONNECT [::1]:443 HTTP/1.1", b"Host: h"), "405")
for target in [
    b"o", b"o:", b":443", b"o:0", b"o:65536", b"/", b"http://o:443", b"http://o:443/", b"u@o:443",
    b"o:443/", b"o:x", b"o:443?q",
]:  # fmt: skip
    line = b"CONNECT %b HTTP/1.1" % target
    closes("9112 3.2.3", f"CONNECT {target.decode()}", head(line, b"Host: h"), "400")
closes("9112 3.2.3", "authority-form is for CONNECT alone", get(target=b"o:443"), "400")
stays("9112 3.2.4", "OPTIONS *", head(b"OPTIONS * HTTP/1.1", b"Host: h"), "200 OPTIONS * ")
stays("9110 9.3.7", "OPTIONS of a path", head(b"OPTIONS / HTTP/1.1", b"Host: h"), "200 OPTIONS / ")
stays(
    "9110 9.3.7",
    "OPTIONS of a path that names its methods",
    head(b"OPTIONS /gets HTTP/1.1", b"Host: h") + NEXT,
    "204-",
    GOT_NEXT,
)
for method in [b"GET", b"HEAD", b"POST", b"CONNECT", b"TRACE"]:
    what = f"* is no target for {method.decode()}"
    replies = "400-" if method == b"HEAD" else "400"
    closes("9112 3.2.4", what, head(method + b" * HTTP/1.1", b"Host: h"), replies)
closes("9112 3.2.4", "OPTIONS **", head(b"OPTIONS ** HTTP/1.1", b"Host: h"), "400")

# --- RFC 9112 3.2, RFC 9110 7.2: Host -------------------------------------------------------------
for host in [
    b"h", b"example.com", b"example.com:80", b"EXAMPLE.com", b"127.0.0.1", b"127.0.0.1:8080",
    b"[::1]", b"[::1]:80", b"[fe80::1]", b"[v1.x]", b"h:", b"a_b", b"%41", b"h:065", b"", b"a.b.",
    b"-", b"!$&'()*+;=",
]:  # fmt: skip
    data = head(b"GET /host HTTP/1.1", b"Host: " + host)
    stays("9110 7.2", f"Host: {host.decode()}", data, f"200 {host.decode()}")
for host in [
    b"h:x", b"h:65536", b"h:-1", b":80", b"a b", b"u@h", b"h/", b"h/p", b"http://h", b"h?", b"h#",
    b"[::1", b"::1", b"[::1]x", b"[h]", b"h:80:80", b"%4", b"%zz", b"a\\b", b'"h"', b"<h>",
    b"h\xe9", b"h\t2", b"[fe80::1%25eth0]", b"h:80 ,h", b"h:8 0", b"[::1]:x", b"[]", b"h:123456",
]:  # fmt: skip
    data = head(b"GET / HTTP/1.1", b"Host: " + host)
    closes("9112 3.2", f"Host: {host!r} is none", data, "400")
closes("9112 3.2", "no Host", head(b"GET / HTTP/1.1"), "400")
closes("9112 3.2", "no Host, but other fields", head(b"GET / HTTP/1.1", b"A: b"), "400")
closes("9112 3.2", "two that differ", head(b"GET / HTTP/1.1", b"Host: a", b"Host: b"), "400")
closes("9112 3.2", "two that agree", head(b"GET / HTTP/1.1", b"Host: a", b"host: a"), "400")
closes(
    "9112 3.2", "two, of which one is empty", head(b"GET / HTTP/1.1", b"Host:", b"Host: a"), "400"
)
closes("9112 3.2", "a bad one in HTTP/1.0", head(b"GET / HTTP/1.0", b"Host: a b"), "400")
closes("9112 3.2", "two in HTTP/1.0", head(b"GET / HTTP/1.0", b"Host: a", b"Host: a"), "400")
closes("9112 3.2", "one in HTTP/1.0", head(b"GET /host HTTP/1.0", b"Host: a"), "200 a")
stays("9112 3.2", "it need not come first", head(b"GET / HTTP/1.1", b"A: b", b"hOST:h"), GOT)
closes("9112 3.2", "X-Host is no Host", head(b"GET / HTTP/1.1", b"X-Host: h"), "400")

# --- RFC 9112 5, RFC 9110 5: fields ---------------------------------------------------------------
for line, value in [
    (b"A: b", "b"), (b"A:b", "b"), (b"A:  b", "b"), (b"A:\tb\t", "b"), (b"A: b  ", "b"),
    (b"A:", ""), (b"A: ", ""), (b"a: b", "b"), (b"A: b c\td", "b c\td"), (b"A: b: c", "b: c"),
    (b"A: :", ":"), (b"A: \xe9\xff", "\xe9\xff"), (b'A: "q, \\" x"', '"q, \\" x"'),
    (b"A: (c)", "(c)"), (b"A: ,", ","), (b"A: \x80", "\x80"), (b"A: b\r\nA: c", "b|c"),
    (b"A: b\r\na: b", "b|b"), (b"A: {}[]<>@\\", "{}[]<>@\\"),
]:  # fmt: skip
    stays("9110 5.5", f"{line!r}", get(line, target=b"/field"), f"200 {value}")
for name in [b"!#$%&'*+-.^_`|~", b"0", b"X_Y", b"x" * 100]:
    stays("9110 5.6.2", f"{name!r} is a name", get(name + b": b"), GOT)
for line in [
    b"A : b", b"A\t: b", b" A: b", b"\tA: b", b": b", b"A", b"A b: c", b"A(: b", b"A,B: c",
    b"A/B: c", b"A;B: c", b"A=B: c", b"A@B: c", b"A[: b", b"A\\: b", b'"A": b', b"A{: b",
    b"\xe9: b", b"A\0: b", b"A\x7f: b", b"A<: b", b"=", b" ", b"\xef\xbb\xbfA: b",
]:  # fmt: skip
    closes("9112 5.1", f"{line!r} is no field", get(line), "400")
for control in [0, 1, 7, 8, 11, 12, 14, 27, 31, 127]:
    line = b"A: b" + bytes([control]) + b"c"
    closes("9110 5.5", f"{control:#04x} in a value", get(line), "400")
closes("9112 5.2", "a folded line", get(b"A: b", b" c"), "400")
closes("9112 5.2", "a line that is folded with TAB", get(b"A: b", b"\tc"), "400")
closes("9112 5.2", "a folded Host", head(b"GET / HTTP/1.1", b"Host:", b" h"), "400")
closes("9112 5.2", "a folded Transfer-Encoding", post(b"Transfer-Encoding:", b" chunked"), "400")
closes("9112 5.2", "a blank line that is none", get(b"A: b", b" ", b"C: d"), "400")
closes(
    "9110 5.4", "as many fields as are allowed", get(*[b"A: b"] * 7) + b"bad\r\n\r\n", GOT, "400"
)
closes("9110 5.4", "one field more", get(*[b"A: b"] * 8), "431")
closes("9110 5.4", "the longest head", get(b"A: " + b"b" * 368) + b"bad\r\n\r\n", GOT, "400")
closes("9110 5.4", "a byte longer", get(b"A: " + b"b" * 369), "431")
closes("9110 5.4", "a head that never ends", get()[:-2] + b"A: " + b"b" * 400, "431")

# --- RFC 9110 8.6, RFC 9112 6.2: Content-Length ---------------------------------------------------
for length in [b"1", b"01", b"0000000000000001", b"1 ", b"\t1"]:
    data = post(b"Content-Length: " + length) + b"x" + NEXT
    stays("9110 8.6", f"Content-Length: {length!r}", data, "200 POST / x", GOT_NEXT)
for length in [
    b"", b" ", b"+1", b"-1", b"-0", b"0x1", b"1.0", b"1e0", b"1,", b",1", b"1, 1", b"1,1", b"1, 2",
    b"1 1", b'"1"', b"one", b"1;", b"1_0", b"\xb2", b"\xd9\xa1", b"99999999999999999999", b"1\x0b",
    b"#1", b"(1)",
]:  # fmt: skip
    data = post(b"Content-Length: " + length) + b"x"
    closes("9112 6.3", f"Content-Length: {length!r} is none", data, "400")
for lines in [
    (b"Content-Length: 1", b"Content-Length: 1"), (b"Content-Length: 1", b"content-length: 2"),
    (b"Content-Length: 0", b"Content-Length: 1"), (b"Content-Length:", b"Content-Length: 1"),
]:  # fmt: skip
    closes("9112 6.3", f"{lines!r}", post(*lines) + b"x", "400")
stays("9112 6.3", "no length is no body", post() + NEXT, "200 POST / ", GOT_NEXT)
stays("9110 8.6", "of nothing", sized(b"") + NEXT, "200 POST / ", GOT_NEXT)
stays(
    "9110 9.3.1",
    "a GET with a body",
    get(b"Content-Length: 1") + b"x" + NEXT,
    "200 GET / x",
    GOT_NEXT,
)
stays(
    "9110 9.3.5",
    "a DELETE with a body",
    head(b"DELETE / HTTP/1.1", b"Host: h", b"Content-Length: 1") + b"x",
    "200 DELETE / x",
)
stays(
    "9110 9.3.2",
    "a HEAD with a body",
    head(b"HEAD / HTTP/1.1", b"Host: h", b"Content-Length: 1") + b"x" + NEXT,
    "200-",
    GOT_NEXT,
)
stays(
    "9112 6.3",
    "a body that looks like a request",
    sized(b"GET / HTTP/1.1\r\n\r\n") + NEXT,
    "200 POST / GET / HTTP/1.1\r\n\r\n",
    GOT_NEXT,
)
stays("9110 8.6", "the longest body", sized(b"x" * 32), "200 POST / " + "x" * 32)
closes("9110 15.5.14", "a longer body", post(b"Content-Length: 33"), "413")
closes("9110 15.5.14", "a far longer body", post(b"Content-Length: 9999999999999999999"), "413")

# --- RFC 9112 6.1: Transfer-Encoding --------------------------------------------------------------
END = b"0\r\n\r\n"
for coding in [b"chunked", b"Chunked", b"CHUNKED", b" chunked ", b"\tchunked\t"]:
    data = post(b"Transfer-Encoding:" + coding) + END + NEXT
    stays("9112 6.1", f"Transfer-Encoding:{coding!r}", data, "200 POST / ", GOT_NEXT)
stays(
    "9112 6.1", "on a GET", get(b"Transfer-Encoding: chunked") + b"1\r\nx\r\n" + END, "200 GET / x"
)
for coding, status in [
    (b"gzip, chunked", "501"), (b"x, chunked", "501"), (b"deflate, gzip, chunked", "501"),
    (b"gzip", "400"), (b"identity", "400"), (b"", "400"), (b"chunked, gzip", "400"),
    (b"xchunked", "400"), (b"chunkedx", "400"), (b"chunked, chunked", "400"),
    (b"chunked, identity", "400"), (b"chunke", "400"), (b'"chunked"', "400"),
    (b"chunked;q=1", "400"), (b"chunked x", "400"), (b"\x0bchunked", "400"),
    (b"chunked\x0b", "400"), (b",chunked", "400"), (b"chunked,", "400"), (b"chunked;", "400"),
    (b"identity, chunked", "501"), (b"'chunked'", "400"), (b"chun\xeb", "400"),
]:  # fmt: skip
    data = post(b"Transfer-Encoding: " + coding) + END
    closes("9112 6.1", f"Transfer-Encoding: {coding!r}", data, status)
TE = b"Transfer-Encoding: chunked"
closes("9112 6.1", "twice", post(TE, TE) + END, "400")
closes(
    "9112 6.1",
    "gzip, and chunked in its own line",
    post(b"Transfer-Encoding: gzip", TE) + END,
    "501",
)
closes(
    "9112 6.1",
    "chunked, and gzip in its own line",
    post(TE, b"Transfer-Encoding: gzip") + END,
    "400",
)
closes("9112 6.3", "with a Content-Length before", post(b"Content-Length: 5", TE) + END, "400")
closes("9112 6.3", "with a Content-Length behind", post(TE, b"Content-Length: 5") + END, "400")
closes("9112 6.3", "with a Content-Length of 0", post(TE, b"Content-Length: 0") + END, "400")
closes(
    "9112 6.3", "with a Content-Length that is none", post(TE, b"Content-Length: x") + END, "400"
)
closes(
    "9112 6.3",
    "of gzip with a Content-Length",
    post(b"Transfer-Encoding: gzip", b"Content-Length: 5"),
    "400",
)
closes("9112 6.1", "in HTTP/1.0", head(b"POST / HTTP/1.0", TE) + END, "400")
closes(
    "9112 6.1",
    "in HTTP/1.0 to be kept",
    head(b"POST / HTTP/1.0", TE, b"Connection: keep-alive") + END,
    "400",
)
closes(
    "9112 5.1", "with a blank before the colon", post(b"Transfer-Encoding : chunked") + END, "400"
)
stays(
    "9112 6.1",
    "X-Transfer-Encoding is another",
    post(b"X-Transfer-Encoding: chunked") + NEXT,
    "200 POST / ",
    GOT_NEXT,
)
stays(
    "9112 6.1",
    "Transfer_Encoding is another",
    post(b"Transfer_Encoding: chunked") + NEXT,
    "200 POST / ",
    GOT_NEXT,
)

# --- RFC 9112 7.1: chunks -------------------------------------------------------------------------
for pieces, body in [
    ((b"3\r\nabc\r\n", END), "abc"), ((b"1\r\na\r\n", b"2\r\nbc\r\n", END), "abc"),
    ((b"03\r\nabc\r\n", END), "abc"), ((b"0000000000000003\r\nabc\r\n", END), "abc"),
    ((b"a\r\n0123456789\r\n", END), "0123456789"), ((b"A\r\n0123456789\r\n", END), "0123456789"),
    ((b"2\r\n\r\n\r\n", END), "\r\n"), ((b"5\r\n0\r\n\r\n\r\n", END), "0\r\n\r\n"),
    ((b"00\r\n\r\n",), ""), ((b"1\r\nx\r\n", b"000\r\n\r\n"), "x"),
    ((b"20\r\n" + b"x" * 32 + b"\r\n", END), "x" * 32),
]:  # fmt: skip
    data = chunked(*pieces) + NEXT
    stays("9112 7.1", f"{b''.join(pieces)!r}", data, f"200 POST / {body}", GOT_NEXT)
for pieces_ in [
    b"x\r\n", b"\r\n", b" 1\r\nx\r\n", b"\t1\r\nx\r\n", b"1 \r\nx\r\n", b"-1\r\n", b"+1\r\nx\r\n",
    b"0x1\r\nx\r\n", b"1h\r\nx\r\n", b"1_0\r\n", b"1,0\r\n", b"1.\r\nx\r\n", b"g\r\n", b"\xb2\r\n",
    b"1\nx\r\n", b"1\rx\r\n", b"1\r\nx\n0\r\n\r\n", b"1\r\nxy\r\n", b"1\r\nx0\r\n\r\n",
    b"1\r\nx\r0\r\n", b"1\r\nx\r\r\n", b"3\r\nab\r\n0\r\n", b"00000000000000001\r\nx\r\n",
    b"\0\r\n", b"1\0\r\n", b"0\n\n", b"0\r\n\n", b"0\n\r\n", b"1\r\r\nx\r\n", b";a\r\n",
]:  # fmt: skip
    closes("9112 7.1", f"{pieces_!r}", chunked(pieces_), "400")
for size in [b"21", b"ffffffff", b"7fffffffffffffff", b"8000000000000000", b"ffffffffffffffff"]:
    closes("9110 15.5.14", f"a chunk of {size.decode()}", chunked(size + b"\r\n"), "413")
closes(
    "9110 15.5.14", "chunks that sum to more", chunked(b"20\r\n" + b"x" * 32 + b"\r\n1\r\n"), "413"
)

# --- RFC 9112 7.1.1: extensions -------------------------------------------------------------------
for extension in [
    b";a", b";a=b", b' ; a = "b c"', b"\t;a", b';a="\\""', b';a="\r"'.replace(b"\r", b";"), b";a;b",
    b';a=""', b";a=0;b=1;c", b';a="\xe9"', b";!~",
]:  # fmt: skip
    data = chunked(b"1" + extension + b"\r\nx\r\n", END) + NEXT
    stays("9112 7.1.1", f"{extension!r} is ignored", data, "200 POST / x", GOT_NEXT)
stays("9112 7.1.1", "on the last chunk", chunked(b"0;a=b\r\n\r\n") + NEXT, "200 POST / ", GOT_NEXT)
for extension in [
    b";", b";;", b";=b", b";a=", b';a="', b';a="b', b';a="b"c', b";a b", b"; ", b" a", b" ",
    b";a\n", b";a\0", b";a\r", b";(", b";a=b=c", b';a="\x7f"', b";\xe9",
]:  # fmt: skip
    data = chunked(b"1" + extension + b"\r\nx\r\n", END)
    closes("9112 7.1.1", f"{extension!r} is none", data, "400")
stays(
    "9112 7.1.1", "as long as is allowed", chunked(b"0;" + b"a" * 11 + b"\r\n\r\n"), "200 POST / "
)
closes("9112 7.1.1", "a byte longer", chunked(b"0;" + b"a" * 12 + b"\r\n\r\n"), "400")
closes(
    "9112 7.1.1",
    "longer, all chunks together",
    chunked(b"1;" + b"a" * 5 + b"\r\nx\r\n0;" + b"a" * 6 + b"\r\n\r\n"),
    "400",
)
closes("9112 7.1.1", "one that never ends", chunked(b"1;" + b"a" * 64), "400")

# --- RFC 9112 7.1.2, RFC 9110 6.5: trailers -------------------------------------------------------
for trailers, seen in [
    (b"A: b\r\n", "A=b"), (b"A:b\r\nC:\td \r\n", "A=b C=d"), (b"A:\r\n", "A="),
    (b"A: b\r\nA: c\r\n", "A=b A=c"), (b"X-Length: 5\r\n", "X-Length=5"),
]:  # fmt: skip
    data = chunked(b"0\r\n", trailers, b"\r\n", target=b"/trailers") + NEXT
    stays("9112 7.1.2", f"{trailers!r}", data, f"200 {seen}", GOT_NEXT)
stays(
    "9110 6.5.1",
    "a trailer is not merged into the header",
    chunked(b"0\r\nA: b\r\n\r\n", target=b"/field"),
    "200 ",
)
for trailers in [
    b"A : b\r\n", b" A: b\r\n", b"A\r\n", b": b\r\n", b"A: b\r\n c\r\n", b"A: b\nC: d\r\n",
    b"A: \0\r\n", b"A: b\rc\r\n", b"A: \x01\r\n", b"A\xe9: b\r\n", b"A: b\r\n\n",
    b"GET / HTTP/1.1\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Host: h\r\n",
]:  # fmt: skip
    closes("9110 6.5.1", f"{trailers!r} is none", chunked(b"0\r\n", trailers, b"\r\n"), "400")
stays(
    "9110 6.5",
    "the longest trailers",
    chunked(b"0\r\n", b"A:" + b"b" * 34, b"\r\n\r\n"),
    "200 POST / ",
)
closes("9110 6.5", "a byte longer", chunked(b"0\r\n", b"A:" + b"b" * 35, b"\r\n\r\n"), "431")
stays(
    "9110 6.5", "as many as are allowed", chunked(b"0\r\n", b"A:\r\n" * 8, b"\r\n"), "200 POST / "
)
closes("9110 6.5", "one more", chunked(b"0\r\n", b"A:\r\n" * 9, b"\r\n"), "431")

# --- RFC 9112 9.3, 9.6: persistence ---------------------------------------------------------------
for option in [
    b"close", b"Close", b"CLOSE", b"x, close", b"close, x", b"keep-alive, close", b",close,",
    b" close\t",
]:  # fmt: skip
    closes("9112 9.6", f"Connection: {option!r}", get(b"Connection: " + option) + NEXT, GOT)
for option in [
    b"keep-alive", b"Keep-Alive", b"x", b"", b"xclose", b"closex", b"close-x", b"TE", b"clo se",
    b'"close"',
]:  # fmt: skip
    data = get(b"Connection: " + option) + NEXT
    stays("9112 9.3", f"Connection: {option!r}", data, GOT, GOT_NEXT)
closes(
    "9110 7.6.1",
    "close in the second line",
    get(b"Connection: x", b"Connection: close") + NEXT,
    GOT,
)
closes(
    "9110 7.6.1", "close in the first line", get(b"Connection: close", b"Connection: x") + NEXT, GOT
)
closes(
    "9112 9.3",
    "close wins over keep-alive",
    get(b"Connection: close", b"Connection: keep-alive") + NEXT,
    GOT,
)
stays(
    "9112 9.3",
    "Proxy-Connection says nothing",
    get(b"Proxy-Connection: close") + NEXT,
    GOT,
    GOT_NEXT,
)
closes("9112 9.3", "HTTP/1.0 ends", head(b"GET / HTTP/1.0", b"Host: h") + NEXT, GOT)
closes(
    "9112 9.3",
    "HTTP/1.0 with another option",
    head(b"GET / HTTP/1.0", b"Connection: x") + NEXT,
    GOT,
)
stays(
    "9112 9.3",
    "HTTP/1.0 that is to be kept",
    head(b"GET / HTTP/1.0", b"Connection: Keep-Alive") + NEXT,
    GOT,
    GOT_NEXT,
)
stays(
    "9112 9.3",
    "it is one of a list",
    head(b"GET / HTTP/1.0", b"Connection: x, keep-alive") + NEXT,
    GOT,
    GOT_NEXT,
)
closes(
    "9112 9.3",
    "HTTP/1.0 with both",
    head(b"GET / HTTP/1.0", b"Connection: keep-alive, close") + NEXT,
    GOT,
)
stays(
    "9112 9.3",
    "a body, and HTTP/1.0 that is to be kept",
    head(b"POST / HTTP/1.0", b"Connection: keep-alive", b"Content-Length: 1") + b"x" + NEXT,
    "200 POST / x",
    GOT_NEXT,
)
closes(
    "9112 9.6",
    "close behind a body",
    post(b"Connection: close", b"Content-Length: 1") + b"x" + NEXT,
    "200 POST / x",
)
closes(
    "9112 9.6", "close behind chunks", post(b"Connection: close", TE) + END + NEXT, "200 POST / "
)

# --- RFC 9112 9.3.2: pipelines --------------------------------------------------------------------
stays("9112 9.3.2", "twenty", NEXT * 20, *[GOT_NEXT] * 20)
stays(
    "9112 9.3.2",
    "of all kinds",
    sized(b"x") + chunked(b"1\r\ny\r\n", END) + get(),
    "200 POST / x",
    "200 POST / y",
    GOT,
)
stays(
    "9112 9.3.2",
    "one that is refused by its path",
    get(target=b"/gets") + post(target=b"/gets") + NEXT,
    "200 GET /gets ",
    "405",
    GOT_NEXT,
)
closes("9112 9.3.2", "nothing behind a fault is read", get() + get(b"A : b") + NEXT, GOT, "400")
closes(
    "9112 9.3.2", "nothing behind close is read", get(b"Connection: close") + b"bad\r\n\r\n", GOT
)
closes("9112 9.3.2", "a fault within a body", get() + chunked(b"1\r\nxy"), GOT, "400")

# --- RFC 9110 10.1.1: Expect ----------------------------------------------------------------------
EXPECT = b"Expect: 100-continue"
stays(
    "9110 10.1.1",
    "a body that came along",
    post(EXPECT, b"Content-Length: 1") + b"x" + NEXT,
    "200 POST / x",
    GOT_NEXT,
)
stays("9110 10.1.1", "nothing to continue with", post(EXPECT) + NEXT, "200 POST / ", GOT_NEXT)
stays(
    "9110 10.1.1",
    "a length of 0",
    post(EXPECT, b"Content-Length: 0") + NEXT,
    "200 POST / ",
    GOT_NEXT,
)
closes(
    "9110 10.1.1",
    "HTTP/1.0 gets no 100",
    head(b"POST / HTTP/1.0", EXPECT, b"Content-Length: 1") + b"x",
    "200 POST / x",
)
closes("9110 10.1.1", "HTTP/1.0 may ask for anything", head(b"GET / HTTP/1.0", b"Expect: x"), GOT)
for value in [
    b"x", b"100", b"100-continue, x", b"100-continue=1", b"200-ok", b'"100-continue"',
    b"100-continuex",
]:  # fmt: skip
    data = post(b"Expect: " + value, b"Content-Length: 1")
    closes("9110 10.1.1", f"Expect: {value.decode()}", data, "417")
closes(
    "9110 10.1.1", "too long a body is not asked for", post(EXPECT, b"Content-Length: 33"), "413"
)
stays(
    "9110 10.1.1",
    "a method that is not known needs no body",
    head(b"FLOOP / HTTP/1.1", b"Host: h", EXPECT) + NEXT,
    "501",
    GOT_NEXT,
)

# --- RFC 9110 9.3, 9.1: methods -------------------------------------------------------------------
stays(
    "9110 9.3.2", "HEAD has no body", head(b"HEAD / HTTP/1.1", b"Host: h") + NEXT, "200-", GOT_NEXT
)
stays(
    "9110 9.3.2",
    "HEAD of an error has none",
    head(b"HEAD /error HTTP/1.1", b"Host: h") + NEXT,
    "503-",
    GOT_NEXT,
)
stays(
    "9110 9.3.2",
    "HEAD of a stream has none",
    head(b"HEAD /stream HTTP/1.1", b"Host: h") + NEXT,
    "200-",
    GOT_NEXT,
)
closes(
    "9110 9.3.2", "HEAD with a bad field", head(b"HEAD / HTTP/1.1", b"Host: h", b"A : b"), "400-"
)
closes("9110 9.3.2", "HEAD without a Host", head(b"HEAD / HTTP/1.1"), "400-")
stays("9110 9.3.8", "TRACE", head(b"TRACE / HTTP/1.1", b"Host: h"), "200 TRACE / ")
closes(
    "9110 9.3.8",
    "TRACE with a body",
    head(b"TRACE / HTTP/1.1", b"Host: h", b"Content-Length: 1") + b"x",
    "400",
)
closes("9110 9.3.8", "TRACE with chunks", head(b"TRACE / HTTP/1.1", b"Host: h", TE) + END, "400")
stays(
    "9110 15.5.6",
    "a path that takes GET",
    head(b"PUT /gets HTTP/1.1", b"Host: h") + NEXT,
    "405",
    GOT_NEXT,
)
stays(
    "9110 9.3.2",
    "GET brings HEAD along",
    head(b"HEAD /gets HTTP/1.1", b"Host: h") + NEXT,
    "200-",
    GOT_NEXT,
)
closes(
    "9110 15.6.2",
    "501 to a body",
    head(b"FLOOP / HTTP/1.1", b"Host: h", b"Content-Length: 9") + NEXT,
    "501",
)
closes(
    "9110 15.6.2", "501 to chunks", head(b"FLOOP / HTTP/1.1", b"Host: h", TE) + END + NEXT, "501"
)
stays("9110 15.3.5", "204 has no body", get(target=b"/204") + NEXT, "204-", GOT_NEXT)
stays("9110 15.4.5", "304 has no body", get(target=b"/304") + NEXT, "304-", GOT_NEXT)
stays(
    "9112 7.1", "a stream comes in chunks", get(target=b"/stream") + NEXT, "200 a stream", GOT_NEXT
)
closes(
    "9112 6.3",
    "HTTP/1.0 gets a stream up to the end",
    head(b"GET /stream HTTP/1.0"),
    "200 a stream",
)
closes(
    "9112 7.1",
    "and is not kept",
    head(b"GET /stream HTTP/1.0", b"Connection: keep-alive") + NEXT,
    "200 a stream",
)
stays(
    "9110 7.8",
    "an Upgrade that is not known",
    get(b"Connection: upgrade", b"Upgrade: h2c") + NEXT,
    GOT,
    GOT_NEXT,
)
stays(
    "9110 7.8",
    "an Upgrade that Connection does not name",
    get(b"Upgrade: websocket") + NEXT,
    GOT,
    GOT_NEXT,
)
closes(
    "9110 7.8",
    "an Upgrade in HTTP/1.0",
    head(b"GET / HTTP/1.0", b"Connection: upgrade", b"Upgrade: x"),
    GOT,
)
stays("9110 10.1.4", "TE: trailers", get(b"TE: trailers", b"Connection: TE") + NEXT, GOT, GOT_NEXT)
stays(
    "9110 7.6.2",
    "Max-Forwards",
    head(b"OPTIONS * HTTP/1.1", b"Host: h", b"Max-Forwards: 0"),
    "200 OPTIONS * ",
)
stays("9110 5.1", "a field that is not known", get(b"Frobnicate: 1") + NEXT, GOT, GOT_NEXT)

# --- RFC 9110 13, 14: files that the server serves ------------------------------------------------
FILE = b"/files/f"


def file(*fields: bytes) -> bytes:
    return get(*fields, target=FILE)


stays("9110 8.8", "a file", file() + NEXT, "200 0123456789", GOT_NEXT)
stays(
    "9110 9.3.2",
    "HEAD of a file",
    head(b"HEAD /files/f HTTP/1.1", b"Host: h") + NEXT,
    "200-",
    GOT_NEXT,
)
for ranges, answer in [
    (b"bytes=0-0", "206 0"), (b"bytes=0-4", "206 01234"), (b"bytes=5-", "206 56789"),
    (b"bytes=-3", "206 789"), (b"bytes=-99", "200 0123456789"), (b"bytes=8-99", "206 89"),
    (b"BYTES=1-1", "206 1"), (b"bytes=9-9", "206 9"), (b"bytes=10-", "416"),
    (b"bytes=99-100", "416"), (b"bytes=-0", "416"), (b"lines=0-1", "200 0123456789"),
    (b"bytes", "200 0123456789"), (b"bytes=", "200 0123456789"), (b"bytes=a-b", "200 0123456789"),
    (b"bytes=4-2", "200 0123456789"), (b"bytes=-", "200 0123456789"),
    (b"bytes=1", "200 0123456789"), (b"bytes=+1-2", "200 0123456789"),
    (b"bytes=0x1-2", "200 0123456789"), (b"bytes=1-2;", "200 0123456789"),
]:  # fmt: skip
    stays(
        "9110 14.2", f"Range: {ranges.decode()}", file(b"Range: " + ranges) + NEXT, answer, GOT_NEXT
    )
stays(
    "9110 14.2",
    "Range is for GET",
    head(b"HEAD /files/f HTTP/1.1", b"Host: h", b"Range: bytes=0-0"),
    "200-",
)
for field, answer in [
    (b"If-None-Match: @ETAG@", "304-"), (b"If-None-Match: *", "304-"),
    (b'If-None-Match: "x"', "200 0123456789"), (b'If-None-Match: "x", @ETAG@', "304-"),
    (b"If-None-Match: W/@ETAG@", "304-"), (b"If-Match: @ETAG@", "200 0123456789"),
    (b"If-Match: *", "200 0123456789"), (b'If-Match: "x"', "412"), (b"If-Match: W/@ETAG@", "412"),
    (b"If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT", "304-"),
    (b"If-Modified-Since: Tue, 31 Dec 2019 23:59:59 GMT", "200 0123456789"),
    (b"If-Modified-Since: Wednesday, 01-Jan-20 00:00:00 GMT", "304-"),
    (b"If-Modified-Since: Wed Jan  1 00:00:00 2020", "304-"),
    (b"If-Modified-Since: yesterday", "200 0123456789"),
    (b"If-Modified-Since: 1577836800", "200 0123456789"),
    (b"If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT", "200 0123456789"),
    (b"If-Unmodified-Since: Tue, 31 Dec 2019 23:59:59 GMT", "412"),
    (b"If-Unmodified-Since: yesterday", "200 0123456789"),
    (b'If-None-Match: "x"\r\nIf-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT', "200 0123456789"),
    (b"If-Match: @ETAG@\r\nIf-Unmodified-Since: Tue, 31 Dec 2019 23:59:59 GMT", "200 0123456789"),
    (b"If-None-Match: @ETAG@\r\nRange: bytes=0-0", "304-"),
    (b"If-Match: @ETAG@\r\nRange: bytes=0-0", "206 0"),
    (b"If-Range: @ETAG@\r\nRange: bytes=0-0", "206 0"),
    (b'If-Range: "x"\r\nRange: bytes=0-0', "200 0123456789"),
    (b"If-Range: W/@ETAG@\r\nRange: bytes=0-0", "200 0123456789"),
    (b"If-Range: Wed, 01 Jan 2020 00:00:00 GMT\r\nRange: bytes=0-0", "206 0"),
    (b"If-Range: Thu, 02 Jan 2020 00:00:00 GMT\r\nRange: bytes=0-0", "200 0123456789"),
    (b"If-Range: @ETAG@", "200 0123456789"),
    (b'If-Range: "x"\r\nRange: bytes=99-', "200 0123456789"),
]:  # fmt: skip
    stays("9110 13", field.decode(), file(field) + NEXT, answer, GOT_NEXT)
for target in [
    b"/files/..", b"/files/../f", b"/files/%2e%2e/f", b"/files/f/", b"/files/none", b"/files/%00",
    b"/files/f%00",
]:  # fmt: skip
    stays("9110 17.3", target.decode(), get(target=target) + NEXT, "404", GOT_NEXT)
stays("9110 15.5.6", "a file takes no POST", sized(b"x", target=FILE) + NEXT, "405", GOT_NEXT)


def answer(got: ServerRequest, arg: object) -> None:
    """Say what was asked for, at some paths what is behind it."""
    path = got.path
    if got.method == "CONNECT":
        got.send_error(405)
    elif path == "/stream":
        got.send_reply_start(200)
        got.send_reply_chunk(b"a str")
        got.send_reply_chunk(b"eam")
        got.send_reply_end()
    elif path == "/error":
        got.send_error(503)
    elif path == "/early":
        got.send_information(103, ("Link", "</a.css>; rel=preload"))
        got.send_reply(200, None, described(got, path).encode("latin-1"))
    elif path in ("/204", "/304"):
        got.send_reply(int(path[1:]))
    else:
        got.send_reply(200, None, described(got, path).encode("latin-1"))


def described(got: ServerRequest, path: str | None) -> str:
    if path == "/host":
        return got.host or ""
    if path == "/minor":
        return str(got.minor)
    if path == "/field":
        return "|".join(got.input_headers.get_all("A"))
    if path == "/trailers":
        return " ".join(f"{name}={value}" for name, value in got.trailers or ())
    return f"{got.method} {got.uri} {bytes(got.input_buffer).decode('latin-1')}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of a known age."""
    folder = tmp_path_factory.mktemp("tree")
    (folder / "f").write_bytes(b"0123456789")
    os.utime(folder / "f", (MODIFIED_S, MODIFIED_S))
    return folder


@pytest.fixture
def raw(serve: Callable[..., Site], tree: Path) -> Site:
    """The server of this table."""
    site = serve(answer, allowed_methods=METHODS, **LIMITS)
    site.server.set_cb("/gets", answer, methods=["GET"])
    site.server.serve_directory("/files/", tree)
    return site


def replies_of(peer: Peer, wanted: tuple[str, ...]) -> list[str]:
    """All replies there are, in the form of `Row.replies`: as much of each as `wanted` has."""
    found: list[str] = []
    peer.take()
    for each in wanted:
        silent = each[3:] == "-"
        while peer.received.startswith(b"HTTP/1.1 100 "):  # the body has not come at once
            assert peer.read_head()[1] == []
        message = peer.read_message(has_body=not silent, to_end=True)
        text = f"{message.status}"
        if silent:
            text += "-"
        elif " " in each:
            text += " " + message.body.decode("latin-1")
        found.append(text)
    return found


def send_whole(peer: Peer, data: bytes) -> None:
    peer.send(data)


def send_bytewise(peer: Peer, data: bytes) -> None:
    """Who has asked for the end, and sends on, meets a connection that is closed."""
    with suppress(ConnectionError):
        peer.send_bytewise(data)
    peer.settle()


@pytest.mark.parametrize("send", [send_whole, send_bytewise])
@pytest.mark.parametrize("row", [pytest.param(row, id=f"{row.section} {row.what}") for row in ROWS])
def test_raw_bytes_get_what_the_rfc_says(
    raw: Site, row: Row, send: Callable[[Peer, bytes], Any]
) -> None:
    data = row.data
    if b"@ETAG@" in data:
        etag = raw.connect().get(FILE.decode()).field("ETag")
        assert etag is not None
        data = data.replace(b"@ETAG@", etag.encode())
    peer = raw.connect()
    send(peer, data)
    assert replies_of(peer, row.replies) == list(row.replies)
    assert peer.is_open() == row.stays
    assert peer.received == b"", "there is more than was to come"
    assert send is send_bytewise or not peer.was_reset


def test_the_table_is_large_and_no_row_is_there_twice() -> None:
    assert len({row.data for row in ROWS}) == len(ROWS) >= 200
