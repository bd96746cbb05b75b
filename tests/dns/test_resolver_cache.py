"""What a resolver keeps: looked at, forgotten, told beyond its time, fetched before."""

from __future__ import annotations

import pytest

from evsvc.core import EVLOOP_ONCE
from evsvc.dns import DNS_ERR_NONE, DNS_ERR_TIMEOUT, Answer, DnsArgumentError, Record
from evsvc.dns.resolver.cache import STALE_TTL_S, AnswerCache

KEY = ((b"a", b"test", b""), 1)


def made(ttl_s: int = 100) -> Answer:
    return Answer(DNS_ERR_NONE, (Record("a.test", 1, ttl_s, "10.0.0.1"),), ttl_s, "a.test")


def pass_time(base, seconds: float) -> None:
    with base.timer(lambda *args: None) as timer:
        timer.add(seconds)
        while timer.pending():
            base.loop(EVLOOP_ONCE)


def ask(resolver, results, name: str = "a.test.") -> Answer:
    resolver.query(name, "A", results)
    results.wait(len(results) + 1)
    return results[-1][0]


def test_what_is_kept_can_be_looked_at_and_forgotten(
    nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a(ttl=60))
    resolver = make_resolver(server)
    for name in ("a.test.", "b.test."):
        ask(resolver, results, name)
    assert [(kept.name, kept.type) for kept in resolver.cached_answers()] == [
        ("a.test", 1),
        ("b.test", 1),
    ]
    assert 59 <= resolver.cached_answers()[0].ttl_s <= 60
    assert resolver.cached_answers()[0].answer.result == DNS_ERR_NONE
    assert resolver.flush_cache("A.Test") == 1
    assert [kept.name for kept in resolver.cached_answers()] == ["b.test"]
    assert resolver.flush_cache() == 1
    assert resolver.cached_answers() == []
    ask(resolver, results)
    assert server.names == ["a.test", "b.test", "a.test"]
    with pytest.raises(DnsArgumentError):
        resolver.flush_cache("")


@pytest.mark.parametrize(("beyond", "is_told"), [(99, True), (101, False)])
def test_an_old_answer_is_told_when_there_is_no_other(
    base, nameserver, make_resolver, answer_a, results, beyond, is_told
) -> None:
    """RFC 8767."""
    server = nameserver(answer_a(ttl=10))
    resolver = make_resolver(server, stale_s=102, attempts=1, timeout_s=1)
    assert not ask(resolver, results).is_stale
    server.script = lambda packet: None
    pass_time(base, 10 + beyond)
    answer = ask(resolver, results)
    assert answer.is_stale == is_told
    assert answer.result == (DNS_ERR_NONE if is_told else DNS_ERR_TIMEOUT)


def test_for_a_while_nobody_is_asked_again_then_a_new_answer_counts(
    base, nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a(ttl=10))
    resolver = make_resolver(server, stale_s=1000, attempts=1, timeout_s=1)
    ask(resolver, results)
    server.script = lambda packet: None
    pass_time(base, 11)
    assert ask(resolver, results).is_stale
    asked = len(server.packets)
    assert ask(resolver, results).ttl_s == STALE_TTL_S
    assert len(server.packets) == asked
    server.script = answer_a(ttl=10)
    pass_time(base, STALE_TTL_S + 1)
    assert not ask(resolver, results).is_stale


def test_without_the_option_nothing_old_is_told(
    base, nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a(ttl=10))
    resolver = make_resolver(server, attempts=1, timeout_s=1)
    ask(resolver, results)
    server.script = lambda packet: None
    pass_time(base, 10)
    assert ask(resolver, results).result == DNS_ERR_TIMEOUT


@pytest.mark.parametrize(("age", "asked"), [(89, 1), (91, 2)])
def test_what_is_asked_for_near_its_end_is_fetched_again(
    base, nameserver, make_resolver, answer_a, results, age, asked
) -> None:
    server = nameserver(answer_a(ttl=100))
    resolver = make_resolver(server, prefetch=True)
    ask(resolver, results)
    pass_time(base, age)
    ask(resolver, results)
    pass_time(base, 1)
    assert len(server.packets) == asked
    assert ask(resolver, results).ttl_s == pytest.approx(99 if asked == 2 else 10, abs=1)


def test_an_entry_stays_until_its_time_and_the_stale_time_are_over() -> None:
    cache = AnswerCache(10, 1000, 1000, 50)
    cache.put(KEY, made(100), 0)
    assert cache.get(KEY, 100) is None
    assert len(cache) == 1
    stale = cache.get_stale(KEY, 149)
    assert stale is not None
    assert stale.ttl_s == 1
    assert cache.get(KEY, 149.5) is not None
    assert cache.get_stale(KEY, 150) is None
    assert cache.get(KEY, 150) is None
    assert len(cache) == 0


def test_an_answer_that_is_still_good_is_not_stale() -> None:
    cache = AnswerCache(10, 1000, 1000, 50)
    cache.put(KEY, made(100), 0)
    good = cache.get_stale(KEY, 60)
    assert good is not None
    assert (good.is_stale, good.ttl_s) == (False, 40)


@pytest.mark.parametrize("rounds", [3, 5])
def test_a_nameserver_that_is_silent_to_edns_is_asked_without_and_remembered(
    nameserver, make_resolver, answer_a, results, rounds
) -> None:
    def script(packet: bytes) -> bytes | None:
        return None if packet[11] else answer_a(ttl=0)(packet)

    server = nameserver(script)
    resolver = make_resolver(server, attempts=rounds, timeout_s=1)
    assert ask(resolver, results).result == DNS_ERR_NONE
    assert [packet[11] for packet in server.packets] == [1, 1, 0]
    assert ask(resolver, results, "b.test.").result == DNS_ERR_NONE
    assert [packet[11] for packet in server.packets] == [1, 1, 0, 0]


def test_a_nameserver_that_has_answered_edns_keeps_it_through_silence(
    nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a(ttl=0))
    resolver = make_resolver(server, attempts=4, timeout_s=1)
    ask(resolver, results)
    server.script = lambda packet: None
    assert ask(resolver, results).result == DNS_ERR_TIMEOUT
    assert all(packet[11] for packet in server.packets)


def test_a_nameserver_that_is_silent_to_all_is_asked_with_edns_again(
    nameserver, make_resolver, results
) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, attempts=6, timeout_s=1)
    assert ask(resolver, results).result == DNS_ERR_TIMEOUT
    assert [packet[11] for packet in server.packets][:6] == [1, 1, 0, 1, 1, 0]
