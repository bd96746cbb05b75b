"""EvBuffer against a plain bytearray, over every operation in any order."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from evsvc.core import (
    EVBUF_FS_DISABLE_LOCKING,
    EVBUF_FS_DISABLE_MMAP,
    EVBUF_FS_DISABLE_SENDFILE,
    EVBUFFER_EOL_ANY,
    EVBUFFER_EOL_CRLF,
    EVBUFFER_EOL_CRLF_STRICT,
    EVBUFFER_EOL_LF,
    EVBUFFER_EOL_NUL,
    EVBUFFER_FLAG_DRAINS_TO_FD,
    EVBUFFER_PTR_ADD,
    EVLOOP_NONBLOCK,
    ArgumentError,
    ChangeInfo,
    EvBuffer,
    EvBufferPtr,
    EventBase,
    FileSegment,
    StateError,
)
from evsvc.core.buffer.chunks import Reference
from evsvc.core.buffer.segment import FilePiece

# Thousands of examples of what other tests go through, too.
pytestmark = pytest.mark.no_cover

INDEX = st.integers(0, 2)
DATA = st.one_of(
    st.binary(max_size=12),
    st.text("\r\n\0ab", max_size=8).map(str.encode),
    st.integers(0, 5000).map(lambda size: b"ab\r\n" * (size // 4)),
)
SIZE = st.one_of(st.integers(0, 20), st.integers(0, 12_000))
LINE_END: dict[int, re.Pattern[bytes]] = {
    EVBUFFER_EOL_ANY: re.compile(rb"[\r\n]+"),
    EVBUFFER_EOL_CRLF: re.compile(rb"\r?\n"),
    EVBUFFER_EOL_CRLF_STRICT: re.compile(rb"\r\n"),
    EVBUFFER_EOL_LF: re.compile(rb"\n"),
    EVBUFFER_EOL_NUL: re.compile(rb"\0"),
}
FILE_DATA = bytes(range(256)) * 20
SEGMENT_FLAGS = st.sampled_from(
    [0, EVBUF_FS_DISABLE_LOCKING, EVBUF_FS_DISABLE_SENDFILE, EVBUF_FS_DISABLE_MMAP]
).flatmap(lambda flags: st.sampled_from([flags, flags | EVBUF_FS_DISABLE_MMAP]))
# Buffers longer than this get nothing from other buffers: sharing doubles them.
MOST_BYTES = 60_000
IN_CI = bool(os.environ.get("CI") or os.environ.get("EVSVC_CI"))


class CountedFile:
    """A file that is given to a buffer, and knows whether it was closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.closed = 0

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        self.closed += 1


