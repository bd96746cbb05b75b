"""Buckets of latencies."""

from __future__ import annotations

from evsvc.http import Ending
from evsvc.inspector.latencies import BUCKETS_S, Latencies, MethodLatency


def test_percentiles_are_the_bounds_of_buckets() -> None:
    latency = MethodLatency()
    for seconds in [0.0004] * 98 + [0.0011, 99.0]:
        latency.add(seconds, failed=False)
    assert latency.percentile_s(0.5) == 0.0005
    assert latency.percentile_s(0.99) == 0.0025
    assert latency.percentile_s(1.0) is None
    assert sum(latency.counts) == latency.calls == 100
    assert len(latency.counts) == len(BUCKETS_S) + 1


def test_a_bound_belongs_to_its_bucket() -> None:
    latency = MethodLatency()
    latency.add(BUCKETS_S[0], failed=True)
    assert latency.counts[0] == latency.failed == 1


class _Request:
    def __init__(self, path: str) -> None:
        self.path = path


class _Exchange:
    def __init__(self, path: str | None, status: int = 200, ending: Ending = Ending.WHOLE) -> None:
        self.request = None if path is None else _Request(path)
        self.status = status
        self.ending = ending
        self.duration_s = 0.001


def test_only_so_many_methods_are_kept_and_none_that_a_client_makes_up() -> None:
    latencies = Latencies(2)
    for exchange in (
        _Exchange("/.rpc.One"),
        _Exchange("/.rpc.Nothing", 404),
        _Exchange("/page"),
        _Exchange("/.rpc.Made_up", 413, Ending.REFUSED),
        _Exchange("/.rpc.One", 413, Ending.REFUSED),
        _Exchange(None, 400),
        _Exchange("/.rpc.Two", 503),
        _Exchange("/.rpc.Three"),
        _Exchange("/.rpc.One"),
    ):
        latencies.observe(exchange)
    assert {name: (each.calls, each.failed) for name, each in latencies.methods.items()} == {
        "One": (3, 1),
        "Two": (1, 1),
    }
