"""Forks: a child touches nothing of what its parent has in the kernel.

A forked child has copies of the parent's descriptors, but the kernel's objects behind them are the
same: an epoll_ctl in the child unregisters for the parent, a byte that the child writes to a
wake-up socket wakes the parent, and the parent's signal handlers keep the child from being ended.
So every open base is parted in the child right after the fork, before any code of the program runs:
the child's copies are closed, which the parent does not notice, and what was caught of signals is
put back.  From there on a base can be closed, with what is on it, or go on by `EventBase.reinit`.

A signal that came to the child before that would find the parent's handlers, so those that are
caught are held off meanwhile.  Starting another program, by fork and exec, needs nothing of this:
our descriptors are closed by the exec, and the handlers go with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn, Protocol
from weakref import WeakSet

from ..errors import StateError

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..backends import Backend
    from ..backends.protocol import Ready


class Forkable(Protocol):
    """What is parted from the parent process in a forked child."""

    @property
    def caught_signals(self) -> Collection[int]:
        """The signals that it has handlers for."""

    def part(self) -> None:
        """Let go of what the parent has, too."""

    def in_loop_thread(self) -> bool:
        """Whether this thread runs its loop."""


class PartedBackend:
    """What a base has in a forked child in place of the parent's backend, which it closes."""

    __slots__ = ("features", "meanings", "name", "parents")

    def __init__(self, parents: Backend) -> None:
        self.parents = parents
        self.name = parents.name
        self.features = parents.features
        self.meanings = parents.meanings
        # Closing an epoll descriptor takes nothing from the parent's; a kqueue is gone already.
        with contextlib.suppress(OSError):
            parents.dealloc()

    def add(self, fd: int, old: int, new: int) -> NoReturn:
        """Raise StateError."""
        refuse_in_child()

    def delete(self, fd: int, old: int, gone: int) -> None:
        """Do nothing: it is the parent who watches."""

    def dispatch(self, timeout: float | None) -> Ready:
        """Raise StateError."""
        refuse_in_child()

    def dealloc(self) -> None:
        """Do nothing: that is done."""

    def fileno(self) -> int:
        """Return -1: there is none here."""
        return -1

    def renew(self) -> NoReturn:
        """Raise StateError: `reinit` makes the parent's anew."""
        refuse_in_child()


def refuse_in_child() -> NoReturn:
    """Raise StateError, for what only works after `reinit`."""
    raise StateError("the event base is that of the parent process: call reinit() first")


# Forks are the process's, and its hooks cannot be taken back; what they are to look at, can.
_open_bases: WeakSet[Forkable] = WeakSet()
_mask = threading.local()


def part_at_fork(base: Forkable) -> None:
    """Have `base` parted in every child that is forked from now on, while it is referred to."""
    _open_bases.add(base)


def leave_at_fork(base: Forkable) -> None:
    """Forget what `part_at_fork` was told."""
    _open_bases.discard(base)


def runs_in_a_loop() -> bool:
    """Whether this thread is inside the loop of a base, so that a child would be, too."""
    return any(base.in_loop_thread() for base in tuple(_open_bases))


def _before_fork() -> None:
    caught = {signum for base in tuple(_open_bases) for signum in base.caught_signals}
    if caught:
        _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        signal.pthread_sigmask(signal.SIG_BLOCK, caught)


def _after_fork() -> None:
    before = vars(_mask).pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _after_fork_in_child() -> None:
    try:
        for base in tuple(_open_bases):
            base.part()
    finally:
        _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
