"""The echo benchmark: its servers echo, its client tells who does not, its table hides no noise."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from bench import echo_bench as bench
from bench.tools import BenchError, build_c, most_descriptors, serving

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="Linux alone tells what a process used"
)

# Answers every message with another one of its length.
LIAR = """
import contextlib, socket
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        sock, _ = server.accept()
        with sock, contextlib.suppress(ConnectionError):
            while data := sock.recv(99):
                sock.send(data.swapcase())
"""


def client(
    server: tuple[int, int], connections: int, trips: int
) -> subprocess.CompletedProcess[str]:
    numbers = (*server, connections, trips)
    command = [sys.executable, str(bench.CLIENT_PROGRAM), *map(str, numbers)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def figures(done: subprocess.CompletedProcess[str]) -> bench.Figures:
    assert done.returncode == 0, done.stderr
    return bench.Figures(*(float(figure) for figure in done.stdout.split()))


@pytest.fixture(scope="module")
def c_server(
    program: Callable[[str], str],
    missing: Callable[[str], NoReturn],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The C server, freshly built."""
    program("cc")
    try:
        return build_c(bench.C_SOURCE, tmp_path_factory.mktemp("bench") / "echo")
    except BenchError as error:
        missing(str(error))


@pytest.mark.interop
def test_the_c_server_echoes(c_server: Path) -> None:
    with serving([c_server]) as server:
        assert figures(client(server, 70, 3)).trips_per_s > 0


@pytest.mark.parametrize("kind", bench.python_kinds().values())
def test_the_python_servers_echo(kind: str) -> None:
    """With more connections than are in flight, and more than one batch of them."""
    with serving([sys.executable, bench.PYTHON_PROGRAM, kind]) as server:
        measured = figures(client(server, 70, 3))
    assert measured.trip_us > 0
    assert measured.trips_per_s > 0


def test_a_server_that_echoes_something_else_is_found_out() -> None:
    with serving([sys.executable, "-c", LIAR]) as server:
        done = client(server, 1, 1)
    assert done.returncode == 1
    assert "the server echoed b'0123456789ABCDEF" in done.stderr


def test_a_faulty_server_ends_the_benchmark() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the benchmark wants two cores")
    with pytest.raises(BenchError, match="the server echoed"):
        bench.measure([sys.executable, "-c", LIAR], 1, 1, {})


def test_servers_get_the_allocator_that_was_asked_for() -> None:
    program = (
        "import os, signal; print(os.environ['MALLOC_TRIM_THRESHOLD_'], flush=True); signal.pause()"
    )
    with serving([sys.executable, "-c", program], {"MALLOC_TRIM_THRESHOLD_": "4711"}) as server:
        assert server.port == 4711


def test_the_table_shows_medians_and_the_range_around_them() -> None:
    """One odd run does not move a median, and is not hidden by it either.

    A ratio above 1 would say that evsvc is cheaper.
    """
    ours = [bench.Figures(3000, each, 1000) for each in (8.0, 30.0, 7.0)]
    theirs = [bench.Figures(1000, 4.0, 2000)] * 3
    c_row, our_row = bench.table({bench.C_NAME: theirs, "evsvc": ours}).splitlines()[1:]
    assert "4.00 (4.00-4.00)   0.50" in c_row
    assert "3,000" in our_row
    assert "8.00 (7.00-30.00)   1.00" in our_row


def test_the_limit_on_descriptors_is_put_back() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with most_descriptors() as most:
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, before[1])
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.parametrize("option", ["--rounds", "--connections", "--trips"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_numbers_below_one_are_refused(option: str, value: str) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main([option, value])
    assert ended.value.code == 2


@pytest.mark.interop
def test_a_small_run_prints_a_row_for_each(
    c_server: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the benchmark wants two cores")
    assert bench.main(["--rounds", "1", "--connections", "20", "--trips", "2"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in (bench.C_NAME, *bench.python_kinds()))


def test_ten_thousand_connections_are_echoed_to() -> None:
    """All at once, each with two messages; the client checks every byte.  Fewer outside of CI."""
    wanted = 10_000 if os.environ.get("CI") else 1_000
    command = [sys.executable, bench.PYTHON_PROGRAM, "evsvc"]
    with most_descriptors() as most, serving(command) as server:
        assert most > wanted + bench.SPARE_DESCRIPTORS, "`ulimit -Hn` is too low for this test"
        measured = figures(client(server, wanted, 2))
    assert 0 < measured.idle_bytes < 8192