class BufferMachine(RuleBasedStateMachine):
    """Three buffers and a model for each: a plain one, one that defers, and one with a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.base = EventBase()
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  # closed in teardown()
        self.file.write(FILE_DATA)
        self.file.flush()
        self.buffers = [EvBuffer() for _ in range(3)]
        self.buffers[2].enable_locking()
        self.models = [bytearray() for _ in range(3)]
        self.told = [0, 0, 0]
        self.changes = [0, 0, 0]
        self.frozen: list[set[bool]] = [set(), set(), set()]
        self.told_later = 0
        self.references = 0
        self.cleaned = 0
        self.files: list[CountedFile] = []
        self.segments: list[FileSegment] = []
        self.segments_made = self.segments_done = 0
        self.positions: list[tuple[int, EvBufferPtr, int]] = []
        self.reserved: dict[int, tuple[list[memoryview], int]] = {}
        for index in range(3):
            self.listen(index)

    def listen(self, index: int) -> None:
        buffer = self.buffers[index]
        if index == 1:
            buffer.defer_callbacks(self.base)
            buffer.add_cb(self.on_change_later)
            buffer.on_add = buffer.on_drain = self.on_change_now
        else:
            buffer.add_cb(self.on_change, index)

    def on_change_now(self) -> None:
        self.told[1] = len(self.buffers[1])
        self.changes[1] += 1

    def on_change(self, buffer: EvBuffer, info: ChangeInfo, index: int) -> None:
        assert info.orig_size == self.told[index]
        assert info.n_added + info.n_deleted > 0
        self.told[index] += info.n_added - info.n_deleted
        self.changes[index] += 1

    def on_change_later(self, buffer: EvBuffer, info: ChangeInfo, arg: object) -> None:
        assert info.orig_size == self.told_later
        self.told_later += info.n_added - info.n_deleted
        assert self.told_later == len(buffer)

    def on_cleanup(self, data: Any, size: int, arg: object) -> None:
        assert 0 <= size <= len(data)
        self.cleaned += 1

    def on_segment_done(self, segment: FileSegment, flags: int, arg: object) -> None:
        self.segments_done += 1

    def refused(self, *conditions: bool) -> AbstractContextManager[object]:
        return pytest.raises(StateError) if any(conditions) else nullcontext()

    def end_is_frozen(self, index: int) -> bool:
        return False in self.frozen[index]

    def start_is_frozen(self, index: int) -> bool:
        return True in self.frozen[index]

    def append(self, index: int, data: bytes | bytearray) -> None:
        """Have the model grow, where the buffer was allowed to."""
        if not self.end_is_frozen(index):
            self.models[index] += data

    @rule(index=INDEX, data=DATA)
    def add(self, index: int, data: bytes) -> None:
        with self.refused(self.end_is_frozen(index)):
            self.buffers[index].add(data)
        self.append(index, data)

    @rule(index=INDEX, pieces=st.lists(DATA, max_size=4))
    def add_iovec(self, index: int, pieces: list[bytes]) -> None:
        with self.refused(self.end_is_frozen(index)):
            assert self.buffers[index].add_iovec(pieces) == len(b"".join(pieces))
        self.append(index, b"".join(pieces))

    @rule(index=INDEX, text=st.text(max_size=10), number=st.integers())
    def add_printf(self, index: int, text: str, number: int) -> None:
        data = f"{text} {number:d}%".encode(errors="replace")
        with self.refused(self.end_is_frozen(index)):
            text = text.encode(errors="replace").decode()
            assert self.buffers[index].add_printf("%s %d%%", text, number) == len(data)
        self.append(index, data)

    @rule(index=INDEX, data=DATA)
    def prepend(self, index: int, data: bytes) -> None:
        refused = self.start_is_frozen(index) and bool(data)
        with self.refused(refused):
            self.buffers[index].prepend(bytearray(data))
        if not refused:
            self.models[index][:0] = data

    @rule(index=INDEX, data=DATA, offset=st.integers(0, 20), length=st.integers(-1, 20))
    def add_reference(self, index: int, data: bytes, offset: int, length: int) -> None:
        end = len(data) if length < 0 else offset + length
        frozen = self.end_is_frozen(index)
        outside = not offset <= end <= len(data)
        act = self.buffers[index].add_reference_with_offset
        with pytest.raises((StateError, ArgumentError)) if frozen or outside else nullcontext():
            act(bytearray(data), offset, length, self.on_cleanup)
        if not (frozen or outside):
            self.references += 1
            self.models[index] += data[offset:end]

    @rule(index=INDEX, offset=st.integers(0, len(FILE_DATA)), length=SIZE)
    def add_file(self, index: int, offset: int, length: int) -> None:
        length = min(length, len(FILE_DATA) - offset)
        file = CountedFile(self.file.fileno())
        with self.refused(self.end_is_frozen(index)):
            self.buffers[index].add_file(file, offset, length)
            self.files.append(file)
        self.append(index, FILE_DATA[offset : offset + length])

    @rule(first=st.integers(0, len(FILE_DATA)), length=st.integers(-1, 5000), flags=SEGMENT_FLAGS)
    def make_segment(self, first: int, length: int, flags: int) -> None:
        length = min(length, len(FILE_DATA) - first)
        segment = FileSegment(self.file, first, length, flags)
        segment.add_cleanup_cb(self.on_segment_done)
        self.segments_made += 1
        self.segments.append(segment)

    @precondition(lambda self: self.segments)
    @rule(index=INDEX, data=st.data())
    def add_file_segment(self, index: int, data: st.DataObject) -> None:
        segment = data.draw(st.sampled_from(self.segments))
        offset = data.draw(st.integers(0, len(segment)))
        length = data.draw(st.integers(-1, len(segment) - offset))
        with self.refused(self.end_is_frozen(index)):
            self.buffers[index].add_file_segment(segment, offset, length)
        stop = len(segment) if length < 0 else offset + length
        start = segment._offset
        self.append(index, FILE_DATA[start + offset : start + stop])

    @precondition(lambda self: self.segments)
    @rule(data=st.data())
    def close_segment(self, data: st.DataObject) -> None:
        self.segments.pop(data.draw(st.integers(0, len(self.segments) - 1))).close()

    @rule(index=INDEX, size=SIZE)
    def drain(self, index: int, size: int) -> None:
        refused = self.start_is_frozen(index) and bool(self.models[index])
        with self.refused(refused):
            self.buffers[index].drain(size)
        if not refused:
            del self.models[index][:size]

    @rule(index=INDEX, size=st.one_of(st.just(-1), SIZE))
    def remove(self, index: int, size: int) -> None:
        stop = None if size < 0 else size
        refused = self.start_is_frozen(index) and bool(self.models[index])
        with self.refused(refused):
            assert self.buffers[index].remove(size) == self.models[index][:stop]
        if not refused:
            del self.models[index][:stop]

    def can_move(self, giver: int, taker: int, *, at_front: bool) -> bool:
        return not (self.start_is_frozen(giver) or at_front in self.frozen[taker])

    @rule(giver=INDEX, taker=INDEX, at_front=st.booleans())
    def move_all(self, giver: int, taker: int, at_front: bool) -> None:
        moved = self.models[giver]
        if len(moved) + len(self.models[taker]) > MOST_BYTES:
            return
        buffer = self.buffers[taker]
        act = buffer.prepend_buffer if at_front else buffer.add_buffer
        wanted = giver != taker and bool(moved)
        allowed = self.can_move(giver, taker, at_front=at_front)
        with self.refused(wanted and not allowed):
            act(self.buffers[giver])
        if wanted and allowed:
            at = 0 if at_front else len(self.models[taker])
            self.models[taker][at:at] = moved
            moved.clear()

    @rule(giver=INDEX, taker=INDEX, size=SIZE)
    def remove_buffer(self, giver: int, taker: int, size: int) -> None:
        model = self.models[giver]
        wanted = min(size, len(model)) if giver != taker else 0
        allowed = self.can_move(giver, taker, at_front=False)
        with self.refused(wanted > 0 and not allowed):
            moved = self.buffers[giver].remove_buffer(self.buffers[taker], size)
            assert moved == wanted
        if wanted and allowed:
            self.models[taker] += model[:wanted]
            del model[:wanted]

    @rule(giver=INDEX, taker=INDEX)
    def add_buffer_reference(self, giver: int, taker: int) -> None:
        shared = self.models[giver]
        if len(shared) + len(self.models[taker]) > MOST_BYTES:
            return
        act = self.buffers[taker].add_buffer_reference
        if shared and giver == taker:
            with pytest.raises(ArgumentError):
                act(self.buffers[giver])
            return
        with self.refused(bool(shared) and self.end_is_frozen(taker)):
            act(self.buffers[giver])
        self.append(taker, shared)

    @rule(index=INDEX, eol=st.sampled_from(list(LINE_END)))
    def readln(self, index: int, eol: int) -> None:
        model = self.models[index]
        match = LINE_END[eol].search(model)
        assert self.buffers[index].search_eol(eol) == (
            (match.start(), match.end() - match.start()) if match else (-1, 0)
        )
        refused = match is not None and self.start_is_frozen(index)
        with self.refused(refused):
            assert self.buffers[index].readln(eol) == (model[: match.start()] if match else None)
        if match and not refused:
            del model[: match.end()]

    @rule(index=INDEX, size=st.one_of(st.just(-1), SIZE))
    def pullup(self, index: int, size: int) -> None:
        model = self.models[index]
        wanted = len(model) if size < 0 else size
        self.reserved.pop(index, None)  # pullup may end both
        self.positions = [entry for entry in self.positions if entry[0] != index]
        view = self.buffers[index].pullup(size)
        if view is None:
            assert wanted == 0 or wanted > len(model)
        else:
            assert bytes(view) == model[:wanted] != b""
            assert self.buffers[index].contiguous_space >= wanted

    @rule(index=INDEX, size=SIZE, start=SIZE)
    def copyout_and_peek(self, index: int, size: int, start: int) -> None:
        buffer, model = self.buffers[index], self.models[index]
        assert buffer.copyout(size, start) == model[start : start + size]
        views = buffer.peek(size, start)
        seen = b"".join(views)
        assert model[start:].startswith(seen)
        assert len(seen) >= min(size, len(model) - start)
        assert size == 0 or all(len(view) > 0 for view in views)

    @rule(index=INDEX, needle=st.binary(min_size=1, max_size=3), data=st.data())
    def search(self, index: int, needle: bytes, data: st.DataObject) -> None:
        model = self.models[index]
        if model and data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(model) - 1))
            needle = bytes(model[at : at + len(needle)])
        start = data.draw(st.integers(0, len(model)))
        end = data.draw(st.one_of(st.none(), st.integers(0, len(model) + 2)))
        expected = model.find(needle, start, end) if start < len(model) else -1
        found = self.buffers[index].search(needle, start, end)
        assert found == expected
        if found >= 0:
            self.positions.append((index, found, self.changes[index]))

    @rule(index=INDEX, data=st.data())
    def take_position(self, index: int, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(self.models[index])))
        ptr = self.buffers[index].ptr_set(position)
        self.positions.append((index, ptr, self.changes[index]))

    @precondition(lambda self: self.positions)
    @rule(data=st.data(), step=st.integers(-10, 10))
    def use_position(self, data: st.DataObject, step: int) -> None:
        """It is good until the next change, and refused ever after."""
        index, ptr, changes = data.draw(st.sampled_from(self.positions))
        buffer, model = self.buffers[index], self.models[index]
        if changes != self.changes[index]:
            for act in (buffer.copyout, buffer.peek):
                with pytest.raises(StateError):
                    act(5, ptr)
        else:
            assert buffer.copyout(5, ptr) == model[ptr : ptr + 5]
            assert buffer.search(b"\n", ptr) == model.find(b"\n", ptr)
            if 0 <= ptr + step <= len(model):
                assert buffer.ptr_set(step, EVBUFFER_PTR_ADD, ptr) == ptr + step

    @rule(index=INDEX, size=SIZE)
    def expand(self, index: int, size: int) -> None:
        self.buffers[index].expand(size)

    @rule(index=INDEX, size=SIZE, areas=st.integers(1, 3))
    def reserve(self, index: int, size: int, areas: int) -> None:
        with self.refused(self.end_is_frozen(index)):
            views = self.buffers[index].reserve_space(size, areas)
            assert 1 <= len(views) <= areas
            assert sum(map(len, views)) >= size
            self.reserved[index] = views, self.changes[index]

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        index = data.draw(st.sampled_from(sorted(self.reserved)))
        views, changes = self.reserved[index]
        used = views[: data.draw(st.integers(1, len(views)))]
        sizes = [min(data.draw(SIZE), len(view)) for view in used]
        expected = bytearray()
        with self.refused(self.end_is_frozen(index), changes != self.changes[index]):
            if changes == self.changes[index]:
                for view, size in zip(used, sizes, strict=True):
                    view[:size] = bytes([size % 251]) * size
                    expected += view[:size]
            self.buffers[index].commit_space(*sizes)
        self.append(index, expected)

    @rule(index=INDEX, at_front=st.booleans(), freeze=st.integers(0, 3).map(lambda at: at == 0))
    def freeze(self, index: int, at_front: bool, freeze: bool) -> None:
        if freeze:
            self.buffers[index].freeze(at_front)
            self.frozen[index].add(at_front)
        else:
            self.buffers[index].unfreeze(at_front)
            self.frozen[index].discard(at_front)

    @rule(giver=INDEX, taker=INDEX, size=st.integers(1, 3000), drains=st.booleans())
    def through_a_pipe(self, giver: int, taker: int, size: int, drains: bool) -> None:
        """Write from one buffer, read into another."""
        if self.start_is_frozen(giver) or self.end_is_frozen(taker):
            return
        if len(self.models[taker]) > MOST_BYTES:
            return
        read_fd, write_fd = os.pipe()
        model, buffer = self.models[giver], self.buffers[giver]
        if drains:
            buffer.set_flags(EVBUFFER_FLAG_DRAINS_TO_FD)
        written = buffer.write(write_fd, size)
        buffer.clear_flags(EVBUFFER_FLAG_DRAINS_TO_FD)
        assert 0 <= written <= min(size, len(model))
        assert written or not model
        os.close(write_fd)
        through = bytes(model[:written])
        del model[:written]
        while self.buffers[taker].read(read_fd):
            pass
        os.close(read_fd)
        self.models[taker] += through

    @rule()
    def run_the_loop(self) -> None:
        self.base.loop(EVLOOP_NONBLOCK)
        assert self.told_later == len(self.buffers[1])

    @rule(index=INDEX)
    def close(self, index: int) -> None:
        self.buffers[index].close()
        self.models[index].clear()
        self.told[index] = 0
        self.changes[index] += 1
        self.reserved.pop(index, None)
        self.positions = [entry for entry in self.positions if entry[0] != index]
        if index == 1:
            self.told_later = 0
        self.listen(index)

    @invariant()
    def is_as_the_model(self) -> None:
        memories: set[int] = set()
        files: set[int] = {id(segment) for segment in self.segments}
        for buffer, model, told in zip(self.buffers, self.models, self.told, strict=True):
            assert bytes(buffer) == model
            assert len(buffer) == told == len(model)
            assert all(map(len, buffer.chunks))
            assert 0 <= buffer.start < (len(buffer.chunks[0]) if buffer.chunks else 1)
            for chunk in buffer.chunks:
                if isinstance(chunk, Reference) and chunk._cleanup is not None:
                    memories.add(id(chunk._cleanup))
                if isinstance(chunk, FilePiece):
                    files.add(id(chunk._segment))
            assert buffer.files == sum(isinstance(chunk, FilePiece) for chunk in buffer.chunks)
        assert self.cleaned + len(memories) == self.references
        closed = sum(file.closed for file in self.files)
        assert self.segments_done + closed + len(files) == self.segments_made + len(self.files)

    def teardown(self) -> None:
        for buffer in self.buffers:
            buffer.close()
        for segment in self.segments:
            segment.close()
        assert self.cleaned == self.references
        assert self.segments_done == self.segments_made
        assert all(file.closed == 1 for file in self.files)
        self.base.close()
        self.file.close()


# In CI about 23,000 steps: an example ends by itself before the step count now and then.
BufferMachine.TestCase.settings = settings(
    max_examples=500 if IN_CI else 30, stateful_step_count=50
)
TestBufferModel = BufferMachine.TestCase
