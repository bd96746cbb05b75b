"""PairBufferEvent: what no other kind has; test_bufferevent_kinds has what all have."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_FINISHED,
    BEV_FLUSH,
    BEV_NORMAL,
    BEV_OPT_THREADSAFE,
    BEV_OPT_UNLOCK_CALLBACKS,
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    BevEvent,
    ChangeInfo,
    EvBuffer,
    EventBase,
    FakeClock,
    PairBufferEvent,
    RateLimitGroup,
    StateError,
    TokenBucketCfg,
)
from tests.core.bevs import Boom, Log, boom, never

Halves = tuple[PairBufferEvent, PairBufferEvent]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def halves(base: EventBase) -> Halves:
    return PairBufferEvent.new(base)


def test_each_half_knows_the_other_until_one_is_closed(halves: Halves) -> None:
    """The partner is none once freed."""
    one, other = halves
    assert one.partner is other
    assert other.partner is one
    one.close()
    assert one.partner is None
    assert other.partner is None
    other.close()


@pytest.mark.parametrize("closed_first", [False, True])
def test_closing_one_half_is_an_end_of_file_for_the_other(
    base: EventBase, halves: Halves, log: Log, closed_first: bool
) -> None:
    """As of a socket: while it reads, and once."""
    one, other = halves
    log.attach(other)
    one.write(b"last words")
    if not closed_first:
        other.enable(EV_READ)
    one.close()
    if closed_first:
        assert base.dispatch() == 1
        assert log.calls == []
        other.enable(EV_READ)
    assert base.dispatch() == 1
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    assert log.data == (b"" if closed_first else b"last words")
    assert other.enabled == EV_WRITE
    other.close()


@pytest.mark.parametrize("written_first", [False, True])
def test_what_is_written_to_a_closed_half_is_an_error(
    base: EventBase, halves: Halves, log: Log, caplog: pytest.LogCaptureFixture, written_first: bool
) -> None:
    """And dropped from then on, with one line in the log."""
    one, other = halves
    log.attach(other)
    if written_first:
        other.write(b"to nobody")
    one.close()
    if not written_first:
        other.write(b"to nobody")
    assert base.dispatch() == 1
    assert log.events == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]
    assert isinstance(other.error, BrokenPipeError)
    assert other.error.errno == errno.EPIPE
    for _ in range(1000):
        other.write(bytes(1000))
    assert base.dispatch() == 1
    assert len(other.output) == 0
    assert len(caplog.records) == 1
    assert log.events == [BEV_EVENT_WRITING | BEV_EVENT_ERROR]
    other.close()


def test_finished_gives_the_partner_the_end_of_file(
    base: EventBase, halves: Halves, log: Log
) -> None:
    """flush(WRITE, FINISHED) on one, loop ONCE: the other gets exactly READING|EOF."""
    one, other = halves
    other.setcb(None, None, log.event)
    other.enable(EV_READ)
    assert one.flush(EV_WRITE, BEV_FINISHED) is False
    assert log.events == []
    base.loop(EVLOOP_ONCE)
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    assert other.enabled == EV_WRITE


@pytest.mark.parametrize(
    ("events", "what", "enabled"),
    [
        (EV_READ, BEV_EVENT_WRITING, EV_READ | EV_WRITE),
        (EV_READ | EV_WRITE, BEV_EVENT_READING | BEV_EVENT_WRITING, EV_WRITE),
    ],
)
def test_finished_reading_tells_the_partner_that_its_writing_has_ended(
    base: EventBase, halves: Halves, log: Log, events: int, what: int, enabled: int
) -> None:
    """EOF|WRITING for READ, in one call with the other direction's; writing is not disabled."""
    one, other = halves
    other.setcb(None, None, log.event)
    other.enable(EV_READ)
    other.disable(EV_WRITE)
    other.write(b"left")
    other.enable(EV_WRITE)
    assert one.flush(events, BEV_FINISHED) is True
    base.loop(EVLOOP_NONBLOCK)
    assert log.events == [BEV_EVENT_EOF | what]
    assert other.enabled == enabled
    assert one.read() == b"left"


def test_finished_of_no_direction_tells_nothing(base: EventBase, halves: Halves) -> None:
    one, other = halves
    other.setcb(never, never, never)
    assert one.flush(0, BEV_FINISHED) is False
    assert base.dispatch() == 1


@pytest.mark.parametrize("mode", [BEV_FLUSH, BEV_FINISHED])
@pytest.mark.parametrize("who", ["writer", "reader"])
def test_a_flush_moves_bytes_though_everything_is_disabled(
    base: EventBase, halves: Halves, log: Log, mode: int, who: str
) -> None:
    """WRITE: own output out; READ: the partner's output in.  NORMAL does nothing."""
    writer, reader = halves
    log.attach(reader)
    writer.disable(EV_WRITE)
    writer.write(b"forced")
    for bev in halves:
        assert bev.flush(EV_READ | EV_WRITE, BEV_NORMAL) is False
    assert len(reader.input) == 0
    if who == "writer":
        assert writer.flush(EV_WRITE, mode) is True
    else:
        assert reader.flush(EV_READ, mode) is True
    assert reader.input.copyout() == b"forced"
    base.loop(EVLOOP_NONBLOCK)
    assert log.calls[0] == "read"
    assert log.data == b"forced"


