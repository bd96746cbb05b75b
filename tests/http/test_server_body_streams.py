"""Request bodies that a path takes as they come: pieces, pauses, refusals, ends."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentTypeError
from evsvc.http.errors import LocalProtocolError
from tests.http.peers import request


class Upload:
    """A handler that notes what it gets, and answers at the end."""

    def __init__(self, *, takes: bool = True, answers: bool = True) -> None:
        self.requests: list = []
        self.pieces: list[bytes] = []
        self.ends: list[bool] = []
        self._takes, self._answers = takes, answers

    def __call__(self, got, arg) -> None:
        self.requests.append(got)
        if self._takes:
            got.set_body_cbs(self.data, self.end, "arg")

    def data(self, got, data, arg) -> None:
        assert arg == "arg"
        self.pieces.append(data)

    def end(self, got, is_whole, arg) -> None:
        self.ends.append(is_whole)
        if is_whole and self._answers:
            got.send_reply(200, None, str(sum(map(len, self.pieces))).encode())


def uploads(serve, upload, **options):
    site = serve(**options)
    site.server.set_cb("/up", upload, streams=True)
    return site


def post(body: bytes, *lines: str, path: str = "/up") -> bytes:
    return request(path, *lines, method="POST", body=body)


CHUNKED = request("/up", "Transfer-Encoding: chunked", method="POST")


@pytest.mark.parametrize(
    "wire",
    [post(b"hello"), CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"],
    ids=["length", "chunked"],
)
def test_the_handler_gets_the_head_then_pieces_then_the_end(serve, wire) -> None:
    upload = Upload()
    peer = uploads(serve, upload).connect()
    head, _, body = wire.partition(b"\r\n\r\n")
    peer.send(head + b"\r\n\r\n")
    assert (len(upload.requests), upload.pieces, upload.ends) == (1, [], [])
    peer.send_bytewise(body)
    assert b"".join(upload.pieces) == b"hello"
    assert upload.ends == [True]
    assert peer.read_message().body == b"5"
    assert peer.is_open()


def test_trailers_are_there_at_the_end(serve) -> None:
    seen = []

    def handler(got, arg):
        def end(done, is_whole, end_arg):
            seen.append(done.trailers.find("A"))
            done.send_reply(200)

        got.set_body_cbs(lambda *args: None, end)

    site = serve()
    site.server.set_cb("/up", handler, streams=True)
    peer = site.connect()
    assert peer.ask(CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\n\r\n").status == 200
    assert seen == ["b"]


def test_a_stream_may_be_longer_than_a_body_that_is_gathered(serve) -> None:
    upload = Upload()
    site = uploads(serve, upload, max_body_bytes=10)
    assert site.connect().ask(post(b"x" * 1000)).body == b"1000"
    site.server.set_cb("/gathered", lambda got, arg: got.send_reply(200))
    assert site.connect().ask(post(b"x" * 11, path="/gathered")).status == 413


@pytest.mark.parametrize("answer", ["send_reply", "send_error", "send_reply_start"])
@pytest.mark.parametrize("has_settled", [True, False])
def test_what_is_answered_behind_a_refusal_is_not_sent(serve, answer, has_settled) -> None:
    """The server has answered by itself, and the connection ends."""
    upload = Upload(answers=False)
    peer = uploads(serve, upload).connect()
    peer.sock.send(CHUNKED + b"3\r\nabcdef")
    peer.until(lambda: upload.ends)
    if has_settled:
        peer.settle()
    (request,) = upload.requests
    assert request.connection is None
    getattr(request, answer)(500)
    assert peer.read_message().status == 400
    peer.settle()
    peer.take()
    assert (peer.received, peer.at_eof) == (b"", True)


@pytest.mark.parametrize(("size", "status"), [(100, 200), (101, 413)])
def test_a_stream_has_a_limit_of_its_own(serve, size, status) -> None:
    upload = Upload()
    site = uploads(serve, upload, max_stream_bytes=100)
    assert site.connect().ask(post(b"x" * size)).status == status


def test_a_chunked_stream_may_have_just_so_much(serve) -> None:
    peer = uploads(serve, Upload(), max_stream_bytes=4).connect()
    peer.send(CHUNKED + b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n")
    assert peer.read_message().body == b"4"


def test_a_chunked_stream_beyond_its_limit_is_told_as_not_whole(serve) -> None:
    upload = Upload()
    peer = uploads(serve, upload, max_stream_bytes=4).connect()
    peer.send(CHUNKED + b"3\r\nabc\r\n2\r\n")
    assert peer.read_message().status == 413
    assert upload.ends == [False]


class TestContinue:
    def test_it_is_sent_when_the_program_asks_for_the_body(self, serve) -> None:
        upload = Upload(takes=False)
        peer = uploads(serve, upload).connect()
        head, _, body = post(b"hello", "Expect: 100-continue").partition(b"\r\n\r\n")
        peer.send(head + b"\r\n\r\n")
        peer.take()
        assert peer.received == b""
        upload.requests[0].set_body_cbs(upload.data, upload.end, "arg")
        peer.settle()
        assert peer.read_head()[0] == "HTTP/1.1 100 Continue"
        peer.send(body)
        assert peer.read_message().body == b"5"

    def test_a_refusal_comes_without_it(self, serve) -> None:
        site = serve()
        site.server.set_cb("/up", lambda got, arg: got.send_error(403), streams=True)
        peer = site.connect()
        peer.send(post(b"", "Expect: 100-continue", "Content-Length: 5"))
        assert peer.read_message().status == 403
        assert peer.read_to_end() == b""


class TestAnsweredBefore:
    def test_the_rest_is_thrown_away_and_the_connection_lives_on(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(200, None, b"next"))
        site.server.set_cb("/up", lambda got, arg: got.send_reply(403), streams=True)
        peer = site.connect()
        wire = post(b"x" * 5000)
        peer.send(wire[:-3000])
        assert peer.read_message().status == 403
        peer.send(wire[-3000:])
        assert peer.get("/").body == b"next"

    @pytest.mark.parametrize(("size", "lives"), [(1000, True), (1001, False)])
    def test_within_a_bound(self, serve, size, lives) -> None:
        site = serve(lambda got, arg: got.send_reply(200), max_skip_bytes=1000)
        site.server.set_cb("/up", lambda got, arg: got.send_reply(403), streams=True)
        peer = site.connect()
        assert peer.ask(post(b"x" * size)).status == 403
        assert peer.is_open() is lives
        if lives:
            assert peer.get("/").status == 200

    @pytest.mark.parametrize(("size", "lives"), [(1000, True), (1001, False)])
    def test_so_is_one_in_chunks_that_comes_slowly(self, serve, size, lives) -> None:
        """The framing does not count."""
        site = serve(lambda got, arg: got.send_reply(200), max_skip_bytes=1000)
        site.server.set_cb("/up", lambda got, arg: got.send_reply(403), streams=True)
        peer = site.connect()
        peer.send(CHUNKED)
        assert peer.read_message().status == 403
        for _ in range(10):
            peer.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        peer.send(b"1\r\nx\r\n" * (size - 1000) + b"0\r\n\r\n")
        assert peer.is_open() is lives
        if lives:
            assert peer.get("/").status == 200

    def test_the_end_is_told_as_not_whole(self, serve) -> None:
        upload = Upload()
        peer = uploads(serve, upload).connect()
        wire = post(b"x" * 10)
        peer.send(wire[:-5])
        upload.requests[0].send_reply(200)
        assert upload.ends == [False]
        peer.send(wire[-5:])
        assert upload.pieces == [b"x" * 5]

    def test_a_client_that_does_not_go_on_is_closed(self, serve, clock) -> None:
        site = serve(body_s=3.0)
        site.server.set_cb("/up", lambda got, arg: got.send_reply(403), streams=True)
        peer = site.connect()
        peer.send(post(b"x" * 10)[:-5])
        assert peer.read_message().status == 403
        clock.advance(3)
        assert peer.read_to_end() == b""

    @pytest.mark.parametrize(("early_s", "lives"), [(0.001, True), (0.0, False)])
    def test_all_of_the_rest_has_body_s_however_it_comes(
        self, serve, clock, early_s, lives
    ) -> None:
        site = serve(lambda got, arg: got.send_reply(200), body_s=3.0)
        site.server.set_cb("/up", lambda got, arg: got.send_reply(403), streams=True)
        peer = site.connect()
        peer.send(post(b"x" * 10)[:-3])
        assert peer.read_message().status == 403
        for _ in range(2):
            clock.advance(1.0)
            peer.send(b"x")
        clock.advance(1.0 - early_s)
        assert peer.is_open() is lives
        if lives:
            peer.send(b"x")
            assert peer.get("/").status == 200


class TestPause:
    def test_the_client_is_held_back(self, serve) -> None:
        upload = Upload(answers=False)
        peer = uploads(serve, upload).connect()
        peer.send(request("/up", "Content-Length: 10000000", method="POST"))
        (got,) = upload.requests
        got.pause_body()
        got.pause_body()
        peer.sock.send(b"x" * 100_000)
        peer.settle()
        assert sum(map(len, upload.pieces)) <= 16384
        before = sum(map(len, upload.pieces))
        got.resume_body()
        got.resume_body()
        peer.until(lambda: sum(map(len, upload.pieces)) == 100_000)
        assert before < 100_000

    def test_from_inside_a_piece(self, serve) -> None:
        upload = Upload()
        give = upload.data

        def one_at_a_time(got, data, arg):
            give(got, data, arg)
            got.pause_body()

        upload.data = one_at_a_time
        peer = uploads(serve, upload).connect()
        peer.send(CHUNKED + b"1\r\na\r\n" * 3)
        assert upload.pieces
        for _ in range(10):
            upload.requests[0].resume_body()
            peer.settle()
        peer.send(b"0\r\n\r\n")
        for _ in range(3):
            peer.settle()
        assert b"".join(upload.pieces) == b"aaa"
        assert upload.ends == [True]

    def test_a_client_that_ends_meanwhile_is_told_of_and_what_it_sent_still_comes(
        self, serve
    ) -> None:
        told = []
        upload = Upload(answers=False)
        peer = uploads(serve, upload).connect()
        peer.send(request("/up", "Content-Length: 10", method="POST"))
        (got,) = upload.requests
        got.set_on_gone_cb(lambda got, arg: told.append(got))
        got.pause_body()
        peer.sock.send(b"half")
        peer.settle()
        assert told == []
        peer.close()
        peer.until(lambda: told == [got])
        got.resume_body()
        peer.until(lambda: upload.ends)
        assert (b"".join(upload.pieces), upload.ends) == (b"half", [False])
        assert told == [got]

    def test_a_program_that_pauses_is_not_blamed_on_the_client(self, serve, clock) -> None:
        upload = Upload(takes=False)
        peer = uploads(serve, upload, body_s=2.0, idle_s=2.0).connect()
        peer.send(post(b"hello"))
        for _ in range(5):
            clock.advance(2)
            peer.settle()
        assert peer.is_open()
        upload.requests[0].set_body_cbs(upload.data, upload.end, "arg")
        assert peer.read_message().body == b"5"

    def test_a_client_that_is_silent_is(self, serve, clock) -> None:
        upload = Upload()
        peer = uploads(serve, upload, body_s=2.0).connect()
        peer.send(post(b"hello")[:-2])
        clock.advance(2)
        assert peer.read_message().status == 408
        assert upload.ends == [False]


class TestClientGone:
    @pytest.mark.parametrize("how", ["half_close", "reset"])
    def test_within_the_body_the_end_is_told(self, serve, how) -> None:
        upload = Upload()
        site = uploads(serve, upload)
        peer = site.connect()
        peer.send(post(b"hello")[:-2])
        getattr(peer, how)()
        peer.settle()
        assert upload.ends == [False]
        assert site.server.connection_count == 0


class TestMistakes:
    def test_a_callback_that_raises_is_500(self, serve, caplog) -> None:
        site = serve()
        site.server.set_cb(
            "/up", lambda got, arg: got.set_body_cbs(lambda *args: 1 / 0), streams=True
        )
        assert site.connect().ask(post(b"hello")).status == 500

    def test_a_body_that_is_gathered_cannot_be_taken(self, serve) -> None:
        site = serve()
        peer = site.connect()
        peer.send(post(b"x"))
        for call in (
            lambda got: got.set_body_cbs(print),
            lambda got: got.pause_body(),
            lambda got: got.resume_body(),
        ):
            with pytest.raises(LocalProtocolError, match="not streamed"):
                call(site.requests[0])

    def test_nor_can_one_be_taken_twice(self, serve) -> None:
        upload = Upload()
        peer = uploads(serve, upload).connect()
        peer.send(post(b"hello")[:-1])
        with pytest.raises(LocalProtocolError, match="taken already"):
            upload.requests[0].set_body_cbs(print)

    def test_what_is_no_callback_is_refused(self, serve) -> None:
        upload = Upload(takes=False)
        peer = uploads(serve, upload).connect()
        peer.send(post(b"hello"))
        with pytest.raises(ArgumentTypeError, match="5"):
            upload.requests[0].set_body_cbs(5)


def test_a_request_without_body_comes_to_the_handler_as_any_other(serve) -> None:
    site = serve()
    site.server.set_cb("/up", lambda got, arg: got.send_reply(200, None, b"none"), streams=True)
    assert site.connect().get("/up").body == b"none"


class TestBadBodyBehindAReply:
    """What comes of the body is found bad when the program has begun to answer."""

    CHUNKED = request("/up", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n"

    def start(self, serve, begin, end=None):
        def take(got, arg):
            got.set_body_cbs(lambda *args: None, end)
            begin(got)

        site = serve()
        site.server.set_cb("/up", take, streams=True)
        peer = site.connect()
        peer.send(self.CHUNKED)
        peer.send(b"zz\r\n")
        return peer

    def test_a_reply_that_has_begun_is_broken_off_and_has_no_page_in_it(self, serve) -> None:
        def begin(got):
            got.output_headers.add("Content-Length", "1000")
            got.send_reply_start(200)
            got.send_reply_chunk(b"begun")

        received = self.start(serve, begin).read_to_end()
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert received.endswith(b"\r\n\r\nbegun")

    def test_a_reply_at_the_end_of_the_body_is_the_only_one(self, serve) -> None:
        def end(got, is_whole, arg):
            assert not is_whole
            got.send_reply(422, None, b"not whole")

        peer = self.start(serve, lambda got: None, end)
        assert peer.read_message().status == 422
        assert peer.read_to_end() == b""

    def test_without_one_the_server_answers(self, serve) -> None:
        peer = self.start(serve, lambda got: None)
        assert peer.read_message().status == 400
        assert peer.read_to_end() == b""


@pytest.mark.parametrize("is_paced", [True, False])
def test_only_a_body_that_is_paced_is_given_up_when_it_is_silent(serve, clock, is_paced) -> None:
    upload = Upload(takes=False)

    def take(got, arg) -> None:
        got.set_body_cbs(upload.data, upload.end, "arg", is_paced=is_paced)

    peer = uploads(serve, take, body_s=30.0, idle_s=60.0).connect()
    peer.send(CHUNKED + b"3\r\nhel\r\n")
    for _ in range(100):
        clock.advance(29.0)
        peer.settle()
    peer.send(b"2\r\nlo\r\n0\r\n\r\n")
    assert (peer.read_message().status, upload.ends) == ((408, [False]), (200, [True]))[
        not is_paced
    ]
