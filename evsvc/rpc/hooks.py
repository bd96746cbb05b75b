"""Hooks: functions of the program that see each call's bytes on their way in and out (evrpc_hook).

A hook is called as `hook(call, http_request, body, arg)`, in the order in which they were added;
`body` is an EvBuffer with the payload, which it may rewrite.  What it returns decides:

    EVRPC_CONTINUE, None    the next one, or the call itself
    EVRPC_TERMINATE         the call ends here
    EVRPC_PAUSE             the call waits for `call.resume(EVRPC_CONTINUE or EVRPC_TERMINATE)`

One that raises terminates the call; the exception is logged, and told to the base's handler.  After
a pause the hooks behind it run, too; libevent leaves them out.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.checks import require_callable
from ..core.errors import ArgumentError, StateError

if TYPE_CHECKING:
    from ..core import EvBuffer


class HookKind(enum.IntEnum):
    """Which way the bytes go that a hook sees."""

    EVRPC_INPUT = 0
    EVRPC_OUTPUT = 1


class HookResult(enum.IntEnum):
    """What a hook decides."""

    EVRPC_TERMINATE = -1
    EVRPC_CONTINUE = 0
    EVRPC_PAUSE = 1


EVRPC_INPUT, EVRPC_OUTPUT = HookKind
EVRPC_TERMINATE, EVRPC_CONTINUE, EVRPC_PAUSE = HookResult

HookCallback = Callable[[Any, Any, "EvBuffer", Any], "HookResult | int | None"]
"""Called as `hook(call, http_request, body, arg)`."""


class Hook(NamedTuple):
    """One hook, by which it can be removed."""

    kind: HookKind
    callback: HookCallback
    arg: Any


class HookList:
    """The hooks of a server or of a pool, each kind in the order of addition."""

    __slots__ = ("input", "output")

    def __init__(self) -> None:
        self.input: tuple[Hook, ...] = ()
        self.output: tuple[Hook, ...] = ()

    def add(self, kind: int, callback: HookCallback, arg: object) -> Hook:
        """Add a hook.  Raises ArgumentError for another kind, ArgumentTypeError for what cannot be
        called."""
        require_callable(callback)
        if kind not in tuple(HookKind):
            raise ArgumentError(f"a hook is EVRPC_INPUT or EVRPC_OUTPUT: {kind!r}")
        hook = Hook(HookKind(kind), callback, arg)
        if hook.kind is EVRPC_INPUT:
            self.input = (*self.input, hook)
        else:
            self.output = (*self.output, hook)
        return hook

    def remove(self, hook: Hook) -> None:
        """Remove a hook.  Raises ArgumentError when it is not here."""
        if not any(each is hook for each in (*self.input, *self.output)):
            raise ArgumentError(f"no hook of this list: {hook!r}")
        self.input = tuple(each for each in self.input if each is not hook)
        self.output = tuple(each for each in self.output if each is not hook)


class HookRun:
    """One call's way through the hooks of one kind.

    done: called once, with whether the call goes on.  failed: called with what a hook raised.
    """

    __slots__ = ("_done", "_failed", "_hooks", "_seen", "paused")

    def __init__(
        self,
        hooks: tuple[Hook, ...],
        seen: tuple[Any, Any, EvBuffer],
        done: Callable[[bool], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._hooks = iter(hooks)
        self._seen: tuple[Any, Any, EvBuffer] | None = seen
        self._done: Callable[[bool], object] | None = done
        self._failed = failed
        self.paused = False

    def run(self) -> None:
        """Call the hooks that are left, up to one that does not go on."""
        assert self._seen is not None
        for hook in self._hooks:
            try:
                result = HookResult(hook.callback(*self._seen, hook.arg) or 0)
            except Exception as exc:
                self._failed(exc)
                result = EVRPC_TERMINATE
            if result is EVRPC_PAUSE:
                self.paused = True
                return
            if result is EVRPC_TERMINATE:
                self._end(False)
                return
        self._end(True)

    def resume(self, result: int) -> None:
        """Go on after a pause.

        Raises StateError when there is none, ArgumentError for what is neither EVRPC_CONTINUE nor
        EVRPC_TERMINATE.
        """
        if not self.paused:
            raise StateError("the call is not paused")
        if result not in (EVRPC_CONTINUE, EVRPC_TERMINATE):
            raise ArgumentError(f"resume by EVRPC_CONTINUE or EVRPC_TERMINATE, not {result!r}")
        self.paused = False
        if result == EVRPC_TERMINATE:
            self._end(False)
        else:
            self.run()

    def _end(self, goes_on: bool) -> None:
        done, self._done, self._seen = self._done, None, None  # which know the call, and it this
        assert done is not None
        done(goes_on)
