"""Forked children for tests."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

# Only ever reached when something is broken.
PATIENCE_S = 20


def fork_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child, which then exits, with 0 when that raised nothing.

    Returns the child's process id.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(PATIENCE_S)
            work()
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def exit_code(pid: int) -> int:
    """Wait for a child; the number of the signal that ended it is negative."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child and return its exit code: 0 when it raised nothing."""
    return exit_code(fork_child(work))
