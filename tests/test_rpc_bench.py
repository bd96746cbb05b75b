"""bench/rpc_bench.py runs, and says what it measured; how fast that is decides nothing."""

from __future__ import annotations

import re

import pytest

from bench import rpc_bench
from bench.tools import BenchError

pytestmark = pytest.mark.interop


def test_calls_are_measured_beside_libevents(capsys: pytest.CaptureFixture[str]) -> None:
    peers = [rpc_bench.PIPELINED, rpc_bench.LIBEVENT]
    arguments = ["--rounds", "1", "--seconds", "0.1", "--peers", *peers]
    assert rpc_bench.main(arguments) == 0
    output = capsys.readouterr().out
    for in_flight in rpc_bench.IN_FLIGHT:
        assert f"{in_flight} in flight\n" in output
    row = r"^(evsvc|evsvc pipelined|libevent C) +([\d,]+) .* (\d+\.\d\d)$"
    rows = re.findall(row, output, re.MULTILINE)
    alone = ["evsvc", "libevent C"]
    assert [name for name, _, _ in rows] == [*alone, "evsvc", *peers]
    assert all(int(calls.replace(",", "")) > 10 for _, calls, _ in rows)
    assert [ratio for name, _, ratio in rows if name == "evsvc"] == ["1.00", "1.00"]


def test_a_peer_that_is_not_there_says_so_in_its_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rpc_bench.MODULES, "rpyc", "no_such_module")
    rpc_bench.measure(1, 1, 0.05, ("evsvc", "rpyc"))
    assert re.search(r"^rpyc +is not installed$", capsys.readouterr().out, re.MULTILINE)


def test_a_client_of_ours_that_fails_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> rpc_bench.Run:
        raise BenchError("evsvc: the client failed: no")

    monkeypatch.setattr(rpc_bench, "run", fail)
    assert rpc_bench.main(["--rounds", "1", "--peers"]) == 1
