"""The HTTP server's benchmark: its servers answer alike, and its driver reads wrk rightly."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from bench import http_server_bench as bench
from bench.tools import BenchError, Server, build_c, find_program, serving

WRK_OUTPUT = """\
Running 4s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   812.01us   77.12us   3.39ms   92.11%
    Req/Sec    78.48k     1.73k   81.22k    70.73%
  319912 requests in 4.10s, 46.07MB read
Requests/sec:  78026.31
Transfer/sec:     11.24MB
"""

# Answers every request on its connection with another page.
LIAR = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        sock, _ = server.accept()
        while sock.recv(9999):
            sock.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nno")
"""


@pytest.fixture(scope="module")
def c_server(
    program: Callable[[str], str],
    missing: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The C server, freshly built."""
    program("cc")
    try:
        return build_c(bench.C_SOURCE, tmp_path_factory.mktemp("bench") / "evhttp_server")
    except BenchError as error:
        missing(str(error))


@pytest.fixture
def suite(program: Callable[[str], str], tmp_path: Path) -> bench.Bench:
    """The commands of all servers."""
    program("openssl")
    return bench.Bench(sys.executable, tmp_path)


@pytest.mark.interop
@pytest.mark.parametrize("name", bench.SERVERS)
@pytest.mark.parametrize("row", ["small", "look", "post", "routes", "tls", "file"])
def test_all_servers_answer_what_the_row_wants(
    suite: bench.Bench, row: str, name: str, c_server: Path
) -> None:
    """A peer that is not installed, or has not what the row wants, says so."""
    work = bench.ROWS[row]
    if name in bench.PYTHON_PEERS and not bench.is_installed(name):
        with pytest.raises(BenchError, match=r"is not installed|has no TLS"):
            suite.command(name, work)
        return
    if (work.lacking or {}).get(name) is not None:
        with pytest.raises(BenchError, match=work.lacking[name]):
            suite.command(name, work)
        return
    command = suite.command(name, work)
    if name == bench.LIBEVENT:
        command[0] = c_server
    with serving(command) as server:
        suite.check(server.port, work)


@pytest.mark.interop
@pytest.mark.parametrize("row", ["vary", "look", "post", "pipeline", "routes"])
def test_wrk_sends_what_our_server_answers(
    suite: bench.Bench, program: Callable[[str], str], row: str
) -> None:
    program("wrk")
    work = bench.ROWS[row]
    with serving(suite.command(bench.OURS, work)) as server:
        speed = bench.put_under_load(server, work, 1)
    assert speed.requests_per_s > 0
    assert speed.processor_us > 0 or math.isnan(speed.processor_us)


def test_a_server_that_answers_something_else_is_found_out(tmp_path: Path) -> None:
    suite = bench.Bench(sys.executable, tmp_path)
    with (
        serving([sys.executable, "-c", LIAR]) as server,
        pytest.raises(BenchError, match="answers 200 b'no'"),
    ):
        suite.check(server.port, bench.ROWS["small"])


def test_a_peer_that_is_not_there_stands_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the benchmark wants two cores")
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    suite = bench.Bench(sys.executable, tmp_path)
    figures = suite.measure(bench.ROWS["tls"], ["bjoern", "uvicorn"], 1, 1)
    assert figures.faults == {"bjoern": "has no TLS", "uvicorn": "is not installed"}
    assert list(figures.as_lines()) == [
        "| TLS | bjoern | has no TLS | | | |",
        "| TLS | uvicorn | is not installed | | | |",
    ]


def test_a_fault_of_our_own_server_ends_the_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the benchmark wants two cores")
    suite = bench.Bench(sys.executable, tmp_path)
    monkeypatch.setattr(suite, "command", lambda name, row: [sys.executable, "-c", LIAR])
    with pytest.raises(BenchError, match="evsvc: answers 200 b'no'"):
        suite.measure(bench.ROWS["small"], [bench.OURS], 1, 1)


def test_a_server_that_prints_no_port_is_an_error() -> None:
    with (
        pytest.raises(BenchError, match="printed no port"),
        serving([sys.executable, "-c", "print('no')"]),
    ):
        pytest.fail("the block must not be entered")


def test_the_rate_is_read_from_wrk() -> None:
    assert bench.parse_wrk(WRK_OUTPUT) == 78026.31


@pytest.mark.parametrize(
    "line",
    [
        "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
        "  Non-2xx or 3xx responses: 17\n",
    ],
)
def test_errors_that_wrk_counts_are_errors(line: str) -> None:
    output = WRK_OUTPUT.replace("Requests/sec", line + "Requests/sec")
    with pytest.raises(BenchError, match=line.strip()):
        bench.parse_wrk(output)


def test_the_number_of_requests_is_read_from_wrk() -> None:
    assert bench.count_requests(WRK_OUTPUT) == 319912
    with pytest.raises(BenchError, match="no replies"):
        bench.count_requests(WRK_OUTPUT.replace("319912", "0"))


def test_a_run_without_replies_is_an_error() -> None:
    with pytest.raises(BenchError, match="no replies"):
        bench.parse_wrk(WRK_OUTPUT.replace("78026.31", "0.00"))
    with pytest.raises(BenchError, match="no replies"):
        bench.parse_wrk("")


def test_a_server_that_has_stopped_answering_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    few = WRK_OUTPUT.replace("319912", "64")
    monkeypatch.setattr(bench, "load", lambda port, row, seconds: few)
    with pytest.raises(BenchError, match="stands still: 64 replies in 2 s"):
        bench.put_under_load(Server(0, os.getpid()), bench.ROWS["pipeline"], 2)


def test_the_processor_time_of_a_request_is_user_and_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = iter([(1.0, 2.0), (1.319912, 2.959736)])
    monkeypatch.setattr(Server, "user_and_system_s", lambda self: next(told))
    monkeypatch.setattr(bench, "load", lambda port, row, seconds: WRK_OUTPUT)
    speed = bench.put_under_load(Server(0, 0), bench.ROWS["small"], 4)
    assert speed == pytest.approx((78026.31, 1.0, 3.0))
    assert speed.processor_us == pytest.approx(4.0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux alone tells")
def test_user_and_system_time_are_read() -> None:
    server = Server(0, os.getpid())
    before = server.user_and_system_s()
    now = os.times()
    assert before == pytest.approx((now.user, now.system), abs=0.2)


def test_the_ratio_is_that_of_the_medians_of_the_processor_time() -> None:
    """Ours are 4, 5 and 9 us, theirs 8, 5 and 10; the rounds' own ratios 2, 1 and 1.11."""
    ours = [bench.Speed(100, 1, 3), bench.Speed(90, 2, 3), bench.Speed(50, 4, 5)]
    theirs = [bench.Speed(60, 2, 6), bench.Speed(90, 2, 3), bench.Speed(45, 5, 5)]
    speeds = {bench.OURS: ours, bench.LIBEVENT: theirs}
    figures = bench.Figures(bench.ROWS["small"], speeds, {"bjoern": "stands still"})
    assert figures.median(bench.LIBEVENT) == (60, 2, 5)
    assert figures.ratio(bench.LIBEVENT) == pytest.approx(7 / 5)
    assert figures.ratios(bench.LIBEVENT) == pytest.approx([2, 1, 10 / 9])
    assert list(figures.as_lines()) == [
        "| small reply, one head | evsvc | 90 | 2.0 + 3.0 |  |  |",
        "| small reply, one head | libevent C | 60 | 2.0 + 5.0 | 1.40 | 1.00 to 2.00 |",
        "| small reply, one head | bjoern | stands still | | | |",
    ]
    told = json.loads(json.dumps(figures.as_dict()))
    assert told["servers"]["libevent C"]["ratio"] == pytest.approx(1.4)
    assert told["servers"]["evsvc"]["median"]["requests_per_s"] == 90
    assert told["faults"] == {"bjoern": "stands still"}


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(BenchError, match=r"'no-such-program' is missing .* no-such-package"):
        find_program("no-such-program", "no-such-package")


def test_what_cannot_be_run_is_reported_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--python", "no-such-python"]) == 1
    assert "'no-such-python' is missing" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--rounds", "--seconds"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_numbers_below_one_are_refused(option: str, value: str) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main([option, value])
    assert ended.value.code == 2


@pytest.mark.parametrize("option", ["--rows", "--peers"])
def test_unknown_rows_and_peers_are_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main([option, "small,nothing"])
    assert ended.value.code == 2
    assert "is none of" in capsys.readouterr().err


def test_rows_and_peers_are_chosen_in_their_order() -> None:
    assert bench.chosen(bench.ROWS, "post, small") == ["small", "post"]


def test_the_table_is_printed_as_it_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(
        self: bench.Bench, row: bench.Row, names: list[str], rounds: int, seconds: int
    ) -> bench.Figures:
        return bench.Figures(row, {name: [bench.Speed(1, 2, 3)] for name in names}, {})

    monkeypatch.setattr(bench, "find_program", lambda name, package: name)
    monkeypatch.setattr(bench.Bench, "measure", measured)
    assert bench.main(["--rows", "small,tls", "--peers", "aiohttp"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * 2
    assert lines[-1] == "| TLS | aiohttp | 1 | 2.0 + 3.0 | 1.00 | 1.00 to 1.00 |"
    assert bench.main(["--rows", "small", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"small"}
