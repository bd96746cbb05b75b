"""WorkerOptions are checked when they are made."""

from __future__ import annotations

from dataclasses import fields
from math import inf, nan

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.workers import WorkerOptions

NAMES = [each.name for each in fields(WorkerOptions) if each.name != "unix_mode"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, 0])
def test_numbers_are_positive_but_for_idle_s(name, value) -> None:
    if name == "idle_s" and value == 0:
        assert WorkerOptions(idle_s=0).idle_s == 0
        return
    with pytest.raises(ArgumentError, match=f"{name}.*{value}"):
        WorkerOptions(**{name: value})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["1", None, True])
def test_they_are_numbers(name, value) -> None:
    with pytest.raises(ArgumentTypeError, match=name):
        WorkerOptions(**{name: value})


@pytest.mark.parametrize("value", [inf, nan])
def test_times_have_an_end(value) -> None:
    with pytest.raises(ArgumentError):
        WorkerOptions(stop_s=value)


@pytest.mark.parametrize("name", ["start_tries", "backlog"])
def test_counts_are_whole(name) -> None:
    with pytest.raises(ArgumentTypeError):
        WorkerOptions(**{name: 1.5})
