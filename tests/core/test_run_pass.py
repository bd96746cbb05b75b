"""One pass at a time, for who has a loop of his own around the base's; and a base that is lent."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    Event,
    EventBase,
    FakeClock,
    StateError,
)

pytestmark = pytest.mark.every_backend


def test_a_pass_waits_no_longer_than_it_was_told(fake_base: EventBase, clock: FakeClock) -> None:
    assert fake_base.run_pass(5) is True
    assert clock.monotonic() == 1005
    fake_base.timer(lambda fd, what, arg: None).add(3)
    assert fake_base.run_pass(5) is True
    assert clock.monotonic() == 1008
    fake_base.timer(lambda fd, what, arg: None).add(30)
    fake_base.run_pass(7)
    assert clock.monotonic() == 1015
    fake_base.run_pass(0)
    assert clock.monotonic() == 1015


def test_a_pass_is_one_though_its_work_is_not_done(
    base: EventBase, pair: tuple[socket.socket, socket.socket]
) -> None:
    """What is read by nobody is ready for ever, and of lower priority something waits."""
    base.priority_init(2)
    log: list[str] = []
    ready = Event(base, pair[0], EV_READ | EV_PERSIST, lambda fd, what, arg: log.append("urgent"))
    ready.priority = 0
    ready.add()
    pair[1].send(b"x")
    patient = base.timer(lambda fd, what, arg: log.append("patient"))
    patient.priority = 1
    patient.active(EV_TIMEOUT)
    for _ in range(3):
        assert base.run_pass(0)
    assert log == ["urgent"] * 3
    ready.close()
    base.run_pass()
    assert log == ["urgent"] * 3 + ["patient"]


def test_a_pass_without_a_limit_waits_although_nothing_is_pending(base: EventBase) -> None:
    log: list[str] = []
    thread = threading.Thread(target=base.post, args=(log.append, "posted"))
    thread.start()
    while not log:
        assert base.run_pass()
    thread.join()


def test_a_pass_sends_what_was_written_before_it(
    base: EventBase, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = pair
    with BufferEvent(base, one) as bev:
        bev.write(b"hello")
        base.run_pass()
        assert other.recv(5) == b"hello"


@pytest.mark.parametrize("end", [EventBase.loopexit, EventBase.loopbreak])
def test_a_pass_says_that_the_loop_shall_end(
    fake_base: EventBase, end: Callable[[EventBase], None]
) -> None:
    fake_base.timer(lambda fd, what, arg: end(fake_base)).add(1)
    assert fake_base.run_pass() is False
    assert fake_base.run_pass(0) is True


def test_what_is_no_time_to_wait_is_refused(base: EventBase) -> None:
    with pytest.raises(ArgumentError, match="-1"):
        base.run_pass(-1)
    with pytest.raises(ArgumentTypeError, match="soon"):
        base.run_pass("soon")  # type: ignore[arg-type]  # that is the test
    base.close()
    with pytest.raises(StateError, match="closed"):
        base.run_pass(0)


def test_a_pass_inside_of_a_pass_is_refused(fake_base: EventBase) -> None:
    def again(fd: int, what: int, arg: object) -> None:
        with pytest.raises(StateError, match="running already"):
            fake_base.run_pass(0)
        log.append("refused")

    log: list[str] = []
    fake_base.timer(again).add(1)
    fake_base.run_pass()
    assert log == ["refused"]


def test_a_lent_base_runs_passes_and_no_loop(fake_base: EventBase) -> None:
    fake_base.reactor.lend(None)
    with pytest.raises(StateError, match="running already"):
        fake_base.loop()
    with pytest.raises(StateError, match="running already"):
        fake_base.reactor.lend(None)
    assert fake_base.run_pass(0)
    fake_base.reactor.end_lending()
    fake_base.reactor.end_lending()
    assert fake_base.dispatch() == 1


def test_who_has_lent_a_base_is_told_of_work(
    base: EventBase, pair: tuple[socket.socket, socket.socket]
) -> None:
    asked: list[str] = []
    with BufferEvent(base, pair[0]) as bev:
        base.reactor.lend(lambda: asked.append("work"))
        tasks: list[Callable[[], object]] = [
            lambda: base.timer(lambda fd, what, arg: None).add(5),
            lambda: base.timer(lambda fd, what, arg: None).active(EV_TIMEOUT),
            lambda: bev.write(b"hello"),
            base.loopexit,
        ]
        for task in tasks:
            asked.clear()
            task()
            assert asked, task
            base.run_pass(0)
        base.reactor.end_lending()
        asked.clear()
        for task in tasks:
            task()
        assert asked == []


def test_how_long_nothing_has_to_run(fake_base: EventBase, clock: FakeClock) -> None:
    reactor = fake_base.reactor
    assert reactor.next_wait_s() is None
    timer = fake_base.timer(lambda fd, what, arg: None)
    timer.add(5)
    assert reactor.next_wait_s() == 5
    clock.advance(7)
    assert reactor.next_wait_s() == 0
    fake_base.run_pass(0)
    assert reactor.next_wait_s() is None
    timer.active(EV_TIMEOUT)
    assert reactor.next_wait_s() == 0


def test_a_lent_base_has_the_signals_wake_up_descriptor_between_passes(base: EventBase) -> None:
    """Else a signal that comes just before the outer loop's wait is not seen in it."""
    base.reactor.lend(lambda: None)
    ours = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(ours)
    assert ours >= 0
    base.run_pass(0)
    base.run_pass(0.001)
    base.reactor.end_lending()
    assert signal.set_wakeup_fd(-1) == -1


def test_a_loop_that_waits_elsewhere_keeps_its_own_wake_up_descriptor(base: EventBase) -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        try:
            base.reactor.lend(lambda: None)
            assert signal.set_wakeup_fd(writer.fileno()) == writer.fileno()
            base.reactor.end_lending()
            base.reactor.lend(None)
            assert signal.set_wakeup_fd(writer.fileno()) != writer.fileno()
            base.reactor.end_lending()
        finally:
            assert signal.set_wakeup_fd(-1) == writer.fileno()


def test_a_lent_base_is_not_closed(base: EventBase) -> None:
    base.reactor.lend(None)
    for close in (base.close, base.close_nofinalize):
        with pytest.raises(StateError, match="running"):
            close()
    base.reactor.end_lending()
    base.close()


def test_what_a_callback_raises_leaves_the_pass(fake_base: EventBase) -> None:
    def fail(fd: int, what: int, arg: object) -> None:
        raise LookupError("no such thing")

    fake_base.timer(fail).add(1)
    with pytest.raises(LookupError):
        fake_base.run_pass()
    assert fake_base.run_pass(0)
