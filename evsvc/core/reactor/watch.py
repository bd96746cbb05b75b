"""Watchers: callbacks before and after each wait of the loop (event2/watch.h), and after each call.

They see how long the loop is about to wait, when it has waited, and what each callback took, which
is what latency and load are measured from.  A watcher keeps no loop alive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..checks import require_callable
from ..closing import Closing
from ..errors import ArgumentTypeError, StateError
from .base import EventBase
from .reactor import Reactor, WatchInfo, Watching

WatchCallback = Callable[[Any, Any, Any], object]
"""Called as `cb(watcher, info, arg)`."""


class Watcher(Closing):
    """What all kinds of watcher have in common.

    Raises ArgumentTypeError for what is no base or no callback, StateError when the base is closed.
    """

    __slots__ = ("_arg", "_base", "_cb", "_list")

    def __init__(
        self, base: EventBase, watchers: list[Watching], cb: WatchCallback, arg: object
    ) -> None:
        base.reactor.require_open()
        require_callable(cb)
        self._base: EventBase | None = base
        self._list = watchers
        self._cb: WatchCallback | None = cb
        self._arg: Any = arg
        watchers.append(self)

    @property
    def base(self) -> EventBase:
        """The event base (evwatch_base).  Raises StateError once closed."""
        if self._base is None:
            raise StateError("the watcher is closed")
        return self._base

    def close(self) -> None:
        """Watch no more; safe to repeat, and from inside its own callback (evwatch_free)."""
        if self._base is not None:
            self._base = None
            self._cb = self._arg = None
            self._list.remove(self)

    def run(self, info: WatchInfo) -> None:
        """Call the callback, unless the watcher was closed a moment ago."""
        if self._cb is not None:
            self._cb(self, info, self._arg)


class PrepareWatcher(Watcher):
    """Calls `cb(watcher, PrepareInfo, arg)` before each wait (evwatch_prepare_new)."""

    __slots__ = ()

    def __init__(self, base: EventBase, cb: WatchCallback, arg: object = None) -> None:
        super().__init__(base, _reactor_of(base).prepare_watchers, cb, arg)


class CheckWatcher(Watcher):
    """Calls `cb(watcher, CheckInfo, arg)` after each wait, before the events' callbacks.

    Source: evwatch_check_new.
    """

    __slots__ = ()

    def __init__(self, base: EventBase, cb: WatchCallback, arg: object = None) -> None:
        super().__init__(base, _reactor_of(base).check_watchers, cb, arg)


class CallWatcher(Watcher):
    """Calls `cb(watcher, CallInfo, arg)` after each callback of an event, with what it took.

    The loop's own callbacks are not told of, nor one that raised with no exception handler set.
    While there is one of these, a callback costs the loop about a microsecond more.
    libevent has none.
    """

    __slots__ = ()

    def __init__(self, base: EventBase, cb: WatchCallback, arg: object = None) -> None:
        super().__init__(base, _reactor_of(base).call_watchers, cb, arg)


def _reactor_of(base: EventBase) -> Reactor:
    if not isinstance(base, EventBase):
        raise ArgumentTypeError(f"an event base is wanted, not {base!r}")
    return base.reactor
