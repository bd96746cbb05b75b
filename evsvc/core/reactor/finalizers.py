"""Finalisation: the last callback of an event, after which nothing of it runs any more.

A finalizer is an event of its own, which is active until the loop, or the closing of the base,
calls it; the event that it ends is idle from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..flags import FINALIZE

if TYPE_CHECKING:
    from .record import EventRecord
    from .registry import Registry


class Ending(NamedTuple):
    """What is called for which event, `callback(event, arg)`, and what closes it after that."""

    registry: Registry
    event: EventRecord
    callback: Callable[[Any, Any], object]
    arg: Any
    close: Callable[[], object] | None


def queue_finalizer(finalizer: EventRecord, ending: Ending) -> None:
    """Have a new event with the callback `finalize` run at the priority of the one it ends."""
    ending.registry.active.adopt(finalizer, ending.event.rank)
    ending.registry.activate(finalizer, FINALIZE)


def run_finalizers(registry: Registry, handler: Callable[[Exception], object] | None) -> None:
    """Run the finalizers that wait, and those that they queue, until none is left.

    What they raise goes to the exception handler; without one it is raised when all have run,
    from several as an ExceptionGroup.
    """
    active = registry.active
    failures: list[Exception] = []
    while pending := [event for event in active if event.call is finalize]:
        for finalizer in pending:
            if not finalizer.is_active:
                continue  # one before it has looked into the base, and deleted it
            active.deactivate(finalizer)
            try:
                finalize(-1, FINALIZE, finalizer.arg)
            except Exception as exc:
                if handler is None:
                    failures.append(exc)
                else:
                    handler(exc)
    if len(failures) > 1:
        raise ExceptionGroup("finalizers failed", failures)
    if failures:
        raise failures[0]


def finalize(number: int, what: int, ending: Ending) -> None:
    """Be the callback of every finalizer; no event is running meanwhile."""
    ending.registry.running = None
    try:
        ending.callback(ending.event, ending.arg)
    finally:
        if ending.close is not None:
            ending.close()
