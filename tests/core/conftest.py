"""What core's tests share: a base per backend, a fake clock, socket pairs that are closed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST,
    EventBase,
    EventConfig,
    FakeClock,
    supported_methods,
    thread,
)

SocketPair = tuple[socket.socket, socket.socket]

CHANGELIST = "epoll (with changelist)"
LOCKED = "locked"


def config_for(method: str) -> EventConfig:
    """Return a configuration that leaves one backend."""
    config = EventConfig()
    for other in supported_methods():
        if not method.startswith(other):
            config.avoid_method(other)
    if method == CHANGELIST:
        config.set_flag(EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST)
    return config


def variants() -> list[str]:
    """Return what a base can be: on each backend, and on the best one with locks."""
    changelist = [CHANGELIST] if "epoll" in supported_methods() else []
    return [*supported_methods(), *changelist, LOCKED]


@pytest.fixture(params=variants())
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of each backend in turn; the last time every new base has a lock."""
    if request.param == LOCKED:
        monkeypatch.setattr(thread._settings, "locking", True)
        return supported_methods()[0]
    return str(request.param)


@pytest.fixture
def config(method: str) -> EventConfig:
    """Return a configuration that leaves each backend in turn."""
    return config_for(method)


@pytest.fixture
def base(method: str) -> Iterator[EventBase]:
    """Return an open base with real time, over each backend."""
    with EventBase(config_for(method)) as base:
        assert base.method == method
        yield base


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fake_base(method: str, clock: FakeClock) -> Iterator[EventBase]:
    """Return an open base whose time is `clock`'s, over each backend."""
    with EventBase(config_for(method), clock=clock) as base:
        yield base


@pytest.fixture
def pairs() -> Iterator[Callable[[], SocketPair]]:
    """Return a maker of connected non-blocking socket pairs, closed after the test."""
    made: list[socket.socket] = []

    def make() -> SocketPair:
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
        made.extend(pair)
        return pair

    yield make
    for sock in made:
        sock.close()


@pytest.fixture
def pair(pairs: Callable[[], SocketPair]) -> SocketPair:
    """Return one connected non-blocking socket pair."""
    return pairs()
