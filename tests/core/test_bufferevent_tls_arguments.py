"""What is no argument of a TLS bufferevent is refused at the call, which changes nothing."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    BUFFEREVENT_SSL_CONNECTING,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    EventBase,
    TlsBufferEvent,
)
from tests.core.bevs import LOOPBACK, Pair
from tests.core.tls_ends import HOST, contexts

CONNECTING, ACCEPTING = BUFFEREVENT_SSL_CONNECTING, BUFFEREVENT_SSL_ACCEPTING


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
