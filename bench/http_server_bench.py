"""Measures evsvc's HTTP server beside libevent C, bjoern, uvicorn and aiohttp, in rows of work.

Each row starts its servers alone on one core, and puts them under load in turn, round by round: one
`wrk` thread on another core with 64 kept-alive connections.  Speed decides nothing here: the exit
status is 1 only when our server, a reply of it or a run against it is faulty; what a peer has not,
or breaks at, stands in its row.  docs/benchmarks.md tells how to read the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import json
import re
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.compare import make_certificate
from bench.tools import (
    ROOT,
    START_LIMIT_S,
    BenchError,
    Server,
    Speed,
    build_c,
    cores,
    cost_ratios,
    find_program,
    median_speed,
    pinned,
    positive,
    serving,
)

C_SOURCE = ROOT / "bench" / "evhttp_server.c"
PYTHON_PROGRAM = ROOT / "bench" / "http_server.py"
PEER_PROGRAM = ROOT / "bench" / "http_peers.py"
LOAD_SCRIPT = ROOT / "bench" / "requests.lua"

CONNECTIONS = 64
WARM_UP_S = 1
FILE_BYTES = 1 << 20

OURS, LIBEVENT = "evsvc", "libevent C"
# Each runs on what makes it fast.
MODULES = {
    "bjoern": ("bjoern",),
    "uvicorn": ("uvicorn", "uvloop", "httptools"),
    "aiohttp": ("aiohttp", "uvloop"),
}
PYTHON_PEERS = tuple(MODULES)
SERVERS = (OURS, LIBEVENT, *PYTHON_PEERS)

HELLO = b"Thanks for the request!"
POSTED = b"0123456789abcdef" * 256
FIELDS = {"User-Agent": "bench", "Accept-Language": "en"}

Command = list[str | Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A kind of work.

    kind: what the servers are told.  load: what `requests.lua` is told; without it wrk asks for
    `path` again and again.  lacking: what a server has not, by its name.
    """

    title: str
    kind: str = "hello"
    load: str = ""
    path: str = "/"
    lacking: Mapping[str, str] | None = None


