"""The benchmark of the DNS server: what it makes of dnsperf's words."""

from __future__ import annotations

import pytest

from bench.dns_server_bench import parse_dnsperf
from bench.tools import BenchError

OUTPUT = """
  Queries lost:         7 (0.00%)
  Response codes:       NOERROR 1000 (100.00%)
  Queries per second:   50479.633789
"""


def test_the_speed_is_read() -> None:
    assert parse_dnsperf(OUTPUT) == pytest.approx(50479.633789)


@pytest.mark.parametrize(
    ("good", "bad"),
    [("0.00%", "1.01%"), ("NOERROR", "SERVFAIL"), ("second", "minute")],
)
def test_a_faulty_run_is_told(good, bad) -> None:
    with pytest.raises(BenchError):
        parse_dnsperf(OUTPUT.replace(good, bad))
