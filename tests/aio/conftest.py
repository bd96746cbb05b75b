"""What the tests of aio share: the kinds of loops that coroutines run on, and bases with them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from evsvc.aio import EventLoop
from evsvc.core import EventBase, FakeClock, thread

Start = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["plain", "locked"])
def base(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBase]:
    """Return a base with real time, without locks and with them."""
    monkeypatch.setattr(thread._settings, "locking", request.param == "locked")
    with EventBase() as made:
        yield made


@pytest.fixture
def fake_base(clock: FakeClock) -> Iterator[EventBase]:
    """Return a base whose time is fake."""
    with EventBase(clock=clock) as made:
        yield made


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.interop), "EventLoop"])
def start(request: pytest.FixtureRequest) -> Start:
    """Return `start(coroutine)`, which runs it on each kind of loop in turn."""
    factory: Callable[[], asyncio.AbstractEventLoop]
    if request.param == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
    elif request.param == "EventLoop":
        factory = EventLoop
    else:
        factory = asyncio.SelectorEventLoop

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)

    return run
