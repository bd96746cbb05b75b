"""The line of a connection's requests: what may be sent, and what becomes of it.  No sockets."""

from __future__ import annotations

import itertools

import pytest

from evsvc.http import HttpRequest
from evsvc.http.client.line import IDEMPOTENT, Line


def made(name, method="GET", body=b""):
    request = HttpRequest(None, name)
    if body:
        request.set_body(body)
    request.prepare(method, f"/{name}", "Host: h\r\n")
    request.connection = "somebody's"
    return request


def line_of(*requests, behind=0):
    line = Line()
    line.requests.extend(requests)
    line.behind = behind
    return line


def names(requests):
    return [request.arg for request in requests]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5])
def test_no_more_is_sent_than_the_limit(most) -> None:
    line = line_of(*map(made, "abcd"))
    while line.next_to_send(most, False) is not None:
        line.behind += 1
    assert line.behind + 1 == min(most, 4)


@pytest.mark.parametrize("takes_all", [False, True])
@pytest.mark.parametrize(
    ("first", "second"), list(itertools.product([*sorted(IDEMPOTENT), "POST", "PATCH"], repeat=2))
)
def test_both_must_be_idempotent_or_all_be_taken(first, second, takes_all) -> None:
    line = line_of(made("a", first), made("b", second))
    may = takes_all or {first, second} <= IDEMPOTENT
    assert (line.next_to_send(9, takes_all) is not None) is may


@pytest.mark.parametrize("ending", [0, 1])
def test_nothing_goes_behind_the_end_of_the_connection(ending) -> None:
    requests = [made(name) for name in "abc"]
    line = line_of(*requests, behind=1)
    assert line.next_to_send(9, False) is requests[2]
    requests[ending].keep_alive = False
    assert line.next_to_send(9, False) is None


def test_whom_it_holds_for_sent() -> None:
    a, b, c = map(made, "abc")
    line = line_of(a, b, c, behind=1)
    assert [line.is_sent(each) for each in (a, b, c)] == [True, True, False]
    assert not line_of().is_sent(a)


def test_who_is_given_up_keeps_his_place_until_nobody_waits() -> None:
    a, b, c = map(made, "abc")
    line = line_of(a, b, c, behind=1)
    assert line.give_up(a)
    stand_in = line.requests[0]
    assert (stand_in.method, stand_in.sent_bytes) == (a.method, a.sent_bytes)
    assert stand_in.connection is None
    assert line.next_to_send(9, True) is None
    assert not line.give_up(b)
    assert names(line.requests) == ["c"]
    assert line.behind == 0


def test_it_is_of_no_use_when_only_such_are_left() -> None:
    a, b, c = map(made, "abc")
    line = line_of(a, b, c, behind=1)
    line.give_up(b)
    line.requests.popleft()
    assert not line.advance()
    assert names(line.requests) == ["c"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("retry", [True, False])
def test_when_the_connection_ends_each_goes_its_way(first, retry) -> None:
    head = made("head", "POST", b"0123")
    get, post, again, unsent = (
        made("get"),
        made("post", "POST"),
        made("again"),
        made("unsent", "POST", b"body"),
    )
    again.went_again = True
    waiting = made("waiting", "POST")
    line = line_of(*[head][:first], get, post, again, unsent, waiting, behind=4)
    lost = line.part(first, unsent.sent_bytes, is_refused=False, retry=retry)
    kept = ["head"][:first] + ["get"] * retry + ["unsent", "waiting"]
    assert names(line.requests) == kept
    assert names(lost) == ["get"] * (not retry) + ["post", "again"]
    assert get.went_again is retry
    assert not unsent.went_again
    assert line.behind == 0


def test_a_byte_that_has_left_may_have_been_read() -> None:
    a, b = made("a", "POST"), made("b", "POST")
    line = line_of(a, b, behind=2)
    assert names(line.part(0, a.sent_bytes + b.sent_bytes - 1, is_refused=False, retry=True)) == [
        "a"
    ]
    assert names(line.requests) == ["b"]


def test_what_the_server_has_refused_stays_in_line() -> None:
    requests = [made("a", "POST"), made("b"), made("c", "PATCH")]
    requests[1].went_again = True
    line = line_of(*requests, behind=3)
    assert line.part(0, 0, is_refused=True, retry=False) == []
    assert list(line.requests) == requests


def test_nobodys_request_does_not_go_again() -> None:
    a, b = made("a"), made("b")
    line = line_of(a, b, behind=1)
    line.give_up(a)
    line.requests.popleft()
    line.requests.appendleft(a.stand_in())
    assert line.part(1, 0, is_refused=True, retry=True) == []
    assert line.requests[1] is b
    line = line_of(a.stand_in(), b, behind=2)
    assert line.part(0, 0, is_refused=True, retry=True) == []
    assert list(line.requests) == [b]
