"""asyncio's selector over events of a base; CPython's own tests of it are in test_cpython."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from evsvc.aio.selector import BaseSelector
from evsvc.core import EventBase, FakeClock
from tests.core.conftest import config_for, variants

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> list[str]:
    return []


@pytest.fixture(params=variants(every_backend=True)[:-1])
def selector(request: pytest.FixtureRequest, ends: list[str]) -> Iterator[BaseSelector]:
    """Return a selector over each backend in turn."""
    with (
        EventBase(config_for(request.param), clock=FakeClock()) as base,
        BaseSelector(base, lambda: ends.append("end")) as made,
    ):
        yield made


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


def ready(selector: BaseSelector, timeout: float = 0) -> list[tuple[object, int]]:
    return [(key.data, directions) for key, directions in selector.select(timeout)]


def test_what_is_ready_is_told_until_it_is_not(selector: BaseSelector, pair: Pair) -> None:
    selector.register(pair[0], READ | WRITE, "both")
    assert ready(selector) == [("both", WRITE)]
    pair[1].send(b"x")
    assert ready(selector) == [("both", READ | WRITE)]
    selector.modify(pair[0], READ, "read")
    assert ready(selector) == [("read", READ)]
    selector.modify(pair[0], WRITE, "write")
    assert ready(selector) == [("write", WRITE)]
    selector.modify(pair[0], WRITE, "other data")
    assert ready(selector) == [("other data", WRITE)]
    assert selector.unregister(pair[0]).data == "other data"
    assert ready(selector) == []


def test_a_wait_is_as_long_as_it_is_told(selector: BaseSelector, pair: Pair) -> None:
    selector.register(pair[0], READ)
    base = selector._base
    assert ready(selector, 5) == ready(selector, -1) == []
    assert base.now == 1005


def test_what_a_callback_of_the_pass_unregisters_is_not_told(
    selector: BaseSelector, pair: Pair
) -> None:
    selector.register(pair[0], WRITE)
    selector._base.timer(lambda *_: selector.unregister(pair[0])).add(0)
    assert ready(selector) == []


def test_the_end_of_the_bases_loop_is_told(selector: BaseSelector, ends: list[str]) -> None:
    selector._base.loopexit()
    assert ready(selector) == []
    assert ends == ["end"]
    assert ready(selector) == []
    assert ends == ["end"]


def test_what_is_not_so_is_refused(selector: BaseSelector, pair: Pair) -> None:
    for wrong in (0, 8):
        with pytest.raises(ValueError, match=str(wrong)):
            selector.register(pair[0], wrong)
    for nothing in (-1, "no file"):
        with pytest.raises(ValueError, match="Invalid"):
            selector.register(nothing, READ)  # type: ignore[arg-type]  # that is the test
    selector.register(pair[0], READ)
    with pytest.raises(KeyError, match="already"):
        selector.register(pair[0], READ)
    for call in (selector.unregister, selector.get_key, lambda sock: selector.modify(sock, READ)):
        with pytest.raises(KeyError, match="not registered"):
            call(pair[1])


def test_a_socket_that_was_closed_first_is_unregistered_all_the_same(
    selector: BaseSelector, pair: Pair
) -> None:
    selector.register(pair[0], READ, "closed")
    pair[0].close()
    assert selector.unregister(pair[0]).data == "closed"


def test_the_map_is_by_number_and_by_file_and_goes_with_the_selector(
    selector: BaseSelector, pair: Pair
) -> None:
    keys = selector.get_map()
    selector.register(pair[0], READ, "data")
    fd = pair[0].fileno()
    assert list(keys) == [fd]
    assert len(keys) == 1
    assert keys[fd] is keys[pair[0]] is selector.get_key(fd)
    assert pair[1] not in keys
    selector.close()
    selector.close()
    assert selector.get_map() is None
    with pytest.raises(RuntimeError, match="closed"):
        selector.get_key(fd)
