"""The backends by themselves: the same contract over all of them, and two over a fake kernel."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import Any, NamedTuple

import pytest

from evsvc.core import EV_FEATURE_EARLY_CLOSE, supported_methods
from evsvc.core.backends import (
    BACKENDS,
    Backend,
    DevPollBackend,
    EpollBackend,
    KqueueBackend,
    PollBackend,
    SelectBackend,
)
from evsvc.core.backends.protocol import (
    ALL,
    BOTH,
    MAX_READY,
    interests_of,
)
from evsvc.core.flags import (
    CLOSED,
    ET,
    READ,
    WRITE,
)

Pair = tuple[socket.socket, socket.socket]


def wait(backend: Backend, timeout: float | None) -> list[tuple[int, int]]:
    """Return what is ready, in our words."""
    return [(fd, backend.meanings[mask]) for fd, mask in backend.dispatch(timeout)]


@pytest.fixture(params=BACKENDS, ids=supported_methods())
def backend(request: pytest.FixtureRequest) -> Any:
    made: Backend = request.param()
    yield made
    made.dealloc()


def test_the_platforms_backends_are_listed_best_first() -> None:
    known = ["epoll", "kqueue", "devpoll", "poll", "select"]
    assert supported_methods() == [name for name in known if hasattr(select, name)]


def test_interest_widens_and_narrows(backend: Backend, pair: Pair) -> None:
    fd = pair[0].fileno()
    pair[1].send(b"x")
    backend.add(fd, 0, READ)
    assert wait(backend, 0) == [(fd, READ)]
    backend.add(fd, READ, WRITE)
    assert wait(backend, 0) == [(fd, BOTH)]
    backend.delete(fd, BOTH, READ)
    assert wait(backend, 0) == [(fd, WRITE)]
    backend.delete(fd, WRITE, WRITE)
    assert wait(backend, 0) == []


def test_a_wait_ends_with_its_timeout(backend: Backend, pair: Pair) -> None:
    backend.add(pair[0].fileno(), 0, READ)
    assert wait(backend, 0.001) == []


def test_a_bad_descriptor_is_refused(backend: Backend) -> None:
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    os.close(read_fd)
    with pytest.raises(OSError, match="Bad file"):
        backend.add(read_fd, 0, READ)
    assert wait(backend, 0) == []


def test_a_descriptor_closed_under_us_wakes_or_is_forgotten(backend: Backend) -> None:
    ours, peer = socket.socketpair()
    fd = ours.fileno()
    backend.add(fd, 0, READ)
    ours.close()
    peer.close()
    ready = wait(backend, 0)
    assert all(ready_fd == fd and what & READ for ready_fd, what in ready)
    assert bool(ready) == (backend.name != "epoll")
    backend.delete(fd, READ, READ)
    assert wait(backend, 0) == []


def test_what_was_never_watched_is_deleted_in_silence(backend: Backend, pair: Pair) -> None:
    backend.delete(pair[0].fileno(), BOTH, BOTH)
    backend.add(pair[0].fileno(), 0, WRITE)
    assert wait(backend, 0) == [(pair[0].fileno(), WRITE)]


def test_a_renewed_one_watches_nothing_and_works(backend: Backend, pair: Pair) -> None:
    fd = pair[0].fileno()
    backend.add(fd, 0, WRITE)
    backend.renew()
    assert wait(backend, 0) == []
    backend.add(fd, 0, WRITE)
    assert wait(backend, 0) == [(fd, WRITE)]


def test_no_wait_ends_before_its_time(backend: Backend) -> None:
    """Whatever unit the kernel counts in: a loop would ask again and again until a timer is due."""
    for timeout in (0.0001, 0.0006, 0.0011):
        began = time.monotonic()
        assert wait(backend, timeout) == []
        assert time.monotonic() - began >= timeout


def test_early_close_is_told_apart_from_data(backend: Backend, pair: Pair) -> None:
    if not backend.features & EV_FEATURE_EARLY_CLOSE:
        assert not interests_of(backend.features) & CLOSED
        return
    fd = pair[0].fileno()
    backend.add(fd, 0, CLOSED)
    pair[1].send(b"x")
    assert wait(backend, 0) == []
    pair[1].shutdown(socket.SHUT_WR)
    assert wait(backend, 0) == [(fd, CLOSED)]


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll here")
def test_epoll_reports_every_mask() -> None:
    table = EpollBackend.meanings
    assert len(table) == 32
    assert table[select.EPOLLIN | select.EPOLLOUT] == BOTH
    assert table[select.EPOLLIN | select.EPOLLRDHUP] == READ | CLOSED
    assert table[select.EPOLLHUP] == table[select.EPOLLERR | select.EPOLLIN] == ALL


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll here")
def test_epoll_mends_a_modify_of_what_the_kernel_forgot(pair: Pair) -> None:
    backend = EpollBackend()
    fd = pair[0].fileno()
    backend.add(fd, READ, WRITE)  # the kernel has no such registration
    assert wait(backend, 0) == [(fd, WRITE)]
    backend.add(fd, 0, WRITE)  # and now has one that we forgot
    assert wait(backend, 0) == [(fd, WRITE)]
    backend.dealloc()


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll here")
def test_epoll_says_of_a_number_that_was_closed_what_poll_says(pair: Pair) -> None:
    """Its file is open elsewhere and ready, and epoll does not know that it is closed."""
    backend = EpollBackend()
    holder = pair[0].dup()
    fd = pair[0].fileno()
    backend.add(fd, 0, BOTH)
    os.close(pair[0].detach())
    assert wait(backend, 0) == [(fd, WRITE)]
    backend.delete(fd, BOTH, READ)  # which the kernel does not take any more
    assert wait(backend, 0) == [(fd, ALL)]
    holder.close()
    assert wait(backend, 0) == []
    backend.dealloc()


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll here")
def test_epoll_is_renewed_where_all_descriptors_were_closed() -> None:
    """As a child does that becomes a daemon."""
    backend = EpollBackend()
    os.close(backend._epoll.fileno())
    backend.renew()
    assert wait(backend, 0) == []
    backend.dealloc()


def test_poll_without_rdhup_never_reports_closed(pair: Pair) -> None:
    class OldPoll:
        POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 4, 8, 16, 32
        poll = staticmethod(select.poll)

    backend = PollBackend(OldPoll)
    fd = pair[0].fileno()
    backend.add(fd, 0, READ)
    pair[1].shutdown(socket.SHUT_WR)
    assert wait(backend, 0) == [(fd, READ)]


def test_select_takes_no_descriptor_past_its_set() -> None:
    backend = SelectBackend()
    with pytest.raises(ValueError, match="out of range"):
        backend.add(1 << 20, 0, READ)
    assert wait(backend, 0) == []


class Kevent(NamedTuple):
    ident: int
    filter: int
    flags: int


class FakeKqueue:
    """Enough of kqueue(2): a set of filters, and what the test says is ready."""

    KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_CLEAR, KQ_EV_ERROR, KQ_EV_EOF = 1, 2, 0x20, 0x4000, 0x8000
    KQ_FILTER_READ, KQ_FILTER_WRITE = -1, -2
    kevent = Kevent

    def __init__(self) -> None:
        self.filters: dict[tuple[int, int], int] = {}
        self.ready: list[Kevent] = []
        self.waits: list[tuple[int, float | None]] = []
        self.closed = False
        self.refuses = 0  # a filter that the descriptor does not have

    def kqueue(self) -> FakeKqueue:
        self.filters.clear()
        return self

    def control(
        self, changes: list[Kevent] | None, most: int, timeout: float | None = None
    ) -> list[Kevent]:
        for change in changes or ():
            key = change.ident, change.filter
            if change.flags & self.KQ_EV_DELETE:
                if key not in self.filters:
                    raise OSError(2, "No such file or directory")
                del self.filters[key]
            elif change.filter == self.refuses:
                raise OSError(22, "Invalid argument")
            else:
                self.filters[key] = change.flags
        if not most:
            return []
        self.waits.append((most, timeout))
        return self.ready

    def close(self) -> None:
        self.closed = True


def test_kqueue_has_one_filter_for_each_direction() -> None:
    api = FakeKqueue()
    backend = KqueueBackend(api)
    backend.add(5, 0, READ)
    backend.add(5, READ, WRITE)
    backend.add(6, 0, READ | ET)
    assert api.filters == {
        (5, api.KQ_FILTER_READ): api.KQ_EV_ADD,
        (5, api.KQ_FILTER_WRITE): api.KQ_EV_ADD,
        (6, api.KQ_FILTER_READ): api.KQ_EV_ADD | api.KQ_EV_CLEAR,
    }
    backend.delete(5, BOTH, READ)
    backend.delete(6, READ | ET, READ | ET)
    assert list(api.filters) == [(5, api.KQ_FILTER_WRITE)]
    backend.delete(7, READ, READ)  # closed meanwhile: the kernel's refusal is no news
    backend.dealloc()
    assert api.closed


def test_kqueue_watches_both_directions_or_none() -> None:
    api = FakeKqueue()
    backend = KqueueBackend(api)
    api.refuses = api.KQ_FILTER_WRITE
    with pytest.raises(OSError, match="Invalid"):
        backend.add(5, 0, BOTH)
    assert api.filters == {}
    backend.add(5, 0, READ)
    with pytest.raises(OSError, match="Invalid"):
        backend.add(5, READ, WRITE)
    assert list(api.filters) == [(5, api.KQ_FILTER_READ)]


def test_kqueue_forgets_one_direction_though_the_other_is_gone() -> None:
    api = FakeKqueue()
    backend = KqueueBackend(api)
    backend.add(5, 0, WRITE)
    backend.delete(5, BOTH, BOTH)
    assert api.filters == {}


def test_kqueue_is_closed_before_another_is_taken() -> None:
    api = FakeKqueue()
    backend = KqueueBackend(api)
    backend.add(5, 0, READ)
    backend.renew()
    assert api.closed
    assert api.filters == {}


def test_kqueue_reports_filters_and_errors() -> None:
    api = FakeKqueue()
    backend = KqueueBackend(api)
    api.ready = [
        Kevent(5, api.KQ_FILTER_READ, 0),
        Kevent(5, api.KQ_FILTER_WRITE, api.KQ_EV_EOF),
        Kevent(6, api.KQ_FILTER_READ, api.KQ_EV_EOF),
        Kevent(7, api.KQ_FILTER_READ, api.KQ_EV_ERROR),
    ]
    assert wait(backend, 0.5) == [(5, READ), (5, WRITE), (6, READ), (7, BOTH)]
    assert wait(backend, None)
    assert api.waits == [(MAX_READY, 0.5), (MAX_READY, None)]


class FakeDevPoll:
    """Enough of /dev/poll: a second registration of a descriptor is undefined, so it fails."""

    POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 4, 8, 16, 32

    def __init__(self) -> None:
        self.masks: dict[int, int] = {}
        self.ready: list[tuple[int, int]] = []
        self.waits: list[float | None] = []
        self.closed = False

    def devpoll(self) -> FakeDevPoll:
        self.masks.clear()
        return self

    def register(self, fd: int, mask: int) -> None:
        assert fd not in self.masks
        self.masks[fd] = mask

    def unregister(self, fd: int) -> None:
        del self.masks[fd]

    def poll(self, timeout_ms: float | None) -> list[tuple[int, int]]:
        self.waits.append(timeout_ms)
        return self.ready

    def close(self) -> None:
        self.closed = True


def test_devpoll_registers_anew_for_each_change(pair: Pair) -> None:
    api = FakeDevPoll()
    backend = DevPollBackend(api)
    fd = pair[0].fileno()
    backend.add(fd, 0, READ)
    backend.add(fd, READ, WRITE)
    assert api.masks == {fd: api.POLLIN | api.POLLOUT}
    backend.delete(fd, BOTH, READ)
    assert api.masks == {fd: api.POLLOUT}
    backend.delete(fd, WRITE, WRITE)
    assert api.masks == {}
    api.ready = [(fd, api.POLLIN), (fd, api.POLLOUT), (fd, api.POLLHUP)]
    assert wait(backend, 1.5) == [(fd, READ), (fd, WRITE), (fd, ALL)]
    assert api.waits == [1500.0]
    backend.renew()
    assert api.closed
    backend.add(fd, 0, READ)
    assert api.masks == {fd: api.POLLIN}
    api.closed = False
    backend.dealloc()
    assert api.closed


def test_devpoll_refuses_a_closed_descriptor_and_keeps_the_rest() -> None:
    api = FakeDevPoll()
    backend = DevPollBackend(api)
    read_fd, write_fd = os.pipe()
    backend.add(read_fd, 0, READ)
    os.close(read_fd)
    os.close(write_fd)
    with pytest.raises(OSError, match="Bad file"):
        backend.add(read_fd, READ, WRITE)
    assert api.masks == {read_fd: api.POLLIN}


def test_a_descriptor_for_a_loop_around_ours_is_readable_while_something_is_ready(
    backend: Backend, pair: Pair
) -> None:
    outer = backend.fileno()
    assert (outer >= 0) == (backend.name in ("epoll", "kqueue"))
    if outer >= 0:
        backend.add(pair[0].fileno(), 0, READ)
        assert select.select([outer], [], [], 0)[0] == []
        pair[1].send(b"x")
        assert select.select([outer], [], [], 0)[0] == [outer]
