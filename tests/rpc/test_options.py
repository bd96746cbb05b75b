"""Options of RPC: what is no limit is refused when they are made, and not in the loop."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.rpc import (
    MethodOptions,
    NameOptions,
    PackingOptions,
    PayloadLimits,
    RetryPolicy,
    StreamOptions,
)

LIMITS = [
    pytest.param(kind, field.name, id=f"{kind.__name__}.{field.name}")
    for kind in (
        MethodOptions,
        NameOptions,
        PackingOptions,
        PayloadLimits,
        RetryPolicy,
        StreamOptions,
    )
    for field in dataclasses.fields(kind)
    if field.name != "codings"
]
NONE_IS_ONE = {"max_concurrent", "max_request_bytes", "max_silence_s"}
ENDLESS = {"max_silence_s", "max_refresh_s", "max_attempts"}


@pytest.mark.parametrize(("kind", "name"), LIMITS)
class TestLimits:
    @pytest.mark.parametrize("value", [-1, math.nan, -math.inf])
    def test_what_is_out_of_range_is_refused(self, kind: Any, name: str, value: float) -> None:
        with pytest.raises(ArgumentError, match=f"{name} must .*{value!r}"):
            kind(**{name: value})

    @pytest.mark.parametrize("value", [None, "5", True])
    def test_what_is_no_number_is_refused(self, kind: Any, name: str, value: object) -> None:
        if value is None and name in NONE_IS_ONE:
            assert getattr(kind(**{name: None}), name) is None
        else:
            with pytest.raises(ArgumentTypeError, match=f"{name} is a number, not {value!r}"):
                kind(**{name: value})

    def test_few_have_no_end(self, kind: Any, name: str) -> None:
        if name in ENDLESS:
            assert getattr(kind(**{name: math.inf}), name) == math.inf
        else:
            with pytest.raises(ArgumentError, match=f"{name} must come to an end: inf"):
                kind(**{name: math.inf})

    def test_zero_is_for_retries_alone(self, kind: Any, name: str) -> None:
        if kind is RetryPolicy:
            assert getattr(kind(**{name: 0}), name) == 0
        else:
            with pytest.raises(ArgumentError, match=f"{name} must be positive: 0"):
                kind(**{name: 0})


@pytest.mark.parametrize("attempts", [63, 64, 1024, 1025, 1_000_000])
def test_a_wait_ends_growing_however_often_a_call_goes(attempts: int) -> None:
    policy = RetryPolicy(max_attempts=2_000_000)
    assert 0.0 <= policy.wait_s(attempts) <= policy.max_backoff_s
