"""What an EvBuffer tells of its changes, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import ArgumentError

if TYPE_CHECKING:
    from .buffer import EvBuffer


class ChangeInfo(NamedTuple):
    """What happened to a buffer (struct evbuffer_cb_info); its length is the sum less deleted."""

    orig_size: int
    n_added: int
    n_deleted: int


BufferCallback = Callable[["EvBuffer", ChangeInfo, Any], object]
"""Called as `cb(buffer, info, arg)`."""


class CallbackEntry:
    """A registered callback; `enabled` can be turned off and on (evbuffer_cb_set_flags)."""

    __slots__ = ("arg", "callback", "enabled")

    def __init__(self, callback: BufferCallback, arg: object) -> None:
        self.callback = callback
        self.arg: Any = arg
        self.enabled = True


class CallbackList(list[CallbackEntry]):
    """The callbacks of one buffer, newest first."""

    __slots__ = ()

    def register(self, callback: BufferCallback, arg: object) -> CallbackEntry:
        """Add a callback before the others."""
        entry = CallbackEntry(callback, arg)
        self.insert(0, entry)
        return entry

    def forget(self, entry: CallbackEntry) -> None:
        """Remove one.  Raises ArgumentError when it is not in."""
        if entry not in self:
            raise ArgumentError(f"not a callback of this buffer: {entry.callback!r}")
        self.remove(entry)

    def newest(self, callback: BufferCallback, arg: object) -> CallbackEntry:
        """Return the newest with this function and argument.  Raises ArgumentError for none."""
        for entry in self:
            if entry.callback == callback and entry.arg is arg:
                return entry
        raise ArgumentError(f"not a callback of this buffer: {callback!r}")

    def report(self, buffer: EvBuffer, added: int, deleted: int) -> None:
        """Tell all of a change that is done; one may remove itself or another meanwhile."""
        info = ChangeInfo(len(buffer) - added + deleted, added, deleted)
        for entry in tuple(self):
            if entry.enabled and entry in self:
                entry.callback(buffer, info, entry.arg)
