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
from tests.core.bevs import LOOPBACK, Address, greeting_listener
from tests.core.kinds import Ends, EndsMaker, kinds_and_options, pair_ends, socket_ends
from tests.ports import held_port

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


def variants(*, every_backend: bool) -> list[str]:
    """Return what a base can be: on the best backend or on each, and on the best one with locks."""
    methods = supported_methods()
    if not every_backend:
        return [methods[0], LOCKED]
    return [*methods, *([CHANGELIST] if "epoll" in methods else []), LOCKED]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what has a base over its variants: each backend only where the mark says so."""
    if "method" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("every_backend") is not None
        metafunc.parametrize("method", variants(every_backend=marked), indirect=True)


@pytest.fixture
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of each backend in turn; the last time every new base has a lock."""
    if request.param == LOCKED:
        monkeypatch.setattr(thread._settings, "locking", True)
        return supported_methods()[0]
    return str(request.param)


@pytest.fixture
def config(method: str) -> EventConfig:
    """Return a configuration that leaves one backend, in turn."""
    return config_for(method)


@pytest.fixture
def base(method: str) -> Iterator[EventBase]:
    """Return an open base with real time."""
    with EventBase(config_for(method)) as base:
        assert base.method == method
        yield base


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fake_base(method: str, clock: FakeClock) -> Iterator[EventBase]:
    """Return an open base whose time is `clock`'s."""
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


@pytest.fixture
def greeter(base: EventBase) -> Iterator[Address]:
    """Return the address of a server that says `hello` and closes."""
    with greeting_listener(base) as listener:
        yield listener.address


@pytest.fixture
def closed_address() -> Iterator[Address]:
    """Return an address that is bound, and that nobody listens on."""
    with held_port() as port:
        yield LOOPBACK, port


@pytest.fixture(params=kinds_and_options().values(), ids=kinds_and_options().keys())
def kind(request: pytest.FixtureRequest) -> tuple[EndsMaker, int]:
    """Return the maker of each kind of connected bufferevents, and options, in turn."""
    made: tuple[EndsMaker, int] = request.param
    return made


@pytest.fixture
def ends(fake_base: EventBase, kind: tuple[EndsMaker, int]) -> Iterator[Ends]:
    """Return two connected bufferevents of each kind on `fake_base`."""
    make, options = kind
    one, other = make(fake_base, options)
    yield one, other
    one.close()
    other.close()


@pytest.fixture(params=[socket_ends, pair_ends], ids=["socket", "pair"])
def below(request: pytest.FixtureRequest, base: EventBase) -> Iterator[Ends]:
    """Return what filters stand on: two connected bufferevents, not closed by closing them."""
    one, other = request.param(base, 0)
    yield one, other
    one.close()
    other.close()
