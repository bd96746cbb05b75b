"""Checks of arguments that several parts of core make.  They raise, and change nothing."""

from __future__ import annotations

from math import inf

from .errors import ArgumentError, ArgumentTypeError


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


def check_timeout(seconds: object) -> None:
    """Raise ArgumentTypeError for what is no number, ArgumentError for one that is negative or
    has no end."""
    if not isinstance(seconds, (int, float)):
        raise ArgumentTypeError(f"a timeout is a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ArgumentError(f"a timeout is seconds, 0 or more: {seconds!r}")
    if seconds == inf:
        raise ArgumentError(f"a timeout comes to an end; None is for none: {seconds!r}")
