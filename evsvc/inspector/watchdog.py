"""Watchdog: tells where the loop is when a callback holds it for too long.

A thread of its own looks now and then, as the loop cannot while it is held.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from time import monotonic
from typing import TYPE_CHECKING

from ..core import ArgumentError, CheckWatcher, PrepareWatcher
from ..core.closing import Closing

if TYPE_CHECKING:
    from ..core import EventBase

log = logging.getLogger("evsvc.inspector")


class Watchdog(Closing):
    """Logs the stack of a pass of the loop that has not waited for `too_long_s`, once each pass.

    The time counts by the system's clock, whatever clock the base has.  It looks twice in
    `too_long_s`, so it tells at the latest after one and a half.  A thread of its own is kept while
    it is open; the loop pays a call before and after each wait.

    Raises ArgumentError for a time that is not positive, and what a watcher raises.
    """

    __slots__ = (
        "_base",
        "_busy_since",
        "_loop_thread",
        "_stop",
        "_thread",
        "_told",
        "_watchers",
        "too_long_s",
    )

    def __init__(self, base: EventBase, too_long_s: float = 0.5) -> None:
        if not too_long_s > 0:
            raise ArgumentError(f"too_long_s must be positive: {too_long_s!r}")
        self.too_long_s = too_long_s
        self._base = base
        self._busy_since: float | None = None
        self._loop_thread = 0
        self._told = False
        self._watchers = (
            PrepareWatcher(base, self._before_wait),
            CheckWatcher(base, self._after_wait),
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="evsvc watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no more, and wait for the thread to end.  Safe to repeat."""
        for watcher in self._watchers:
            watcher.close()
        self._busy_since = None
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _before_wait(self, watcher: object, info: object, arg: object) -> None:
        self._busy_since = None

    def _after_wait(self, watcher: object, info: object, arg: object) -> None:
        self._loop_thread = threading.get_ident()
        self._told = False
        self._busy_since = monotonic()

    def _watch(self) -> None:
        while not self._stop.wait(self.too_long_s / 2):
            since = self._busy_since
            if since is None or self._told or not self._base.reactor.looping:
                continue
            held_s = monotonic() - since
            frame = sys._current_frames().get(self._loop_thread)
            # The pass may have ended meanwhile, and the stack be another's.
            if held_s >= self.too_long_s and frame is not None and self._busy_since == since:
                self._told = True
                stack = "".join(traceback.format_stack(frame))
                log.warning("the loop is held for %.2f s already, here:\n%s", held_s, stack)
