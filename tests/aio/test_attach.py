"""A base that a running loop of asyncio drives: asyncio's own, uvloop's, and an EventLoop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from evsvc.aio import EventLoop, attach, fetch
from evsvc.core import (
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    BufferEvent,
    Event,
    EventBase,
    FakeClock,
    PrepareWatcher,
    StateError,
    thread,
)
from evsvc.http import HttpClient, HttpServer, ServerRequest
from tests.aio.conftest import Start
from tests.core.conftest import config_for

Loop = asyncio.AbstractEventLoop


def future_of() -> asyncio.Future[Any]:
    """Return a future of the running loop."""
    return asyncio.get_running_loop().create_future()


@pytest.fixture
def patience() -> float:
    """Return a time that nothing here lasts, in seconds."""
    return 30.0


def test_timers_come_in_their_order(start: Start, base: EventBase, patience: float) -> None:
    """The second is nearer than what the loop waits for."""

    async def main() -> list[str]:
        log: list[str] = []
        done = future_of()
        with attach(base):
            base.timer(lambda *_: done.set_result(log.append("late"))).add(0.05)
            base.timer(lambda *_: log.append("never")).add(patience)
            await asyncio.sleep(0)
            base.timer(lambda *_: log.append("early")).add(0.01)
            async with asyncio.timeout(patience):
                await done
        return log

    assert start(main()) == ["early", "late"]


def test_what_was_pending_before_is_driven(start: Start, base: EventBase) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        done = future_of()
        base.timer(lambda *_: log.append("active")).active(EV_TIMEOUT)
        base.timer(lambda *_: done.set_result(None)).add(0.001)
        with attach(base):
            await done
        return log

    assert start(main()) == ["active"]


def test_descriptors_are_watched(start: Start, base: EventBase) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)

        async def main() -> list[bytes]:
            received = []
            with attach(base):
                for text in (b"one", b"two"):
                    ready = future_of()
                    base.once(one, EV_READ, lambda fd, what, arg: arg.set_result(None), ready)
                    other.send(text)
                    await ready
                    received.append(one.recv(10))
            return received

        assert start(main()) == [b"one", b"two"]


def test_a_changed_interest_is_told_to_a_backend_that_waits_with_it(
    start: Start, patience: float
) -> None:
    """The changelist tells the kernel just before a wait."""
    one, other = socket.socketpair()
    with EventBase(config_for("epoll (with changelist)")) as base, one, other:
        one.setblocking(False)

        async def main() -> None:
            ready = future_of()
            with attach(base), Event(base, one, EV_READ, lambda *_: None) as reading:
                reading.add()
                await asyncio.sleep(0.01)
                base.once(one, EV_WRITE, lambda *_: ready.set_result(None))
                async with asyncio.timeout(patience):
                    await ready

        start(main())


def test_what_a_task_writes_is_sent(start: Start, base: EventBase) -> None:
    one, other = socket.socketpair()
    with one, other, BufferEvent(base, one) as bev:
        other.setblocking(False)

        async def main() -> list[bytes]:
            received = []
            with attach(base):
                for text in (b"one", b"two"):
                    bev.write(text)
                    received.append(await asyncio.get_running_loop().sock_recv(other, 10))
            return received

        assert start(main()) == [b"one", b"two"]


def test_posts_from_other_threads_come(start: Start, base: EventBase) -> None:
    async def main() -> str:
        done = future_of()
        with attach(base):
            other = threading.Thread(target=base.post, args=(done.set_result, "posted"))
            other.start()
            result: str = await done
            other.join()
        return result

    assert start(main()) == "posted"


def test_what_another_thread_adds_is_seen(
    start: Start, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(thread._settings, "locking", True)
    with EventBase() as base:

        async def main() -> None:
            done = future_of()
            with attach(base):
                await asyncio.sleep(0.01)
                timer = base.timer(lambda *_: done.set_result(None))
                other = threading.Thread(target=timer.add, args=(0.001,))
                other.start()
                async with asyncio.timeout(patience):
                    await done
                other.join()

        start(main())


def test_signals_of_the_base_come(start: Start, base: EventBase, patience: float) -> None:
    async def main() -> int:
        done = future_of()
        with (
            attach(base),
            base.signal(signal.SIGUSR1, lambda signum, *_: done.set_result(signum)) as caught,
        ):
            caught.add()
            os.kill(os.getpid(), signal.SIGUSR1)
            async with asyncio.timeout(patience):
                result: int = await done
        return result

    assert start(main()) == signal.SIGUSR1


def fail(fd: int, what: int, arg: object) -> None:
    raise LookupError("no such thing")


def test_what_a_callback_raises_goes_to_the_loops_handler(start: Start, base: EventBase) -> None:
    async def main() -> list[Any]:
        told: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
        done = future_of()
        with attach(base):
            base.timer(fail).active(EV_TIMEOUT)
            base.timer(lambda *_: done.set_result(None)).active(EV_TIMEOUT)
            await done
        return told

    assert [type(exc) for exc in start(main())] == [LookupError]


def test_what_a_handler_of_a_protocol_raises_goes_there_too(start: Start, base: EventBase) -> None:
    def on_request(request: ServerRequest, arg: object) -> None:
        raise LookupError("no such thing")

    async def main() -> tuple[int, list[Any]]:
        told: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))
        with attach(base), HttpServer(base) as server, HttpClient(base) as client:
            server.set_gencb(on_request, None)
            url = f"http://127.0.0.1:{server.bind_socket('127.0.0.1', 0).port}/"
            status = (await fetch(client, "GET", url)).status
        return status, told

    status, told = start(main())
    assert status == 500
    assert [type(exc) for exc in told] == [LookupError]
    assert base.exception_handler is None


def test_the_bases_own_exception_handler_comes_first(start: Start, base: EventBase) -> None:
    told: list[Exception] = []
    base.exception_handler = told.append

    async def main() -> None:
        with attach(base):
            base.timer(fail).active(EV_TIMEOUT)
            await asyncio.sleep(0.01)

    start(main())
    assert [type(exc) for exc in told] == [LookupError]


@pytest.mark.parametrize("end", [EventBase.loopexit, EventBase.loopbreak])
def test_the_end_of_the_bases_loop_detaches_it(
    start: Start, base: EventBase, end: Callable[[EventBase], None]
) -> None:
    async def main() -> None:
        attachment = attach(base)
        base.timer(lambda *_: end(base)).active(EV_TIMEOUT)
        await asyncio.sleep(0.01)
        assert not attachment.attached
        attachment.close()

    start(main())
    base.timer(lambda *_: None).add(0)
    assert base.dispatch() == 1


def test_while_it_is_attached_the_bases_loop_is_taken(start: Start, base: EventBase) -> None:
    async def main() -> None:
        with attach(base) as attachment:
            assert attachment.attached
            assert attachment.base is base
            for call in (base.dispatch, base.close, lambda: attach(base)):
                with pytest.raises(StateError, match="running"):
                    call()
        assert not attachment.attached
        assert base.dispatch() == 1

    start(main())


def test_a_callback_may_detach_its_base(start: Start, base: EventBase) -> None:
    async def main() -> None:
        attachment = attach(base)
        base.timer(lambda *_: attachment.detach()).active(EV_TIMEOUT)
        base.timer(lambda *_: attachment.detach()).active(EV_TIMEOUT)
        await asyncio.sleep(0.01)
        assert not attachment.attached

    start(main())
    assert signal.set_wakeup_fd(-1) == -1


def test_a_detached_base_is_left_alone(start: Start, base: EventBase) -> None:
    log: list[str] = []

    async def main() -> None:
        attachment = attach(base)
        base.timer(lambda *_: log.append("called")).add(0.001)
        base.timer(lambda *_: log.append("called")).active(EV_TIMEOUT)
        attachment.detach()
        await asyncio.sleep(0.01)

    start(main())
    assert log == []
    base.dispatch()
    assert log == ["called", "called"]


def test_a_loop_that_was_closed_lets_its_base_go(base: EventBase) -> None:
    loop = asyncio.SelectorEventLoop()
    attachment = attach(base, loop)
    loop.close()
    attachment.close()
    assert base.dispatch() == 1


@pytest.mark.parametrize("method", ["poll", "select"])
def test_a_backend_without_a_descriptor_is_refused(method: str) -> None:
    async def main(base: EventBase) -> None:
        with pytest.raises(ValueError, match=method):
            attach(base)

    with EventBase(config_for(method)) as base:
        asyncio.run(main(base))
        assert base.dispatch() == 1


def test_a_loop_that_watches_no_descriptors_gets_no_base(base: EventBase) -> None:
    class Proactor(asyncio.SelectorEventLoop):
        def add_reader(self, *args: Any) -> None:
            raise NotImplementedError

    loop = Proactor()
    with pytest.raises(NotImplementedError):
        attach(base, loop)
    loop.close()
    assert base.dispatch() == 1


def test_what_cannot_be_attached_is_refused(base: EventBase) -> None:
    with pytest.raises(TypeError, match="7"):
        attach(7)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(RuntimeError, match="no running event loop"):
        attach(base)

    async def main() -> None:
        with pytest.raises(StateError, match="running"):
            attach(base)

    loop = EventLoop(base)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_two_bases_with_one_clock_share_its_time(fake_base: EventBase, clock: FakeClock) -> None:
    """One is what the loop waits in, the other is attached to it."""
    with EventBase(clock=clock) as other:

        async def main() -> float:
            done = future_of()
            with attach(other):
                other.timer(lambda *_: done.set_result(None)).add(3600)
                await done
            return clock.monotonic()

        loop = EventLoop(fake_base)
        try:
            assert loop.run_until_complete(main()) == pytest.approx(4600)
        finally:
            loop.close()


def test_what_is_asked_at_once_is_one_pass(base: EventBase) -> None:
    async def main() -> int:
        passes = 0

        def count(watcher: object, info: object, arg: object) -> None:
            nonlocal passes
            passes += 1

        with attach(base):
            await asyncio.sleep(0.01)
            watcher = PrepareWatcher(base, count)
            for _ in range(100):
                base.timer(lambda *_: None).active(EV_TIMEOUT)
            await asyncio.sleep(0.01)
            watcher.close()
        return passes

    assert asyncio.run(main()) <= 2
