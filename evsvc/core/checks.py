"""Checks of arguments that several parts of core make.  They raise, and change nothing."""

from __future__ import annotations

from .errors import ArgumentError, ArgumentTypeError


def whole_number(value: object, what: str) -> int:
    """Return `value` if it is a whole number, where a bool counts as one.

    what: names the argument in the message.  Raises ArgumentTypeError for anything that is no int.
    """
    if not isinstance(value, int):
        raise ArgumentTypeError(f"{what} is a whole number, not {value!r} ({type(value).__name__})")
    return value


def require_callable(callback: object) -> None:
    """Raise ArgumentTypeError for what cannot be called."""
    if not callable(callback):
        raise ArgumentTypeError(f"the callback cannot be called: {callback!r}")


def check_timeout(seconds: object) -> None:
    """Raise ArgumentTypeError for what is no number, ArgumentError for one that is negative."""
    if not isinstance(seconds, (int, float)):
        raise ArgumentTypeError(f"a timeout is a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ArgumentError(f"a timeout is seconds, 0 or more: {seconds!r}")
