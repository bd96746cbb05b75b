"""EventConfig: which backend an event base may take, and the base's options."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from ..backends import BACKENDS, ChangelistEpollBackend, EpollBackend
from ..checks import check_timeout, flag_bits, whole_number
from ..errors import ArgumentTypeError, Error
from ..flags import BaseFlag, Feature

if TYPE_CHECKING:
    from ..backends import Backend

_FEATURES = sum(Feature)
_BASE_FLAGS = sum(BaseFlag)

logger = logging.getLogger("evsvc.core")


class NoBackendError(Error, RuntimeError):
    """No backend of this platform satisfies the configuration."""


class DispatchLimits(NamedTuple):
    """How long one pass may call back before the loop looks for more urgent events."""

    max_interval: float | None
    max_callbacks: int | None
    min_priority: int


class EventConfig:
    """What a base may be made of; read when the base is made, so it can be used again.

    Source: event_config_new.
    """

    __slots__ = ("avoided", "features", "flags", "limits")

    def __init__(self) -> None:
        self.avoided: set[str] = set()
        self.features = Feature(0)
        self.flags = BaseFlag(0)
        self.limits: DispatchLimits | None = None

    def avoid_method(self, name: str) -> None:
        """Never take the backend `name`; unknown names are fine (event_config_avoid_method).

        Raises ArgumentTypeError for what is no name.
        """
        if not isinstance(name, str):
            raise ArgumentTypeError(f"a backend's name is a text, not {name!r}")
        self.avoided.add(name)

    def require_features(self, features: int) -> None:
        """Take only a backend with all of `features` (event_config_require_features).

        Raises ArgumentError for unknown ones.
        """
        self.features = Feature(flag_bits(features, "features", _FEATURES))

    def set_flag(self, flag: int) -> None:
        """Add an option; there is no way to take one back (event_config_set_flag).

        EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST has epoll told of changes just before each wait, which
        saves system calls where events come and go beside another on the same descriptor.  Delete
        a descriptor's events before you close it, or replace it by dup2(), when a dup or a forked
        child may hold the file: what epoll is not told yet it can only refuse at the wait, and the
        descriptor's events are then called to see the error for themselves.

        Raises ArgumentError for an unknown one.
        """
        self.flags |= BaseFlag(flag_bits(flag, "flags of a base", _BASE_FLAGS))

    def set_max_dispatch_interval(
        self, max_interval: float | None, max_callbacks: int, min_priority: int
    ) -> None:
        """Look for new events after `max_interval` seconds or `max_callbacks` callbacks of a pass.

        Holds for callbacks of priority `min_priority` and less urgent; at least one always runs.
        None and a negative number are no limit.  Raises ArgumentError for a negative interval,
        ArgumentTypeError for what is no number.
        Source: event_config_set_max_dispatch_interval.
        """
        if max_interval is not None:
            check_timeout(max_interval)
        whole_number(max_callbacks, "the number of callbacks")
        whole_number(min_priority, "a priority")
        if max_interval is None and max_callbacks < 0:
            self.limits = None
        else:
            most = max_callbacks if max_callbacks >= 0 else None
            self.limits = DispatchLimits(max_interval, most, max(min_priority, 0))

    def set_num_cpus_hint(self, cpus: int) -> None:
        """Accept libevent's hint for Windows completion ports, which has no effect here.

        Source: event_config_set_num_cpus_hint.
        """

    def choose_backend(self) -> Backend:
        """Make the best backend that is allowed.  Raises NoBackendError, saying why none was.

        An environment variable `EVENT_NO<BACKEND>`, whatever its value, forbids a backend unless
        EVENT_BASE_FLAG_IGNORE_ENV is set; `EVENT_SHOW_METHOD` logs the choice.
        `EVENT_EPOLL_USE_CHANGELIST` and `EVENT_PRECISE_TIMER` are as the flags of these names.
        A process with another user's rights ignores them all.
        """
        ignores_env = self.flags & BaseFlag.EVENT_BASE_FLAG_IGNORE_ENV
        use_env = not (ignores_env or _has_others_rights())
        refused = []
        for kind in BACKENDS:
            if kind.name in self.avoided:
                refused.append(f"{kind.name} is avoided")
            elif use_env and f"EVENT_NO{kind.name.upper()}" in os.environ:
                refused.append(f"{kind.name} is disabled by EVENT_NO{kind.name.upper()}")
            elif self.features & ~kind.features:
                lacking = self.features & ~kind.features
                refused.append(f"{kind.name} lacks {' and '.join(f.name or '' for f in lacking)}")
            else:
                try:
                    backend = self._make(kind, use_env=use_env)
                except OSError as exc:
                    refused.append(f"{kind.name} cannot be had: {exc.strerror}")
                    continue
                if use_env and "EVENT_SHOW_METHOD" in os.environ:
                    logger.info("using: %s", backend.name)
                return backend
        raise NoBackendError("no backend fits: " + "; ".join(refused))

    def _make(self, kind: type[Backend], *, use_env: bool) -> Backend:
        if kind is not EpollBackend:
            return kind()

        def wanted(flag: BaseFlag, variable: str) -> bool:
            return bool(self.flags & flag) or (use_env and variable in os.environ)

        precise = wanted(BaseFlag.EVENT_BASE_FLAG_PRECISE_TIMER, "EVENT_PRECISE_TIMER")
        changelist = BaseFlag.EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST
        if wanted(changelist, "EVENT_EPOLL_USE_CHANGELIST"):
            return ChangelistEpollBackend(precise=precise)
        return EpollBackend(precise=precise)


def _has_others_rights() -> bool:
    return os.geteuid() != os.getuid() or os.getegid() != os.getgid()
