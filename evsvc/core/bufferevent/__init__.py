"""Bufferevents: a pair of buffers, filled and emptied by the loop, with callbacks."""

from .abstract import AbstractBufferEvent
from .connect import ConnectOptions
from .filter import FilterBufferEvent
from .group import GroupTotals, RateLimitGroup
from .pair import PairBufferEvent
from .sock import BufferEvent
from .tls import TlsBufferEvent

__all__ = [
    "AbstractBufferEvent",
    "BufferEvent",
    "ConnectOptions",
    "FilterBufferEvent",
    "GroupTotals",
    "PairBufferEvent",
    "RateLimitGroup",
    "TlsBufferEvent",
]
