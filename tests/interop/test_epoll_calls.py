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

# A hundred passes.  In each, ten times over, one event is taken out and put back, and another is
# added and deleted again, while a third stays or, with "alone", does not.
PROGRAM = """
import socket
from evsvc.core import *

flag, alone = input().split()
ours, peer = socket.socketpair()
peer.send(b"x")
config = EventConfig()
config.set_flag(EVENT_BASE_FLAG_IGNORE_ENV | int(flag))
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
        stays.delete()

reader = Event(base, ours, EV_READ | EV_PERSIST, flicker)
writer = Event(base, ours, EV_WRITE | EV_PERSIST, flicker)
stays = Event(base, ours, EV_CLOSED | EV_PERSIST, flicker)
reader.add()
if alone == "False":
    stays.add()
base.dispatch()
print(base.method, passes)
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Path:
    library = tmp_path_factory.mktemp("shim") / "epoll_calls.so"
    command = [program("cc"), "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"]
    subprocess.run(command, check=True)
    return library


def epoll_calls(shim: Path, flag: int, *, alone: bool) -> tuple[str, dict[str, int]]:
    """Run the program; return what it says, and how often each operation was called."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=f"{flag} {alone}",
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LD_PRELOAD": str(shim)},
    )
    counts = re.findall(r"(\w+)=(\d+)", done.stderr)
    return done.stdout.strip(), {name: int(count) for name, count in counts}


def test_the_changelist_saves_system_calls(shim: Path) -> None:
    """Events that change several times between two waits cost no call when they end as they began,
    as long as another event keeps the descriptor watched."""
    said, plain = epoll_calls(shim, 0, alone=False)
    assert said == "epoll 100"
    said, listed = epoll_calls(shim, 0x10, alone=False)
    assert said == "epoll (with changelist) 100"
    # Four changes ten times in each pass.
    assert sum(plain.values()) >= 100 * 40
    # The base's wake-up socket and the descriptor are added, and a wider interest and the end told.
    assert listed["add"] == 2
    assert sum(listed.values()) <= 2 + 3


def test_the_last_interest_and_the_next_first_one_are_a_call_each(shim: Path) -> None:
    """Between them the number may have become another file; what comes and goes beside them is
    spared."""
    said, listed = epoll_calls(shim, 0x10, alone=True)
    assert said == "epoll (with changelist) 100"
    assert listed["add"] == 2 + 100 * 10
    assert listed["delete"] == 1 + 100 * 10
    assert sum(listed.values()) == listed["add"] + listed["delete"]
