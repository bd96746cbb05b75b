"""Which replies are compressed, and what they say of themselves then."""

from __future__ import annotations

import gzip
import zlib

import pytest

from evsvc.core import ArgumentError, EvBuffer
from evsvc.http import (
    CompressionOptions,
    DirectoryOptions,
    EventStreamOptions,
    HttpServer,
    LocalProtocolError,
)
from evsvc.http.server.compression import DEFAULT_TYPES
from evsvc.http.wire.codings import decoder
from tests.http.peers import request

TEXT = b"".join(b"line %d of a page\n" % number for number in range(300))
ALL = "Accept-Encoding: gzip, deflate, br, zstd"


def unpacked(reply):
    """The body of a reply, as its client reads it."""
    stream = decoder(reply.field("Content-Encoding") or "identity")
    data = stream.decode(reply.body)
    stream.finish()
    return data


@pytest.fixture
def packing(serve):
    """Return `packing(cb, **options)`: a site that compresses."""

    def start(cb, **options):
        site = serve(lambda got, arg: cb(got))
        site.server.set_compression(CompressionOptions(**options))
        return site

    return start


@pytest.fixture
def reply_to(packing):
    """Return `reply_to(*lines, fields=(), body=TEXT, code=200, method="GET", **options)`."""

    def ask(*lines, fields=(), body=TEXT, code=200, method="GET", version="1.1", **options):
        def answer(got):
            for name, value in fields:
                got.output_headers.add(name, value)
            got.send_reply(code, None, body)

        peer = packing(answer, **options).connect()
        peer.send(request("/", *(lines or (ALL,)), method=method, version=version))
        has_body = method != "HEAD" and code not in (204, 205, 304)
        reply = peer.read_message(has_body=has_body)
        peer.settle()
        peer.take()
        assert peer.received == b""
        return reply

    return ask


class TestNegotiation:
    @pytest.mark.parametrize(
        ("accept", "coding"),
        [
            ("gzip", "gzip"),
            ("br", "br"),
            ("zstd", "zstd"),
            ("gzip, br, zstd", "zstd"),
            ("gzip, zstd;q=0.5", "gzip"),
            ("*", "zstd"),
            ("deflate", None),
            ("identity", None),
            ("gzip;q=0", None),
            ("gzip;q=0.5, identity", None),
            ("compress", None),
            ("", None),
        ],
    )
    def test_the_client_decides(self, reply_to, accept, coding) -> None:
        reply = reply_to(f"Accept-Encoding: {accept}")
        assert reply.field("Content-Encoding") == coding
        assert unpacked(reply) == TEXT
        assert (len(reply.body) < len(TEXT) / 4) == (coding is not None)
        assert reply.all("Vary") == ["Accept-Encoding"], "whatever it has got"
        assert reply.all("Content-Length") == [str(len(reply.body))]

    def test_who_says_nothing_gets_it_plain(self, reply_to) -> None:
        reply = reply_to("Accept: */*")
        assert reply.body == TEXT
        assert reply.field("Vary") == "Accept-Encoding"

    def test_who_takes_neither_it_nor_a_coding_gets_none(self, reply_to) -> None:
        assert reply_to("Accept-Encoding: *;q=0").status == 406
        assert reply_to("Accept-Encoding: identity;q=0", method="HEAD").status == 406
        reply = reply_to("Accept-Encoding: *;q=0", method="POST")
        assert (reply.status, reply.body) == (200, TEXT), "what was done is not taken back"
        assert reply_to("Accept-Encoding: *;q=0", code=404).status == 404

    def test_the_server_has_its_own_order(self, reply_to) -> None:
        assert reply_to(codings=("br", "deflate")).field("Content-Encoding") == "br"
        reply = reply_to("Accept-Encoding: deflate, gzip", codings=("deflate",))
        assert reply.field("Content-Encoding") == "deflate"
        assert unpacked(reply) == TEXT

    def test_a_level_may_be_chosen(self, reply_to) -> None:
        lines = ("Accept-Encoding: gzip",)
        for level in (1, 9):
            reply = reply_to(*lines, levels={"gzip": level})
            assert reply.body == zlib.compress(TEXT, level, wbits=31)


