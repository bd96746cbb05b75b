"""The cost of one event, and of one timer, in a Python loop: event_loop.c for evsvc and peers.

Usage: event_loop.py LOOP PIPES ACTIVE EVENTS    prints what one add costs, and one event
       event_loop.py LOOP timers COUNT           prints what it costs to add, delete, and fire one

LOOP is evsvc, asyncio or uvloop.  Costs are microseconds of CPU time, user and kernel.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from time import process_time
from typing import Any

from evsvc import (
    EV_PERSIST,
    EV_READ,
    Event,
    EventBase,
)


class Pipes:
    """The pipes, and the callback that passes a byte on until enough events have happened."""

    def __init__(self, count: int, active: int, wanted: int) -> None:
        self.ends = [os.pipe() for _ in range(count)]
        for reader, _ in self.ends:
            os.set_blocking(reader, False)
        self.active = active
        self.wanted = wanted
        self.fired = 0

    def start(self) -> None:
        step = len(self.ends) // self.active
        for index in range(self.active):
            os.write(self.ends[index * step % len(self.ends)][1], b"e")

    def make_callback(self, stop: Callable[[], object]) -> Callable[[int, int], None]:
        """Return `cb(fd, index)`; the same work whichever loop calls it."""
        read, write, ends, count = os.read, os.write, self.ends, len(self.ends)

        def pass_on(fd: int, index: int) -> None:
            read(fd, 1)
            self.fired += 1
            if self.fired + self.active <= self.wanted:
                write(ends[(index + 1) % count][1], b"e")
            elif self.fired >= self.wanted:
                stop()

        return pass_on


def measure_evsvc(pipes: Pipes) -> tuple[float, float]:
    base = EventBase()
    read, write, ends, count = os.read, os.write, pipes.ends, len(pipes.ends)

    def pass_on(fd: int, what: int, index: int) -> None:
        read(fd, 1)
        pipes.fired += 1
        if pipes.fired + pipes.active <= pipes.wanted:
            write(ends[(index + 1) % count][1], b"e")
        elif pipes.fired >= pipes.wanted:
            base.loopbreak()

    start = process_time()
    events = [
        Event(base, reader, EV_READ | EV_PERSIST, pass_on, index)
        for index, (reader, _) in enumerate(ends)
    ]
    for event in events:
        event.add()
    added = process_time()
    pipes.start()
    run = process_time()
    base.dispatch()
    return added - start, process_time() - run


def measure_asyncio(pipes: Pipes, loop: asyncio.AbstractEventLoop) -> tuple[float, float]:
    pass_on = pipes.make_callback(loop.stop)
    start = process_time()
    for index, (reader, _) in enumerate(pipes.ends):
        loop.add_reader(reader, pass_on, reader, index)
    added = process_time()
    pipes.start()
    run = process_time()
    loop.run_forever()
    return added - start, process_time() - run


def time_evsvc_timers(count: int) -> tuple[float, float, float]:
    base = EventBase()

    def nothing(fd: int, what: int, arg: object) -> None:
        pass

    start = process_time()
    timers = [base.timer(nothing) for _ in range(count)]
    for number, timer in enumerate(timers):
        timer.add(1000 + number % 7)
    added = process_time()
    for timer in timers:
        timer.delete()
    deleted = process_time()
    for _ in range(count):
        base.timer(nothing).add(0)
    base.dispatch()
    return added - start, deleted - added, process_time() - deleted


def time_asyncio_timers(count: int, loop: asyncio.AbstractEventLoop) -> tuple[float, float, float]:
    def nothing() -> None:
        pass

    start = process_time()
    handles = [loop.call_later(1000 + number % 7, nothing) for number in range(count)]
    added = process_time()
    for handle in handles:
        handle.cancel()
    deleted = process_time()
    for _ in range(count):
        loop.call_later(0, nothing)
    loop.call_later(0.0, loop.stop)
    loop.run_forever()
    return added - start, deleted - added, process_time() - deleted


def make_loop(name: str) -> asyncio.AbstractEventLoop:
    """Return a new loop of asyncio's own kind, or uvloop's."""
    if name == "uvloop":
        import uvloop  # type: ignore[import-not-found,unused-ignore]  # a peer, not always there

        loop: Any = uvloop.new_event_loop()
        return loop  # type: ignore[no-any-return]
    return asyncio.new_event_loop()


def main() -> None:
    """Run one measurement and print its figures on one line."""
    name = sys.argv[1]
    if sys.argv[2] == "timers":
        count = int(sys.argv[3])
        if name == "evsvc":
            figures: tuple[float, ...] = time_evsvc_timers(count)
        else:
            figures = time_asyncio_timers(count, make_loop(name))
        print(*(f"{figure / count * 1e6:.4f}" for figure in figures))
        return
    pipes = Pipes(*(int(number) for number in sys.argv[2:5]))
    if name == "evsvc":
        adding, running = measure_evsvc(pipes)
    else:
        adding, running = measure_asyncio(pipes, make_loop(name))
    print(f"{adding / len(pipes.ends) * 1e6:.4f} {running / pipes.fired * 1e6:.4f}")


if __name__ == "__main__":
    main()
