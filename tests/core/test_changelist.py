"""epoll told of changes just before the wait: what it is told, and what it is spared."""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.core import (
    EV_ET,
    EV_PERSIST,
    EV_READ,
    EV_WRITE,
    EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST,
    EVENT_BASE_FLAG_IGNORE_ENV,
    EVENT_BASE_FLAG_PRECISE_TIMER,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    Event,
    EventBase,
    EventConfig,
)
from evsvc.core.backends import ChangelistEpollBackend, EpollBackend

SocketPair = tuple[socket.socket, socket.socket]

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll here")


def nothing(*_: object) -> None:
    pass


class Told:
    """The kernel's epoll object, which notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self._epoll = select.epoll()
        self.poll = self._epoll.poll
        self.close = self._epoll.close
        self.fileno = self._epoll.fileno

    def register(self, fd: int, mask: int) -> None:
        self.calls.append(("add", fd))
        self._epoll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        self.calls.append(("modify", fd))
        self._epoll.modify(fd, mask)

    def unregister(self, fd: int) -> None:
        self.calls.append(("delete", fd))
        self._epoll.unregister(fd)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Return what the next base's epoll is told."""
    epoll = Told()
    real = select.epoll
    monkeypatch.setattr(select, "epoll", lambda: epoll if not epoll.calls else real())
    return epoll


@pytest.fixture
def base(told: Told) -> Iterator[EventBase]:
    config = EventConfig()
    config.set_flag(EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST)
    with EventBase(config) as base:
        poll(base)
        told.calls.clear()
        yield base


def poll(base: EventBase) -> None:
    base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY)


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_the_changelist_is_asked_for(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """By flag or environment variable, and then it is in the method's name."""
    config = EventConfig()
    if by == "flag":
        config.set_flag(EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST)
    else:
        monkeypatch.setenv("EVENT_EPOLL_USE_CHANGELIST", "")
    with EventBase(config) as base:
        assert base.method == "epoll (with changelist)"
        base.reinit()
        assert base.method == "epoll (with changelist)"
    if by == "environment":
        config.set_flag(EVENT_BASE_FLAG_IGNORE_ENV)
        with EventBase(config) as base:
            assert base.method == "epoll"


def test_many_changes_between_two_waits_are_one_call(
    base: EventBase, told: Told, pair: SocketPair
) -> None:
    fd = pair[0].fileno()
    reader = Event(base, pair[0], EV_READ | EV_PERSIST, nothing)
    writer = Event(base, pair[0], EV_WRITE | EV_PERSIST, nothing)
    reader.add()
    assert told.calls == [("add", fd)]
    told.calls.clear()
    for _ in range(5):
        writer.add()
        reader.delete()
        reader.add()
    assert told.calls == []
    poll(base)
    assert told.calls == [("modify", fd)]


def test_what_ends_as_it_began_is_not_told(base: EventBase, told: Told, pair: SocketPair) -> None:
    """A delete takes back an add that the kernel has not heard of."""
    reader = Event(base, pair[0], EV_READ | EV_PERSIST, nothing)
    writer = Event(base, pair[0], EV_WRITE | EV_PERSIST, nothing)
    reader.add()
    poll(base)
    told.calls.clear()
    for _ in range(5):
        writer.add()
        writer.delete()
    poll(base)
    assert told.calls == []


def test_an_add_after_a_delete_is_told_for_the_number_may_be_another_file(
    base: EventBase, told: Told, pairs: Callable[[], SocketPair]
) -> None:
    """The kernel forgot the descriptor when it was closed; the same number is watched anew."""
    ours, _peer = pairs()
    other_ours, other_peer = pairs()
    fd = ours.fileno()
    seen: list[int] = []
    event = Event(base, fd, EV_READ | EV_PERSIST, lambda fd, what, arg: seen.append(fd))
    event.add()
    poll(base)
    told.calls.clear()
    event.delete()
    os.dup2(other_ours.fileno(), fd)
    event.add()
    other_peer.send(b"x")
    poll(base)
    assert told.calls == [("modify", fd), ("add", fd)]
    assert seen == [fd]


def test_an_event_deleted_added_and_deleted_in_its_callback_stays_off(
    base: EventBase, told: Told, pair: SocketPair
) -> None:
    """Nothing spins on a descriptor whose event ended up deleted."""
    pair[1].send(b"x")
    calls: list[int] = []

    def flicker(fd: int, what: int, arg: object) -> None:
        calls.append(fd)
        event.delete()
        event.add()
        event.delete()

    event = Event(base, pair[0], EV_READ | EV_PERSIST, flicker)
    event.add()
    assert base.dispatch() == 1
    assert len(calls) == 1
    poll(base)
    assert told.calls[-1] == ("delete", pair[0].fileno())
    assert told._epoll.poll(0) == []


def test_a_late_refusal_is_logged(
    base: EventBase, caplog: pytest.LogCaptureFixture, tmp_path: Path, pair: SocketPair
) -> None:
    """epoll takes no regular file; where it is told only at the wait, nothing can raise."""
    fd = pair[0].fileno()
    event = Event(base, fd, EV_WRITE | EV_PERSIST, lambda *_: pytest.fail("it is not watched"))
    event.add()
    event.delete()
    with (tmp_path / "file").open("wb") as file:
        os.dup2(file.fileno(), fd)
    event.add()
    with caplog.at_level(logging.WARNING, "evsvc.core"):
        poll(base)
    assert f"cannot watch descriptor {fd}: Operation not permitted" in caplog.messages[0]
    event.delete()
    poll(base)
    assert len(caplog.messages) == 1


def test_edge_triggering_goes_through_the_list(base: EventBase, pair: SocketPair) -> None:
    pair[1].send(b"xy")
    calls: list[int] = []
    event = Event(base, pair[0], EV_READ | EV_PERSIST | EV_ET, lambda *args: calls.append(args[1]))
    event.add()
    poll(base)
    poll(base)
    assert calls == [EV_READ | EV_ET]


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_precise_waits_are_asked_for(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    config = EventConfig()
    if by == "flag":
        config.set_flag(EVENT_BASE_FLAG_PRECISE_TIMER)
    else:
        monkeypatch.setenv("EVENT_PRECISE_TIMER", "1")
    with EventBase(config) as base:
        assert isinstance(base.reactor.backend, EpollBackend)
        assert base.reactor.backend._precise
        base.reinit()
        assert base.reactor.backend._precise


@pytest.mark.parametrize("kind", [EpollBackend, ChangelistEpollBackend])
def test_a_precise_wait_is_selects(
    monkeypatch: pytest.MonkeyPatch, pair: SocketPair, kind: type[EpollBackend]
) -> None:
    """epoll would round a wait up to milliseconds; select(2) on its descriptor does not."""
    waits: list[float] = []
    real = select.select

    def note(*args: object) -> object:
        waits.append(args[3])  # type: ignore[arg-type]  # the timeout
        return real(*args)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(select, "select", note)
    backend = kind(precise=True)
    fd = pair[0].fileno()
    backend.add(fd, 0, EV_READ)
    assert backend.dispatch(0) == []
    assert waits == []
    assert backend.dispatch(0.0002) == []
    assert waits == [0.0002]
    pair[1].send(b"x")
    assert [ready for ready, _ in backend.dispatch(0.0002)] == [fd]
    assert [ready for ready, _ in backend.dispatch(None)] == [fd]
    assert len(waits) == 2
    backend.dealloc()
