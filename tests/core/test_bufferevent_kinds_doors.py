"""What a protocol asks of any bufferevent that carries it: bytes, what is unread, and the end."""

from __future__ import annotations

from typing import Any

import pytest

from evsvc.core import (
    EV_READ,
    ArgumentTypeError,
    BufferEvent,
    EventBase,
    PairBufferEvent,
    StateError,
)
from tests.core.bevs import never
from tests.core.filters import settle
from tests.core.kinds import Ends


def test_a_data_callback_gets_all_that_comes(ends: Ends, fake_base: EventBase) -> None:
    """In place of the read callback, with nothing left in the input, also a long way."""
    one, other = ends
    got = bytearray()

    def take(bev: object, data: bytes, ctx: object) -> None:
        assert bev is one
        assert data
        assert ctx == "ctx"
        got.extend(data)

    one.setcb(never, None, None, "ctx")
    one.set_datacb(take)
    one.enable(EV_READ)
    for piece in (b"one", b"two" * 20_000):
        got.clear()
        other.write(piece)
        settle(fake_base)
        assert got == piece
    assert len(one.input) == 0


def test_a_data_callback_may_disable_and_close(ends: Ends, fake_base: EventBase) -> None:
    one, other = ends
    got: list[bytes] = []

    def take(bev: Any, data: bytes, ctx: object) -> None:
        got.append(data)
        if len(got) == 1:
            bev.disable(EV_READ)
        else:
            bev.close()

    one.set_datacb(take)
    one.enable(EV_READ)
    other.write(b"one")
    settle(fake_base)
    other.write(b"two")
    settle(fake_base)
    assert got == [b"one"]
    one.enable(EV_READ)
    settle(fake_base)
    other.write(b"three")
    settle(fake_base)
    assert got == [b"one", b"two"]


def test_without_a_data_callback_the_input_is_filled_again(
    ends: Ends, fake_base: EventBase
) -> None:
    one, other = ends
    one.set_datacb(never)
    one.set_datacb(None)
    one.enable(EV_READ)
    other.write(b"for the input")
    settle(fake_base)
    assert one.read() == b"for the input"


def test_a_data_callback_can_be_called_and_wants_an_open_one(ends: Ends) -> None:
    one, _ = ends
    with pytest.raises(ArgumentTypeError, match="5"):
        one.set_datacb(5)  # type: ignore[arg-type]
    one.close()
    with pytest.raises(StateError):
        one.set_datacb(never)


def test_what_is_unread_is_seen(ends: Ends, fake_base: EventBase) -> None:
    """Wherever it is: with the kernel, below, or in the input."""
    one, other = ends
    one.enable(EV_READ)
    settle(fake_base)  # TLS may have something to say first
    one.disable(EV_READ)
    assert not one.has_unread()
    other.write(b"wait for me")
    settle(fake_base)
    assert one.has_unread()
    one.enable(EV_READ)
    settle(fake_base)
    assert one.has_unread()
    one.read()
    assert not one.has_unread()


def test_the_end_is_seen_though_nothing_is_read(ends: Ends, fake_base: EventBase) -> None:
    """Once, from the loop, with bytes before it that are not read yet."""
    one, other = ends
    told: list[str] = []
    one.watch_end(lambda: told.append("end"))
    other.write(b"last words")
    settle(fake_base)
    assert told == []
    other.close()
    assert told == []
    settle(fake_base)
    settle(fake_base)
    assert told == ["end"]


def test_an_end_that_has_come_is_seen_by_who_looks_later(ends: Ends, fake_base: EventBase) -> None:
    one, other = ends
    told: list[str] = []
    other.close()
    settle(fake_base)
    one.watch_end(lambda: told.append("end"))
    settle(fake_base)
    assert told == ["end"]


def test_a_watch_for_the_end_is_taken_back(ends: Ends, fake_base: EventBase) -> None:
    """By None, by another, and by closing."""
    one, other = ends
    told: list[str] = []
    one.watch_end(never)
    one.watch_end(lambda: told.append("end"))
    other.close()
    settle(fake_base)
    assert told == ["end"]
    one.watch_end(never)
    one.watch_end(None)
    settle(fake_base)
    one.watch_end(never)
    one.close()
    settle(fake_base)
    with pytest.raises(StateError):
        one.watch_end(never)


def test_a_goodbye_is_said_where_the_end_is_bytes(ends: Ends) -> None:
    """By TLS and by filters; not where the end is the transport's own."""
    assert all(
        bev.says_goodbye is not isinstance(bev, (BufferEvent, PairBufferEvent)) for bev in ends
    )
