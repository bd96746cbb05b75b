"""Which connection a request goes over: decided without a socket."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import ArgumentError
from evsvc.http.client.pool import ConnectionPool, PoolOptions


class Connection:
    """What the pool asks of a connection, settable."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.is_closed = self.has_expired = False
        self.number = next(self.numbers)


class Client:
    """Does what the pool decides."""

    def __init__(self, total: int = 3, per_origin: int = 2) -> None:
        options = PoolOptions(max_connections=total, max_connections_per_origin=per_origin)
        self.pool: ConnectionPool[str, Connection] = ConnectionPool(options)
        self.closed: list[Connection] = []

    def ask(self, key: str) -> Connection | None:
        connection, may_make, closes = self.pool.decide(key)
        self.closed += closes
        if connection is None and may_make:
            connection = Connection()
            self.pool.add(key, connection)
        return connection


def test_a_connection_is_made_up_to_the_bound_of_its_origin() -> None:
    client = Client()
    first, second = client.ask("a"), client.ask("a")
    assert first is not second
    assert client.ask("a") is None
    assert client.ask("b") is not None
    assert len(client.pool) == 3


def test_the_one_that_was_used_last_is_used_first() -> None:
    client = Client()
    first, second = client.ask("a"), client.ask("a")
    assert first is not None
    assert second is not None
    client.pool.give_back(second)
    client.pool.give_back(first)
    assert client.ask("a") is first
    assert client.ask("a") is second
    assert client.ask("a") is None


def test_at_the_bound_of_all_an_idle_one_to_another_server_makes_room() -> None:
    client = Client()
    idle, busy, other = client.ask("a"), client.ask("a"), client.ask("b")
    assert idle is not None
    assert client.ask("b") is None
    client.pool.give_back(idle)
    made = client.ask("b")
    assert made not in (None, other)
    assert client.closed == [idle]
    assert client.ask("c") is None
    assert busy is not None
    client.pool.give_back(busy)
    assert client.ask("c") is not None
    assert client.closed == [idle, busy]


@pytest.mark.parametrize("state", ["is_closed", "has_expired"])
def test_one_that_is_of_no_use_any_more_is_closed_and_another_made(state: str) -> None:
    client = Client()
    first = client.ask("a")
    assert first is not None
    client.pool.give_back(first)
    setattr(first, state, True)
    second = client.ask("a")
    assert second not in (None, first)
    assert client.closed == [first]
    assert len(client.pool) == 1


def test_one_that_comes_back_closed_is_forgotten() -> None:
    client = Client()
    first = client.ask("a")
    assert first is not None
    first.is_closed = True
    client.pool.give_back(first)
    assert (len(client.pool), client.pool.idle_count) == (0, 0)
    client.pool.give_back(first)
    client.pool.forget(first)
    assert len(client.pool) == 0


@pytest.mark.parametrize("name", ["max_connections", "max_connections_per_origin", "max_queued"])
def test_the_bounds_are_positive(name: str) -> None:
    with pytest.raises(ArgumentError, match=name):
        PoolOptions(**{name: 0})


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_no_bound_is_ever_broken_and_no_connection_lent_twice(
    steps: list[tuple[str, bool]],
) -> None:
    client = Client(total=4, per_origin=2)
    lent: list[tuple[str, Connection]] = []
    for key, asks in steps:
        if asks:
            connection = client.ask(key)
            if connection is not None:
                assert all(connection is not other for _, other in lent)
                assert connection not in client.closed
                lent.append((key, connection))
        elif lent:
            client.pool.give_back(lent.pop(0)[1])
        assert len(client.pool) <= 4
        assert len(client.pool) - client.pool.idle_count == len(lent)
        for each in "abc":
            assert sum(client.pool.key_of(one) == each for one in client.pool) <= 2
