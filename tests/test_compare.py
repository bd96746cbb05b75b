"""The comparison of two checkouts: every operation runs, and a ratio above 1 is better for us."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import compare
from bench.tools import ROOT, BenchError


def test_the_table_has_medians_and_a_ratio_above_1_where_we_are_better() -> None:
    ours = [{"echo": 5.0, "timer": 4.0}, {"echo": 4.0, "timer": 4.0}, {"echo": 9.0, "timer": 4.0}]
    theirs = [{"echo": each, "timer": 3.0} for each in (10.0, 9.0, 10.0)]
    assert compare.table(ours, theirs).splitlines()[2:] == [
        "| echo | 10.00 | 5.00 | 2.00 | 2.25 | 1.11-2.25 |",
        "| timer | 3.00 | 4.00 | 0.75 | 0.75 | 0.75-0.75 |",
    ]


def test_what_an_older_checkout_has_not_is_shown_for_ours_alone() -> None:
    shown = compare.table([{"echo": 5.0, "new": 4.0}], [{"echo": 10.0}])
    assert shown.splitlines()[3:] == ["| new | - | 4.00 | - | - | - |"]


def test_without_another_checkout_the_table_has_our_costs_alone() -> None:
    assert compare.table([{"echo": 5.0}], []).splitlines()[2:] == ["| echo | 5.00 |"]


@pytest.mark.interop
def test_every_operation_is_measured(program: Callable[[str], str], tmp_path: Path) -> None:
    program("openssl")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the benchmarks want two cores")
    figures = compare.measure(ROOT, compare.make_certificate(tmp_path))
    assert set(figures) >= {"event on a pipe", "timer: add", "echo", "HTTP hello", "TLS echo"}
    assert set(figures) >= {"HTTP hello, inspector mounted", "HTTP hello, inspector looked at"}
    assert all(figure > 0 for figure in figures.values())


def test_a_folder_without_evsvc_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evsvc").mkdir()
    (tmp_path / "evsvc" / "__init__.py").touch()
    with pytest.raises(BenchError, match=str(tmp_path)):
        compare.measure(tmp_path, tmp_path / "none.pem")
