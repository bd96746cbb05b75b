"""Finalisation: the last callback of an event, after which nothing of it runs any more.

A finalizer is an event of its own, which is active until the loop, or the closing of the base,
calls it; the event that it ends is idle from the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..flags import FINALIZE
from .event import Event

if TYPE_CHECKING:
    from .base import EventBase
    from .event import FinalizeCallback


class Ending(NamedTuple):
    """What is to be called for which event, and whether that closes the event."""

    base: EventBase
    event: Event
    callback: FinalizeCallback
    arg: Any
    closes: bool


def queue_finalizer(ending: Ending) -> None:
    """Have a finalizer run at the priority of its event."""
    base = ending.base
    finalizer = Event(base, -1, 0, _finalize, ending)
    finalizer.rank = ending.event.rank
    base._registry.activate(finalizer, FINALIZE)


def run_finalizers(base: EventBase) -> None:
    """Run the finalizers that wait, and those that they queue, until none is left.

    What they raise goes to the exception handler; without one it is raised when all have run,
    from several as an ExceptionGroup.
    """
    failures: list[Exception] = []
    while pending := [event for event in base._active if event.call is _finalize]:
        for finalizer in pending:
            if not finalizer.is_active:
                continue  # one before it has looked into the base, and deleted it
            base._active.deactivate(finalizer)
            try:
                _finalize(-1, FINALIZE, finalizer.arg)
            except Exception as exc:
                if base.exception_handler is None:
                    failures.append(exc)
                else:
                    base.exception_handler(exc)
    if len(failures) > 1:
        raise ExceptionGroup("finalizers failed", failures)
    if failures:
        raise failures[0]


def _finalize(fd: int, what: int, ending: Ending) -> None:
    ending.base._registry.running = None
    try:
        ending.callback(ending.event, ending.arg)
    finally:
        if ending.closes:
            ending.event.close()