class TestWhatStays:
    @pytest.mark.parametrize(
        "field",
        [
            ("Content-Encoding", "gzip"),
            ("Content-Encoding", "identity"),
            ("Cache-Control", "public, No-Transform"),
            ("Content-Type", "image/png"),
            ("Content-Type", "application/octet-stream"),
            ("Content-Type", "application/zip"),
            ("Content-Type", "text/event-stream"),
            ("Content-Type", "textual/x"),
            ("Content-Range", "bytes 0-1/2"),
            ("Content-Digest", "sha-256=:x:"),
        ],
    )
    def test_by_its_fields(self, reply_to, field) -> None:
        reply = reply_to(fields=[field])
        assert reply.body == TEXT
        assert reply.field("Vary") is None
        assert reply.all(field[0]) == [field[1]]

    @pytest.mark.parametrize(
        "content_type",
        [
            "text/plain",
            "TEXT/HTML; charset=utf-8",
            "application/json",
            "application/problem+json",
            "image/svg+xml",
            "application/rss+xml ;x=y",
        ],
    )
    def test_but_not_these(self, reply_to, content_type) -> None:
        reply = reply_to(fields=[("Content-Type", content_type)])
        assert reply.field("Content-Encoding") == "zstd"
        assert reply.field("Content-Type") == content_type

    def test_types_may_be_chosen(self, reply_to) -> None:
        types = ("application/x.*", "text/event-stream")
        chosen = reply_to(fields=[("Content-Type", "application/x.y")], content_types=types)
        assert chosen.field("Content-Encoding")
        for other in ("application/xyy", "text/plain"):
            reply = reply_to(fields=[("Content-Type", other)], content_types=types)
            assert reply.field("Content-Encoding") is None

    @pytest.mark.parametrize("code", [206, 416, 204, 205])
    def test_by_its_status(self, reply_to, code) -> None:
        reply = reply_to(code=code)
        assert (reply.field("Content-Encoding") is None) == (code != 416)

    @pytest.mark.parametrize(("size", "is_packed"), [(99, False), (100, True), (101, True)])
    def test_below_the_least_size(self, reply_to, size, is_packed) -> None:
        reply = reply_to(body=b"x" * size, min_bytes=100)
        assert bool(reply.field("Content-Encoding")) == is_packed

    @pytest.mark.parametrize(("size", "is_packed"), [(5000, True), (5001, False)])
    def test_beyond_the_largest_size(self, reply_to, size, is_packed) -> None:
        reply = reply_to(body=b"x" * size, max_bytes=5000)
        assert bool(reply.field("Content-Encoding")) == is_packed
        assert unpacked(reply) == b"x" * size

    def test_nothing_is_compressed_unless_it_is_asked_for(self, serve) -> None:
        reply = serve(lambda got, arg: got.send_reply(200, None, TEXT)).connect().get("/", ALL)
        assert (reply.body, reply.field("Vary")) == (TEXT, None)


class TestFields:
    def test_a_strong_tag_becomes_weak(self, reply_to) -> None:
        assert reply_to(fields=[("ETag", '"a"')]).field("ETag") == 'W/"a"'
        assert reply_to(fields=[("ETag", 'W/"a"')]).all("ETag") == ['W/"a"']
        assert reply_to("Accept: */*", fields=[("ETag", '"a"')]).field("ETag") == '"a"'

    @pytest.mark.parametrize(
        ("vary", "expected"),
        [
            ("Accept", ["Accept", "Accept-Encoding"]),
            ("accept-encoding, Accept", ["accept-encoding, Accept"]),
            ("*", ["*"]),
        ],
    )
    def test_vary_is_extended(self, reply_to, vary, expected) -> None:
        assert reply_to(fields=[("Vary", vary)]).all("Vary") == expected

    def test_ranges_of_it_are_not_offered(self, reply_to) -> None:
        assert reply_to(fields=[("Accept-Ranges", "bytes")]).field("Accept-Ranges") is None

    def test_the_length_of_the_program_is_replaced(self, reply_to) -> None:
        reply = reply_to(fields=[("Content-Length", str(len(TEXT)))])
        assert reply.all("Content-Length") == [str(len(reply.body))]
        assert unpacked(reply) == TEXT

    def test_but_it_must_be_right(self, packing, base) -> None:
        raised = []
        base.exception_handler = raised.append

        def answer(got):
            got.output_headers.add("Content-Length", "7")
            got.send_reply(200, None, TEXT)

        assert packing(answer).connect().get("/", ALL).status == 500
        assert [type(each) for each in raised] == [ArgumentError]

    def test_the_fields_of_the_program_stay_its_own(self, packing) -> None:
        seen = []

        def answer(got):
            got.output_headers.add("ETag", '"a"')
            got.send_reply(200, None, TEXT)
            seen.append(list(got.output_headers))

        packing(answer).connect().get("/", ALL)
        assert seen == [[("ETag", '"a"')]]

    def test_bytes_sent_are_those_that_went(self, packing) -> None:
        told = []
        site = packing(lambda got: got.send_reply(200, None, TEXT))
        site.server.add_observer(told.append)
        reply = site.connect().get("/", ALL)
        assert told[0].sent_bytes == len(reply.body)


