"""WebSockets by URL: the handshake's other side, with our own server and with raw ones."""

from __future__ import annotations

import gc
import re

import pytest

from evsvc.core import EVLOOP_NONBLOCK, ArgumentError, ArgumentTypeError
from evsvc.http import ClientOptions, HttpConnection, websocket
from evsvc.http.errors import ConnectFailed, ConnectionClosed, RequestTimeout
from evsvc.http.websocket import (
    WS_BINARY_FRAME,
    WS_TEXT_FRAME,
    HandshakeFailed,
    Opening,
    WebSocketOptions,
    WsConnection,
    accept,
    connect,
)
from evsvc.http.websocket.handshake import accept_token
from tests.core.tls_ends import contexts, issue, server_context_for
from tests.http.peers import request

MASK = bytes(4)


class Socket:
    """A WebSocket of ours, and what it was told."""

    def __init__(self, base, url, *, opencb=None, cb=None, **how) -> None:
        self._base = base
        self.opened: list = []
        self.messages: list = []
        self.ended: list = []
        self._opencb = opencb
        self._cb = cb
        options = WebSocketOptions(**how.pop("options", {}))
        self.opening = connect(base, url, self.on_message, self.on_open, "arg", options, **how)

    def on_open(self, ws, error, arg) -> None:
        self.opened.append((ws, error, arg))
        if ws is not None:
            ws.set_closecb(lambda ws, arg: self.ended.append(ws))
        if self._opencb is not None:
            self._opencb(ws)

    def on_message(self, ws, kind, data, arg) -> None:
        self.messages.append((kind, data))
        if self._cb is not None:
            self._cb(ws)

    def close(self) -> None:
        self.opening.close()
        if self.opening.session is not None:
            self.opening.session.close()

    def settle(self) -> None:
        for _ in range(40):
            self._base.loop(EVLOOP_NONBLOCK)

    @property
    def ws(self) -> WsConnection:
        ((ws, error, arg),) = self.opened
        assert error is None
        assert arg == "arg"
        return ws

    @property
    def error(self):
        ((ws, error, arg),) = self.opened
        assert ws is None
        assert arg == "arg"
        return error


@pytest.fixture
def dial(base):
    """Return `dial(url, **how)`: a Socket that is closed at the end."""
    made: list[Socket] = []

    def start(url, **how):
        made.append(Socket(base, url, **how))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def opened(dial, serve):
    """Return `opened(handler=echo, target="/", **how)`: a WebSocket to a server of ours."""
    sessions: list[WsConnection] = []

    def echo(got, arg):
        def send_back(ws, kind, data, arg):
            (ws.send_text if kind is WS_TEXT_FRAME else ws.send_binary)(data)

        options = WebSocketOptions(deflate=True)
        ws = websocket.accept(got, send_back, None, options, subprotocols=("b", "a"))
        if ws is not None:
            sessions.append(ws)

    def start(handler=echo, target="/", **how):
        site = serve(handler)
        made = dial(f"ws://127.0.0.1:{site.bound.port}{target}", **how)
        made.settle()
        made.site, made.sessions = site, sessions
        return made

    return start


@pytest.fixture
def answered(dial, origin):
    """Return `answered(*lines, rest=b"")`: a WebSocket whose handshake gets a raw answer."""

    def start(*lines, status="101 Switching Protocols", rest=b"", tail=(), **how):
        made = dial(f"ws://127.0.0.1:{origin.port}/path?query", **how)
        peer = made.peer = origin.accept()
        line, fields = peer.read_head()
        made.asked = line, fields
        key = next(value for name, value in fields if name == "Sec-WebSocket-Key")
        head = [f"HTTP/1.1 {status}", *lines, *tail]
        text = "".join(f"{each}\r\n" for each in [*head, ""]).replace("{key}", accept_token(key))
        peer.send(text.encode("latin-1") + rest)
        made.settle()
        return made

    return start


