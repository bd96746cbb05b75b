"""CPython's own asyncio tests on `EventLoop`, as a program: python cpython_suite.py MODULE...

Each loop that they make (by name, by policy, by `asyncio.run`) is one of ours.  "loop" is their
suite for any loop, and "selector" the one for any selector.  A test that fails runs once more, as
CPython's own runner does, because some measure time.  The last line is the tally.
"""

from __future__ import annotations

import asyncio
import sys
import unittest
from typing import Any

from test import test_selectors
from test.test_asyncio import test_events, utils

from evsvc.aio import EventLoop
from evsvc.aio.selector import BaseSelector
from evsvc.core import EventBase


class OwnBaseSelector(BaseSelector):
    """A selector that closes its base, for tests that know of none."""

    def __init__(self) -> None:
        self._own_base = EventBase()
        super().__init__(self._own_base, lambda: None)

    def close(self) -> None:
        super().close()
        self._own_base.close()


class NamedLoop(EventLoop):
    """What stands under asyncio's names: some tests make theirs with a selector, and ours has its
    own."""

    def __init__(self, selector: object = None) -> None:
        super().__init__()


class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = EventLoop


class LoopTests(
    test_events.UnixEventLoopTestsMixin, test_events.SubprocessTestsMixin, utils.TestCase
):
    def create_event_loop(self) -> EventLoop:
        return EventLoop()


class SelectorTests(test_selectors.BaseSelectorTestCase, unittest.TestCase):
    SELECTOR = OwnBaseSelector


def load(name: str) -> unittest.TestSuite:
    loader = unittest.defaultTestLoader
    if name == "loop":
        return loader.loadTestsFromTestCase(LoopTests)
    if name == "selector":
        return loader.loadTestsFromTestCase(SelectorTests)
    return loader.loadTestsFromName(f"test.test_asyncio.{name}")


def run(suite: unittest.TestSuite) -> tuple[unittest.TestResult, list[Any]]:
    """Run tests; return the result, and the tests that did not pass."""
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=0).run(suite)
    return result, [test for test, _ in (*result.failures, *result.errors)]


def main(names: list[str]) -> None:
    asyncio.SelectorEventLoop = NamedLoop  # type: ignore[misc]  # that is the trick
    asyncio.EventLoop = NamedLoop  # type: ignore[misc]  # from Python 3.13 on
    asyncio.set_event_loop_policy(Policy())
    result, failed = run(unittest.TestSuite(load(name) for name in names))
    # By name: a suite forgets the tests that it has run, and a test may have changed itself.
    again = [type(test)(test._testMethodName) for test in failed if hasattr(test, "assertEqual")]
    lost = [test for test in failed if not hasattr(test, "assertEqual")]  # modules, classes
    lost += run(unittest.TestSuite(again))[1]
    for test in lost:
        print("NOT PASSED", test.id())
    print(f"ran {result.testsRun} skipped {len(result.skipped)} failed {len(lost)}")


if __name__ == "__main__":
    main(sys.argv[1:])
