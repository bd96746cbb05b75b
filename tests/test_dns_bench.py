"""The benchmark of the DNS server: what it makes of dnsperf's words."""

from __future__ import annotations

import sys

import pytest

from bench import dns_client_bench
from bench.dns_server_bench import parse_dnsperf, table
from bench.tools import BenchError, Speed

OUTPUT = """
  Queries completed:    101234 (100.00%)
  Queries lost:         7 (0.00%)
  Response codes:       NOERROR 1000 (100.00%)
  Queries per second:   50479.633789
"""


def test_the_speed_is_read() -> None:
    assert parse_dnsperf(OUTPUT) == (101234, pytest.approx(50479.633789))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("0.00%", "1.01%"),
        ("NOERROR", "SERVFAIL"),
        ("second", "minute"),
        ("completed", "sent"),
        ("101234", "0"),
    ],
)
def test_a_faulty_run_is_told(good, bad) -> None:
    with pytest.raises(BenchError):
        parse_dnsperf(OUTPUT.replace(good, bad))


def test_a_server_is_compared_round_by_round_by_its_processor_time() -> None:
    """Not by its rate, which is the client's as much as the server's."""
    rounds = {
        "Twisted Names": [Speed(9_000, 10, 5), Speed(8_000, 20, 20), Speed(7_000, 10, 10)],
        "callback": [Speed(30_000, 3, 2), Speed(20_000, 5, 5), Speed(25_000, 4, 4)],
    }
    lines = [line.strip("| ").split(" | ") for line in table(rounds)]
    assert lines[0][-1] == "to callback"
    assert lines[2] == ["Twisted Names", "8,000", "10.0 + 10.0", "3.00 (2.50-4.00)"]
    assert lines[3][:3] == ["callback", "25,000", "4.0 + 4.0"]


def test_a_peer_that_costs_more_has_a_ratio_above_one() -> None:
    figures = {"evsvc": [10.0, 20.0, 30.0], "dear": [20.0, 40.0, 60.0], "cheap": [5.0, 10.0, 15.0]}
    lines = dns_client_bench.table(figures).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["evsvc", "20.0", "1.00"],
        ["dear", "40.0", "2.00"],
        ["cheap", "10.0", "0.50"],
    ]


def test_a_client_that_fails_is_told() -> None:
    with pytest.raises(BenchError, match="failed"):
        dns_client_bench.measure([sys.executable, "-c", "raise SystemExit(1)"], 1, 1, 1)
