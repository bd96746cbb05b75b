"""The benchmark of the DNS server: what it makes of dnsperf's words."""

from __future__ import annotations

import sys

import pytest

from bench import dns_client_bench, dns_server_bench
from bench.dns_server_bench import Figures, parse_dnsperf
from bench.tools import BenchError

OUTPUT = """
  Queries completed:    1000 (100.00%)
  Queries lost:         7 (0.00%)
  Response codes:       NOERROR 1000 (100.00%)
  Queries per second:   50479.633789
"""


def test_the_speed_is_read() -> None:
    assert parse_dnsperf(OUTPUT) == (pytest.approx(50479.633789), 1000)


def test_ratios_are_of_rates_and_of_cpu_time_and_above_one_where_we_are_better() -> None:
    figures = {
        "libevent C": [Figures(1000.0, 5.0)] * 3,
        "callback": [Figures(500.0, 10.0), Figures(400.0, 12.5), Figures(600.0, 8.0)],
        "Twisted Names": [Figures(100.0, 50.0)] * 3,
    }
    row = dns_server_bench.table(figures, 3).splitlines()[2]
    assert row.split() == ["callback", "500", "10.0", "0.50", "0.50", "5.00", "5.00"]


@pytest.mark.parametrize(
    ("good", "bad"),
    [("0.00%", "1.01%"), ("NOERROR", "SERVFAIL"), ("second", "minute"), ("completed", "sent")],
)
def test_a_faulty_run_is_told(good, bad) -> None:
    with pytest.raises(BenchError):
        parse_dnsperf(OUTPUT.replace(good, bad))


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
