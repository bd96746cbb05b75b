"""Checks of arguments that several rooms make.  They raise, and change nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from inspect import iscoroutinefunction
from math import inf
from typing import Any

from .errors import ArgumentError, ArgumentTypeError

_NUMBERS = (int, float)


def whole_number(value: object, what: str) -> int:
    """Return `value` if it is a whole number, where a bool counts as one.

    what: names the argument in the message.  Raises ArgumentTypeError for anything that is no int.
    """
    if not isinstance(value, int):
        raise ArgumentTypeError(f"{what} is a whole number, not {value!r} ({type(value).__name__})")
    return value


def flag_bits(value: object, what: str, allowed: int) -> int:
    """Return flags as a plain number.

    what: names them in the message.  Raises ArgumentTypeError for what is no int or flag, as a
    text or a bool is none, ArgumentError for bits that are not in `allowed`.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ArgumentTypeError(f"{what} are flags, not {value!r} ({type(value).__name__})")
    bits = int(value)
    if bits & ~allowed:
        raise ArgumentError(f"unknown {what}: {bits:#x}")
    return bits


def require_callable(value: object, what: str = "the callback") -> None:
    """Raise ArgumentTypeError for what cannot be called."""
    if not callable(value):
        raise ArgumentTypeError(f"{what} cannot be called: {value!r}")


def require_handler(
    value: object,
    what: str = "the callback",
    instead: str = "evsvc.aio.handler makes a callback of it",
) -> None:
    """Raise ArgumentTypeError for what cannot be called, and for coroutine functions, as nobody
    would await what they return.

    instead: says what is for coroutines.
    """
    require_callable(value, what)
    if iscoroutinefunction(value) or iscoroutinefunction(type(value).__call__):
        raise ArgumentTypeError(f"{what} is a coroutine function; {instead}: {value!r}")


def check_timeout(seconds: object) -> None:
    """Raise ArgumentTypeError for what is no number, ArgumentError for one that is negative or
    has no end."""
    if not isinstance(seconds, (int, float)):
        raise ArgumentTypeError(f"a timeout is a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ArgumentError(f"a timeout is seconds, 0 or more: {seconds!r}")
    if seconds == inf:
        raise ArgumentError(f"a timeout comes to an end; None is for none: {seconds!r}")


def check_limits(
    options: Any,
    *,
    or_none: Collection[str] = (),
    but: Collection[str] = (),
    endless: Collection[str] = (),
    may_be_zero: bool = False,
) -> None:
    """Check the limits of an options' dataclass: the fields whose default is a number.

    or_none: those, also without such a default, that may be None.  endless: those that may be inf.
    but: those that have a check of their own.  Raises ArgumentTypeError for what is no number,
    ArgumentError for one that is not positive, or zero where it may be, or has no end, which no
    timer takes: all of it would be noticed in the loop first.
    """
    for each in fields(options):
        name, value, default = each.name, getattr(options, each.name), each.default
        if type(value) in _NUMBERS and 0 < value < inf:
            continue  # nearly all of them, and options are made anew for each stream of a pool
        is_limit = isinstance(default, _NUMBERS) and not isinstance(default, bool)
        if name in but or not (is_limit or name in or_none) or (value is None and name in or_none):
            continue
        if isinstance(value, bool) or not isinstance(value, _NUMBERS):
            raise ArgumentTypeError(f"{name} is a number, not {value!r}")
        if value == inf and name not in endless:
            raise ArgumentError(f"{name} must come to an end: {value!r}")
        if not (value > 0 or (may_be_zero and value == 0)):
            wanted = "not be negative" if may_be_zero else "be positive"
            raise ArgumentError(f"{name} must {wanted}: {value!r}")