class TestHead:
    @pytest.mark.parametrize("body", [TEXT, b""])
    def test_it_has_the_fields_of_a_get_but_no_length(self, reply_to, body) -> None:
        fields = [("Content-Type", "text/plain"), ("ETag", '"a"')]
        if not body:
            fields.append(("Content-Length", str(len(TEXT))))
        got = reply_to(fields=fields)
        head = reply_to(fields=fields, method="HEAD", body=body or None)
        for name in ("Content-Encoding", "Vary", "ETag", "Content-Type"):
            assert head.field(name) == got.field(name), name
        assert head.field("Content-Length") is None

    def test_plain_it_has_its_length(self, reply_to) -> None:
        head = reply_to("Accept: */*", method="HEAD")
        assert head.field("Content-Length") == str(len(TEXT))
        assert head.field("Vary") == "Accept-Encoding"

    def test_a_short_one_too(self, reply_to) -> None:
        head = reply_to(method="HEAD", body=b"short")
        assert (head.field("Content-Length"), head.field("Vary")) == ("5", None)


class TestNotModified:
    """A 304 has the fields that the 200 would have (RFC 9110 15.4.5)."""

    @pytest.mark.parametrize(
        ("known", "etag"),
        [
            ('W/"a"', 'W/"a"'),
            ('"x", W/"a"', 'W/"a"'),
            ('"a"', '"a"'),
            ('W/"aa"', '"a"'),
        ],
    )
    def test_it_has_vary_and_the_tag_that_the_client_knows(self, reply_to, known, etag) -> None:
        lines = (ALL, f"If-None-Match: {known}")
        reply = reply_to(*lines, code=304, fields=[("ETag", '"a"')], body=None)
        assert (reply.field("ETag"), reply.field("Vary")) == (etag, "Accept-Encoding")
        assert reply.field("Content-Encoding") is None

    def test_it_may_have_no_fields_of_its_own(self, reply_to) -> None:
        assert reply_to(code=304, body=None).field("Vary") == "Accept-Encoding"

    def test_that_of_an_image_stays(self, reply_to) -> None:
        fields = [("Content-Type", "image/png"), ("ETag", '"a"')]
        reply = reply_to(ALL, 'If-None-Match: W/"a"', code=304, fields=fields, body=None)
        assert (reply.field("ETag"), reply.field("Vary")) == ('"a"', None)


