"""No code of the program runs while the lock of a bufferevent is held, so nothing waits for ever.

Loops in several threads relay to each other's bufferevents, from every kind of code that a program
can give one.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from evsvc.core import (
    BEV_NEED_MORE,
    BEV_OK,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_THREADSAFE,
    EV_READ,
    EVLOOP_NO_EXIT_ON_EMPTY,
    AbstractBufferEvent,
    BufferEvent,
    BufferEventFilterResult,
    ChangeInfo,
    EvBuffer,
    EventBase,
    FilterBufferEvent,
    FlushMode,
    PairBufferEvent,
    RateLimitGroup,
    StateError,
    TokenBucketCfg,
    thread,
)

PATIENCE_S = 20.0
ROUNDS = 200


@pytest.fixture(autouse=True)
def locking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread._settings, "locking", True)


@contextmanager
def looping(bases: list[EventBase]) -> Iterator[None]:
    """Run each loop in a thread; what leaves one fails the test."""
    failures: list[BaseException] = []

    def run(base: EventBase) -> None:
        try:
            base.loop(EVLOOP_NO_EXIT_ON_EMPTY)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(base,), daemon=True) for base in bases]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        for base in bases:
            base.loopbreak()
        for each in threads:
            each.join(PATIENCE_S)
        assert not any(each.is_alive() for each in threads)
    assert failures == []


class Ring:
    """Bufferevents, each on a loop of its own; whoever is called gives to the next."""

    def __init__(self, stack: ExitStack, size: int, options: int = BEV_OPT_THREADSAFE) -> None:
        self.bases = [stack.enter_context(EventBase()) for _ in range(size)]
        self.peers: list[socket.socket] = []
        self.bevs: list[AbstractBufferEvent] = []
        self.counts = [0] * size
        self.done = threading.Event()
        self._inside = threading.local()
        for base in self.bases:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            stack.enter_context(theirs)
            self.peers.append(theirs)
            bev = BufferEvent(base, ours, options | BEV_OPT_CLOSE_ON_FREE)
            self.bevs.append(stack.enter_context(bev))

    def relay(self, me: int) -> None:
        """Give something to the next one, whose code may be ours again."""
        self.counts[me] += 1
        if min(self.counts) >= ROUNDS:
            self.done.set()
        if getattr(self._inside, "depth", 0) < 2:
            self._inside.depth = getattr(self._inside, "depth", 0) + 1
            try:
                self.bevs[(me + 1) % len(self.bevs)].write(b"x" * 100)
            finally:
                self._inside.depth -= 1

    def run(self) -> None:
        """Feed all until each was called often enough."""
        for bev in self.bevs:
            bev.enable(EV_READ)
        with looping(self.bases):
            for _ in range(ROUNDS * 50):
                for peer in self.peers:
                    with suppress(BlockingIOError):
                        peer.send(b"go")
                    with suppress(BlockingIOError):
                        peer.recv(1 << 20)
                if self.done.wait(0.001):
                    break
        assert min(self.counts) >= ROUNDS


@pytest.fixture(params=[2, 3])
def ring(request: pytest.FixtureRequest) -> Iterator[Ring]:
    with ExitStack() as stack:
        yield Ring(stack, request.param)


def read_and_relay(ring: Ring) -> Callable[[AbstractBufferEvent, int], None]:
    def readable(bev: AbstractBufferEvent, me: int) -> None:
        bev.read()
        ring.relay(me)

    return readable


def test_read_callbacks_relay(ring: Ring) -> None:
    for me, bev in enumerate(ring.bevs):
        bev.setcb(read_and_relay(ring), None, None, me)
    ring.run()


def test_data_callbacks_relay(ring: Ring) -> None:
    for me, bev in enumerate(ring.bevs):
        assert isinstance(bev, BufferEvent)
        bev.setcb(None, None, None, me)
        bev.set_datacb(lambda bev, data, me: ring.relay(me))
    ring.run()


@pytest.mark.parametrize("which", ["input", "output"])
def test_callbacks_of_the_buffers_relay(ring: Ring, which: str) -> None:
    def changed(buffer: EvBuffer, info: ChangeInfo, me: int) -> None:
        if info.n_added:
            ring.relay(me)

    for me, bev in enumerate(ring.bevs):
        buffer = bev.input if which == "input" else bev.output
        buffer.add_cb(changed, me)
        callback = read_and_relay(ring) if which == "output" else lambda bev, ctx: bev.read()
        bev.setcb(callback, None, None, me)
    ring.run()


@pytest.mark.parametrize("which", ["input", "output"])
def test_filters_relay(ring: Ring, which: str) -> None:
    def relaying(
        source: EvBuffer, target: EvBuffer, limit: int | None, mode: FlushMode, me: int
    ) -> BufferEventFilterResult:
        data = source.remove(-1 if limit is None else limit)
        target.add(data)
        ring.relay(me)
        return BEV_OK if data else BEV_NEED_MORE

    with ExitStack() as stack:
        for me, below in enumerate(ring.bevs):
            functions = (relaying, None) if which == "input" else (None, relaying)
            bev = FilterBufferEvent(below, *functions, BEV_OPT_THREADSAFE, None, me)
            ring.bevs[me] = stack.enter_context(bev)
            callback = read_and_relay(ring) if which == "output" else lambda bev, ctx: bev.read()
            bev.setcb(callback, None, None, me)
        ring.run()


def test_members_of_rate_limit_groups_relay(ring: Ring) -> None:
    with ExitStack() as stack:
        for me, bev in enumerate(ring.bevs):
            cfg = TokenBucketCfg(50_000, 50_000, 50_000, 50_000, 0.002)
            bev.add_to_rate_limit_group(stack.enter_context(RateLimitGroup(bev.base, cfg)))
            bev.setcb(read_and_relay(ring), None, None, me)
        ring.run()


def test_contexts_are_freed_without_the_lock(ring: Ring) -> None:
    """Each loop makes and closes filters, whose last word goes to the next loop's."""

    def free(me: int) -> None:
        ring.relay(me)

    def readable(bev: AbstractBufferEvent, me: int) -> None:
        bev.read()
        one, other = PairBufferEvent.new(bev.base, BEV_OPT_THREADSAFE)
        FilterBufferEvent(one, None, None, BEV_OPT_THREADSAFE, free, me).close()
        one.close()
        other.close()

    for me, bev in enumerate(ring.bevs):
        bev.setcb(readable, None, None, me)
    ring.run()


