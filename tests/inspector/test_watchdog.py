"""The watchdog: a callback that holds the loop waits here until it is told of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from evsvc.core import EVLOOP_ONCE, ArgumentError, EventBase
from evsvc.inspector import Watchdog

PATIENCE_S = 60.0


class Told(logging.Handler):
    """What was logged; `news` is set by each."""

    def __init__(self) -> None:
        super().__init__()
        self.news = threading.Event()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self.news.set()


@pytest.fixture
def told() -> Iterator[Told]:
    handler = Told()
    logger = logging.getLogger("evsvc.inspector")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


def test_where_the_loop_is_held_is_told_once(base: EventBase, told: Told) -> None:
    def hold_the_loop(fd: int, what: int, arg: object) -> None:
        assert told.news.wait(PATIENCE_S)
        told.news.clear()
        assert not told.news.wait(0.1)  # ten times as long: it was told already

    with Watchdog(base, 0.01):
        for count in (1, 2):
            base.timer(hold_the_loop).active(0)
            base.loop(EVLOOP_ONCE)
            assert len(told.messages) == count
    assert "held for 0." in told.messages[0]
    assert "in hold_the_loop" in told.messages[0]


def test_waiting_and_a_loop_that_does_not_run_are_not_held(base: EventBase, told: Told) -> None:
    with Watchdog(base, 0.02):
        base.timer(lambda fd, what, arg: None).active(0)
        base.loop(EVLOOP_ONCE)
        assert not told.news.wait(0.1)
        base.timer(lambda fd, what, arg: None).add(0.1)
        base.loop(EVLOOP_ONCE)
    assert told.messages == []


def test_closing_ends_the_thread(base: EventBase) -> None:
    before = threading.active_count()
    watchdog = Watchdog(base, 100.0)
    assert threading.active_count() == before + 1
    watchdog.close()
    watchdog.close()
    assert threading.active_count() == before


def test_a_time_that_is_not_positive_is_refused(base: EventBase) -> None:
    with pytest.raises(ArgumentError, match=r"too_long_s.*0"):
        Watchdog(base, 0)
