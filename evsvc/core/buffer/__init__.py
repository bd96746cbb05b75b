"""EvBuffer: a queue of bytes, kept as the chunks in which they came.

Built up in layers, each of which is a module that knows only those before it: `chunks` and
`segment` (what bytes are kept in), `chain` (a row of them), `positions` and `search`, `contents`
(looking), `changes` and `observed` (changing and telling), `space` (memory to be filled),
`transfer` (descriptors), `bytequeue` (all operations), `evbuffer` (life and lock).
"""

from .changes import BufferCallback, CallbackEntry, ChangeInfo
from .evbuffer import EvBuffer
from .positions import EvBufferPtr
from .segment import FileSegment

__all__ = [
    "BufferCallback",
    "CallbackEntry",
    "ChangeInfo",
    "EvBuffer",
    "EvBufferPtr",
    "FileSegment",
]