GOOD = ("Upgrade: WebSocket", "Connection: upgrade", "Sec-WebSocket-Accept: {key}")


class TestOpening:
    def test_what_is_asked_is_as_the_rfc_has_it(self, answered, origin) -> None:
        how = {"subprotocols": ("a", "b"), "headers": {"Origin": "http://me", "Cookie": "a=b"}}
        made = answered(*GOOD, options={"deflate": True}, **how)
        line, fields = made.asked
        assert line == "GET /path?query HTTP/1.1"
        named = dict(fields)
        assert re.fullmatch(r"[A-Za-z0-9+/]{22}==", named.pop("Sec-WebSocket-Key"))
        assert named == {
            "Host": f"127.0.0.1:{origin.port}",
            "Origin": "http://me",
            "Cookie": "a=b",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "a, b",
            "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        }
        assert made.ws.is_open
        assert made.ws is made.opening.session
        assert made.ws.subprotocol is None

    @pytest.mark.parametrize("takeover", [True, False])
    @pytest.mark.parametrize("servers", [True, False])
    def test_earlier_messages_help_where_both_sides_remember_them(
        self, dial, serve, takeover, servers
    ) -> None:
        """What is agreed on is what is done, and both ends can read it."""
        sessions, text = [], "".join(map(str, range(3000)))
        site = serve(
            lambda got, arg: sessions.append(
                websocket.accept(
                    got,
                    lambda ws, kind, data, arg: ws.send_text(data),
                    None,
                    WebSocketOptions(deflate=True, deflate_takeover=servers),
                )
            )
        )
        url = f"ws://127.0.0.1:{site.bound.port}/"
        made = dial(url, options={"deflate": True, "deflate_takeover": takeover})
        made.settle()
        sizes = []
        for _ in range(2):
            before = made.ws.unsent_bytes
            made.ws.send_text(text)
            sizes.append(made.ws.unsent_bytes - before)
            made.settle()
        assert made.messages == [(WS_TEXT_FRAME, text)] * 2
        remembers = takeover and servers
        assert (sizes[1] * 10 < sizes[0]) == remembers

    def test_each_key_is_another(self, answered) -> None:
        keys = {dict(answered(*GOOD).asked[1])["Sec-WebSocket-Key"] for _ in range(3)}
        assert len(keys) == 3

    def test_the_path_is_a_slash_where_there_is_none(self, opened) -> None:
        paths = []

        def handler(got, arg):
            paths.append(got.uri)
            websocket.accept(got, print)

        assert opened(handler, "").ws.is_open
        assert opened(handler, "?q").ws.is_open
        assert paths == ["/", "/?q"]

    @pytest.mark.parametrize(
        "lines",
        [
            GOOD[1:],
            ("Upgrade: h2c", *GOOD[1:]),
            ("Upgrade: websocket, h2c", *GOOD[1:]),
            (GOOD[0], GOOD[2]),
            (GOOD[0], "Connection: keep-alive", GOOD[2]),
            GOOD[:2],
            (*GOOD[:2], "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            (*GOOD, GOOD[2]),
            (*GOOD, "Sec-WebSocket-Protocol: c"),
            (*GOOD, "Sec-WebSocket-Protocol: A"),
            (*GOOD, "Sec-WebSocket-Protocol: a, b"),
            (*GOOD, "Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"),
            (*GOOD, "Sec-WebSocket-Extensions: x"),
            (*GOOD, "Sec-WebSocket-Extensions: permessage-deflate; x"),
            (*GOOD, "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate"),
        ],
    )
    def test_a_bad_answer_is_no_websocket(self, answered, lines) -> None:
        made = answered(*lines, subprotocols=("a", "b"), options={"deflate": True})
        assert isinstance(made.error, HandshakeFailed)
        assert made.peer.read_to_end() == b""

    def test_an_extension_that_was_not_asked_for_is_refused(self, answered) -> None:
        made = answered(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate")
        assert isinstance(made.error, HandshakeFailed)

    @pytest.mark.parametrize("status", ["200 OK", "302 Found", "401 Unauthorized", "500 Oops"])
    def test_a_server_that_says_no_is_heard(self, answered, status) -> None:
        made = answered("Location: /x", "Content-Length: 4", status=status, rest=b"why?")
        assert isinstance(made.error, HandshakeFailed)
        assert made.error.request.response_code == int(status[:3])
        assert made.error.request.input_headers.find("location") == "/x"
        assert bytes(made.error.request.input_buffer) == b"why?"
        assert made.peer.read_to_end() == b""

    def test_a_server_that_closes_is_an_error(self, dial, origin) -> None:
        made = dial(f"ws://127.0.0.1:{origin.port}/")
        origin.accept().close()
        made.settle()
        assert isinstance(made.error, ConnectionClosed)

    def test_nobody_there_is_an_error(self, dial, origin) -> None:
        origin.stop()
        made = dial(f"ws://127.0.0.1:{origin.port}/")
        assert not made.opened
        made.settle()
        assert isinstance(made.error, ConnectFailed)

    def test_all_of_it_has_its_time(self, dial, origin, clock) -> None:
        made = dial(f"ws://127.0.0.1:{origin.port}/", options={"open_s": 7.0})
        peer = origin.accept()
        peer.send(b"HTTP/1.1 101 Switching")
        clock.advance(6.9)
        made.settle()
        assert not made.opened
        clock.advance(0.1)
        made.settle()
        assert isinstance(made.error, RequestTimeout)
        assert peer.is_open() is False

    def test_an_opening_in_time_has_a_session_that_lives_on(self, dial, origin, clock) -> None:
        made = dial(f"ws://127.0.0.1:{origin.port}/", options={"open_s": 7.0, "ping_s": None})
        peer = origin.accept()
        key = dict(peer.read_head()[1])["Sec-WebSocket-Key"]
        clock.advance(6.999)
        lines = "".join(f"{line}\r\n" for line in ("HTTP/1.1 101 X", *GOOD, ""))
        peer.send(lines.replace("{key}", accept_token(key)).encode())
        assert made.ws.is_open
        clock.advance(1000.0)
        made.settle()
        assert made.ws.is_open

    def test_the_exchange_may_have_a_time_of_its_own(self, dial, origin, clock) -> None:
        limits = ClientOptions(exchange_s=3.0)
        made = dial(f"ws://127.0.0.1:{origin.port}/", client_options=limits)
        origin.accept()
        clock.advance(3)
        made.settle()
        assert isinstance(made.error, RequestTimeout)

    def test_it_may_be_given_up(self, dial, origin) -> None:
        made = dial(f"ws://127.0.0.1:{origin.port}/")
        peer = origin.accept()
        made.opening.close()
        made.opening.close()
        made.settle()
        assert not made.opened
        assert not peer.is_open()

    def test_what_was_opened_stays_when_the_opening_is_closed(self, opened) -> None:
        made = opened()
        made.opening.close()
        made.settle()
        assert made.ws.is_open

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/",
            "ws:/x",
            "//127.0.0.1/",
            "ws:///x",
            "ws://127.0.0.1/#f",
            "ws://user:pass@127.0.0.1/",
            "ws://127.0.0.1:0/",
            "ws://127.0.0.1:65536/",
            "ws://a b/",
            "ws://name.without.resolver/",
            "ws://127.0.0.1/ a",
        ],
    )
    def test_what_is_no_url_is_refused(self, base, url) -> None:
        with pytest.raises(ArgumentError):
            connect(base, url, print, print)

    @pytest.mark.parametrize(
        ("error", "how"),
        [
            (ArgumentError, {"headers": {"Upgrade": "x"}}),
            (ArgumentError, {"headers": {"Sec-WebSocket-Key": "x"}}),
            (ArgumentError, {"headers": [("a b", "x")]}),
            (ArgumentError, {"headers": [("a", "x\r\n")]}),
            (ArgumentError, {"subprotocols": ("a b",)}),
            (ArgumentError, {"tls": object()}),
            (ArgumentTypeError, {"cb": 5}),
            (ArgumentTypeError, {"opencb": 5}),
        ],
    )
    def test_bad_arguments_raise_at_the_call(self, base, error, how) -> None:
        arguments = {"cb": print, "opencb": print, **how}
        with pytest.raises(error):
            connect(base, "ws://127.0.0.1:9/", **arguments)

    def test_coroutine_functions_are_told_where_they_belong(self, base, serve) -> None:
        async def on_message(ws, kind, data, arg) -> None: ...

        with pytest.raises(ArgumentTypeError, match=r"evsvc\.aio\.websocket\.connect"):
            connect(base, "ws://127.0.0.1:9/", on_message, print)
        raised = []
        base.exception_handler = raised.append
        site = serve(lambda got, arg: accept(got, on_message))
        assert site.connect().ask(request("/")).status == 500
        assert "evsvc.aio.websocket.accept" in str(raised[0])


class TestTls:
    """Both ends ours; the certificate is for the address."""

    @pytest.fixture
    def site(self, serve):
        def echo(got, arg):
            websocket.accept(got, lambda ws, kind, data, arg: ws.send_binary(data))

        site = serve(echo)
        site.server.set_tls(server_context_for(issue("127.0.0.1")))
        return site

    def test_a_wss_url_speaks_it(self, site, dial) -> None:
        made = dial(f"wss://127.0.0.1:{site.bound.port}/", tls=contexts()[0])
        made.settle()
        data = bytes(range(256)) * 2000
        made.ws.send_binary(data)
        made.ws.send_binary(b"")
        made.settle()
        assert made.messages == [(WS_BINARY_FRAME, data), (WS_BINARY_FRAME, b"")]
        site.server.shutdown()
        made.settle()
        assert made.ws.close_code == 1001
        assert made.ended == [made.ws]
        assert site.server.connection_count == 0

    def test_whom_nobody_vouches_for_is_not_spoken_to(self, site, dial) -> None:
        made = dial(f"wss://127.0.0.1:{site.bound.port}/")
        made.settle()
        assert "certificate" in str(made.error)


class TestSession:
    @pytest.mark.parametrize("deflate", [False, True])
    def test_messages_go_both_ways(self, opened, deflate) -> None:
        made = opened(options={"deflate": deflate})
        made.ws.send_text("h\xe9llo")
        made.ws.send_binary(b"\0" * 100_000)
        made.settle()
        assert made.messages == [(WS_TEXT_FRAME, "h\xe9llo"), (WS_BINARY_FRAME, b"\0" * 100_000)]

    def test_the_servers_choice_of_a_subprotocol_is_told(self, opened) -> None:
        assert opened(subprotocols=("a", "b")).ws.subprotocol == "b"

    def test_frames_are_masked_each_with_a_key_of_its_own(self, answered) -> None:
        made = answered(*GOOD)
        for _ in range(3):
            made.ws.send_text("same")
        made.peer.settle()
        made.peer.take()
        frames = [bytes(made.peer.received[at : at + 10]) for at in (0, 10, 20)]
        assert all(frame[:2] == b"\x81\x84" for frame in frames)
        assert len({frame[2:6] for frame in frames}) == 3
        for frame in frames:
            mask = frame[2:6]
            assert bytes(a ^ b for a, b in zip(frame[6:], mask, strict=True)) == b"same"

    def test_messages_right_behind_the_answer_come_after_the_opening(self, answered) -> None:
        order = []
        made = answered(
            *GOOD,
            rest=b"\x81\x02hi\x82\x01x",
            opencb=lambda ws: order.append("open"),
            cb=lambda ws: order.append("message"),
        )
        assert made.messages == [(WS_TEXT_FRAME, "hi"), (WS_BINARY_FRAME, b"x")]
        assert order == ["open", "message", "message"]

    def test_a_masked_frame_is_1002(self, answered) -> None:
        made = answered(*GOOD, rest=b"\x81\x82" + MASK + b"hi")
        assert not made.messages
        assert not made.ws.is_open
        made.peer.take()
        first, _, *mask = made.peer.received[:6]
        code = bytes(a ^ b for a, b in zip(made.peer.received[6:8], mask, strict=False))
        assert (first, int.from_bytes(code, "big")) == (0x88, 1002)
        made.peer.close()
        made.settle()
        assert made.ended == [made.ws]

    def test_the_server_is_left_to_end_the_connection(self, answered, clock) -> None:
        """RFC 6455 section 7.1.1: so that TIME_WAIT is the client's only where it must be."""
        made = answered(*GOOD, options={"close_s": 5.0})
        made.peer.send(b"\x88\x02\x03\xe8")
        made.settle()
        assert made.ws.close_code == 1000
        assert not made.ended
        assert made.peer.is_open()
        made.peer.close()
        made.settle()
        assert made.ended == [made.ws]

    def test_but_not_for_ever(self, answered, clock) -> None:
        made = answered(*GOOD, options={"close_s": 5.0})
        made.peer.send(b"\x88\x02\x03\xe8")
        clock.advance(5)
        made.settle()
        assert made.ended == [made.ws]

    def test_either_side_may_end_it(self, opened) -> None:
        made = opened()
        made.ws.shutdown(4001, "bye")
        made.settle()
        (session,) = made.sessions
        assert (session.close_code, session.close_reason) == (4001, "bye")
        assert made.ws.close_code == 4001
        assert made.ended == [made.ws]
        assert made.site.server.connection_count == 0

    def test_a_callback_that_raises_ends_it_with_1011(self, base, opened, caplog) -> None:
        raised: list[BaseException] = []
        base.exception_handler = raised.append
        made = opened(cb=lambda ws: 1 / 0)
        made.ws.send_text("x")
        made.settle()
        assert made.sessions[0].close_code == 1011
        assert made.ended == [made.ws]
        assert [type(each) for each in raised] == [ZeroDivisionError]

    def test_so_does_an_open_callback(self, opened, caplog) -> None:
        made = opened(opencb=lambda ws: 1 / 0)
        assert made.sessions[0].close_code == 1011
        assert "ZeroDivisionError" in caplog.text

    def test_one_that_raises_for_a_failure_is_logged(self, answered, caplog) -> None:
        made = answered("Content-Length: 0", status="404 No", opencb=lambda ws: 1 / 0)
        assert isinstance(made.error, HandshakeFailed)
        assert "ZeroDivisionError" in caplog.text

    def test_silence_is_asked_for_a_sign_of_life(self, answered, clock) -> None:
        made = answered(*GOOD, options={"ping_s": 10.0, "pong_s": 5.0})
        clock.advance(10)
        made.settle()
        made.peer.take()
        assert made.peer.received[:2] == b"\x89\x80"
        clock.advance(5)
        made.settle()
        assert made.ended == [made.ws]

    def test_nothing_is_left_behind(self, base, serve) -> None:
        """No cycle keeps a session that has ended, the collector being off."""

        def once() -> None:
            made = Socket(base, f"ws://127.0.0.1:{site.bound.port}/")
            made.settle()
            made.ws.shutdown()
            made.settle()
            assert made.ended == [made.ws]
            made.ended.clear()
            made.opened.clear()

        def count() -> int:
            kinds = (WsConnection, Opening, HttpConnection)
            return sum(isinstance(each, kinds) for each in gc.get_objects())

        site = serve(lambda got, arg: websocket.accept(got, print))
        once()
        gc.collect()
        gc.disable()
        try:
            before = count()
            for _ in range(3):
                once()
            assert count() == before
        finally:
            gc.enable()