class TestBuffers:
    @pytest.mark.parametrize("size", [2000, 100_000])
    def test_a_buffer_is_drained(self, packing, size) -> None:
        buffers = []

        def answer(got):
            body = EvBuffer()
            body.add(b"x" * size)
            buffers.append(body)
            got.send_reply(200, None, body)

        assert unpacked(packing(answer).connect().get("/", ALL)) == b"x" * size
        assert len(buffers[0]) == 0

    def test_files_are_compressed_but_their_parts_are_not(self, serve, tmp_path) -> None:
        (tmp_path / "page.txt").write_bytes(TEXT)
        (tmp_path / "page.txt.gz").write_bytes(gzip.compress(b"packed before"))
        (tmp_path / "image.png").write_bytes(TEXT)
        site = serve()
        site.server.set_compression(CompressionOptions())
        site.server.serve_directory("/files/", tmp_path)
        peer = site.connect()
        reply = peer.get("/files/page.txt", ALL)
        assert unpacked(reply) == TEXT
        assert reply.field("Content-Encoding") == "zstd"
        again = request("/files/page.txt", ALL, f"If-None-Match: {reply.field('ETag')}")
        kept = peer.ask(again, has_body=False)
        assert (kept.status, kept.field("ETag")) == (304, reply.field("ETag"))
        part = peer.get("/files/page.txt", ALL, "Range: bytes=0-9")
        assert (part.status, part.body) == (206, TEXT[:10])
        assert part.field("Content-Encoding") is None
        assert peer.get("/files/image.png", ALL).body == TEXT

    def test_a_sibling_that_was_compressed_before_is_sent_as_it_is(self, serve, tmp_path) -> None:
        (tmp_path / "page.txt").write_bytes(TEXT)
        (tmp_path / "page.txt.gz").write_bytes(gzip.compress(TEXT + b"packed before"))
        site = serve()
        site.server.set_compression(CompressionOptions(min_bytes=1))
        options = DirectoryOptions(precompressed=("gzip",))
        site.server.serve_directory("/files/", tmp_path, options)
        reply = site.connect().get("/files/page.txt", ALL)
        assert unpacked(reply) == TEXT + b"packed before"
        assert reply.all("Vary") == ["Accept-Encoding"]


class TestStreams:
    def start(self, got, *fields):
        for name, value in fields:
            got.output_headers.add(name, value)
        got.send_reply_start(200)

    @pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
    def test_each_piece_can_be_read_when_it_was_sent(self, packing, coding) -> None:
        waiting = []

        def answer(got):
            self.start(got)
            waiting.append(got)

        peer = packing(answer).connect()
        peer.send(request("/", f"Accept-Encoding: {coding}"))
        _, fields = peer.read_head()
        assert ("Content-Encoding", coding) in fields
        assert ("Transfer-Encoding", "chunked") in fields
        stream = decoder(coding)
        for piece in (b"one", b"two" * 20_000, b"three"):
            waiting[0].send_reply_chunk(piece)
            peer.settle()
            peer.take()
            out = b""
            while peer.received:
                size_line, _, rest = bytes(peer.received).partition(b"\r\n")
                size = int(size_line, 16)
                out += stream.decode(rest[:size])
                del peer.received[: len(size_line) + 4 + size]
            assert out == piece
        waiting[0].send_reply_end()
        rest = peer.read_chunked()
        assert stream.decode(rest) == b""
        stream.finish()
        assert waiting[0].bytes_sent > len(rest)
        assert peer.is_open()

    def test_a_buffer_is_a_piece_too(self, packing) -> None:
        def answer(got):
            self.start(got)
            for size in (10, 50_000):
                piece = EvBuffer()
                piece.add(b"x" * size)
                got.send_reply_chunk(piece)
            got.send_reply_end()

        assert unpacked(packing(answer).connect().get("/", ALL)) == b"x" * 50_010

    def test_an_announced_length_is_held_but_not_sent(self, packing) -> None:
        def answer(got):
            self.start(got, ("Content-Length", "2000"))
            got.send_reply_chunk(b"x" * 1999)
            with pytest.raises(LocalProtocolError, match="2 bytes, but 1"):
                got.send_reply_chunk(b"xx")
            got.send_reply_chunk(b"x")
            got.send_reply_end()

        reply = packing(answer).connect().get("/", ALL)
        assert unpacked(reply) == b"x" * 2000
        assert reply.field("Content-Length") is None

    def test_a_short_one_stays(self, packing) -> None:
        def answer(got):
            self.start(got, ("Content-Length", "3"))
            got.send_reply_chunk(b"abc")
            got.send_reply_end()

        reply = packing(answer).connect().get("/", ALL)
        assert (reply.body, reply.field("Content-Length")) == (b"abc", "3")

    def test_who_takes_no_coding_has_it_plain(self, packing) -> None:
        def answer(got):
            self.start(got, ("Content-Length", "2000"))
            got.send_reply_chunk(b"x" * 2000)
            got.send_reply_end()

        reply = packing(answer).connect().get("/")
        assert (reply.body, reply.field("Vary")) == (b"x" * 2000, "Accept-Encoding")
        assert reply.field("Content-Length") == "2000"

    def test_an_old_client_has_it_up_to_the_end_of_the_connection(self, packing) -> None:
        def answer(got):
            self.start(got)
            got.send_reply_chunk(TEXT)
            got.send_reply_end()

        peer = packing(answer).connect()
        peer.send(request("/", ALL, "Connection: keep-alive", version="1.0"))
        assert unpacked(peer.read_message(to_end=True)) == TEXT

    def test_a_head_has_no_pieces(self, packing) -> None:
        def answer(got):
            self.start(got)
            got.send_reply_chunk(TEXT)
            got.send_reply_end()

        peer = packing(answer).connect()
        reply = peer.ask(request("/", ALL, method="HEAD"), has_body=False)
        assert reply.field("Content-Encoding") == "zstd"
        assert peer.get("/", ALL).status == 200

    @pytest.mark.parametrize("asked", [True, False])
    def test_events_are_when_it_is_asked_for(self, packing, asked) -> None:
        types = (*DEFAULT_TYPES, "text/event-stream") if asked else DEFAULT_TYPES
        streams = []
        site = packing(
            lambda got: streams.append(got.start_event_stream(EventStreamOptions())),
            content_types=types,
        )
        peer = site.connect()
        peer.send(request("/", "Accept-Encoding: gzip"))
        _, fields = peer.read_head()
        assert (("Content-Encoding", "gzip") in fields) == asked
        streams[0].send("hello")
        streams[0].close()
        body = peer.read_chunked()
        assert (gzip.decompress(body) if asked else body) == b"data: hello\n\n"


