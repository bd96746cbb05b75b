"""What every backend has in common: libevent's struct eventop, and the words it is told in.

All five have the same operations: init (the constructor), add, delete, dispatch, dealloc, renew,
which is dealloc and init in one, and fileno, for a loop around ours.  A backend knows descriptors
and interests (`EV_READ | EV_WRITE`, with `EV_CLOSED` and `EV_ET` where its features say so), never
events: `EvMap` tells it the union of what a descriptor's events want.  `add(fd, old, new)` widens
that union from `old` by `new`, `delete(fd, old, gone)` narrows it.

What `dispatch` returns is the kernel's own word for what is ready, and `meanings` translates it:
the loop looks each word up once, where it needs it, and no second list is made.

An error or a hang-up wakes every direction, so that whoever waits sees it from his own recv or
send, and nobody is left to spin.  A descriptor that was closed behind our back is dropped in
silence on delete: whatever the kernel has to say of it is no news.  While it is watched, poll and
select report it in every direction, again and again, and epoll and kqueue, which forgot it with the
close, never.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..flags import BOTH, CLOSED, ET, IO, READ, WRITE, Feature

ALL = IO

# One wait takes at most this many descriptors; the rest are reported by the next one.
MAX_READY = 512

Ready = list[tuple[int, int]]


class Backend(Protocol):
    """What `EventBase` needs of a way to wait."""

    name: str
    features: Feature
    meanings: dict[int, int]

    def add(self, fd: int, old: int, new: int) -> None:
        """Watch `fd` for `new` besides `old`.  Raises OSError or ValueError when it cannot be."""

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Stop watching `fd` for `gone` out of `old`; silent when `fd` is closed already."""

    def dispatch(self, timeout: float | None) -> Ready:
        """Wait at most `timeout` seconds (None: for ever); return (fd, mask) of what is ready."""

    def dealloc(self) -> None:
        """Give the kernel's object back."""

    def renew(self) -> None:
        """Give the kernel's object back and take another one, which watches nothing yet."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while `dispatch` has something; -1 for none."""


def every_mask(meanings: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return every mask that can be made of the given bits, with its meaning."""
    table = {0: 0}
    for bit, meaning in meanings:
        table |= {mask | bit: what | meaning for mask, what in table.items()}
    return table


# For a backend that speaks of interests itself.
INTERESTS = every_mask(((READ, READ), (WRITE, WRITE), (CLOSED, CLOSED)))


def interests_of(features: Feature) -> int:
    """Return the interests that a backend with `features` understands."""
    interests = BOTH
    if features & Feature.EV_FEATURE_ET:
        interests |= ET
    if features & Feature.EV_FEATURE_EARLY_CLOSE:
        interests |= CLOSED
    return interests
