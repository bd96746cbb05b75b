"""The system calls that the epoll changelist saves, counted outside of Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.interop

SOURCE = Path(__file__).with_name("epoll_calls.c")

# A hundred passes; in each, an event is taken out and put back ten times, and another is added for
# this pass and deleted again.
PROGRAM = """
import socket
from evsvc.core import *

ours, peer = socket.socketpair()
peer.send(b"x")
config = EventConfig()
config.set_flag(EVENT_BASE_FLAG_IGNORE_ENV | int(input()))
base = EventBase(config)
passes = 0

def flicker(fd, what, arg):
    global passes
    passes += 1
    for _ in range(10):
        reader.delete()
        reader.add()
        writer.add()
        writer.delete()
    if passes == 100:
        reader.delete()

reader = Event(base, ours, EV_READ | EV_PERSIST, flicker)
writer = Event(base, ours, EV_WRITE | EV_PERSIST, flicker)
reader.add()
base.dispatch()
print(base.method, passes)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Path:
    library = tmp_path_factory.mktemp("shim") / "epoll_calls.so"
    command = [program("cc"), "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


def epoll_calls(shim: Path, flag: int) -> tuple[str, dict[str, int]]:
    """Run the program; return what it says, and how often each operation was called."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=str(flag),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_PRELOAD": str(shim)},
    )
    counts = re.findall(r"(\w+)=(\d+)", done.stderr)
    return done.stdout.strip(), {name: int(count) for name, count in counts}


def test_the_changelist_saves_system_calls(shim: Path) -> None:
    """Events that change several times between two waits cost one call, not one a change."""
    said, plain = epoll_calls(shim, 0)
    assert said == "epoll 100"
    said, listed = epoll_calls(shim, 0x10)
    assert said == "epoll (with changelist) 100"
    # The base's wake-up socket and the reader, then four changes ten times in each pass.
    assert sum(plain.values()) >= 2 + 100 * 40
    # The same two, and one check a pass that the descriptor is still the same file.
    assert listed["add"] == 2
    assert sum(listed.values()) <= 2 + 100
