"""What is no argument of a TLS bufferevent is refused at the call, which changes nothing."""

from __future__ import annotations

import errno
import gc
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_UNLOCK_CALLBACKS,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    BUFFEREVENT_SSL_OPEN,
    EV_READ,
    EVLOOP_NONBLOCK,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    EventBase,
    StateError,
    TlsBufferEvent,
    TlsEngine,
)
from evsvc.core.bufferevent.below import Below
from tests.core.bevs import LOOPBACK, Pair, never
from tests.core.tls_ends import HOST, contexts

CONNECTING, ACCEPTING = BUFFEREVENT_SSL_CONNECTING, BUFFEREVENT_SSL_ACCEPTING


@pytest.fixture
def base() -> Iterator[EventBase]:
    """Return a base over the best backend: no argument is judged by any of them."""
    with EventBase() as base:
        yield base


@pytest.mark.parametrize("state", [CONNECTING, ACCEPTING])
@pytest.mark.parametrize(
    "terms",
    [
        {"context": None},
        {"context": "context"},
        {"server_hostname": 5},
        {"handshake_timeout_s": "1"},
    ],
    ids=str,
)
def test_a_wrong_type_leaves_what_is_below_alone(
    base: EventBase, pair: Pair, state: int, terms: dict[str, Any]
) -> None:
    context = contexts()[0 if state == CONNECTING else 1]
    terms = {"context": context, "server_hostname": HOST, "state": state, **terms}
    with BufferEvent(base, pair[1]) as below:
        below.setcb(None, None, None, "mine")
        with pytest.raises(ArgumentTypeError):
            TlsBufferEvent.socket_new(base, pair[0], options=BEV_OPT_CLOSE_ON_FREE, **terms)
        with pytest.raises(ArgumentTypeError):
            TlsBufferEvent.filter_new(below, options=BEV_OPT_CLOSE_ON_FREE, **terms)
        assert below.getcb()[3] == "mine"
    pair[0].send(b"x")
    assert pair[1].recv(9) == b"x"


@pytest.mark.parametrize("wrong", [None, 5, "base"])
def test_a_base_and_a_bufferevent_are_what_they_are_called(pair: Pair, wrong: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="EventBase"):
        TlsBufferEvent.socket_new(wrong, pair[0], contexts()[1], ACCEPTING)
    with pytest.raises(ArgumentTypeError, match="bufferevent"):
        TlsBufferEvent.filter_new(wrong, contexts()[1], ACCEPTING)


@pytest.mark.parametrize("name", [None, HOST])
def test_a_host_to_connect_to_is_text(base: EventBase, name: str | None) -> None:
    """Whether it is to be checked, or another name is; a later call can do better."""
    wrong: Any = 5
    with TlsBufferEvent.socket_new(
        base, None, contexts()[0], CONNECTING, server_hostname=name
    ) as bev:
        with pytest.raises(ArgumentTypeError, match="host name"):
            bev.connect((wrong, 80))
        with pytest.raises(ArgumentTypeError, match="host name"):
            bev.connect_hostname(None, socket.AF_UNSPEC, wrong, 1)
        with pytest.raises(ArgumentError):
            bev.connect(())  # type: ignore[arg-type]
        assert bev.fd == -1
        with socket.create_server((LOOPBACK, 0)) as listening:
            bev.connect(listening.getsockname())
            assert bev.fd != -1


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"state": None}, ArgumentTypeError),
        ({"state": 1.0}, ArgumentTypeError),
        ({"state": b"1"}, ArgumentTypeError),
        ({"state": "1"}, ArgumentError),
        ({"state": 7}, ArgumentError),
        ({"server_hostname": b"a\0b"}, ArgumentError),
        ({"server_hostname": "a\0b"}, ArgumentError),
        ({"server_hostname": [HOST]}, ArgumentTypeError),
        ({"session": 5}, ArgumentTypeError),
        ({"session": "session"}, ArgumentTypeError),
        ({"options": "1"}, ArgumentTypeError),
        ({"options": None}, ArgumentTypeError),
        ({"options": 0x10}, ArgumentError),
        ({"options": BEV_OPT_UNLOCK_CALLBACKS}, ArgumentError),
        ({"handshake_timeout_s": float("nan")}, ArgumentError),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", [CONNECTING, ACCEPTING])
