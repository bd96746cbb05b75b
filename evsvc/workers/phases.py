"""The phases of a worker's process, as its supervisor sees them, and every legal move."""

from __future__ import annotations

import enum
from typing import Final

from ..core.errors import StateError


class Phase(enum.Enum):
    """What a worker's process is at."""

    STARTING = enum.auto()  # its setup runs
    SERVING = enum.auto()
    STOPPING = enum.auto()  # told to finish what is in flight
    KILLED = enum.auto()  # by SIGKILL, and not gone yet
    GONE = enum.auto()


class Step(enum.Enum):
    """What takes a worker from one phase to another."""

    READY = enum.auto()  # it says so
    STOP = enum.auto()
    KILL = enum.auto()
    EXIT = enum.auto()  # its process has ended, for whatever reason


# A pair that is absent is a bug of the supervisor, but for READY: that is a worker's to say.
NEXT: Final[dict[tuple[Phase, Step], Phase]] = {
    (Phase.STARTING, Step.READY): Phase.SERVING,
    (Phase.STARTING, Step.STOP): Phase.STOPPING,
    (Phase.STARTING, Step.KILL): Phase.KILLED,
    (Phase.STARTING, Step.EXIT): Phase.GONE,
    (Phase.SERVING, Step.STOP): Phase.STOPPING,
    (Phase.SERVING, Step.KILL): Phase.KILLED,
    (Phase.SERVING, Step.EXIT): Phase.GONE,
    (Phase.STOPPING, Step.READY): Phase.STOPPING,  # said before it was told
    (Phase.STOPPING, Step.KILL): Phase.KILLED,
    (Phase.STOPPING, Step.EXIT): Phase.GONE,
    (Phase.KILLED, Step.READY): Phase.KILLED,
    (Phase.KILLED, Step.EXIT): Phase.GONE,
}


def advance(phase: Phase, step: Step) -> Phase:
    """Return the phase behind a step.  Raises StateError for one that is not legal."""
    try:
        return NEXT[phase, step]
    except KeyError:
        raise StateError(f"{step.name} is not legal while a worker is {phase.name}") from None
