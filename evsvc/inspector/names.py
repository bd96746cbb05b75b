"""What a callback is called, for people."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..core import AbstractBufferEvent


def name_of(callback: Callable[..., Any]) -> str:
    """Return the module and name of a callback.

    That of a bufferevent's own event is the program's read callback, which it leads to, where
    there is one.
    """
    while isinstance(callback, partial):
        callback = callback.func
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, AbstractBufferEvent) and not owner.closed:
        readcb = owner.getcb()[0]
        if readcb is not None:
            return name_of(readcb)
    name = getattr(callback, "__qualname__", type(callback).__qualname__)
    return f"{getattr(callback, '__module__', type(callback).__module__)}.{name}"