@pytest.mark.parametrize("options", [0, int(BEV_OPT_CLOSE_ON_FREE)])
def test_what_is_refused_leaves_no_trace(
    base: EventBase,
    pair: Pair,
    side: int,
    options: int,
    terms: dict[str, Any],
    error: type[Exception],
) -> None:
    """The descriptor is as blocking as it was, and nothing waits for the cyclic collector."""
    context = contexts()[0 if side == CONNECTING else 1]
    told = {"context": context, "server_hostname": HOST, "state": side, "options": options, **terms}
    pair[0].setblocking(True)
    with BufferEvent(base, pair[1]) as below:
        callbacks = (never, never, never, "mine")
        below.setcb(*callbacks)
        with no_bufferevent_stays():
            for fd in (pair[0], pair[0].fileno()):
                with pytest.raises(error):
                    TlsBufferEvent.socket_new(base, fd, **told)
            with pytest.raises(error):
                TlsBufferEvent.filter_new(below, **told)
        assert below.getcb() == callbacks
        assert not below.enabled & EV_READ
    assert pair[0].fileno() != -1
    assert pair[0].gettimeout() is None
    assert os.get_blocking(pair[0].fileno())


@pytest.mark.parametrize("options", [0, int(BEV_OPT_CLOSE_ON_FREE)])
def test_what_the_kernel_refuses_leaves_no_trace(
    base: EventBase, pair: Pair, monkeypatch: pytest.MonkeyPatch, options: int
) -> None:
    """When all arguments were good, and the one below cannot be enabled."""

    def refuse(below: Below, directions: int) -> None:
        raise OSError(errno.EPERM, "not to be watched")

    monkeypatch.setattr(Below, "enable", refuse)
    pair[0].setblocking(True)
    with BufferEvent(base, pair[1]) as under:
        with no_bufferevent_stays():
            for fd in (pair[0], pair[0].fileno()):
                with pytest.raises(OSError, match="not to be watched"):
                    TlsBufferEvent.socket_new(base, fd, contexts()[1], ACCEPTING, options)
            with pytest.raises(OSError, match="not to be watched"):
                TlsBufferEvent.filter_new(under, contexts()[1], ACCEPTING, options)
        assert not under.closed
        under.write(b"usable")
        base.loop(EVLOOP_NONBLOCK)
        assert pair[0].recv(9) == b"usable"
    assert pair[0].fileno() != -1
    if not options:
        assert os.get_blocking(pair[0].fileno())


def count_bufferevents() -> int:
    return sum(type(each) in (BufferEvent, TlsBufferEvent) for each in gc.get_objects())


@contextmanager
def no_bufferevent_stays() -> Iterator[None]:
    """Check that none is left of those that are made meanwhile, without the cyclic collector."""
    gc.collect()
    gc.disable()
    try:
        before = count_bufferevents()
        yield
        assert count_bufferevents() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("wrong", [5, "callback", b"x"])
def test_a_datacb_can_be_called(base: EventBase, wrong: Any) -> None:
    with TlsBufferEvent.socket_new(
        base, None, contexts()[0], CONNECTING, server_hostname=HOST
    ) as bev:
        with pytest.raises(ArgumentTypeError, match=re.escape(repr(wrong))):
            bev.set_datacb(wrong)
        bev.set_datacb(None)
    with pytest.raises(StateError, match="closed"):
        bev.set_datacb(None)


@pytest.mark.parametrize("wrong", ["1", None, 1.0])
def test_flags_of_tls_are_numbers(base: EventBase, wrong: Any) -> None:
    with TlsBufferEvent.socket_new(
        base, None, contexts()[0], CONNECTING, server_hostname=HOST
    ) as bev:
        with pytest.raises(ArgumentTypeError, match="flags"):
            bev.ssl_flags = wrong
        assert bev.ssl_flags == 0


def test_an_open_engine_has_shaken_hands(base: EventBase, pair: Pair) -> None:
    """Else what is written to it would go nowhere."""
    engine = TlsEngine(contexts()[1], server_side=True)
    with pytest.raises(ArgumentError, match="shaken hands"):
        TlsBufferEvent.socket_new(base, pair[0], engine, BUFFEREVENT_SSL_OPEN)


def test_a_host_to_connect_to_has_no_nul(base: EventBase) -> None:
    """Also where another name is the one that is checked."""
    for name in (None, HOST):
        with TlsBufferEvent.socket_new(
            base, None, contexts()[0], CONNECTING, server_hostname=name
        ) as bev:
            with pytest.raises(ArgumentError, match="NUL"):
                bev.connect_hostname(None, socket.AF_UNSPEC, "a\0b", 1)
            assert bev.fd == -1
