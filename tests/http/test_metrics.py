"""A server's counters, and that Prometheus's own parser reads their page."""

from __future__ import annotations

import gc

import pytest
from prometheus_client.parser import text_string_to_metric_families

from evsvc.core import ArgumentError
from evsvc.http import Ending, Holdings, HttpServer, MetricsReading
from evsvc.http.server.observing.metrics import BUCKETS_S, CONTENT_TYPE
from tests.http.peers import request


@pytest.fixture
def counted(serve):
    """Return `counted(cb=None, **options)`: a site whose server counts, and its counters."""

    def start(cb=None, **options):
        site = serve(cb, **options)
        return site, site.server.metrics

    return start


def samples(text):
    """The samples by name and labels; fails for a page that Prometheus would not read."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            key = (sample.name.removeprefix("evsvc_http_"), *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def test_requests_are_counted_by_method_and_status(counted) -> None:
    site, metrics = counted(lambda got, arg: got.send_reply(int(got.uri[1:])))
    peer = site.connect()
    for target in ("/200", "/204", "/302", "/500"):
        peer.ask(request(target), has_body=target not in ("/204",))
    peer.get("/200", version="1.1")
    peer.ask(request("/200", method="PUT", body=b"x"))
    site.connect().ask(b"no request\r\n")
    assert metrics.requests == {
        ("GET", 2): 3,
        ("GET", 3): 1,
        ("GET", 5): 1,
        ("PUT", 2): 1,
        ("none", 4): 1,
    }
    assert metrics.endings == {Ending.WHOLE: 6, Ending.BROKEN_OFF: 0, Ending.REFUSED: 1}


def test_clients_cannot_make_counters(counted) -> None:
    site, metrics = counted()
    for method in ("FOO", "BAR", 'X"'):
        site.connect().send(request(method=method))
    assert metrics.requests.keys() <= {("other", 5), ("none", 4)}
    assert metrics.requests["other", 5] == 2


def test_bytes_are_those_of_the_bodies(counted) -> None:
    site, metrics = counted(lambda got, arg: got.send_reply(200, None, b"12345"))
    peer = site.connect()
    peer.ask(request(method="POST", body=b"abc"))
    peer.ask(request(method="HEAD"), has_body=False)
    assert (metrics.received_bytes, metrics.sent_bytes) == (3, 5)


def test_durations_fall_into_buckets_with_their_upper_bound(counted, clock) -> None:
    waits = [0, BUCKETS_S[4], 0.026, BUCKETS_S[-1], BUCKETS_S[-1] + 1]

    def wait(got, arg):
        clock.advance(waits[int(got.uri[1:])])
        got.send_reply(204)

    site, metrics = counted(wait)
    for number in range(len(waits)):
        site.connect().send(request(f"/{number}"))
    assert metrics.duration_counts == [1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert metrics.duration_sum_s == pytest.approx(sum(waits))


def test_connections_are_counted_and_those_that_are_turned_away(counted) -> None:
    site, metrics = counted(max_connections=2, max_refused=1)
    peers = [site.connect() for _ in range(4)]
    assert (metrics.connections_total, metrics.connections_refused) == (4, 2)
    assert metrics.holdings.connections == 3, "one is being told that it is one too many"
    peers[0].reset()
    site.connect()
    assert (metrics.connections_total, metrics.connections_refused) == (5, 2)


def test_what_is_in_hand(counted) -> None:
    site, metrics = counted()
    assert metrics.holdings == (0, 0, 0, 0)
    peer = site.connect(receive_bytes=4096)
    peer.send(request(method="POST", body=b"x" * 100) + request("/ahead"))
    assert metrics.holdings == (1, 1, 100 + len(request("/ahead")), 0)
    site.requests[0].send_reply(200, None, bytes(8_000_000))
    peer.settle()
    holdings = metrics.holdings
    assert 0 < holdings.unsent_bytes < 8_000_500
    peer.reset()
    assert metrics.holdings == (0, 0, 0, 0)


def test_nothing_is_counted_before_somebody_looks(serve) -> None:
    site = serve(lambda got, arg: got.send_reply(204))
    peer = site.connect()
    peer.ask(request(), has_body=False)
    assert site.server.metrics.requests == {}
    peer.ask(request(), has_body=False)
    assert site.server.metrics.requests == {("GET", 2): 1}


class TestPage:
    def test_prometheus_reads_it(self, counted, clock) -> None:
        site, metrics = counted(lambda got, arg: got.send_reply(200, None, b"12345"))
        metrics.mount(site.server)
        peer = site.connect()
        peer.get("/")
        peer.ask(request(method="POST", body=b"abc"))
        site.connect().ask(b"no request\r\n")
        reply = peer.get("/metrics")
        assert reply.field("Content-Type") == CONTENT_TYPE
        found = samples(reply.body.decode())
        assert found["connections_open",] >= 1
        assert found["connections_total",] == 2
        assert found["connections_refused_total",] == 0
        assert found["requests_total", ("method", "GET"), ("status", "2xx")] == 1
        assert found["requests_total", ("method", "none"), ("status", "4xx")] == 1
        assert found["endings_total", ("ending", "broken_off")] == 0
        assert found["requests_in_flight",] == 1, "this one"
        assert found["request_body_bytes_total",] == 3
        assert found["response_body_bytes_total",] == 10 + 93
        assert found["held_bytes", ("what", "unsent")] == 0
        buckets = [
            value for key, value in found.items() if key[0] == "request_duration_seconds_bucket"
        ]
        assert buckets == sorted(buckets)
        assert len(buckets) == len(BUCKETS_S) + 1
        assert found["request_duration_seconds_count",] == buckets[-1] == 2

    def test_it_has_every_family_before_anything_has_happened(self, counted) -> None:
        _, metrics = counted()
        families = {each.name for each in text_string_to_metric_families(metrics.to_text())}
        assert len(families) == 9 + 1
        assert all(name.startswith("evsvc_http_") for name in families)

    def test_another_server_may_show_it(self, counted, serve) -> None:
        _, metrics = counted()
        inside = serve()
        metrics.mount(inside.server, "/figures")
        assert inside.connect().get("/figures").status == 200
        assert inside.connect().ask(request("/figures", method="POST")).status == 405

    def test_a_path_that_is_taken_is_refused(self, counted) -> None:
        site, metrics = counted()
        metrics.mount(site.server)
        with pytest.raises(ArgumentError, match="/metrics"):
            metrics.mount(site.server)


def test_a_server_with_counters_leaves_nothing_to_the_collector(base) -> None:
    gc.collect()
    server = HttpServer(base)
    server.metrics.mount(server)
    server.close()
    del server
    assert gc.collect() == 0


def test_readings_add_up(counted) -> None:
    (site, metrics), (other, others) = counted(), counted()
    site.server.set_gencb(lambda got, arg: got.send_reply(200, None, b"abc"))
    other.server.set_gencb(lambda got, arg: got.send_reply(404, None, b"de"))
    site.connect().get()
    other.connect().ask(request("/", method="PUT", body=b"x"))
    both = metrics.read() + others.read()
    assert both.requests == {("GET", 2): 1, ("PUT", 4): 1}
    assert (both.endings[Ending.WHOLE], both.endings[Ending.REFUSED]) == (2, 0)
    assert (both.sent_bytes, both.received_bytes) == (5, 1)
    assert (both.connections_total, both.connections_refused) == (2, 0)
    assert both.holdings.connections == 2
    assert sum(both.duration_counts) == 2
    assert both.counters().holdings == Holdings(0, 0, 0, 0)
    assert both.counters().requests == both.requests
    assert both + MetricsReading() == both
    shown = samples(both.to_text())
    assert shown["requests_total", ("method", "GET"), ("status", "2xx")] == 1
    assert shown["connections_open",] == 2
