"""What is said over one carrier: here a pair, without a connection around it."""

from __future__ import annotations

from math import inf

import pytest

from evsvc.core import BEV_FINISHED, EV_READ, EV_WRITE, EVLOOP_NONBLOCK, PairBufferEvent
from evsvc.http import ClientOptions, ConnectionClosed, HttpRequest
from evsvc.http.client.conversation import Conversation
from evsvc.http.client.deadline import Deadline
from evsvc.http.client.line import Line
from evsvc.http.client.phases import Turn

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Talk:
    """A conversation, the server's end of it, and what it has told."""

    def __init__(self, base) -> None:
        self.base = base
        self.told = []
        self.line = Line()
        self.deadline = Deadline(base, lambda now: self.conversation.time_is_over())
        bev, self.server = PairBufferEvent.new(base)
        self.conversation = Conversation(
            bev,
            "a.test",
            self.line,
            ClientOptions(idle_s=9, read_s=5, continue_s=1),
            self.deadline,
            is_wary=False,
            answered=self.answered,
            failed=lambda error: self.told.append(error),
            raised=lambda request, exc, text: self.told.append((request, exc, text)),
            refused=lambda: self.told.append("refused"),
            taken_over=lambda request: self.told.append(("taken over", request)),
        )
        self.conversation.start()
        self.server.enable(EV_READ)

    def answered(self, request) -> None:
        assert self.line.requests.popleft() is request
        self.told.append(request)
        if not self.conversation.turn_to_rest(request):
            self.conversation.end()

    def send(self, method="GET", body=b"", **headers) -> HttpRequest:
        request = HttpRequest()
        request.output_buffer.add(body)
        for name, value in headers.items():
            request.output_headers.add(name, value)
        request.prepare(method, "/", "Host: a.test\r\n")
        request.connection = self  # somebody waits for it
        self.line.requests.append(request)
        self.conversation.send(request)
        return request

    def answer(self, data: bytes) -> None:
        self.server.write(data)
        self.turn_loop()

    def turn_loop(self) -> None:
        for _ in range(3):
            self.base.loop(EVLOOP_NONBLOCK)

    def received(self) -> bytes:
        self.turn_loop()
        return self.server.input.remove()


@pytest.fixture
def talk(base):
    made = Talk(base)
    yield made
    made.conversation.bev.close()
    made.server.close()
    made.deadline.close()


def test_a_request_goes_out_and_its_answer_is_told(talk) -> None:
    request = talk.send()
    assert talk.received() == b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
    assert talk.conversation.serves(request)
    talk.answer(OK)
    assert talk.told == [request]
    assert (request.response_code, request.input_buffer.remove()) == (200, b"hi")
    assert talk.conversation.turn is Turn.READY
    assert talk.conversation.is_reused
    assert not talk.conversation.serves(request)
    assert talk.deadline.due == inf


def test_it_is_of_no_use_behind_an_answer_that_closes(talk) -> None:
    talk.send()
    talk.answer(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert talk.conversation.turn is Turn.OVER


def test_a_body_waits_for_consent_or_for_continue_s(talk, clock) -> None:
    talk.send("PUT", b"body", Expect="100-continue")
    assert talk.received().endswith(b"\r\n\r\n")
    clock.advance(1)
    assert talk.received() == b"body"
    assert talk.conversation.turn is Turn.WAITING


def test_silence_is_told_once_it_has_lasted_read_s(talk, clock) -> None:
    talk.send()
    talk.received()
    clock.advance(4.9)
    talk.turn_loop()
    assert talk.told == []
    clock.advance(0.2)
    talk.turn_loop()
    (error,) = talk.told
    assert str(error) == "a.test: silent for too long"


def test_a_refused_expectation_goes_again_without_it(talk) -> None:
    request = talk.send("PUT", b"body", Expect="100-continue")
    talk.answer(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
    assert talk.told == ["refused"]
    assert not request.expects_continue


def test_the_end_of_an_idle_carrier_is_told(talk) -> None:
    talk.answer(b"what nobody has asked for")
    assert len(talk.told) == 1
    assert talk.conversation.turn is Turn.READY


def test_one_may_go_again_that_was_not_sent_or_is_idempotent_and_not_the_first(talk) -> None:
    talk.server.disable(EV_READ)
    first = talk.send()
    assert talk.conversation.may_go_again(first)  # all of it is still here
    talk.server.enable(EV_READ)
    talk.received()
    assert not talk.conversation.may_go_again(first)
    talk.answer(OK)
    second = talk.send()
    talk.received()
    assert talk.conversation.may_go_again(second)
    second.went_again = True
    assert not talk.conversation.may_go_again(second)


def test_nothing_is_told_after_the_end(talk) -> None:
    talk.send()
    talk.received()
    talk.conversation.end()
    talk.answer(OK)
    assert talk.told == []


def test_a_callback_that_raises_is_told_of(talk) -> None:
    request = talk.send()
    fault = ValueError("no")

    def raise_it(request, arg):
        raise fault

    request.set_chunked_cb(raise_it)
    talk.answer(OK)
    assert talk.told[0] == (request, fault, "a callback of the request raised an exception")


def test_a_pair_that_ends_fails_the_request(talk) -> None:
    talk.send()
    talk.received()
    talk.server.flush(EV_WRITE, BEV_FINISHED)
    talk.turn_loop()
    assert isinstance(talk.told[0], ConnectionClosed)
