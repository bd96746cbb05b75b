"""The root of every exception that evsvc raises, and the three families that core needs.

Each class also derives from the built-in that fits, so `except ValueError` and `except OSError`
work for a reader who has never heard of evsvc.
"""


class Error(Exception):
    """The root of all exceptions raised by evsvc."""


class ArgumentError(Error, ValueError):
    """An argument is out of its domain; the message holds the value."""


class StateError(Error, RuntimeError):
    """The call is not legal in the object's present state."""


class DebugError(StateError):
    """Debug mode, or a lock that is being debugged, found a misuse."""


class SocketError(Error, OSError):
    """The operating system refused an operation; `errno` says why."""


class ArgumentTypeError(Error, TypeError):
    """An argument is of a type that the call cannot take; the message names the type."""
