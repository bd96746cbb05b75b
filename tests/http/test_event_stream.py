"""Server-sent events: the format, and a stream's life."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.http import EventStreamOptions, LocalProtocolError, StreamEnd
from evsvc.http.server.event_stream import format_event
from tests.http.peers import request


def parse(text):
    """Read a stream as the WHATWG says (HTML, section 9.2.6); yield (type, data, last id)."""
    data, kind, last_id = [], "", ""
    for line in re.split("\r\n|\r|\n", text):
        if line == "":
            if data:
                yield kind or "message", "\n".join(data), last_id
            data, kind = [], ""
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            kind = value
        elif field == "id" and "\0" not in value:
            last_id = value


class Listener:
    """A client of a stream: what has come of its body."""

    def __init__(self, site, *lines, receive_bytes=None, version="1.1") -> None:
        self.peer = site.connect(receive_bytes)
        self.peer.send(request("/events", *lines, version=version))
        self.line, self.fields = self.peer.read_head()
        self._text = b""

    def header(self, name):
        return next((value for key, value in self.fields if key == name), None)

    def take(self):
        """The body that has come since the last call."""
        self.peer.settle()
        self.peer.take()
        if self.header("Transfer-Encoding") != "chunked":
            data = bytes(self.peer.received)
            self.peer.received.clear()
            return data
        out = b""
        while found := re.match(rb"([0-9a-f]+)\r\n", self.peer.received):
            size = int(found[1], 16)
            if len(self.peer.received) < found.end() + size + 2:
                break
            out += self.peer.received[found.end() : found.end() + size]
            del self.peer.received[: found.end() + size + 2]
        return out

    def events(self):
        return list(parse(self.take().decode()))


@pytest.fixture
def streaming(serve):
    """Return `streaming(**options)`: a site whose `streams` grow by one with each request."""

    def start(**options):
        site = serve()
        site.streams = []

        def answer(got, arg):
            site.streams.append(got.start_event_stream(EventStreamOptions(**options)))

        site.server.set_gencb(answer)
        return site

    return start


@pytest.fixture
def stream_and_listener(streaming):
    """Return `stream_and_listener(**options)`: one stream, with who listens to it."""

    def start(**options):
        site = streaming(**options)
        listener = Listener(site)
        return site.streams[0], listener

    return start


class TestFormat:
    @pytest.mark.parametrize(
        ("how", "expected"),
        [
            (("x",), "data: x\n\n"),
            (("",), "data: \n\n"),
            (("a\nb\r\nc\rd",), "data: a\ndata: b\ndata: c\ndata: d\n\n"),
            (("a\n",), "data: a\ndata: \n\n"),
            ((" x",), "data:  x\n\n"),
            (("x", "tick"), "event: tick\ndata: x\n\n"),
            (("x", None, "7"), "id: 7\ndata: x\n\n"),
            (("x", None, ""), "id: \ndata: x\n\n"),
            (("x", "e", "7", 0), "event: e\nid: 7\nretry: 0\ndata: x\n\n"),
            (("a\u2028b\x0bc\x85d",), "data: a\u2028b\x0bc\x85d\n\n"),
        ],
    )
    def test_an_event(self, how, expected) -> None:
        assert format_event(*how).decode() == expected

    @given(
        st.text(),
        st.text().filter(lambda text: not re.search("[\r\n]", text)),
        st.text().filter(lambda text: not re.search("[\r\n\0]", text)),
    )
    def test_a_browser_reads_what_was_meant(self, data, event, event_id) -> None:
        (found,) = parse(format_event(data, event, event_id).decode())
        lines = re.split("\r\n|\r|\n", data)
        assert found == (event or "message", "\n".join(lines), event_id)

    @pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
    def test_a_line_end_in_a_name_or_an_id_is_refused(self, end) -> None:
        with pytest.raises(ArgumentError, match="event"):
            format_event("x", f"a{end}data: y")
        with pytest.raises(ArgumentError, match="id"):
            format_event("x", None, f"a{end}")

    def test_other_bad_values_are_refused(self) -> None:
        with pytest.raises(ArgumentError, match="NUL"):
            format_event("x", None, "a\0")
        with pytest.raises(ArgumentError, match="-1"):
            format_event("x", None, None, -1)
        with pytest.raises(ArgumentError, match="UTF-8"):
            format_event("\ud800")
        with pytest.raises(ArgumentTypeError, match="bytes"):
            format_event(b"x")  # type: ignore[arg-type]  # that is the test


class TestLife:
    def test_events_come_as_they_are_sent(self, stream_and_listener) -> None:
        stream, listener = stream_and_listener()
        assert listener.line == "HTTP/1.1 200 OK"
        assert listener.header("Content-Type") == "text/event-stream"
        assert listener.header("Cache-Control") == "no-store"
        assert stream.send("one\ntwo", event="e", id="1")
        assert listener.events() == [("e", "one\ntwo", "1")]
        assert stream.comment("a\nb")
        assert listener.take() == b": a\n: b\n\n"
        assert stream.send("three")
        assert listener.events() == [("message", "three", "")]
        assert stream.is_open

    def test_the_program_may_set_fields(self, serve) -> None:
        def answer(got, arg):
            got.output_headers.add("Cache-Control", "private")
            got.output_headers.add("Access-Control-Allow-Origin", "*")
            got.start_event_stream()

        listener = Listener(serve(answer))
        assert listener.header("Cache-Control") == "private"
        assert listener.header("Access-Control-Allow-Origin") == "*"
        assert listener.header("Content-Type") == "text/event-stream"

    def test_the_client_is_told_when_to_come_again(self, stream_and_listener) -> None:
        _, listener = stream_and_listener(retry_ms=1500)
        assert listener.take() == b"retry: 1500\n\n"

    def test_a_client_that_comes_again_says_what_it_has(self, streaming) -> None:
        site = streaming()
        Listener(site)
        Listener(site, "Last-Event-ID: 7")
        Listener(site, "Last-Event-ID: \u20ac".encode().decode("latin-1"))
        assert [each.last_event_id for each in site.streams] == [None, "7", "\u20ac"]

    def test_the_program_ends_it_and_the_connection_lives_on(self, stream_and_listener) -> None:
        stream, listener = stream_and_listener()
        ended = []
        stream.set_closecb(lambda stream, arg: ended.append((stream.end, arg)), "arg")
        stream.send("last")
        stream.close()
        stream.close()
        assert ended == [(StreamEnd.CLOSED, "arg")]
        assert not stream.send("more")
        assert not stream.comment()
        assert stream.backlog_bytes == 0
        assert listener.events() == [("message", "last", "")]
        listener.peer.send(request("/again"))
        assert listener.peer.read_head()[0] == "HTTP/1.1 200 OK"

    def test_it_is_a_context_manager(self, streaming) -> None:
        site = streaming()
        Listener(site)
        with site.streams[0] as stream:
            stream.send("x")
        assert stream.end is StreamEnd.CLOSED

    @pytest.mark.parametrize("leave", ["reset", "half_close"])
    def test_a_client_that_leaves_is_noticed(self, stream_and_listener, leave) -> None:
        stream, listener = stream_and_listener()
        ended = []
        stream.set_closecb(lambda stream, arg: ended.append(stream.end))
        getattr(listener.peer, leave)()
        assert ended == [StreamEnd.GONE]
        assert not stream.send("x")

    def test_a_callback_that_raises_is_told_and_ends_no_loop(
        self, stream_and_listener, base
    ) -> None:
        raised = []
        base.exception_handler = raised.append
        stream, listener = stream_and_listener()
        stream.set_closecb(lambda stream, arg: 1 / 0)
        listener.peer.reset()
        assert [type(each) for each in raised] == [ZeroDivisionError]

    def test_an_old_client_has_it_up_to_the_end_of_the_connection(self, streaming) -> None:
        site = streaming()
        listener = Listener(site, version="1.0")
        site.streams[0].send("x")
        assert listener.events() == [("message", "x", "")]
        site.streams[0].close()
        assert not listener.peer.is_open()

    def test_a_head_has_no_events(self, streaming) -> None:
        site = streaming()
        reply = site.connect().ask(request(method="HEAD"), has_body=False)
        assert reply.field("Content-Type") == "text/event-stream"
        assert site.streams[0].end is StreamEnd.CLOSED
        assert not site.streams[0].send("x")

    def test_a_client_that_has_gone_before_has_none_either(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        peer.reset()
        stream = site.requests[0].start_event_stream()
        assert stream.end is StreamEnd.GONE
        stream.close()

    def test_a_request_is_answered_once(self, serve) -> None:
        site = serve()
        site.connect().send(request("/"))
        site.requests[0].start_event_stream()
        with pytest.raises(LocalProtocolError):
            site.requests[0].start_event_stream()

    def test_what_cannot_be_called_is_refused(self, stream_and_listener) -> None:
        stream, _ = stream_and_listener()
        for setter in (stream.set_closecb, stream.set_drainedcb, stream.set_stopcb):
            setter(None)
            with pytest.raises(ArgumentTypeError):
                setter(1)


class TestHeartbeat:
    def test_silence_is_broken_by_a_comment(self, stream_and_listener, clock) -> None:
        _, listener = stream_and_listener(heartbeat_s=10)
        clock.advance(9.5)
        assert listener.take() == b""
        clock.advance(0.5)
        assert listener.take() == b":\n\n"
        clock.advance(10)
        assert listener.take() == b":\n\n"

    def test_an_event_puts_it_off(self, stream_and_listener, clock) -> None:
        stream, listener = stream_and_listener(heartbeat_s=10)
        clock.advance(6)
        stream.send("x")
        listener.take()
        clock.advance(9)
        assert listener.take() == b""
        clock.advance(1)
        assert listener.take() == b":\n\n"

    def test_there_may_be_none(self, stream_and_listener, clock) -> None:
        stream, listener = stream_and_listener(heartbeat_s=None)
        clock.advance(10_000)
        assert listener.take() == b""
        assert stream.is_open, "and no time-out of the server's ends it"


class TestBackPressure:
    LONG = "x" * 64 * 1024

    def fill(self, stream, listener):
        """Send until the kernel takes no more; return how many events were taken."""
        count = 0
        while not stream.backlog_bytes:
            assert stream.send(self.LONG)
            count += 1
            listener.peer.settle()
        return count

    @pytest.mark.parametrize("beyond", [0, 1])
    def test_the_backlog_at_its_limit_and_beyond(self, streaming, beyond) -> None:
        site = streaming(max_backlog_bytes=1000, ends_on_overflow=False)
        Listener(site)
        (stream,) = site.streams
        framing = len(format_event(""))
        assert stream.send("x" * (1000 - framing + beyond)) == (not beyond)
        assert stream.is_open

    def test_an_event_beyond_ends_the_stream(self, stream_and_listener) -> None:
        stream, listener = stream_and_listener(max_backlog_bytes=100_000)
        ended = []
        stream.set_closecb(lambda stream, arg: ended.append(stream.end))
        assert stream.send(self.LONG)
        assert not stream.send(self.LONG)
        assert ended == [StreamEnd.OVERFLOW]
        assert not listener.peer.is_open()

    def test_or_is_told_alone_and_there_is_room_again_later(self, streaming) -> None:
        site = streaming(ends_on_overflow=False)
        listener = Listener(site, receive_bytes=4096)
        (stream,) = site.streams
        drained = []
        self.fill(stream, listener)
        stream.set_drainedcb(lambda stream, arg: drained.append(stream.backlog_bytes))
        while stream.send(self.LONG):
            pass
        assert stream.is_open
        assert 0 < stream.backlog_bytes <= 256 * 1024
        listener.peer.settle()
        assert drained == []
        listener.peer.until(lambda: (listener.peer.take(), drained)[1])
        assert drained == [0]
        assert stream.send(self.LONG)

    def test_who_does_not_read_gets_no_heartbeats(self, streaming, clock) -> None:
        site = streaming(heartbeat_s=1)
        listener = Listener(site, receive_bytes=4096)
        (stream,) = site.streams
        self.fill(stream, listener)
        waiting = stream.backlog_bytes
        clock.advance(1)
        listener.peer.settle()
        assert stream.backlog_bytes == waiting

    def test_who_takes_nothing_is_dropped_by_the_server(self, serve, clock) -> None:
        streams = []
        site = serve(lambda got, arg: streams.append(got.start_event_stream()), write_s=30)
        listener = Listener(site, receive_bytes=4096)
        self.fill(streams[0], listener)
        clock.advance(31)
        listener.peer.settle()
        assert streams[0].end is StreamEnd.GONE


class TestStop:
    def test_the_client_is_told_and_has_a_while(self, streaming, clock) -> None:
        site = streaming(stop_grace_s=5)
        listener = Listener(site)
        (stream,) = site.streams
        drained = []
        site.server.shutdown(drained.append)
        assert listener.events() == [("stop", "", "")]
        assert stream.send("still")
        clock.advance(4.9)
        assert listener.events() == [("message", "still", "")]
        assert drained == []
        clock.advance(0.1)
        listener.peer.settle()
        assert stream.end is StreamEnd.STOPPED
        assert drained == [site.server]
        assert not listener.peer.is_open()

    def test_a_client_that_leaves_by_itself_is_not_waited_for(self, streaming) -> None:
        site = streaming()
        listener = Listener(site)
        drained = []
        site.server.shutdown(drained.append)
        listener.peer.reset()
        assert drained == [site.server]

    def test_the_program_may_say_it_otherwise(self, streaming) -> None:
        site = streaming(stop_event=None)
        listener = Listener(site)
        (stream,) = site.streams
        stream.set_stopcb(
            lambda stream, arg: (stream.send(arg, retry_ms=9000), stream.close()), "x"
        )
        drained = []
        site.server.shutdown(drained.append)
        assert listener.take() == b"retry: 9000\ndata: x\n\n"
        assert stream.end is StreamEnd.CLOSED
        listener.peer.settle()
        assert drained == [site.server]

    def test_a_stream_that_begins_while_the_server_stops_is_told(self, serve, clock) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/"))
        site.server.shutdown()
        stream = site.requests[0].start_event_stream()
        clock.advance(5)
        peer.settle()
        assert stream.end is StreamEnd.STOPPED
        assert b"event: stop" in peer.read_to_end()

    def test_it_is_told_once(self, streaming) -> None:
        site = streaming(heartbeat_s=None)
        listener = Listener(site)
        site.server.shutdown()
        site.server.shutdown()
        assert listener.events() == [("stop", "", "")]

    def test_closing_the_server_ends_it_at_once(self, streaming) -> None:
        site = streaming()
        Listener(site)
        site.server.close()
        assert site.streams[0].end is StreamEnd.GONE

    def test_a_stream_that_has_ended_is_known_no_more(self, streaming) -> None:
        site = streaming()
        for leave in ("reset", "half_close"):
            getattr(Listener(site).peer, leave)()
        Listener(site)
        site.streams[-1].close()
        assert site.server._streams == set()
        assert site.server.connection_count == 1


def test_an_exchange_is_over_when_the_stream_is(streaming, clock) -> None:
    site = streaming()
    told = []
    site.server.add_observer(told.append)
    Listener(site)
    site.streams[0].send("x")
    clock.advance(3)
    assert told == []
    site.streams[0].close()
    (exchange,) = told
    assert (exchange.status, exchange.duration_s) == (200, 3)
    assert exchange.sent_bytes == len("data: x\n\n")


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat_s": 0},
        {"retry_ms": -1},
        {"max_backlog_bytes": 0},
        {"stop_grace_s": 0.0},
        {"stop_event": "a\nb"},
    ],
)
def test_bad_options_are_refused(options) -> None:
    with pytest.raises(ArgumentError):
        EventStreamOptions(**options)
