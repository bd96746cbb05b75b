"""Changed files of loaded modules are noticed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from evsvc import EVLOOP_NONBLOCK, EventBase
from evsvc.core import ArgumentError, ArgumentTypeError, FakeClock
from evsvc.workers import ModuleWatch


@pytest.fixture
def load(tmp_path: Path, monkeypatch) -> Callable[[str], Path]:
    """Return `load(name)`: a module of that name, as if it had been imported from a file."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text("")
        module = ModuleType(name)
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, name, module)
        return path

    return make


@pytest.fixture
def passed(base: EventBase, clock: FakeClock) -> Callable[[float], None]:
    def pass_time(seconds: float) -> None:
        clock.advance(seconds)
        base.loop(EVLOOP_NONBLOCK)

    return pass_time


def test_a_change_is_told_once_and_the_next_one_again(base, load, passed, caplog) -> None:
    path = load("watched_one")
    changes: list[int] = []
    with ModuleWatch(base, lambda: changes.append(1), look_s=2):
        passed(2)
        assert changes == []
        path.write_text("x = 1")
        passed(1.9)
        assert changes == []
        passed(0.1)
        passed(2)
        assert changes == [1]
        os.utime(path, ns=(1, 1))
        passed(2)
        assert changes == [1, 1]


def test_modules_that_come_later_are_watched_and_files_may_go_and_come(base, load, passed) -> None:
    changes: list[int] = []
    with ModuleWatch(base, lambda: changes.append(1)):
        path = load("watched_later")
        passed(1)
        assert changes == []
        path.unlink()
        passed(1)
        path.write_text("back")
        passed(1)
        assert changes == [1, 1]


def test_closed_it_tells_nothing(base, load, passed) -> None:
    path = load("watched_no_more")
    watch = ModuleWatch(base, lambda: pytest.fail("told"))
    watch.close()
    watch.close()
    path.write_text("x = 1")
    passed(1)


def test_it_wants_a_callback_and_a_time(base) -> None:
    with pytest.raises(ArgumentTypeError):
        ModuleWatch(base, None)
    with pytest.raises(ArgumentError):
        ModuleWatch(base, print, look_s=-1)
