"""The queues of active events: what deleting leaves behind."""

from __future__ import annotations

import pytest

from evsvc.core import EV_TIMEOUT, Event, EventBase
from evsvc.core.reactor.active import SLACK


def stale_entries(base: EventBase) -> int:
    queues = (*base.reactor.active.queues, base.reactor.active.later)
    return sum(map(len, queues)) - base.reactor.active.count


@pytest.mark.parametrize("live", [0, 10])
def test_activating_and_deleting_for_ever_does_not_grow_the_queues(
    base: EventBase, live: int
) -> None:
    """Deleting an active event leaves an entry behind, of which there is a bounded number."""
    ran: list[int] = []
    for number in range(live):
        Event(base, -1, 0, lambda fd, what, number: ran.append(number), number).active(0)
    events = [base.timer(lambda *_: ran.append(-1)) for _ in range(3)]
    for turn in range(1000):
        event = events[turn % 3]
        event.active(EV_TIMEOUT)
        event.delete()
        assert stale_entries(base) == min(base.reactor.active.stale, live + SLACK)
    assert stale_entries(base) <= live + SLACK
    events[0].active(EV_TIMEOUT)
    base.dispatch()
    assert ran == [*range(live), -1]
    assert stale_entries(base) == base.reactor.active.stale == 0


def test_the_loop_outlives_a_clearing_of_the_queue_that_it_runs(base: EventBase) -> None:
    ran: list[str] = []
    other = base.timer(lambda *_: pytest.fail("it was deleted"))

    def churn(*_: object) -> None:
        for _turn in range(SLACK + 2):
            other.active(EV_TIMEOUT)
            other.delete()
        ran.append("churn")

    first, last = base.timer(churn), base.timer(lambda *_: ran.append("last"))
    for event in (first, last):
        event.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ran == ["churn", "last"]


def test_stale_entries_of_a_closed_base_do_not_follow_an_event(base: EventBase) -> None:
    ran: list[object] = []
    with EventBase() as closed:
        event = Event(closed, -1, 0, ran.append)
        event = closed.timer(lambda *_: ran.append("here"))
        event.active(EV_TIMEOUT)
        event.delete()
    event.base = base
    event.add(0)
    base.dispatch()
    assert ran == ["here"]