def test_callbacks_close_each_others_bufferevents() -> None:
    """And make new ones in their place; a write to a closed one is refused, and no more."""
    with ExitStack() as stack:
        bases = [stack.enter_context(EventBase()) for _ in range(2)]
        counts = [0, 0]
        done = threading.Event()
        current: list[tuple[BufferEvent, socket.socket]] = []

        def make(me: int) -> tuple[BufferEvent, socket.socket]:
            ours, theirs = socket.socketpair()
            bev = BufferEvent(bases[me], ours, BEV_OPT_THREADSAFE | BEV_OPT_CLOSE_ON_FREE)
            bev.setcb(readable, None, None, me)
            bev.enable(EV_READ)
            theirs.send(b"go")
            return bev, theirs

        def readable(bev: BufferEvent, me: int) -> None:
            bev.read()
            counts[me] += 1
            if min(counts) >= ROUNDS:
                done.set()
                return
            old, current[1 - me] = current[1 - me], make(1 - me)
            for closed in old:
                closed.close()
            with suppress(StateError):
                current[1 - me][0].write(b"x")

        current.extend(make(me) for me in (0, 1))
        with looping(bases):
            for _ in range(ROUNDS * 50):
                if done.wait(0.001):
                    break
                with suppress(OSError):
                    for _, peer in tuple(current):
                        peer.send(b"go")
        for bev, peer in current:
            bev.close()
            peer.close()
        assert done.is_set()


def test_the_program_may_hold_the_lock_itself(ring: Ring) -> None:
    """Between `lock` and `unlock` its own code runs; what is to be told then comes after."""
    order: list[str] = []
    bev = ring.bevs[0]
    bev.output.add_cb(lambda *_: order.append("told"))
    bev.lock()
    bev.write(b"x")
    order.append("locked")
    bev.unlock()
    assert order == ["locked", "told"]
