"""Programs that others wrote, run while our base loops in the same thread."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import NamedTuple

from evsvc.core import EV_PERSIST, EV_READ, EV_WRITE, Event, EventBase
from evsvc.core.reactor.event import event_self_cbarg

PATIENCE_S = 30.0


class Result(NamedTuple):
    """What a program wrote, and its exit status."""

    body: bytes
    errors: str
    status: int

    @property
    def text(self) -> str:
        return self.body.decode()


def run(
    base: EventBase, *command: str, data: bytes = b"", patience_s: float = PATIENCE_S
) -> Result:
    """Run a command to its end; `data` is its standard input.  One that hangs is killed."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        outputs = [bytearray(), bytearray()]
        pipes = (process.stdout.fileno(), process.stderr.fileno())
        open_pipes = dict(zip(pipes, outputs, strict=True))

        def on_readable(fd: int, what: int, event: Event) -> None:
            piece = os.read(fd, 65536)
            open_pipes[fd] += piece
            if not piece:
                event.close()
                del open_pipes[fd]
                if not open_pipes:
                    base.loopbreak()

        for fd in pipes:
            Event(base, fd, EV_READ | EV_PERSIST, on_readable, event_self_cbarg).add()
        if data:
            feed(base, process.stdin.fileno(), data, process.stdin.close)
        else:
            process.stdin.close()
        with base.timer(lambda fd, what, arg: process.kill()) as patience:
            patience.add(patience_s)
            base.dispatch()
        return Result(bytes(outputs[0]), outputs[1].decode(), process.wait(PATIENCE_S))


def feed(base: EventBase, fd: int, data: bytes, done: Callable[[], object]) -> None:
    """Write all of `data` to a pipe, or as much as its reader wants."""
    unsent = memoryview(data)

    def write(fd: int, what: int, arg: object) -> None:
        nonlocal unsent
        try:
            unsent = unsent[os.write(fd, unsent[:65536]) :]
        except BrokenPipeError:  # it has its answer, and reads no more
            unsent = unsent[:0]
        if unsent:
            base.once(fd, EV_WRITE, write)
        else:
            done()

    base.once(fd, EV_WRITE, write)
