"""EvBuffer: callbacks that are switched off, and that wait for the loop."""

from __future__ import annotations

import threading

import pytest

from evsvc.core import (
    EVBUFFER_CB_ENABLED,
    EVLOOP_NONBLOCK,
    ArgumentError,
    ChangeInfo,
    EvBuffer,
    EventBase,
    PrepareWatcher,
    StateError,
)

Infos = list[ChangeInfo]


def note(buffer: EvBuffer, info: ChangeInfo, to: Infos) -> None:
    assert info.orig_size + info.n_added - info.n_deleted == len(buffer)
    to.append(info)


def run(base: EventBase) -> None:
    base.loop(EVLOOP_NONBLOCK)


def test_a_callback_can_be_switched_off_and_on() -> None:
    """What happens meanwhile is not told later."""
    infos: Infos = []
    buffer = EvBuffer()
    entry = buffer.add_cb(note, infos)
    buffer.cb_clear_flags(entry, EVBUFFER_CB_ENABLED)
    buffer.add(b"abc")
    buffer.cb_clear_flags(entry, 0)
    buffer.cb_set_flags(entry, 0)
    buffer.add(b"d")
    assert infos == []
    buffer.cb_set_flags(entry, EVBUFFER_CB_ENABLED)
    buffer.add(b"e")
    assert infos == [ChangeInfo(4, 1, 0)]


def test_a_callback_has_no_other_flags_and_belongs_to_one_buffer() -> None:
    buffer = EvBuffer()
    entry = buffer.add_cb(note, [])
    for change in (buffer.cb_set_flags, buffer.cb_clear_flags):
        with pytest.raises(ArgumentError, match="0x2"):
            change(entry, 2)
    for change in (EvBuffer().cb_set_flags, EvBuffer().cb_clear_flags):
        with pytest.raises(ArgumentError, match="not a callback"):
            change(entry, EVBUFFER_CB_ENABLED)


def test_deferred_changes_are_told_once_from_the_loop(base: EventBase) -> None:
    """With the size before the first of them, and the sums."""
    infos: Infos = []
    buffer = EvBuffer(b"12345")
    buffer.add_cb(note, infos)
    buffer.defer_callbacks(base)
    buffer.add(b"abc")
    buffer.drain(4)
    buffer.prepend(b"xy")
    assert infos == []
    run(base)
    assert infos == [ChangeInfo(5, 5, 4)]
    run(base)
    assert len(infos) == 1
    buffer.add(b"z")
    run(base)
    assert infos[1:] == [ChangeInfo(6, 1, 0)]


def test_deferred_changes_that_cancel_out_are_told(base: EventBase) -> None:
    infos: Infos = []
    buffer = EvBuffer()
    buffer.add_cb(note, infos)
    buffer.defer_callbacks(base)
    buffer.add(b"abc")
    buffer.drain(3)
    run(base)
    assert infos == [ChangeInfo(0, 3, 3)]


def test_deferred_callbacks_run_newest_first_and_may_change_the_buffer(base: EventBase) -> None:
    """What they change is told in a pass of its own, so that nobody is starved."""
    log: list[object] = []
    buffer = EvBuffer()
    buffer.add_cb(lambda buf, info, arg: log.append(info))
    buffer.add_cb(lambda buf, info, arg: buf.drain(2))
    buffer.defer_callbacks(base)
    with PrepareWatcher(base, lambda watcher, info, arg: log.append("pass")):
        buffer.add(b"abc")
        run(base)
    added, first, second = ChangeInfo(0, 3, 0), ChangeInfo(3, 0, 2), ChangeInfo(1, 0, 1)
    assert log[:6] == ["pass", added, "pass", first, "pass", second]
    assert len(buffer) == 0


def test_nothing_is_kept_for_callbacks_that_are_not_there(base: EventBase) -> None:
    infos: Infos = []
    buffer = EvBuffer()
    buffer.defer_callbacks(base)
    buffer.add(b"abc")
    buffer.add_cb(note, infos)
    run(base)
    assert infos == []
    buffer.add(b"d")
    buffer.remove_cb(note, infos)
    run(base)
    assert infos == []


def test_a_callback_that_is_removed_while_it_waits_is_not_called(base: EventBase) -> None:
    infos: Infos = []
    buffer = EvBuffer()
    buffer.defer_callbacks(base)
    entry = buffer.add_cb(note, infos)
    buffer.add_cb(lambda buf, info, arg: buf.remove_cb_entry(entry))
    buffer.add(b"abc")
    run(base)
    assert infos == []


