"""What every room's tests share: Hypothesis profiles and the programs that others wrote."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# A deadline per example measures the machine's load, not our code; so does `too_slow`.
# CI repeats the same examples on every run; a developer's machine looks for new ones.
_UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _UNTIMED, derandomize=True, print_blob=True, database=None)
settings.register_profile("dev", _UNTIMED)
settings.load_profile("ci" if os.environ.get("CI") or os.environ.get("EVSVC_CI") else "dev")

# A shell starts its background jobs with SIGINT ignored, and every child of ours would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Take the suite itself out of the collector's sight.

    It is a million objects, and each test that collects or counts them would go through all.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """Return `missing(reason)`: skips the test, or fails it when EVSVC_REQUIRE_INTEROP=1."""

    def skip_or_fail(reason: str) -> NoReturn:
        if os.environ.get("EVSVC_REQUIRE_INTEROP") == "1":
            pytest.fail(f"{reason}, and EVSVC_REQUIRE_INTEROP=1 requires it", pytrace=False)
        pytest.skip(reason)

    return skip_or_fail


@pytest.fixture(scope="session")
def program(missing: Callable[[str], NoReturn]) -> Callable[[str], str]:
    """Return `program(name)`: the path of a system program; `missing` decides when it is absent."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            missing(f"the program {name!r} is not installed")
        return path

    return find


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests ran and how many did not, even when none was skipped."""
    outcomes = terminalreporter.stats
    ran = sum(len(outcomes.get(outcome, ())) for outcome in ("passed", "failed", "error"))
    terminalreporter.write_line(f"{ran} tests ran, {len(outcomes.get('skipped', ()))} were skipped")
