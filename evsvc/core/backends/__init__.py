"""The kernel's ways to wait for many descriptors, one small class each."""

from __future__ import annotations

import select

from .epoll import ChangelistEpollBackend, EpollBackend
from .kqueue import KqueueBackend
from .polling import DevPollBackend, PollBackend, SelectBackend
from .protocol import Backend

__all__ = [
    "BACKENDS",
    "Backend",
    "ChangelistEpollBackend",
    "DevPollBackend",
    "EpollBackend",
    "KqueueBackend",
    "PollBackend",
    "SelectBackend",
    "supported_methods",
]

# Best first, as libevent orders them.
_KNOWN: tuple[tuple[str, type[Backend]], ...] = (
    ("epoll", EpollBackend),
    ("kqueue", KqueueBackend),
    ("devpoll", DevPollBackend),
    ("poll", PollBackend),
    ("select", SelectBackend),
)

BACKENDS: tuple[type[Backend], ...] = tuple(
    backend for name, backend in _KNOWN if hasattr(select, name)
)


def supported_methods() -> list[str]:
    """Return the names of the backends that this platform has, best first.

    Source: event_get_supported_methods.
    """
    return [backend.name for backend in BACKENDS]