@pytest.mark.parametrize("closer", ["program", "callback"])
def test_nothing_is_told_after_close(closer: str, base: EventBase) -> None:
    infos: Infos = []
    buffer = EvBuffer()
    buffer.add_cb(note, infos)
    buffer.defer_callbacks(base)
    if closer == "callback":
        buffer.add_cb(lambda buf, info, arg: buf.close())
    buffer.add(b"abc")
    if closer == "program":
        buffer.close()
    run(base)
    run(base)
    assert infos == []


def test_callbacks_can_be_deferred_once() -> None:
    with EventBase() as base:
        buffer = EvBuffer()
        buffer.defer_callbacks(base)
        with pytest.raises(StateError, match="already"):
            buffer.defer_callbacks(base)
    with pytest.raises(StateError, match="closed"):
        EvBuffer().defer_callbacks(base)


def test_a_buffer_may_outlive_the_base_that_it_defers_to() -> None:
    infos: Infos = []
    buffer = EvBuffer()
    buffer.add_cb(note, infos)
    with EventBase() as base:
        buffer.defer_callbacks(base)
    buffer.add(b"abc")
    assert bytes(buffer) == b"abc"
    assert infos == []


def test_deferred_callbacks_have_the_middle_priority_of_their_time(base: EventBase) -> None:
    """Having more priorities later does not move them."""
    ran: list[str] = []

    def called(buffer: EvBuffer, info: ChangeInfo, name: str) -> None:
        ran.append(name)

    base.priority_init(3)
    early = EvBuffer()
    early.add_cb(called, "early, 1")
    early.defer_callbacks(base)
    base.priority_init(9)
    late = EvBuffer()
    late.add_cb(called, "late, 4")
    late.defer_callbacks(base)
    for priority in (0, 2, 5):
        event = base.timer(lambda fd, what, arg: ran.append(arg), f"event, {priority}")
        event.priority = priority
        event.active(0)
    late.add(b"x")
    early.add(b"x")
    base.dispatch()
    assert ran == ["event, 0", "early, 1", "event, 2", "late, 4", "event, 5"]


def test_a_change_in_another_thread_is_told_in_the_loops() -> None:
    """And wakes the loop, which would else sleep on."""
    told: list[int] = []
    with EventBase() as base:
        buffer = EvBuffer()
        buffer.enable_locking()
        buffer.defer_callbacks(base)

        def called(buf: EvBuffer, info: ChangeInfo, arg: object) -> None:
            told.append(threading.get_ident())
            base.loopbreak()

        buffer.add_cb(called)
        guard = base.timer(lambda fd, what, arg: base.loopbreak())
        guard.add(30)
        other = threading.Thread(target=buffer.add, args=(b"from elsewhere",))
        starter = base.timer(lambda fd, what, arg: other.start())
        starter.add(0)
        base.dispatch()
        other.join()
        assert told == [threading.get_ident()]
        assert bytes(buffer) == b"from elsewhere"
        buffer.close()


def test_what_waits_goes_with_the_last_callback(base: EventBase) -> None:
    """What changes while there is none is in no sum, so neither may be what came before."""
    infos: Infos = []
    with EvBuffer() as buffer:
        buffer.defer_callbacks(base)
        entry = buffer.add_cb(note, infos)
        buffer.add(b"0123456789")
        buffer.remove_cb_entry(entry)
        buffer.drain(10)
        buffer.add_cb(note, infos)
        run(base)
        assert infos == []
        buffer.add(b"abc")
        run(base)
        assert infos == [ChangeInfo(0, 3, 0)]


class Failure(Exception):
    """What a callback raises."""


def fail(buffer: EvBuffer, info: ChangeInfo, name: str) -> None:
    raise Failure(name)


def interrupt(buffer: EvBuffer, info: ChangeInfo, arg: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "deferred"])
def test_every_callback_is_told_and_then_the_first_exception_goes_on(
    deferred: bool, base: EventBase
) -> None:
    infos: Infos = []
    with EvBuffer() as buffer:
        if deferred:
            buffer.defer_callbacks(base)
        buffer.add_cb(note, infos)
        buffer.add_cb(fail, "older")
        buffer.add_cb(note, infos)
        buffer.add_cb(fail, "newer")

        def change() -> None:
            buffer.add(b"abc")
            run(base)

        with pytest.raises(Failure, match="newer") as raised:
            change()
        assert infos == [ChangeInfo(0, 3, 0)] * 2
        assert "older" in raised.value.__notes__[0]
        assert bytes(buffer) == b"abc"


def test_an_interrupt_after_an_exception_is_not_lost() -> None:
    buffer = EvBuffer()
    buffer.add_cb(interrupt)
    buffer.add_cb(fail, "first")
    with pytest.raises(KeyboardInterrupt) as raised:
        buffer.add(b"abc")
    assert isinstance(raised.value.__context__, Failure)