ROWS = {
    "small": Row(title="small reply, one head"),
    "vary": Row(title="heads that vary", load="vary"),
    "browser": Row(title="browser-like heads that vary", load="browser"),
    "look": Row(title="the same, two fields looked at", kind="look", load="browser"),
    "post": Row(title="POST of 4 KiB, echoed", kind="echo", load="post"),
    "pipeline": Row(title="16 pipelined", load="pipeline"),
    "routes": Row(title="1,000 routes", kind="routes", load="routes", path="/route/7"),
    "tls": Row(title="TLS", kind="tls", lacking={"bjoern": "has no TLS"}),
    "file": Row(title="1 MiB file", kind="file", path="/file.txt"),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What a row has shown: the rounds of each server, or why there are none."""

    row: Row
    speeds: Mapping[str, Sequence[Speed]]
    faults: Mapping[str, str]

    def median(self, name: str) -> Speed:
        """The median of each figure of a server."""
        return median_speed(self.speeds[name])

    def ratios(self, name: str) -> list[float]:
        """How often the CPU time of a server holds ours, in each round."""
        return cost_ratios(self.speeds[name], self.speeds[OURS])

    def ratio(self, name: str) -> float:
        """The ratio of the medians."""
        return self.median(name).processor_us / self.median(OURS).processor_us

    def as_lines(self) -> Iterator[str]:
        """The lines of a Markdown table, as TABLE_HEAD names their columns."""
        for name in (*self.speeds, *self.faults):
            if name in self.faults:
                yield f"| {self.row.title} | {name} | {self.faults[name]} | | | |"
                continue
            speed, ratios = self.median(name), self.ratios(name)
            ratio = "" if name == OURS else f"{self.ratio(name):.2f}"
            rounds = "" if name == OURS else f"{min(ratios):.2f} to {max(ratios):.2f}"
            yield (
                f"| {self.row.title} | {name} | {speed.requests_per_s:,.0f} "
                f"| {speed.user_us:.1f} + {speed.system_us:.1f} | {ratio} | {rounds} |"
            )

    def as_dict(self) -> dict[str, object]:
        """The same for JSON, with all rounds."""
        measured = {
            name: {
                "rounds": [speed._asdict() for speed in speeds],
                "median": self.median(name)._asdict(),
                "ratio": self.ratio(name),
                "round_ratios": self.ratios(name),
            }
            for name, speeds in self.speeds.items()
        }
        return {"title": self.row.title, "servers": measured, "faults": dict(self.faults)}


TABLE_HEAD = """\
| work | server | requests/s | CPU us/request, user + kernel | ratio | in a round |
| --- | --- | --- | --- | --- | --- |"""


def is_installed(peer: str) -> bool:
    """Tell whether a peer is there, with what it runs on."""
    return all(importlib.util.find_spec(each) is not None for each in MODULES[peer])


class Bench:
    """The commands of all servers, for this machine.

    python: the interpreter that runs our server.  folder: where the served file and the
    certificate are put.
    """

    def __init__(self, python: str, folder: Path) -> None:
        self._python = python
        self._file = folder / "served" / "file.txt"
        self._file.parent.mkdir()
        self._file.write_bytes(b"0123456789abcdef" * (FILE_BYTES // 16))
        self._certificate = folder / "localhost.pem"
        self._folder = folder

    def command(self, name: str, row: Row) -> Command:
        """Return how a server is started for a row.  Raises BenchError with what is missing."""
        if row.lacking and name in row.lacking:
            raise BenchError(row.lacking[name])
        command: Command
        if name == OURS:
            command = [self._python, PYTHON_PROGRAM]
        elif name == LIBEVENT:
            command = [build_c(C_SOURCE)]
        elif not is_installed(name):
            raise BenchError("is not installed")
        else:
            command = [sys.executable, PEER_PROGRAM, name]
        command.append(row.kind)
        if row.kind == "file":
            command.append(self._file)
        elif row.kind == "tls":
            if not self._certificate.exists():
                make_certificate(self._folder)
            command.append(self._certificate)
        return command

    def check(self, port: int, row: Row) -> None:
        """Ask twice on one connection.  Raises BenchError unless both replies are as they must be,
        and the connection is kept alive."""
        connection: http.client.HTTPConnection
        if row.kind == "tls":
            trusting = ssl.create_default_context(cafile=self._certificate)
            connection = http.client.HTTPSConnection(
                "localhost", port, timeout=START_LIMIT_S, context=trusting
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT_S)
        expected = HELLO
        if row.kind == "file":
            expected = self._file.read_bytes()
        elif row.kind == "echo":
            expected = POSTED
        with contextlib.closing(connection):
            for _ in range(2):
                if row.kind == "echo":
                    connection.request("POST", row.path, POSTED, FIELDS)
                else:
                    connection.request("GET", row.path, headers=FIELDS)
                response = connection.getresponse()
                body = response.read()
                if response.status != http.client.OK or body != expected:
                    raise BenchError(f"answers {response.status} {body[:80]!r}")
                if response.will_close:
                    raise BenchError("does not keep its connections alive")

    def measure(self, row: Row, names: Sequence[str], rounds: int, seconds: int) -> Figures:
        """Measure a row.  Raises BenchError when our own server is faulty."""
        speeds: dict[str, list[Speed]] = {}
        faults: dict[str, str] = {}
        servers: dict[str, Server] = {}
        server_cores, load_cores = cores()
        with contextlib.ExitStack() as stack:
            for name in names:
                try:
                    with pinned(server_cores):
                        servers[name] = stack.enter_context(serving(self.command(name, row)))
                    self.check(servers[name].port, row)
                    with pinned(load_cores):
                        load(servers[name].port, row, WARM_UP_S)
                except (BenchError, OSError, http.client.HTTPException) as fault:
                    _tell(name, fault, faults)
                else:
                    speeds[name] = []
            for _ in range(rounds):
                for name in list(speeds):
                    try:
                        with pinned(load_cores):
                            speeds[name].append(put_under_load(servers[name], row, seconds))
                    except BenchError as fault:
                        _tell(name, fault, faults)
                        del speeds[name]
        return Figures(row, speeds, faults)


def _tell(name: str, fault: Exception, faults: dict[str, str]) -> None:
    if name == OURS:
        raise BenchError(f"{name}: {fault}") from fault
    faults[name] = str(fault).partition("\n")[0].replace("|", "/")


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


def load(port: int, row: Row, seconds: int) -> str:
    """Run wrk against the port and return what it prints.  Raises BenchError when it fails."""
    scheme = "https" if row.kind == "tls" else "http"
    command = [find_program("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    if row.load:
        command += ["-s", str(LOAD_SCRIPT)]
    command += [f"{scheme}://127.0.0.1:{port}{row.path}", "--", row.load]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"wrk failed with {done.returncode}: {done.stderr.rstrip()}")
    return done.stdout


def put_under_load(server: Server, row: Row, seconds: int) -> Speed:
    """Return how fast a server is.  Raises BenchError when wrk counted errors, or replies end."""
    before = server.user_and_system_s()
    output = load(server.port, row, seconds)
    after = server.user_and_system_s()
    requests = count_requests(output)
    if requests < 2 * CONNECTIONS * seconds:  # one each has come of the first sixteen
        raise BenchError(f"stands still: {requests} replies in {seconds} s")
    user_us, system_us = (
        (end - start) / requests * 1e6 for start, end in zip(before, after, strict=True)
    )
    return Speed(parse_wrk(output), user_us, system_us)


def chosen(known: Mapping[str, object] | Sequence[str], text: str) -> list[str]:
    """Read a list of names, separated by commas, in the order that is known."""
    wanted = [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return [name for name in known if name in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 0, or 1 when it could not be run rightly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=positive, default=3, help="rounds (default: 3)")
    parser.add_argument("--seconds", type=positive, default=2, help="per run (default: 2)")
    parser.add_argument(
        "--rows",
        type=lambda text: chosen(ROWS, text),
        default=list(ROWS),
        help=f"some of {', '.join(ROWS)} (default: all)",
    )
    parser.add_argument(
        "--peers",
        type=lambda text: chosen(SERVERS[1:], text),
        default=list(SERVERS[1:]),
        help=f"some of {', '.join(SERVERS[1:])} (default: all)",
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter for our server")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    options = parser.parse_args(arguments)
    found: dict[str, object] = {}
    try:
        find_program(options.python, "python3")
        find_program("wrk", "wrk")
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(options.python, Path(folder))
            if not options.json:
                print(TABLE_HEAD)
            for key in options.rows:
                names = [OURS, *options.peers]
                figures = bench.measure(ROWS[key], names, options.rounds, options.seconds)
                found[key] = figures.as_dict()
                if not options.json:
                    print("\n".join(figures.as_lines()), flush=True)
    except BenchError as error:
        print(f"http_server_bench: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
