"""What an EvBuffer tells of its changes, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

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
