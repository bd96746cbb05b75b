"""Locking, for bases that several threads use at once (thread.h).

A base belongs to the thread that runs its loop, and other threads `post` to it.  A program that
wants more asks for locks first: in every base made from then on, any thread may add, delete and
activate events, and the loop wakes up for it.  Callbacks run in the loop's thread alone, and
without the lock.  Deleting an event from another thread waits until its running callback has
returned; see `Event.delete`.

Signal events are added in the main thread, with locks and without; see `signals` of the reactor.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from .errors import DebugError, StateError


class Lock(Protocol):
    """What a lock can do; `threading.RLock` is one."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait until no other thread holds the lock, and take it once more."""

    def release(self) -> None:
        """Give the lock back once."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class DebugLock:
    """A recursive lock that knows its owner, and says when it is released by another."""

    __slots__ = ("_depth", "_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; the owner may take it again."""
        me = threading.get_ident()
        if self._owner != me:
            if not self._lock.acquire(blocking, timeout):
                return False
            self._owner = me
        self._depth += 1
        return True

    def release(self) -> None:
        """Give it back once.  Raises DebugError when this thread does not hold it."""
        self.require_held()
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            self._lock.release()

    def require_held(self) -> None:
        """Raise DebugError when this thread does not hold the lock."""
        if not self._is_owned():
            holder = f"thread {self._owner} does" if self._owner else "nobody does"
            raise DebugError(f"this thread does not hold the lock: {holder}")

    def _is_owned(self) -> bool:
        # What `threading.Condition` asks a recursive lock.
        return self._owner == threading.get_ident()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class _Held:
    """What a thread holds of locks of ours, and what it is to call when it holds none."""

    __slots__ = ("calls", "count")

    def __init__(self) -> None:
        self.count = 0
        self.calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.held = _Held()


_this_thread = _PerThread()


def call_unlocked(function: Callable[..., object], *args: object) -> None:
    """Call a function of the program: now, or when this thread has let go of its last CallbackLock.

    In the order of the calls.  What one raises comes out of `call_unlocked`, or of the release,
    when all have been called; the first, where several raise.
    """
    held = _this_thread.held
    if held.count:
        held.calls.append((function, args))
    else:
        function(*args)


def _run_calls(held: _Held) -> None:
    calls = held.calls
    while calls and not held.count:
        function, args = calls.popleft()
        try:
            function(*args)
        except BaseException as exc:
            try:
                _run_calls(held)
            except Exception as later:
                exc.add_note(f"a later callback raised, too: {later!r}")
            raise


class CallbackLock:
    """A recursive lock under which no code of the program runs.

    Whoever holds it changes bytes and marks; what is to be told of that goes through
    `call_unlocked`, and is called when the thread has let go of all such locks.

    inner: the recursive lock that is really taken; the program's, or one of our own.  Several may
    share one.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Lock | None = None) -> None:
        self._inner: Lock = new_lock() if inner is None else inner

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; the owner may take it again."""
        taken = self._inner.acquire(blocking, timeout)
        if taken:
            _this_thread.held.count += 1
        return taken

    def release(self) -> None:
        """Give it back once, and call what waits.

        Raises StateError when this thread does not hold it, and what a call raises.
        """
        try:
            self._inner.release()
        except RuntimeError as exc:
            raise StateError("not locked by this thread") from exc
        held = _this_thread.held
        held.count -= 1
        if not held.count and held.calls:
            _run_calls(held)

    def __enter__(self) -> bool:
        self._inner.acquire()
        _this_thread.held.count += 1
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


@contextmanager
def both_held(one: CallbackLock | None, other: CallbackLock | None) -> Iterator[None]:
    """Hold two locks, as far as they are there, in the same order always: no threads can block."""
    locks = [lock for lock in (one, other) if lock is not None]
    locks.sort(key=lambda lock: id(lock._inner))
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        yield


class _Settings:
    """Whether new bases have locks, and of which kind."""

    __slots__ = ("debugging", "locking")

    def __init__(self) -> None:
        self.locking = self.debugging = False


_settings = _Settings()


def use_pthreads() -> None:
    """Give every base that is made from here on a lock, but for EVENT_BASE_FLAG_NOLOCK.

    The locks are the interpreter's, whatever the system.  Safe to repeat; there is no way back.
    Source: evthread_use_pthreads.
    """
    _settings.locking = True


def enable_lock_debugging() -> None:
    """Have every lock that is made from here on check who releases it.

    One that does not hold it gets DebugError.  Source: evthread_enable_lock_debugging.
    """
    _settings.debugging = True


def new_lock() -> Lock:
    """Return a recursive lock, of the kind that bases and buffers use."""
    return DebugLock() if _settings.debugging else threading.RLock()


class Lockable(Protocol):
    """Something that has a lock, or could have had one."""

    _lock: Lock | None


P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L", bound=Lockable)


def holding_lock(method: Callable[Concatenate[L, P], R]) -> Callable[Concatenate[L, P], R]:
    """Return the method with the object's lock held, where there is one."""

    @functools.wraps(method)
    def holding(self: L, /, *args: P.args, **kwargs: P.kwargs) -> R:
        lock = self._lock
        if lock is None:
            return method(self, *args, **kwargs)
        with lock:
            return method(self, *args, **kwargs)

    return holding


def new_base_lock() -> Lock | None:
    """Return the lock of a base that is being made, or None without locking."""
    return new_lock() if _settings.locking else None
