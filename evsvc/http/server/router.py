"""Which callback answers a request: by exact path, by the longest prefix, or the general one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.checks import require_handler
from ...core.errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    from ..exchange import AbstractRequest
    from .request import ServerRequest

RequestCallback = Callable[["ServerRequest", Any], object]
"""Called as `cb(request, arg)`."""


class Route(NamedTuple):
    """A callback, its argument, the methods that it takes (None: all), whether it gets the request
    when its head is judged, with the body to come, and whether it does so only where the body has
    not come with the head."""

    callback: RequestCallback
    arg: Any
    methods: frozenset[str] | None = None
    streams: bool = False
    takes_whole: bool = False


class Router:
    """Callbacks by path.  However many there are, a look-up costs what one costs: an exact path is
    one look into a dict, a prefix one for each `/` of the path, within the longest prefix."""

    __slots__ = ("_general", "_longest_prefix", "_paths", "_prefixes", "streams")

    def __init__(self) -> None:
        self._paths: dict[str, Route] = {}
        self._prefixes: dict[str, Route] = {}
        self._longest_prefix = 0
        self._general: Route | None = None
        self.streams = False  # some route does, or did

    def add(
        self,
        path: str,
        callback: RequestCallback,
        arg: object,
        methods: Iterable[str] | None,
        streams: bool,
        takes_whole: bool = False,
    ) -> None:
        """Register a path.

        Raises ArgumentError when it is taken, or neither begins with "/" nor is "*"; or when
        `methods` are none, ArgumentTypeError when they are one text, or for what is no callback.
        """
        if not path.startswith("/") and path != "*":
            raise ArgumentError(f"a path begins with '/': {path!r}")
        if path in self._paths:
            raise ArgumentError(f"the path has a callback already: {path!r}")
        self._paths[path] = _route(path, callback, arg, methods, streams, takes_whole)
        self.streams |= streams

    def add_prefix(
        self,
        prefix: str,
        callback: RequestCallback,
        arg: object,
        methods: Iterable[str] | None,
        streams: bool,
        takes_whole: bool = False,
    ) -> None:
        """Register all paths below one that begins and ends with "/".  Raises as `add`."""
        if not (prefix.startswith("/") and prefix.endswith("/")):
            raise ArgumentError(f"a prefix begins and ends with '/': {prefix!r}")
        if prefix in self._prefixes:
            raise ArgumentError(f"the prefix has a callback already: {prefix!r}")
        self._prefixes[prefix] = _route(prefix, callback, arg, methods, streams, takes_whole)
        self._longest_prefix = max(self._longest_prefix, len(prefix))
        self.streams |= streams

    def remove(self, path: str) -> None:
        """Forget a path.  Raises ArgumentError when it is not registered."""
        if self._paths.pop(path, None) is None:
            raise ArgumentError(f"the path has no callback: {path!r}")

    def remove_prefix(self, prefix: str) -> None:
        """Forget a prefix.  Raises ArgumentError when it is not registered."""
        if self._prefixes.pop(prefix, None) is None:
            raise ArgumentError(f"the prefix has no callback: {prefix!r}")
        self._longest_prefix = max(map(len, self._prefixes), default=0)

    def set_general(self, callback: RequestCallback | None, arg: object, streams: bool) -> None:
        """Set the callback for all other paths; None takes it back."""
        self._general = None if callback is None else _route("", callback, arg, None, streams)
        self.streams |= streams

    def find(self, request: AbstractRequest) -> Route | None:
        """Return the route for a request, or None."""
        if self._paths or self._prefixes:
            path = request.path
            route = self._paths.get(path)
            if route is None and self._prefixes:
                route = self._below(path)
            return self._general if route is None else route
        return self._general

    def _below(self, path: str) -> Route | None:
        end = path.rfind("/", 0, self._longest_prefix)
        while end >= 0:
            route = self._prefixes.get(path[: end + 1])
            if route is not None:
                return route
            end = path.rfind("/", 0, end)
        return None


def _route(
    path: str,
    callback: RequestCallback,
    arg: object,
    methods: Iterable[str] | None,
    streams: bool,
    takes_whole: bool = False,
) -> Route:
    require_handler(callback)
    if isinstance(methods, str):
        raise ArgumentTypeError(f"the methods are several texts, not one: {methods!r}")
    allowed = None if methods is None else frozenset(methods)
    if allowed is not None and not allowed:
        raise ArgumentError(f"no method is allowed for {path!r}")
    if allowed is not None and "GET" in allowed:
        allowed |= {"HEAD"}  # who answers GET answers HEAD (RFC 9110 9.1)
    return Route(callback, arg, allowed, streams, takes_whole)
