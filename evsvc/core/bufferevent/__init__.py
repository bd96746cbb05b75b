"""Bufferevents: a pair of buffers, filled and emptied by the loop, with callbacks."""

from .abstract import AbstractBufferEvent
from .connect import ConnectOptions
from .filter import FilterBufferEvent
from .pair import PairBufferEvent
from .rate_buckets import EV_RATE_LIMIT_MAX, TokenBucketCfg
from .rate_group import GroupTotals, RateLimitGroup
from .sock import BufferEvent
from .tls import TlsBufferEvent

__all__ = [
    "EV_RATE_LIMIT_MAX",
    "AbstractBufferEvent",
    "BufferEvent",
    "ConnectOptions",
    "FilterBufferEvent",
    "GroupTotals",
    "PairBufferEvent",
    "RateLimitGroup",
    "TlsBufferEvent",
    "TokenBucketCfg",
]
