"""How a command that serves is stopped by signals: gracefully, or at once when asked again."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .core import EventBase

logger = logging.getLogger("evsvc")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

TOGETHER_S: Final = 0.5
"""Signals that come so soon after the first are one with it: as when a terminal and `make` both
pass a Ctrl-C on."""


class StopSignals:
    """Hears SIGINT and SIGTERM on a base, until `close`.

    stop: called at the first, to stop gracefully.  cut: at the first that comes later than
    TOGETHER_S behind it, to end all at once; further ones are not heard.  hurried: whether `cut`
    was called.

    From here on neither signal does what it does by default, also behind `close`: the process is
    about to end in order.
    """

    __slots__ = ("_base", "_cut", "_events", "_first_at", "_stop", "hurried")

    def __init__(
        self, base: EventBase, stop: Callable[[], object], cut: Callable[[], object]
    ) -> None:
        self._base = base
        self._stop = stop
        self._cut = cut
        self._first_at: float | None = None
        self.hurried = False
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_IGN)  # what the base restores when it is closed
        self._events = [base.signal(signum, self._on_signal) for signum in SIGNALS]
        for event in self._events:
            event.add()

    def close(self) -> None:
        """Hear them no more, so that the loop can end.  Safe to repeat."""
        for event in self._events:
            event.close()

    def _on_signal(self, signum: int, what: int, arg: object) -> None:
        name = signal.Signals(signum).name
        now = self._base.gettime_monotonic()
        if self._first_at is None:
            self._first_at = now
            logger.info("%s: stopping; once more ends it at once", name)
            self._stop()
        elif now - self._first_at > TOGETHER_S and not self.hurried:
            self.hurried = True
            logger.warning("%s: ending at once", name)
            self._cut()
