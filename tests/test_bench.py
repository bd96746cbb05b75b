"""The hello benchmark: its two servers answer alike, and its driver reads wrk rightly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from bench import http_hello_bench as bench
from bench.tools import BenchError, build_c

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


@pytest.fixture(scope="module")
def c_server(
    program: Callable[[str], str],
    missing: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The C server, freshly built."""
    program("cc")
    try:
        return build_c(bench.C_SOURCE, tmp_path_factory.mktemp("bench") / "evhttp_hello")
    except BenchError as error:
        missing(str(error))


def curl(path: str, port: int) -> str:
    """Return status and body of one request, with the type between them."""
    form = "\n%{http_code} %{content_type}"
    command = [path, "--silent", "--show-error", "--write-out", form, f"http://127.0.0.1:{port}/"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


@pytest.mark.interop
def test_the_c_server_answers_curl(c_server: Path, program: Callable[[str], str]) -> None:
    with bench.running([c_server]) as port:
        assert curl(program("curl"), port) == "Thanks for the request!\n200 text/plain"


@pytest.mark.interop
def test_our_server_answers_curl(program: Callable[[str], str]) -> None:
    with bench.running([sys.executable, bench.PYTHON_PROGRAM]) as port:
        assert curl(program("curl"), port) == "Thanks for the request!\n200 text/plain"


@pytest.mark.interop
def test_both_servers_send_the_same_reply_and_keep_the_connection(c_server: Path) -> None:
    bench.check_same_reply([c_server], [sys.executable, bench.PYTHON_PROGRAM])


def test_a_server_that_prints_no_port_is_an_error() -> None:
    with (
        pytest.raises(BenchError, match="printed no port"),
        bench.running([sys.executable, "-c", "print('no')"]),
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


def test_the_two_ratios() -> None:
    """The columns' medians are 100 and 120; the rounds' own ratios are 1.2, 0.5 and 1.5."""
    summary = bench.Summary(
        (bench.Round(100, 120), bench.Round(200, 100), bench.Round(80, 120)),
        ((4.0, 3.5), (4.5, 3.0), (5.0, 9.0)),
    )
    assert summary.medians == (100, 120)
    assert summary.medians.ratio == pytest.approx(1.2)
    assert summary.median_ratio == pytest.approx(1.2)
    figures = json.loads(summary.as_json())
    assert figures["round_ratios"] == pytest.approx([1.2, 0.5, 1.5])
    assert figures["ratio_of_medians"] == pytest.approx(1.2)
    assert figures["processor_us_per_request"] == {"libevent": 4.5, "evsvc": 3.5}
    table = summary.as_table()
    assert "(from 0.50 to 1.50)" in table
    assert re.search(r"^median +100 +120 +1\.20 +4\.50 +3\.50$", table, re.MULTILINE)


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(BenchError, match=r"'no-such-program' is missing .* no-such-package"):
        bench.find_program("no-such-program", "no-such-package")


def test_what_cannot_be_run_is_reported_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--python", "no-such-python"]) == 1
    assert "'no-such-python' is missing" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--rounds", "--seconds"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_numbers_below_one_are_refused(option: str, value: str) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main([option, value])
    assert ended.value.code == 2
