"""The life of a worker's process, from the fork to its exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from ..core import EventBase
from .roster import SETUP_FAILED
from .worker import Worker

if TYPE_CHECKING:
    from .listening import SlotSockets
    from .options import WorkerOptions

logger = logging.getLogger("evsvc.workers")

SetupCallback = Callable[[Worker], object]
"""Called as `setup(worker)` in each worker's process, before its loop runs."""

FAILED: Final = 1
"""The exit code of a worker whose loop an exception has ended."""

TERMINAL_SIGNALS: Final = (signal.SIGINT, signal.SIGHUP)
"""A terminal sends them to all of its processes; what follows is the supervisor's to say."""

HELD_SIGNALS: Final = (*TERMINAL_SIGNALS, signal.SIGTERM)
"""Blocked around a fork, until the child has its own ways with them."""


def live(
    number: int,
    sockets: SlotSockets,
    channel: socket.socket,
    setup: SetupCallback,
    options: WorkerOptions,
) -> NoReturn:
    """Be a worker, and end the process.  The signals are blocked, and nothing of the parent's is
    open but what is given."""
    code = FAILED
    try:
        code = _work(number, sockets, channel, setup, options)
    except BaseException:
        logger.critical("worker %d is ended by an exception", number, exc_info=True)
    finally:
        # The handlers of the parent's exit, and its objects, are not ours to end.
        with contextlib.suppress(OSError, ValueError):
            logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)


def _work(
    number: int,
    sockets: SlotSockets,
    channel: socket.socket,
    setup: SetupCallback,
    options: WorkerOptions,
) -> int:
    base = EventBase()
    base.exception_handler = _log_exception
    worker = Worker(base, number, sockets, channel, options)
    for signum in TERMINAL_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    base.signal(signal.SIGTERM, lambda *event: worker.stop()).add()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_SIGNALS)
    try:
        setup(worker)
    except BaseException as exc:
        if worker.is_stopping and isinstance(exc, Exception):
            logger.info("worker %d: stopped in its setup: %r", number, exc)
            return 0
        logger.critical("worker %d: its setup failed", number, exc_info=True)
        return SETUP_FAILED
    worker.run()
    return 0


def _log_exception(exc: Exception) -> None:
    logger.error("a callback failed", exc_info=exc)
