"""asyncio's selector, made of events of a base: one `select` is one pass of the base.

asyncio waits in `select`, so whatever the program has on the same base (sockets, timers, signals,
posted calls) runs inside of that call, and asyncio's own callbacks after it.

What asyncio watches are persistent events, one for each direction, at the middle priority that the
base has when they are added.  Their callback only notes the descriptor; nothing is read yet, so
the kernel reports it again as long as asyncio leaves it.  A pass is a single one for that reason:
in a second, what asyncio has not come to would be found ready again, and again.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from ..core import EV_PERSIST, EV_READ, EV_WRITE, Event, EventBase

if TYPE_CHECKING:
    from ..core.descriptors import HasFileno

_DIRECTIONS = (
    (selectors.EVENT_READ, EV_READ | EV_PERSIST),
    (selectors.EVENT_WRITE, EV_WRITE | EV_PERSIST),
)
_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


class _KeysByFile(Mapping["int | HasFileno", selectors.SelectorKey]):
    """The keys of a selector by descriptor, or by what has one, as they are at any time."""

    __slots__ = ("_find", "_keys")

    def __init__(
        self,
        keys: dict[int, selectors.SelectorKey],
        find: Callable[[int | HasFileno], selectors.SelectorKey],
    ) -> None:
        self._keys = keys
        self._find = find

    def __getitem__(self, fileobj: int | HasFileno) -> selectors.SelectorKey:
        return self._find(fileobj)

    def __iter__(self) -> Iterator[int | HasFileno]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class BaseSelector(selectors.BaseSelector):
    """A selector whose descriptors are events of `base`.

    on_end: called in `select` after a pass that `loopexit` or `loopbreak` of the base has ended.
    """

    def __init__(self, base: EventBase, on_end: Callable[[], object]) -> None:
        self._base = base
        self._on_end = on_end
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._events: dict[tuple[int, int], Event] = {}  # by descriptor and direction
        self._ready: dict[int, int] = {}  # found in this pass: directions by descriptor
        self._map: _KeysByFile | None = _KeysByFile(self._keys, self._find)

    def register(
        self, fileobj: int | HasFileno, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Watch a descriptor.

        Raises ValueError for no direction or no descriptor, KeyError for one that is registered,
        SocketError (an OSError) or ArgumentError (a ValueError) for what the backend refuses.
        """
        _check_directions(events)
        fd = self._number(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        key = selectors.SelectorKey(fileobj, fd, events, data)
        self._watch(fd, events)
        self._keys[fd] = key
        return key

    def unregister(self, fileobj: int | HasFileno) -> selectors.SelectorKey:
        """Watch a descriptor no more.  Raises KeyError for one that is not registered."""
        key = self._keys.pop(self._find(fileobj).fd)
        self._watch(key.fd, 0)
        self._ready.pop(key.fd, None)
        return key

    def modify(
        self, fileobj: int | HasFileno, events: int, data: object = None
    ) -> selectors.SelectorKey:
        """Change what a descriptor is watched for.  Raises as `register` and `unregister` do."""
        _check_directions(events)
        key = self._find(fileobj)
        if key.events != events:
            self._watch(key.fd, events)
        key = self._keys[key.fd] = key._replace(events=events, data=data)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Run one pass of the base, and return which registered descriptors are ready.

        timeout: the most seconds to wait.  Raises what a callback of the base has raised, where
        it has no `exception_handler`; what was found ready is returned next time.
        """
        if not self._base.run_pass(None if timeout is None else max(timeout, 0)):
            self._on_end()
        ready, self._ready = self._ready, {}
        keys = self._keys
        return [
            (key, directions & key.events)
            for fd, directions in ready.items()
            if (key := keys.get(fd)) is not None  # an interrupt may have come between
        ]

    def close(self) -> None:
        """Give the events back.  Safe to repeat."""
        for event in self._events.values():
            event.close()
        self._events.clear()
        self._keys.clear()
        self._ready.clear()
        self._map = None

    def get_map(self) -> Mapping[int | HasFileno, selectors.SelectorKey]:
        """Return the keys by descriptor, as they are at any time; None once closed."""
        return self._map  # type: ignore[return-value]  # so do the selectors of Python

    def get_key(self, fileobj: int | HasFileno) -> selectors.SelectorKey:
        """Return a descriptor's key.

        Raises KeyError for one that is not registered, RuntimeError once closed.
        """
        if self._map is None:
            raise RuntimeError("Selector is closed")
        return self._find(fileobj)

    def _find(self, fileobj: int | HasFileno) -> selectors.SelectorKey:
        key = self._keys.get(self._number(fileobj))
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return key

    def _number(self, fileobj: int | HasFileno) -> int:
        """Return the descriptor, also of a registered object that was closed since.

        Raises ValueError for none.
        """
        try:
            fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
        if fd >= 0:
            return fd
        for key in self._keys.values():
            if key.fileobj is fileobj:
                return key.fd
        raise ValueError(f"Invalid file descriptor: {fd}")

    def _watch(self, fd: int, wanted: int) -> None:
        """Have an event for each of the wanted directions, and none for the others."""
        for direction, flags in _DIRECTIONS:
            event = self._events.get((fd, direction))
            if wanted & direction and event is None:
                event = Event(self._base, fd, flags, self._on_ready, direction)
                event.add()
                self._events[fd, direction] = event
            elif event is not None and not wanted & direction:
                del self._events[fd, direction]
                event.close()

    def _on_ready(self, fd: int, what: int, direction: int) -> None:
        self._ready[fd] = self._ready.get(fd, 0) | direction


def _check_directions(events: int) -> None:
    if not events or events & ~_BOTH:
        raise ValueError(f"Invalid events: {events!r}")
