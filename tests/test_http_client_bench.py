"""The HTTP clients' benchmark: its clients are answered, and its table reads well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from bench import http_client_bench as bench
from bench.tools import BenchError


@pytest.mark.parametrize("name", ["evsvc", bench.C_CLIENT])
def test_a_client_is_answered(
    program: Callable[[str], str],
    missing: Callable[[str], NoReturn],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    for each in ("nginx", "cc"):
        program(each)
    try:
        command = bench.command_of(name)
    except BenchError as error:
        missing(str(error))
    monkeypatch.setattr(bench, "command_of", lambda name: command)
    with bench.nginx() as port:
        assert bench.measure(name, port, 2, 1).rate > 0


def test_a_client_that_fails_is_told() -> None:
    with pytest.raises(BenchError, match="nobody failed"):
        bench.measure("nobody", 1, 1, 1)


def test_table() -> None:
    best = {
        ("evsvc", 1): bench.Figures(2000.0, 10.0, 5.0),
        ("httpx", 1): bench.Figures(500.0, 40.0, 5.0),
        ("httpx", 64): bench.Figures(400.0, 40.0, 5.0),
    }
    _, ours, theirs, alone = bench.table(best).splitlines()
    assert ours.split() == ["evsvc", "1", "2000", "10.0", "5.0", "1.00", "x"]
    assert theirs.split() == ["httpx", "1", "500", "40.0", "5.0", "4.00", "x"]
    assert alone.split()[-1] == "-"
