"""WebSocket sessions on the server's side, with wsproto for the client."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws_events
from wsproto.extensions import PerMessageDeflate

from evsvc.core import EV_READ, ArgumentError, ArgumentTypeError, PairBufferEvent, StateError
from evsvc.http import TrustedProxies, websocket
from evsvc.http.errors import LocalProtocolError
from evsvc.http.websocket import (
    WS_BINARY_FRAME,
    WS_CR_NONE,
    WS_TEXT_FRAME,
    WebSocketOptions,
)
from evsvc.http.websocket.session import NEXT, Phase, Step
from tests.http.peers import request

HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


class Client:
    """A WebSocket client on a peer of a site."""

    def __init__(self, peer, *, deflate=False, subprotocols=()) -> None:
        self.peer = peer
        self.frames = WSConnection(ConnectionType.CLIENT)
        extensions = [PerMessageDeflate()] if deflate else []
        peer.send(
            self.frames.send(
                ws_events.Request(
                    host="a", target="/ws", extensions=extensions, subprotocols=list(subprotocols)
                )
            )
        )
        (self.accepted,) = self.take()

    def take(self) -> list:
        """Return the events that have come."""
        self.peer.settle()
        self.peer.take()
        if self.peer.received:
            self.frames.receive_data(bytes(self.peer.received))
            self.peer.received.clear()
        return list(self.frames.events())

    def send(self, event) -> list:
        self.peer.send(self.frames.send(event))
        return self.take()


class Sessions:
    """A site whose `/ws` makes sessions that echo, and notes what they are told."""

    def __init__(
        self, serve, subprotocols=(), cb=None, server=None, origins=None, **options
    ) -> None:
        self.site = serve(**(server or {}))
        self.sessions: list = []
        self.messages: list = []
        self.ended: list = []
        self._cb = cb or self.echo
        self._options = WebSocketOptions(**options)
        self._subprotocols = subprotocols
        self._origins = origins
        self.site.server.set_cb("/ws", self.handler)

    def handler(self, got, arg) -> None:
        session = websocket.accept(
            got,
            self._cb,
            "arg",
            self._options,
            subprotocols=self._subprotocols,
            origins=self._origins,
        )
        if session is not None:
            session.set_closecb(lambda ended, arg: self.ended.append((ended, arg)), "closed")
            self.sessions.append(session)

    def echo(self, session, kind, data, arg) -> None:
        assert arg == "arg"
        self.messages.append((kind, data))
        (session.send_text if kind is WS_TEXT_FRAME else session.send_binary)(data)

    def client(self, **how) -> Client:
        return Client(self.site.connect(), **how)


@pytest.fixture
def sessions(serve):
    return lambda **how: Sessions(serve, **how)


class TestHandshake:
    def test_the_answer_is_that_of_the_rfc(self, sessions) -> None:
        peer = sessions().site.connect()
        peer.send(request("/ws", *HANDSHAKE))
        line, fields = peer.read_head()
        assert line == "HTTP/1.1 101 Switching Protocols"
        lower = {name.lower(): value for name, value in fields}
        assert lower["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert lower["upgrade"].lower() == "websocket"

    def test_the_answer_is_that_of_libevents_suite(self, sessions) -> None:
        peer = sessions().site.connect()
        key = "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw=="
        peer.send(request("/ws", *HANDSHAKE[:2], key, HANDSHAKE[3]))
        fields = dict(peer.read_head()[1])
        assert fields["Sec-WebSocket-Accept"] == "HSmrc0sMlYUkAGmm5OPpG2HaGWk="

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("Upgrade: websocket", "Upgrade: h2c"),
            ("Upgrade: websocket", "Upgrade: websockets"),
            ("Connection: keep-alive, Upgrade", "Connection: upgraded"),
            ("dGhlIHNhbXBsZSBub25jZQ==", ""),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ\xe9=="),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==, x"),
        ],
    )
    def test_what_is_malformed_is_400(self, sessions, old, new) -> None:
        lines = [line.replace(old, new) for line in HANDSHAKE]
        assert sessions().site.connect().ask(request("/ws", *lines)).status == 400

    @pytest.mark.parametrize("index", [2, 3])
    def test_a_field_that_is_there_twice_is_refused(self, sessions, index) -> None:
        wire = request("/ws", *HANDSHAKE, HANDSHAKE[index])
        assert sessions().site.connect().ask(wire).status in (400, 426)

    @pytest.mark.parametrize(
        "lines",
        [
            ("Upgrade: h2c, WebSocket", *HANDSHAKE[1:]),
            (HANDSHAKE[0], "Connection: upgrade", "Connection: keep-alive", *HANDSHAKE[2:]),
        ],
    )
    def test_lists_are_read_as_lists(self, sessions, lines) -> None:
        peer = sessions().site.connect()
        peer.send(request("/ws", *lines))
        assert peer.read_head()[0].startswith("HTTP/1.1 101 ")

    def test_any_host_will_do(self, sessions) -> None:
        peer = sessions().site.connect()
        peer.send(request("/ws", *HANDSHAKE).replace(b"Host: h", b"Host: " + b"a" * 70))
        assert peer.read_head()[0].startswith("HTTP/1.1 101 ")

    def test_headers_of_the_programs_go_along(self, serve) -> None:
        def handler(got, arg):
            got.output_headers.add("Set-Cookie", "a=b")
            websocket.accept(got, print)

        peer = serve(handler).connect()
        peer.send(request("/", *HANDSHAKE))
        assert ("Set-Cookie", "a=b") in peer.read_head()[1]

    @pytest.mark.parametrize(
        "name", ["Connection", "upgrade", "Content-Length", "Sec-WebSocket-Accept"]
    )
    def test_but_not_those_of_the_handshake(self, serve, caplog, name) -> None:
        def handler(got, arg):
            got.output_headers.add(name, "1")
            with pytest.raises(ArgumentError, match=name):
                websocket.accept(got, print)
            got.output_headers.clear()
            got.send_reply(204)

        wire = request("/", *HANDSHAKE)
        assert serve(handler).connect().ask(wire, has_body=False).status == 204

    @pytest.mark.parametrize(
        ("origin", "origins", "status"),
        [
            (None, (), 101),
            ("http://h", (), 101),
            ("http://H:80", (), 101),
            ("https://h", (), 101),
            ("https://h:80", (), 403),
            ("http://h.example", (), 403),
            ("null", (), 403),
            ("ftp://h", (), 403),
            ("http://[", (), 403),
            ("https://good.example", ("https://Good.example/",), 101),
            ("http://good.example", ("https://good.example",), 403),
            ("https://bad.example", None, 101),
        ],
    )
    def test_pages_of_other_origins_are_refused(self, sessions, origin, origins, status) -> None:
        peer = sessions(origins=origins).site.connect()
        lines = () if origin is None else (f"Origin: {origin}",)
        peer.send(request("/ws", *HANDSHAKE, *lines))
        assert int(peer.read_head()[0].split()[1]) == status

    def test_a_trusted_proxy_says_what_was_addressed(self, sessions) -> None:
        made = sessions(origins=())
        made.site.server.set_trusted_proxies(TrustedProxies(["127.0.0.1"], takes=("for", "host")))
        lines = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: outside.example")
        for origin, status in (("https://outside.example", 101), ("https://h", 403)):
            peer = made.site.connect()
            peer.send(request("/ws", *HANDSHAKE, *lines, f"Origin: {origin}"))
            assert int(peer.read_head()[0].split()[1]) == status

    @pytest.mark.parametrize("names", ["chat", ("a b",), ("",), ("a", "a"), (5,)])
    def test_what_is_no_list_of_subprotocols_is_refused(self, serve, names) -> None:
        def handler(got, arg):
            with pytest.raises(ArgumentError):
                websocket.accept(got, print, subprotocols=names)
            got.send_reply(204)

        wire = request("/", *HANDSHAKE)
        assert serve(handler).connect().ask(wire, has_body=False).status == 204

    @pytest.mark.parametrize(
        ("missing", "status"),
        [(0, 400), (1, 400), (2, 400), (3, 400)],
    )
    def test_what_is_no_handshake_is_400_and_the_connection_lives_on(
        self, sessions, missing, status
    ) -> None:
        peer = sessions().site.connect()
        lines = [line for index, line in enumerate(HANDSHAKE) if index != missing]
        assert peer.ask(request("/ws", *lines)).status == status
        assert peer.is_open()

    def test_another_version_is_told_ours(self, sessions) -> None:
        peer = sessions().site.connect()
        reply = peer.ask(request("/ws", *HANDSHAKE[:3], "Sec-WebSocket-Version: 8"))
        assert (reply.status, reply.field("Sec-WebSocket-Version")) == (426, "13")

    @pytest.mark.parametrize("how", [{"method": "POST"}, {"version": "1.0"}])
    def test_it_is_a_get_of_http_1_1(self, sessions, how) -> None:
        peer = sessions().site.connect()
        peer.send(request("/ws", *HANDSHAKE, **how))
        assert peer.read_message(to_end=True).status == 400

    def test_a_subprotocol_of_both_is_taken(self, sessions) -> None:
        made = sessions(subprotocols=("chat", "news"))
        client = made.client(subprotocols=("other", "news", "chat"))
        assert client.accepted.subprotocol == made.sessions[0].subprotocol == "chat"
        assert made.client(subprotocols=("other",)).accepted.subprotocol is None

    def test_frames_behind_the_handshake_are_read(self, sessions) -> None:
        made = sessions()
        frames = WSConnection(ConnectionType.CLIENT)
        frames.send(ws_events.Request(host="a", target="/ws"))
        masked_hi = b"\x81\x82\x00\x00\x00\x00hi"
        made.site.connect().send(request("/ws", *HANDSHAKE) + masked_hi)
        assert made.messages == [(WS_TEXT_FRAME, "hi")]

    def test_what_is_no_callback_is_refused(self, serve, caplog) -> None:
        site = serve(lambda got, arg: websocket.accept(got, 5))
        assert site.connect().ask(request("/ws", *HANDSHAKE)).status == 500


class TestMessages:
    @pytest.mark.parametrize("deflate", [False, True])
    def test_texts_and_bytes_go_both_ways(self, sessions, deflate) -> None:
        made = sessions(deflate=deflate)
        client = made.client(deflate=deflate)
        assert bool(client.accepted.extensions) is deflate
        (text,) = client.send(ws_events.TextMessage(data="h\xe9llo" * 100))
        assert text.data == "h\xe9llo" * 100
        (data,) = client.send(ws_events.BytesMessage(data=b"\0\xff"))
        assert bytes(data.data) == b"\0\xff"
        assert [kind for kind, _ in made.messages] == [WS_TEXT_FRAME, WS_BINARY_FRAME]

    def test_fragments_are_one_message(self, sessions) -> None:
        made = sessions()
        client = made.client()
        for piece, last in (("Client:", False), (" ", False), ("hello", True)):
            client.send(ws_events.TextMessage(data=piece, message_finished=last))
        assert made.messages == [(WS_TEXT_FRAME, "Client: hello")]

    def test_fragments_are_sent(self, sessions) -> None:
        made = sessions()
        client = made.client()
        made.sessions[0].send_fragment(b"a", is_last=False)
        made.sessions[0].send_fragment(b"b", is_last=True)
        pieces = client.take()
        assert [(bytes(each.data), each.message_finished) for each in pieces] == [
            (b"a", False),
            (b"b", True),
        ]

    @pytest.mark.parametrize("deflate", [False, True])
    def test_one_byte_at_a_time_is_the_same(self, sessions, deflate) -> None:
        made = sessions(deflate=deflate)
        client = made.client(deflate=deflate)
        text = "sl\xf6w\r\n\U0001f40c"
        client.peer.send_bytewise(client.frames.send(ws_events.TextMessage(data=text)))
        client.peer.send_bytewise(client.frames.send(ws_events.BytesMessage(data=b"\r\n")))
        assert made.messages == [(WS_TEXT_FRAME, text), (WS_BINARY_FRAME, b"\r\n")]

    @pytest.mark.parametrize("deflate", [False, True])
    def test_a_ping_between_fragments_leaves_the_message_alone(self, sessions, deflate) -> None:
        made = sessions(deflate=deflate)
        client = made.client(deflate=deflate)
        client.send(ws_events.TextMessage(data="Hello " * 20, message_finished=False))
        (pong,) = client.send(ws_events.Ping(payload=b"x"))
        assert bytes(pong.payload) == b"x"
        client.send(ws_events.TextMessage(data="world"))
        client.send(ws_events.TextMessage(data="Hello again"))
        assert [text for _, text in made.messages] == ["Hello " * 20 + "world", "Hello again"]

    @pytest.mark.parametrize("deflate", [False, True])
    def test_a_message_is_sent_as_it_comes_to_be(self, sessions, deflate) -> None:
        made = sessions(deflate=deflate)
        client = made.client(deflate=deflate)
        (session,) = made.sessions
        session.send_fragment("one ")
        (piece,) = [each for each in client.take() if each.data]
        assert (piece.data, piece.message_finished) == ("one ", False)
        with pytest.raises(StateError, match="to its end"):
            session.send_text("x")
        with pytest.raises(StateError, match="to its end"):
            session.send_binary(b"x")
        with pytest.raises(ArgumentTypeError, match="one type"):
            session.send_fragment(b"x")
        with pytest.raises(ArgumentTypeError, match="NoneType"):
            session.send_fragment(None)
        if not deflate:  # wsproto's own inflating takes a ping for the message's end
            session.ping()
        session.send_fragment("two", is_last=True)
        session.send_text("three")
        texts = [each.data for each in client.take() if isinstance(each, ws_events.TextMessage)]
        assert "".join(texts) == "twothree"

    @pytest.mark.parametrize(("count", "code"), [(3, None), (4, 1008)])
    def test_a_message_has_so_many_fragments_at_most(self, sessions, count, code) -> None:
        made = sessions(max_fragments=3)
        client = made.client()
        for number in range(count):
            last = number == 2
            got = client.send(ws_events.BytesMessage(data=b"", message_finished=last and not code))
        assert [each.code for each in got if not isinstance(each, ws_events.Message)] == (
            [code] if code else []
        )
        assert len(made.messages) == (code is None)

    def test_a_fragment_in_pieces_counts_once(self, sessions) -> None:
        made = sessions(max_fragments=2)
        client = made.client()
        for last in (False, True):
            data = client.frames.send(ws_events.TextMessage(data="abcd", message_finished=last))
            client.peer.send_bytewise(data)
        assert made.messages == [(WS_TEXT_FRAME, "abcdabcd")]
        assert made.sessions[0].is_open

    @pytest.mark.parametrize(("more", "code"), [("", None), ("x", 1009)])
    @pytest.mark.parametrize("pieces", [1, 2])
    def test_a_text_counts_in_bytes(self, sessions, pieces, more, code) -> None:
        made = sessions(max_message_bytes=100)
        client = made.client()
        got = []
        for number in range(pieces):
            last = number == pieces - 1
            data = "\u20ac" * (33 // pieces) + ("y" * (1 if pieces == 1 else 4) + more) * last
            got += client.send(ws_events.TextMessage(data=data, message_finished=last))
        assert getattr(got[-1], "code", None) == code
        assert len(made.messages) == (code is None)

    def test_a_lone_surrogate_is_no_text(self, sessions) -> None:
        made = sessions()
        made.client()
        with pytest.raises(ArgumentError, match="Unicode"):
            made.sessions[0].send_text("\ud800")

    @pytest.mark.parametrize(("size", "code"), [(100, None), (101, 1009)])
    @pytest.mark.parametrize("deflate", [False, True])
    def test_a_message_has_a_limit(self, sessions, size, code, deflate) -> None:
        made = sessions(max_message_bytes=100, deflate=deflate)
        client = made.client(deflate=deflate)
        (got,) = client.send(ws_events.BytesMessage(data=b"x" * size))
        assert getattr(got, "code", None) == code
        assert len(made.messages) == (code is None)

    def test_the_pieces_count_together(self, sessions) -> None:
        client = sessions(max_message_bytes=10).client()
        client.send(ws_events.TextMessage(data="123456", message_finished=False))
        (got,) = client.send(ws_events.TextMessage(data="78901", message_finished=False))
        assert got.code == 1009

    def test_too_much_that_waits_is_refused(self, sessions) -> None:
        made = sessions(max_output_bytes=1000)
        made.client()
        (session,) = made.sessions
        session.send_binary(b"x" * 1001)
        with pytest.raises(StateError, match="wait to be sent"):
            session.send_binary(b"x")
        drained = []
        session.set_drainedcb(lambda *args: drained.append(args), "arg")
        made.site.peers[0].settle()
        assert drained == [(session, "arg")]
        session.send_binary(b"x")

    @pytest.mark.parametrize("beyond", [0, 1])
    def test_so_much_may_wait_before_another_is_refused(self, sessions, beyond) -> None:
        made = sessions(max_output_bytes=1000)
        made.client()
        (session,) = made.sessions
        session.send_binary(b"x" * (996 + beyond))
        assert session.unsent_bytes == 1000 + beyond, "with the head of its frame"
        if beyond:
            with pytest.raises(StateError, match="1001 bytes wait"):
                session.send_binary(b"x")
        else:
            session.send_binary(b"x")

    @pytest.mark.parametrize(("call", "value"), [("send_text", b"x"), ("send_binary", "x")])
    def test_the_wrong_type_is_refused(self, sessions, call, value) -> None:
        made = sessions()
        made.client()
        with pytest.raises(ArgumentTypeError):
            getattr(made.sessions[0], call)(value)

    def test_a_paused_one_holds_the_peer_back(self, sessions) -> None:
        made = sessions()
        client = made.client()
        made.sessions[0].pause()
        client.send(ws_events.TextMessage(data="later"))
        assert not made.messages
        made.sessions[0].resume()
        client.take()
        assert made.messages == [(WS_TEXT_FRAME, "later")]

    def test_a_pause_holds_what_has_come_already(self, sessions) -> None:
        def pause_each(session, kind, data, arg):
            texts.append(data)
            session.pause()

        texts: list[str] = []
        made = sessions(cb=pause_each)
        client = made.client()
        frames = [client.frames.send(ws_events.TextMessage(data=str(i))) for i in range(3)]
        client.peer.send(b"".join(frames))
        for expected in (["0"], ["0", "1"], ["0", "1", "2"]):
            assert texts == expected
            made.sessions[0].resume()
            made.sessions[0].resume()
            client.take()

    def test_a_paused_one_is_not_thought_dead(self, sessions, clock) -> None:
        made = sessions(ping_s=10.0, pong_s=5.0)
        client = made.client()
        made.sessions[0].pause()
        for _ in range(10):
            clock.advance(10)
            client.take()
        assert not made.ended
        made.sessions[0].resume()
        clock.advance(9)
        assert client.take() == []
        clock.advance(1.5)
        assert [type(each) for each in client.take()] == [ws_events.Ping]

    @pytest.mark.parametrize("how", ["before", "after"])
    def test_the_end_of_a_peer_that_is_held_back_is_told(self, sessions, how) -> None:
        made = sessions()
        client = made.client()
        (session,) = made.sessions
        gone = []
        if how == "after":
            session.pause()
        session.set_gonecb(lambda *args: gone.append(args), "arg")
        session.pause()
        client.send(ws_events.TextMessage(data="last words"))
        assert not gone
        client.peer.half_close()
        assert gone == [(session, "arg")]
        assert not made.ended
        assert not made.messages
        session.resume()
        client.peer.settle()
        assert made.messages == [(WS_TEXT_FRAME, "last words")]
        assert len(made.ended) == 1
        assert len(gone) == 1

    def test_a_peer_that_does_not_take_its_answers_is_not_read(self, sessions) -> None:
        made = sessions(max_output_bytes=200_000, max_message_bytes=100_000, write_s=1000.0)
        client = Client(made.site.connect(receive_bytes=4096))
        frame = client.frames.send(ws_events.BytesMessage(data=b"x" * 50_000))
        client.peer.sock.setblocking(False)
        unsent = memoryview(frame * 200)
        for _ in range(1000):
            with contextlib.suppress(BlockingIOError):
                unsent = unsent[client.peer.sock.send(unsent) :]
            client.peer.turn()
        (session,) = made.sessions
        assert len(made.messages) < 200
        assert session.is_open
        assert 100_000 < session.unsent_bytes < 200_000
        received = 0
        while received < 200 * 50_000:
            client.peer.turn()
            client.peer.take()
            received += len(client.peer.received)
            client.peer.received.clear()
            if unsent:
                with contextlib.suppress(BlockingIOError):
                    unsent = unsent[client.peer.sock.send(unsent) :]
        assert len(made.messages) == 200

    def test_pings_of_a_peer_that_does_not_read_pile_up_nothing(self, sessions) -> None:
        made = sessions(max_output_bytes=20_000)
        client = Client(made.site.connect(receive_bytes=4096))
        ping = client.frames.send(ws_events.Ping(payload=b"x" * 125))
        unsent = memoryview(ping * 100_000)
        for _ in range(1000):
            with contextlib.suppress(BlockingIOError):
                unsent = unsent[client.peer.sock.send(unsent[:65536]) :]
            client.peer.turn()
        assert made.sessions[0].unsent_bytes < 20_000

    def test_a_peer_that_takes_nothing_is_dropped(self, sessions, clock) -> None:
        made = sessions(max_output_bytes=1 << 26, write_s=7.0)
        peer = made.site.connect(receive_bytes=4096)
        Client(peer)
        made.sessions[0].send_binary(b"x" * (1 << 25))
        peer.settle()
        clock.advance(6.9)
        peer.settle()
        assert not made.ended
        clock.advance(0.1)
        peer.settle()
        assert len(made.ended) == 1

    def test_a_callback_that_raises_ends_it_with_1011(self, sessions, caplog) -> None:
        made = sessions(cb=lambda *args: 1 / 0)
        (got,) = made.client().send(ws_events.TextMessage(data="x"))
        assert got.code == 1011
        assert len(made.ended) == 1
        assert made.site.connect().get("/ws").status == 400


class TestPings:
    def test_a_ping_is_answered(self, sessions) -> None:
        (got,) = sessions().client().send(ws_events.Ping(payload=b"abc"))
        assert isinstance(got, ws_events.Pong)
        assert bytes(got.payload) == b"abc"

    def test_silence_is_asked_for_a_sign_of_life(self, sessions, clock) -> None:
        made = sessions(ping_s=10.0, pong_s=5.0)
        client = made.client()
        clock.advance(10)
        (ping,) = client.take()
        assert isinstance(ping, ws_events.Ping)
        client.send(ping.response())
        clock.advance(9.9)
        assert client.take() == []
        assert not made.ended
        clock.advance(0.1)
        assert [type(each) for each in client.take()] == [ws_events.Ping]
        clock.advance(4.9)
        client.take()
        assert not made.ended
        clock.advance(0.1)
        client.take()
        assert len(made.ended) == 1
        assert made.sessions[0].close_code == 1006

    def test_the_program_may_ping(self, sessions) -> None:
        made = sessions()
        client = made.client()
        pongs = []
        made.sessions[0].set_pongcb(lambda *args: pongs.append(args), "arg")
        made.sessions[0].ping(b"x")
        (ping,) = client.take()
        assert bytes(ping.payload) == b"x"
        client.send(ping.response())
        assert pongs == [(made.sessions[0], b"x", "arg")]
        made.sessions[0].ping(b"x" * 125)
        made.sessions[0].set_pongcb(None)
        client.send(ws_events.Pong(payload=b"asked for by nobody"))
        assert len(pongs) == 1
        with pytest.raises(ArgumentError, match="126"):
            made.sessions[0].ping(b"x" * 126)


class TestTheEnd:
    def test_the_peers_close_is_answered_and_told(self, sessions) -> None:
        made = sessions()
        client = made.client()
        (answer,) = client.send(ws_events.CloseConnection(code=1001, reason="bye"))
        assert answer.code == 1001
        assert client.peer.read_to_end() == b""
        (session,) = made.sessions
        assert made.ended == [(session, "closed")]
        assert (session.close_code, session.close_reason) == (1001, "bye")
        assert made.site.server.connection_count == 0

    def test_ours_waits_for_the_answer(self, sessions) -> None:
        made = sessions()
        client = made.client()
        (session,) = made.sessions
        session.shutdown(4000, "enough")
        assert not session.is_open
        (got,) = client.take()
        assert (got.code, got.reason) == (4000, "enough")
        assert not made.ended
        client.send(got.response())
        assert len(made.ended) == 1

    def test_but_not_for_ever(self, sessions, clock) -> None:
        made = sessions(close_s=5.0)
        client = made.client()
        made.sessions[0].shutdown()
        client.take()
        clock.advance(4.9)
        client.take()
        assert not made.ended
        clock.advance(0.1)
        client.take()
        assert len(made.ended) == 1

    @pytest.mark.parametrize("how", ["half_close", "reset"])
    def test_a_peer_that_leaves_is_1006(self, sessions, how) -> None:
        made = sessions()
        getattr(made.client().peer, how)()
        assert made.sessions[0].close_code == 1006
        assert len(made.ended) == 1

    def test_close_is_at_once_and_may_be_repeated(self, sessions) -> None:
        made = sessions()
        client = made.client()
        made.sessions[0].close()
        made.sessions[0].close()
        assert len(made.ended) == 1
        assert client.peer.read_to_end() == b""
        with pytest.raises(StateError):
            made.sessions[0].send_text("x")

    def test_one_that_has_ended_takes_all_calls_but_sends_nothing(self, sessions) -> None:
        made = sessions()
        made.client()
        (session,) = made.sessions
        session.pause()
        session.close()
        session.resume()
        session.pause()
        session.shutdown()
        session.set_drainedcb(print)
        session.set_gonecb(print)
        session.set_pongcb(print)
        session.set_closecb(print)
        assert session.unsent_bytes == 0
        for send in (
            session.ping,
            lambda: session.send_fragment("x"),
            lambda: session.send_text(""),
        ):
            with pytest.raises(StateError):
                send()

    def test_a_callback_may_do_anything_to_its_own_session(self, sessions) -> None:
        for end in ("close", "shutdown", "pause"):
            made = sessions(cb=lambda session, kind, data, arg, end=end: getattr(session, end)())
            client = made.client()
            frame = client.frames.send(ws_events.TextMessage(data="x"))
            client.peer.send(frame * 3)
            made.site.close()
            assert len(made.ended) == 1

    def test_a_frame_that_breaks_the_protocol_is_1002(self, sessions) -> None:
        made = sessions()
        client = made.client()
        client.peer.send(b"\x81\x02hi")  # not masked
        (got,) = client.take()
        assert got.code == 1002
        assert len(made.ended) == 1

    def test_a_close_may_be_without_a_code(self, sessions) -> None:
        made = sessions()
        client = made.client()
        made.sessions[0].shutdown(WS_CR_NONE)
        made.sessions[0].shutdown()
        (got,) = client.take()
        assert got.code == 1005
        client.send(got.response())
        assert made.sessions[0].close_code == 1005
        assert len(made.ended) == 1

    def test_no_message_is_told_behind_our_close(self, sessions) -> None:
        def shut(session, kind, data, arg):
            told.append(data)
            session.shutdown()

        told: list[str] = []
        made = sessions(cb=shut)
        client = made.client()
        frames = [client.frames.send(ws_events.TextMessage(data=text)) for text in "ab"]
        client.peer.send(b"".join(frames))
        (got,) = client.take()
        client.send(got.response())
        assert told == ["a"]
        assert len(made.ended) == 1

    def test_what_a_failed_peer_goes_on_to_send_is_thrown_away(self, sessions) -> None:
        made = sessions(max_message_bytes=10)
        client = made.client()
        client.peer.send(client.frames.send(ws_events.BytesMessage(data=b"x" * 500_000)))
        (got,) = client.take()
        assert got.code == 1009
        client.peer.receive_until(lambda: client.peer.ended)
        assert not client.peer.was_reset

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ("83 80 00000000", 1002),  # opcodes that nobody has given a meaning
            ("87 80 00000000", 1002),
            ("8b 80 00000000", 1002),
            ("8f 80 00000000", 1002),
            ("c1 80 00000000", 1002),  # reserved bits
            ("a1 80 00000000", 1002),
            ("91 80 00000000", 1002),
            ("c9 80 00000000", 1002),
            ("80 80 00000000", 1002),  # the continuation of nothing
            ("01 80 00000000 81 80 00000000", 1002),  # a message within a message
            ("09 80 00000000", 1002),  # a ping in fragments
            ("89 fe 007e 00000000", 1002),  # of 126 bytes
            ("81 fe 007d 00000000", 1002),  # a length not in its shortest form
            ("81 ff 000000000000ffff 00000000", 1002),
            ("82 ff 8000000000000000 00000000", 1002),
            ("82 ff 7fffffffffffffff 00000000 00", None),  # so far so good
            ("88 81 00000000 03", 1002),  # half a code
            ("88 82 00000000 03e7", 1002),  # 999
            ("88 82 00000000 03ec", 1002),  # 1004
            ("88 82 00000000 03ed", 1002),  # 1005
            ("88 82 00000000 03ee", 1002),  # 1006
            ("88 82 00000000 03f7", 1002),  # 1015
            ("88 82 00000000 07d0", 1002),  # 2000
            ("88 82 00000000 1388", 1002),  # 5000
            ("88 83 00000000 03e8 ff", 1007),  # a reason that is no UTF-8
            ("81 81 00000000 ff", 1007),
            ("81 82 00000000 c0 80", 1007),  # longer than it need be
            ("81 83 00000000 ed a0 80", 1007),  # a surrogate
            ("81 84 00000000 f4 90 80 80", 1007),  # beyond Unicode
            ("81 81 00000000 c3", 1007),  # half a character
            ("01 81 00000000 c3 80 81 00000000 28", 1007),
            ("01 81 00000000 ff", 1007),  # seen before the end
        ],
    )
    def test_frames_that_break_the_rules(self, sessions, frame, code) -> None:
        made = sessions()
        client = made.client()
        client.peer.send(bytes.fromhex(frame))
        assert [each.code for each in client.take()] == ([code] if code else [])
        assert not made.messages
        assert len(made.ended) == (code is not None)

    def test_a_character_may_lie_in_two_fragments(self, sessions) -> None:
        made = sessions()
        made.client().peer.send(bytes.fromhex("01 81 00000000 c3 80 81 00000000 a9"))
        assert made.messages == [(WS_TEXT_FRAME, "\xe9")]

    @pytest.mark.parametrize("code", [1, 999, 1004, 1005, 1006, 1015, 2999, 5000])
    def test_codes_that_are_never_sent_are_refused(self, sessions, code) -> None:
        made = sessions()
        made.client()
        with pytest.raises(ArgumentError, match=str(code)):
            made.sessions[0].shutdown(code)

    @pytest.mark.parametrize(("size", "fits"), [(123, True), (124, False)])
    def test_a_reason_has_a_length(self, sessions, size, fits) -> None:
        made = sessions()
        made.client()
        if fits:
            made.sessions[0].shutdown(1000, "x" * size)
        else:
            with pytest.raises(ArgumentError, match="123"):
                made.sessions[0].shutdown(1000, "x" * size)

    def test_the_servers_shutdown_says_going_away(self, sessions) -> None:
        made = sessions()
        client = made.client()
        drained = []
        made.site.server.shutdown(drained.append)
        (got,) = client.take()
        assert got.code == 1001
        assert not drained
        client.send(got.response())
        assert drained == [made.site.server]

    def test_who_does_not_answer_it_is_cut_off(self, sessions, clock) -> None:
        made = sessions(close_s=5.0)
        client = made.client()
        drained = []
        made.site.server.shutdown(drained.append)
        client.take()
        clock.advance(5)
        client.take()
        assert drained == [made.site.server]
        assert made.sessions[0].close_code == 1006

    def test_the_deadline_of_a_stop_ends_it(self, sessions, clock) -> None:
        made = sessions(close_s=50.0)
        client = made.client()
        drained = []
        made.site.server.shutdown(drained.append, deadline_s=3.0)
        assert [each.code for each in client.take()] == [1001]
        clock.advance(3)
        client.take()
        assert len(made.ended) == 1
        assert drained == [made.site.server]

    def test_a_paused_one_hears_the_answer_to_its_close(self, sessions) -> None:
        made = sessions()
        client = made.client()
        made.sessions[0].pause()
        client.send(ws_events.TextMessage(data="unheard"))
        made.sessions[0].shutdown()
        (got,) = client.take()
        client.send(got.response())
        assert not made.messages
        assert made.sessions[0].close_code == 1000
        assert len(made.ended) == 1

    def test_a_server_that_stops_makes_no_more_of_them(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(request("/", *HANDSHAKE))
        drained = []
        site.server.shutdown(drained.append)
        assert websocket.accept(site.requests[0], print) is None
        assert peer.read_message().status == 503
        peer.settle()
        assert drained == [site.server]

    def test_the_servers_close_ends_it(self, sessions) -> None:
        made = sessions()
        made.client()
        made.site.server.close()
        assert len(made.ended) == 1

    def test_any_bufferevent_may_carry_it(self, base, sessions) -> None:
        """Here both ends are in memory."""
        made = sessions()
        ours, theirs = PairBufferEvent.new(base)
        theirs.enable(EV_READ)
        made.site.server.serve(ours)
        masked_hi = b"\x81\x82\x00\x00\x00\x00hi"
        theirs.write(request("/ws", *HANDSHAKE) + masked_hi)
        made.site.connect().settle()
        head, _, frame = bytes(theirs.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert frame == b"\x81\x02hi"
        theirs.close()
        made.site.connect().settle()
        assert len(made.ended) == 1

    def test_it_counts_as_a_connection(self, sessions) -> None:
        made = sessions(server={"max_connections": 1})
        made.client()
        assert made.site.server.connection_count == 1
        assert made.site.connect().read_message().status == 503


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_only_listed_moves_are_legal(phase, step) -> None:
    after = NEXT.get((phase, step))
    if step is Step.CLOSE:
        assert after is Phase.CLOSED
    elif phase in (Phase.ENDING, Phase.CLOSED) or (phase, step) == (Phase.CLOSING, Step.SHUTDOWN):
        assert after is None
    else:
        assert after in (Phase.CLOSING, Phase.ENDING)


@pytest.mark.parametrize(
    "name", [field for field in WebSocketOptions.__slots__ if not field.startswith("deflate")]
)
def test_every_limit_is_positive(name) -> None:
    with pytest.raises(ArgumentError, match=name):
        WebSocketOptions(**{name: 0})


class TestTakeOver:
    def test_another_protocol_gets_the_carrier_and_what_came_behind(self, serve) -> None:
        taken = []

        def handler(got, arg):
            got.output_headers.add("Upgrade", "echo")
            got.output_headers.add("Connection", "upgrade")
            bufferevent, rest = got.take_over()
            bufferevent.setcb(lambda bev, ctx: bev.write(bev.read()), None, None)
            taken.append((bufferevent, rest))
            assert got.connection is None
            with pytest.raises(LocalProtocolError):
                got.send_reply(200)

        site = serve(handler)
        peer = site.connect()
        peer.send(request("/", "Upgrade: echo", "Connection: upgrade") + b"behind")
        assert peer.read_head()[0] == "HTTP/1.1 101 Switching Protocols"
        ((bufferevent, rest),) = taken
        assert rest == b"behind"
        peer.send(b"hello")
        peer.receive_until(lambda: peer.received == b"hello")
        assert site.server.connection_count == 0
        bufferevent.close()
        assert peer.read_to_end() == b"hello"

    def test_what_is_taken_over_is_no_request_whose_client_has_gone(self, serve) -> None:
        told = []

        def handler(got, arg):
            got.set_on_gone_cb(lambda got, arg: told.append(got))
            got.take_over()[0].close()

        peer = serve(handler).connect()
        peer.send(request("/", "Upgrade: echo", "Connection: upgrade"))
        peer.settle()
        assert told == []

    def test_connect_is_granted_with_200(self, serve) -> None:
        def handler(got, arg):
            got.take_over()[0].close()

        site = serve(handler)
        site.server.set_allowed_methods(1 << 7)
        peer = site.connect()
        peer.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        peer.settle()