@pytest.mark.parametrize(("size", "moved"), [(4, 4), (5, 4)])
def test_a_flush_keeps_to_the_high_watermark(halves: Halves, size: int, moved: int) -> None:
    writer, reader = halves
    reader.setwatermark(EV_READ, 0, 4)
    writer.write(bytes(size))
    assert writer.flush(EV_WRITE, BEV_FLUSH) is True
    assert len(reader.input) == moved
    assert writer.flush(EV_WRITE, BEV_FLUSH) is False
    assert len(writer.output) == size - moved


def test_finished_brings_all_bytes_before_the_end(
    base: EventBase, halves: Halves, log: Log
) -> None:
    """Above the high watermark, too, so that the writer may be closed at once."""
    writer, reader = halves
    log.attach(reader)
    reader.setwatermark(EV_READ, 0, 4)
    reader.enable(EV_READ)
    writer.write(b"0123456789")
    writer.flush(EV_WRITE, BEV_FINISHED)
    writer.close()
    assert base.dispatch() == 1
    assert log.data == b"0123456789"
    assert log.calls == ["read", "event"]
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    reader.close()


@pytest.mark.parametrize("mode", [BEV_NORMAL, BEV_FLUSH, BEV_FINISHED])
def test_a_flush_without_a_partner_is_refused(halves: Halves, mode: int) -> None:
    """Without a partner: -1, which is an exception here."""
    one, other = halves
    other.close()
    with pytest.raises(StateError, match="other half"):
        one.flush(EV_WRITE, mode)


def test_bytes_cross_inside_the_call_that_lets_them(base: EventBase, halves: Halves) -> None:
    """Synchronously on write or enable, when both sides want to; callbacks come later."""
    writer, reader = halves
    writer.setcb(never, None, never)
    reader.setcb(None, never, never)
    writer.write(b"1")
    assert len(reader.input) == 0
    reader.enable(EV_READ)
    assert reader.read() == b"1"
    writer.write(b"2")
    assert reader.read() == b"2"
    writer.disable(EV_WRITE)
    writer.write(b"3")
    assert reader.read() == b""
    writer.enable(EV_WRITE)
    assert reader.read() == b"3"


def test_a_drain_below_the_high_watermark_brings_more_at_once(halves: Halves) -> None:
    writer, reader = halves
    reader.setwatermark(EV_READ, 0, 4)
    reader.enable(EV_READ)
    writer.write(b"0123456789")
    assert [reader.read(2) for _ in range(5)] == [b"01", b"23", b"45", b"67", b"89"]


def test_whole_chunks_cross_without_a_copy(halves: Halves) -> None:
    writer, reader = halves
    reader.enable(EV_READ)
    data = bytes(100_000)
    writer.write(data)
    assert reader.read() is data


def test_all_callbacks_are_deferred(base: EventBase, halves: Halves) -> None:
    """Always deferred callbacks, with each option mix; unknown options are refused."""
    told: list[str] = []
    writer, reader = halves
    writer.setcb(None, lambda *_: told.append("write"), None)
    reader.setcb(lambda *_: told.append("read"), None, lambda *_: told.append("event"))
    reader.enable(EV_READ)
    writer.write(b"x")
    reader.trigger_event(BEV_EVENT_EOF)
    assert told == []
    assert base.dispatch() == 1
    assert sorted(told) == ["event", "read", "write"]
    PairBufferEvent.new(base, BEV_OPT_UNLOCK_CALLBACKS)
    with pytest.raises(ArgumentError, match="0x10"):
        PairBufferEvent.new(base, 0x10)


def test_there_is_no_descriptor_and_no_priority(
    base: EventBase, halves: Halves, pair: tuple[object, object]
) -> None:
    """getfd -1, setfd refused, priority refused, not re-homed."""
    one, _ = halves
    assert one.fd == -1
    assert one.underlying is None
    for refused in (one.setfd, one.replacefd):
        with pytest.raises(StateError, match="PairBufferEvent"):
            refused(pair[0])  # type: ignore[arg-type]
    with pytest.raises(StateError):
        one.priority = 0
    with EventBase() as other, pytest.raises(StateError):
        one.base = other


