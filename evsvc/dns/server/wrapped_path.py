"""Ways back of queries that go by another way, and see what goes along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .request import ReplyPath


class WrappedPath:
    """A ReplyPath that hands everything on to another one, as it is."""

    __slots__ = ("path",)

    def __init__(self, path: ReplyPath) -> None:
        self.path = path

    @property
    def announced_bytes(self) -> int:
        """What the path announces."""
        return self.path.announced_bytes

    @property
    def is_stream(self) -> bool:
        """Whether the path is one."""
        return self.path.is_stream

    @property
    def transport(self) -> str:
        """What carries the path."""
        return self.path.transport

    def limit_for(self, payload: int) -> int:
        """Return what the path allows."""
        return self.path.limit_for(payload)

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Send the reply."""
        self.path.send_reply(packet, address)

    def send_messages(self, messages: Iterator[bytes], address: Any) -> None:
        """Send the messages."""
        self.path.send_messages(messages, address)

    def forget_request(self) -> None:
        """Pass it on."""
        self.path.forget_request()


class HeldPath(WrappedPath):
    """The way back of a datagram that was not answered at once.  done: called when it is."""

    __slots__ = ("_done",)

    def __init__(self, path: ReplyPath, done: Callable[[], object]) -> None:
        super().__init__(path)
        self._done = done

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Send the reply, and tell."""
        super().send_reply(packet, address)
        self._done()

    def forget_request(self) -> None:
        """Pass it on, and tell."""
        super().forget_request()
        self._done()
