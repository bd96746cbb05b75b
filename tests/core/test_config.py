"""EventConfig and the environment: which backend a base gets."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket

import pytest

from evsvc.core import (
    EV_FEATURE_EARLY_CLOSE,
    EV_FEATURE_ET,
    EV_FEATURE_FDS,
    EV_FEATURE_O1,
    EVENT_BASE_FLAG_IGNORE_ENV,
    EVENT_BASE_FLAG_NO_CACHE_TIME,
    ArgumentError,
    EventBase,
    EventConfig,
    NoBackendError,
    supported_methods,
)
from tests.core.conftest import config_for

METHODS = supported_methods()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EVENT_"):
            monkeypatch.delenv(name)


def method_of(config: EventConfig | None = None) -> str:
    with EventBase(config) as base:
        return base.method


def test_the_default_is_the_best() -> None:
    assert method_of() == METHODS[0]


@pytest.mark.skipif(len(METHODS) < 2, reason="one backend only")
def test_the_best_can_be_avoided() -> None:
    """event_config_avoid_method of the first one: the base has a different method."""
    config = EventConfig()
    config.avoid_method(METHODS[0])
    config.avoid_method("no such backend")
    config.avoid_method(METHODS[1].upper())  # names are case-sensitive
    assert method_of(config) == METHODS[1]


def test_avoiding_every_method_leaves_no_base() -> None:
    """No backend is an error that can be caught, and never the end of the process."""
    config = EventConfig()
    for name in METHODS:
        config.avoid_method(name)
    with pytest.raises(NoBackendError, match=f"{METHODS[-1]} is avoided"):
        EventBase(config)


@pytest.mark.parametrize(
    ("name", "has", "lacks"),
    [
        ("epoll", EV_FEATURE_ET | EV_FEATURE_O1 | EV_FEATURE_EARLY_CLOSE, EV_FEATURE_FDS),
        ("poll", EV_FEATURE_FDS, EV_FEATURE_ET | EV_FEATURE_O1),
        ("select", EV_FEATURE_FDS, EV_FEATURE_ET | EV_FEATURE_O1 | EV_FEATURE_EARLY_CLOSE),
    ],
)
def test_the_features_of_a_method(name: str, has: int, lacks: int) -> None:
    """event_base_get_features: epoll is edge-triggered, O(1) and refuses regular files."""
    if name not in METHODS:
        pytest.skip(f"no {name} here")
    with EventBase(config_for(name)) as base:
        assert base.method == name
        assert base.features & has == has
        assert not base.features & lacks


def test_a_config_serves_several_bases() -> None:
    """event_config is copied: it can be used again, or changed, after the base was made."""
    config = EventConfig()
    assert method_of(config) == method_of(config)
    with EventBase(config) as base:
        config.avoid_method(base.method)
        assert base.dispatch() == 1
        assert base.method == METHODS[0]


@pytest.mark.parametrize("value", ["1", ""])
def test_the_environment_disables_a_backend(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """EVENT_NO<default> changes the method; IGNORE_ENV brings it back."""
    monkeypatch.setenv(f"EVENT_NO{METHODS[0].upper()}", value)
    assert method_of() == METHODS[1]
    config = EventConfig()
    config.set_flag(EVENT_BASE_FLAG_IGNORE_ENV)
    assert method_of(config) == METHODS[0]


@pytest.mark.parametrize("which", ["geteuid", "getegid"])
def test_with_another_users_rights_the_environment_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """A setuid process ignores what its caller has put into the environment."""
    monkeypatch.setenv(f"EVENT_NO{METHODS[0].upper()}", "1")
    monkeypatch.setattr(os, which, lambda: -1)
    assert method_of() == METHODS[0]


def test_flags_add_up() -> None:
    config = EventConfig()
    config.set_flag(EVENT_BASE_FLAG_IGNORE_ENV)
    config.set_flag(EVENT_BASE_FLAG_NO_CACHE_TIME)
    assert config.flags == EVENT_BASE_FLAG_IGNORE_ENV | EVENT_BASE_FLAG_NO_CACHE_TIME


@pytest.mark.parametrize("feature", [EV_FEATURE_ET, EV_FEATURE_FDS, EV_FEATURE_EARLY_CLOSE])
def test_a_required_feature_is_there_or_the_base_is_not(feature: int) -> None:
    """event_config_require_features never silently degrades."""
    config = EventConfig()
    config.require_features(feature)
    try:
        base = EventBase(config)
    except NoBackendError:
        with EventBase() as any_base:
            assert not any_base.features & feature
    else:
        assert base.features & feature
        base.close()


def test_no_backend_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EventConfig()
    monkeypatch.setenv("EVENT_NOSELECT", "1")
    config.avoid_method("poll")
    config.require_features(EV_FEATURE_FDS | EV_FEATURE_ET)
    with pytest.raises(NoBackendError) as caught:
        EventBase(config)
    for reason in ("poll is avoided", "EVENT_NOSELECT", "epoll lacks"):
        assert reason in str(caught.value)


def test_the_choice_can_be_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EVENT_SHOW_METHOD", "1")
    with caplog.at_level(logging.INFO, logger="evsvc.core"):
        method = method_of()
    assert caplog.messages == [f"using: {method}"]


def test_a_base_leaves_no_descriptor_open(config: EventConfig) -> None:
    """Made and freed around another one, both with signals: by number, the signal pipe, too."""
    before = set(os.listdir("/proc/self/fd"))
    with EventBase(config) as outer, EventBase(config) as inner:
        for base in (outer, inner):
            base.signal(signal.SIGUSR1, lambda *_: None).add()
        assert set(os.listdir("/proc/self/fd")) > before
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_base_that_select_cannot_wake_is_not_made() -> None:
    """The wake-up socket gets a number past FD_SETSIZE; nothing is left open."""
    config = EventConfig()
    for name in METHODS:
        if name != "select":
            config.avoid_method(name)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1100:
        pytest.skip("too few descriptors allowed")
    held = [socket.socket() for _ in range(1030)]
    before = set(os.listdir("/proc/self/fd"))
    try:
        with pytest.raises(ArgumentError, match="select cannot watch"):
            EventBase(config)
        assert set(os.listdir("/proc/self/fd")) == before
    finally:
        for sock in held:
            sock.close()
