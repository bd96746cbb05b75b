"""Rows of limits in time: each ends when its time is over, and none keeps the loop running."""

from __future__ import annotations

import itertools

import pytest

from evsvc.core import EVLOOP_NONBLOCK
from evsvc.http import HttpClient, HttpClientOptions, HttpServer
from evsvc.http.client.timeouts import Timeouts


@pytest.fixture
def ended():
    return []


@pytest.fixture
def timeouts(base, ended):
    made = Timeouts(base, ended.append)
    yield made
    made.close()


def advance(base, clock, seconds):
    clock.advance(seconds)
    base.loop(EVLOOP_NONBLOCK)


def test_each_ends_when_its_time_is_over(base, clock, timeouts, ended) -> None:
    timeouts.add("a", 2.0)
    timeouts.add("b", 1.0)
    advance(base, clock, 1.0)
    assert ended == ["b"]
    timeouts.add("c", 2.0)
    advance(base, clock, 1.0)
    assert ended == ["b", "a"]
    advance(base, clock, 0.9)
    assert ended == ["b", "a"]
    advance(base, clock, 0.1)
    assert ended == ["b", "a", "c"]


def test_one_that_is_discarded_does_not(base, clock, timeouts, ended) -> None:
    timeouts.add("a", 1.0)
    timeouts.add("b", 1.0)
    timeouts.discard("a", 1.0)
    timeouts.discard("a", 1.0)
    timeouts.discard("c", 5.0)
    advance(base, clock, 1.0)
    assert ended == ["b"]


def test_the_time_of_one_may_begin_anew(base, clock, timeouts, ended) -> None:
    timeouts.add("a", 2.0)
    timeouts.add("b", 2.0)
    advance(base, clock, 1.0)
    timeouts.renew("a", 2.0)
    advance(base, clock, 1.0)
    assert ended == ["b"]
    advance(base, clock, 1.0)
    assert ended == ["b", "a"]


@pytest.mark.parametrize("how", ["discarded", "over"])
def test_without_any_the_loop_has_nothing_to_wait_for(base, clock, timeouts, ended, how) -> None:
    timeouts.add("a", 50.0)
    if how == "discarded":
        timeouts.discard("a", 50.0)
    else:
        clock.advance(50.0)
        base.loop(EVLOOP_NONBLOCK)
    began = clock.monotonic()
    assert base.dispatch() == 1
    assert clock.monotonic() == began


def test_one_that_ends_may_discard_and_add_others(base, clock) -> None:
    ended = []
    numbers = itertools.count()

    def end(item):
        ended.append(item)
        timeouts.discard("b", 1.0)
        if len(ended) < 3:
            timeouts.add(next(numbers), 1.0)

    timeouts = Timeouts(base, end)
    timeouts.add("a", 1.0)
    timeouts.add("b", 1.0)
    for _ in range(4):
        advance(base, clock, 1.0)
    assert ended == ["a", 0, 1]
    assert base.dispatch() == 1


def test_a_client_whose_requests_are_done_keeps_no_loop_running(base, clock) -> None:
    with HttpServer(base) as server:
        server.set_gencb(lambda request, arg: request.send_reply(200))
        port = server.bind_socket("127.0.0.1", 0).port
        client = HttpClient(base, options=HttpClientOptions(timeout_s=500.0))
        done = []

        def again(response, arg):
            done.append(response)
            if len(done) < 3:
                client.get(url, again, headers={"Connection": "close"})
            else:
                server.close()

        url = f"http://127.0.0.1:{port}/"
        client.get(url, again, headers={"Connection": "close"})
        began = clock.monotonic()
        base.dispatch()
        assert [each.status for each in done] == [200] * 3
        assert clock.monotonic() < began + 500.0
        client.close()
