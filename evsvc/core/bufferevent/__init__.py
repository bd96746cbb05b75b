"""Bufferevents: a pair of buffers, filled and emptied by the loop, with callbacks."""

from .sock import BufferEvent

__all__ = ["BufferEvent"]
