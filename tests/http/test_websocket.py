"""WebSocket sessions on the server's side, with wsproto for the client."""

from __future__ import annotations

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws_events
from wsproto.extensions import PerMessageDeflate

from evsvc.core import ArgumentError, ArgumentTypeError, StateError
from evsvc.http import websocket
from evsvc.http.errors import LocalProtocolError
from evsvc.http.websocket import WS_BINARY_FRAME, WS_TEXT_FRAME, WebSocketOptions
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

    def __init__(self, serve, subprotocols=(), cb=None, server=None, **options) -> None:
        self.site = serve(**(server or {}))
        self.sessions: list = []
        self.messages: list = []
        self.ended: list = []
        self._cb = cb or self.echo
        self._options = WebSocketOptions(**options)
        self._subprotocols = subprotocols
        self.site.server.set_cb("/ws", self.handler)

    def handler(self, got, arg) -> None:
        session = websocket.accept(
            got, self._cb, "arg", self._options, subprotocols=self._subprotocols
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

    def test_one_byte_at_a_time_is_the_same(self, sessions) -> None:
        made = sessions()
        client = made.client()
        client.peer.send_bytewise(client.frames.send(ws_events.TextMessage(data="slow")))
        assert made.messages == [(WS_TEXT_FRAME, "slow")]

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
        clock.advance(0.2)
        client.take()
        clock.advance(5)
        client.take()
        assert len(made.ended) == 1
        assert made.sessions[0].close_code == 1006

    def test_the_program_may_ping(self, sessions) -> None:
        made = sessions()
        client = made.client()
        made.sessions[0].ping(b"x")
        (ping,) = client.take()
        assert bytes(ping.payload) == b"x"
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
        clock.advance(5)
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

    def test_a_frame_that_breaks_the_protocol_is_1002(self, sessions) -> None:
        made = sessions()
        client = made.client()
        client.peer.send(b"\x81\x02hi")  # not masked
        (got,) = client.take()
        assert got.code == 1002
        assert len(made.ended) == 1

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
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

    def test_the_servers_close_ends_it(self, sessions) -> None:
        made = sessions()
        made.client()
        made.site.server.close()
        assert len(made.ended) == 1

    def test_it_counts_as_a_connection(self, sessions) -> None:
        made = sessions(server={"max_connections": 1})
        made.client()
        assert made.site.server.connection_count == 1
        assert made.site.connect().read_message().status == 503


@pytest.mark.parametrize(
    "name", [field for field in WebSocketOptions.__slots__ if field != "deflate"]
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

    def test_connect_is_granted_with_200(self, serve) -> None:
        def handler(got, arg):
            got.take_over()[0].close()

        site = serve(handler)
        site.server.set_allowed_methods(1 << 7)
        peer = site.connect()
        peer.send(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")
        peer.settle()
