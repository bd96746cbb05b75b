"""How the server answers at once: heads, bodies, what it adds and what it refuses to send."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import ArgumentError, ArgumentTypeError, EvBuffer
from evsvc.http import Headers, HttpServer, ServerOptions
from evsvc.http.errors import LocalProtocolError
from evsvc.http.server.pages import final_page
from evsvc.http.server.request import JOIN_BYTES, ReplyState
from evsvc.http.wire import writer
from evsvc.http.wire.status import EVHTTP_REQ_CONNECT, EVHTTP_REQ_GET
from evsvc.http.wire.writer import DateLine, reply_head
from tests.http.peers import request

DEFAULT_TYPE = "text/html; charset=ISO-8859-1"


class TestSendReply:
    def test_what_is_missing_is_added(self, ask) -> None:
        reply = ask(lambda got: got.send_reply(200, "OK", b"12345"))
        assert reply.line == "HTTP/1.1 200 OK"
        assert reply.body == b"12345"
        names = [name for name, _ in reply.fields]
        assert names == ["Content-Type", "Date", "Content-Length"]
        assert reply.field("Content-Type") == DEFAULT_TYPE

    def test_an_empty_body_has_a_length_and_no_type(self, ask) -> None:
        reply = ask(lambda got: got.send_reply(200))
        assert reply.field("Content-Length") == "0"
        assert reply.field("Content-Type") is None
        assert reply.field("Date")

    def test_headers_of_the_program_stand_in_their_order(self, ask) -> None:
        def answer(got):
            for name, value in (
                ("Set-Cookie", "a=1"),
                ("Content-Type", "text/plain"),
                ("Set-Cookie", "b=2"),
                ("Content-Length", "2"),
                ("Date", "yesterday"),
                ("X-Latin", "\u00e9"),
            ):
                got.output_headers.add(name, value)
            got.send_reply(200, None, b"ok")

        reply = ask(answer)
        assert reply.fields == [
            ("Set-Cookie", "a=1"),
            ("Content-Type", "text/plain"),
            ("Set-Cookie", "b=2"),
            ("Content-Length", "2"),
            ("Date", "yesterday"),
            ("X-Latin", "\u00e9"),
        ]

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, EvBuffer])
    def test_a_body_is_any_kind_of_bytes(self, ask, kind) -> None:
        assert ask(lambda got: got.send_reply(200, None, kind(b"data"))).body == b"data"

    def test_a_buffer_is_drained(self, ask) -> None:
        body = EvBuffer(b"data")
        ask(lambda got: got.send_reply(200, None, body))
        assert len(body) == 0

    def test_without_a_body_the_output_buffer_is_sent(self, ask) -> None:
        def answer(got):
            got.output_buffer.add(b"from the ")
            got.output_buffer.add(b"buffer")
            got.send_reply(200)

        assert ask(answer).body == b"from the buffer"

    @pytest.mark.parametrize("size", [JOIN_BYTES - 1, JOIN_BYTES, JOIN_BYTES + 1, 3 << 20])
    def test_large_bodies_arrive_whole(self, serve, size) -> None:
        body = bytes(range(256)) * (size // 256 + 1)
        peer = serve(lambda got, arg: got.send_reply(200, None, body[:size])).connect()
        assert peer.get().body == body[:size]
        assert peer.get().body == body[:size]

    @pytest.mark.parametrize(
        ("code", "reason", "line"),
        [
            (200, None, "HTTP/1.1 200 OK"),
            (200, "Fine", "HTTP/1.1 200 Fine"),
            (200, "", "HTTP/1.1 200 "),
            (299, None, "HTTP/1.1 299 Success"),
            (599, "\u00e9\ttab", "HTTP/1.1 599 \u00e9\ttab"),
        ],
    )
    def test_the_reason_may_be_the_programs(self, ask, code, reason, line) -> None:
        assert ask(lambda got: got.send_reply(code, reason)).line == line

    @pytest.mark.parametrize("code", [204, 304])
    @pytest.mark.parametrize("streams", [False, True])
    def test_no_body_goes_with_a_status_that_has_none(self, ask, code, streams) -> None:
        def answer(got):
            if streams:
                got.send_reply_start(code)
                got.send_reply_chunk(b"not to be seen")
                got.send_reply_end()
            else:
                got.send_reply(code, None, b"not to be seen")

        reply = ask(answer, has_body=False)
        assert reply.status == code
        assert [name for name, _ in reply.fields] == ["Date"]

    @pytest.mark.parametrize("streams", [False, True])
    def test_reset_content_says_that_there_is_none(self, ask, streams) -> None:
        def answer(got):
            if streams:
                got.send_reply_start(205)
                got.send_reply_chunk(b"not to be seen")
                got.send_reply_end()
            else:
                got.send_reply(205, None, b"not to be seen")

        reply = ask(answer)
        assert reply.field("Content-Length") == "0"
        assert reply.field("Transfer-Encoding") is None

    def test_a_304_may_tell_the_length_that_a_200_would_have(self, ask) -> None:
        def answer(got):
            got.output_headers.add("Content-Length", "1234")
            got.send_reply(304)

        assert ask(answer, has_body=False).field("Content-Length") == "1234"

    def test_a_204_loses_its_length(self, ask) -> None:
        def answer(got):
            got.output_headers.add("Content-Length", "0")
            got.send_reply(204)

        assert ask(answer, has_body=False).field("Content-Length") is None

    def test_head_gets_the_head_that_get_would(self, ask) -> None:
        def answer(got):
            got.send_reply(200, None, b"12345")

        get, head = ask(answer), ask(answer, method="HEAD", has_body=False)
        assert [f for f in head.fields if f[0] != "Date"] == [
            f for f in get.fields if f[0] != "Date"
        ]

    def test_a_close_of_the_program_ends_the_connection(self, serve) -> None:
        def answer(got, arg):
            got.output_headers.add("Connection", "x, Close")
            got.send_reply(200)

        peer = serve(answer).connect()
        assert peer.get().all("Connection") == ["x, Close"]
        assert not peer.is_open()

    def test_a_keep_alive_of_the_program_does_not_hide_a_close(self, serve) -> None:
        def answer(got, arg):
            got.output_headers.add("Connection", "keep-alive")
            got.send_reply(200)

        peer = serve(answer).connect()
        assert peer.get("/", "Connection: close").all("Connection") == ["keep-alive", "close"]
        assert not peer.is_open()

    def test_granting_connect_sends_no_body_and_reads_no_further(self, serve) -> None:
        """RFC 9110 9.3.6: what follows is not HTTP, and must not be read as such."""
        site = serve(
            lambda got, arg: got.send_reply(200, None, b"x"),
            allowed_methods=EVHTTP_REQ_CONNECT | EVHTTP_REQ_GET,
        )
        peer = site.connect()
        peer.send(b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n" + request("/tunnelled"))
        reply = peer.read_message(has_body=False)
        assert reply.field("Content-Length") is None
        assert peer.read_to_end() == b""

    def test_the_date_is_now(self, ask) -> None:
        date = ask(lambda got: got.send_reply(200)).field("Date")
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
        assert abs((parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()) < 60


class TestRefused:
    """What the program must not send raises at the call, and the request can still be answered."""

    @pytest.fixture
    def got(self, serve):
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        yield site.requests[0]
        if site.requests[0].state is ReplyState.PENDING:
            site.requests[0].send_reply(200, None, b"fine")
        assert peer.read_message().body == b"fine"

    @pytest.mark.parametrize("code", [-1, 0, 99, 100, 101, 199, 600, 1000, "200", None])
    def test_a_code_that_is_no_final_status(self, got, code) -> None:
        with pytest.raises(ArgumentError, match=re.escape(repr(code))):
            got.send_reply(code)
        with pytest.raises(ArgumentError):
            got.send_reply_start(code)
        assert got.state is ReplyState.PENDING

    @pytest.mark.parametrize("reason", ["a\r\nb", "a\nb", "a\rb", "\0", "\x7f", "\u20ac", b"OK"])
    def test_a_reason_that_would_break_the_line(self, got, reason) -> None:
        with pytest.raises(ArgumentError):
            got.send_reply(200, reason)
        with pytest.raises(ArgumentError):
            got.send_reply_start(200, reason)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("X", "a\r\nSet-Cookie: evil=1"),
            ("X", "a\nb"),
            ("X", "a\rb"),
            ("X", "a\0b"),
            ("X", "\r\n folded"),
            ("X\r\nY", "a"),
            ("X Y", "a"),
            ("X:", "a"),
            ("", "a"),
        ],
    )
    def test_header_injection(self, got, name, value) -> None:
        with pytest.raises(ArgumentError):
            got.output_headers.add(name, value)

    @pytest.mark.parametrize("length", ["3", "5", "x", "-4", "+4", "4, 4", "", "\u00b2"])
    def test_a_content_length_that_is_not_the_bodys(self, got, length) -> None:
        got.output_headers.add("Content-Length", length)
        with pytest.raises(ArgumentError):
            got.send_reply(200, None, b"four")
        got.output_headers.clear()

    def test_two_content_lengths(self, got) -> None:
        got.output_headers.add("Content-Length", "4")
        got.output_headers.add("content-length", "4")
        with pytest.raises(ArgumentError):
            got.send_reply(200, None, b"four")
        with pytest.raises(ArgumentError):
            got.send_reply_start(200)
        got.output_headers.clear()

    def test_a_transfer_encoding(self, got) -> None:
        got.output_headers.add("Transfer-Encoding", "chunked")
        with pytest.raises(ArgumentError):
            got.send_reply(200, None, b"four")
        with pytest.raises(ArgumentError):
            got.send_reply_start(200)
        got.output_headers.clear()

    @pytest.mark.parametrize("body", ["text", 5, [b"x"], object()])
    def test_a_body_that_is_not_bytes(self, got, body) -> None:
        with pytest.raises(ArgumentTypeError):
            got.send_reply(200, None, body)

    def test_a_failed_start_can_be_repeated(self, got) -> None:
        with pytest.raises(ArgumentError):
            got.send_reply_start(200, "a\nb")
        got.send_reply_start(200)
        got.send_reply_chunk(b"fine")
        got.send_reply_end()


@pytest.mark.parametrize("content_type", ["a\r\nb", "\0", "\u20ac"])
def test_a_default_content_type_cannot_inject_either(base, content_type) -> None:
    with pytest.raises(ArgumentError):
        ServerOptions(default_content_type=content_type)
    with HttpServer(base) as server, pytest.raises(ArgumentError):
        server.set_default_content_type(content_type)


def test_the_default_content_type_can_be_another_or_none(serve) -> None:
    site = serve(lambda got, arg: got.send_reply(200, None, b"x"))
    for content_type in ("text/plain", None):
        site.server.set_default_content_type(content_type)
        assert site.connect().get().field("Content-Type") == content_type


# What may follow a call on the same request, and is no mistake.
LEGAL = {
    ReplyState.PENDING: {"send_reply", "send_error", "send_reply_start", "set_on_complete_cb"},
    ReplyState.STREAMING: {"send_reply_chunk", "send_reply_end", "set_on_complete_cb"},
    ReplyState.DONE: set(),
}
CALLS = {
    "send_reply": (200,),
    "send_error": (500,),
    "send_reply_start": (200,),
    "send_reply_chunk": (b"x",),
    "send_reply_end": (),
    "set_on_complete_cb": (print,),
}


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
@pytest.mark.parametrize("state", ReplyState)
@pytest.mark.parametrize("call", CALLS)
def test_only_the_listed_calls_are_legal(serve, call, state, gone) -> None:
    site = serve()
    peer = site.connect()
    peer.send(request("/"))
    (got,) = site.requests
    if gone:
        peer.reset()
        assert got.connection is None
    if state is ReplyState.STREAMING:
        got.send_reply_start(200)
    elif state is ReplyState.DONE:
        got.send_reply(200)
    assert got.state is state
    if call in LEGAL[state]:
        getattr(got, call)(*CALLS[call])
    else:
        with pytest.raises(LocalProtocolError, match=call):
            getattr(got, call)(*CALLS[call])


class TestSendError:
    def test_headers_so_far_are_dropped(self, ask) -> None:
        def answer(got):
            got.output_headers.add("X", "y")
            got.send_error(404)

        reply = ask(answer)
        assert reply.line == "HTTP/1.1 404 Not Found"
        assert reply.field("X") is None
        assert reply.field("Content-Type") == "text/html"

    def test_the_reason_is_shown_and_escaped(self, ask) -> None:
        reply = ask(lambda got: got.send_error(403, "<b>\r\n\u20ac"))
        assert reply.line == "HTTP/1.1 403 Forbidden"
        assert "&lt;b&gt;\r\n\u20ac".encode() in reply.body

    def test_the_connection_lives_on(self, serve) -> None:
        peer = serve(lambda got, arg: got.send_error(404)).connect()
        assert peer.get().status == 404
        assert peer.get().status == 404

    def test_its_size_is_libevents(self, ask) -> None:
        """89 bytes for 404 without a reason."""
        assert len(ask(lambda got: got.send_error(404)).body) == 89


class TestDateLine:
    def test_it_is_right_at_every_second(self) -> None:
        line = DateLine()
        assert line.refresh(784111777.9) == "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        assert line.expires == 784111778.0
        assert line.line == "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

    def test_a_final_page_is_a_whole_reply(self) -> None:
        page = final_page(400, DateLine())
        head, _, body = page.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")
        assert f"Content-Length: {len(body)}".encode() in head


class TestPlainReply:
    """The law of the fast path: it writes what the slow one writes."""

    @given(
        st.integers(200, 599),
        st.none() | st.text(st.sampled_from("Ok \t!ÿ"), max_size=5),
        st.sampled_from(["Content-Type", "content-type", "CONTENT-TYPE"]),
        st.text(st.sampled_from("a/b;= \tÿ"), max_size=8),
        st.binary(max_size=40),
    )
    def test_it_is_byte_for_byte_the_other(
        self, code: int, reason: str | None, name: str, value: str, body: bytes
    ) -> None:
        headers = Headers([(name, value)])
        date = DateLine()
        date.refresh(0.0)
        date.begins, date.expires = 0.0, inf  # one moment for both
        head, lives_on = reply_head(headers, code, reason, date, len(body), None, True, 1)
        for _ in range(2):  # the second time from what is kept
            assert date.plain_reply(code, reason, headers.pairs[0], body) == head + body
        assert lives_on

    def test_it_raises_for_what_is_no_status_or_reason(self) -> None:
        for code, reason in ((199, None), (600, None), (200, "a\r\nb")):
            with pytest.raises(ArgumentError):
                DateLine().plain_reply(code, reason, ("Content-Type", "a/b"), b"")

    def test_what_is_kept_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(writer, "MAX_PLAIN_HEADS", 3)
        date = DateLine()
        for number in range(10):
            field = ("Content-Type", f"text/{number}")
            assert f"text/{number}".encode() in date.plain_reply(200, None, field, b"")
            assert len(date._plain_heads) <= 3

    def test_it_tells_the_time_of_each_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        date = DateLine()
        for now, shown in ((784111777.9, b"08:49:37"), (784111778.0, b"08:49:38")):
            monkeypatch.setattr(writer, "time", lambda now=now: now)
            reply = date.plain_reply(200, None, ("Content-Type", "a/b"), b"")
            assert b"Date: Sun, 06 Nov 1994 " + shown + b" GMT\r\n" in reply
