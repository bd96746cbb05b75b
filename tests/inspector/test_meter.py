"""What the loop's figures are, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from evsvc.core import EVLOOP_ONCE, BufferEvent, EventBase, FakeClock, PairBufferEvent
from evsvc.inspector.meter import IDLE_S, LoopFigures, LoopMeter
from evsvc.inspector.names import name_of


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def base(clock: FakeClock) -> Iterator[EventBase]:
    with EventBase(clock=clock) as made:
        yield made


def work(fd: int, what: int, arg: tuple[FakeClock, float]) -> None:
    clock, seconds = arg
    clock.advance(seconds)


def test_work_and_waiting_are_told_apart(base: EventBase, clock: FakeClock) -> None:
    with LoopMeter(base, 10) as meter:
        base.timer(work, (clock, 2.0)).add(3.0)
        base.loop(EVLOOP_ONCE)
        base.timer(work, (clock, 1.0)).add(4.0)
        base.loop(EVLOOP_ONCE)
        figures = meter.take()
        assert figures == LoopFigures(10.0, passes=2, callbacks=2, busy_s=3.0, longest_s=2.0)
        assert meter.take() == LoopFigures(0.0, passes=0, callbacks=0, busy_s=0.0, longest_s=0.0)
        (figures_of_work,) = meter.calls.values()
        assert (figures_of_work.calls, figures_of_work.total_s) == (2, 3.0)
        assert figures_of_work.longest_s == 2.0


def test_a_pass_that_is_under_way_counts_up_to_the_asking(
    base: EventBase, clock: FakeClock
) -> None:
    taken = []

    def ask(fd: int, what: int, arg: object) -> None:
        clock.advance(1.0)
        taken.append(meter.take())
        clock.advance(5.0)

    with LoopMeter(base, 10) as meter:
        base.timer(ask).add(1.0)
        base.loop(EVLOOP_ONCE)
        assert [each.busy_s for each in (*taken, meter.take())] == [1.0, 5.0]


def test_it_closes_itself_when_nobody_asks(base: EventBase, clock: FakeClock) -> None:
    meter = LoopMeter(base, 10)
    for seconds, closed in ((IDLE_S, False), (1.0, False), (1.0, True)):
        base.timer(work, (clock, 0.0)).add(seconds)
        base.loop(EVLOOP_ONCE)
        assert meter.closed == closed
    meter.close()


def test_names_are_those_of_the_program(base: EventBase) -> None:
    def on_read(bev: object, arg: object) -> None: ...

    assert name_of(partial(work, 1)).endswith("test_meter.work")
    assert name_of(print) == "builtins.print"
    one, other = PairBufferEvent.new(base)
    with one, other:
        assert name_of(one.trigger).endswith("AbstractBufferEvent.trigger")
        one.setcb(on_read, None, None)
        assert name_of(one.trigger).endswith("on_read")
        one.setcb(BufferEvent.close, None, None)
        assert name_of(one.trigger).endswith("close")
