"""Options of HTTP: what is no limit is refused when they are made, and not in the loop."""

from __future__ import annotations

import dataclasses
import math

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.http import (
    ClientOptions,
    EventStreamOptions,
    HttpClientOptions,
    PoolOptions,
    ReaderLimits,
    ServerOptions,
)
from evsvc.http.websocket import WebSocketOptions
from tests.http.outcomes import Outcomes
from tests.http.peers import response

KINDS = (
    ServerOptions,
    ClientOptions,
    ReaderLimits,
    WebSocketOptions,
    EventStreamOptions,
    PoolOptions,
    HttpClientOptions,
)

ENDLESS = ("connect_s", "read_s", "continue_s", "idle_s", "exchange_s")


def type_of(field: dataclasses.Field) -> str:
    """As it is written, also where it is no text."""
    return getattr(field.type, "__name__", str(field.type))


def may_be_none(field: dataclasses.Field) -> bool:
    return type_of(field).endswith(" | None")


LIMITS = [
    pytest.param(kind, field, id=f"{kind.__name__}.{field.name}")
    for kind in KINDS
    for field in dataclasses.fields(kind)
    if type_of(field).removesuffix(" | None") in ("int", "float")
    and field.name != "connect_retries"
]


@pytest.mark.parametrize(("kind", "field"), LIMITS)
class TestLimits:
    @pytest.mark.parametrize("value", [-1, -0.5, math.nan, -math.inf])
    def test_what_is_out_of_range_is_refused(self, kind, field, value) -> None:
        with pytest.raises(ArgumentError, match=f"{field.name} .*{value!r}"):
            kind(**{field.name: value})

    def test_one_without_end_is_for_a_clients_waits_alone(self, kind, field) -> None:
        if kind is ClientOptions and field.name in ENDLESS:
            assert getattr(kind(**{field.name: math.inf}), field.name) == math.inf
        else:
            with pytest.raises(ArgumentError, match=f"{field.name} must come to an end: inf"):
                kind(**{field.name: math.inf})

    def test_zero_is_a_limit_of_what_is_read_alone(self, kind, field) -> None:
        if kind is ReaderLimits:
            assert getattr(kind(**{field.name: 0}), field.name) == 0
        else:
            with pytest.raises(ArgumentError, match=f"{field.name} must be positive: 0"):
                kind(**{field.name: 0})

    @pytest.mark.parametrize("value", ["5", True, [5]])
    def test_what_is_no_number_is_refused(self, kind, field, value) -> None:
        with pytest.raises(ArgumentTypeError, match=f"{field.name} is a number, not"):
            kind(**{field.name: value})

    def test_none_is_for_those_that_can_be_without(self, kind, field) -> None:
        if may_be_none(field):
            assert getattr(kind(**{field.name: None}), field.name) is None
        else:
            with pytest.raises(ArgumentTypeError, match=f"{field.name} is a number, not None"):
                kind(**{field.name: None})

    def test_the_least_and_a_great_one_are_taken(self, kind, field) -> None:
        for value in (1, 10**12):
            assert getattr(kind(**{field.name: value}), field.name) == value


def test_a_client_that_waits_for_ever_does(connect, origin, clock) -> None:
    options = ClientOptions(**dict.fromkeys(ENDLESS, math.inf))
    client = Outcomes(connect(options=options))
    client.make("/a", "POST", ("Expect", "100-continue"), body=b"body")
    peer = origin.accept()
    peer.read_head()
    clock.advance(1e6)
    assert peer.is_open()
    assert not peer.received
    peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert peer.read_bytes(4) == b"body"
    clock.advance(1e6)
    assert peer.is_open()
    peer.send(response())
    assert client.given == [("/a", 200)]
    clock.advance(1e6)
    assert peer.is_open()
    client.make("/b")
    assert peer.read_head()[0] == "GET /b HTTP/1.1"


@pytest.mark.parametrize("kind", [ServerOptions, ClientOptions])
@pytest.mark.parametrize("wrong", [None, 5, {}])
def test_what_are_no_reader_limits_is_refused(kind, wrong) -> None:
    with pytest.raises(ArgumentTypeError, match="limits"):
        kind(limits=wrong)


def test_each_kind_has_limits_here() -> None:
    assert {param.values[0] for param in LIMITS} == set(KINDS)
    assert len(LIMITS) > 50
