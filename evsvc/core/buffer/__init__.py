"""EvBuffer: a queue of bytes, kept as the chunks in which they came.

`chunks` and `segment` are what bytes are kept in, `chain` is a row of them.  `search` (positions
and needles), `space` (memory to be filled) and `transfer` (descriptors) work on a chain;
`observers` are told of changes.  `evbuffer` is what a program has, and knows them all.
"""

from .evbuffer import EvBuffer
from .observers import BufferCallback, CallbackEntry, ChangeInfo
from .search import EvBufferPtr
from .segment import FileSegment

__all__ = [
    "BufferCallback",
    "CallbackEntry",
    "ChangeInfo",
    "EvBuffer",
    "EvBufferPtr",
    "FileSegment",
]
