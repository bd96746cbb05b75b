"""Read from a named pipe and print what comes, until the last writer is gone, or SIGINT comes.

Usage: fifo.py [path]
"""

import os
import signal
import sys

from evsvc import (
    EV_PERSIST,
    EV_READ,
    Event,
    EventBase,
)


def on_readable(fd, what, pipe):
    """Print what is there; no byte is the end of the file."""
    data = pipe.read(65536)
    if data is None:
        return  # woken for nothing
    if data:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        print("end of file", file=sys.stderr)
        base.loopexit()


def on_interrupt(signum, what, arg):
    """Leave the loop, so that the pipe is removed as at the end of the file."""
    print("interrupted", file=sys.stderr)
    base.loopexit()


path = sys.argv[1] if len(sys.argv) > 1 else "event.fifo"
with EventBase() as base:
    base.signal(signal.SIGINT, on_interrupt).add()
    try:
        os.mkfifo(path, 0o600)
    except OSError as error:
        sys.exit(f"fifo.py: {path}: {error.strerror}")
    try:
        # Blocking, it would wait here for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with (
            open(fd, "rb", buffering=0) as pipe,
            Event(base, pipe, EV_READ | EV_PERSIST, on_readable, pipe) as readable,
        ):
            readable.add()
            print(f"write to {path}", file=sys.stderr, flush=True)
            base.dispatch()
    finally:
        os.unlink(path)
