"""Notices when the file of a loaded module changes, so that new code can come in."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..core import EV_PERSIST, Event
from ..core.checks import require_callable
from ..core.closing import Closing

if TYPE_CHECKING:
    from ..core import EventBase

logger = logging.getLogger("evsvc.workers")

LOOK_S: Final = 1.0
"""How often the files are looked at; a thousand of them take some milliseconds."""

Stamp = tuple[int, int]


class ModuleWatch(Closing):
    """Calls `changed()` when a file has changed of a module that is loaded in this process.

    From the loop, `look_s` seconds later at the most, each time anew; modules that are loaded later
    are watched, too.  Raises ArgumentTypeError for what cannot be called, ArgumentError for a time
    that is negative.
    """

    __slots__ = ("_changed", "_event", "_stamps")

    def __init__(
        self, base: EventBase, changed: Callable[[], object], *, look_s: float = LOOK_S
    ) -> None:
        require_callable(changed)
        self._changed = changed
        self._stamps: dict[str, Stamp | None] = {}
        self._event = Event(base, -1, EV_PERSIST, self._on_time)
        self._event.add(look_s)
        self._look()

    def close(self) -> None:
        """Watch no more.  Safe to repeat."""
        self._event.close()

    def _on_time(self, fd: int, what: int, arg: object) -> None:
        changed = self._look()
        if changed:
            logger.info("changed: %s", ", ".join(changed))
            self._changed()

    def _look(self) -> list[str]:
        """Return the files that are not as they were, and know all as they are."""
        changed = []
        for module in tuple(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if not isinstance(path, str):
                continue
            stamp = _stamp_of(path)
            if self._stamps.setdefault(path, stamp) != stamp:
                self._stamps[path] = stamp
                changed.append(path)
        return changed


def _stamp_of(path: str) -> Stamp | None:
    """Return what changes with a file; None where there is none, as while it is replaced."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
