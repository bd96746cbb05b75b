"""Measures evsvc's HTTP server against libevent's C evhttp: one small reply, 64 connections.

Each round runs the C server and then ours, alone on one core, under one `wrk` thread on another.
Speed decides nothing here: the exit status is 1 only when a server, a reply or a run is faulty.
docs/benchmarks.md tells how to read the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.tools import (
    ROOT,
    START_LIMIT_S,
    BenchError,
    build_c,
    cores,
    find_program,
    pinned,
    positive,
    serving,
)

C_SOURCE = ROOT / "bench" / "evhttp_hello.c"
PYTHON_PROGRAM = ROOT / "bench" / "http_hello.py"
VARY_SCRIPT = ROOT / "bench" / "vary.lua"

CONNECTIONS = 64
WARM_UP_S = 1

C_NAME = "libevent C"
OUR_NAME = "evsvc"


class Reply(NamedTuple):
    """What the two servers must agree on, byte for byte."""

    status: int
    reason: str
    body: bytes


class Speed(NamedTuple):
    """What one run of wrk says of a server, and what the server's process used meanwhile."""

    requests_per_s: float
    processor_us: float  # user and kernel, for each request


class Round(NamedTuple):
    """Requests per second of both servers, measured one right after the other."""

    libevent: float
    evsvc: float

    @property
    def ratio(self) -> float:
        """How many requests evsvc answers for one of libevent's."""
        return self.evsvc / self.libevent


@dataclass(frozen=True, slots=True)
class Summary:
    """All rounds, and the two ratios that docs/benchmarks.md explains.

    processor_us: of both servers, in each round, for each request.
    """

    rounds: tuple[Round, ...]
    processor_us: tuple[tuple[float, float], ...]

    @property
    def medians(self) -> Round:
        """The median of each column."""
        libevent, evsvc = zip(*self.rounds, strict=True)
        return Round(statistics.median(libevent), statistics.median(evsvc))

    @property
    def median_processor_us(self) -> tuple[float, float]:
        """The median of the processor time of a request, of both servers."""
        libevent, evsvc = zip(*self.processor_us, strict=True)
        return statistics.median(libevent), statistics.median(evsvc)

    @property
    def median_ratio(self) -> float:
        """The median of the rounds' own ratios."""
        return statistics.median(each.ratio for each in self.rounds)

    def as_table(self) -> str:
        """Return the figures as lines for a reader."""
        lines = [
            f"{'':8}{'requests/s':^32}{'CPU us/request':>20}",
            f"{'round':<8}{C_NAME:>12}{OUR_NAME:>12}{'ratio':>8}{C_NAME:>12}{OUR_NAME:>8}",
        ]
        rows = list(zip(self.rounds, self.processor_us, strict=True))
        rows.append((self.medians, self.median_processor_us))
        for label, (each, used) in zip([*range(1, len(rows)), "median"], rows, strict=True):
            lines.append(
                f"{label:<8}{each.libevent:>12,.0f}{each.evsvc:>12,.0f}{each.ratio:>8.2f}"
                f"{used[0]:>12.2f}{used[1]:>8.2f}"
            )
        ratios = [each.ratio for each in self.rounds]
        lines += [
            "",
            f"ratio of medians:           {self.medians.ratio:.2f}",
            f"median of rounds' ratios:   {self.median_ratio:.2f}"
            f"   (from {min(ratios):.2f} to {max(ratios):.2f})",
        ]
        return "\n".join(lines)

    def as_json(self) -> str:
        """Return the figures as one JSON object."""
        figures = {
            "unit": "requests/s",
            "libevent": [each.libevent for each in self.rounds],
            "evsvc": [each.evsvc for each in self.rounds],
            "median": self.medians._asdict(),
            "ratio_of_medians": self.medians.ratio,
            "round_ratios": [each.ratio for each in self.rounds],
            "median_of_round_ratios": self.median_ratio,
            "processor_us_per_request": dict(
                zip(("libevent", "evsvc"), self.median_processor_us, strict=True)
            ),
        }
        return json.dumps(figures, indent=2)


@contextlib.contextmanager
def running(command: Sequence[str | Path]) -> Iterator[int]:
    """Run a server in this block and give the port that it prints; see `serving`."""
    with serving(command) as server:
        yield server.port