class TestWhere:
    def ask(self, site, path):
        return site.connect().get(path, ALL).field("Content-Encoding")

    def test_the_longest_path_decides(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, TEXT))
        server = site.server
        server.set_compression(CompressionOptions(codings=("gzip",)))
        server.set_compression(None, "/secret/")
        server.set_compression(CompressionOptions(codings=("br",)), "/secret/not")
        assert self.ask(site, "/") == "gzip"
        assert self.ask(site, "/secret") == "gzip"
        assert self.ask(site, "/secret/") is None
        assert self.ask(site, "/secret/a?b") is None
        assert self.ask(site, "/secret/not") == "br"
        assert self.ask(site, "/secret/not/this") is None
        server.set_compression(None)
        assert self.ask(site, "/") is None

    def test_a_path_begins_with_a_slash(self, base) -> None:
        with pytest.raises(ArgumentError, match="'a/'"):
            HttpServer(base).set_compression(CompressionOptions(), "a/")

    def test_connections_that_are_open_follow(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, TEXT))
        peer = site.connect()
        site.server.set_compression(CompressionOptions())
        assert peer.get("/", ALL).field("Content-Encoding") == "zstd"

    @pytest.mark.parametrize("server_does", [True, False])
    def test_a_request_may_have_its_own(self, serve, server_does) -> None:
        def answer(got, arg):
            if got.uri == "/not":
                got.set_compression(None)
            elif got.uri == "/br":
                got.set_compression(CompressionOptions(codings=("br",)))
            got.send_reply(200, None, TEXT)
            with pytest.raises(LocalProtocolError):
                got.set_compression(None)

        site = serve(answer)
        if server_does:
            site.server.set_compression(CompressionOptions(codings=("gzip",)))
        usual = "gzip" if server_does else None
        peer = site.connect()
        for path, coding in (
            ("/", usual),
            ("/not", None),
            ("/", usual),
            ("/br", "br"),
            ("/", usual),
        ):
            assert peer.get(path, ALL).field("Content-Encoding") == coding

    def test_a_request_that_is_never_answered_is_let_go(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/", ALL))
        (got,) = site.requests
        got.set_compression(CompressionOptions())
        peer.reset()
        site.requests.clear()
        assert got._path.compression is None, "which knew the request"
        got.set_compression(None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"codings": ("lzma",)}, "lzma"),
        ({"codings": ("GZIP",)}, "GZIP"),
        ({"codings": "gzip"}, "several"),
        ({"levels": {"gzip": 10}}, "10"),
        ({"levels": {"lzma": 1}}, "lzma"),
        ({"content_types": ("text",)}, "'text'"),
        ({"content_types": "text/*"}, "several"),
        ({"min_bytes": 0}, "min_bytes"),
        ({"max_bytes": -1}, "max_bytes"),
    ],
)
def test_bad_options_are_refused(options, said) -> None:
    with pytest.raises(ArgumentError, match=said):
        CompressionOptions(**options)
