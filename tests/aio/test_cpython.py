"""CPython's own tests of asyncio and of selectors, run on `EventLoop`."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

SUITE = Path(__file__).with_name("cpython_suite.py")

DEVIATIONS = {
    "SelectorEventLoopSignalTests": "looks at which functions of `signal` asyncio itself calls, "
    "with mocks in their place; signals come by events of the base here",
}
"""What CPython tests and `EventLoop` does otherwise, with the reason; docs/asyncio.md names it."""

MODULES = [
    "loop",
    "selector",
    "test_base_events",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_streams",
    "test_subprocess",
    "test_timeouts",
    "test_unix_events",
]


@pytest.mark.interop
@pytest.mark.no_cover
@pytest.mark.parametrize("module", MODULES)
def test_cpythons_tests_pass_but_for_the_listed_deviations(
    module: str, missing: Callable[[str], NoReturn]
) -> None:
    try:
        importlib.import_module("test.test_asyncio")
    except ModuleNotFoundError:
        missing("this Python came without its own tests")
    done = subprocess.run(
        [sys.executable, str(SUITE), module],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tally = done.stdout.splitlines()[-1]
    print(module, tally)
    assert re.fullmatch(r"ran [1-9]\d* skipped \d+ failed \d+", tally)
    failed = re.findall(r"^NOT PASSED (\S+)$", done.stdout, re.MULTILINE)
    unexpected = [test for test in failed if not any(known in test for known in DEVIATIONS)]
    assert unexpected == [], done.stdout