def fetch(port: int) -> Reply:
    """Return the server's reply, asked for twice on one connection.

    Raises BenchError when the connection is not kept alive or the second reply differs.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT_S)
    with contextlib.closing(connection):
        replies = []
        for _ in range(2):
            connection.request("GET", "/")
            response = connection.getresponse()
            replies.append(Reply(response.status, response.reason, response.read()))
            if response.will_close:
                raise BenchError("the server does not keep its connections alive")
    if replies[0] != replies[1]:
        raise BenchError(f"two replies to one request differ: {replies[0]} and {replies[1]}")
    return replies[0]


def check_same_reply(libevent: Sequence[str | Path], evsvc: Sequence[str | Path]) -> None:
    """Start each server once.  Raises BenchError unless status, reason and body are the same."""
    with running(libevent) as port:
        expected = fetch(port)
    with running(evsvc) as port:
        found = fetch(port)
    if found != expected or expected.status != http.client.OK:
        raise BenchError(f"the replies differ: {C_NAME} sends {expected}, {OUR_NAME} sends {found}")


def parse_wrk(output: str) -> float:
    """Return wrk's requests per second.  Raises BenchError when it counted errors."""
    faults = re.findall(r"^ *(?:Socket errors|Non-2xx or 3xx responses):.*$", output, re.MULTILINE)
    if faults:
        raise BenchError("wrk counted errors: " + "; ".join(fault.strip() for fault in faults))
    rate = re.search(r"^Requests/sec: +([0-9.]+)$", output, re.MULTILINE)
    if rate is None or float(rate[1]) == 0:
        raise BenchError(f"wrk saw no replies:\n{output.rstrip()}")
    return float(rate[1])


def count_requests(output: str) -> int:
    """Return how many requests wrk made.  Raises BenchError when it does not say."""
    found = re.search(r"^ *([0-9]+) requests in ", output, re.MULTILINE)
    if found is None or not int(found[1]):
        raise BenchError(f"wrk saw no replies:\n{output.rstrip()}")
    return int(found[1])


def load(port: int, seconds: int, vary: bool) -> str:
    """Run wrk against the port and return what it prints.  Raises BenchError when it fails."""
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    if vary:
        options += ["-s", str(VARY_SCRIPT)]
    command = [find_program("wrk", "wrk"), *options, f"http://127.0.0.1:{port}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"wrk failed with {done.returncode}: {done.stderr.rstrip()}")
    return done.stdout


def measure(command: Sequence[str | Path], seconds: int, vary: bool) -> Speed:
    """Start one server on its own core, warm it up, and return how fast it is.

    Raises BenchError when wrk counted errors.
    """
    server_cores, load_cores = cores()
    with contextlib.ExitStack() as stack:
        with pinned(server_cores):
            server = stack.enter_context(serving(command))
        with pinned(load_cores):
            load(server.port, WARM_UP_S, vary)
            before_s = server.processor_s()
            output = load(server.port, seconds, vary)
            used_s = server.processor_s() - before_s
        return Speed(parse_wrk(output), used_s / count_requests(output) * 1e6)


def run(python: str, rounds: int, seconds: int, vary: bool) -> Summary:
    """Check both servers, then measure them in turn.  Raises BenchError when anything is faulty."""
    find_program(python, "python3")
    find_program("wrk", "wrk")
    libevent: list[str | Path] = [build_c(C_SOURCE)]
    evsvc: list[str | Path] = [python, PYTHON_PROGRAM]
    check_same_reply(libevent, evsvc)
    speeds = [
        (measure(libevent, seconds, vary), measure(evsvc, seconds, vary)) for _ in range(rounds)
    ]
    return Summary(
        tuple(Round(theirs.requests_per_s, ours.requests_per_s) for theirs, ours in speeds),
        tuple((theirs.processor_us, ours.processor_us) for theirs, ours in speeds),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 0, or 1 when it could not be run rightly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=positive, default=5, help="rounds (default: 5)")
    parser.add_argument("--seconds", type=positive, default=4, help="per run (default: 4)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter for our server")
    parser.add_argument("--vary", action="store_true", help="no two requests in a row are alike")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    options = parser.parse_args(arguments)
    try:
        summary = run(options.python, options.rounds, options.seconds, options.vary)
    except BenchError as error:
        print(f"http_hello_bench: {error}", file=sys.stderr)
        return 1
    print(summary.as_json() if options.json else summary.as_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
