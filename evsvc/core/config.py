"""EventConfig: which backend an event base may take, and the base's options."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from .backends import BACKENDS
from .errors import Error
from .flags import BaseFlag, Feature

if TYPE_CHECKING:
    from .backends import Backend

logger = logging.getLogger("evsvc.core")


class NoBackendError(Error, RuntimeError):
    """No backend of this platform satisfies the configuration."""


class EventConfig:
    """What a base may be made of; read when the base is made, so it can be used again.

    Source: event_config_new.
    """

    __slots__ = ("avoided", "features", "flags")

    def __init__(self) -> None:
        self.avoided: set[str] = set()
        self.features = Feature(0)
        self.flags = BaseFlag(0)

    def avoid_method(self, name: str) -> None:
        """Never take the backend `name`; unknown names are fine (event_config_avoid_method)."""
        self.avoided.add(name)

    def require_features(self, features: int) -> None:
        """Take only a backend with all of `features` (event_config_require_features)."""
        self.features = Feature(features)

    def set_flag(self, flag: int) -> None:
        """Add an option; there is no way to take one back (event_config_set_flag)."""
        self.flags |= BaseFlag(flag)

    def choose_backend(self) -> Backend:
        """Make the best backend that is allowed.  Raises NoBackendError, saying why none was.

        An environment variable `EVENT_NO<BACKEND>`, whatever its value, forbids a backend unless
        EVENT_BASE_FLAG_IGNORE_ENV is set; `EVENT_SHOW_METHOD` logs the choice.
        """
        use_env = not self.flags & BaseFlag.EVENT_BASE_FLAG_IGNORE_ENV
        refused = []
        for kind in BACKENDS:
            if kind.name in self.avoided:
                refused.append(f"{kind.name} is avoided")
            elif use_env and f"EVENT_NO{kind.name.upper()}" in os.environ:
                refused.append(f"{kind.name} is disabled by EVENT_NO{kind.name.upper()}")
            elif self.features & ~kind.features:
                refused.append(f"{kind.name} lacks {self.features & ~kind.features!r}")
            else:
                if use_env and "EVENT_SHOW_METHOD" in os.environ:
                    logger.info("using: %s", kind.name)
                return kind()
        raise NoBackendError("no backend fits: " + "; ".join(refused))
