"""What observers are told of an exchange that is over, and that nothing is measured without."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, EvBuffer
from evsvc.http import Ending, HttpServer
from evsvc.http.server.observing.observers import PROMPT_BYTES
from tests.http.peers import request


@pytest.fixture
def watched(serve):
    """Return `watched(cb=None, **options)`: a site, whose `told` has the exchanges."""

    def start(cb=None, **options):
        site = serve(cb, **options)
        site.told = []
        site.server.add_observer(site.told.append)
        return site

    return start


def told_once(site):
    (exchange,) = site.told
    site.told.clear()
    return exchange


class TestWhole:
    def test_a_reply_is_told_with_its_figures(self, watched, clock) -> None:
        site = watched()
        peer = site.connect()
        peer.send(request("/a", "Content-Length: 4", method="POST") + b"body")
        assert site.told == []
        clock.advance(1.5)
        site.requests[0].send_reply(201, None, b"12345")
        exchange = told_once(site)
        assert exchange.request is site.requests[0]
        assert exchange.peer == peer.sock.getsockname()
        assert (exchange.status, exchange.ending) == (201, Ending.WHOLE)
        assert (exchange.sent_bytes, exchange.received_bytes) == (5, 4)
        assert exchange.duration_s == 1.5
        assert exchange.started_at > 1_700_000_000

    def test_a_body_that_the_program_drains_was_received_all_the_same(self, watched) -> None:
        def drain(got, arg):
            got.input_buffer.drain(100)
            got.send_reply(204)

        site = watched(drain)
        site.connect().ask(request(method="POST", body=b"abc"), has_body=False)
        assert told_once(site).received_bytes == 3

    def test_a_stream_ends_with_its_last_piece(self, watched, clock) -> None:
        site = watched()
        peer = site.connect()
        peer.send(request("/"))
        site.requests[0].send_reply_start(200)
        site.requests[0].send_reply_chunk(b"abc")
        clock.advance(2)
        assert site.told == []
        site.requests[0].send_reply_end()
        exchange = told_once(site)
        assert (exchange.sent_bytes, exchange.duration_s) == (3, 2)

    def test_a_body_that_is_streamed_is_counted(self, watched) -> None:
        site = watched()

        def take(got, arg):
            got.set_body_cbs(lambda *_: None, lambda got, whole, arg: got.send_reply(204))

        site.server.set_cb("/up", take, streams=True)
        chunked = request("/up", "Transfer-Encoding: chunked", method="POST")
        site.connect().ask(chunked + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", has_body=False)
        assert told_once(site).received_bytes == 5

    def test_pipelined_ones_are_told_in_order(self, watched) -> None:
        site = watched(lambda got, arg: got.send_reply(200, None, b"x" * len(got.uri)))
        site.connect().send(request("/1") + request("/22") + request("/333"))
        assert [each.sent_bytes for each in site.told] == [2, 3, 4]
        assert {each.received_bytes for each in site.told} == {0}

    def test_a_head_has_no_body(self, watched) -> None:
        site = watched(lambda got, arg: got.send_reply(200, None, b"12345"))
        site.connect().ask(request(method="HEAD"), has_body=False)
        assert told_once(site).sent_bytes == 0

    def test_a_handler_that_raises_is_a_500(self, watched, base) -> None:
        site = watched(lambda got, arg: 1 / 0)
        site.connect().get()
        assert (told_once(site).status, site.told) == (500, [])

    def test_an_upgrade_is_the_end(self, watched) -> None:
        taken = []
        site = watched(lambda got, arg: taken.append(got.take_over()[0]))
        site.connect().send(request("/", "Connection: upgrade", "Upgrade: x"))
        assert told_once(site).status == 101
        taken[0].close()
        assert site.told == []

    def test_no_path_is_a_404(self, watched) -> None:
        site = watched()
        site.server.set_gencb(None)
        site.connect().get("/no")
        assert told_once(site).status == 404


class TestMuchToSend:
    """A reply that the kernel does not take at once."""

    SIZE = 8 * 1024 * 1024

    def test_it_is_over_when_the_client_has_taken_it(self, watched, clock) -> None:
        site = watched(lambda got, arg: got.send_reply(200, None, bytes(self.SIZE)))
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/"))
        assert site.told == []
        clock.advance(3)
        assert len(peer.read_message().body) == self.SIZE
        peer.settle()
        exchange = told_once(site)
        assert (exchange.sent_bytes, exchange.duration_s) == (self.SIZE, 3)
        assert exchange.ending is Ending.WHOLE

    def test_a_client_that_leaves_breaks_it_off(self, watched) -> None:
        site = watched(lambda got, arg: got.send_reply(200, None, bytes(self.SIZE)))
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/") + request("/behind"))
        peer.reset()
        first = site.told[0]
        assert first.ending is Ending.BROKEN_OFF
        assert 0 < first.sent_bytes < self.SIZE
        assert all(each.sent_bytes == 0 for each in site.told[1:])

    def test_the_last_of_a_connection_is_told_before_it_closes(self, watched) -> None:
        site = watched(lambda got, arg: got.send_reply(200, None, bytes(self.SIZE)))
        peer = site.connect(receive_bytes=4096)
        peer.send(request("/", "Connection: close"))
        peer.read_message()
        peer.settle()
        assert told_once(site).ending is Ending.WHOLE
        assert not peer.is_open()

    @pytest.mark.parametrize("beyond", [0, 1])
    def test_the_bound_decides_when(self, watched, beyond) -> None:
        unsent, told_at_once = [], []

        def answer(got, arg):
            body = EvBuffer()
            body.add(bytes(size))
            got.send_reply(200, None, body)
            unsent.append(got.connection.bufferevent.output.length)
            told_at_once.append(len(site.told))

        site = watched(answer)
        size = PROMPT_BYTES
        site.connect().get()
        size -= unsent[0] - PROMPT_BYTES - beyond  # which the head takes
        site.connect().get()
        assert unsent[1] == PROMPT_BYTES + beyond
        assert told_at_once == [0, 1 if beyond else 2]
        assert [each.sent_bytes for each in site.told] == [PROMPT_BYTES, size]

    def test_a_completion_callback_comes_as_well(self, watched) -> None:
        sent = []

        def answer(got, arg):
            got.set_on_complete_cb(lambda got, arg: sent.append(len(site.told)))
            got.send_reply(200, None, bytes(self.SIZE))

        site = watched(answer)
        site.connect().get()
        assert sent == [0]
        assert told_once(site).ending is Ending.WHOLE


class TestBrokenOff:
    def test_a_client_that_does_not_wait_for_its_answer(self, watched) -> None:
        site = watched()
        peer = site.connect()
        peer.send(request("/slow"))
        peer.reset()
        exchange = told_once(site)
        assert (exchange.status, exchange.ending) == (0, Ending.BROKEN_OFF)
        site.requests[0].send_reply(200)
        assert site.told == []

    def test_a_client_that_leaves_within_its_body(self, watched) -> None:
        site = watched()
        peer = site.connect()
        peer.send(request("/", "Content-Length: 10", method="POST") + b"1234")
        peer.reset()
        exchange = told_once(site)
        assert (exchange.received_bytes, exchange.ending) == (4, Ending.BROKEN_OFF)

    def test_a_stream_that_is_not_finished(self, watched) -> None:
        site = watched()
        peer = site.connect()
        peer.send(request("/"))
        site.requests[0].send_reply_start(206)
        site.requests[0].send_reply_chunk(b"abc")
        peer.settle()
        peer.reset()
        exchange = told_once(site)
        assert (exchange.status, exchange.sent_bytes) == (206, 3)
        assert exchange.ending is Ending.BROKEN_OFF

    def test_a_handler_that_raises_within_its_reply(self, watched) -> None:
        def fail(got, arg):
            got.send_reply_start(200)
            raise RuntimeError

        site = watched(fail)
        site.connect().send(request("/"))
        assert told_once(site).ending is Ending.BROKEN_OFF

    def test_the_server_is_closed(self, watched) -> None:
        site = watched()
        site.connect().send(request("/"))
        site.server.close()
        assert told_once(site).ending is Ending.BROKEN_OFF

    def test_an_idle_connection_has_nothing_to_tell(self, watched) -> None:
        site = watched()
        site.connect().reset()
        assert site.told == []


class TestRefused:
    def test_bytes_that_are_no_request(self, watched, clock) -> None:
        site = watched()
        peer = site.connect()
        clock.advance(5)
        page = peer.ask(b"illegal request\r\n").body
        exchange = told_once(site)
        assert (exchange.request, exchange.status) == (None, 400)
        assert (exchange.ending, exchange.sent_bytes) == (Ending.REFUSED, len(page))
        assert exchange.duration_s == 0
        assert exchange.peer == peer.sock.getsockname()

    def test_a_head_that_never_ends(self, watched, clock) -> None:
        site = watched(head_s=5)
        peer = site.connect()
        peer.send(b"GET / HTTP/1.1\r\n")
        clock.advance(5)
        peer.settle()
        assert told_once(site).status == 408

    def test_one_connection_too_many(self, watched) -> None:
        site = watched(max_connections=1)
        site.connect()
        assert site.connect().read_message().status == 503
        assert (told_once(site).status, site.told) == (503, [])

    def test_a_body_beyond_the_limit(self, watched) -> None:
        site = watched(max_body_bytes=3)
        chunked = request(method="POST", target="/")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
        site.connect().ask(chunked + b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")
        exchange = told_once(site)
        assert (exchange.status, exchange.request.method) == (413, "POST")
        assert exchange.received_bytes == 2

    def test_a_request_that_the_program_does_not_want(self, watched) -> None:
        site = watched()
        site.server.set_newreqcb(lambda got, arg: -1)
        site.connect().send(request("/"))
        exchange = told_once(site)
        assert (exchange.status, exchange.ending) == (0, Ending.REFUSED)


class TestObservers:
    def test_a_connection_that_is_open_already_counts(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(204))
        peer = site.connect()
        told = []
        site.server.add_observer(told.append)
        peer.ask(request("/"), has_body=False)
        assert [each.status for each in told] == [204]

    def test_one_that_is_removed_is_not_told(self, watched) -> None:
        site = watched(lambda got, arg: got.send_reply(204))
        peer = site.connect()
        site.server.remove_observer(site.server.service.observers[0])
        peer.ask(request("/"), has_body=False)
        assert site.told == []
        with pytest.raises(ArgumentError, match="not an observer"):
            site.server.remove_observer(print)

    def test_what_cannot_be_called_is_refused(self, base) -> None:
        with pytest.raises(ArgumentTypeError):
            HttpServer(base).add_observer(None)  # type: ignore[arg-type]  # that is the test

    def test_one_that_raises_ends_nothing(self, serve, base) -> None:
        told, raised = [], []
        base.exception_handler = raised.append
        site = serve(lambda got, arg: got.send_reply(204))
        site.server.add_observer(lambda exchange: 1 / 0)
        site.server.add_observer(told.append)
        peer = site.connect()
        for _ in range(2):
            assert peer.ask(request("/"), has_body=False).status == 204
        assert (len(told), len(raised)) == (2, 2)

    @pytest.mark.parametrize("line", ["Connection: close", "Accept: */*"])
    @pytest.mark.parametrize("later", [True, False])
    def test_one_may_close_the_server(self, serve, line, later) -> None:
        site = serve(None if later else lambda got, arg: got.send_reply(204))
        site.server.add_observer(lambda exchange: site.server.close())
        site.connect().send(request("/", line) + request("/2"))
        if later:
            site.requests[0].send_reply(204)
        assert site.server.connection_count == 0

    def test_nothing_is_measured_while_nobody_observes(self, serve) -> None:
        site = serve(lambda got, arg: got.send_reply(204))
        site.server.set_access_log(None)
        site.connect().ask(request("/"), has_body=False)
        (connection,) = site.server._connections
        assert connection._extras is None