def test_a_half_with_nothing_to_write_gets_no_write_timeout(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """READ 150 ms and WRITE 100 ms each fire once and not again; a half with nothing to write gets
    no WRITE timeout, disabled READ none; data callbacks are not invoked."""
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []
    one, other = PairBufferEvent.new(fake_base)
    one.write(b"ABCDEFG")
    one.setcb(never, never, lambda _, what, ctx: told.append((clock.monotonic() - start, what)))
    one.set_timeouts(0.15, 0.1)
    one.enable(EV_READ | EV_WRITE)
    other.setcb(never, never, never)
    other.set_timeouts(0.1, 0.2)
    other.enable(EV_WRITE)
    assert fake_base.dispatch() == 1
    assert told == [
        (pytest.approx(0.1), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING),
        (pytest.approx(0.15), BEV_EVENT_TIMEOUT | BEV_EVENT_READING),
    ]


def test_a_buffer_callback_that_always_writes_neither_recurses_nor_starves(
    base: EventBase, halves: Halves
) -> None:
    """What it writes while bytes cross goes in the next pass."""
    writer, reader = halves
    moves: list[int] = []
    ticks: list[int] = []

    def again(buffer: EvBuffer, info: ChangeInfo, arg: object) -> None:
        if info.n_deleted:
            moves.append(info.n_deleted)
            writer.write(b"again")
            if len(moves) == 100:
                base.loopbreak()

    writer.output.add_cb(again)
    reader.enable(EV_READ)
    writer.write(b"first")
    assert moves == [5]
    base.timer(lambda *_: ticks.append(len(moves))).add(0)
    assert base.dispatch() == 0
    assert moves == [5] * 100
    assert ticks
    assert ticks[0] < 100


def test_buffer_callbacks_that_answer_each_other_do_not_recurse(
    base: EventBase, halves: Halves
) -> None:
    received: list[bytes] = []

    def answer(buffer: EvBuffer, info: ChangeInfo, bev: PairBufferEvent) -> None:
        if info.n_added and len(received) < 5000:
            received.append(bev.read())
            bev.write(b"%d" % len(received))

    for bev in halves:
        bev.enable(EV_READ)
        bev.input.add_cb(answer, bev)
    halves[0].write(b"0")
    assert base.dispatch() == 1
    assert received == [b"%d" % number for number in range(5000)]


@pytest.mark.parametrize("which", ["writer", "reader", "both"])
@pytest.mark.parametrize("buffer", ["input", "output"])
def test_a_buffer_callback_may_close_while_bytes_cross(
    base: EventBase, halves: Halves, which: str, buffer: str
) -> None:
    writer, reader = halves
    closing = {"writer": [writer], "reader": [reader], "both": [writer, reader]}[which]

    def close(changed: EvBuffer, info: ChangeInfo, arg: object) -> None:
        if info.n_deleted if buffer == "output" else info.n_added:
            for bev in closing:
                bev.close()

    for bev in closing:
        bev.setcb(never, never, never)
    (reader.input if buffer == "input" else writer.output).add_cb(close)
    reader.enable(EV_READ)
    writer.write(b"x")
    assert base.dispatch() == 1
    assert writer.partner is None
    assert reader.partner is None


def test_what_a_buffer_callback_raises_does_not_keep_the_bytes_from_being_told(
    base: EventBase, halves: Halves, log: Log
) -> None:
    writer, reader = halves
    log.attach(reader).enable(EV_READ)
    entry = writer.output.add_cb(lambda buffer, info, arg: info.n_deleted and boom())
    with pytest.raises(Boom):
        writer.write(b"x")
    writer.output.remove_cb_entry(entry)
    assert base.dispatch() == 1
    assert log.data == b"x"
    reader.disable(EV_READ)
    writer.write(b"y")
    with pytest.raises(StateError):
        writer.output.drain(1)


def test_half_a_pair_is_refused(base: EventBase) -> None:
    with pytest.raises(StateError, match=r"PairBufferEvent\.new"):
        PairBufferEvent(base)


def test_a_pair_is_in_no_rate_limit_group(base: EventBase, halves: Halves) -> None:
    with RateLimitGroup(base, TokenBucketCfg(1, 1, 1, 1)) as group:
        with pytest.raises(StateError, match="memory"):
            halves[0].add_to_rate_limit_group(group)
        assert halves[0].rate_limit_group is None


def test_both_halves_have_one_lock(base: EventBase) -> None:
    """Locks are shared: who holds one half's, holds the other's."""
    one, other = PairBufferEvent.new(base, BEV_OPT_THREADSAFE)
    one.lock()
    taken: list[bool] = []

    def attempt() -> None:
        assert other._lock is not None
        taken.append(other._lock.acquire(blocking=False))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    one.unlock()
    assert taken == [False]


def test_another_thread_may_write_and_only_the_loop_moves_the_bytes(base: EventBase) -> None:
    writer, reader = PairBufferEvent.new(base, BEV_OPT_THREADSAFE)
    received = bytearray()
    threads: list[threading.Thread] = []
    moved_in: set[int] = set()
    reader.input.add_cb(lambda buffer, info, arg: moved_in.add(threading.get_ident()))

    def readable(bev: PairBufferEvent, ctx: object) -> None:
        received.extend(bev.read())
        if len(received) == 3000:
            base.loopbreak()

    def in_thread(function: Callable[[], object]) -> None:
        threads.append(threading.Thread(target=function))
        threads[-1].start()

    reader.setcb(readable, None, never)
    reader.enable(EV_READ)
    for _ in range(3):
        in_thread(lambda: [writer.write(b"x") for _ in range(1000)])
    keep_alive = base.timer(never)
    keep_alive.add(60)
    base.dispatch()
    for thread in threads:
        thread.join()
    assert received == b"x" * 3000
    assert moved_in == {threading.get_ident()}
