"""What the benchmarks share: building the C peers, pinning to cores, complaining clearly."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import resource
import select
import shlex
import shutil
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "bench" / "build"

START_LIMIT_S = 10.0
STOP_LIMIT_S = 5.0


class BenchError(Exception):
    """The benchmark cannot be run, or a server answered wrongly; the message is for the user."""


def find_program(name: str, package: str) -> str:
    """Return the path of a program.  Raises BenchError with the Debian package that brings it."""
    path = shutil.which(name)
    if path is None:
        raise BenchError(f"the program {name!r} is missing (Debian, Ubuntu: apt install {package})")
    return path


def package_flags(*packages: str) -> list[str] | None:
    """Return what the compiler needs for some packages, by pkg-config; None where it cannot say."""
    if shutil.which("pkg-config") is None:
        return None
    command = ["pkg-config", "--cflags", "--libs", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return shlex.split(done.stdout) if done.returncode == 0 else None


def libevent_flags() -> list[str]:
    """Return what the compiler needs for libevent: pkg-config's word, else plain `-levent`.

    Where OpenSSL is there, too, WITH_TLS is defined.
    """
    with_tls = package_flags("libevent", "libevent_openssl", "openssl")
    if with_tls is not None:
        return ["-DWITH_TLS", *with_tls]
    return package_flags("libevent") or ["-levent"]


def build_c(source: Path, program: Path | None = None) -> Path:
    """Compile a C program when its source is newer, and return the program's path.

    Raises BenchError when there is no compiler, or when it fails, as without libevent's headers.
    """
    program = program or BUILD / source.stem
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = find_program("cc", "gcc libc6-dev")
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source)]
    done = subprocess.run(command + libevent_flags(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        hint = "is libevent missing? (Debian, Ubuntu: apt install libevent-dev)"
        raise BenchError(f"cannot build {source.name}; {hint}\n{done.stderr.rstrip()}")
    return program


def cores() -> tuple[set[int], set[int]]:
    """Return the cores of the server and of the load; all for both where none can be chosen.

    Raises BenchError when the machine grants a single core: the two would measure each other.
    """
    if not hasattr(os, "sched_setaffinity"):
        everywhere = set(range(os.cpu_count() or 1))
        return everywhere, everywhere
    granted = sorted(os.sched_getaffinity(0))
    if len(granted) < 2:
        raise BenchError("two cores are needed: one for the server, one for the load")
    return {granted[0]}, {granted[-1]}


@contextlib.contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """Let the programs started in this block inherit `to` as their cores, where that can be set."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Server(NamedTuple):
    """A server that runs: where it listens, and its process."""

    port: int
    pid: int

    def processor_s(self) -> float:
        """Return how long it has run on a processor, in user and kernel mode.

        Linux alone tells; elsewhere it is not a number.
        """
        try:
            text = Path("/proc", str(self.pid), "schedstat").read_text("ascii")
        except FileNotFoundError:
            return math.nan
        return int(text.split()[0]) / 1e9

    def user_and_system_s(self) -> tuple[float, float]:
        """Return how long all its threads have run in user mode, and in the kernel for it.

        Linux alone tells, in steps of mostly 10 ms; elsewhere they are not numbers.
        """
        try:
            text = Path("/proc", str(self.pid), "stat").read_text("utf-8")
        except FileNotFoundError:
            return math.nan, math.nan
        user, system = text.rpartition(")")[2].split()[11:13]
        ticks = os.sysconf("SC_CLK_TCK")
        return int(user) / ticks, int(system) / ticks


class Speed(NamedTuple):
    """What a run of load says of a server, and what the server's process used for a request."""

    requests_per_s: float
    user_us: float
    system_us: float

    @property
    def processor_us(self) -> float:
        """User and kernel together."""
        return self.user_us + self.system_us


def median_speed(speeds: Sequence[Speed]) -> Speed:
    """Return the median of each figure."""
    return Speed(*map(statistics.median, zip(*speeds, strict=True)))


def cost_ratios(theirs: Sequence[Speed], ours: Sequence[Speed]) -> list[float]:
    """Return how often the CPU time of a request of theirs holds ours, round by round."""
    return [their.processor_us / our.processor_us for their, our in zip(theirs, ours, strict=True)]


@contextlib.contextmanager
def serving(
    command: Sequence[str | Path], settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server in this block, once it has printed its port; it is ended by its pid.

    settings: what its environment has besides ours.  Raises BenchError when it prints none within
    START_LIMIT_S, or ends before the block does.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(settings or {})}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None  # PIPE was asked for
            ready, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
            line = process.stdout.readline().strip() if ready else ""
            if not line.isdigit():
                raise BenchError(f"{command[-1]} did not start: it printed no port")
            yield Server(int(line), process.pid)
            if process.poll() is not None:
                raise BenchError(f"{command[-1]} ended by itself, with {process.returncode}")
        finally:
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def most_descriptors() -> Iterator[int]:
    """Let this block, and the programs started in it, open as many files as may be: how many."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def positive(text: str) -> int:
    """Read a command-line number that must be at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number
