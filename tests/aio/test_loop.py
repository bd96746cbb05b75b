"""asyncio on a base: one clock, one wait, signals, errors, and ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc.aio import EventLoop, run
from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    BufferEvent,
    Event,
    EventBase,
    FakeClock,
    StateError,
    debug,
    thread,
)
from tests.core.children import in_child
from tests.core.conftest import config_for, variants


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["plain", "locked"])
def base(
    clock: FakeClock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EventBase]:
    """Return a base whose time is fake, without locks and with them."""
    monkeypatch.setattr(thread._settings, "locking", request.param == "locked")
    with EventBase(clock=clock) as made:
        yield made


async def pause() -> None:
    """Let the loop run until nothing is ready."""
    await asyncio.sleep(0.01)


def test_the_bases_clock_is_the_loops(base: EventBase) -> None:
    fired: list[float] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - begin

    timer = base.timer(lambda fd, what, arg: fired.append(base.now))
    timer.add(5)
    assert round(run(main(), base=base)) == 3600
    assert fired == [1005.0]


@pytest.mark.parametrize("method", variants(every_backend=True)[:-1])
def test_asyncio_waits_in_every_backend(method: str) -> None:
    async def main() -> bytes:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        received = await reader.read()
        writer.close()
        server.close()
        return received

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())
        writer.close()

    with EventBase(config_for(method)) as base:
        assert run(main(), base=base) == b"1000000"


def test_a_callback_of_the_base_wakes_a_task(base: EventBase) -> None:
    async def main() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        base.timer(lambda fd, what, arg: future.set_result("from the base")).add(1)
        return await future

    assert run(main(), base=base) == "from the base"


def test_what_a_task_writes_into_a_bufferevent_is_sent(base: EventBase) -> None:
    one, other = socket.socketpair()
    with other, one, BufferEvent(base, one) as bev:
        other.setblocking(False)

        async def main() -> bytes:
            bev.write(b"hello")
            return await asyncio.get_running_loop().sock_recv(other, 100)

        assert run(main(), base=base) == b"hello"


def test_tasks_get_their_turn_beside_work_of_the_base_that_never_ends() -> None:
    """A timer that is always due, a descriptor that nobody reads, and one that asyncio is slow to
    read: each pass is a single one."""
    ours, theirs = socket.socketpair()
    log: list[str] = []
    with EventBase() as base, ours, theirs:
        base.priority_init(3)
        theirs.send(b"x")
        unread = Event(base, ours, EV_READ | EV_PERSIST, lambda *_: log.append("unread"))
        unread.priority = 0
        unread.add()
        patient = base.timer(lambda *_: log.append("patient"))
        patient.priority = 2
        patient.active(EV_TIMEOUT)

        async def main() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        run(main(), base=base)
        assert "unread" in log
        assert "patient" not in log
        unread.close()


def test_calls_from_other_threads_come_through_both_doors(base: EventBase) -> None:
    async def main() -> list[str]:
        log: list[str] = []
        loop = asyncio.get_running_loop()
        both = asyncio.Event()

        def note(text: str) -> None:
            log.append(text)
            if len(log) == 2:
                both.set()

        def call() -> None:
            base.post(note, "posted")
            loop.call_soon_threadsafe(note, "called")

        thread = threading.Thread(target=call)
        thread.start()
        await both.wait()
        thread.join()
        return sorted(log)

    assert run(main(), base=base) == ["called", "posted"]


def test_a_signal_comes_through_the_base() -> None:
    before = signal.getsignal(signal.SIGUSR1)

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        got: list[int] = []
        done = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, got.append, 1)
        loop.add_signal_handler(signal.SIGUSR1, lambda number: (got.append(number), done.set()), 2)
        os.kill(os.getpid(), signal.SIGUSR1)
        await done.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1)
        assert not loop.remove_signal_handler(signal.SIGUSR1)
        return got

    assert run(main()) == [2]
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_closed_loop_has_given_its_signals_back() -> None:
    loop = EventLoop()
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_signal_handler(signal.SIGUSR2, print)


def test_a_signal_of_the_base_reaches_its_callback_while_asyncio_runs() -> None:
    async def main() -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with base.signal(signal.SIGUSR1, lambda signum, what, arg: future.set_result(signum)) as ev:
            ev.add()
            os.kill(os.getpid(), signal.SIGUSR1)
            return await future

    with EventBase() as base:
        assert run(main(), base=base) == signal.SIGUSR1


def test_signals_that_cannot_be_caught_are_refused_as_asyncio_does() -> None:
    loop = EventLoop()
    try:
        with pytest.raises(RuntimeError, match="cannot be caught"):
            loop.add_signal_handler(signal.SIGKILL, print)
        with pytest.raises(ValueError, match="1000"):
            loop.add_signal_handler(1000, print)
        with pytest.raises(TypeError, match="SIGUSR1"):
            loop.add_signal_handler("SIGUSR1", print)  # type: ignore[arg-type]  # that is the test
        with pytest.raises(TypeError, match="coroutines"):
            loop.add_signal_handler(signal.SIGUSR1, asyncio.sleep)
    finally:
        loop.close()


def test_an_interrupt_cancels_the_main_task_and_leaves() -> None:
    log: list[str] = []

    async def main() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert log == ["cancelled"]


def test_an_interrupt_of_the_bare_loop_leaves_one_that_goes_on() -> None:
    loop = EventLoop()
    try:
        loop.base.timer(lambda *_: signal.raise_signal(signal.SIGINT)).add(0)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.run_until_complete(pause())
    finally:
        loop.close()
    assert signal.set_wakeup_fd(-1) == -1


def fail(fd: int, what: int, arg: object) -> None:
    raise LookupError("no such thing")


def test_what_a_callback_of_the_base_raises_goes_to_the_loops_handler(base: EventBase) -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        base.timer(fail).add(1)
        await asyncio.sleep(2)

    run(main(), base=base)
    assert base.exception_handler is None
    assert isinstance(told[0]["exception"], LookupError)


def test_without_a_handler_it_is_logged_as_asyncio_does(
    base: EventBase, caplog: pytest.LogCaptureFixture
) -> None:
    base.timer(fail).add(1)
    with caplog.at_level(logging.ERROR, "asyncio"):
        run(asyncio.sleep(2), base=base)
    assert "no such thing" in caplog.text
    assert "Exception in a callback of the event base" in caplog.text


def test_the_bases_own_exception_handler_comes_first(base: EventBase) -> None:
    told: list[Exception] = []
    base.exception_handler = told.append
    base.timer(fail).add(1)
    run(asyncio.sleep(2), base=base)
    assert isinstance(told[0], LookupError)
    assert base.exception_handler == told.append


def test_a_program_that_takes_the_handler_away_has_the_exception_leave(base: EventBase) -> None:
    async def main() -> None:
        base.exception_handler = None
        base.timer(fail).add(1)
        await asyncio.sleep(2)

    with pytest.raises(LookupError):
        run(main(), base=base)


def test_a_system_exit_leaves_the_loop(base: EventBase) -> None:
    def leave(fd: int, what: int, arg: object) -> None:
        raise SystemExit(7)

    base.timer(leave).add(1)
    with pytest.raises(SystemExit, match="7"):
        run(asyncio.sleep(2), base=base)


@pytest.mark.parametrize("end", [EventBase.loopexit, EventBase.loopbreak])
def test_the_end_of_the_bases_loop_stops_asyncios(
    base: EventBase, end: Callable[[EventBase], None]
) -> None:
    loop = EventLoop(base)
    try:
        base.timer(lambda *_: end(base)).add(1)
        loop.run_forever()
        assert base.now == 1001
        base.timer(lambda *_: end(base)).add(1)
        with pytest.raises(RuntimeError, match="stopped before"):
            loop.run_until_complete(loop.create_future())
    finally:
        loop.close()


def test_loopexit_from_a_task_stops_the_loop(base: EventBase) -> None:
    loop = EventLoop(base)
    try:
        loop.call_later(1, base.loopexit)
        loop.call_later(5, loop.stop)
        loop.run_forever()
        assert base.now == 1001
    finally:
        loop.close()


def test_the_bases_loop_is_running_while_asyncio_runs(base: EventBase) -> None:
    async def main() -> None:
        with pytest.raises(StateError, match="running already"):
            base.dispatch()
        other = EventLoop(base)
        with pytest.raises(StateError, match="running already"):
            other.run_forever()
        other.close()

    run(main(), base=base)
    assert base.dispatch() == 1


def test_a_loop_does_not_run_inside_of_its_base(base: EventBase) -> None:
    def nested(fd: int, what: int, arg: object) -> None:
        with pytest.raises(StateError, match="running already"):
            loop.run_forever()
        base.loopexit()

    loop = EventLoop(base)
    try:
        base.timer(nested).add(1)
        assert base.dispatch() == 0
    finally:
        loop.close()


def test_a_base_that_was_handed_in_stays_open(base: EventBase) -> None:
    EventLoop(base).close()
    base.timer(lambda fd, what, arg: None).add(1)
    assert base.dispatch() == 1
    assert EventLoop not in {type(thing) for thing in gc.get_referrers(base)}


def test_a_loop_closes_the_base_that_it_has_made() -> None:
    loop = EventLoop()
    base = loop.base
    loop.run_until_complete(pause())
    loop.close()
    loop.close()
    with pytest.raises(StateError, match="closed"):
        base.dispatch()


def test_a_base_that_is_closed_under_the_loop_ends_it() -> None:
    with EventBase() as base:
        loop = EventLoop(base)
    with pytest.raises(StateError, match="closed"):
        loop.run_forever()
    loop.close()


def test_what_is_no_open_base_is_refused() -> None:
    with pytest.raises(TypeError, match="7"):
        EventLoop(7)  # type: ignore[arg-type]  # that is the test
    with EventBase() as base:
        pass
    with pytest.raises(StateError, match="closed"):
        EventLoop(base)


def test_asyncios_debug_mode_and_the_bases_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "_mode", debug._Mode())
    debug.enable_debug_mode()

    async def main() -> bool:
        await pause()
        return asyncio.get_running_loop().get_debug()

    assert run(main(), debug=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_leaves_the_loop_and_takes_nothing_from_its_parent() -> None:
    def leave() -> None:
        assert asyncio.events._get_running_loop() is None

    async def main() -> tuple[int, bytes]:
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            code = in_child(leave)
            other.send(b"x")
            return code, await asyncio.get_running_loop().sock_recv(one, 1)

    assert run(main()) == (0, b"x")


def test_a_refused_descriptor_leaves_nothing_behind(base: EventBase, tmp_path: Path) -> None:
    """epoll takes no regular file: in either direction, and again."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with open(tmp_path / "file", "wb") as file:
            for add in (loop.add_reader, loop.add_writer, loop.add_reader):
                with pytest.raises(OSError, match="not permitted"):
                    add(file, print)
            assert not loop.remove_reader(file)
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.send(b"x")
            assert await loop.sock_recv(one, 1) == b"x"

    run(main(), base=base)
