"""The benchmark of hosted applications: its servers answer alike, and its driver runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import gateway_bench as bench
from bench.http_server_bench import Row
from bench.tools import BenchError, serving

NAMED = [(interface, name) for interface, names in bench.SERVERS.items() for name in names]


@pytest.mark.parametrize("row", [Row(title="hello"), Row(title="echo", kind="echo")])
@pytest.mark.parametrize(("interface", "name"), NAMED)
def test_all_servers_answer_what_the_row_wants(
    tmp_path: Path, interface: str, name: str, row: Row
) -> None:
    """One that is not installed says so."""
    suite = bench.GatewayBench(sys.executable, tmp_path, interface)
    modules = bench.SERVERS[interface][name]
    if not all(importlib.util.find_spec(each) is not None for each in modules):
        with pytest.raises(BenchError, match="is not installed"):
            suite.command(name, row)
        return
    command = suite.command(name, row)
    with serving(command) as server:
        suite.check(server.port, row)


@pytest.mark.interop
def test_the_driver_prints_a_line_for_each_server(
    program: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    program("wrk")
    assert bench.main(["--rounds", "1", "--seconds", "1", "--rows", "asgi-small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split("|")[2].strip() for line in lines[2:]]
    assert sorted(names) == sorted(bench.SERVERS["asgi"])


def test_a_row_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--rows", "none"])
    assert "none" in capsys.readouterr().err


def test_without_an_interpreter_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--python", "no-such-python"]) == 1
    assert "no-such-python" in capsys.readouterr().err
