"""Which callback answers a request: the one for its path, or the general one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    from ..exchange import AbstractRequest

RequestCallback = Callable[[Any, Any], object]
"""Called as `cb(request, arg)`."""


class Route(NamedTuple):
    """A callback, its argument, and the methods that it takes (None: all)."""

    callback: RequestCallback
    arg: Any
    methods: frozenset[str] | None


class Router:
    """Callbacks by exact path, and a general one."""

    __slots__ = ("_general", "_paths")

    def __init__(self) -> None:
        self._paths: dict[str, Route] = {}
        self._general: Route | None = None

    def add(
        self, path: str, callback: RequestCallback, arg: object, methods: Iterable[str] | None
    ) -> None:
        """Register a path.

        Raises ArgumentError when it is taken, or neither begins with "/" nor is "*"; or when
        `methods` are none, ArgumentTypeError when they are one text.
        """
        if not path.startswith("/") and path != "*":
            raise ArgumentError(f"a path begins with '/': {path!r}")
        if path in self._paths:
            raise ArgumentError(f"the path has a callback already: {path!r}")
        if isinstance(methods, str):
            raise ArgumentTypeError(f"the methods are several texts, not one: {methods!r}")
        allowed = None if methods is None else frozenset(methods)
        if allowed is not None and not allowed:
            raise ArgumentError(f"no method is allowed for {path!r}")
        if allowed is not None and "GET" in allowed:
            allowed |= {"HEAD"}  # who answers GET answers HEAD (RFC 9110 9.1)
        self._paths[path] = Route(callback, arg, allowed)

    def remove(self, path: str) -> None:
        """Forget a path.  Raises ArgumentError when it is not registered."""
        if self._paths.pop(path, None) is None:
            raise ArgumentError(f"the path has no callback: {path!r}")

    def set_general(self, callback: RequestCallback | None, arg: object) -> None:
        """Set the callback for all other paths; None takes it back."""
        self._general = None if callback is None else Route(callback, arg, None)

    def find(self, request: AbstractRequest) -> Route | None:
        """Return the route for a request, or None."""
        if self._paths:
            return self._paths.get(request.path, self._general)
        return self._general
