"""Event debug mode: finds misuse of events that is otherwise quiet until it hurts.

It finds the use of an event that was unassigned, a blocking descriptor given to an event, and
events that would watch one descriptor level-triggered and edge-triggered at once.  Assigning a
pending event anew, and adding a closed one, raise without it, too.
"""

from __future__ import annotations

import os

from .errors import ArgumentError, DebugError, StateError


class _Mode:
    """Whether debug mode is on, and whether it is too late for it."""

    __slots__ = ("enabled", "too_late")

    def __init__(self) -> None:
        self.enabled = self.too_late = False


_mode = _Mode()


def enable_debug_mode() -> None:
    """Look for misuse in every base of this process; call it before the first is made.

    Raises StateError when a base was made already, or debug mode is on.
    Source: event_enable_debug_mode.
    """
    if _mode.enabled:
        raise StateError("debug mode is on already")
    if _mode.too_late:
        raise StateError("debug mode begins before the first event base is made")
    _mode.enabled = True


def note_new_base() -> bool:
    """Return whether a base that is being made is to look for misuse."""
    _mode.too_late = True
    return _mode.enabled


def require_nonblocking(fd: int) -> None:
    """Raise DebugError for a blocking descriptor, ArgumentError for one that is not open."""
    if fd < 0:
        return
    try:
        blocks = os.get_blocking(fd)
    except OSError as exc:
        raise ArgumentError(f"descriptor {fd}: {exc.strerror}") from exc
    if blocks:
        raise DebugError(f"descriptor {fd} is blocking")
