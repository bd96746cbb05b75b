"""What the callbacks may do: cancel, close, ask again, raise."""

from __future__ import annotations

import gc

import pytest

from evsvc.core import StateError
from evsvc.http import ClientOptions, HttpConnection, HttpRequest
from evsvc.http.errors import (
    EVREQ_HTTP_EOF,
    EVREQ_HTTP_REQUEST_CANCEL,
    ConnectionClosed,
    RequestCancelled,
)
from evsvc.http.wire.limits import ReaderLimits
from tests.http.outcomes import Outcomes
from tests.http.peers import response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class TestCancel:
    def test_under_way_resets_the_connection_and_the_rest_goes_on(self, client, origin) -> None:
        request = client.make("/a")
        client.make("/b")
        peer = origin.accept()
        peer.read_message()
        request.cancel()
        assert client == [("/a", EVREQ_HTTP_REQUEST_CANCEL)]
        assert type(request.error) is RequestCancelled
        assert request.connection is None
        assert not peer.is_open()
        origin.accept().send(response())
        assert client[1:] == [("/b", client.made["/b"])]

    def test_while_connecting(self, client, origin) -> None:
        client.make("/a").cancel()
        client.make("/b")
        assert client == [("/a", EVREQ_HTTP_REQUEST_CANCEL)]
        peer = origin.accept()
        peer.settle()
        if not peer.is_open():
            peer = origin.accept()
        peer.send(response())
        assert client[1:] == [("/b", client.made["/b"])]

    def test_inside_the_response(self, client, origin) -> None:
        request = client.make("/a")
        origin.accept().send(response(body=b"four")[:-1])
        request.cancel()
        assert client == [("/a", EVREQ_HTTP_REQUEST_CANCEL)]

    def test_in_the_queue_nobody_is_told(self, client, origin) -> None:
        client.make("/a")
        request = client.make("/b")
        client.make("/c")
        peer = origin.accept()
        request.cancel()
        assert request.connection is None
        for _ in range(2):
            peer.read_message()
            peer.send(response())
        assert client == [("/a", client.made["/a"]), ("/c", client.made["/c"])]

    def test_when_it_is_done_it_does_nothing(self, client, origin) -> None:
        request = client.make("/a")
        peer = origin.accept()
        peer.send(response())
        request.cancel()
        request.cancel()
        assert client == [("/a", request)]
        assert peer.is_open()

    def test_before_it_is_made_it_does_nothing(self, client) -> None:
        HttpRequest().cancel()
        client.connection.cancel(HttpRequest())


