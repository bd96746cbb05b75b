"""EvBuffer against a plain bytearray, over every operation in any order."""

from __future__ import annotations

import os
import re
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from evsvc.core import (
    EVBUFFER_EOL_ANY,
    EVBUFFER_EOL_CRLF,
    EVBUFFER_EOL_CRLF_STRICT,
    EVBUFFER_EOL_LF,
    EVBUFFER_EOL_NUL,
    ChangeInfo,
    EvBuffer,
)
from evsvc.core.chunks import Reference

DATA = st.one_of(
    st.binary(max_size=12),
    st.text("\r\n\0ab", max_size=8).map(str.encode),
    st.integers(0, 5000).map(lambda size: b"ab\r\n" * (size // 4)),
)
SIZE = st.one_of(st.integers(0, 20), st.integers(0, 12_000))
LINE_END = {
    EVBUFFER_EOL_ANY: re.compile(rb"[\r\n]+"),
    EVBUFFER_EOL_CRLF: re.compile(rb"\r?\n"),
    EVBUFFER_EOL_CRLF_STRICT: re.compile(rb"\r\n"),
    EVBUFFER_EOL_LF: re.compile(rb"\n"),
    EVBUFFER_EOL_NUL: re.compile(rb"\0"),
}
IN_CI = bool(os.environ.get("CI") or os.environ.get("EVSVC_CI"))


class BufferMachine(RuleBasedStateMachine):
    """Two buffers, a model for each, and a tally of references."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers = [EvBuffer(), EvBuffer()]
        self.models = [bytearray(), bytearray()]
        self.told = [0, 0]
        self.references = 0
        self.cleaned = 0
        for index, buffer in enumerate(self.buffers):
            buffer.add_cb(self.on_change, index)

    def on_change(self, buffer: EvBuffer, info: ChangeInfo, index: int) -> None:
        assert info.orig_size == self.told[index]
        assert info.n_added + info.n_deleted > 0
        self.told[index] += info.n_added - info.n_deleted

    def on_cleanup(self, data: Any, size: int, arg: object) -> None:
        assert size == len(data) > 0
        self.cleaned += 1

    @rule(index=st.integers(0, 1), data=DATA)
    def add(self, index: int, data: bytes) -> None:
        self.buffers[index].add(data)
        self.models[index] += data

    @rule(index=st.integers(0, 1), data=DATA)
    def prepend(self, index: int, data: bytes) -> None:
        self.buffers[index].prepend(bytearray(data))
        self.models[index][:0] = data

    @rule(index=st.integers(0, 1), data=DATA.filter(bool))
    def add_reference(self, index: int, data: bytes) -> None:
        self.references += 1
        self.buffers[index].add_reference(bytearray(data), self.on_cleanup)
        self.models[index] += data

    @rule(index=st.integers(0, 1), size=SIZE)
    def drain(self, index: int, size: int) -> None:
        self.buffers[index].drain(size)
        del self.models[index][:size]

    @rule(index=st.integers(0, 1), size=st.one_of(st.just(-1), SIZE))
    def remove(self, index: int, size: int) -> None:
        stop = None if size < 0 else size
        assert self.buffers[index].remove(size) == self.models[index][:stop]
        del self.models[index][:stop]

    @rule(index=st.integers(0, 1))
    def add_buffer(self, index: int) -> None:
        self.buffers[index].add_buffer(self.buffers[1 - index])
        self.models[index] += self.models[1 - index]
        self.models[1 - index].clear()

    @rule(index=st.integers(0, 1))
    def prepend_buffer(self, index: int) -> None:
        self.buffers[index].prepend_buffer(self.buffers[1 - index])
        self.models[index][:0] = self.models[1 - index]
        self.models[1 - index].clear()

    @rule(index=st.integers(0, 1), size=SIZE)
    def remove_buffer(self, index: int, size: int) -> None:
        source, target = self.models[index], self.models[1 - index]
        moved = self.buffers[index].remove_buffer(self.buffers[1 - index], size)
        assert moved == min(size, len(source))
        target += source[:size]
        del source[:size]

    @rule(index=st.integers(0, 1), eol=st.sampled_from(list(LINE_END)))
    def readln(self, index: int, eol: int) -> None:
        model = self.models[index]
        match = LINE_END[eol].search(model)
        assert self.buffers[index].search_eol(eol) == (
            (match.start(), match.end() - match.start()) if match else (-1, 0)
        )
        assert self.buffers[index].readln(eol) == (model[: match.start()] if match else None)
        if match:
            del model[: match.end()]

    @rule(index=st.integers(0, 1), size=st.one_of(st.just(-1), SIZE))
    def pullup(self, index: int, size: int) -> None:
        model = self.models[index]
        wanted = len(model) if size < 0 else size
        view = self.buffers[index].pullup(size)
        if wanted == 0 or wanted > len(model):
            assert view is None
        else:
            assert view == model[:wanted]
            assert self.buffers[index].contiguous_space >= wanted

    @rule(index=st.integers(0, 1), size=SIZE, start=SIZE)
    def copyout_and_peek(self, index: int, size: int, start: int) -> None:
        buffer, model = self.buffers[index], self.models[index]
        assert buffer.copyout(size, start) == model[start : start + size]
        views = buffer.peek(size, start)
        seen = b"".join(views)
        assert model[start:].startswith(seen)
        assert len(seen) >= min(size, len(model) - start)
        assert size == 0 or all(len(view) > 0 for view in views)

    @rule(index=st.integers(0, 1), needle=st.binary(min_size=1, max_size=3), data=st.data())
    def search(self, index: int, needle: bytes, data: st.DataObject) -> None:
        model = self.models[index]
        if model and data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(model) - 1))
            needle = bytes(model[at : at + len(needle)])
        start = data.draw(st.integers(0, len(model)))
        end = data.draw(st.one_of(st.none(), st.integers(0, len(model) + 2)))
        expected = model.find(needle, start, end) if start < len(model) else -1
        assert self.buffers[index].search(needle, start, end) == expected

    @precondition(lambda self: max(map(len, self.models)) < 30_000)
    @rule(index=st.integers(0, 1), size=st.integers(1, 3000))
    def through_a_pipe(self, index: int, size: int) -> None:
        """Write from one buffer, read into the other."""
        read_fd, write_fd = os.pipe()
        source, target = self.models[index], self.models[1 - index]
        written = self.buffers[index].write(write_fd, size)
        assert 0 <= written <= min(size, len(source))
        assert written or not source
        os.close(write_fd)
        while self.buffers[1 - index].read(read_fd):
            pass
        os.close(read_fd)
        target += source[:written]
        del source[:written]

    @rule(index=st.integers(0, 1))
    def close(self, index: int) -> None:
        self.buffers[index].close()
        self.models[index].clear()
        self.told[index] = 0
        self.buffers[index].add_cb(self.on_change, index)

    @invariant()
    def is_as_the_model(self) -> None:
        held = 0
        for buffer, model, told in zip(self.buffers, self.models, self.told, strict=True):
            assert bytes(buffer) == model
            assert len(buffer) == told == len(model)
            assert all(buffer._chunks)
            assert 0 <= buffer._start < (len(buffer._chunks[0]) if buffer._chunks else 1)
            held += sum(isinstance(chunk, Reference) for chunk in buffer._chunks)
        assert self.cleaned + held == self.references

    def teardown(self) -> None:
        for buffer in self.buffers:
            buffer.close()
        assert self.cleaned == self.references


BufferMachine.TestCase.settings = settings(
    max_examples=250 if IN_CI else 40, stateful_step_count=50
)
TestBufferModel = BufferMachine.TestCase
