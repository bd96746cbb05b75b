"""BEV_OPT_THREADSAFE: whoever calls, the loop and the call never work at the same time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BEV_OPT_THREADSAFE,
    BEV_OPT_UNLOCK_CALLBACKS,
    EV_READ,
    EV_WRITE,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_ONCE,
    BufferEvent,
    EventBase,
    PairBufferEvent,
    StateError,
    thread,
)
from tests.core.bevs import Pair

PATIENCE_S = 20.0


@pytest.fixture
def locked_base(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBase]:
    monkeypatch.setattr(thread._settings, "locking", True)
    with EventBase() as base:
        yield base


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let threads take turns so often that they meet everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@contextmanager
def looping(base: EventBase, failures: list[BaseException]) -> Iterator[None]:
    """Run the loop in a thread; what leaves it is a failure."""

    def run() -> None:
        try:
            base.loop(EVLOOP_NO_EXIT_ON_EMPTY)
        except BaseException as failure:
            failures.append(failure)

    loop = threading.Thread(target=run)
    loop.start()
    try:
        yield
    finally:
        base.loopbreak()
        loop.join(PATIENCE_S)
        assert not loop.is_alive()


@pytest.mark.parametrize(
    "options", [0, BEV_OPT_DEFER_CALLBACKS, BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS]
)
@pytest.mark.parametrize("way", ["close", "setcb", "disable", "set_timeouts", "write"])
def test_a_call_from_another_thread_does_not_wait_for_a_callback(
    locked_base: EventBase, pair: Pair, way: str, options: int
) -> None:
    """A callback that waits for the other thread would else wait for ever."""
    bev = BufferEvent(locked_base, pair[0], BEV_OPT_THREADSAFE | BEV_OPT_CLOSE_ON_FREE | options)
    begun, called = threading.Event(), threading.Event()
    calls: dict[str, Callable[[], object]] = {
        "close": bev.close,
        "setcb": lambda: bev.setcb(None, None, None),
        "disable": lambda: bev.disable(EV_READ | EV_WRITE),
        "set_timeouts": lambda: bev.set_timeouts(5, 5),
        "write": lambda: bev.write(b"x"),
    }

    def on_read(bev: BufferEvent, ctx: object) -> None:
        begun.set()
        assert called.wait(PATIENCE_S)

    def call() -> None:
        begun.wait(PATIENCE_S)
        calls[way]()
        called.set()

    bev.setcb(on_read, None, None)
    bev.enable(EV_READ)
    pair[1].send(b"x")
    other = threading.Thread(target=call)
    other.start()
    locked_base.loop(EVLOOP_ONCE)
    other.join(PATIENCE_S)
    bev.close()
    assert called.is_set()


def test_calls_of_a_thread_never_upset_the_loop(
    locked_base: EventBase, eager_switching: None
) -> None:
    """Time-outs, watermarks and closing from another thread, while bytes move both ways."""
    failures: list[BaseException] = []

    def on_read(bev: PairBufferEvent, ctx: object) -> None:
        with suppress(StateError):  # closed since this callback began
            bev.write(bev.read()[:1])

    with looping(locked_base, failures):
        for turn in range(40):
            one, other = PairBufferEvent.new(locked_base, BEV_OPT_THREADSAFE)
            for bev in (one, other):
                bev.setcb(on_read, None, None)
                bev.enable(EV_READ)
            one.write(b"x" * 100)
            for _ in range(10):
                one.write(b"x")
                one.set_timeouts(5, 5)
                other.setwatermark(EV_READ, 0, turn % 3)
            one.close()
            other.close()
    assert failures == []