class TestCallbacks:
    def test_chunked_cb_gets_the_pieces_and_the_buffer_is_empty_at_the_end(
        self, client, origin
    ) -> None:
        pieces = []
        request = client.make()
        request.set_chunked_cb(lambda got, arg: pieces.append((bytes(got.input_buffer), arg)))
        peer = origin.accept()
        peer.send(CHUNKED + b"3\r\nabc\r\n")
        peer.send(b"2\r\nde\r\n0\r\n\r\n")
        assert pieces == [(b"abc", "/"), (b"de", "/")]
        assert client == [("/", request)]
        assert len(request.input_buffer) == 0

    def test_chunked_cb_is_not_called_for_an_empty_body(self, client, origin) -> None:
        client.make().set_chunked_cb(lambda got, arg: pytest.fail("there is no body"))
        origin.accept().send(response())
        assert len(client) == 1

    def test_header_cb_sees_the_head_before_the_body(self, client, origin) -> None:
        seen = []
        client.make().set_header_cb(
            lambda got, arg: seen.append((got.response_code, got.input_headers.find("X"), arg))
        )
        peer = origin.accept()
        peer.send(response("X: y", body=b"four")[:-4])
        assert seen == [(200, "y", "/")]
        assert client == []
        peer.send(b"four")
        assert len(client) == 1

    def test_header_cb_that_is_negative_gives_the_request_up(self, client, origin) -> None:
        request = client.make()
        request.set_header_cb(lambda got, arg: -1)
        origin.accept().send(response())
        assert client == [("/", EVREQ_HTTP_EOF), ("/", None)]
        assert type(request.error) is ConnectionClosed

    @pytest.mark.parametrize("verdict", [None, 0, 1, "x", True])
    def test_any_other_result_goes_on(self, client, origin, verdict) -> None:
        request = client.make()
        request.set_header_cb(lambda got, arg: verdict)
        origin.accept().send(response())
        assert client == [("/", request)]

    @pytest.mark.parametrize("setter", ["set_header_cb", "set_chunked_cb"])
    @pytest.mark.parametrize("kind", [ValueError, ConnectionClosed])
    def test_one_that_raises_fails_its_request_and_is_heard(
        self, base, client, origin, setter, kind
    ) -> None:
        caught = []
        base.exception_handler = caught.append

        def fail(got, arg):
            raise kind("the program's own")

        getattr(client.make("/a"), setter)(fail)
        client.make("/b")
        origin.accept().send(response(body=b"x"))
        assert [str(exc) for exc in caught] == ["the program's own"]
        assert client == [("/a", EVREQ_HTTP_EOF), ("/a", None)]
        origin.accept().send(response())
        assert client[2:] == [("/b", client.made["/b"])]

    @pytest.mark.parametrize("where", ["done", "error", "closed"])
    def test_one_that_raises_at_the_end_does_not_stall_the_queue(
        self, base, client, origin, where
    ) -> None:
        caught = []
        base.exception_handler = caught.append

        def fail(*args):
            raise ValueError(where)

        request = HttpRequest(fail if where == "done" else lambda *args: client.append("told"))
        if where == "error":
            request.set_error_cb(fail)
        elif where == "closed":
            client.connection.set_closecb(fail)
        client.connection.make_request(request, "GET", "/a")
        client.make("/b")
        peer = origin.accept()
        peer.read_message()
        peer.send(response(body=b"x") if where == "done" else b"nonsense")
        client.connection.set_closecb(None)
        assert [str(exc) for exc in caught] == [where]
        assert client == ([] if where == "done" else ["told"])
        assert request.connection is None
        assert not peer.is_open(), "it is not used again"
        origin.accept().send(response())
        assert client[-1] == ("/b", client.made["/b"])

    @pytest.mark.parametrize("where", ["done", "idle", "header", "chunk", "error", "closed"])
    def test_without_an_exception_handler_it_is_logged_and_the_loop_goes_on(
        self, client, origin, caplog, where
    ) -> None:
        def fail(*args):
            raise ValueError("the program's own")

        request = HttpRequest(fail if where == "done" else lambda *args: None)
        if where in ("header", "chunk", "error"):
            setters = {"header": "set_header_cb", "chunk": "set_chunked_cb"}
            getattr(request, setters.get(where, "set_error_cb"))(fail)
        elif where != "done":
            getattr(client.connection, "set_idle_cb" if where == "idle" else "set_closecb")(fail)
        client.connection.make_request(request, "GET", "/a")
        good = response("Connection: close", body=b"x")
        origin.accept().send(b"nonsense" if where == "error" else good)
        assert [record.exc_info[0] for record in caplog.records] == [ValueError]
        assert caplog.records[0].name == "evsvc.http"
        assert client.connection.is_available
        client.connection.set_idle_cb(None)
        client.connection.set_closecb(None)
        client.make("/b")
        origin.accept().send(response())
        assert client == [("/b", client.made["/b"])]

    def test_what_the_exception_handler_raises_leaves_the_loop(self, base, client, origin) -> None:
        def stop(exc):
            raise KeyError("stop") from exc

        base.exception_handler = stop
        client.connection.make_request(HttpRequest(lambda *args: 1 / 0), "GET", "/a")
        client.make("/b")
        with pytest.raises(KeyError, match="stop"):
            origin.accept().send(response())
        origin.accept().send(response())
        assert client == [("/b", client.made["/b"])]

    def test_a_completion_callback_may_make_the_next_request(self, client, origin) -> None:
        results = []

        def again(got, arg):
            results.append(got.response_code)
            assert got.connection is client.connection
            if arg:
                client.connection.make_request(HttpRequest(again, arg - 1), "GET", "/")

        client.connection.make_request(HttpRequest(again, 3), "GET", "/")
        peer = origin.accept()
        for _ in range(4):
            peer.read_message()
            peer.send(response())
        assert results == [200] * 4

    @pytest.mark.parametrize("act", ["close", "cancel"])
    @pytest.mark.parametrize("where", ["header", "chunk", "done", "error", "closed"])
    @pytest.mark.parametrize("good", [True, False])
    def test_every_callback_may_close_or_cancel(self, client, origin, act, where, good) -> None:
        done, acted = [], []

        def do(*args):
            acted.append(where)
            if act == "close":
                client.connection.close()
            else:
                request.cancel()

        request = HttpRequest(do if where == "done" else lambda got, arg: done.append(got))
        request.set_header_cb(do if where == "header" else None)
        request.set_chunked_cb(do if where == "chunk" else None)
        request.set_error_cb(do if where == "error" else None)
        client.connection.set_closecb(do if where == "closed" else None)
        client.connection.make_request(request, "GET", "/a")
        client.make("/b")
        peer = origin.accept()
        peer.read_message()
        whole = response("Connection: close", body=b"four")
        peer.send(whole if good else whole[:-1])
        peer.half_close()
        peer.settle()
        assert acted == ([] if where == "error" and good else [where])
        assert request.connection is None
        if act == "close" and acted:
            assert client.connection.pending_requests == 0
            assert client.made["/b"].connection is None
            assert client == []
        else:
            origin.accept().send(response())
            assert client == [("/b", client.made["/b"])]
        assert len(done) <= 1

    @pytest.mark.parametrize("how", ["fails", "closes", "is cancelled"])
    def test_the_close_callback_may_make_a_request(self, client, origin, how) -> None:
        def more(connection, arg):
            connection.set_closecb(None)
            client.make("/more")

        client.connection.set_closecb(more)
        request = client.make("/a")
        peer = origin.accept()
        peer.read_message()
        if how == "fails":
            peer.send(b"nonsense")
        elif how == "closes":
            peer.send(response("Connection: close"))
        else:
            request.cancel()
        origin.accept().send(response())
        assert client[-1] == ("/more", client.made["/more"])
        assert [name for name, _ in client].count("/a") == (2 if how == "fails" else 1)

    def test_the_close_callback_cannot_revive_a_closed_connection(self, client, origin) -> None:
        refused = []

        def more(connection, arg):
            with pytest.raises(StateError):
                client.make("/more")
            connection.close()
            refused.append(connection)

        client.connection.set_closecb(more)
        client.make("/a")
        origin.accept().settle()
        client.connection.close()
        assert refused == [client.connection]
        assert origin.poll() is None

    def test_the_close_callback_is_not_called_without_a_connection(self, client, origin) -> None:
        origin.stop()
        client.connection.set_closecb(lambda *args: pytest.fail("it never was connected"))
        client.make()
        client.wait(1)
        client.connection.close()


