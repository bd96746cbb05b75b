"""The sum of the workers' counters, without workers."""

from __future__ import annotations

from evsvc.http import Holdings, MetricsReading
from evsvc.workers.tally import Tally


def reading(connections: int, open_now: int = 0) -> MetricsReading:
    return MetricsReading(connections_total=connections, holdings=Holdings(open_now, 0, 0, 0))


def test_everyone_is_asked_and_the_sum_comes_when_all_have_answered() -> None:
    tally: Tally[str] = Tally()
    assert tally.begin(["a", "b"]) == []
    tally.ask("a")
    assert tally.begin(["a", "b"]) == ["a", "b"]
    tally.count("a", reading(1, 1))
    assert tally.end() == []
    tally.count("b", reading(2, 1))
    assert tally.end() == ["a"]
    assert tally.end() == []
    assert tally.total == reading(3, 2)


def test_who_asks_meanwhile_has_the_next_round() -> None:
    tally: Tally[str] = Tally()
    tally.ask("a")
    tally.begin(["a", "b"])
    tally.ask("b")
    tally.ask("b")
    assert tally.begin(["a", "b"]) == []
    for worker in ("a", "b"):
        tally.count(worker, reading(1))
    assert tally.end() == ["a"]
    assert tally.begin(["a", "b"]) == ["a", "b"]
    for worker in ("a", "b"):
        tally.count(worker, reading(2))
    assert tally.end() == ["b"]
    assert tally.total == reading(4)


def test_a_slow_one_counts_as_it_was() -> None:
    tally: Tally[str] = Tally()
    tally.count("slow", reading(5))
    tally.ask("a")
    tally.begin(["a", "slow"])
    tally.count("a", reading(1))
    assert tally.end() == []
    assert tally.end(is_late=True) == ["a"]
    assert tally.total == reading(6)
    tally.count("slow", reading(7))
    assert tally.total == reading(8)


def test_what_the_dead_have_counted_stays_and_what_they_held_does_not() -> None:
    tally: Tally[str] = Tally()
    tally.count("a", reading(5, 2))
    tally.forget("a")
    tally.forget("nobody")
    assert tally.total == reading(5, 0)


def test_nobody_waits_for_the_dead_and_they_get_nothing() -> None:
    tally: Tally[str] = Tally()
    tally.ask("a")
    tally.ask("b")
    tally.begin(["a", "b"])
    tally.count("a", reading(1))
    tally.ask("b")
    tally.forget("b")
    assert tally.end() == ["a"]
    assert tally.begin(["a"]) == []


def test_with_nobody_to_ask_the_dead_are_all() -> None:
    tally: Tally[str] = Tally()
    tally.ask("a")
    assert tally.begin([]) == []
    assert tally.end() == ["a"]
    assert tally.total == MetricsReading()