class TestClose:
    @pytest.mark.parametrize("data", [None, b"", b"HTTP/1.1 200", response(body=b"four")[:-1]])
    def test_nobody_is_told(self, base, client, origin, data) -> None:
        requests = [client.make(name) for name in ("/a", "/b")]
        if data is not None:
            origin.accept().settle()
        if data:
            origin.peers[0].send(data)
        client.connection.close()
        client.connection.close()
        assert base.dispatch() == 1
        assert client == []
        assert all(request.connection is None for request in requests)

    def test_properties(self, base, client, origin) -> None:
        connection = client.connection
        assert connection.base is base
        assert connection.peer == ("127.0.0.1", origin.port)
        assert connection.bufferevent is None
        with connection:
            client.make()
            assert connection.bufferevent is not None
        assert connection.bufferevent is None


def test_requests_leave_nothing_behind(base, origin) -> None:
    """With the cyclic collector off, through good and bad ends."""
    replies = [
        response(body=b"x"),
        response("Connection: close"),
        CHUNKED + b"1\r\nx\r\n0\r\n\r\n",
        b"nonsense",
        response(body=b"four")[:-1],
        None,
    ]

    def visit(reply: bytes | None) -> None:
        with HttpConnection(base, None, "127.0.0.1", origin.port) as connection:
            request, waiting = (HttpRequest(lambda *args: made) for _ in range(2))
            made = [request, waiting]
            for each in made:
                each.set_error_cb(lambda code, arg: made)
                each.set_header_cb(lambda got, arg: made)
                each.set_chunked_cb(lambda got, arg: made)
                connection.make_request(each, "GET", "/")
            connection.set_closecb(lambda closed, arg: made)
            peer = origin.accept()
            if reply is None:
                request.cancel()
                waiting.cancel()
            else:
                peer.send(reply)
                if peer.is_open():
                    peer.half_close()
                peer.until(lambda: not request.connection)
        while origin.poll():
            pass  # what was made for the request that waited
        while origin.peers:
            origin.peers.pop().close()

    def round_of(count: int) -> int:
        for number in range(count):
            visit(replies[number % len(replies)])
        return len(gc.get_objects())

    round_of(3 * len(replies))
    gc.collect()
    gc.disable()
    try:
        before = round_of(2 * len(replies))
        after = round_of(500)
    finally:
        gc.enable()
    assert after - before < 100


class TestPiecesOnly:
    """Callbacks in the middle of a response, for those alone that do not come whole."""

    def ask(self, client, method="GET"):
        request = HttpRequest(lambda got, arg: client.append(("done", got.take_body())))
        request.set_pieces_cbs(
            lambda got, arg: client.append(("head", got.response_code)),
            lambda got, arg: client.append(("piece", got.input_buffer.remove())),
        )
        client.connection.make_request(request, method, "/")
        return request

    @pytest.mark.parametrize("body", [b"", b"hello"])
    def test_one_that_comes_whole_is_told_at_its_end(self, client, origin, body) -> None:
        request = self.ask(client)
        origin.accept().send(response("X: y", body=body))
        assert client == [("done", body)]
        assert request.input_headers["X"] == "y"
        assert client.connection.is_idle

    def test_one_that_comes_in_pieces_is_told_so(self, client, origin) -> None:
        self.ask(client)
        peer = origin.accept()
        peer.send(response(body=b"hello")[:-2])
        peer.send(b"lo")
        assert client == [("head", 200), ("piece", b"hel"), ("piece", b"lo"), ("done", b"")]

    def test_so_is_one_of_a_length_that_is_not_known(self, client, origin) -> None:
        self.ask(client)
        origin.accept().send(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")
        assert client == [("head", 200), ("piece", b"hello"), ("done", b"")]

    @pytest.mark.parametrize(("size", "is_whole"), [(10, True), (11, False)])
    def test_one_beyond_the_limit_of_a_body_is_a_stream(
        self, connect, origin, size, is_whole
    ) -> None:
        limits = ReaderLimits(max_body_bytes=10)
        client = Outcomes(connect(options=ClientOptions(limits=limits)))
        self.ask(client)
        origin.accept().send(response(body=bytes(size)))
        assert (client == [("done", bytes(size))]) is is_whole
        assert ("piece", bytes(size)) in client or is_whole
